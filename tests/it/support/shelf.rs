//! A vendor of the tests' own, in the process: a shelf of recordings that can be listed page by page and
//! asked call by call, with the manners that a test gives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callvault::domain::call::CallFacts;
use callvault::domain::clock::Timestamp;
use callvault::domain::notice::Notice;
use callvault::domain::reading::{Announced, Link, Reading};
use callvault::domain::retry::RetryAdvice;
use callvault::providers::contract::{
    Address, Admission, AskedCall, Capabilities, Defaults, Incoming, ListPage, Located, Outcome,
    Provider, ProviderError, ProviderErrorKind, Refusal, Reply, Told, Topic, WaitingPlan, Wanted,
    Window,
};
use callvault::providers::settings::CommonSettings;
use serde_json::json;

/// What `list` and `ask` do next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Fine,
    Fails(ProviderErrorKind),
    /// Panics when it is asked where the recording of the call `bad` is.
    PanicsOverOne,
    /// Knows no address but the one that it told.
    KnowsNone,
    /// Every page but the first is refused.
    TokensDie,
    /// The second page is given for ever.
    GoesRound,
    /// Hangs on the page with this number.
    HangsAt(usize),
    /// The stretch that begins at this time makes no sense.
    SenselessAt(i64),
}

#[derive(Debug)]
pub struct Shelf {
    common: CommonSettings,
    can: Capabilities,
    page_size: usize,
    pub mood: Mutex<Mood>,
    /// When, and the recording's call.
    pub items: Mutex<Vec<(Timestamp, String)>>,
    /// What lies in the customer's bucket, and how that behaves.
    pub bucket: Mutex<BTreeMap<String, Timestamp>>,
    pub bucket_mood: Mutex<Mood>,
    /// What is heard when a call is asked for; a call that is not here has nothing.
    pub answers: Mutex<BTreeMap<String, usize>>,
    /// Each question: `list FROM TO PAGE` in minutes since 1970, `ask CALL`, `bucket FROM PAGE`,
    /// `ask bucket CALL`; of a recording `link` when its notice's was tried, else `vendor`.
    pub asked: Mutex<Vec<String>>,
    /// Where recordings can be had, each under its call's id; `None`: not made yet.
    pub address: Mutex<Option<String>>,
    /// Calls whose copy was deleted.
    pub deleted: Mutex<Vec<String>>,
}

impl Shelf {
    pub fn new(keys: &str, can: Capabilities) -> Arc<Self> {
        Self::named("shelf", keys, can)
    }

    pub fn named(name: &str, keys: &str, can: Capabilities) -> Arc<Self> {
        let table: toml::Table = keys.parse().unwrap();
        let (common, own) = CommonSettings::split(name, &Defaults::default(), table).unwrap();
        assert!(own.is_empty(), "{own:?}");
        Arc::new(Self {
            common,
            can,
            page_size: 2,
            mood: Mutex::default(),
            items: Mutex::default(),
            bucket: Mutex::default(),
            bucket_mood: Mutex::default(),
            answers: Mutex::default(),
            asked: Mutex::default(),
            address: Mutex::default(),
            deleted: Mutex::default(),
        })
    }

    pub fn listed(keys: &str) -> Arc<Self> {
        let can = Capabilities {
            can_list: true,
            ..Capabilities::default()
        };
        Self::new(keys, can)
    }

    pub fn put(&self, at: Timestamp, call: &str) {
        self.items.lock().unwrap().push((at, call.to_owned()));
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub fn put_in_bucket(&self, at: Timestamp, call: &str) {
        self.bucket.lock().unwrap().insert(call.to_owned(), at);
    }

    pub fn set_bucket(&self, mood: Mood) {
        *self.bucket_mood.lock().unwrap() = mood;
    }

    pub fn questions(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn error(&self, kind: ProviderErrorKind, doing: &'static str) -> ProviderError {
        ProviderError {
            kind,
            advice: match kind {
                ProviderErrorKind::CannotListBucket => RetryAdvice::Never,
                _ => RetryAdvice::Backoff,
            },
            source_name: self.common.name.clone(),
            doing,
            detail: "as the test wants it".to_owned(),
        }
    }

    fn log(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

/// A recording of `call`, number `n`.
pub fn told(call: &str, n: usize) -> Told {
    Told {
        topic: "item".to_owned(),
        body: json!({ "call": call, "recording": format!("{call}-{n}") })
            .to_string()
            .into(),
        dedup_key: format!("item:{call}:{n}"),
        unreadable: None,
    }
}

#[async_trait::async_trait]
impl Provider for Shelf {
    fn kind(&self) -> &'static str {
        "shelf"
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        self.can
    }

    fn topics(&self) -> &'static [Topic] {
        &[]
    }

    fn admit(&self, _incoming: &Incoming, _now: Timestamp) -> Admission {
        Admission::Refuse(Refusal::Unusable)
    }

    fn reply(&self, _outcome: Outcome) -> Reply {
        Reply::json(200, &json!({}))
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        let body: serde_json::Value =
            serde_json::from_slice(&notice.body).map_err(|error| error.to_string())?;
        let call = body["call"].as_str().ok_or("no call")?;
        let mut reading = Reading::default();
        if let Some(ended) = body["ended_at"].as_i64() {
            reading.calls.push(CallFacts {
                is_cdr: true,
                ended_at: Some(Timestamp::from_ms(ended)),
                duration_ms: Some(30_000),
                talked: Some(true),
                ..CallFacts::new(call)
            });
        }
        if body["known"].as_bool() == Some(true) {
            reading.calls.push(CallFacts::new(call));
        }
        if let Some(recording) = body["recording"].as_str() {
            reading.recordings.push(Announced {
                provider_call_id: call.to_owned(),
                provider_recording_id: Some(recording.to_owned()),
                aliases: vec![format!("r:{recording}")],
                confirmed: true,
                link: body["link"].as_str().map(|url| Link {
                    url: url.to_owned(),
                    until: None,
                }),
                ..Announced::default()
            });
        }
        Ok(reading)
    }

    async fn locate(&self, wanted: &Wanted, _now: Timestamp) -> Result<Located, ProviderError> {
        if let Mood::Fails(kind) = *self.mood.lock().unwrap() {
            return Err(self.error(kind, "locate"));
        }
        let mood = *self.mood.lock().unwrap();
        assert!(
            mood != Mood::PanicsOverOne || wanted.provider_call_id != "bad",
            "as the test wants it"
        );
        if let Some(link) = &wanted.link {
            self.log("link".to_owned());
            return Ok(Located::Ready(Address {
                url: link.url.clone(),
                ..Address::default()
            }));
        }
        self.log("vendor".to_owned());
        if let Mood::KnowsNone = *self.mood.lock().unwrap() {
            return Ok(Located::Unannounced);
        }
        let address = self.address.lock().unwrap().clone();
        Ok(match address {
            Some(base) => Located::Ready(Address {
                url: format!("{base}/{}", wanted.provider_call_id),
                until: None,
                headers: Vec::new(),
                expected_bytes: None,
                expected_md5: Vec::new(),
                expected_sha256: None,
            }),
            None => Located::NotReady { code: None },
        })
    }

    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: vec![Duration::from_secs(600), Duration::from_secs(1200)],
            ready_deadline: Duration::from_secs(24 * 3600),
        }
    }

