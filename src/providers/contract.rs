//! What every vendor adapter promises; the pipeline and the web know vendors through this alone.
//!
//! `admit` and `read` are pure: the same bytes give the same answer, so stored notices can be read
//! again by a better parser. `locate`, `list`, `ask`, `draw`, `confirm`, `delete` and `check` talk to the
//! vendor. Whatever they hear of calls and recordings becomes a notice too, and is read like any other.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::call::CallFacts;
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Link, Reading};
use crate::domain::retry::RetryAdvice;

use super::accounts::Accounts;
use super::api::Api;
use super::cdr;
use super::http::{GuardedClient, WebAddress};
use super::pace::{LocalPace, SharedPace};
use super::settings::{CommonSettings, SettingsError};

/// A message from outside, before anything is believed of it.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// What the called path stands for, in the vendor's words; empty when it says nothing.
    pub topic: String,
    pub method: String,
    /// The raw query string, without `?`.
    pub query: String,
    /// Lower-case names; `:path` is path and query as they were called, byte for byte (a secret: it may
    /// hold the token).
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Incoming {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The verdict on an incoming message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Authentic: store it. Equal `dedup_key`s of one source mean the same message again.
    Accept {
        dedup_key: String,
        /// Authentic but broken: kept, never read, answered as `Outcome::Unreadable`.
        unreadable: Option<String>,
    },
    /// Several messages in one body: each is stored, and known again, by itself.
    AcceptEach(Vec<Part>),
    /// Authentic and none of our business (chats that share an address with call events): answered like
    /// a stored one, and nothing of it is kept.
    Dismiss,
    /// Nothing of it is stored; it is only counted.
    Refuse(Refusal),
}

/// One message of a body that holds several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub body: Bytes,
    pub dedup_key: String,
    /// As in `Admission::Accept`.
    pub unreadable: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No fields, no call id, not the vendor's format.
    Unusable,
    /// Signature missing, wrong or (where so configured) stale.
    Signature,
    /// Signed for an account that is not this source's.
    UnknownAccount,
    /// The topic in the path is none of this kind.
    UnknownTopic,
}

/// What became of a message; `reply` turns it into the exact answer that the vendor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored {
        stored: u32,
        repeated: u32,
    },
    Unreadable,
    Refused(Refusal),
    TooLarge,
    /// Neither database nor journal could take it.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json; charset=utf-8",
            body: body.to_string(),
        }
    }
}

impl Reply {
    /// The project's own form of an error (CONTRACTS, section 2), for senders that are no vendor with a form of theirs.
    pub fn problem(status: u16, code: &str, detail: &str) -> Self {
        let title = match status {
            404 => "Not Found",
            413 => "Payload Too Large",
            503 => "Service Unavailable",
            _ => "Bad Request",
        };
        let body = serde_json::json!({
            "type": format!("urn:callvault:{code}"),
            "title": title,
            "status": status,
            "detail": detail,
        });
        Self {
            status,
            content_type: "application/problem+json",
            body: body.to_string(),
        }
    }
}

/// A path segment behind the token, and what to tell the vendor to send there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Empty: the address without a topic.
    pub name: &'static str,
    pub what: &'static str,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The vendor can list what exists (`list`).
    pub can_list: bool,
    /// The vendor can be asked for the recordings of one call (`ask`).
    pub can_ask: bool,
    /// A bucket of the customer's, into which the vendor writes, can be listed (`list_bucket`).
    pub can_list_bucket: bool,
    /// That bucket can be asked for the recordings of one call (`ask_bucket`).
    pub can_ask_bucket: bool,
    /// The vendor's copy can be deleted (`delete`), where the source's settings want it.
    pub can_delete: bool,
    /// A dead address can be asked for again; where it depends on the recording, `Announced` says so.
    pub link_renewable: bool,
    /// Notices may come by GET.
    pub takes_get: bool,
    /// Notices prove nothing by themselves: a token in the address is required.
    pub token_required: bool,
    /// `cdr/1` messages about this source's calls are its own words (`read` takes them).
    pub speaks_cdr: bool,
}

