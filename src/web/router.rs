//! Every route of the server, on one page.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, any, delete, get, post, put};
use tokio::time::Instant;

use super::access::{admin, oidc, sign_in};
use super::problem::ApiError;
use super::state::WebState;
use super::{access, api, headers, health, hooks, pages};

/// A router that knows which routes it has, so that a test can hold each of them against every role.
#[derive(Default)]
struct Table {
    router: Router<WebState>,
    patterns: Vec<&'static str>,
}

impl Table {
    fn route(mut self, pattern: &'static str, methods: MethodRouter<WebState>) -> Self {
        self.router = self.router.route(pattern, methods);
        self.patterns.push(pattern);
        self
    }
}

/// The patterns of all routes of the first listener, and whether the door stands in front of them.
pub fn patterns() -> Vec<(&'static str, bool)> {
    let guarded = readers().patterns.into_iter().map(|route| (route, true));
    let open = open().patterns.into_iter().map(|route| (route, false));
    guarded.chain(open).collect()
}

/// What the first listener serves.
pub fn whole(state: WebState) -> Router {
    let readers = readers()
        .router
        .route_layer(from_fn_with_state(state.clone(), access::readers_only));
    finish(readers.merge(open().router), state)
}

/// What `hooks_listen` serves: nothing that reads.
pub fn hooks_only(state: WebState) -> Router {
    finish(hooks_routes().router, state)
}

/// Behind the door: for people, and for `/metrics`.
fn pages_routes() -> Table {
    Table::default()
        .route("/", get(pages::list::show))
        .route("/recordings/{id}", get(pages::recording::show))
        .route("/operations", get(pages::operations::show))
        .route("/do/{what}", post(pages::act::act))
        .route("/metrics", get(health::metrics))
        .route("/account", get(access::account::show))
        .route("/account/password", post(access::account::change_password))
        .route("/account/language", post(access::account::change_language))
        .route("/account/sessions", post(access::account::end_session))
        .route("/sign-out", post(access::account::sign_out))
        .route("/audit", get(admin::trail::show))
        .route("/audit/verify", post(admin::trail::verify))
        .route("/audit/export", get(admin::trail::export))
        .route(
            "/admin/accounts",
            get(admin::accounts::show).post(admin::accounts::add),
        )
        .route(
            "/admin/account/{name}",
            get(admin::account::show).post(admin::account::change),
        )
        .route("/admin/accounts/unlock", post(admin::accounts::unlock))
        .route("/admin/accounts/link", post(admin::accounts::give_link))
        .route("/admin/accounts/disable", post(admin::accounts::disable))
        .route("/admin/accounts/enable", post(admin::accounts::enable))
        .route(
            "/admin/tokens",
            get(admin::tokens::show).post(admin::tokens::add),
        )
        .route("/admin/tokens/revoke", post(admin::tokens::revoke))
        .route(
            "/admin/sources",
            get(admin::sources::show).post(admin::sources::test),
        )
        .route(
            "/admin/schedule",
            get(admin::schedule::show).post(admin::schedule::run),
        )
        .route("/admin/configuration", get(admin::configuration::show))
}

/// Behind the door: for programs.
fn api_routes() -> Table {
    Table::default()
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
        .route("/api/v1/calls/{id}/audio", get(api::audio::play_call))
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
        .route(
            "/api/v1/account",
            get(api::admin::own::show).patch(api::admin::own::change),
        )
        .route(
            "/api/v1/account/password",
            put(api::admin::own::change_password),
        )
        .route("/api/v1/account/sessions", get(api::admin::own::sessions))
        .route(
            "/api/v1/account/sessions/{id}",
            delete(api::admin::own::end_session),
        )
        .route(
            "/api/v1/accounts",
            get(api::admin::accounts::list).post(api::admin::accounts::add),
        )
        .route(
            "/api/v1/accounts/{name}",
            get(api::admin::accounts::show).patch(api::admin::accounts::change),
        )
        .route(
            "/api/v1/accounts/{name}/link",
            post(api::admin::accounts::link),
        )
        .route(
            "/api/v1/accounts/{name}/unlock",
            post(api::admin::accounts::unlock),
        )
        .route(
            "/api/v1/tokens",
            get(api::admin::tokens::list).post(api::admin::tokens::add),
        )
        .route("/api/v1/tokens/{name}", delete(api::admin::tokens::revoke))
        .route("/api/v1/audit", get(api::admin::trail::list))
        .route("/api/v1/audit.ndjson", get(api::admin::trail::export))
        .route("/api/v1/audit/verify", post(api::admin::trail::verify))
        .route("/api/v1/sources", get(api::admin::sources::list))
        .route(
            "/api/v1/sources/{name}/test",
            post(api::admin::sources::test),
        )
        .route("/api/v1/schedule", get(api::admin::schedule::list))
        .route(
            "/api/v1/schedule/{name}/run",
            post(api::admin::schedule::run),
        )
        .route(
            "/api/v1/configuration",
            get(api::admin::configuration::show),
        )
        .route("/api/v1/openapi.json", get(api::openapi::show))
}

/// All that stands behind the door.
fn readers() -> Table {
    let (mut all, programs) = (pages_routes(), api_routes());
    all.patterns.extend(programs.patterns);
    let validated = programs.router.route_layer(from_fn(api::etag::of_json));
    all.router = all.router.merge(validated);
    all
}

/// For everybody. Style and icon are in every copy of the program anyway, and the sign-in page needs them.
fn open() -> Table {
    hooks_routes()
        .route("/readyz", get(health::ready))
        .route("/ui/{version}/{file}", get(pages::assets::show))
        .route("/sign-in", get(sign_in::show).post(sign_in::enter))
        .route(
            "/sign-in/link",
            get(sign_in::show_link).post(sign_in::enter_by_link),
        )
        .route("/sign-in/oidc", get(oidc::leave))
        .route(oidc::BACK, get(oidc::come_back))
        .route("/sign-in/oidc/out", get(oidc::sign_out_there))
}

fn hooks_routes() -> Table {
    Table::default()
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
