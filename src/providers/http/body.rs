//! The bytes of an answer as they come, held to the limits of length, silence and pace.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::address::WebAddress;
use super::{FetchError, FetchErrorKind, Limits};

/// A body on its way. Dropping it closes the connection.
pub struct MediaBody {
    incoming: Incoming,
    _connection: AbortOnDropHandle<()>,
    from: WebAddress,
    started: Instant,
    idle: Duration,
    total: Duration,
    floor_bytes_per_s: u64,
    left: u64,
    received: u64,
}

impl MediaBody {
    /// `left`: how many bytes may still come before it is too large.
    pub(super) fn new(
        incoming: Incoming,
        connection: AbortOnDropHandle<()>,
        from: WebAddress,
        started: Instant,
        limits: &Limits,
        left: u64,
    ) -> Self {
        Self {
            incoming,
            _connection: connection,
            from,
            started,
            idle: limits.idle,
            total: limits.total,
            floor_bytes_per_s: limits.floor_bytes_per_s,
            left,
            received: 0,
        }
    }

    /// The next bytes, never empty; `None` after the last one, and only when the body came whole.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let now = Instant::now();
            let earned = match self.floor_bytes_per_s {
                0 => Duration::ZERO,
                floor => Duration::from_secs(self.received / floor),
            };
            let too_slow = self.started + self.total + earned;
            let until = (now + self.idle).min(too_slow);
            let frame = match timeout_at(until, self.incoming.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(e))) => return Err(FetchError::from_hyper(&self.from, &e)),
                Err(_) => {
                    let why = if until == too_slow {
                        "the body came too slowly"
                    } else {
                        "the body stopped coming"
                    };
                    return Err(FetchError::at(
                        FetchErrorKind::TimedOut,
                        &self.from,
                        format!("{why} after {} bytes", self.received),
                    ));
                }
            };
            let Ok(chunk) = frame.into_data() else {
                continue; // trailers say nothing that we use
            };
            if chunk.is_empty() {
                continue;
            }
            let length = chunk.len() as u64;
            self.received += length;
            self.left = self.left.checked_sub(length).ok_or_else(|| {
                FetchError::at(
                    FetchErrorKind::TooLarge,
                    &self.from,
                    format!("more than allowed after {} bytes", self.received),
                )
            })?;
            return Ok(Some(chunk));
        }
    }

    /// The whole rest, for answers that are known to be small.
    pub async fn collect(mut self) -> Result<Bytes, FetchError> {
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = self.next_chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for MediaBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MediaBody({}, {} bytes so far)",
            self.from, self.received
        )
    }
}
