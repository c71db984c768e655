//! AMQP 0.9.1 (RabbitMQ): messages are acknowledged after they are durable here, and not before
//! (pbx-cdr.md, section 5.1).
//!
//! What a newcomer gets wrong: nothing here is lost with a connection. What was not acknowledged comes again,
//! what was stored and not acknowledged comes again as a repeat.

use std::time::Duration;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind,
    ExchangeKind,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::domain::recording::reason;
use crate::pipeline::faults::QUEUE_MISSING;
use crate::providers::cdr::settings::Settings;

use super::ways::{Inlet, Taken, pause, store_is_away};

/// A broker that does not answer within this time is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
const EXCHANGE: &str = "cdr";
const ROUTES: &str = "cdr.v1.#";
const DEAD_EXCHANGE: &str = "cdr.dlx";
/// Deliveries of one message before the broker puts it aside by itself.
const DELIVERIES: i32 = 10;
/// Answers of a broker (AMQP 0.9.1, section 1.1): no such queue, not with this password, not in this virtual host.
const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("no answer in time")]
    Silent,
    #[error("there is no queue {0:?}, and create = false")]
    NoQueue(String),
    #[error("the broker ended the consumer: was the queue deleted?")]
    Ended,
}

impl Trouble {
    fn code(&self) -> &'static str {
        match self {
            Self::Broker(error) => match answer(error) {
                Some(ACCESS_REFUSED | NOT_ALLOWED) => reason::CREDENTIALS_REFUSED,
                _ => reason::PROVIDER_UNREACHABLE,
            },
            Self::NoQueue(_) => QUEUE_MISSING,
            Self::Silent | Self::Ended => reason::PROVIDER_UNREACHABLE,
        }
    }
}

/// What the broker answered, where this is an answer of it.
fn answer(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Receives until `stop`, over any number of connections.
pub async fn run(inlet: Inlet, settings: Settings, stop: CancellationToken) {
    let source = inlet.provider.name().to_owned();
    let mut failures = 0;
    while !stop.is_cancelled() {
        let mut received = false;
        let ended = tokio::select! {
            ended = session(&inlet, &settings, &stop, &mut received) => ended,
            () = stop.cancelled() => return,
        };
        match ended {
            Ok(()) => return,
            Err(error) => {
                failures = if received { 1 } else { failures + 1 };
                inlet.is_shut(error.code()).await;
                tracing::warn!(source, queue = settings.queue, %error, "nothing received, trying again");
                pause(failures, &stop).await;
            }
        }
    }
}

async fn session(
    inlet: &Inlet,
    settings: &Settings,
    stop: &CancellationToken,
    received: &mut bool,
) -> Result<(), Trouble> {
    let url = settings.url.as_ref().map_or("", |url| url.expose());
    let name = format!("callvault {}", inlet.provider.name());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = tokio::time::timeout(CONNECT_WITHIN, Connection::connect(url, properties))
        .await
        .map_err(|_| Trouble::Silent)??;
    prepare(&connection, settings).await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(settings.prefetch, BasicQosOptions::default())
        .await?;
    let aside = connection.create_channel().await?;
    aside
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let aside = Mutex::new(aside);
    let consumer = channel
        .basic_consume(
            settings.queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    inlet.is_open().await;
    tracing::info!(
        source = inlet.provider.name(),
        queue = settings.queue,
        "receiving"
    );
    // What has come is stored together, so that messages share the database's commits.
    let mut batches = consumer.ready_chunks(usize::from(settings.prefetch));
    loop {
        let batch = tokio::select! {
            batch = batches.next() => batch.ok_or(Trouble::Ended)?,
            () = stop.cancelled() => {
                let _ = connection.close(200, "stopping".into()).await;
                return Ok(());
            }
        };
        *received = true;
        let handled = batch
            .into_iter()
            .map(|delivery| handle(inlet, settings, &aside, delivery));
        for handled in futures::future::join_all(handled).await {
            handled?;
        }
    }
}

async fn handle(
    inlet: &Inlet,
    settings: &Settings,
    aside: &Mutex<Channel>,
    delivery: Result<Delivery, lapin::Error>,
) -> Result<(), Trouble> {
    let mut delivery = delivery?;
    let coding = delivery.properties.content_encoding();
    let packed = coding
        .as_ref()
        .is_some_and(|coding| coding.as_str().eq_ignore_ascii_case("gzip"));
    let body = bytes::Bytes::from(std::mem::take(&mut delivery.data));
    let why = loop {
        match inlet.take(body.clone(), packed).await {
            Taken::Kept => {
                fail::fail_point!("broker.after_commit");
                delivery.ack(BasicAckOptions::default()).await?;
                return Ok(());
            }
            Taken::Poison(why) => break why,
            Taken::Later => store_is_away().await,
        }
    };
    tracing::warn!(source = inlet.provider.name(), why, "message put aside");
    // One copy at a time: they may be large.
    let aside = aside.lock().await;
    if put_aside(settings, &aside, &delivery, &body, &why).await {
        delivery.ack(BasicAckOptions::default()).await?;
    } else {
        // The queue's own dead-letter exchange, where it has one.
        delivery
            .reject(BasicRejectOptions { requeue: false })
            .await?;
    }
    Ok(())
}

/// A copy with the reason, confirmed by the broker.
async fn put_aside(
    settings: &Settings,
    aside: &Channel,
    delivery: &Delivery,
    body: &[u8],
    why: &str,
) -> bool {
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    headers.insert("x-reject-reason".into(), AMQPValue::LongString(why.into()));
    // Of the sender's properties only what says how to read the body: another's `user_id` closes the channel,
    // an `expiration` would let the copy die, and copies to further queues are none of ours to send.
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    if let Some(kind) = delivery.properties.content_type() {
        properties = properties.with_content_type(kind.clone());
    }
    if let Some(coding) = delivery.properties.content_encoding() {
        properties = properties.with_content_encoding(coding.clone());
    }
    let mut kept = FieldTable::default();
    for (name, value) in &headers {
        if !["CC", "BCC"].contains(&name.as_str()) {
            kept.insert(name.clone(), value.clone());
        }
    }
    let properties = properties.with_headers(kept);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let published = aside
        .basic_publish(
            "".into(),
            dead(&settings.queue).into(),
            options,
            body,
            properties,
        )
        .await;
    match published {
        // A message that no queue takes comes back within the confirmation.
        Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(None))),
        Err(_) => false,
    }
}

