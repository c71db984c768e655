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

/// For what is known by a name; what cannot be one is looked for and not found.
pub fn name(path: Given, what: &str) -> Result<String, ApiError> {
    let name = path.ok().map(|path| path.0);
    name.filter(|name| !name.contains('\0'))
        .ok_or_else(|| ApiError::not_found(what))
}

fn ours(path: Given) -> Option<Uuid> {
    Uuid::parse_str(&path.ok()?.0).ok()
}
