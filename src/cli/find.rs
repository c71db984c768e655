//! `search`, `show` and `get`: find a call, see all that is known of it, fetch its bytes.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures::StreamExt as _;
use uuid::Uuid;

use crate::app::{self, House};
use crate::db::Database;
use crate::db::recordings::ObjectRow;
use crate::db::search::{Query, Target};
use crate::domain::clock::{Clock as _, SharedClock, SystemClock, Timestamp};
use crate::domain::digest::Hasher;
use crate::domain::fixity::Damage;
use crate::domain::keys::ObjectKey;
use crate::domain::moment;
use crate::domain::reading::mask_addresses;
use crate::domain::recording::Role;
use crate::domain::units::Span;
use crate::domain::view::{RecordingView, ShowView};

use super::{Failure, Global, Out, exit};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  callvault search 0001\n  callvault search --from 2024-03-01 --to 2024-04-01 --state lost\n  callvault search wang --min-duration 90s --json"
)]
pub struct Search {
    /// Words that must all match: ends of numbers (3 or more digits), starts of names and ids
    text: Vec<String>,
    #[arg(long)]
    source: Option<String>,
    /// Inclusive: a date in [server] time_zone, or RFC 3339
    #[arg(long)]
    from: Option<String>,
    /// Exclusive
    #[arg(long)]
    to: Option<String>,
    /// With + or 00: exactly this number; else the end of a number
    #[arg(long)]
    number: Option<String>,
    /// A party's id or name
    #[arg(long)]
    party: Option<String>,
    /// inbound, outbound or internal
    #[arg(long)]
    direction: Option<String>,
    /// pending, staged, archived, absent, lost, quarantined, none ...
    #[arg(long)]
    state: Option<String>,
    /// Such as 90s
    #[arg(long, value_name = "DURATION")]
    min_duration: Option<String>,
    #[arg(long, value_name = "DURATION")]
    max_duration: Option<String>,
    /// 0: all
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Go on behind a line: its `cursor`
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// Lines asked for at once when all are wanted.
const PAGE: usize = 500;

impl Search {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let zone = config.server.time_zone;
        let query = Query {
            text: self.text.join(" "),
            source: self.source.clone(),
            from: self
                .from
                .as_deref()
                .map(|text| time(text, zone, "--from"))
                .transpose()?,
            to: self
                .to
                .as_deref()
                .map(|text| time(text, zone, "--to"))
                .transpose()?,
            number: self.number.clone(),
            party: self.party.clone(),
            direction: self.direction.as_deref().map(direction).transpose()?,
            state: self.state.as_deref().map(state).transpose()?,
            min_duration_ms: self
                .min_duration
                .as_deref()
                .map(|t| length(t, "--min-duration"))
                .transpose()?,
            max_duration_ms: self
                .max_duration
                .as_deref()
                .map(|t| length(t, "--max-duration"))
                .transpose()?,
            // The command line is whole.
            ..Query::default()
        };
        let db = open(&config).await?;
        audit(&db, "search", &self.words()).await?;
        if let Some(window) = window(&query) {
            // Stdout is for the lines alone.
            out.aside(
                &serde_json::json!({ "window": { "from": query.from, "to": query.to } }),
                &window,
            );
        }
        let mut after = self.after.clone();
        let mut left = if self.limit == 0 {
            usize::MAX
        } else {
            self.limit
        };
        let mut found = 0;
        while left > 0 {
            let page = db.search(&query, after.as_deref(), left.min(PAGE)).await?;
            for item in &page.items {
                out.item(item, || line(item, zone));
            }
            found += page.items.len();
            left -= page.items.len().min(left);
            match page.next {
                Some(next) => after = Some(next),
                None => {
                    after = None;
                    break;
                }
            }
        }
        if found == 0 {
            out.say("nothing found");
        } else if let Some(after) = after {
            out.say(&format!("more: --after {after}"));
        }
        Ok(exit::DONE)
    }

