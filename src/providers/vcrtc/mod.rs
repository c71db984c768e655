//! VCRTC, the meeting platform of Zijing Cloud (zijingcloud.com): recordings of meeting rooms.
//!
//! The vendor pushes nothing. Ids come from the customer's application (`told`), from looking at the
//! rooms (`watch`), from starting recordings (`start`) or from a list where there is one (`list`). A
//! meeting has no id of its own: its first recording names it until `getRecords` tells its start.

mod answer;
mod ask;
mod loose;
mod news;
mod reading;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::domain::call::CallFacts;
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::domain::recording::reason;
use crate::providers::contract::{
    Address, Admission, BuildContext, Capabilities, Defaults, Drawn, Finding, Incoming, ListPage,
    Located, Outcome, Provider, ProviderError, ProviderErrorKind, ProviderKind, Refusal, Reply,
    Severity, Told, Topic, WaitingPlan, Wanted, Window,
};
use crate::providers::settings::{CommonSettings, SettingsError};

use answer::{Entries, Entry};
use ask::Asker;
use settings::{Mode, Settings};
use watch::Watch;

const KIND: &str = "vcrtc";
/// Asked for by `check`: no recording has this id.
const NO_RECORD: &str = "00000000-0000-0000-0000-000000000000";
/// A file that did not come in time is asked for so often.
const STUCK_AGAIN: Duration = Duration::from_secs(3600);
/// Sizes in memory; beyond, everything is seen for the first time once more.
const MOST_SIZES: usize = 10_000;
/// Rooms that `check` looks at.
const MOST_ROOMS_CHECKED: usize = 20;

const TOPICS: [Topic; 1] = [Topic {
    name: "",
    what: "your own application: POST {\"conferenceKey\": \"...\", \"recordId\": \"...\"} when a recording begins or \
           has ended",
}];

#[derive(Debug)]
pub struct VcrtcKind;

impl ProviderKind for VcrtcKind {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            // The samples' addresses lead to Tencent COS (vcrtc.md, section 2.4).
            allow_hosts: Some(&["*.myqcloud.com"]),
            token_required: true,
            ..Defaults::default()
        }
    }

    fn build(
        &self,
        common: CommonSettings,
        own: toml::Table,
        ctx: &BuildContext,
    ) -> Result<Arc<dyn Provider>, SettingsError> {
        let settings = Settings::read(own, &common.name)?;
        Ok(Arc::new(Vcrtc {
            asker: Asker::new(ctx.api(&common), Arc::clone(&ctx.clock), &settings),
            clock: Arc::clone(&ctx.clock),
            watch: Watch::default(),
            sizes: Mutex::default(),
            common,
            settings,
        }))
    }

    fn example(&self) -> &'static str {
        include_str!("example.toml")
    }
}

/// One tenant at Zijing.
#[derive(Debug)]
struct Vcrtc {
    common: CommonSettings,
    settings: Settings,
    asker: Asker,
    clock: SharedClock,
    watch: Watch,
    /// Size of a complete entry and when it was seen first. Another process, or this one after a
    /// restart, finds the same in the recording's handle, where the stored entry put it.
    sizes: Mutex<HashMap<String, (u64, Timestamp)>>,
}

impl Vcrtc {
    /// When this size was seen first; now, when it is news.
    fn first_seen(&self, wanted: &Wanted, id: &str, size: u64, now: Timestamp) -> Timestamp {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() >= MOST_SIZES {
            sizes.clear();
        }
        let seen = sizes.entry(id.to_owned()).or_insert((size, now));
        if seen.0 != size {
            *seen = (size, now);
        }
        reading::seen_at(&wanted.handle, size).map_or(seen.1, |stored| stored.min(seen.1))
    }

    /// Stores an entry's facts through the queue of this source.
    fn tell(&self, entry: &Entry, room: &str, meeting: &str, now: Timestamp) {
        self.watch.tell(news::entry(entry, room, meeting, now));
    }

    /// Recordings that nobody announced, where the configuration wants them.
    fn adopt(&self, entries: &Entries, room: &str, now: Timestamp) {
        if !self.settings.adopt_unlisted {
            return;
        }
        for entry in entries.others.iter().filter(|entry| entry.is_complete()) {
            let meeting = meeting_of(entry, &entries.others, self.settings.meeting_gap);
            let room = entry.room.as_deref().unwrap_or(room);
            self.tell(entry, room, &meeting, now);
        }
    }

