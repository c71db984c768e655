//! Messages from real brokers and from a folder: each call once, no message lost, whatever breaks on the way.
//!
//! RabbitMQ is looked for at `CALLVAULT_TEST_AMQP` (default `amqp://guest:guest@127.0.0.1:5672/%2f`), NATS at
//! `CALLVAULT_TEST_NATS` (default `nats://127.0.0.1:4222`). Away, a test is skipped with a line that says so,
//! and fails when `CALLVAULT_REQUIRE_SERVERS=1`.

use std::io::Write as _;
use std::time::Duration;

use callvault::domain::clock::{Clock as _, SystemClock};
use callvault::domain::ids::new_id;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::house::TestHouse;

const DIRECTORY: &str = "[archive]\nkind = \"directory\"\npath = \"archive\"\n";
const CALLS: usize = 5000;

pub async fn house(source: &str) -> TestHouse {
    let sections = format!("{DIRECTORY}{source}");
    TestHouse::open_on(Vec::new(), "sqlite://callvault.db", &sections).await
}

pub fn skipped(what: &str, error: &dyn std::fmt::Display) {
    let required = std::env::var("CALLVAULT_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    assert!(!required, "{what} is required and away: {error}");
    println!("SKIPPED: no {what}: {error}");
}

pub fn unique() -> String {
    new_id(SystemClock.now()).simple().to_string()
}

pub fn message(n: usize) -> Vec<u8> {
    let message = json!({
        "spec": "cdr/1", "event_id": format!("e{n}"), "event_type": "call.ended",
        "occurred_at": "2024-04-05T20:31:50+08:00",
        "source": { "provider": "freeswitch", "account": "pbx" },
        "call": { "id": format!("call-{n}"), "caller": { "number": format!("+86139{n:08}") } },
    });
    message.to_string().into_bytes()
}

pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(plain).unwrap();
    packer.finish().unwrap()
}

/// A wire that can be cut: all connections at once, as a broker that restarts does. And what goes to the server can be
/// held up.
pub struct Wire {
    pub port: u16,
    cut: watch::Sender<u64>,
    held: watch::Sender<bool>,
}

impl Wire {
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, _) = watch::channel(0);
        let cuts = cut.clone();
        let (held, _) = watch::channel(false);
        let holds = held.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut cut) = (server.clone(), cuts.subscribe());
                let mut held = holds.subscribe();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else {
                        return;
                    };
                    let (mut from_client, mut to_client) = client.split();
                    let (mut from_server, mut to_server) = server.split();
                    let up = async {
                        let mut piece = vec![0; 64 << 10];
                        while let Ok(read @ 1..) = from_client.read(&mut piece).await {
                            let _ = held.wait_for(|held| !held).await;
                            if to_server.write_all(&piece[..read]).await.is_err() {
                                break;
                            }
                        }
                    };
                    tokio::select! {
                        () = up => {}
                        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, cut, held }
    }

    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