    /// What was looked for, for the audit trail.
    fn words(&self) -> String {
        let mut words = self.text.join(" ");
        for (name, value) in [
            ("source", &self.source),
            ("from", &self.from),
            ("to", &self.to),
            ("number", &self.number),
            ("party", &self.party),
            ("direction", &self.direction),
            ("state", &self.state),
            ("min_duration", &self.min_duration),
            ("max_duration", &self.max_duration),
        ] {
            if let Some(value) = value {
                words += &format!(" {name}={value}");
            }
        }
        words.trim().to_owned()
    }
}

fn window(query: &Query) -> Option<String> {
    match (query.from, query.to) {
        (None, None) => None,
        (from, to) => Some(format!(
            "from {} to {} (UTC)",
            from.map_or("the beginning".to_owned(), |t| t.to_string()),
            to.map_or("now".to_owned(), |t| t.to_string())
        )),
    }
}

fn line(item: &RecordingView, zone: chrono_tz::Tz) -> String {
    let at = item.started_at.unwrap_or(item.arrived_at);
    let when = at.utc().with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z");
    let number = |n: &Option<String>| n.clone().unwrap_or_else(|| "?".to_owned());
    let length = item
        .original
        .as_ref()
        .and_then(|o| o.duration_ms)
        .or(item.duration_ms)
        .map_or("     -".to_owned(), |ms| {
            format!("{:>5.1}s", ms as f64 / 1000.0)
        });
    format!(
        "{when}  {:<11} {length}  {} -> {}  {}  {}{}{}",
        item.state,
        number(&item.caller),
        number(&item.callee),
        item.source,
        item.recording_id.map_or(item.call_id, |id| id),
        item.reason
            .as_ref()
            .map_or(String::new(), |r| format!("  ({r})")),
        if item.notes.is_empty() {
            String::new()
        } else {
            format!("  [{}]", item.notes.join(" "))
        },
    )
}

#[derive(Debug, Args)]
pub struct Show {
    /// recording_id, call_id, or a provider's id where it is unique
    #[arg(allow_hyphen_values = true)]
    id: String,
}

impl Show {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let db = open(&config).await?;
        audit(&db, "show", &self.id).await?;
        let mut view = show(&db, &self.id).await?;
        mask_addresses(&mut view.call.custom);
        out.item(&view, || describe(&view));
        Ok(exit::DONE)
    }
}

fn describe(view: &ShowView) -> String {
    // The whole view is long and nested: pretty JSON is what people can read and search.
    serde_json::to_string_pretty(view).unwrap_or_default()
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  callvault get ID --role access -o call.mp3\n  callvault get ID > original.wav"
)]
pub struct Get {
    #[arg(allow_hyphen_values = true)]
    id: String,
    /// original, access, waveform, manifest, or call_access: both parties of a call in one
    #[arg(long, default_value = "original")]
    role: String,
    /// Else stdout, unless that is a terminal
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Get {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let role = Role::parse(&self.role).ok_or_else(|| {
            Failure::usage(
                "usage",
                format!("no role {:?}", self.role),
                "--role",
                "original, access, waveform, manifest or call_access",
            )
        })?;
        if self.output.is_none() && std::io::stdout().is_terminal() {
            return Err(Failure::usage(
                "usage",
                "will not write audio to a terminal",
                "stdout",
                "give -o FILE, or redirect the output",
            ));
        }
        let house = House::open(super::run::load(global)?, Arc::new(SystemClock)).await?;
        let joint = self.joint(&house.db, role).await?;
        let is_joint = joint.is_some();
        let (id, found) = match joint {
            Some((call, object)) => {
                audit(&house.db, "get", &format!("{call} call_access")).await?;
                (call, object)
            }
            None => {
                let recording = self.recording(&house.db).await?;
                audit(&house.db, "get", &format!("{recording} {}", role.as_str())).await?;
                let object = house.db.current_object(recording, role).await?;
                (recording, object)
            }
        };
        let object = found.ok_or_else(|| {
            Failure::failed(
                if role == Role::Access {
                    "no_access_copy"
                } else {
                    "not_archived"
                },
                format!("there is no verified {} of this recording", role.as_str()),
                id.to_string(),
                "callvault show ID tells its state, reason and notes",
            )
        })?;
        let mut sink: Box<dyn std::io::Write> = match &self.output {
            Some(path) => Box::new(std::fs::File::create(path).map_err(|error| {
                Failure::failed(
                    "write",
                    error.to_string(),
                    path.display().to_string(),
                    "choose a place that can be written to",
                )
            })?),
            None => Box::new(std::io::stdout().lock()),
        };
        self.copy(&house, &object, &mut sink).await?;
        if let Some(path) = &self.output {
            let named = if is_joint { "call_id" } else { "recording_id" };
            let done = serde_json::json!({ named: id, "role": role, "file": path, "bytes": object.bytes, "sha256": object.sha256 });
            out.item(&done, || {
                format!(
                    "{}  {} bytes, sha256 {} verified",
                    path.display(),
                    object.bytes,
                    object.sha256
                )
            });
        }
        Ok(exit::DONE)
    }

