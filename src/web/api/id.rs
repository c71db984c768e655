//! Ids in paths: what is no id of ours is not found, whatever it is.

use axum::extract::rejection::PathRejection;
use uuid::Uuid;

use crate::web::problem::ApiError;

pub type Given = Result<axum::extract::Path<String>, PathRejection>;

pub fn recording(path: Given) -> Result<Uuid, ApiError> {
    ours(path).ok_or_else(|| ApiError::not_found("recording"))
}

pub fn call(path: Given) -> Result<Uuid, ApiError> {
    ours(path).ok_or_else(|| ApiError::not_found("call"))
}

/// For what has ids of its own; `what` names it in the answer.
pub fn any(path: Given, what: &str) -> Result<Uuid, ApiError> {
    ours(path).ok_or_else(|| ApiError::not_found(what))
}

fn ours(path: Given) -> Option<Uuid> {
    Uuid::parse_str(&path.ok()?.0).ok()
}
