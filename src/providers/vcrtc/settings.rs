//! The keys of a `kind = "vcrtc"` source (vcrtc.md, section 5), with their defaults.

use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;

use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::providers::settings::{BaseUrl, SettingsError, read_own};

/// The vendor's two kinds of installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deployment {
    #[default]
    Public,
    Dedicated,
}

/// How we learn of a recording (vcrtc.md, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// We start it in the configured rooms.
    Start,
    /// The customer's application posts its id.
    Told,
    /// We look at the configured rooms.
    Watch,
    /// `getRecords` without an id, where the deployment answers with a list.
    List,
}

/// One account's settings, complete.
#[derive(Clone, Debug)]
pub struct Settings {
    pub api_server: BaseUrl,
    pub auth_header: String,
    /// The finished value: how it is built is not public.
    pub auth_value: Secret,
    /// Sent along with every question for a list.
    pub origin: Option<String>,
    pub tenant: Option<String>,
    pub rooms: Vec<String>,
    pub modes: Vec<Mode>,
    pub watch_interval: Duration,
    /// A recording that begins so soon after another one of its room belongs to the same meeting.
    pub meeting_gap: Duration,
    pub time_zone: Tz,
    pub url_ttl: Duration,
    /// So long a size must stay the same before the file counts as complete.
    pub settle_time: Duration,
    pub retry_plan: Vec<Duration>,
    pub ready_deadline: Duration,
    pub adopt_unlisted: bool,
    pub delete_after_archive: bool,
    pub paths: Paths,
    pub codes: Codes,
    pub login: Option<Login>,
}