impl Capabilities {
    /// Something lists what exists, the vendor or a bucket.
    pub const fn lists(self) -> bool {
        self.can_list || self.can_list_bucket
    }

    /// Something can be asked for the recordings of one call, the vendor or a bucket.
    pub const fn asks(self) -> bool {
        self.can_ask || self.can_ask_bucket
    }
}

/// A stretch of time that is listed: from inclusive, to exclusive. Of what (the call's end, the file's
/// making) is the vendor's choice; callers ask with an overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// News that we fetched ourselves (list, question, queue). It becomes a notice under `topic`, and
/// `read` understands that topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Never one of `topics()`: a name that nobody can push to.
    pub topic: String,
    /// As the vendor said it, or the part of its answer that concerns one item.
    pub body: Bytes,
    /// Equal for the same news and only then: the item's id and whatever may change about it (size,
    /// status), without what changes by itself (a signature in an address).
    pub dedup_key: String,
    /// Kept, never read: nobody can understand it.
    pub unreadable: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    pub told: Vec<Told>,
    /// Asked for next; `None` after the last page. A caller stops by itself when pages repeat.
    pub next: Option<String>,
}

/// A message of a vendor's queue, hidden there until it is confirmed or its time runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    pub told: Told,
    /// What `confirm` needs; empty where nothing has to be confirmed.
    pub receipt: String,
    /// How long the vendor hides it, from the draw on, until it shows it again. `None`: for ever, or
    /// nobody knows; then it is never prolonged.
    pub hidden_for: Option<Duration>,
}

/// A message that stays hidden for longer, under a new receipt; the old one is worth nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prolonged {
    pub receipt: String,
    pub hidden_for: Option<Duration>,
}

/// A call for whose recordings the vendor is asked.
#[derive(Clone, Debug)]
pub struct AskedCall {
    pub provider_call_id: String,
    pub aliases: Vec<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Vendor facts of the call's notices (`CallFacts::custom`).
    pub custom: serde_json::Map<String, Value>,
}

/// What `locate` is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub recording_id: Uuid,
    pub provider_call_id: String,
    pub provider_recording_id: Option<String>,
    pub handle: Value,
    pub link: Option<Link>,
    pub call_ended_at: Option<Timestamp>,
    pub arrived_at: Timestamp,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// A secret as long as it lives: never logged whole, used at once.
    pub url: String,
    pub until: Option<Timestamp>,
    /// Sent to the first host only, never across a redirect to another one.
    pub headers: Vec<(String, String)>,
    /// The announced size: fewer bytes are a truncated file.
    pub expected_bytes: Option<u64>,
    /// The announced MD5s, any of which the bytes must have; empty: none was announced.
    pub expected_md5: Vec<[u8; 16]>,
    /// The announced SHA-256, in hex.
    pub expected_sha256: Option<String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = crate::domain::reading::masked_url(&self.url);
        write!(f, "Address({url}, until {:?})", self.until)
    }
}

/// A file on this machine, told of by a message: believed only below `roots`, which the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    pub roots: Vec<PathBuf>,
    /// As told; without a leading slash it is looked for below each root.
    pub path: String,
    /// A file that changed within this time is still being written.
    pub settle_time: Duration,
    pub expected_bytes: Option<u64>,
    /// Lower-case hex.
    pub expected_sha256: Option<String>,
}

/// The way by which a source's messages come, beside questions and the vendor's own queues.
#[derive(Clone, Debug, Default)]
pub enum Way {
    /// To `/hooks`.
    #[default]
    Push,
    Amqp(cdr::settings::Settings),
    Nats(cdr::settings::Settings),
    Folder(cdr::settings::Settings),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    Ready(Address),
    /// On a disk of this machine.
    File(LocalFile),
    /// Not made yet, as far as the vendor says. `code` is the vendor's own.
    NotReady {
        code: Option<String>,
    },
    /// The vendor says that it is gone for good. Where it says the same of what is not made yet, the adapter
    /// waits out its own time for that first, because this is believed at once.
    Gone {
        code: Option<String>,
    },
    /// There is nothing to ask with: announced without a link, at a vendor that cannot be asked.
    Unannounced,
    /// Not to be had now, and the adapter knows why (a code of `domain::recording::reason`) and when to
    /// look again, whatever the waiting plan says.
    Later {
        reason: &'static str,
        wait: Duration,
    },
}

