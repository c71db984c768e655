//! What can go wrong on the way to a foreign address, for stages that decide what follows.

use std::time::Duration;

use crate::domain::retry::RetryAdvice;

use super::address::{Unusable, WebAddress};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The configuration does not allow to speak to this host (`host` or `host:port`): no failure,
    /// the recording waits for the line to be added.
    HostNotAllowed {
        host: String,
    },
    /// The host leads to a loopback, private, link-local, metadata or otherwise special address.
    AddressForbidden,
    BadAddress,
    PlainHttpRefused,
    TooManyRedirects,
    Dns,
    Connect,
    Tls,
    TimedOut,
    /// The connection broke.
    Reset,
    /// The body ended before its announced end.
    Truncated,
    TooLarge,
    /// What came is not HTTP as it should be.
    Http,
}

impl FetchErrorKind {
    /// What the same fetch may hope for later.
    pub const fn advice(&self) -> RetryAdvice {
        match self {
            // CONTRACTS, section 3: looked at again every 10 minutes.
            Self::HostNotAllowed { .. } => RetryAdvice::After(Duration::from_secs(600)),
            Self::AddressForbidden
            | Self::BadAddress
            | Self::PlainHttpRefused
            | Self::TooManyRedirects
            | Self::TooLarge => RetryAdvice::Never,
            Self::Dns
            | Self::Connect
            | Self::Tls
            | Self::TimedOut
            | Self::Reset
            | Self::Truncated
            | Self::Http => RetryAdvice::Backoff,
        }
    }
}

/// A fetch that failed. Neither text nor Debug output holds a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} while fetching {address}: {detail}")]
pub struct FetchError {
    pub kind: FetchErrorKind,
    /// Without user info and query.
    pub address: String,
    pub detail: String,
}

impl FetchError {
    pub(super) fn at(
        kind: FetchErrorKind,
        address: &WebAddress,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            address: address.to_string(),
            detail: detail.into(),
        }
    }

    pub(super) fn unusable(url: &str, why: Unusable) -> Self {
        let (kind, detail) = match why {
            Unusable::Malformed(what) => (FetchErrorKind::BadAddress, what),
            Unusable::OddNumber => (
                FetchErrorKind::AddressForbidden,
                "the host is a number in disguise",
            ),
        };
        Self {
            kind,
            address: crate::domain::reading::masked_url(url)
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect(),
            detail: detail.to_owned(),
        }
    }

    pub(super) fn from_hyper(at: &WebAddress, error: &hyper::Error) -> Self {
        let io = causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>());
        use std::io::ErrorKind as Io;
        let kind = match io.map(std::io::Error::kind) {
            Some(Io::UnexpectedEof) => FetchErrorKind::Truncated,
            Some(Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe) => {
                FetchErrorKind::Reset
            }
            _ if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
                FetchErrorKind::Reset
            }
            Some(_) if !error.is_parse() => FetchErrorKind::Reset,
            _ => FetchErrorKind::Http,
        };
        let detail = causes(error)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ");
        Self::at(kind, at, detail)
    }
}

pub(super) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| e.source())
}