impl Settings {
    pub fn has(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    pub open: String,
    /// Known and never asked: a recording ends with its meeting.
    pub close: String,
    pub status: String,
    pub records: String,
    pub delete: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            open: "/meeting/openRecord".to_owned(),
            close: "/meeting/closeRecord".to_owned(),
            status: "/meeting/getLiveRecStatus".to_owned(),
            records: "/meeting/getRecords".to_owned(),
            delete: "/meeting/delRecordFile".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Codes {
    /// What `delRecordFile` says when there is no such record; the vendor's page does not tell.
    pub no_such_record: Vec<String>,
}

/// The app login (family A), for installations that want a session with every question.
#[derive(Clone, Debug)]
pub struct Login {
    pub path: String,
    pub account: String,
    pub password: Secret,
    /// Sent by the dedicated cloud's clients alone, with `host`.
    pub plat_type: Option<String>,
    pub session_ttl: Duration,
    pub session_header: String,
    pub cloud_authorization: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenLogin {
    enabled: bool,
    path: Option<String>,
    account: Option<String>,
    password: Option<Secret>,
    plat_type: Option<String>,
    session_ttl: Option<Span>,
    send_session_header: Option<String>,
    send_cloud_authorization: Option<bool>,
}

/// Numbers of rooms are often written as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(u64),
}

impl Name {
    fn text(self) -> String {
        match self {
            Name::Text(text) => text,
            Name::Number(number) => number.to_string(),
        }
    }
}

/// The keys as configuration writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    deployment: Deployment,
    #[serde(alias = "base_url")]
    api_server: BaseUrl,
    auth_header: Option<String>,
    auth_value: Option<Secret>,
    origin: Option<String>,
    ent_id: Option<Name>,
    #[serde(default)]
    rooms: Vec<Name>,
    mode: Option<Vec<Mode>>,
    watch_interval: Option<Span>,
    meeting_gap: Option<Span>,
    time_zone: Option<String>,
    url_ttl: Option<Span>,
    settle_time: Option<Span>,
    retry_plan: Option<Vec<Span>>,
    ready_deadline: Option<Span>,
    #[serde(default)]
    adopt_unlisted: bool,
    #[serde(default)]
    delete_after_archive: bool,
    #[serde(default)]
    paths: Paths,
    #[serde(default)]
    codes: Codes,
    #[serde(default)]
    login: WrittenLogin,
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

/// vcrtc.md, section 4: "10 s, 30 s, 1, 2, 5, 10, 30 min, then hourly".
const RETRY_PLAN_S: [u64; 8] = [10, 30, 60, 120, 300, 600, 1800, 3600];

impl Settings {
    pub fn read(own: toml::Table, source: &str) -> Result<Self, SettingsError> {
        let written: Written = read_own(own, source)?;
        let missing = |key: &str, remedy: &str| {
            SettingsError::new(source, key, format!("the key {key:?} is missing"), remedy)
        };
        let auth_value = written.auth_value.ok_or_else(|| {
            missing(
                "auth_value",
                "add the value of the auth header as the vendor gave it to you",
            )
        })?;
        let zone = written.time_zone.unwrap_or_else(|| "UTC".to_owned());
        let time_zone = zone.parse().map_err(|_| {
            SettingsError::new(
                source,
                "time_zone",
                format!("{zone:?} is no time zone"),
                "write a name like UTC or Asia/Shanghai",
            )
        })?;
        let or = |span: Option<Span>, default| span.map_or(default, Span::duration);
        let login = read_login(written.login, written.deployment, source)?;
        let settings = Self {
            api_server: written.api_server,
            auth_header: written.auth_header.unwrap_or_else(|| "auth".to_owned()),
            auth_value,
            origin: written.origin,
            tenant: written.ent_id.map(Name::text),
            rooms: written.rooms.into_iter().map(Name::text).collect(),
            modes: written
                .mode
                .unwrap_or_else(|| vec![Mode::Told, Mode::Watch]),
            watch_interval: or(written.watch_interval, Duration::from_secs(30)),
            meeting_gap: or(written.meeting_gap, Duration::from_secs(300)),
            time_zone,
            url_ttl: or(written.url_ttl, hours(144)),
            settle_time: or(written.settle_time, Duration::from_secs(10)),
            retry_plan: written.retry_plan.map_or_else(
                || RETRY_PLAN_S.map(Duration::from_secs).to_vec(),
                |plan| plan.into_iter().map(Span::duration).collect(),
            ),
            ready_deadline: or(written.ready_deadline, hours(48)),
            adopt_unlisted: written.adopt_unlisted,
            delete_after_archive: written.delete_after_archive,
            paths: written.paths,
            codes: written.codes,
            login,
        };
        settings.check(source)?;
        Ok(settings)
    }

    fn check(&self, source: &str) -> Result<(), SettingsError> {
        let wrong = |key: &str, what: &str, remedy: &str| {
            Err(SettingsError::new(source, key, what, remedy))
        };
        if self.auth_value.is_empty() || !is_header_value(self.auth_value.expose()) {
            return wrong(
                "auth_value",
                "it is empty or cannot stand in a header",
                "write the value of the auth header as the vendor gave it to you, in one line",
            );
        }
        if !is_header_name(&self.auth_header) {
            return wrong("auth_header", "it is no name of a header", "write auth");
        }
        if self.modes.is_empty() {
            return wrong(
                "mode",
                "the list is empty",
                "take at least one of start, told, watch and list",
            );
        }
        if self.has(Mode::Start) && self.rooms.is_empty() {
            return wrong(
                "rooms",
                "there is no room to start recordings in",
                "name the rooms, or take \"start\" out of mode",
            );
        }
        if self.rooms.iter().any(|room| !is_room(room)) {
            return wrong(
                "rooms",
                "a name is empty or too long",
                "write the rooms' numbers, such as \"1866\"",
            );
        }
        for (key, duration) in [
            ("watch_interval", self.watch_interval),
            ("settle_time", self.settle_time),
        ] {
            if duration.is_zero() {
                return wrong(key, "it is no time at all", "write a time like \"10s\"");
            }
        }
        if self.retry_plan.is_empty() || self.retry_plan.contains(&Duration::ZERO) {
            return wrong(
                "retry_plan",
                "it is empty or has a wait of nothing",
                "write the waits between two questions, like [\"10s\", \"1m\", \"1h\"]",
            );
        }
        for (key, path) in [
            ("paths.open", &self.paths.open),
            ("paths.close", &self.paths.close),
            ("paths.status", &self.paths.status),
            ("paths.records", &self.paths.records),
            ("paths.delete", &self.paths.delete),
        ] {
            if !is_path(path) {
                return wrong(
                    key,
                    "it is no path",
                    "begin it with / and leave the query out",
                );
            }
        }
        Ok(())
    }
}

fn read_login(
    written: WrittenLogin,
    deployment: Deployment,
    source: &str,
) -> Result<Option<Login>, SettingsError> {
    let wrong = |key: &str, what: &str, remedy: &str| {
        SettingsError::new(source, format!("login.{key}"), what, remedy)
    };
    if !written.enabled {
        return Ok(None);
    }
    let account = written.account.filter(|account| !account.is_empty());
    let password = written.password.filter(|password| !password.is_empty());
    let (Some(account), Some(password)) = (account, password) else {
        return Err(wrong(
            "enabled",
            "a login needs an account and a password",
            "add login.account and login.password, or set login.enabled = false",
        ));
    };
    let login = Login {
        path: written
            .path
            .unwrap_or_else(|| "/api/v3/app/user/login/verify_user.shtml".to_owned()),
        account,
        password,
        plat_type: (deployment == Deployment::Dedicated)
            .then(|| written.plat_type.unwrap_or_else(|| "webrtcios".to_owned())),
        session_ttl: written
            .session_ttl
            .map_or(Duration::from_secs(180), Span::duration),
        session_header: written
            .send_session_header
            .unwrap_or_else(|| "sessionId".to_owned()),
        cloud_authorization: written.send_cloud_authorization.unwrap_or(true),
    };
    if !is_path(&login.path) {
        return Err(wrong(
            "path",
            "it is no path",
            "begin it with / and leave the query out",
        ));
    }
    if login.session_ttl.is_zero() {
        return Err(wrong(
            "session_ttl",
            "it is no time at all",
            "write a time like \"3m\"",
        ));
    }
    if !is_header_name(&login.session_header) {
        return Err(wrong(
            "send_session_header",
            "it is no name of a header",
            "write sessionId",
        ));
    }
    Ok(Some(login))
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['?', '#', ' '])
}

fn is_room(room: &str) -> bool {
    (1..=128).contains(&room.len())
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_header_value(value: &str) -> bool {
    value.bytes().all(|b| (0x20..0x7f).contains(&b))
}
