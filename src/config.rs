//! The configuration: one TOML file and the environment, collected into the settings of each room.
//!
//! What a newcomer gets wrong: no room imports this file. A room owns its `Settings`, this file fills them.

mod places;
mod secrets;
mod variables;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::clock::SystemClock;
use crate::domain::media::AccessSettings;
use crate::domain::values::{self, Problem, ValueError, nearest};
use crate::providers::contract::BuildContext;
use crate::providers::http::GuardedClient;
use crate::providers::registry;
use crate::providers::settings::{CommonSettings, SettingsError};
use crate::{archive, db, jobs, spool, web, worker};

use places::Places;

/// Where the file is looked for when nothing names one.
const NEAR_FILE: &str = "callvault.toml";
const SYSTEM_FILE: &str = "/etc/callvault/callvault.toml";
/// The variable that names the file.
const FILE_VARIABLE: &str = "CALLVAULT_CONFIG";

/// Below this no recording finds room; it is a number without its unit.
const LEAST_SPOOL_BYTES: u64 = 1 << 20;

const SECTIONS: [&str; 13] = [
    "server",
    "access",
    "database",
    "archive",
    "backup",
    "spool",
    "worker",
    "access_copy",
    "schedule",
    "fixity",
    "alarms",
    "log",
    "sources",
];

/// What is wrong with the configuration. Holds no value that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({place}): {remedy}")]
pub struct ConfigError {
    pub what: String,
    /// `FILE:LINE`, or the environment variable.
    pub place: String,
    pub remedy: String,
}

impl ConfigError {
    fn new(what: impl Into<String>, place: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            place: place.into(),
            remedy: remedy.into(),
        }
    }
}

/// Works, and a person should see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub code: &'static str,
    pub what: String,
    pub place: String,
    pub remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.place, self.remedy)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    pub format: LogFormat,
    /// A level, or directives as `info,callvault=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

impl LogSettings {
    pub fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }
}

/// One `[sources.NAME]`: what all kinds share, and the kind's own keys.
#[derive(Clone)]
pub struct SourceConfig {
    pub name: String,
    pub kind: String,
    pub common: CommonSettings,
    pub own: toml::Table,
}