/// How long to wait between questions while a file is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingPlan {
    pub waits: Vec<Duration>,
    /// After this time since the call's end a file that never came is given up as absent when
    /// nobody confirmed it, and asked for only every six hours otherwise.
    pub ready_deadline: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderErrorKind {
    Throttled,
    CredentialsRefused,
    /// The credentials are good, and may not list the customer's bucket.
    CannotListBucket,
    Unreachable,
    /// An answer came and made no sense.
    BadAnswer,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind:?} while {doing} at {source_name}: {detail}")]
pub struct ProviderError {
    pub kind: ProviderErrorKind,
    pub advice: RetryAdvice,
    pub source_name: String,
    pub doing: &'static str,
    /// Never holds an address with its query, a signature or a token.
    pub detail: String,
}

/// Something `check` or `sources` has to say about a source.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Finding {
    pub code: &'static str,
    pub severity: Severity,
    pub what: String,
    #[serde(rename = "where")]
    pub place: String,
    #[serde(rename = "do")]
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// One configured account of one vendor.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    fn kind(&self) -> &'static str;

    fn common(&self) -> &CommonSettings;

    fn name(&self) -> &str {
        &self.common().name
    }

    fn capabilities(&self) -> Capabilities;

    fn topics(&self) -> &'static [Topic];

    /// Signature, freshness, dedup key. Pure, and fast enough for a flood.
    fn admit(&self, incoming: &Incoming, now: Timestamp) -> Admission;

    fn reply(&self, outcome: Outcome) -> Reply;

    /// The same, for kinds whose answer depends on how they were asked, or tells what was wrong with this
    /// very message.
    fn answer(&self, outcome: Outcome, _incoming: &Incoming) -> Reply {
        self.reply(outcome)
    }

    /// How messages come in.
    fn way(&self) -> Way {
        Way::Push
    }

    /// The facts of a stored notice; an error text when it cannot be read.
    fn read(&self, notice: &Notice) -> Result<Reading, String>;

    /// Where the recording can be had at this moment.
    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError>;

    /// The address of a file that the playlist fetched from `playlist` names; `url` is already whole.
    /// The playlist's own headers go to its own host alone. Pure.
    fn beside(&self, playlist: &Address, url: String, _now: Timestamp) -> Address {
        let same_host = match (WebAddress::parse(&playlist.url), WebAddress::parse(&url)) {
            (Ok(one), Ok(other)) => one.scheme == other.scheme && one.same_host(&other),
            _ => false,
        };
        Address {
            headers: if same_host {
                playlist.headers.clone()
            } else {
                Vec::new()
            },
            url,
            until: playlist.until,
            ..Address::default()
        }
    }

    fn waiting_plan(&self) -> WaitingPlan;

    /// One page of what the vendor has from `window`; `page` is the page before's `next`. Only where
    /// `can_list`. A page token that died is an error of kind `BadAnswer`: the caller begins the window
    /// again.
    async fn list(
        &self,
        _window: Window,
        _page: Option<&str>,
        _now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        Ok(ListPage::default())
    }

    /// What the vendor knows of one call's recordings. Only where `can_ask`; empty: nothing (yet).
    async fn ask(&self, _call: &AskedCall, _now: Timestamp) -> Result<Vec<Told>, ProviderError> {
        Ok(Vec::new())
    }

    /// One page of the customer's bucket, of which only what was written within the window is told. Only
    /// where `can_list_bucket`. Unlike `list` the whole bucket is gone through whatever the window: it has no
    /// list by time. `page` is the page before's `next`; it may be weeks old, and each `next` lies behind it,
    /// so that the pages end.
    async fn list_bucket(
        &self,
        _written: Window,
        _page: Option<&str>,
        _now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        Ok(ListPage::default())
    }

    /// What lies in the customer's bucket of one call. Only where `can_ask_bucket`; empty: nothing (yet).
    async fn ask_bucket(
        &self,
        _call: &AskedCall,
        _now: Timestamp,
    ) -> Result<Vec<Told>, ProviderError> {
        Ok(Vec::new())
    }

    /// The recordings to expect of a call of which only a foreign system told us (`import`, backfill by
    /// ids), where `locate` needs no more than the call's id. Pure.
    fn expected(&self, _call: &CallFacts) -> Vec<Announced> {
        Vec::new()
    }

    /// Queues of the vendor's own, and rooms to watch: one loop for each calls `draw` and `confirm`.
    fn queues(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes what waits in a queue. May wait at the vendor (long poll) or by itself, up to a minute; an
    /// empty answer is not an error.
    async fn draw(&self, _queue: &str) -> Result<Vec<Drawn>, ProviderError> {
        Ok(Vec::new())
    }

    /// Storing takes its time: hides a message for longer. `None`: it is not ours any more (the vendor
    /// showed it to somebody again), or this vendor cannot.
    async fn prolong(
        &self,
        _queue: &str,
        _receipt: &str,
    ) -> Result<Option<Prolonged>, ProviderError> {
        Ok(None)
    }

    /// These messages are durable here: the vendor may forget them. What is not confirmed comes again.
    async fn confirm(&self, _queue: &str, _receipts: &[String]) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Deletes the vendor's copy; called only for a recording that is archived and was verified again.
    /// What is gone already counts as done.
    async fn delete(&self, _wanted: &Wanted, _now: Timestamp) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Talks to the vendor to see whether the credentials work; findings for `check`.
    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// What a kind gives to keys that its sources leave out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// Patterns as configuration writes them. `None`: any public address; empty: none at all.
    pub allow_hosts: Option<&'static [&'static str]>,
    pub provider_keeps: Option<Duration>,
    pub expect_within: Option<Duration>,
    /// Questions a second to the vendor's API, over all processes. `None`: 5.
    pub requests_per_second: Option<f64>,
    /// Notices prove nothing by themselves: a source without `hook_token` is refused. Kinds for
    /// which it depends on their own keys leave this false and ask `CommonSettings::require_token`.
    pub token_required: bool,
}

