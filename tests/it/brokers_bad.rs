//! Brokers as they are found: away, with other passwords, without the queue, impatient, full of what nobody can read.
//!
//! Failure: something that can be read is not taken in the end, or nobody is told why nothing comes. Not a failure:
//! how long it takes until the next try.

use std::time::Duration;

use serde_json::Value;

use crate::support::brokers::{Broker, Kind};
use crate::support::house::TestHouse;
use crate::ways::{calls, house, message};

/// The alarms of the status, each with its code and text.
async fn alarms(house: &TestHouse) -> Vec<(String, String)> {
    let (_, out, _) = crate::import::callvault(house, &["--json", "status"]).await;
    let status: Value = serde_json::from_str(&out).unwrap();
    let text = |alarm: &Value, key: &str| alarm[key].as_str().unwrap().to_owned();
    let alarms = status["alarms"].as_array().unwrap().iter();
    alarms
        .map(|alarm| {
            let says = format!("{}; {}", text(alarm, "what"), text(alarm, "do"));
            (text(alarm, "code"), says)
        })
        .collect()
}

/// Waits for this alarm, whose text must hold `says`.
async fn until_alarm(house: &TestHouse, code: &str, says: &str) {
    let text = house
        .until(async |house| {
            let alarms = alarms(house).await;
            let found = alarms.iter().find(|alarm| alarm.0 == code);
            found
                .map(|alarm| alarm.1.clone())
                .ok_or_else(|| format!("no {code} in {alarms:?}"))
        })
        .await;
    assert!(text.contains(says), "{text}");
}

async fn until_quiet(house: &TestHouse) {
    house
        .until(async |house| match alarms(house).await {
            alarms if alarms.is_empty() => Ok(()),
            alarms => Err(format!("{alarms:?}")),
        })
        .await;
}

/// How long reception has been failing for this reason.
async fn until_failing(house: &TestHouse, code: &str) {
    house
        .until(async |house| {
            let faults = house.house().db.faults().await.unwrap();
            let found = faults
                .iter()
                .any(|fault| fault.doing == "receive" && fault.code == code);
            found.then_some(()).ok_or_else(|| format!("{faults:?}"))
        })
        .await;
}

async fn until_calls(house: &TestHouse, expected: usize) {
    house
        .until(async |house| match calls(house).await {
            found if found == expected => Ok(()),
            found => Err(format!("{found} of {expected} calls")),
        })
        .await;
}

/// Messages that nobody can use, each with the reason that it is put aside with.
fn unusable(largest: usize) -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let elsewhere = String::from_utf8(message(7)).unwrap();
    let elsewhere = elsewhere.replace("\"pbx\"", "\"elsewhere\"");
    let mut latin = message(8);
    let at = latin.len() / 2;
    latin[at] = 0xe9;
    vec![
        (vec![b' '; largest], "", "too_large"),
        (message(9), "gzip", "not_gzip"),
        (elsewhere.into_bytes(), "", "unknown_account"),
        (latin, "", "not_json"),
        (b"\x1f\x8b\x08\x00".to_vec(), "gzip", "not_gzip"),
    ]
}

/// The most memory that a process had, in MB.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kb: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kb / 1024
}

