//! Brokers that are killed while messages flow.
//!
//! Failure: a message that the broker confirmed is not here at the end, or a call is here twice. Not a failure: how
//! often a message comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::brokers::{Broker, Kind};
use crate::support::house::TestHouse;
use crate::ways::{calls, door, house, message};

const CALLS: usize = 5000;
const CHUNK: usize = 50;
const KILLS: usize = 2;

/// How far publisher and killer are.
#[derive(Default)]
struct Flow {
    sent: AtomicUsize,
    killed: AtomicUsize,
}

/// Each call's message, and one more that came before, in chunks that are sent again until the broker took them
/// whole; then repeats, until the last kill is over. Gives how often a chunk was sent again.
async fn publish(
    flow: &Flow,
    mut send: impl AsyncFnMut(&[Vec<u8>]) -> Result<(), String>,
) -> usize {
    let mut again = 0;
    for chunk in 0.. {
        let is_new = chunk < CALLS / CHUNK;
        if !is_new && flow.killed.load(Ordering::SeqCst) == KILLS {
            break;
        }
        let first = (chunk * CHUNK) % CALLS;
        let messages: Vec<Vec<u8>> = (first..first + CHUNK)
            .flat_map(|n| [message(n), message(n / 2)])
            .collect();
        loop {
            // A confirmation that never comes is none.
            let sending = tokio::time::timeout(Duration::from_secs(20), send(&messages));
            match sending.await {
                Ok(Ok(())) => break,
                Ok(Err(_)) | Err(_) => again += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        flow.sent.fetch_add(CHUNK, Ordering::SeqCst);
        let rest = if is_new { 20 } else { 200 };
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }
    again
}

/// Kills the broker while messages flow, both from the publisher and to us.
async fn kill(broker: &mut Broker, house: &TestHouse, flow: &Flow) {
    for part in 1..=KILLS {
        house
            .until(async |house| {
                let (sent, came) = (flow.sent.load(Ordering::SeqCst), calls(house).await);
                if sent >= CALLS * part / 4 && came >= CALLS * part / 8 {
                    Ok(())
                } else {
                    Err(format!("{sent} sent, {came} came"))
                }
            })
            .await;
        broker.kill();
        let (sent, came) = (flow.sent.load(Ordering::SeqCst), calls(house).await);
        println!("killed when {sent} were sent and {came} were here");
        assert!(came < CALLS, "all was here before the broker was killed");
        broker.start().await;
        flow.killed.fetch_add(1, Ordering::SeqCst);
    }
}

async fn until_all_here(house: &TestHouse) {
    house
        .until(async |house| match calls(house).await {
            found if found == CALLS => Ok(()),
            found => Err(format!("{found} of {CALLS} calls")),
        })
        .await;
    let (stored, repeated) = door(house, "queue").await;
    println!("{stored} stored, {repeated} repeated");
    assert_eq!(stored as usize, CALLS);
    assert!(repeated as usize >= CALLS);
}

#[cfg(feature = "amqp")]
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_killed_twice_among_ten_thousand_messages_loses_and_doubles_none() {
    use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
    use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

    use crate::ways::amqp::count;

    let Some(mut broker) = Broker::start_new(Kind::RabbitMq, "").await else {
        return;
    };
    let url = broker.url();
    let house = house(&format!(
        "[sources.pbx]\nkind = \"cdr\"\nfrom = \"amqp\"\nurl = \"{url}\"\n"
    ))
    .await;
    let queue = "cdr.ingest";
    house
        .until(async |_| count(&url, queue).await.map(|_| ()))
        .await;
    let flow = Flow::default();
    let mut open: Option<(Connection, Channel)> = None;
    let send = async |messages: &[Vec<u8>]| {
        if open.is_none() {
            let connection = Connection::connect(&url, ConnectionProperties::default()).await;
            let connection = connection.map_err(|error| error.to_string())?;
            let channel = connection.create_channel().await;
            let channel = channel.map_err(|error| error.to_string())?;
            let confirm = channel
                .confirm_select(ConfirmSelectOptions::default())
                .await;
            confirm.map_err(|error| error.to_string())?;
            open = Some((connection, channel));
        }
        // Whatever goes wrong, the next try has a connection of its own.
        let (connection, channel) = open.take().unwrap();
        let mut confirms = Vec::new();
        for body in messages {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let confirm = channel
                .basic_publish("".into(), queue.into(), options, body, properties)
                .await;
            confirms.push(confirm.map_err(|error| error.to_string())?);
        }
        for confirm in confirms {
            match confirm.await {
                Ok(Confirmation::Ack(None)) => {}
                other => return Err(format!("{other:?}")),
            }
        }
        open = Some((connection, channel));
        Ok(())
    };
    let (again, ()) = tokio::join!(publish(&flow, send), kill(&mut broker, &house, &flow));
    assert!(
        again >= 2,
        "the publisher did not notice that the broker was killed"
    );
    until_all_here(&house).await;
    house
        .until(async |_| match count(&url, queue).await {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?} messages are left")),
        })
        .await;
    assert_eq!(count(&url, "cdr.dead").await, Ok(0));
    house.finish().await;
}

#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread")]
async fn nats_killed_twice_among_ten_thousand_messages_loses_and_doubles_none() {
    let Some(mut broker) = Broker::start_new(Kind::Nats, "").await else {
        return;
    };
    let url = broker.url();
    let house = house(&format!(
        "[sources.pbx]\nkind = \"cdr\"\nfrom = \"nats\"\nurl = \"{url}\"\n"
    ))
    .await;
    let client = async_nats::connect(&url).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    house
        .until(async |_| {
            let stream = jetstream.get_stream("CDR").await;
            stream.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
    let flow = Flow::default();
    let send = async |messages: &[Vec<u8>]| {
        let mut acks = Vec::new();
        for body in messages {
            let sent = jetstream
                .publish("cdr.v1.freeswitch.call.ended", body.clone().into())
                .await;
            acks.push(sent.map_err(|error| error.to_string())?);
        }
        for ack in acks {
            ack.await.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let (again, ()) = tokio::join!(publish(&flow, send), kill(&mut broker, &house, &flow));
    println!("{again} chunks were sent again");
    until_all_here(&house).await;
    house
        .until(async |_| {
            let stream = jetstream.get_stream("CDR").await;
            let stream = stream.map_err(|error| error.to_string())?;
            let info = stream.consumer_info("cdr-ingest").await;
            let info = info.map_err(|error| error.to_string())?;
            match (info.num_pending, info.num_ack_pending) {
                (0, 0) => Ok(()),
                left => Err(format!("{left:?} messages are left")),
            }
        })
        .await;
    house.finish().await;
}
