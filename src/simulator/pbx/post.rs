//! The ways by which a telephone system's messages leave: a POST, a queue, a stream, a file beside the recording.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::super::push::{Answered, Push};
use super::*;

/// `delay` and `retries` of mod_json_cdr, and of whoever replays its folder of what could not be sent.
const PATIENCE: Duration = Duration::from_secs(15);
const WAITS_MS: [u64; 6] = [500, 1000, 2000, 4000, 8000, 16_000];

/// How the messages of one system leave.
#[derive(Debug)]
pub enum Post {
    Http { basic: String },
    Folder { root: PathBuf },
    Broker(Box<Broker>),
}

/// A queue or stream of our own, and the exchange or subjects before it.
#[derive(Debug)]
pub struct Broker {
    pub system: System,
    pub way: Way,
    pub url: String,
    pub name: String,
    #[cfg(feature = "amqp")]
    channel: tokio::sync::Mutex<Option<amqp::Line>>,
    #[cfg(feature = "nats")]
    jetstream: tokio::sync::Mutex<Option<async_nats::jetstream::Context>>,
}

impl Post {
    pub fn new(house: &House, system: System, root: &Path) -> Self {
        let options = &house.options;
        let broker = || Broker {
            system,
            way: options.way,
            url: options.broker.clone().unwrap_or_default(),
            name: format!("sim-{}-{}", options.source, house.addr.port()),
            #[cfg(feature = "amqp")]
            channel: tokio::sync::Mutex::default(),
            #[cfg(feature = "nats")]
            jetstream: tokio::sync::Mutex::default(),
        };
        match options.way {
            Way::Http => {
                use base64::Engine as _;
                let password = Dice::named(house.seed, "cred").token(16);
                let cred = format!("cdr:{password}");
                let basic = base64::engine::general_purpose::STANDARD.encode(cred);
                Self::Http {
                    basic: format!("Basic {basic}"),
                }
            }
            Way::Folder => Self::Folder {
                root: root.to_owned(),
            },
            Way::Amqp | Way::Nats => Self::Broker(Box::new(broker())),
        }
    }

    /// What callvault's configuration says of this way.
    pub fn settings(&self, house: &House) -> String {
        match self {
            Self::Http { .. } => format!("hook_token = \"{}\"\n", house.hook_token),
            Self::Folder { root } => format!("from = \"folder\"\npath = \"{}\"\n", root.display()),
            Self::Broker(broker) if broker.way == Way::Nats => format!(
                "from = \"nats\"\nurl = \"{}\"\nstream = \"{name}\"\nqueue = \"{name}.v1.>\"\n",
                broker.url,
                name = broker.name
            ),
            Self::Broker(broker) => format!(
                "from = \"amqp\"\nurl = \"{}\"\nqueue = \"{}\"\ndecoder = \"{}\"\n",
                broker.url,
                broker.name,
                match broker.system {
                    System::Freeswitch => "freeswitch-event",
                    System::Asterisk => "asterisk-cdr-amqp",
                    System::Cdr => "cdr/1",
                }
            ),
        }
    }

    /// Sends until it is taken or the sender's patience is over.
    pub async fn send(&self, house: &House, letter: &Letter) -> Result<(), Error> {
        let waits = WAITS_MS.map(Duration::from_millis);
        let broker = match self {
            Self::Http { basic } => {
                let url = house.hook(None)?;
                let query = letter.query.as_deref();
                let make = || Push {
                    method: Method::POST,
                    url: query.map_or_else(|| url.clone(), |query| format!("{url}?{query}")),
                    mime: letter.mime,
                    headers: vec![("authorization", basic.clone())],
                    body: letter.body.clone(),
                };
                // Older versions take nothing but 200.
                let taken = |answer: &Answered| answer.status == StatusCode::OK;
                house.deliver(make, PATIENCE, &waits, taken).await;
                return Ok(());
            }
            Self::Folder { root } => {
                laid(root, letter).await.map_err(Error::Ledger)?;
                house.count_taken();
                return Ok(());
            }
            Self::Broker(broker) => broker,
        };
        let mut waits = waits.iter();
        loop {
            let sent = tokio::time::timeout(PATIENCE, broker.send(letter)).await;
            match (sent, waits.next()) {
                (Ok(Ok(())), _) => {
                    house.count_taken();
                    return Ok(());
                }
                (Ok(Err(why)), None) => return Err(Error::Broker(why)),
                (Err(_), None) => return Err(Error::Broker("no answer in time".to_owned())),
                (_, Some(wait)) => {
                    house.count_shown_again();
                    tokio::time::sleep(*wait).await;
                }
            }
        }
    }
}

/// A file: beside the recording that it tells of (`a.wav.json` or `a.json`), or by itself.
async fn laid(root: &Path, letter: &Letter) -> std::io::Result<()> {
    let even = letter.body.len().is_multiple_of(2);
    let is_copy = letter.key.ends_with(".copy");
    let path = match &letter.beside {
        Some(audio) if !is_copy && even => audio.with_extension("json"),
        Some(audio) if !is_copy => audio.with_extension("wav.json"),
        _ => root.join(format!("{}.message.json", letter.key)),
    };
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    if even {
        shelf::whole(&path, &letter.body, true).await
    } else {
        shelf::pieces(&path, &letter.body).await
    }
}

