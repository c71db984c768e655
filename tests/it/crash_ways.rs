//! The program dies with a broker's messages in hand: they come again, and each call is there once.
//!
//! `cargo test --features failpoints --test it crash`; servers as in `tests/it/ways.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callvault::app::House;
use callvault::config::Config;
use callvault::db::search::Query;
use callvault::domain::clock::SystemClock;

use crate::crash::{serve, terminate};
use crate::support::free_port;
use crate::ways::{message, skipped, unique};

const CALLS: usize = 50;
/// Between the commit of a message's notice and its acknowledgement.
const POINT: &str = "broker.after_commit";

fn configure(dir: &Path, source: &str) {
    let text = format!(
        "[database]\nurl = \"sqlite://callvault.db\"\n[archive]\nkind = \"directory\"\npath = \"archive\"\n[spool]\npath = \"spool\"\n[sources.pbx]\nkind = \"cdr\"\n{source}"
    );
    std::fs::write(dir.join("callvault.toml"), text).unwrap();
}

/// Starts a program that dies at the point, waits for its death, starts another and waits for all calls.
async fn dies_and_comes_back(dir: &Path) {
    let port = free_port();
    let mut served = serve(dir, port, Some(POINT));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = served.child.try_wait().unwrap() {
            break status;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{POINT} was never reached"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(!status.success(), "{POINT} did not kill the program");
    let mut served = serve(dir, port, None);
    let config = Config::load(Some(&dir.join("callvault.toml"))).unwrap();
    let begun = Instant::now();
    loop {
        let found = match House::open(config.clone(), Arc::new(SystemClock)).await {
            Ok(house) => house.db.search(&Query::default(), None, 1000).await,
            Err(error) => panic!("{error}"),
        };
        let mut ids: Vec<String> = found
            .unwrap()
            .items
            .into_iter()
            .map(|item| item.provider_call_id)
            .collect();
        ids.sort();
        let rows = ids.len();
        ids.dedup();
        assert_eq!(rows, ids.len(), "a call is there twice");
        if rows == CALLS {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{rows} of {CALLS} calls"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    terminate(&mut served.child);
}

#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread")]
async fn dying_before_a_stream_hears_that_its_message_was_taken_loses_and_doubles_nothing() {
    let url =
        std::env::var("CALLVAULT_TEST_NATS").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connecting = tokio::time::timeout(Duration::from_secs(5), async_nats::connect(&url));
    let client = match connecting.await.map_err(|error| error.to_string()) {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return skipped("NATS", &error),
        Err(error) => return skipped("NATS", &error),
    };
    let jetstream = async_nats::jetstream::new(client);
    let id = unique();
    let wanted = async_nats::jetstream::stream::Config {
        name: format!("T{id}"),
        subjects: vec![format!("t{id}.v1.>")],
        ..Default::default()
    };
    jetstream.create_stream(wanted).await.unwrap();
    for n in 0..CALLS {
        let subject = format!("t{id}.v1.freeswitch.call.ended");
        let sent = jetstream.publish(subject, message(n).into()).await.unwrap();
        sent.await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        &format!("from = \"nats\"\nurl = \"{url}\"\nqueue = \"t{id}.v1.>\"\nstream = \"T{id}\"\n"),
    );
    dies_and_comes_back(dir.path()).await;
    jetstream.delete_stream(format!("T{id}")).await.unwrap();
}

#[cfg(feature = "amqp")]
#[tokio::test(flavor = "multi_thread")]
async fn dying_before_a_queue_hears_that_its_message_was_taken_loses_and_doubles_nothing() {
    use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
    use lapin::types::FieldTable;

    let Some((url, connection)) = crate::ways::amqp::server().await else {
        return;
    };
    let queue = format!("t-{}", unique());
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(lapin::options::ConfirmSelectOptions::default())
        .await
        .unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.as_str().into(), durable, FieldTable::default())
        .await
        .unwrap();
    for n in 0..CALLS {
        crate::ways::amqp::publish(&channel, &queue, &message(n), "").await;
    }
    channel.wait_for_confirms().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        &format!("from = \"amqp\"\nurl = \"{url}\"\nqueue = \"{queue}\"\n"),
    );
    dies_and_comes_back(dir.path()).await;
    for name in [queue.clone(), format!("{queue}.dead")] {
        let _ = channel
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await;
    }
}