pub async fn calls(house: &TestHouse) -> usize {
    let query = callvault::db::search::Query::default();
    let (mut found, mut after) = (0, None);
    loop {
        let page = house
            .house()
            .db
            .search(&query, after.as_deref(), 1000)
            .await;
        let page = page.unwrap();
        found += page.items.len();
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

pub async fn door(house: &TestHouse, door: &str) -> (u64, u64) {
    let (_, out, _) = crate::import::callvault(house, &["--json", "status"]).await;
    let status: Value = serde_json::from_str(&out).unwrap();
    let counts = &status["sources"][0]["doors"][door];
    let count = |name: &str| counts[name].as_u64().unwrap_or(0);
    (count("notices"), count("repeated"))
}

/// Cuts the wire while messages come, until every call is there.
async fn all_there(house: &TestHouse, wire: &Wire, expected: usize) {
    for part in 1..=3 {
        house
            .until(async |house| match calls(house).await {
                found if found >= expected * part / 5 => Ok(()),
                found => Err(format!("{found} calls")),
            })
            .await;
        wire.cut();
    }
    house
        .until(async |house| match calls(house).await {
            found if found == expected => Ok(()),
            found => Err(format!("{found} of {expected} calls")),
        })
        .await;
}

#[cfg(feature = "amqp")]
pub mod amqp {
    use lapin::options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    };
    use lapin::types::FieldTable;
    use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

    use super::*;

    pub async fn server() -> Option<(String, Connection)> {
        let url = std::env::var("CALLVAULT_TEST_AMQP")
            .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        match tokio::time::timeout(Duration::from_secs(5), connecting).await {
            Ok(Ok(connection)) => Some((url, connection)),
            Ok(Err(error)) => {
                skipped("RabbitMQ", &error);
                None
            }
            Err(error) => {
                skipped("RabbitMQ", &error);
                None
            }
        }
    }

    /// Takes a queue away, and the one of what was put aside.
    pub async fn forget(queue: &str) {
        let (_, connection) = server().await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        for name in [queue.to_owned(), format!("{queue}.dead")] {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(name.into(), options).await.unwrap();
        }
    }

    pub async fn publish(channel: &Channel, queue: &str, body: &[u8], coding: &str) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_encoding(coding.into());
        let options = BasicPublishOptions::default();
        // The confirmation is awaited by `wait_for_confirms` of the caller.
        let _confirm = channel
            .basic_publish("".into(), queue.into(), options, body, properties)
            .await
            .unwrap();
    }

    /// How many messages lie in this queue.
    pub async fn count(url: &str, queue: &str) -> Result<u32, String> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let looking = connection
            .create_channel()
            .await
            .map_err(|error| error.to_string())?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = looking
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .map_err(|error| error.to_string())?;
        let _ = connection.close(200, "looked".into()).await;
        Ok(found.message_count())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ten_thousand_messages_with_repeats_survive_cuts_and_each_call_is_there_once() {
        let Some((url, connection)) = server().await else {
            return;
        };
        let parsed = url::Url::parse(&url).unwrap();
        let at = format!(
            "{}:{}",
            parsed.host_str().unwrap(),
            parsed.port().unwrap_or(5672)
        );
        let wire = Wire::to(at).await;
        let mut through = parsed.clone();
        through.set_host(Some("127.0.0.1")).unwrap();
        through.set_port(Some(wire.port)).unwrap();
        let queue = format!("t-{}", unique());
        // The queue does not exist yet: the source makes it.
        let house = house(&format!(
            "[sources.pbx]\nkind = \"cdr\"\nfrom = \"amqp\"\nurl = \"{through}\"\nqueue = \"{queue}\"\n"
        ))
        .await;
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let is_there = async || {
            let looking = connection.create_channel().await.unwrap();
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            looking
                .queue_declare(queue.as_str().into(), passive, FieldTable::default())
                .await
                .ok()
        };
        house
            .until(async |_| {
                is_there()
                    .await
                    .map(|_| ())
                    .ok_or("no queue yet".to_owned())
            })
            .await;
        for n in 0..CALLS {
            publish(&channel, &queue, &message(n), "").await;
            // A repeat, near or far.
            publish(&channel, &queue, &message(n / 2), "").await;
        }
        publish(&channel, &queue, &gzip(&message(CALLS)), "gzip").await;
        publish(&channel, &queue, b"event=1", "").await;
        publish(&channel, &queue, &vec![b' '; 3 << 20], "").await;
        channel.wait_for_confirms().await.unwrap();

        all_there(&house, &wire, CALLS + 1).await;
        house
            .until(
                async |_| match is_there().await.map(|queue| queue.message_count()) {
                    Some(0) => Ok(()),
                    other => Err(format!("{other:?} messages are left")),
                },
            )
            .await;
        let (stored, _) = door(&house, "queue").await;
        // The one that is no JSON is kept as evidence.
        assert_eq!(stored as usize, CALLS + 2);
        let dead = format!("{queue}.dead");
        let mut reasons = Vec::new();
        let no_ack = BasicGetOptions { no_ack: true };
        while let Some(aside) = channel
            .basic_get(dead.as_str().into(), no_ack)
            .await
            .unwrap()
        {
            let headers = aside.delivery.properties.headers().clone().unwrap();
            match &headers.inner()["x-reject-reason"] {
                lapin::types::AMQPValue::LongString(why) => {
                    reasons.push(String::from_utf8_lossy(why.as_bytes()).into_owned());
                }
                other => panic!("{other:?}"),
            }
        }
        reasons.sort();
        assert!(
            reasons.iter().any(|why| why.contains("not_json")),
            "{reasons:?}"
        );
        assert!(
            reasons.iter().any(|why| why.contains("too_large")),
            "{reasons:?}"
        );
        for name in [queue, dead] {
            let _ = channel
                .queue_delete(name.into(), QueueDeleteOptions::default())
                .await;
        }
        house.finish().await;
    }
}

#[cfg(feature = "nats")]
pub async fn nats_server() -> Option<(String, async_nats::Client)> {
    let url =
        std::env::var("CALLVAULT_TEST_NATS").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connecting = tokio::time::timeout(Duration::from_secs(5), async_nats::connect(&url));
    match connecting.await.map_err(|error| error.to_string()) {
        Ok(Ok(client)) => return Some((url, client)),
        Ok(Err(error)) => skipped("NATS", &error),
        Err(error) => skipped("NATS", &error),
    }
    None
}