/// Own keys may be secrets: their names only.
impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceConfig")
            .field("kind", &self.kind)
            .field("common", &self.common)
            .field("own", &self.own.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Everything that the process was told.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: web::settings::Settings,
    pub database: db::settings::Settings,
    pub archive: archive::settings::Settings,
    pub backup: jobs::backup::Settings,
    pub spool: spool::Settings,
    pub worker: worker::settings::Settings,
    pub access_copy: AccessSettings,
    pub schedule: worker::settings::ScheduleSettings,
    pub fixity: jobs::fixity::Settings,
    pub alarms: jobs::tell::Settings,
    pub log: LogSettings,
    /// In the order of their names.
    pub sources: Vec<SourceConfig>,
    /// The file that was read, if there is one.
    pub file: Option<PathBuf>,
    /// Relative paths count from here: the file's folder, else the working directory.
    pub base_dir: PathBuf,
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Reads the configuration of this process: `explicit` (`--config`), else `CALLVAULT_CONFIG`, else
    /// `./callvault.toml`, else `/etc/callvault/callvault.toml`, else the defaults; then the environment.
    pub fn load(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        let here = std::env::current_dir().map_err(|e| {
            ConfigError::new(
                format!("cannot tell the working directory: {e}"),
                "this process",
                "start it from a folder that exists",
            )
        })?;
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // Of other programs' variables nothing is needed, whatever bytes they hold.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::load_from(explicit, variables, &here)
    }

    /// A second configuration beside the one in force: of the environment it takes only the secrets that it names.
    pub fn load_apart(file: &Path) -> Result<Self, ConfigError> {
        let here = std::env::current_dir().unwrap_or_default();
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !name.starts_with("CALLVAULT_"));
        Self::load_from(Some(&here.join(file)), variables, &here)
    }

    /// The same with the environment and the working directory as values.
    pub fn load_from(
        explicit: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        here: &Path,
    ) -> Result<Self, ConfigError> {
        let mut variables: Vec<(String, String)> = variables.into_iter().collect();
        variables.sort();
        let file = choose_file(explicit, &variables, here)?;
        let text = match &file {
            Some(file) => read_file(file)?,
            None => String::new(),
        };
        let base_dir = file
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(here)
            .to_owned();
        let mut places = Places::new(file.as_deref(), &text);
        let mut root: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            ConfigError::new(
                format!("this is not TOML: {}", e.message()),
                places.at_offset(e.span().map_or(0, |span| span.start)),
                "correct the line; text stands in quotation marks",
            )
        })?;
        let mut warnings: Vec<Warning> = secrets::inline_warnings(&root, file.as_deref(), &places)
            .into_iter()
            .collect();
        variables::apply(&mut root, &variables, &mut places)?;
        let in_force = secrets::without_secrets(&root);
        warnings.extend(secrets::resolve(&mut root, &variables, &base_dir, &places)?);
        for name in root.keys() {
            if !SECTIONS.contains(&name.as_str()) {
                return Err(unknown_section(name, &places));
            }
        }
        let sources = read_sources(&mut root, &base_dir, &places)?;
        warnings.extend(sources.iter().filter_map(|s| example_token(s, &places)));
        let server = web::settings::Settings {
            access: section(&mut root, "access", &places)?,
            in_force,
            ..section(&mut root, "server", &places)?
        };
        let config = Self {
            server,
            database: section(&mut root, "database", &places)?,
            archive: section(&mut root, "archive", &places)?,
            backup: section(&mut root, "backup", &places)?,
            spool: section(&mut root, "spool", &places)?,
            worker: section(&mut root, "worker", &places)?,
            access_copy: section(&mut root, "access_copy", &places)?,
            schedule: section(&mut root, "schedule", &places)?,
            fixity: section(&mut root, "fixity", &places)?,
            alarms: section(&mut root, "alarms", &places)?,
            log: section(&mut root, "log", &places)?,
            sources,
            file,
            base_dir,
            warnings,
        };
        config.check(&places)?;
        Ok(config)
    }

    /// What the types alone cannot say.
    fn check(&self, places: &Places) -> Result<(), ConfigError> {
        let wrong = |path: &[&str], what: String, remedy: &str| {
            Err(ConfigError::new(what, places.of(path), remedy))
        };
        if let Some((key, what)) = self.server.problems().into_iter().next() {
            let what = format!("[server] {key} {what}");
            return wrong(&["server", key], what, "correct the value");
        }
        if let Some((key, what)) = self.server.access.problem() {
            let what = format!("[access] {key} {what}");
            return wrong(&["access", key], what, "write a time such as \"30m\"");
        }
        if let Some(oidc) = &self.server.access.oidc {
            if let Some((key, what)) = oidc.problem() {
                let what = format!("[access.oidc] {key} {what}");
                return wrong(&["access", "oidc", key], what, "correct the value");
            }
            if self.server.public_url.is_none() {
                let what =
                    "[access.oidc] needs [server] public_url: the provider leads people back there"
                        .to_owned();
                let remedy = "write public_url = \"https://calls.example.com\" in [server]";
                return wrong(&["access", "oidc"], what, remedy);
            }
        }
        if let Some(what) = self.database.problem() {
            let remedy = "write sqlite://FILE, or postgres://USER:PASSWORD@HOST/DATABASE";
            return wrong(&["database", "url"], format!("[database] {what}"), remedy);
        }
        if let Err(what) = self.archive.validate() {
            return wrong(&["archive"], what, "correct the section");
        }
        if let Some((key, what, remedy)) = self.backup.problem(self.database.is_sqlite()) {
            return wrong(&["backup", key], format!("[backup] {key} {what}"), remedy);
        }
        if let Some(what) = self.access_copy.problem() {
            let what = format!("[access_copy] {what}");
            return wrong(&["access_copy"], what, "take one of these");
        }
        if self.worker.recordings == 0 {
            let what = "[worker] recordings = 0 would never fetch anything".to_owned();
            return wrong(&["worker", "recordings"], what, "write at least 1");
        }
        if self.spool.limit_bytes() < LEAST_SPOOL_BYTES {
            let what = format!(
                "[spool] limit is {} and leaves no room for a single file",
                self.spool.limit
            );
            return wrong(&["spool", "limit"], what, "write a size like \"20GiB\"");
        }
        if let Err(what) = worker::schedule::check_cron(&self.schedule.poll) {
            let what = format!("[schedule] poll: {what}");
            let remedy = "write six fields: second minute hour day month weekday, \
                          like \"0 */5 * * * *\"";
            return wrong(&["schedule", "poll"], what, remedy);
        }
        if let Some((key, what)) = self.fixity.problem() {
            let what = format!("[fixity] {key} {what}");
            let remedy = "write a period of days, like \"90d\", or \"off\"";
            return wrong(&["fixity", key], what, remedy);
        }
        if let Some((key, what)) = self.alarms.problem() {
            let what = format!("[alarms] {key} {what}");
            let remedy = "write command = [\"PROGRAM\", \"ARGUMENT\"] or url = \"https://...\"";
            return wrong(&["alarms", key], what, remedy);
        }
        let levels = ["trace", "debug", "info", "warn", "error", "off"];
        let level = &self.log.level;
        let known = level.contains(['=', ',']) || levels.contains(&level.as_str());
        if !known || tracing_subscriber::EnvFilter::try_new(level).is_err() {
            let what = format!("[log] level = {level:?} is no level");
            let remedy = "write trace, debug, info, warn, error or off";
            return wrong(&["log", "level"], what, remedy);
        }
        Ok(())
    }
}

