//! `GET /api/v1/openapi.json`: the API in its own words; a test holds it against the routes.

use axum::Json;
use axum::extract::RawQuery;
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{KnownFormat, RefOr};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};

use super::query;
use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::rights::Entry;
use crate::web::problem::ApiError;

/// RFC 9457. `type` is stable, `detail` is for people.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:callvault:` and one of the codes named at each answer.
    #[serde(rename = "type")]
    #[schema(example = "urn:callvault:not_found")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
}

/// audiowaveform JSON, version 2.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Waveform {
    pub version: u8,
    pub channels: u16,
    pub sample_rate: u32,
    pub samples_per_pixel: u32,
    /// 8 or 16.
    pub bits: u8,
    /// Points per channel.
    pub length: u64,
    /// Per point, per channel: minimum, maximum.
    pub data: Vec<i16>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "callvault",
        description = "The archive of record for call recordings. Times are RFC 3339 UTC with milliseconds. \
                       Errors are problem+json; every 503 has Retry-After. JSON answers carry an ETag. A token is sent as a bearer \
                       token; a session of a browser sends its cookie, and `x-callvault-word` with everything that changes something. \
                       Before there is an account or a configured token the API answers only on this machine.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    paths(
        super::recordings::list,
        super::recording::show,
        super::audio::play,
        super::waveform::show,
        super::calls::show,
        super::audio::play_call,
        super::calls::find,
        super::heard::tell,
        super::retry::queue,
        super::export::csv,
        super::export::ndjson,
        super::ask::show,
        super::markers::list,
        super::markers::add,
        super::markers::remove,
        super::notes::list,
        super::notes::add,
        super::tags::all,
        super::tags::list,
        super::tags::put,
        super::tags::remove,
        super::searches::list,
        super::searches::add,
        super::searches::remove,
        super::status::show,
        super::operations::show,
        super::admin::own::show,
        super::admin::own::change,
        super::admin::own::change_password,
        super::admin::own::sessions,
        super::admin::own::end_session,
        super::admin::accounts::list,
        super::admin::accounts::add,
        super::admin::accounts::show,
        super::admin::accounts::change,
        super::admin::accounts::link,
        super::admin::accounts::unlock,
        super::admin::tokens::list,
        super::admin::tokens::add,
        super::admin::tokens::revoke,
        super::admin::trail::list,
        super::admin::trail::export,
        super::admin::trail::verify,
        super::admin::sources::list,
        super::admin::sources::test,
        super::admin::schedule::list,
        super::admin::schedule::run,
        super::admin::configuration::show,
        show,
    ),
    components(schemas(Problem, Waveform)),
    security(("bearer" = []), ("basic" = []), ()),
    tags(
        (name = "recordings", description = "Recordings and their sound"),
        (name = "calls", description = "Calls with all their recordings"),
        (name = "desk", description = "What people leave beside calls: markers, notes, tags, saved searches"),
        (name = "account", description = "The reader's own account"),
        (name = "administration", description = "Accounts, tokens, the audit trail, sources, schedule, configuration"),
        (name = "status", description = "How the house is"),
    ),
    modifiers(&Tokens, &Refusals),
)]
pub struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, scheme) in [
            ("bearer", HttpAuthScheme::Bearer),
            ("basic", HttpAuthScheme::Basic),
        ] {
            let scheme = SecurityScheme::Http(Http::new(scheme));
            components.add_security_scheme(name, scheme);
        }
    }
}

/// What the door, the query string and the body can be refused for, at every address alike.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let refusal = |codes: &str| {
            let body = utoipa::openapi::Ref::from_schema_name("Problem");
            let content = utoipa::openapi::ContentBuilder::new().schema(Some(body));
            utoipa::openapi::ResponseBuilder::new()
                .description(codes)
                .content("application/problem+json", content.build())
                .build()
        };
        for item in document.paths.paths.values_mut() {
            for operation in [
                &mut item.get,
                &mut item.post,
                &mut item.put,
                &mut item.patch,
                &mut item.delete,
            ]
            .into_iter()
            .flatten()
            {
                let mut codes = vec![
                    ("400", "bad_request"),
                    ("401", "token_required"),
                    ("403", "not_allowed, token_required, stale_form, cross_site"),
                    ("429", "rate_limited"),
                    ("503", "unavailable"),
                ];
                if operation.request_body.is_some() {
                    codes.extend([("408", "too_slow"), ("413", "too_large")]);
                }
                for (status, text) in codes {
                    let known = &mut operation.responses.responses;
                    known
                        .entry(status.to_owned())
                        .or_insert_with(|| refusal(text).into());
                }
            }
        }
    }
}

#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "status",
    summary = "This document",
    responses((status = 200, description = "OpenAPI", body = serde_json::Value))
)]
pub async fn show(RawQuery(raw): RawQuery) -> Result<Json<utoipa::openapi::OpenApi>, ApiError> {
    query::none(raw.as_deref())?;
    Ok(Json(Document::openapi()))
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339, UTC, with milliseconds"))
            .into()
    }
}

impl ToSchema for Timestamp {}

impl PartialSchema for Sha256 {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[0-9a-f]{64}$"))
            .into()
    }
}

impl ToSchema for Sha256 {}

/// What `access::govern::sensible` takes.
impl PartialSchema for Entry {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(200))
            .pattern(Some(r"^[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"))
            .description(Some(
                "begins with no white space and holds no control characters",
            ))
            .into()
    }
}

impl ToSchema for Entry {}