    async fn list(
        &self,
        window: Window,
        page: Option<&str>,
        _now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        let minutes = |at: Timestamp| at.ms() / 60_000;
        self.log(format!(
            "list {} {} {}",
            minutes(window.from),
            minutes(window.to),
            page.unwrap_or("-")
        ));
        let number: usize = page.map_or(0, |page| page.parse().unwrap());
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Fails(kind) => return Err(self.error(kind, "list")),
            Mood::TokensDie if number > 0 => {
                return Err(self.error(ProviderErrorKind::BadAnswer, "list"));
            }
            Mood::HangsAt(at) if at == number => std::future::pending().await,
            Mood::SenselessAt(from) if window.from.ms() == from => {
                return Err(self.error(ProviderErrorKind::BadAnswer, "list"));
            }
            _ => {}
        }
        let items = self.items.lock().unwrap();
        let mut inside: Vec<_> = items
            .iter()
            .filter(|(at, _)| *at >= window.from && *at < window.to)
            .collect();
        inside.sort();
        let start = number * self.page_size;
        let told: Vec<Told> = inside
            .iter()
            .skip(start)
            .take(self.page_size)
            .map(|(_, call)| told(call, 1))
            .collect();
        let next = match mood {
            Mood::GoesRound if number == 1 => Some("1".to_owned()),
            _ => (inside.len() > start + self.page_size).then(|| (number + 1).to_string()),
        };
        Ok(ListPage { told, next })
    }

    async fn ask(&self, call: &AskedCall, _now: Timestamp) -> Result<Vec<Told>, ProviderError> {
        self.log(format!("ask {}", call.provider_call_id));
        if let Mood::Fails(kind) = *self.mood.lock().unwrap() {
            return Err(self.error(kind, "ask"));
        }
        let answers = self.answers.lock().unwrap();
        let count = answers.get(&call.provider_call_id).copied().unwrap_or(0);
        Ok((1..=count)
            .map(|n| told(&call.provider_call_id, n))
            .collect())
    }

    async fn list_bucket(
        &self,
        written: Window,
        page: Option<&str>,
        _now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        let from = written.from.ms() / 60_000;
        self.log(format!("bucket {from} {}", page.unwrap_or("-")));
        let number: usize = page.map_or(0, |page| page.parse().unwrap());
        let mood = *self.bucket_mood.lock().unwrap();
        match mood {
            Mood::Fails(kind) => return Err(self.error(kind, "list_bucket")),
            Mood::HangsAt(at) if at == number => std::future::pending().await,
            Mood::TokensDie if number > 0 => {
                return Err(self.error(ProviderErrorKind::BadAnswer, "list_bucket"));
            }
            _ => {}
        }
        let bucket = self.bucket.lock().unwrap();
        let start = number * self.page_size;
        let keys = bucket.iter().skip(start).take(self.page_size);
        let told = keys
            .filter(|(_, at)| (written.from..=written.to).contains(*at))
            .map(|(call, _)| told(call, 1))
            .collect();
        let next = (bucket.len() > start + self.page_size).then(|| (number + 1).to_string());
        Ok(ListPage { told, next })
    }

    async fn ask_bucket(
        &self,
        call: &AskedCall,
        _now: Timestamp,
    ) -> Result<Vec<Told>, ProviderError> {
        let call = &call.provider_call_id;
        self.log(format!("ask bucket {call}"));
        if let Mood::Fails(kind) = *self.bucket_mood.lock().unwrap() {
            return Err(self.error(kind, "ask_bucket"));
        }
        let is_there = self.bucket.lock().unwrap().contains_key(call);
        Ok(is_there.then(|| told(call, 1)).into_iter().collect())
    }

    async fn delete(&self, wanted: &Wanted, _now: Timestamp) -> Result<(), ProviderError> {
        self.log(format!("delete {}", wanted.provider_call_id));
        if let Mood::Fails(kind) = *self.mood.lock().unwrap() {
            return Err(self.error(kind, "delete"));
        }
        let call = wanted.provider_call_id.clone();
        self.deleted.lock().unwrap().push(call);
        Ok(())
    }
}