    /// Hashes what passes by; a difference is told after the last byte, with the file removed.
    async fn copy(
        &self,
        house: &House,
        object: &ObjectRow,
        sink: &mut dyn std::io::Write,
    ) -> Result<(), Failure> {
        let key = ObjectKey::stored(object.key.as_str());
        let mut reader = house
            .archive
            .open(&key, object.version_id.as_deref(), None)
            .await?;
        let mut hasher = Hasher::new();
        while let Some(chunk) = reader.body.next().await {
            let chunk = chunk?;
            hasher.update(&chunk);
            sink.write_all(&chunk).map_err(|e| Failure::output(&e))?;
        }
        sink.flush().map_err(|e| Failure::output(&e))?;
        if hasher.finish() == object.fingerprint() {
            return Ok(());
        }
        if let Some(path) = &self.output {
            // What is wrong must not be taken for the recording later.
            let _ = std::fs::remove_file(path);
        }
        // For the alarm and the next check; that it could not be written down must not hide what is told here.
        let (id, what) = (object.object_id, "found while it was handed out");
        let (damage, now) = (Damage::Changed, SystemClock.now());
        let _ = house.db.object_looks_damaged(id, damage, what, now).await;
        Err(Failure::failed(
            "fixity",
            "the object's bytes are not what was archived",
            key.to_string(),
            "do not use what was written; see the store's versions and your backup",
        ))
    }

    /// What a call's id asks for: its joint copy, where it has one (`access`) or nothing else is meant (`call_access`).
    async fn joint(
        &self,
        db: &Database,
        role: Role,
    ) -> Result<Option<(Uuid, Option<ObjectRow>)>, Failure> {
        if !matches!(role, Role::Access | Role::CallAccess) {
            return Ok(None);
        }
        let call = match resolve(db, &self.id).await? {
            Target::Call(call) => call,
            Target::Recording(id) if role == Role::CallAccess => {
                let view = db.show_recording(id).await?;
                view.ok_or_else(|| unknown(&self.id))?.call.call_id
            }
            Target::Recording(_) => return Ok(None),
        };
        let object = db.call_access(call).await?;
        Ok(match role {
            Role::Access if object.is_none() => None,
            _ => Some((call, object)),
        })
    }

