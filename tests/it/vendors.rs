//! The two readings of the vendors' manuals meet: simulated vendors push to the adapters, the adapters draw their
//! queues, ask and fetch, and the ledger judges.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use callvault::domain::clock::{Clock, SharedClock, SystemClock};
use callvault::domain::digest::Sha256;
use callvault::domain::ids::new_id;
use callvault::domain::notice::{Door, Notice};
use callvault::domain::reading::{Announced, Link};
use callvault::providers::contract::{
    Admission, BuildContext, Incoming, Located, Outcome, Provider, Told, Wanted, Window,
};
use callvault::providers::http::{GuardPolicy, GuardedClient, Limits};
use callvault::providers::registry;
use callvault::providers::settings::CommonSettings;
use callvault::simulator::{LedgerLine, Mishaps, Options, Profile, Vendor, VendorKind};
use http::StatusCode;

/// A hook that admits and reads with the adapter and keeps what was announced.
#[derive(Clone)]
struct Hook {
    provider: Arc<dyn Provider>,
    token: String,
    announced: Arc<Mutex<Vec<Announced>>>,
    /// By the id that a reading gives, the one the ledger knows.
    calls: Arc<Mutex<HashMap<String, String>>>,
    complaints: Arc<Mutex<Vec<String>>>,
}