fn choose_file(
    explicit: Option<&Path>,
    variables: &[(String, String)],
    here: &Path,
) -> Result<Option<PathBuf>, ConfigError> {
    let named = variables
        .iter()
        .find(|(name, value)| name == FILE_VARIABLE && !value.is_empty())
        .map(|(_, value)| (Path::new(value), FILE_VARIABLE));
    if let Some((file, by)) = explicit.map(|file| (file, "--config")).or(named) {
        let file = here.join(file);
        if !file.is_file() {
            return Err(ConfigError::new(
                format!("there is no file {}", file.display()),
                by,
                "name an existing file; deploy/callvault.example.toml explains every key",
            ));
        }
        return Ok(Some(file));
    }
    let found = [here.join(NEAR_FILE), PathBuf::from(SYSTEM_FILE)];
    Ok(found.into_iter().find(|file| file.is_file()))
}

fn read_file(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|e| {
        ConfigError::new(
            format!("cannot read the configuration: {e}"),
            file.display().to_string(),
            "make it a text file in UTF-8 that this user may read",
        )
    })
}

fn unknown_section(name: &str, places: &Places) -> ConfigError {
    let remedy = match nearest(name, SECTIONS) {
        Some(near) => format!("did you mean [{near}]?"),
        None => format!("known are [{}]", SECTIONS.join("] [")),
    };
    ConfigError::new(
        format!("unknown section [{name}]"),
        places.of(&[name]),
        remedy,
    )
}

/// Takes one section out of the file and reads it; a section that is not there has its defaults.
fn section<T: DeserializeOwned>(
    root: &mut toml::Table,
    name: &str,
    places: &Places,
) -> Result<T, ConfigError> {
    let table = match root.remove(name) {
        None => toml::Table::new(),
        Some(toml::Value::Table(table)) => table,
        Some(_) => {
            return Err(ConfigError::new(
                format!("{name} is no section"),
                places.of(&[name]),
                format!("write [{name}] on a line of its own and the keys below it"),
            ));
        }
    };
    values::read(table).map_err(|e| from_value(name, e, places))
}

fn from_value(section: &str, error: ValueError, places: &Places) -> ConfigError {
    let mut path = vec![section.to_owned()];
    path.extend(error.path);
    let (what, remedy) = match error.problem {
        Problem::UnknownKey { key, known } => {
            let remedy = match nearest(&key, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", known.join(", ")),
            };
            let what = format!("[{}] has no key {key:?}", path.join("."));
            path.push(key);
            (what, remedy)
        }
        Problem::MissingKey(key) => (
            format!("[{}] needs the key {key:?}", path.join(".")),
            "add it".to_owned(),
        ),
        Problem::Other(text) => {
            let key = path.split_off(1).join(".");
            let what = format!("[{section}] {key}: {text}");
            path.extend(key.split('.').map(str::to_owned));
            (what, "correct the value".to_owned())
        }
    };
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    ConfigError::new(what, places.of(&path), remedy)
}