/// The queue of what was put aside.
fn dead(queue: &str) -> String {
    match queue.strip_suffix(".ingest") {
        Some(stem) => format!("{stem}.dead"),
        None => format!("{queue}.dead"),
    }
}

/// Finds the queue, or makes it: a queue that exists is taken as it is, whatever its arguments.
async fn prepare(connection: &Connection, settings: &Settings) -> Result<(), Trouble> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let there = QueueDeclareOptions {
        passive: true,
        ..durable
    };
    let looking = connection.create_channel().await?;
    let found = looking
        .queue_declare(settings.queue.as_str().into(), there, FieldTable::default())
        .await;
    match found {
        Ok(_) if settings.create => {
            // Only a place for what cannot be read.
            let _ = looking
                .queue_declare(dead(&settings.queue).into(), durable, FieldTable::default())
                .await;
            return Ok(());
        }
        Ok(_) => return Ok(()),
        Err(error) if answer(&error) != Some(NOT_FOUND) => return Err(error.into()),
        Err(_) if !settings.create => return Err(Trouble::NoQueue(settings.queue.clone())),
        Err(_) => {}
    }
    // The broker closed the channel with its answer.
    let channel = connection.create_channel().await?;
    let exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    for (name, kind) in [
        (EXCHANGE, ExchangeKind::Topic),
        (DEAD_EXCHANGE, ExchangeKind::Fanout),
    ] {
        channel
            .exchange_declare(name.into(), kind, exchange, FieldTable::default())
            .await?;
    }
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString(DEAD_EXCHANGE.into()),
    );
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERIES));
    channel
        .queue_declare(settings.queue.as_str().into(), durable, arguments)
        .await?;
    channel
        .queue_declare(dead(&settings.queue).into(), durable, FieldTable::default())
        .await?;
    for (queue, exchange, routes) in [
        (settings.queue.clone(), EXCHANGE, ROUTES),
        (dead(&settings.queue), DEAD_EXCHANGE, ""),
    ] {
        channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                routes.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}