fn packed(letter: &Letter) -> Bytes {
    use std::io::Write as _;
    if !letter.packed {
        return letter.body.clone();
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Into memory: nothing there can fail.
    let _ = packer.write_all(&letter.body);
    packer.finish().unwrap_or_default().into()
}

impl Broker {
    async fn send(&self, letter: &Letter) -> Result<(), String> {
        match self.way {
            #[cfg(feature = "amqp")]
            Way::Amqp => amqp::send(self, letter).await,
            #[cfg(feature = "nats")]
            Way::Nats => nats::send(self, letter).await,
            _ => Err("this program was built without this broker's feature".to_owned()),
        }
    }
}

#[cfg(feature = "amqp")]
mod amqp {
    use lapin::options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    };
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{
        BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    };

    use super::*;

    /// A queue that nobody reads goes away after this time.
    const FORGOTTEN_AFTER_MS: i32 = 3_600_000;

    #[derive(Debug)]
    pub struct Line {
        /// Ends with the line.
        _connection: Connection,
        channel: Channel,
    }

    pub async fn send(broker: &Broker, letter: &Letter) -> Result<(), String> {
        let mut line = broker.channel.lock().await;
        // Whatever goes wrong, the next try begins with a new connection.
        let open = match line.take() {
            Some(open) => open,
            None => connect(broker).await.map_err(|error| error.to_string())?,
        };
        let mut properties = BasicProperties::default().with_content_type(letter.mime.into());
        if broker.system != System::Freeswitch {
            properties = properties.with_delivery_mode(2);
        }
        if let Some(id) = &letter.id {
            properties = properties.with_message_id(id.as_str().into());
        }
        if letter.packed {
            properties = properties.with_content_encoding("gzip".into());
        }
        let (exchange, key) = match broker.system {
            System::Asterisk => (String::new(), broker.name.clone()),
            System::Freeswitch => (exchange(broker), letter.key.clone()),
            System::Cdr => (exchange(broker), format!("cdr.v1.acme-pbx.{}", letter.key)),
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let body = packed(letter);
        let published = open
            .channel
            .basic_publish(
                exchange.as_str().into(),
                key.as_str().into(),
                options,
                &body,
                properties,
            )
            .await
            .map_err(|error| error.to_string())?;
        match published.await {
            Ok(Confirmation::Ack(None)) => {
                *line = Some(open);
                Ok(())
            }
            Ok(other) => Err(format!("not taken: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn exchange(broker: &Broker) -> String {
        format!("{}-exchange", broker.name)
    }

    /// The operator's part too: exchange, queue, and what goes from one to the other.
    async fn connect(broker: &Broker) -> Result<Line, lapin::Error> {
        let connection = Connection::connect(&broker.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        // Whoever comes first makes it, and the other takes it as it is; a refusal closes its channel.
        let looking = connection.create_channel().await?;
        let there = QueueDeclareOptions {
            passive: true,
            ..durable
        };
        let name = broker.name.as_str();
        let found = looking.queue_declare(name.into(), there, FieldTable::default());
        if found.await.is_err() {
            let mut arguments = FieldTable::default();
            arguments.insert("x-expires".into(), AMQPValue::LongInt(FORGOTTEN_AFTER_MS));
            channel
                .queue_declare(name.into(), durable, arguments)
                .await?;
        }
        if broker.system != System::Asterisk {
            let exchange = exchange(broker);
            let with_the_queue = ExchangeDeclareOptions {
                durable: true,
                auto_delete: true,
                ..ExchangeDeclareOptions::default()
            };
            channel
                .exchange_declare(
                    exchange.as_str().into(),
                    ExchangeKind::Topic,
                    with_the_queue,
                    FieldTable::default(),
                )
                .await?;
            channel
                .queue_bind(
                    broker.name.as_str().into(),
                    exchange.as_str().into(),
                    "#".into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(Line {
            _connection: connection,
            channel,
        })
    }
}

#[cfg(feature = "nats")]
mod nats {
    use async_nats::HeaderMap;
    use async_nats::jetstream::{self, stream};

    use super::*;

    const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

    pub async fn send(broker: &Broker, letter: &Letter) -> Result<(), String> {
        let context = {
            let mut known = broker.jetstream.lock().await;
            match &*known {
                Some(context) => context.clone(),
                None => known.insert(connect(broker).await?).clone(),
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", letter.mime);
        if let Some(id) = &letter.id {
            headers.insert("Nats-Msg-Id", id.as_str());
        }
        if letter.packed {
            headers.insert("Content-Encoding", "gzip");
        }
        let subject = format!("{}.v1.acme-pbx.{}", broker.name, letter.key);
        let sent = context.publish_with_headers(subject, headers, packed(letter));
        let kept = sent.await.map_err(|error| error.to_string())?;
        kept.await.map_err(|error| error.to_string())?;
        Ok(())
    }

    async fn connect(broker: &Broker) -> Result<jetstream::Context, String> {
        let client = async_nats::connect(&broker.url).await;
        let context = jetstream::new(client.map_err(|error| error.to_string())?);
        let config = stream::Config {
            name: broker.name.clone(),
            subjects: vec![format!("{}.v1.>", broker.name)],
            max_age: KEPT_FOR,
            ..stream::Config::default()
        };
        let made = context.get_or_create_stream(config).await;
        made.map_err(|error| error.to_string())?;
        Ok(context)
    }
}
