//! What an S3 store's refusals mean, in our words. The one place that knows its codes.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::archive::contract::{ArchiveError, ArchiveErrorKind};
use crate::domain::retry::RetryAdvice;

/// A failed call, cut down to what may be shown: the SDK's own errors print whole answers in `Debug`.
#[derive(Debug, Clone)]
pub(in crate::archive) struct Failure {
    /// None when no answer came, or none that could be read as one.
    pub(in crate::archive) status: Option<u16>,
    pub(in crate::archive) code: Option<String>,
    timed_out: bool,
    retry_after: Option<Duration>,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

impl Failure {
    pub(in crate::archive) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let timed_out = match &error {
            SdkError::TimeoutError(_) => true,
            SdkError::DispatchFailure(failure) => failure.is_timeout(),
            _ => false,
        };
        let raw = error.raw_response();
        let status = raw.map(|raw| raw.status().as_u16());
        let retry_after = raw
            .and_then(|raw| raw.headers().get("retry-after"))
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        let (code, text) = match error.as_service_error() {
            Some(service) => {
                let code = service.code().map(str::to_owned);
                let mut text = match status {
                    Some(status) => format!("status {status}"),
                    None => "an error".to_owned(),
                };
                for part in [service.code(), service.message()].into_iter().flatten() {
                    text.push_str(": ");
                    text.push_str(part);
                }
                (code, text)
            }
            None => (None, chain(&error)),
        };
        Self {
            status,
            code,
            timed_out,
            retry_after,
            text,
        }
    }

    pub(in crate::archive) fn is_missing(&self) -> bool {
        self.status == Some(404) && self.code.as_deref() != Some("NoSuchBucket")
    }

    /// The store knows that something is under this key, or that another write is under way.
    pub(in crate::archive) fn is_taken(&self) -> bool {
        matches!(self.status, Some(412 | 409))
    }

    /// The store answered, the key is empty, and the SDK does not repeat such a call by itself.
    pub(in crate::archive) fn asks_for_another_round(&self) -> bool {
        self.is_taken() || self.status.is_some_and(|status| status < 500) && self.leaves_doubt()
    }

    /// The store cannot do what a header asks for (501, or the code of that name).
    pub(in crate::archive) fn is_not_implemented(&self) -> bool {
        self.status == Some(501) || self.code.as_deref() == Some("NotImplemented")
    }

    /// Whether the write may have been carried out all the same, or may be tried again after a look.
    ///
    /// No status at all is the widest case: the answer was lost, or (seen with s3s-fs 0.14) the store
    /// answered 412 and closed before it had read the body, which the client sees as a broken pipe.
    pub(in crate::archive) fn leaves_doubt(&self) -> bool {
        // Damaged or cut on the way (the local bytes were hashed before), or an upload that is over.
        let again = [
            "BadDigest",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
            "IncompleteBody",
            "RequestTimeout",
            "NoSuchUpload",
        ];
        if self
            .code
            .as_deref()
            .is_some_and(|code| again.contains(&code))
        {
            return true;
        }
        match self.status {
            None => true,
            Some(status) => {
                matches!(status, 200..=299 | 408 | 409 | 412 | 429)
                    || (status >= 500 && !self.is_not_implemented())
            }
        }
    }

    pub(in crate::archive) fn kind(&self) -> ArchiveErrorKind {
        if let Some(kind) = self.code.as_deref().and_then(kind_of_code) {
            return kind;
        }
        match self.status {
            _ if self.timed_out => ArchiveErrorKind::TimedOut,
            None => ArchiveErrorKind::Unavailable,
            Some(401 | 403) => ArchiveErrorKind::Refused,
            Some(404) => ArchiveErrorKind::NotFound,
            Some(408 | 504) => ArchiveErrorKind::TimedOut,
            Some(409 | 412) => ArchiveErrorKind::Conflict,
            Some(507) => ArchiveErrorKind::Full,
            Some(501) => ArchiveErrorKind::Other,
            // A success status that could not be read: the answer was cut or is no S3 answer.
            Some(200..=299 | 429 | 500..) => ArchiveErrorKind::Unavailable,
            Some(_) => ArchiveErrorKind::Other,
        }
    }

    /// `what` says what was tried on what.
    pub(in crate::archive) fn into_error(self, what: impl fmt::Display) -> ArchiveError {
        let kind = self.kind();
        let hint = match kind {
            ArchiveErrorKind::Refused => {
                "; check the credentials, their rights and the bucket's name"
            }
            ArchiveErrorKind::Full => "; free some space or raise the quota",
            _ => "",
        };
        let error = ArchiveError::new(kind, format!("{what}: {}{hint}", self.text));
        let error = match (kind, self.retry_after) {
            (ArchiveErrorKind::Unavailable, Some(wait)) => {
                error.with_advice(RetryAdvice::After(wait))
            }
            _ => error,
        };
        error.with_source(self)
    }
}

/// Codes that say more than their status. AWS: "Error responses", Amazon S3 API reference; the last
/// lines are Ceph RGW's and MinIO's own.
fn kind_of_code(code: &str) -> Option<ArchiveErrorKind> {
    Some(match code {
        "NoSuchKey" | "NoSuchVersion" => ArchiveErrorKind::NotFound,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch" => ArchiveErrorKind::Mismatch,
        "RequestTimeout" => ArchiveErrorKind::TimedOut,
        "SlowDown" | "ServiceUnavailable" | "InternalError" | "Throttling" | "IncompleteBody"
        | "NoSuchUpload" => ArchiveErrorKind::Unavailable,
        "NoSuchBucket"
        | "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "ExpiredToken"
        | "AllAccessDisabled" => ArchiveErrorKind::Refused,
        "QuotaExceeded"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "InsufficientStorage" => ArchiveErrorKind::Full,
        _ => return None,
    })
}

/// An error and its causes in one line.
pub(in crate::archive) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: Option<u16>, code: Option<&str>) -> Failure {
        Failure {
            status,
            code: code.map(str::to_owned),
            timed_out: false,
            retry_after: None,
            text: "x".into(),
        }
    }

    #[test]
    fn statuses_and_codes_become_kinds() {
        use ArchiveErrorKind as Kind;
        for (status, code, kind) in [
            (None, None, Kind::Unavailable),
            (Some(403), Some("AccessDenied"), Kind::Refused),
            (Some(403), Some("QuotaExceeded"), Kind::Full),
            (Some(404), Some("NoSuchBucket"), Kind::Refused),
            (Some(404), None, Kind::NotFound),
            (Some(400), Some("BadDigest"), Kind::Mismatch),
            (Some(400), Some("RequestTimeout"), Kind::TimedOut),
            (Some(503), Some("SlowDown"), Kind::Unavailable),
            (Some(507), None, Kind::Full),
            (Some(418), None, Kind::Other),
        ] {
            assert_eq!(failure(status, code).kind(), kind, "{status:?} {code:?}");
        }
    }

    #[test]
    fn only_a_clear_refusal_leaves_no_doubt_about_a_write() {
        for doubtful in [None, Some(200), Some(409), Some(412), Some(500), Some(503)] {
            assert!(failure(doubtful, None).leaves_doubt(), "{doubtful:?}");
        }
        assert!(failure(Some(404), Some("NoSuchUpload")).leaves_doubt());
        assert!(!failure(Some(404), Some("NoSuchBucket")).leaves_doubt());
        for clear in [Some(400), Some(403), Some(404), Some(501)] {
            assert!(!failure(clear, None).leaves_doubt(), "{clear:?}");
        }
    }
}