async fn take(State(hook): State<Hook>, request: Request) -> impl IntoResponse {
    let (head, body) = request.into_parts();
    let prefix = format!("/hooks/{}/{}", hook.provider.name(), hook.token);
    let topic = head.uri.path().strip_prefix(&prefix).unwrap();
    let incoming = Incoming {
        topic: topic.trim_start_matches('/').to_owned(),
        method: head.method.to_string(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: axum::body::to_bytes(body, 1 << 20).await.unwrap(),
    };
    let now = SystemClock.now();
    let outcome = match hook.provider.admit(&incoming, now) {
        Admission::Accept { dedup_key, .. } => {
            let notice = Notice {
                notice_id: new_id(now),
                source: hook.provider.name().to_owned(),
                kind: hook.provider.kind().to_owned(),
                door: Door::Push,
                topic: incoming.topic.clone(),
                method: incoming.method.clone(),
                query: incoming.query.clone(),
                headers: incoming.headers.clone(),
                sha256: Sha256::of(&incoming.body),
                body: incoming.body.to_vec(),
                arrived_at: now,
                dedup_key,
                unreadable: None,
            };
            match hook.provider.read(&notice) {
                // A vendor's check of the address is `{}`; Tencent sends more kinds of events than anybody reads.
                Ok(reading)
                    if reading.unreadable.is_empty()
                        && (reading.ignored.is_none()
                            || notice.body == b"{}"
                            || hook.provider.kind() == "trtc") =>
                {
                    for call in &reading.calls {
                        let task = call.custom.get("live_task_id").and_then(|id| id.as_str());
                        if let Some(task) = task {
                            let (id, task) = (call.provider_call_id.clone(), task.to_owned());
                            hook.calls.lock().unwrap().insert(id, task);
                        }
                    }
                    hook.announced.lock().unwrap().extend(reading.recordings);
                }
                other => hook.complain(format!("{:?}: {other:?}", incoming.topic)),
            }
            Outcome::Stored {
                stored: 1,
                repeated: 0,
            }
        }
        Admission::AcceptEach(parts) => {
            hook.complain(format!("{} messages in one body", parts.len()));
            Outcome::Unreadable
        }
        Admission::Dismiss => Outcome::Stored {
            stored: 0,
            repeated: 0,
        },
        Admission::Refuse(why) => {
            hook.complain(format!("refused as {why:?}: {:?}", incoming.topic));
            Outcome::Refused(why)
        }
    };
    let reply = hook.provider.answer(outcome, &incoming);
    let status = StatusCode::from_u16(reply.status).unwrap();
    (status, [("content-type", reply.content_type)], reply.body)
}

impl Hook {
    /// Draws a queue until `made` and nothing has come for longer than a message stays hidden.
    async fn draw(self, queue: String, made: Arc<AtomicBool>) {
        let mut empty = 0;
        while empty < 3 || !made.load(Ordering::SeqCst) {
            // What goes wrong here is planned; the messages come again.
            let Ok(drawn) = self.provider.draw(&queue).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            empty = if drawn.is_empty() { empty + 1 } else { 0 };
            let mut receipts = Vec::new();
            for drawn in drawn {
                self.hear(&drawn.told);
                receipts.push(drawn.receipt);
            }
            // Partly refused, or the queue too busy: again with the next draw.
            let _ = self.provider.confirm(&queue, &receipts).await;
        }
    }

    fn hear(&self, told: &Told) {
        if told.unreadable.is_some() {
            return;
        }
        let now = SystemClock.now();
        let notice = Notice {
            notice_id: new_id(now),
            source: self.provider.name().to_owned(),
            kind: self.provider.kind().to_owned(),
            door: Door::Queue,
            topic: told.topic.clone(),
            method: String::new(),
            query: String::new(),
            headers: vec![],
            sha256: Sha256::of(&told.body),
            body: told.body.to_vec(),
            arrived_at: now,
            dedup_key: told.dedup_key.clone(),
            unreadable: None,
        };
        match self.provider.read(&notice) {
            Ok(reading) if reading.unreadable.is_empty() && reading.ignored.is_none() => {
                self.announced.lock().unwrap().extend(reading.recordings);
            }
            other => self.complain(format!("{:?}: {other:?}", told.topic)),
        }
    }

    fn complain(&self, what: String) {
        self.complaints.lock().unwrap().push(what);
    }
}

/// The adapter as the vendor's own block configures it, and its client.
fn adapter(
    kind: VendorKind,
    vendor: &Vendor,
    clock: SharedClock,
) -> (Arc<dyn Provider>, Arc<GuardedClient>) {
    let block: toml::Table = vendor.config_block().parse().unwrap();
    let mut table = block["sources"]["the-source"].as_table().unwrap().clone();
    table.remove("kind");
    if table.contains_key("queues") {
        // Three empty polls are longer than a message stays hidden.
        table.insert("queue_wait".to_owned(), "1s".into());
    }
    let client = Arc::new(GuardedClient::new(clock.clone()));
    let context = BuildContext::local(client.clone(), clock);
    let known = registry::find("the-source", kind.name()).unwrap();
    let (common, own) = CommonSettings::split("the-source", &known.defaults(), table).unwrap();
    let provider = known.build(common, own, &context).unwrap();
    (provider, client)
}

/// Plays `calls` at 9000 times the vendor's pace and fetches whatever the ledger says can be had.
async fn meet(kind: VendorKind, profile: Profile, mishaps: Mishaps, calls: u32) {
    let clock: SharedClock = Arc::new(SystemClock);
    let options = Options {
        profile,
        mishaps,
        calls,
        speed: 9000.0,
        call_interval: Duration::from_millis(5),
        ..Options::new("the-source")
    };
    let vendor = Vendor::start(kind, options, clock.clone()).await.unwrap();
    let (provider, client) = adapter(kind, &vendor, clock);
    let hook = Hook {
        provider: provider.clone(),
        token: vendor.hook_token().to_owned(),
        announced: Arc::default(),
        calls: Arc::default(),
        complaints: Arc::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    vendor.set_push_to(format!("http://{}", listener.local_addr().unwrap()));
    let app = Router::new().fallback(take).with_state(hook.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let made = Arc::new(AtomicBool::new(false));
    let mut drawing = tokio::task::JoinSet::new();
    for queue in provider.queues() {
        drawing.spawn(hook.clone().draw(queue, made.clone()));
    }
    vendor.make_calls().await.unwrap();
    made.store(true, Ordering::SeqCst);
    drawing.join_all().await;
    assert_eq!(*hook.complaints.lock().unwrap(), Vec::<String>::new());
    assert_eq!(vendor.progress().pushes_given_up, 0);

    let mut announced: HashMap<String, Vec<Announced>> = HashMap::new();
    for one in hook.announced.lock().unwrap().drain(..) {
        // A legacy callback names its call by the stream; the ledger by the task.
        let id = hook
            .calls
            .lock()
            .unwrap()
            .get(&one.provider_call_id)
            .cloned();
        announced
            .entry(id.unwrap_or(one.provider_call_id.clone()))
            .or_default()
            .push(one);
    }
    for line in vendor.ledger() {
        let heard = announced.get(&line.provider_call_id).map(Vec::as_slice);
        match line.expect.as_str() {
            "archived" => {
                let heard = heard.unwrap_or_else(|| panic!("nobody announced {line:?}"));
                let id = line.provider_recording_id.as_deref();
                let own: Vec<Announced> = heard
                    .iter()
                    .filter(|one| {
                        one.provider_recording_id.as_deref() == id || kind != VendorKind::Trtc
                    })
                    .cloned()
                    .collect();
                assert!(!own.is_empty(), "{line:?} among {heard:?}");
                fetch(&*provider, &client, &line, &own).await;
            }
            "lost" => assert!(
                heard.is_some_and(|all| all.iter().any(|one| one.confirmed)),
                "without evidence nothing is lost: {line:?}"
            ),
            "absent" => assert!(heard.is_some_and(|all| all.iter().all(|one| !one.confirmed))),
            _ => assert!(heard.is_none(), "{line:?}"),
        }
    }
    vendor.stop().await;
    server.abort();
}

/// Asks and fetches until the bytes are the ledger's; every mishap passes after one or two tries.
async fn fetch(
    provider: &dyn Provider,
    client: &GuardedClient,
    line: &LedgerLine,
    heard: &[Announced],
) {
    // Where a call has several recordings, those that are this line's; each is known by its names.
    let is_this = |one: &&Announced| {
        one.provider_recording_id.is_some()
            && one.provider_recording_id == line.provider_recording_id
    };
    let mut mine: Vec<Announced> = heard.iter().filter(is_this).cloned().collect();
    if mine.is_empty() {
        mine = heard.to_vec();
    }
    let mut named: BTreeMap<Vec<String>, Wanted> = BTreeMap::new();
    for one in &mine {
        let wanted = named.entry(one.aliases.clone()).or_insert_with(|| Wanted {
            recording_id: new_id(SystemClock.now()),
            provider_call_id: line.provider_call_id.clone(),
            provider_recording_id: one.provider_recording_id.clone(),
            handle: one.handle.clone(),
            link: None,
            call_ended_at: None,
            arrived_at: SystemClock.now(),
        });
        wanted.link = one.link.clone().or(wanted.link.take());
    }
    let mut wanted: Vec<Wanted> = named.into_values().collect();
    let policy = GuardPolicy::from(provider.common());
    let mut told = Vec::new();
    for turn in 0..12 * wanted.len() {
        let which = turn % wanted.len();
        let wanted = &mut wanted[which];
        let now = SystemClock.now();
        let address = match provider.locate(wanted, now).await {
            Ok(Located::Ready(address)) => address,
            other => {
                told.push(format!("{other:?}"));
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let limits = Limits::media(1 << 24);
        let fetched = client
            .fetch(&policy, &address.url, &address.headers, None, &limits)
            .await;
        let body = match fetched {
            Ok(fetched) if fetched.status == 200 => fetched.body.collect().await,
            // As the pipeline does: an address that was refused is not tried again where another can be had.
            Ok(fetched) if matches!(fetched.status, 403 | 404) => {
                told.push(format!("status {}", fetched.status));
                if provider.capabilities().link_renewable {
                    wanted.link = None;
                }
                continue;
            }
            other => {
                told.push(format!("{:?}", other.map(|fetched| fetched.status)));
                continue;
            }
        };
        match body {
            Ok(body) if line.sha256 == Some(Sha256::of(&body).to_string()) => return,
            Ok(body) => told.push(format!("{} other bytes", body.len())),
            Err(error) => told.push(error.to_string()),
        }
    }
    let links: Vec<&Link> = heard.iter().filter_map(|one| one.link.as_ref()).collect();
    panic!("never had {line:?} of {links:?}: {told:#?}");
}

#[tokio::test]
async fn feiyu_v2_and_its_adapter_agree_in_a_storm() {
    meet(VendorKind::Feiyu, Profile::V2, Mishaps::Storm, 40).await;
}

#[tokio::test]
async fn feiyu_v3_and_its_adapter_agree_in_a_storm() {
    meet(VendorKind::Feiyu, Profile::V3, Mishaps::Storm, 30).await;
}

#[tokio::test]
async fn alibaba_and_its_adapter_agree_in_a_storm() {
    meet(VendorKind::Aliyun, Profile::V2, Mishaps::Storm, 40).await;
}

#[tokio::test]
async fn netease_and_its_adapter_agree_in_a_storm() {
    meet(VendorKind::Yunxin, Profile::V2, Mishaps::Storm, 40).await;
}

#[tokio::test]
async fn alibabas_queues_and_their_adapter_agree_in_a_storm() {
    meet(VendorKind::Aliyun, Profile::Queue, Mishaps::Storm, 40).await;
}

#[tokio::test]
async fn number_protection_and_its_adapter_agree_in_a_storm() {
    meet(VendorKind::Aliyun, Profile::Protection, Mishaps::Storm, 40).await;
}

#[tokio::test]
async fn tencent_and_its_adapter_agree_in_a_storm() {
    meet(VendorKind::Trtc, Profile::V2, Mishaps::Storm, 42).await;
}

/// What the vendor lists is what it made, callbacks or none; and every file can be had from the list alone.
#[tokio::test]
async fn tencent_lists_whatever_no_callback_announced() {
    let clock: SharedClock = Arc::new(SystemClock);
    let options = Options {
        mishaps: Mishaps::None,
        calls: 14,
        speed: 9000.0,
        call_interval: Duration::from_millis(5),
        announce: false,
        push_to: Some("http://127.0.0.1:9".to_owned()),
        ..Options::new("the-source")
    };
    let begun = SystemClock.now();
    let vendor = Vendor::start(VendorKind::Trtc, options, clock.clone())
        .await
        .unwrap();
    let (provider, client) = adapter(VendorKind::Trtc, &vendor, clock);
    vendor.make_calls().await.unwrap();
    // The vendor counts whole seconds, and its files come a moment after the calls.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let now = SystemClock.now();
    let window = Window {
        from: begun.plus_ms(-60_000),
        to: now.plus_ms(60_000),
    };
    let mut heard = Vec::new();
    // The media list, then the customer's bucket.
    let (mut page, mut in_bucket) = (None, false);
    loop {
        let got = match in_bucket {
            false => provider.list(window, page.as_deref(), now).await,
            true => provider.list_bucket(window, page.as_deref(), now).await,
        };
        let got = got.unwrap();
        for told in got.told {
            let notice = Notice {
                notice_id: new_id(now),
                source: "the-source".to_owned(),
                kind: "trtc".to_owned(),
                door: Door::Poll,
                topic: told.topic,
                method: String::new(),
                query: String::new(),
                headers: vec![],
                sha256: Sha256::of(&told.body),
                body: told.body.to_vec(),
                arrived_at: now,
                dedup_key: told.dedup_key,
                unreadable: None,
            };
            heard.extend(provider.read(&notice).unwrap().recordings);
        }
        match got.next {
            Some(next) => page = Some(next),
            None if in_bucket => break,
            None => (page, in_bucket) = (None, true),
        }
    }
    let mut count = 0;
    for line in vendor.ledger() {
        // Objects of the bucket are named, and the same name may come again in another task's folder.
        let id = line.provider_recording_id.as_deref();
        let own: Vec<Announced> = heard
            .iter()
            .filter(|one| one.provider_recording_id.as_deref() == id)
            .filter(|one| one.provider_call_id == line.provider_call_id)
            .cloned()
            .collect();
        assert_eq!(own.len(), 1, "{line:?}");
        fetch(&*provider, &client, &line, &own).await;
        count += 1;
    }
    assert_eq!(count, heard.len(), "nothing else is listed");
    assert!(count > 14, "{count}");
    vendor.stop().await;
}