fn from_settings(error: SettingsError, places: &Places) -> ConfigError {
    let mut path = vec!["sources", &error.source_name];
    path.extend(error.key.split('.').filter(|key| !key.is_empty()));
    let place = places.of(&path);
    ConfigError::new(
        format!("[sources.{}] {}", error.source_name, error.what),
        place,
        error.remedy,
    )
}

/// Where a source's key names files, they count from the configuration's folder too.
const PATHS: [&str; 2] = ["path", "file_roots"];
const WITH_PATHS: [&str; 3] = ["freeswitch", "asterisk", "cdr"];

fn count_from(base_dir: &Path, table: &mut toml::Table) {
    let absolute = |value: &mut toml::Value| {
        // Empty is a mistake to be told of, and no name of the folder.
        if let toml::Value::String(path) = value
            && !path.is_empty()
            && let Some(whole) = base_dir.join(&*path).to_str()
        {
            whole.clone_into(path);
        }
    };
    for key in PATHS {
        match table.get_mut(key) {
            Some(toml::Value::Array(paths)) => paths.iter_mut().for_each(absolute),
            Some(path) => absolute(path),
            None => {}
        }
    }
}

fn read_sources(
    root: &mut toml::Table,
    base_dir: &Path,
    places: &Places,
) -> Result<Vec<SourceConfig>, ConfigError> {
    let wrong = |path: &[&str], what: String, remedy: &str| {
        Err(ConfigError::new(what, places.of(path), remedy))
    };
    let sources = match root.remove("sources") {
        None => return Ok(Vec::new()),
        Some(toml::Value::Table(sources)) => sources,
        Some(_) => {
            let what = "sources is no section".to_owned();
            return wrong(&["sources"], what, "write [sources.NAME] for each source");
        }
    };
    // Builds each source once and drops it, so that a wrong key of a kind is told with its line.
    let clock = Arc::new(SystemClock);
    let context = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    let mut found = Vec::new();
    let names: Vec<String> = sources.keys().cloned().collect();
    for (name, table) in sources {
        let toml::Value::Table(mut table) = table else {
            let what = format!("sources.{name} is no section");
            return wrong(&["sources", &name], what, "write [sources.NAME]");
        };
        let kind = match table.remove("kind") {
            Some(toml::Value::String(kind)) => kind,
            _ => {
                let what = format!("[sources.{name}] does not say its kind");
                let known: Vec<_> = registry::kinds().iter().map(|k| k.kind()).collect();
                // A variable whose name is mistyped makes a source of its own.
                let meant = nearest(
                    &name,
                    names
                        .iter()
                        .map(String::as_str)
                        .filter(|other| *other != name),
                )
                .map(|near| format!("did you mean the source {near}? otherwise "))
                .unwrap_or_default();
                let remedy = format!("{meant}add kind = \"...\"; known are {}", known.join(", "));
                return wrong(&["sources", &name], what, &remedy);
            }
        };
        if WITH_PATHS.contains(&kind.as_str()) {
            count_from(base_dir, &mut table);
        }
        let (common, own) = registry::find(&name, &kind)
            .and_then(|known| {
                let (common, own) = CommonSettings::split(&name, &known.defaults(), table)?;
                known.build(common.clone(), own.clone(), &context)?;
                Ok((common, own))
            })
            .map_err(|e| from_settings(e, places))?;
        found.push(SourceConfig {
            name,
            kind,
            common,
            own,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The token of the example is known to everybody.
fn example_token(source: &SourceConfig, places: &Places) -> Option<Warning> {
    let tokens = &source.common.hook_tokens;
    tokens
        .iter()
        .any(|token| token.expose().starts_with("change-me"))
        .then(|| Warning {
            code: "example_token",
            what: format!(
                "[sources.{}] still has the example's hook_token",
                source.name
            ),
            place: places.of(&["sources", &source.name, "hook_token"]),
            remedy: "make one of your own, for example with `openssl rand -hex 24`".to_owned(),
        })
}

#[cfg(test)]
mod tests;
