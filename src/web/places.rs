//! Who may have a connection: a listener's places, of which one address gets half at most.
//!
//! What a newcomer gets wrong: without a share for each address, one sender that floods takes every place and the
//! honest ones wait behind it. Behind a proxy all come from one address; half of the places is enough for it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a caller that is turned away may take to read why.
const PARTING: Duration = Duration::from_secs(1);
/// The answer without a request having been read; `super::problem` words the same for those that were.
const FULL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n",
    "content-type: application/problem+json\r\ncache-control: no-store\r\ncontent-length: 80\r\n\r\n",
    r#"{"type":"urn:callvault:unavailable","title":"too many connections","status":503}"#
);

#[derive(Clone, Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    share: usize,
    of: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

/// Given back on drop.
#[derive(Debug)]
pub struct Place {
    _own: OwnedSemaphorePermit,
    _one: OwnedSemaphorePermit,
}

impl Places {
    pub fn new(most: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(most)),
            share: (most / 2).max(1),
            of: Arc::default(),
        }
    }

    /// Waits for a place; first for one of the address's own, so that who floods waits for itself.
    pub async fn take(&self, address: IpAddr) -> Option<Place> {
        let own = {
            let mut of = self
                .of
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            // Addresses without connections are forgotten.
            if of.len() >= 64 {
                of.retain(|_, places| Arc::strong_count(places) > 1);
            }
            of.entry(network(address))
                .or_insert_with(|| Arc::new(Semaphore::new(self.share)))
                .clone()
        };
        let own = own.acquire_owned().await.ok()?;
        let one = self.all.clone().acquire_owned().await.ok()?;
        Some(Place {
            _own: own,
            _one: one,
        })
    }
}

/// Whoever has one IPv6 address has the 64 bits below it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let high = six.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(high))
        }
        four => four,
    }
}

/// Says when to come again, and takes what was on its way: a close with unread bytes would take the answer along.
pub async fn turn_away(mut stream: TcpStream) {
    let parting = async {
        stream.write_all(FULL.as_bytes()).await?;
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(PARTING, parting).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> &'static str {
        FULL.split_once("\r\n\r\n").unwrap().1
    }

    #[test]
    fn the_answer_without_a_request_is_well_formed() {
        assert!(FULL.contains(&format!("content-length: {}\r\n", body().len())));
        let problem: serde_json::Value = serde_json::from_str(body()).unwrap();
        assert_eq!(problem["status"], 503);
    }

    #[tokio::test]
    async fn one_address_gets_half_and_others_the_rest() {
        let places = Places::new(8);
        let (one, other) = (
            IpAddr::from([192, 0, 2, 1]),
            "2001:db8::1".parse::<IpAddr>().unwrap(),
        );
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(places.take(one).await);
        }
        let wait = async |address| {
            let taking = places.take(address);
            tokio::time::timeout(Duration::from_millis(20), taking).await
        };
        assert!(wait(one).await.is_err());
        // The same network, written in another way: the same share.
        for n in 0..4_u16 {
            let same = IpAddr::from([0x2001, 0xdb8, 0, 0, n, 0, 0, n]);
            held.push(wait(same).await.unwrap());
        }
        assert!(wait(other).await.is_err());
        held.truncate(3);
        assert!(wait(one).await.is_ok());
    }
}
