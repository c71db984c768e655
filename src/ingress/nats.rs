//! NATS JetStream: a durable consumer whose messages are acknowledged, twice, after they are durable here
//! (pbx-cdr.md, section 5.2).

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{self, StorageType};
use async_nats::jetstream::{self, AckKind, Message};
use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, HeaderMap};
use futures::StreamExt as _;
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

use crate::domain::recording::reason;
use crate::pipeline::faults::QUEUE_MISSING;
use crate::providers::cdr::settings::Settings;

use super::ways::{Inlet, Taken, pause, store_is_away};

const CONNECT_WITHIN: Duration = Duration::from_secs(15);
const ACK_WAIT: Duration = Duration::from_secs(60);
const DELIVERIES: i64 = 10;
const MAX_PENDING: i64 = 256;
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
const REPEATS_WITHIN: Duration = Duration::from_secs(120);
/// More than the headers of a copy take, in bytes; of a server with little room a quarter of it.
const HEADERS: usize = 64 << 10;
/// The largest part of a copy, in bytes: JetStream cannot read more than 32 MiB back from its own files.
const PART: usize = 8 << 20;
const DEAD_STREAM: &str = "CDR_DEAD";
const DEAD_SUBJECTS: &str = "cdr.dead.v1.>";

/// Never with the address: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {why}")]
struct Trouble {
    doing: &'static str,
    why: String,
    code: &'static str,
}