/// What a source is built with.
#[derive(Clone, Debug)]
pub struct BuildContext {
    pub client: Arc<GuardedClient>,
    pub clock: SharedClock,
    pub pace: SharedPace,
    /// Which account is which source; filled by `registry::build`.
    pub accounts: Accounts,
    /// Where the world reaches us, for vendors that sign the address they call; none when nobody said.
    pub public_url: Option<String>,
}

impl BuildContext {
    /// With a budget of this process alone.
    pub fn local(client: Arc<GuardedClient>, clock: SharedClock) -> Self {
        Self {
            client,
            clock,
            pace: LocalPace::shared(),
            accounts: Accounts::default(),
            public_url: None,
        }
    }

    /// The way to a vendor's API for this source: guarded, and within its budget.
    pub fn api(&self, common: &CommonSettings) -> Api {
        Api::new(common, self.client.clone(), self.pace.clone())
    }
}

/// One vendor: makes a `Provider` from each configured account. Listed in `registry`.
pub trait ProviderKind: Send + Sync {
    /// The word in `kind = "..."`, for ever: it is stored with notices.
    fn kind(&self) -> &'static str;

    fn defaults(&self) -> Defaults;

    /// `own` holds the source's keys that are not common ones; read it with `settings::read_own`.
    fn build(
        &self,
        common: CommonSettings,
        own: toml::Table,
        ctx: &BuildContext,
    ) -> Result<Arc<dyn Provider>, SettingsError>;

    /// A `[sources.{kind}-main]` section for the example configuration, every key of the kind
    /// explained. It is parsed and built by a test.
    fn example(&self) -> &'static str;
}
