//! A staged network for the guarded client: names and addresses are staged, the sockets are real.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use callvault::domain::clock::{ManualClock, Timestamp};
use callvault::providers::http::{
    FetchError, Fetched, GuardPolicy, GuardedClient, Limits, Network,
};
use callvault::providers::settings::{HostPattern, HttpLinks};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const PUBLIC: &str = "47.97.242.13";

#[derive(Debug, Default)]
pub struct World {
    /// Answers of the resolver by name, one after the other; the last one stays.
    pub names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    /// Where a connection to an address really goes.
    pub listeners: Mutex<HashMap<SocketAddr, SocketAddr>>,
    pub connected: Mutex<Vec<String>>,
    /// Heads of the requests that came, in order.
    pub heads: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Network for World {
    async fn resolve(&self, name: &str, _port: u16) -> io::Result<Vec<IpAddr>> {
        let mut names = self.names.lock().unwrap();
        let answers = names
            .get_mut(name)
            .ok_or_else(|| io::Error::other("no such name"))?;
        if answers.len() > 1 {
            Ok(answers.remove(0))
        } else {
            Ok(answers[0].clone())
        }
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connected.lock().unwrap().push(to.to_string());
        let real = self.listeners.lock().unwrap().get(&to).copied();
        match real {
            Some(real) => TcpStream::connect(real).await,
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// What a staged server does after it has read the head of a request.
#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    Stall,
    Reset,
}

pub fn say(text: &str) -> Vec<Step> {
    vec![Step::Send(text.as_bytes().to_vec())]
}

pub fn ok(body: &str) -> Vec<Step> {
    say(&format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

pub fn redirect(to: &str) -> Vec<Step> {
    say(&format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
    ))
}

impl World {
    pub fn name(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers
            .iter()
            .map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect())
            .collect();
        self.names.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// Listens at `at` and answers every request by what `script` says to its target.
    pub async fn serve(
        &self,
        at: &str,
        script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) {
        self.serve_with(at, None, script).await;
    }

    pub async fn serve_with(
        &self,
        at: &str,
        tls: Option<tokio_rustls::TlsAcceptor>,
        script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let real = listener.local_addr().unwrap();
        self.listeners
            .lock()
            .unwrap()
            .insert(at.parse().unwrap(), real);
        let heads = self.heads.clone();
        let script = Arc::new(script);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (heads, script, tls) = (heads.clone(), script.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => {
                            let raw = stream;
                            play(raw, &heads, &*script, |raw| {
                                raw.set_zero_linger().unwrap();
                            })
                            .await;
                        }
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                play(stream, &heads, &*script, |_| {}).await;
                            }
                        }
                    }
                });
            }
        });
    }

    pub fn connected(&self) -> Vec<String> {
        self.connected.lock().unwrap().clone()
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

pub async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    heads: &Mutex<Vec<String>>,
    script: &(dyn Fn(&str) -> Vec<Step> + Send + Sync),
    reset: impl Fn(&S),
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => head.extend_from_slice(&buffer[..n]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.lock().unwrap().push(head);
    for step in script(&target) {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::Stall => std::future::pending().await,
            Step::Reset => return reset(&stream),
        }
    }
    let _ = stream.shutdown().await;
}

pub fn client(world: &Arc<World>) -> GuardedClient {
    let clock = ManualClock::at(Timestamp::parse("2024-03-05T00:00:00Z").unwrap());
    GuardedClient::with_network(clock, world.clone())
}

pub fn public() -> GuardPolicy {
    GuardPolicy {
        allow_hosts: None,
        http_links: HttpLinks::Allow,
        allow_private_addresses: false,
    }
}

pub fn only(hosts: &[&str]) -> GuardPolicy {
    GuardPolicy {
        allow_hosts: Some(
            hosts
                .iter()
                .map(|h| HostPattern::parse(h).unwrap())
                .collect(),
        ),
        ..public()
    }
}

/// Patient where the test is not about time: a busy machine must not fail it.
pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(20),
        ..Limits::media(1 << 20)
    }
}

pub async fn fetch(
    world: &Arc<World>,
    policy: &GuardPolicy,
    url: &str,
) -> Result<Fetched, FetchError> {
    client(world).fetch(policy, url, &[], None, &limits()).await
}

pub async fn whole(fetched: Fetched) -> Result<String, FetchError> {
    let bytes = fetched.body.collect().await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

pub fn target_of(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

fn pem(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// A server for `files.example`, and a client configuration that trusts its authority.
pub fn tls() -> (tokio_rustls::TlsAcceptor, Arc<rustls::ClientConfig>) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(&pem("files.example.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&pem("files.example.key")).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(ring.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&pem("ca.pem")).unwrap())
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client))
}