    fn ready(&self, wanted: &Wanted, entry: &Entry, now: Timestamp) -> Located {
        let (Some(size), Some(url)) = (entry.size, &entry.url) else {
            return Located::NotReady { code: None };
        };
        let seen = self.first_seen(wanted, &entry.record_id, size, now);
        let settle = self.settings.settle_time;
        let age = now.since_ms(seen);
        if age < i64::try_from(settle.as_millis()).unwrap_or(i64::MAX) {
            let left = settle.saturating_sub(Duration::from_millis(age.max(0).unsigned_abs()));
            return Located::Later {
                reason: reason::NOT_READY,
                wait: left,
            };
        }
        Located::Ready(Address {
            url: url.clone(),
            until: Some(now.plus(self.settings.url_ttl)),
            headers: Vec::new(),
            expected_bytes: Some(size),
            expected_md5: Vec::new(),
            expected_sha256: None,
        })
    }

    fn not_ready(&self, wanted: &Wanted, now: Timestamp) -> Located {
        if let Some(why) = wanted.handle.get("failed").and_then(Value::as_str) {
            return Located::Gone {
                code: Some(format!("recording failed: {why}")),
            };
        }
        let since = wanted.call_ended_at.unwrap_or(wanted.arrived_at);
        if now >= since.plus(self.settings.ready_deadline) {
            return Located::Later {
                reason: reason::PROVIDER_STUCK,
                wait: STUCK_AGAIN,
            };
        }
        Located::NotReady { code: None }
    }

    /// Ours to delete: started by us, or told by the customer's own application; never one that was found.
    fn is_ours(handle: &Value) -> bool {
        let is_set = |name: &str| handle.get(name) == Some(&Value::Bool(true));
        is_set("opened") || is_set("told") && !is_set("already_on")
    }

    fn finding(&self, error: ProviderError, place: &str) -> Finding {
        let (code, severity, remedy) = match error.kind {
            ProviderErrorKind::CredentialsRefused | ProviderErrorKind::CannotListBucket => (
                "credentials_refused",
                Severity::Error,
                "compare auth_header, auth_value, the rooms and login.* with what the vendor gave you",
            ),
            ProviderErrorKind::Throttled => {
                ("throttled", Severity::Warning, "lower requests_per_second")
            }
            ProviderErrorKind::Unreachable | ProviderErrorKind::BadAnswer => (
                "provider_unreachable",
                Severity::Error,
                "check api_server, paths.*, the network and the vendor's state",
            ),
        };
        Finding {
            code,
            severity,
            what: error.detail,
            place: format!("sources.{}{place}", self.common.name),
            remedy: remedy.to_owned(),
        }
    }
}

/// The first recording of the entry's meeting: one that ended shortly before the next one began is part
/// of it (vcrtc.md, section 7.3). `others` are of the same room, or of any.
fn meeting_of(entry: &Entry, others: &[Entry], gap: Duration) -> String {
    let mut first = entry;
    // Each step goes back in time, so this ends.
    while let Some(before) = others.iter().find(|other| {
        let (Some(end), Some(start)) = (other.ended_at, first.started_at) else {
            return false;
        };
        other.room == first.room
            && other.started_at < first.started_at
            && end <= start
            && start <= end.plus(gap)
    }) {
        first = before;
    }
    first.record_id.clone()
}

