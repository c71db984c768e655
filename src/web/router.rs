//! Every route of the server, on one page.

use super::state::WebState;
use axum::Router;
pub fn whole(_state: WebState) -> Router {
    Router::new()
}
pub fn hooks_only(_state: WebState) -> Router {
    Router::new()
}
