//! Every route of the server, on one page.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, delete, get, post, put};
use tokio::time::Instant;

use super::problem::ApiError;
use super::state::WebState;
use super::{access, api, headers, health, hooks, pages};

/// What the first listener serves.
pub fn whole(state: WebState) -> Router {
    let api = Router::new()
        .route("/api/v1/recordings", get(api::recordings::list))
        .route("/api/v1/recordings.csv", get(api::export::csv))
        .route("/api/v1/recordings.ndjson", get(api::export::ndjson))
        .route("/api/v1/recordings/{id}", get(api::recording::show))
        .route("/api/v1/recordings/{id}/audio", get(api::audio::play))
        .route("/api/v1/recordings/{id}/waveform", get(api::waveform::show))
        .route("/api/v1/recordings/{id}/heard", post(api::heard::tell))
        .route("/api/v1/recordings/{id}/retry", post(api::retry::queue))
        .route(
            "/api/v1/recordings/{id}/markers",
            get(api::markers::list).post(api::markers::add),
        )
        .route("/api/v1/markers/{id}", delete(api::markers::remove))
        .route("/api/v1/calls/{id}", get(api::calls::show))
        .route("/api/v1/calls/by/{source}/{id}", get(api::calls::find))
        .route(
            "/api/v1/calls/{id}/notes",
            get(api::notes::list).post(api::notes::add),
        )
        .route("/api/v1/calls/{id}/tags", get(api::tags::list))
        .route(
            "/api/v1/calls/{id}/tags/{tag}",
            put(api::tags::put).delete(api::tags::remove),
        )
        .route("/api/v1/tags", get(api::tags::all))
        .route(
            "/api/v1/searches",
            get(api::searches::list).post(api::searches::add),
        )
        .route("/api/v1/searches/{id}", delete(api::searches::remove))
        .route("/api/v1/ask", get(api::ask::show))
        .route("/api/v1/status", get(api::status::show))
        .route("/api/v1/operations", get(api::operations::show))
        .route("/api/v1/openapi.json", get(api::openapi::show))
        .route_layer(from_fn(api::etag::of_json));
    let pages = Router::new()
        .route("/", get(pages::list::show))
        .route("/recordings/{id}", get(pages::recording::show))
        .route("/operations", get(pages::operations::show))
        .route("/do/{what}", post(pages::act::act))
        .route("/ui/{version}/{file}", get(pages::assets::show))
        .route("/metrics", get(health::metrics));
    let readers = pages
        .merge(api)
        .route_layer(from_fn_with_state(state.clone(), access::readers_only));
    let open = hooks_routes().route("/readyz", get(health::ready));
    finish(readers.merge(open), state)
}

/// What `hooks_listen` serves: nothing that reads.
pub fn hooks_only(state: WebState) -> Router {
    finish(hooks_routes(), state)
}

fn hooks_routes() -> Router<WebState> {
    Router::new()
        .route("/hooks/{source}", any(hooks::receive))
        .route("/hooks/{source}/{x}", any(hooks::receive))
        .route("/hooks/{source}/{x}/{y}", any(hooks::receive))
        .route("/healthz", get(health::alive))
}

fn finish(router: Router<WebState>, state: WebState) -> Router {
    router
        .fallback(async || ApiError::not_found("page"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(from_fn_with_state(state.clone(), note))
        .layer(from_fn_with_state(state.clone(), headers::on_every_answer))
        .with_state(state)
}

/// Counts and logs by the route's pattern: paths hold tokens and ids, queries hold numbers and names.
async fn note(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = pattern.as_ref().map_or("none", MatchedPath::as_str);
    let status = response.status().as_u16();
    state.metrics.answered(route, status);
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if status >= 500 {
        tracing::warn!(%method, route, status, took_ms, "answered with a failure");
    } else {
        tracing::debug!(%method, route, status, took_ms, "answered");
    }
    response
}
