//! Every route, and who may use it: `rights` holds the router to it, and each line against every role.

use callvault::domain::rights::Role;

/// Who gets through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum May {
    /// Without anything at all.
    Everybody,
    /// Whoever is signed in.
    All,
    /// These, and with a narrow scope as well (for calls in it).
    In(&'static [Role]),
    /// These, and only with a whole scope.
    House(&'static [Role]),
}

use May::{All, Everybody, House, In};
use Role::{Administrator, Auditor, Listener, Officer};

const HEARS: &[Role] = &[Listener, Officer, Administrator];
const WATCHES: &[Role] = &[Officer, Auditor, Administrator];
const READS_TRAIL: &[Role] = &[Auditor, Administrator];
const RULES: &[Role] = &[Administrator];
const TAKES: &[Role] = &[Officer, Administrator];

/// Method, pattern, what is asked (`{id}` recording, `{call}` call), who may.
pub const MATRIX: &[(&str, &str, &str, May)] = &[
    ("GET", "/", "/", All),
    ("GET", "/recordings/{id}", "/recordings/{id}", All),
    ("GET", "/metrics", "/metrics", All),
    ("GET", "/api/v1/recordings", "/api/v1/recordings", All),
    (
        "GET",
        "/api/v1/recordings/{id}",
        "/api/v1/recordings/{id}",
        All,
    ),
    (
        "GET",
        "/api/v1/recordings/{id}/audio",
        "/api/v1/recordings/{id}/audio",
        In(HEARS),
    ),
    (
        "GET",
        "/api/v1/recordings/{id}/audio",
        "/api/v1/recordings/{id}/audio?role=original",
        In(TAKES),
    ),
    (
        "GET",
        "/api/v1/recordings/{id}/waveform",
        "/api/v1/recordings/{id}/waveform",
        In(HEARS),
    ),
    ("GET", "/api/v1/calls/{id}", "/api/v1/calls/{call}", All),
    (
        "GET",
        "/api/v1/calls/{id}/audio",
        "/api/v1/calls/{call}/audio",
        In(HEARS),
    ),
    (
        "GET",
        "/api/v1/calls/by/{source}/{id}",
        "/api/v1/calls/by/desk/c1",
        All,
    ),
    ("GET", "/api/v1/status", "/api/v1/status", House(WATCHES)),
    ("GET", "/api/v1/openapi.json", "/api/v1/openapi.json", All),
    ("GET", "/api/v1/ask", "/api/v1/ask?line=0001", All),
    (
        "POST",
        "/api/v1/calls/{id}/notes",
        "/api/v1/calls/{call}/notes",
        In(TAKES),
    ),
    (
        "GET",
        "/api/v1/calls/{id}/tags",
        "/api/v1/calls/{call}/tags",
        All,
    ),
    (
        "PUT",
        "/api/v1/calls/{id}/tags/{tag}",
        "/api/v1/calls/{call}/tags/x",
        In(TAKES),
    ),
    (
        "DELETE",
        "/api/v1/calls/{id}/tags/{tag}",
        "/api/v1/calls/{call}/tags/x",
        In(TAKES),
    ),
    (
        "DELETE",
        "/api/v1/markers/{id}",
        "/api/v1/markers/{id}",
        In(TAKES),
    ),
    (
        "GET",
        "/api/v1/operations",
        "/api/v1/operations",
        House(WATCHES),
    ),
    (
        "GET",
        "/api/v1/recordings.csv",
        "/api/v1/recordings.csv",
        In(TAKES),
    ),
    (
        "GET",
        "/api/v1/recordings.ndjson",
        "/api/v1/recordings.ndjson",
        In(TAKES),
    ),
    (
        "POST",
        "/api/v1/recordings/{id}/heard",
        "/api/v1/recordings/{id}/heard",
        In(HEARS),
    ),
    (
        "GET",
        "/api/v1/recordings/{id}/markers",
        "/api/v1/recordings/{id}/markers",
        All,
    ),
    (
        "POST",
        "/api/v1/recordings/{id}/markers",
        "/api/v1/recordings/{id}/markers",
        In(TAKES),
    ),
    (
        "POST",
        "/api/v1/recordings/{id}/retry",
        "/api/v1/recordings/{id}/retry",
        House(RULES),
    ),
    ("GET", "/api/v1/searches", "/api/v1/searches", All),
    ("POST", "/api/v1/searches", "/api/v1/searches", All),
    (
        "DELETE",
        "/api/v1/searches/{id}",
        "/api/v1/searches/{id}",
        All,
    ),
    ("GET", "/api/v1/tags", "/api/v1/tags", All),
    ("POST", "/do/{what}", "/do/retry", House(RULES)),
    ("POST", "/do/{what}", "/do/note", In(TAKES)),
    ("GET", "/operations", "/operations", House(WATCHES)),
    ("GET", "/account", "/account", All),
    ("POST", "/account/password", "/account/password", All),
    ("POST", "/account/language", "/account/language", All),
    ("POST", "/account/sessions", "/account/sessions", All),
    ("POST", "/sign-out", "/sign-out", All),
    ("GET", "/audit", "/audit", House(READS_TRAIL)),
    ("POST", "/audit/verify", "/audit/verify", House(READS_TRAIL)),
    ("GET", "/audit/export", "/audit/export", House(READS_TRAIL)),
    ("GET", "/admin/accounts", "/admin/accounts", House(RULES)),
    ("POST", "/admin/accounts", "/admin/accounts", House(RULES)),
    (
        "POST",
        "/admin/accounts/link",
        "/admin/accounts/link",
        House(RULES),
    ),
    (
        "POST",
        "/admin/accounts/disable",
        "/admin/accounts/disable",
        House(RULES),
    ),
    (
        "POST",
        "/admin/accounts/enable",
        "/admin/accounts/enable",
        House(RULES),
    ),
    ("GET", "/admin/tokens", "/admin/tokens", House(RULES)),
    ("POST", "/admin/tokens", "/admin/tokens", House(RULES)),
    (
        "POST",
        "/admin/tokens/revoke",
        "/admin/tokens/revoke",
        House(RULES),
    ),
    ("GET", "/admin/sources", "/admin/sources", House(RULES)),
    ("POST", "/admin/sources", "/admin/sources", House(RULES)),
    (
        "GET",
        "/admin/configuration",
        "/admin/configuration",
        House(RULES),
    ),
    (
        "GET",
        "/admin/account/{name}",
        "/admin/account/keeper",
        House(RULES),
    ),
    (
        "POST",
        "/admin/account/{name}",
        "/admin/account/nobody",
        House(RULES),
    ),
    (
        "POST",
        "/admin/accounts/unlock",
        "/admin/accounts/unlock",
        House(RULES),
    ),
    ("GET", "/admin/schedule", "/admin/schedule", House(RULES)),
    ("POST", "/admin/schedule", "/admin/schedule", House(RULES)),
    ("GET", "/api/v1/account", "/api/v1/account", All),
    ("PATCH", "/api/v1/account", "/api/v1/account", All),
    (
        "PUT",
        "/api/v1/account/password",
        "/api/v1/account/password",
        All,
    ),
    (
        "GET",
        "/api/v1/account/sessions",
        "/api/v1/account/sessions",
        All,
    ),
    (
        "DELETE",
        "/api/v1/account/sessions/{id}",
        "/api/v1/account/sessions/{id}",
        All,
    ),
    ("GET", "/api/v1/accounts", "/api/v1/accounts", House(RULES)),
    ("POST", "/api/v1/accounts", "/api/v1/accounts", House(RULES)),
    (
        "GET",
        "/api/v1/accounts/{name}",
        "/api/v1/accounts/keeper",
        House(RULES),
    ),
    (
        "PATCH",
        "/api/v1/accounts/{name}",
        "/api/v1/accounts/keeper",
        House(RULES),
    ),
    (
        "POST",
        "/api/v1/accounts/{name}/link",
        "/api/v1/accounts/keeper/link",
        House(RULES),
    ),
    (
        "POST",
        "/api/v1/accounts/{name}/unlock",
        "/api/v1/accounts/keeper/unlock",
        House(RULES),
    ),
    ("GET", "/api/v1/tokens", "/api/v1/tokens", House(RULES)),
    ("POST", "/api/v1/tokens", "/api/v1/tokens", House(RULES)),
    (
        "DELETE",
        "/api/v1/tokens/{name}",
        "/api/v1/tokens/nobody",
        House(RULES),
    ),
    ("GET", "/api/v1/audit", "/api/v1/audit", House(READS_TRAIL)),
    (
        "GET",
        "/api/v1/audit.ndjson",
        "/api/v1/audit.ndjson",
        House(READS_TRAIL),
    ),
    (
        "POST",
        "/api/v1/audit/verify",
        "/api/v1/audit/verify",
        House(READS_TRAIL),
    ),
    ("GET", "/api/v1/sources", "/api/v1/sources", House(RULES)),
    (
        "POST",
        "/api/v1/sources/{name}/test",
        "/api/v1/sources/none/test",
        House(RULES),
    ),
    ("GET", "/api/v1/schedule", "/api/v1/schedule", House(RULES)),
    (
        "POST",
        "/api/v1/schedule/{name}/run",
        "/api/v1/schedule/none/run",
        House(RULES),
    ),
    (
        "GET",
        "/api/v1/configuration",
        "/api/v1/configuration",
        House(RULES),
    ),
    ("GET", "/readyz", "/readyz", Everybody),
    ("GET", "/healthz", "/healthz", Everybody),
    ("GET", "/ui/{version}/{file}", "/ui/x/icon.svg", Everybody),
    ("GET", "/sign-in", "/sign-in", Everybody),
    ("POST", "/sign-in", "/sign-in", Everybody),
    ("GET", "/sign-in/link", "/sign-in/link?t=x", Everybody),
    ("POST", "/sign-in/link", "/sign-in/link", Everybody),
    ("GET", "/sign-in/oidc", "/sign-in/oidc", Everybody),
    ("GET", "/sign-in/oidc/back", "/sign-in/oidc/back", Everybody),
    ("GET", "/sign-in/oidc/out", "/sign-in/oidc/out", Everybody),
    ("POST", "/hooks/{source}", "/hooks/desk", Everybody),
    ("POST", "/hooks/{source}/{x}", "/hooks/desk/cdr", Everybody),
    (
        "POST",
        "/hooks/{source}/{x}/{y}",
        "/hooks/desk/a/b",
        Everybody,
    ),
];
