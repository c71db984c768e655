//! Style, script and icon: part of the binary, under an address that changes with their bytes.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::domain::digest::Hasher;
use crate::web::problem::ApiError;

const FILES: [(&str, &str, &str); 4] = [
    (
        "callvault.css",
        "text/css; charset=utf-8",
        include_str!("../ui/callvault.css"),
    ),
    (
        "callvault.js",
        "text/javascript; charset=utf-8",
        include_str!("../ui/callvault.js"),
    ),
    (
        "access.css",
        "text/css; charset=utf-8",
        include_str!("../ui/access/access.css"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("../ui/icon.svg")),
];

/// The folder of this build's files: browsers may keep them for ever.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let mut hasher = Hasher::new();
        for (_, _, content) in FILES {
            hasher.update(content.as_bytes());
        }
        hasher.finish().sha256.short()
    });
    &VERSION
}

pub async fn show(Path((asked, file)): Path<(String, String)>) -> Response {
    match FILES.iter().find(|(name, _, _)| *name == file) {
        Some((_, content_type, content)) if asked == version() => (
            [
                (CONTENT_TYPE, *content_type),
                (CACHE_CONTROL, "private, max-age=31536000, immutable"),
            ],
            *content,
        )
            .into_response(),
        _ => ApiError::not_found("file").into_response(),
    }
}