fn trouble<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Trouble {
    move |error| Trouble {
        doing,
        why: error.to_string(),
        code: reason::PROVIDER_UNREACHABLE,
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
                inlet.is_shut(error.code).await;
                tracing::warn!(source, stream = settings.stream, %error, "nothing received, trying again");
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
    let connecting = credentials(url).name(name).connect(url);
    let client = tokio::time::timeout(CONNECT_WITHIN, connecting)
        .await
        .map_err(trouble("connecting"))?
        .map_err(refused)?;
    let jetstream = jetstream::new(client);
    let consumer = consumer(&jetstream, settings).await?;
    let prefetch = usize::from(settings.prefetch);
    let messages = consumer
        .stream()
        .max_messages_per_batch(prefetch)
        .heartbeat(Duration::from_secs(5))
        .messages()
        .await
        .map_err(trouble("asking for messages"))?;
    inlet.is_open().await;
    tracing::info!(
        source = inlet.provider.name(),
        stream = settings.stream,
        "receiving"
    );
    let mut batches = messages.ready_chunks(prefetch);
    loop {
        let batch = tokio::select! {
            batch = batches.next() => batch,
            () = stop.cancelled() => return Ok(()),
        };
        let Some(batch) = batch else {
            return Err(trouble("receiving")("the consumer ended"));
        };
        *received = true;
        let handled = batch.into_iter().map(|message| async {
            let message = message.map_err(trouble("receiving"))?;
            handle(inlet, &jetstream, message).await
        });
        for handled in futures::future::join_all(handled).await {
            handled?;
        }
    }
}

async fn handle(
    inlet: &Inlet,
    jetstream: &jetstream::Context,
    message: Message,
) -> Result<(), Trouble> {
    let header = |name: &str| {
        let headers = message.headers.as_ref()?;
        Some(headers.get(name)?.as_str().to_owned())
    };
    let packed = header("Content-Encoding").is_some_and(|coding| coding == "gzip");
    let why = loop {
        match inlet.take(message.payload.clone(), packed).await {
            Taken::Kept => {
                fail::fail_point!("broker.after_commit");
                return message.double_ack().await.map_err(trouble("acknowledging"));
            }
            Taken::Poison(why) => break why,
            Taken::Later => {
                store_is_away().await;
                // The time until the server shows it again begins anew.
                message
                    .ack_with(AckKind::Progress)
                    .await
                    .map_err(trouble("holding a message"))?;
            }
        }
    };
    tracing::warn!(source = inlet.provider.name(), why, "message put aside");
    put_aside(inlet, jetstream, &message, &why).await?;
    message
        .double_ack_with(AckKind::Term)
        .await
        .map_err(trouble("ending a message"))
}

/// A copy with the reason, in a stream of its own; all of it is kept there before the message is ended.
async fn put_aside(
    inlet: &Inlet,
    jetstream: &jetstream::Context,
    message: &Message,
    why: &str,
) -> Result<(), Trouble> {
    let dead = stream::Config {
        name: DEAD_STREAM.to_owned(),
        subjects: vec![DEAD_SUBJECTS.to_owned()],
        ..stream::Config::default()
    };
    jetstream
        .get_or_create_stream(dead)
        .await
        .map_err(trouble("making the stream for what cannot be read"))?;
    let place = message
        .info()
        .map_err(trouble("reading a message's place"))?;
    let id = format!("dead-{}-{}", place.stream, place.stream_sequence);
    let room = jetstream.client().server_info().max_payload;
    let copies = copies(message, room);
    let parts = copies.len();
    for (n, (mut headers, body)) in (1..).zip(copies) {
        headers.insert("X-Reject-Reason", why);
        // The original's own would make every copy but the first a repeat.
        let id = if parts == 1 {
            id.clone()
        } else {
            headers.insert("X-Part", format!("{n}/{parts}").as_str());
            format!("{id}-{n}")
        };
        headers.insert("Nats-Msg-Id", id.as_str());
        jetstream
            .publish_with_headers(
                format!("cdr.dead.v1.{}", inlet.provider.kind()),
                headers,
                body,
            )
            .await
            .map_err(trouble("putting a message aside"))?
            .await
            .map_err(trouble("putting a message aside"))?;
    }
    Ok(())
}

/// The message once more, in as many parts as the server needs: a stream that drops what was ended has it no more,
/// so all of it must be in the copy. Headers that leave no room for ours go in front of the body, as they were sent.
fn copies(message: &Message, room: usize) -> Vec<(HeaderMap, bytes::Bytes)> {
    let reserve = HEADERS.min(room / 4);
    let told = message.headers.clone().unwrap_or_default();
    let mut block = "NATS/1.0\r\n".to_owned();
    for (name, values) in told.iter() {
        for value in values {
            block += &format!("{name}: {value}\r\n");
        }
    }
    block += "\r\n";
    let (headers, body) = if block.len() > reserve / 2 {
        let mut headers = HeaderMap::new();
        headers.insert("X-Headers-In-Body", block.len().to_string().as_str());
        let whole = [block.as_bytes(), &message.payload].concat();
        (headers, whole.into())
    } else {
        (told, message.payload.clone())
    };
    if body.len() + reserve <= room {
        return vec![(headers, body)];
    }
    let part = (room - reserve).clamp(1, PART);
    let starts = (0..body.len()).step_by(part);
    starts
        .map(|at| (headers.clone(), body.slice(at..body.len().min(at + part))))
        .collect()
}

/// What the address says of who we are: a user and a password, or a token alone. The client does not look there.
fn credentials(url: &str) -> ConnectOptions {
    let options = ConnectOptions::new();
    let Ok(url) = url::Url::parse(url) else {
        return options;
    };
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match (url.username(), url.password()) {
        ("", None) => options,
        (token, None) => options.token(plain(token)),
        (user, Some(password)) => options.user_and_password(plain(user), plain(password)),
    }
}

fn refused(error: ConnectError) -> Trouble {
    let is_refused = matches!(
        error.kind(),
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication
    );
    let mut trouble = trouble("connecting")(error);
    if is_refused {
        trouble.code = reason::CREDENTIALS_REFUSED;
    }
    trouble
}

fn no_stream(error: GetStreamError) -> Trouble {
    let is_missing = match error.kind() {
        GetStreamErrorKind::JetStream(answer) => answer.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    };
    let mut trouble = trouble("finding the stream (create = false)")(error);
    if is_missing {
        trouble.code = QUEUE_MISSING;
    }
    trouble
}

async fn consumer(
    jetstream: &jetstream::Context,
    settings: &Settings,
) -> Result<PullConsumer, Trouble> {
    let stream = if settings.create {
        let config = stream::Config {
            name: settings.stream.clone(),
            subjects: vec![settings.queue.clone()],
            storage: StorageType::File,
            max_age: KEPT_FOR,
            duplicate_window: REPEATS_WITHIN,
            ..stream::Config::default()
        };
        jetstream
            .get_or_create_stream(config)
            .await
            .map_err(trouble("finding or making the stream"))?
    } else {
        jetstream
            .get_stream(&settings.stream)
            .await
            .map_err(no_stream)?
    };
    let config = pull::Config {
        durable_name: Some(settings.consumer.clone()),
        filter_subject: settings.queue.clone(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: DELIVERIES,
        max_ack_pending: MAX_PENDING,
        ..pull::Config::default()
    };
    stream
        .get_or_create_consumer(&settings.consumer, config)
        .await
        .map_err(trouble("finding or making the consumer"))
}