#[async_trait]
impl Provider for Vcrtc {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_list: self.settings.has(Mode::List),
            can_delete: self.settings.delete_after_archive,
            link_renewable: true,
            token_required: true,
            ..Capabilities::default()
        }
    }

    fn topics(&self) -> &'static [Topic] {
        &TOPICS
    }

    fn admit(&self, incoming: &Incoming, _now: Timestamp) -> Admission {
        if !incoming.topic.is_empty() {
            return Admission::Refuse(Refusal::UnknownTopic);
        }
        if !self.settings.has(Mode::Told) {
            return Admission::Refuse(Refusal::Unusable);
        }
        reading::admit(&incoming.body)
    }

    fn reply(&self, outcome: Outcome) -> Reply {
        let (status, code, what) = match outcome {
            Outcome::Stored { stored, repeated } => {
                return Reply::json(200, &json!({ "stored": stored, "repeated": repeated }));
            }
            Outcome::Unreadable | Outcome::Refused(Refusal::Unusable) => (
                400,
                "bad_request",
                "post a JSON object with conferenceKey and recordId, without PINs, to a source with mode \"told\"",
            ),
            Outcome::Refused(_) => (404, "not_found", "there is no such address"),
            Outcome::TooLarge => (413, "too_large", "the body is too large"),
            Outcome::Unavailable => (503, "unavailable", "it cannot be stored now; send it again"),
        };
        Reply::problem(status, code, what)
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        reading::read(notice, &self.settings)
    }

    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError> {
        let Some(id) = &wanted.provider_recording_id else {
            return Ok(Located::Unannounced);
        };
        let room = wanted.handle.get("conference_key").and_then(Value::as_str);
        let is_our_room = |theirs: &str| room.is_none_or(|room| room == theirs);
        let entries = self.asker.records(&self.settings, id, is_our_room).await?;
        let room = room.unwrap_or_default();
        self.adopt(&entries, room, now);
        let Some(entry) = entries.wanted.as_ref().filter(|entry| entry.is_complete()) else {
            return Ok(self.not_ready(wanted, now));
        };
        let size = entry.size.unwrap_or(0);
        if reading::seen_at(&wanted.handle, size).is_none() {
            let meeting = meeting_of(entry, &entries.others, self.settings.meeting_gap);
            let room = entry.room.as_deref().unwrap_or(room);
            self.tell(entry, room, &meeting, now);
        }
        Ok(self.ready(wanted, entry, now))
    }

    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: self.settings.retry_plan.clone(),
            ready_deadline: self.settings.ready_deadline,
        }
    }

    /// Everything at once: the interface knows neither pages nor times.
    async fn list(
        &self,
        window: Window,
        _page: Option<&str>,
        now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        let rooms = &self.settings.rooms;
        let is_our_room = |room: &str| rooms.is_empty() || rooms.iter().any(|ours| ours == room);
        let entries = self.asker.records(&self.settings, "", is_our_room).await?;
        let is_inside = |entry: &Entry| {
            let at = entry.ended_at.or(entry.started_at);
            at.is_none_or(|at| window.from <= at && at < window.to)
        };
        let told: Vec<Told> = entries
            .others
            .iter()
            .filter(|entry| entry.is_complete() && is_inside(entry))
            .filter_map(|entry| {
                let meeting = meeting_of(entry, &entries.others, self.settings.meeting_gap);
                Some(news::entry(entry, entry.room.as_deref()?, &meeting, now))
            })
            .collect();
        Ok(ListPage { told, next: None })
    }

    fn expected(&self, call: &CallFacts) -> Vec<Announced> {
        reading::expected(call)
    }

    fn queues(&self) -> Vec<String> {
        watch::queues(&self.settings)
    }

    async fn draw(&self, queue: &str) -> Result<Vec<Drawn>, ProviderError> {
        let now = || self.clock.now();
        self.watch
            .draw(queue, &self.settings, &self.asker, now)
            .await
    }

    async fn confirm(&self, queue: &str, receipts: &[String]) -> Result<(), ProviderError> {
        self.watch.confirm(queue, receipts);
        Ok(())
    }

    async fn delete(&self, wanted: &Wanted, _now: Timestamp) -> Result<(), ProviderError> {
        let doing = "deleting a recording";
        let Some(id) = &wanted.provider_recording_id else {
            return Err(self.asker.error(doing, "the recording has no id there"));
        };
        if !self.settings.delete_after_archive || !Self::is_ours(&wanted.handle) {
            let what = "not ours to delete: neither started by us nor told by your application";
            return Err(self.asker.error(doing, what));
        }
        self.asker.delete(&self.settings, id).await
    }

    async fn check(&self) -> Vec<Finding> {
        self.asker.ask_again();
        let asked = self
            .asker
            .records(&self.settings, NO_RECORD, |_| true)
            .await;
        if let Err(error) = asked {
            return vec![self.finding(error, "")];
        }
        let mut findings = Vec::new();
        for room in self.settings.rooms.iter().take(MOST_ROOMS_CHECKED) {
            if let Err(error) = self.asker.status(&self.settings, room).await {
                findings.push(self.finding(error, &format!(".rooms, room {room}")));
            }
        }
        findings
    }
}
