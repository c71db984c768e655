//! A wire between the program and PostgreSQL that can be cut, silenced, slowed and made to lie about what arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Fine,
    /// Every connection is reset, old and new.
    Reset,
    /// As if the server had lost its power: bytes are taken and never arrive, and the connections of this time stay
    /// silent for ever.
    BlackHole,
    /// Every piece arrives so much later.
    Slow(Duration),
    /// Of every so many commits one is done by the server and its answer is lost with the connection.
    CutAfterCommit(usize),
    /// Of every so many answers of the server one is cut in its middle, and the connection reset.
    Truncate(usize),
    /// Resets the connection before its piece with this number (from the client) is passed on; counted over all.
    CutBefore(usize),
}

/// Ends with the test.
pub struct Wire {
    mood: watch::Sender<Mood>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicUsize,
    answers: AtomicUsize,
    asked: AtomicUsize,
    cuts: AtomicUsize,
}

impl Wire {
    /// A wire to where `url` points, and the address to use instead.
    pub async fn to(url: &str) -> (Self, String) {
        let parsed = url::Url::parse(url).unwrap();
        let server = (
            parsed.host_str().unwrap().to_owned(),
            parsed.port().unwrap_or(5432),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (mood, seen) = watch::channel(Mood::Fine);
        let counters = Arc::new(Counters::default());
        let counted = counters.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, seen, counted) = (server.clone(), seen.clone(), counted.clone());
                tokio::spawn(async move { carry(client, server, seen, &counted).await });
            }
        });
        let mut through = parsed;
        through.set_host(Some("127.0.0.1")).unwrap();
        through.set_port(Some(at.port())).unwrap();
        // What goes over the wire must be readable here.
        through.set_query(Some("sslmode=disable"));
        let wire = Self { mood, counters };
        (wire, through.to_string())
    }

    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Connections that were cut by `CutAfterCommit`, `Truncate` or `CutBefore`.
    pub fn cuts(&self) -> usize {
        self.counters.cuts.load(Ordering::SeqCst)
    }

    /// Counts pieces from the client anew.
    pub fn count_anew(&self) {
        self.counters.asked.store(0, Ordering::SeqCst);
    }
}

async fn carry(
    mut client: TcpStream,
    server: (String, u16),
    mut mood: watch::Receiver<Mood>,
    counters: &Counters,
) {
    let reset = |client: &TcpStream| client.set_zero_linger().unwrap();
    if *mood.borrow() == Mood::Reset {
        return reset(&client);
    }
    if *mood.borrow() == Mood::BlackHole {
        // Taken by the network, never by a server.
        return hold(client).await;
    }
    let Ok(mut server) = TcpStream::connect(server).await else {
        return reset(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut swallow_next = false;
    loop {
        tokio::select! {
            changed = mood.changed() => {
                let now = *mood.borrow();
                match now {
                    _ if changed.is_err() => return,
                    Mood::Reset => return reset(&client),
                    Mood::BlackHole => return hold(client).await,
                    _ => {}
                }
            }
            read = client.read(&mut from_client) => {
                let Ok(n @ 1..) = read else { return };
                let piece = &from_client[..n];
                let now = *mood.borrow();
                match now {
                    Mood::Slow(time) => tokio::time::sleep(time).await,
                    Mood::CutAfterCommit(every) if is_commit(piece) => {
                        let commit = counters.commits.fetch_add(1, Ordering::SeqCst) + 1;
                        swallow_next = commit.is_multiple_of(every);
                    }
                    Mood::CutBefore(number) => {
                        let piece = counters.asked.fetch_add(1, Ordering::SeqCst);
                        if piece >= number {
                            counters.cuts.fetch_add(1, Ordering::SeqCst);
                            return reset(&client);
                        }
                    }
                    _ => {}
                }
                if server.write_all(piece).await.is_err() {
                    return reset(&client);
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(n @ 1..) = read else { return reset(&client) };
                if swallow_next {
                    // The server has done it, and nobody hears so.
                    counters.cuts.fetch_add(1, Ordering::SeqCst);
                    return reset(&client);
                }
                let now = *mood.borrow();
                match now {
                    Mood::Slow(time) => tokio::time::sleep(time).await,
                    Mood::Truncate(every) => {
                        let answer = counters.answers.fetch_add(1, Ordering::SeqCst) + 1;
                        if answer.is_multiple_of(every) {
                            counters.cuts.fetch_add(1, Ordering::SeqCst);
                            let _ = client.write_all(&from_server[..n / 2]).await;
                            return reset(&client);
                        }
                    }
                    _ => {}
                }
                if client.write_all(&from_server[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Takes what comes and says nothing, for as long as the client likes: its server is gone.
async fn hold(mut client: TcpStream) {
    let mut taken = vec![0; 64 << 10];
    while let Ok(1..) = client.read(&mut taken).await {}
}

/// The driver commits by a simple query.
fn is_commit(piece: &[u8]) -> bool {
    piece.windows(6).any(|word| word == b"COMMIT")
}