    async fn recording(&self, db: &Database) -> Result<Uuid, Failure> {
        match resolve(db, &self.id).await? {
            Target::Recording(id) => Ok(id),
            Target::Call(call_id) => {
                let view = db
                    .show_call(call_id)
                    .await?
                    .ok_or_else(|| unknown(&self.id))?;
                match view.recordings.as_slice() {
                    [one] => one.recording.recording_id.ok_or_else(|| unknown(&self.id)),
                    [] => Err(Failure::failed(
                        "not_archived",
                        "the call has no recording",
                        self.id.clone(),
                        "callvault show ID tells what is known",
                    )),
                    many => Err(ambiguous(
                        &self.id,
                        many.iter()
                            .filter_map(|r| r.recording.recording_id)
                            .map(|id| id.to_string()),
                    )),
                }
            }
        }
    }
}

async fn show(db: &Database, id: &str) -> Result<ShowView, Failure> {
    let view = match resolve(db, id).await? {
        Target::Recording(recording) => db.show_recording(recording).await?,
        Target::Call(call) => db.show_call(call).await?,
    };
    view.ok_or_else(|| unknown(id))
}

/// One call or recording by any id; unknown ends with 1, several with 2 and the candidates.
pub async fn resolve(db: &Database, id: &str) -> Result<Target, Failure> {
    let mut targets = db.resolve_id(id).await?;
    match targets.len() {
        0 => Err(unknown(id)),
        1 => Ok(targets.swap_remove(0)),
        _ => Err(ambiguous(id, targets.iter().map(Target::to_string))),
    }
}

fn unknown(id: &str) -> Failure {
    Failure::failed(
        "not_found",
        format!("nothing is known under {id:?}"),
        "the index",
        "callvault search finds calls by number, name, id and time",
    )
}

fn ambiguous(id: &str, candidates: impl Iterator<Item = String>) -> Failure {
    let list: Vec<String> = candidates.collect();
    Failure::usage(
        "ambiguous",
        format!("{id:?} is the id of several: {}", list.join(", ")),
        "the index",
        "name one of them",
    )
}

pub async fn open(config: &crate::config::Config) -> Result<Database, Failure> {
    let clock: SharedClock = Arc::new(SystemClock);
    Ok(app::open_database(config, &clock).await?)
}

/// The row that is written before anything is shown.
pub async fn audit(db: &Database, action: &'static str, subject: &str) -> Result<(), Failure> {
    let event = crate::db::audit::AuditEvent {
        actor: actor(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: serde_json::Value::Null,
        from: "local".to_owned(),
        at: SystemClock.now(),
    };
    Ok(db.audit(event).await?)
}

/// Whoever runs this command, as the audit trail names him.
pub fn actor() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let uid = || format!("uid{}", rustix::process::getuid().as_raw());
    format!("cli:{}", user.unwrap_or_else(uid))
}

fn time(text: &str, zone: chrono_tz::Tz, option: &str) -> Result<Timestamp, Failure> {
    moment::parse(text, zone).ok_or_else(|| {
        Failure::usage(
            "usage",
            format!("{text:?} is no date or time"),
            option.to_owned(),
            "write 2024-03-05, or 2024-03-05T12:00:00Z",
        )
    })
}

fn length(text: &str, option: &str) -> Result<i64, Failure> {
    match text.parse::<Span>() {
        Ok(span) => Ok(span.duration().as_millis() as i64),
        Err(error) => Err(Failure::usage(
            "usage",
            error.to_string(),
            option.to_owned(),
            "write 90s, 5m or 1h",
        )),
    }
}

fn direction(text: &str) -> Result<crate::domain::call::Direction, Failure> {
    crate::domain::call::Direction::parse(text).ok_or_else(|| {
        Failure::usage(
            "usage",
            format!("no direction {text:?}"),
            "--direction",
            "inbound, outbound or internal",
        )
    })
}

fn state(text: &str) -> Result<String, Failure> {
    use crate::domain::recording::State;
    if text == "none" || State::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    let known: Vec<&str> = State::ALL
        .iter()
        .map(|s| s.as_str())
        .chain(["none"])
        .collect();
    Err(Failure::usage(
        "usage",
        format!("no state {text:?}"),
        "--state",
        known.join(", "),
    ))
}
