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

fn ours(path: Given) -> Option<Uuid> {
    Uuid::parse_str(&path.ok()?.0).ok()
}