/// A program of its own that receives, so that its memory is its own; its index is looked at through `house`.
fn serve(house: &TestHouse) -> tokio::process::Child {
    tokio::process::Command::new(crate::support::house::program())
        .arg("--config")
        .arg(house.config_file())
        .arg("worker")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[cfg(feature = "amqp")]
mod amqp {
    use lapin::options::{
        BasicGetOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    };
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{Channel, Connection, ConnectionProperties};

    use super::*;
    use crate::ways::Wire;
    use crate::ways::amqp::{count, publish};

    async fn channel(url: &str) -> (Connection, Channel) {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        let connection = connection.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let confirm = ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.unwrap();
        (connection, channel)
    }

    async fn make(channel: &Channel, queue: &str) {
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let made = channel.queue_declare(queue.into(), durable, FieldTable::default());
        made.await.unwrap();
    }

    async fn delete(channel: &Channel, queue: &str) {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await.unwrap();
    }

    fn source(url: &str, more: &str) -> String {
        format!("[sources.pbx]\nkind = \"cdr\"\nfrom = \"amqp\"\nurl = \"{url}\"\n{more}")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_comes_later_and_a_password_that_becomes_right_are_waited_for() {
        let Some(mut broker) = Broker::find(Kind::RabbitMq, "") else {
            return;
        };
        let house = house(&source(&broker.url_of("pbx", "se%2Fcret"), "")).await;
        until_failing(&house, "provider_unreachable").await;
        broker.start().await;
        until_alarm(&house, "credentials_refused", "user or password").await;
        broker.ctl(&["add_user", "pbx", "se/cret"]);
        // The password is right now, and the virtual host still closed to this user.
        tokio::time::sleep(Duration::from_secs(3)).await;
        until_alarm(&house, "credentials_refused", "rights at the broker").await;
        broker.ctl(&["set_permissions", "pbx", ".*", ".*", ".*"]);
        until_quiet(&house).await;
        let (_connection, channel) = channel(&broker.url()).await;
        publish(&channel, "cdr.ingest", &message(1), "").await;
        until_calls(&house, 1).await;
        house.finish().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_queue_that_is_missing_or_deleted_is_told_of_and_waited_for_or_made() {
        let Some(broker) = Broker::start_new(Kind::RabbitMq, "").await else {
            return;
        };
        let url = broker.url();
        let (_connection, channel) = channel(&url).await;
        let waits = house(&source(&url, "queue = \"theirs\"\ncreate = false\n")).await;
        let makes = house(&source(&url, "queue = \"ours\"\n")).await;
        until_alarm(&waits, "queue_missing", "create = false").await;
        make(&channel, "theirs").await;
        publish(&channel, "theirs", &message(1), "").await;
        until_calls(&waits, 1).await;
        until_quiet(&waits).await;
        // Deleted under our hands.
        delete(&channel, "theirs").await;
        until_alarm(&waits, "queue_missing", "create = false").await;
        make(&channel, "theirs").await;
        publish(&channel, "theirs", &message(2), "").await;
        until_calls(&waits, 2).await;
        until_quiet(&waits).await;
        let is_there = async |_: &TestHouse| count(&url, "ours").await.map(|_| ());
        makes.until(is_there).await;
        delete(&channel, "ours").await;
        makes.until(is_there).await;
        publish(&channel, "ours", &message(3), "").await;
        until_calls(&makes, 1).await;
        until_quiet(&makes).await;
        waits.finish().await;
        makes.finish().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_loses_patience_with_a_consumer_gives_its_messages_again() {
        let Some(mut broker) = Broker::find(Kind::RabbitMq, "consumer_timeout = 1000\n") else {
            return;
        };
        // It looks at the time once a minute otherwise.
        broker.advanced = "[{rabbit, [{channel_tick_interval, 1000}]}].\n".to_owned();
        broker.start().await;
        let wire = Wire::to(format!("127.0.0.1:{}", broker.port)).await;
        let url = broker
            .url()
            .replace(&broker.port.to_string(), &wire.port.to_string());
        let house = house(&source(&url, "prefetch = 5\n")).await;
        let (_connection, channel) = channel(&broker.url()).await;
        house
            .until(async |_| count(&broker.url(), "cdr.ingest").await.map(|_| ()))
            .await;
        publish(&channel, "cdr.ingest", &message(0), "").await;
        until_calls(&house, 1).await;
        // What we say does not get through, what the broker sends does.
        wire.hold(true);
        for n in 1..50 {
            publish(&channel, "cdr.ingest", &message(n), "").await;
        }
        until_calls(&house, 6).await;
        let closed = || {
            let log = broker.log();
            log.contains("PRECONDITION_FAILED") || log.contains("Timeout value used")
        };
        house
            .until(async |_| {
                closed()
                    .then_some(())
                    .ok_or("the channel is open".to_owned())
            })
            .await;
        wire.hold(false);
        until_calls(&house, 50).await;
        house
            .until(async |_| match count(&broker.url(), "cdr.ingest").await {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?} messages are left")),
            })
            .await;
        until_quiet(&house).await;
        house.finish().await;
    }

    async fn reasons(channel: &Channel, queue: &str) -> Vec<String> {
        let mut reasons = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(aside) = channel.basic_get(queue.into(), options).await.unwrap() {
            let headers = aside.delivery.properties.headers().clone().unwrap();
            match &headers.inner()["x-reject-reason"] {
                AMQPValue::LongString(why) => {
                    reasons.push(String::from_utf8_lossy(why.as_bytes()).into_owned());
                }
                other => panic!("{other:?}"),
            }
        }
        reasons
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_can_use_is_put_aside_and_what_follows_is_taken() {
        let Some(broker) = Broker::start_new(Kind::RabbitMq, "").await else {
            return;
        };
        let url = broker.url();
        let mut house = house(&source(&url, "")).await;
        // Another process receives, so that its memory can be looked at.
        house.stop().await;
        let child = serve(&house);
        let (_connection, channel) = channel(&url).await;
        loop {
            if count(&url, "cdr.ingest").await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let unusable = unusable(60 << 20);
        for (body, coding, _) in &unusable {
            publish(&channel, "cdr.ingest", body, coding).await;
            publish(&channel, "cdr.ingest", &message(1), "").await;
        }
        // Three more of the largest at once.
        for _ in 0..3 {
            publish(&channel, "cdr.ingest", &unusable[0].0, "").await;
        }
        publish(&channel, "cdr.ingest", &message(2), "").await;
        channel.wait_for_confirms().await.unwrap();
        let begun = std::time::Instant::now();
        while count(&url, "cdr.dead").await != Ok(unusable.len() as u32 + 3) {
            assert!(
                begun.elapsed() < Duration::from_secs(240),
                "{:?}",
                count(&url, "cdr.dead").await
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Nothing is in anybody's hands any more.
        while !broker
            .ctl(&["list_queues", "name", "messages"])
            .contains("cdr.ingest\t0")
        {
            assert!(begun.elapsed() < Duration::from_secs(240));
        }
        let most = most_memory(child.id().unwrap());
        println!("{most} MB");
        assert!((20..1000).contains(&most), "{most} MB");
        drop(child);
        house.start_again().await;
        until_calls(&house, 2).await;
        let mut expected: Vec<&str> = unusable.iter().map(|(.., why)| *why).collect();
        expected.extend(["too_large"; 3]);
        expected.sort_unstable();
        let mut found = reasons(&channel, "cdr.dead").await;
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(count(&url, "cdr.ingest").await, Ok(0));
        house.finish().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_that_nothing_takes_is_held_and_uses_up_no_delivery() {
        let Some(disk) = crate::support::disk::SmallDisk::mount("8m") else {
            return;
        };
        let Some(broker) = Broker::start_new(Kind::RabbitMq, "").await else {
            return;
        };
        let url = broker.url();
        let (_connection, channel) = channel(&url).await;
        // One delivery beyond the first, and a message is dropped.
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1));
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let made = channel.queue_declare("strict".into(), durable, arguments);
        made.await.unwrap();
        let mut house = house(&source(&url, "queue = \"strict\"\n")).await;
        house.stop().await;
        // Database and journal on a disk that is then full.
        let text = std::fs::read_to_string(house.config_file()).unwrap();
        let at = disk.path().display();
        let text = text
            .replace(
                "sqlite://callvault.db",
                &format!("sqlite://{at}/callvault.db"),
            )
            .replace("path = \"spool\"", &format!("path = \"{at}/spool\""));
        house.start_with(&text).await;
        publish(&channel, "strict", &message(0), "").await;
        until_calls(&house, 1).await;
        let fill = disk.path().join("fill");
        let mut filler = std::fs::File::create(&fill).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
        for n in 1..40 {
            publish(&channel, "strict", &message(n), "").await;
        }
        channel.wait_for_confirms().await.unwrap();
        // Longer than three tries.
        tokio::time::sleep(Duration::from_secs(17)).await;
        std::fs::remove_file(&fill).unwrap();
        drop(filler);
        until_calls(&house, 40).await;
        house.stop().await;
    }
}

#[cfg(feature = "nats")]
mod nats {
    use async_nats::jetstream::{self, Context};

    use super::*;

    /// JetStream takes more, and cannot read more than 32 MiB back from its own files.
    const LARGEST: usize = 30 << 20;

    fn source(url: &str, more: &str) -> String {
        format!("[sources.pbx]\nkind = \"cdr\"\nfrom = \"nats\"\nurl = \"{url}\"\n{more}")
    }

    async fn jetstream(url: &str) -> Context {
        jetstream::new(async_nats::connect(url).await.unwrap())
    }

    async fn publish(jetstream: &Context, body: Vec<u8>, coding: &str) {
        let mut headers = async_nats::HeaderMap::new();
        if !coding.is_empty() {
            headers.insert("Content-Encoding", coding);
        }
        let subject = "cdr.v1.freeswitch.call.ended";
        let sent = jetstream.publish_with_headers(subject, headers, body.into());
        sent.await.unwrap().await.unwrap();
    }

    async fn make(jetstream: &Context) {
        let config = jetstream::stream::Config {
            name: "CDR".to_owned(),
            subjects: vec!["cdr.v1.>".to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(config).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_comes_later_and_a_password_that_becomes_right_are_waited_for() {
        let user =
            |name: &str| format!("authorization {{ user: {name}, password: \"se/cret\" }}\n");
        let Some(mut broker) = Broker::find(Kind::Nats, &user("other")) else {
            return;
        };
        let url = broker.url_of("pbx", "se%2Fcret");
        let house = house(&source(&url, "")).await;
        until_failing(&house, "provider_unreachable").await;
        broker.start().await;
        until_alarm(&house, "credentials_refused", "user or password").await;
        broker.kill();
        broker.settings = user("pbx");
        broker.start().await;
        until_quiet(&house).await;
        let options = async_nats::ConnectOptions::new();
        let options = options.user_and_password("pbx".to_owned(), "se/cret".to_owned());
        let client = options.connect(broker.url()).await.unwrap();
        publish(&jetstream::new(client), message(1), "").await;
        until_calls(&house, 1).await;
        house.finish().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_is_missing_or_deleted_is_told_of_and_waited_for() {
        let Some(broker) = Broker::start_new(Kind::Nats, "").await else {
            return;
        };
        let url = broker.url();
        let jetstream = jetstream(&url).await;
        let house = house(&source(&url, "create = false\n")).await;
        until_alarm(&house, "queue_missing", "create = false").await;
        make(&jetstream).await;
        publish(&jetstream, message(1), "").await;
        until_calls(&house, 1).await;
        until_quiet(&house).await;
        // Deleted under our hands, then the consumer alone.
        jetstream.delete_stream("CDR").await.unwrap();
        until_alarm(&house, "queue_missing", "create = false").await;
        make(&jetstream).await;
        publish(&jetstream, message(2), "").await;
        until_calls(&house, 2).await;
        let stream = jetstream.get_stream("CDR").await.unwrap();
        stream.delete_consumer("cdr-ingest").await.unwrap();
        publish(&jetstream, message(3), "").await;
        until_calls(&house, 3).await;
        until_quiet(&house).await;
        house.finish().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_can_use_is_put_aside_and_what_follows_is_taken() {
        let limit = format!("max_payload: {}\n", LARGEST + 1000);
        let Some(broker) = Broker::start_new(Kind::Nats, &limit).await else {
            return;
        };
        let url = broker.url();
        let jetstream = jetstream(&url).await;
        // A stream that forgets what was ended: the copy is all that is left of it.
        let queue = jetstream::stream::Config {
            name: "CDR".to_owned(),
            subjects: vec!["cdr.v1.>".to_owned()],
            retention: jetstream::stream::RetentionPolicy::WorkQueue,
            ..Default::default()
        };
        jetstream.create_stream(queue).await.unwrap();
        let house = house(&source(&url, "")).await;
        let mut unusable = unusable(LARGEST);
        // Headers that leave no room for one more.
        let long = "x".repeat(40 << 10);
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("X-Long", long.as_str());
        let sent = jetstream.publish_with_headers("cdr.v1.x.call.ended", headers, "event=1".into());
        sent.await.unwrap().await.unwrap();
        for (n, (body, coding, _)) in unusable.iter().enumerate() {
            publish(&jetstream, body.clone(), coding).await;
            publish(&jetstream, message(n % 2), "").await;
        }
        unusable.push((b"event=1".to_vec(), "", "not_json"));
        until_calls(&house, 2).await;
        house
            .until(async |_| {
                let stream = jetstream.get_stream("CDR").await.unwrap();
                let info = stream.cached_info().state.messages;
                (info == 0).then_some(()).ok_or(format!("{info} are left"))
            })
            .await;
        let mut dead = jetstream.get_stream("CDR_DEAD").await.unwrap();
        let kept = dead.info().await.unwrap().state.messages;
        // Parts follow each other, whatever is put aside in between.
        let mut aside: std::collections::BTreeMap<String, (String, Vec<u8>)> = Default::default();
        for n in 1..=kept {
            let part = dead.get_raw_message(n).await.unwrap();
            let header = |name: &str| {
                part.headers
                    .get(name)
                    .map(|value| value.as_str().to_owned())
            };
            let id = header("Nats-Msg-Id").unwrap();
            let id = match header("X-Part") {
                Some(place) => {
                    let (n, _) = place.split_once('/').unwrap();
                    id.strip_suffix(&format!("-{n}")).unwrap().to_owned()
                }
                None => id,
            };
            let (_, whole) = aside
                .entry(id)
                .or_insert((header("X-Reject-Reason").unwrap(), Vec::new()));
            let from = match header("X-Headers-In-Body") {
                Some(bytes) if whole.is_empty() => {
                    let from = bytes.parse::<usize>().unwrap();
                    assert!(String::from_utf8_lossy(&part.payload[..from]).contains(&long));
                    from
                }
                _ => 0,
            };
            whole.extend_from_slice(&part.payload[from..]);
        }
        println!("{kept} parts of {} messages", aside.len());
        let mut found: Vec<_> = aside.into_values().collect();
        let mut expected: Vec<_> = unusable
            .into_iter()
            .map(|(body, _, why)| (why.to_owned(), body))
            .collect();
        found.sort();
        expected.sort();
        let short = |all: &[(String, Vec<u8>)]| -> Vec<(String, usize)> {
            all.iter()
                .map(|(why, body)| (why.clone(), body.len()))
                .collect()
        };
        assert_eq!(short(&found), short(&expected));
        assert!(found == expected, "other bytes than were sent");
        house
            .until(async |_| {
                let stream = jetstream.get_stream("CDR").await.unwrap();
                let info = stream.consumer_info("cdr-ingest").await.unwrap();
                match (info.num_pending, info.num_ack_pending) {
                    (0, 0) => Ok(()),
                    left => Err(format!("{left:?} messages are left")),
                }
            })
            .await;
        house.finish().await;
    }
}