#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_from_jetstream_survive_cuts_and_each_call_is_there_once() {
    let Some((url, client)) = nats_server().await else {
        return;
    };
    let jetstream = async_nats::jetstream::new(client);
    let parsed = url::Url::parse(&url).unwrap();
    let at = format!(
        "{}:{}",
        parsed.host_str().unwrap(),
        parsed.port().unwrap_or(4222)
    );
    let wire = Wire::to(at).await;
    let id = unique();
    let house = house(&format!(
        "[sources.pbx]\nkind = \"cdr\"\nfrom = \"nats\"\nurl = \"nats://127.0.0.1:{}\"\nqueue = \"t{id}.v1.>\"\nstream = \"T{id}\"\n",
        wire.port
    ))
    .await;
    house
        .until(async |_| {
            let stream = jetstream.get_stream(format!("T{id}")).await;
            stream.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
    let subject = format!("t{id}.v1.freeswitch.call.ended");
    let mut kept = Vec::new();
    for n in 0..CALLS {
        for body in [message(n), message(n / 2)] {
            kept.push(
                jetstream
                    .publish(subject.clone(), body.into())
                    .await
                    .unwrap(),
            );
            if kept.len() == 200 {
                for ack in kept.drain(..) {
                    ack.await.unwrap();
                }
            }
        }
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Content-Encoding", "gzip");
    let packed = gzip(&message(CALLS)).into();
    kept.push(
        jetstream
            .publish_with_headers(subject.clone(), headers, packed)
            .await
            .unwrap(),
    );
    kept.push(
        jetstream
            .publish(subject.clone(), "event=1".into())
            .await
            .unwrap(),
    );
    for ack in kept {
        ack.await.unwrap();
    }
    all_there(&house, &wire, CALLS + 1).await;
    house
        .until(async |_| {
            let stream = jetstream.get_stream(format!("T{id}")).await.unwrap();
            let info = stream.consumer_info("cdr-ingest").await.unwrap();
            match (info.num_pending, info.num_ack_pending) {
                (0, 0) => Ok(()),
                left => Err(format!("{left:?} messages are left")),
            }
        })
        .await;
    let (stored, _) = door(&house, "queue").await;
    assert_eq!(stored as usize, CALLS + 2);
    jetstream.delete_stream(format!("T{id}")).await.unwrap();
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_files_of_a_folder_are_archived_and_others_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().canonicalize().unwrap();
    let house = house(&format!(
        "[sources.pbx]\nkind = \"cdr\"\nfrom = \"folder\"\npath = \"{}\"\nsettle_time = \"200ms\"\n",
        at.display()
    ))
    .await;
    let wav = |seed: u8| {
        let samples: Vec<u8> = (0..16_000_u32)
            .map(|n| (n as u8).wrapping_mul(seed))
            .collect();
        let mut file = b"RIFF".to_vec();
        file.extend((36 + samples.len() as u32).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
        file.extend((samples.len() as u32).to_le_bytes());
        file.extend(samples);
        file
    };
    std::fs::create_dir(at.join("day")).unwrap();
    std::fs::write(at.join("day/one.wav"), wav(3)).unwrap();
    let sidecar = String::from_utf8(message(7))
        .unwrap()
        .replace("call.ended", "recording.ready");
    std::fs::write(at.join("day/one.wav.json"), sidecar).unwrap();
    std::fs::write(at.join("alone.wav"), wav(5)).unwrap();
    std::fs::write(at.join("later.wav.part"), wav(7)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", at.join("link.wav")).unwrap();
    std::os::unix::fs::symlink(&at, at.join("day/loop")).unwrap();
    let archived = async |house: &TestHouse, expected: usize| {
        let query = callvault::db::search::Query {
            state: Some("archived".to_owned()),
            ..callvault::db::search::Query::default()
        };
        let page = house.house().db.search(&query, None, 100).await.unwrap();
        let found: Vec<_> = page
            .items
            .iter()
            .map(|item| item.provider_call_id.clone())
            .collect();
        if found.len() == expected {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    };
    let mut found = house.until(async |house| archived(house, 2).await).await;
    found.sort();
    assert_eq!(found, ["alone.wav", "call-7"]);
    // Renamed in when it is complete.
    std::fs::rename(at.join("later.wav.part"), at.join("later.wav")).unwrap();
    house.until(async |house| archived(house, 3).await).await;
    assert!(at.join("day/one.wav").exists(), "files stay");
    let (notices, repeated) = door(&house, "folder").await;
    assert_eq!((notices, repeated), (3, 0));
    house.finish().await;
}
