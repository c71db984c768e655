//! Streams a recording from its address into the spool, hashed on the way.
//!
//! A body that breaks off is continued where it stopped when the server's validators allow it, else
//! begun again. What arrives here is complete by the server's own word, or it does not arrive.

use std::time::Duration;

use crate::db::recordings::RecordingRow;
use crate::domain::clock::Timestamp;
use crate::domain::recording::reason;
use crate::providers::contract::{Address, Provider};
use crate::providers::http::{
    FetchError, FetchErrorKind, Fetched as Response, GuardPolicy, Limits, ResumeFrom,
};
use crate::spool::Scratch;

use super::handoff::{Announced, Fetched, Place, Tools, Verdict, Wait};
use super::local;

/// Continuations of one body within one claim.
const RESUMES: u32 = 3;
/// How often to look again at a host that the configuration does not allow.
const HOST_NOT_ALLOWED_AGAIN: Duration = Duration::from_secs(600);

pub async fn fetch(
    tools: &Tools,
    provider: &dyn Provider,
    row: &RecordingRow,
    place: &Place,
    scratch: Scratch,
    now: Timestamp,
) -> Result<Fetched, Verdict> {
    let most = provider.common().max_recording_bytes;
    fetch_at_most(tools, provider, row, place, scratch, most, now).await
}

/// The same, for one of several files that share the recording's limit.
pub async fn fetch_at_most(
    tools: &Tools,
    provider: &dyn Provider,
    row: &RecordingRow,
    place: &Place,
    mut scratch: Scratch,
    most_bytes: u64,
    now: Timestamp,
) -> Result<Fetched, Verdict> {
    let address = match place {
        Place::Web(address) => address,
        Place::Disk(file) => return local::take(provider, row, file, scratch, now).await,
    };
    let policy = GuardPolicy::from(provider.common());
    let limits = Limits::media(most_bytes);
    let mut resume: Option<ResumeFrom> = None;
    // The length that the whole file had at the first answer; another one is another file.
    let mut whole: Option<u64> = None;
    let mut plain_http = false;
    let mut server_away = false;
    for attempt in 0..=RESUMES {
        let response = tools
            .client
            .fetch(
                &policy,
                &address.url,
                &address.headers,
                resume.as_ref(),
                &limits,
            )
            .await
            .map_err(|error| fetch_failed(row, &error))?;
        plain_http |= response.plain_http;
        let packed = response
            .content_encoding
            .clone()
            .filter(|coding| is_compression(coding));
        let at = Some(response.at.clone());
        let validator = response.validator();
        match response.status {
            200 => {
                scratch.restart().await?;
                whole = response.content_length;
            }
            206 if continues(
                response.content_range,
                validator.as_deref(),
                resume.as_ref(),
                whole,
            ) => {}
            206 => {
                // Not the stretch we asked for, or of another file: begin again without Range.
                scratch.restart().await?;
                resume = None;
                continue;
            }
            416 if resume.is_some() => {
                scratch.restart().await?;
                resume = None;
                continue;
            }
            _ => return Err(bad_status(provider, row, address, &response, now)),
        }
        let expected_end = expected_end(&response, address, scratch.written());
        match pour(response, &mut scratch).await {
            Ok(()) => match expected_end {
                Some(end) if scratch.written() != end => {}
                _ if address
                    .expected_bytes
                    .is_some_and(|told| told != scratch.written()) =>
                {
                    return Err(other_size(address, scratch.written()));
                }
                _ => {
                    fail::fail_point!("fetch.before_fsync");
                    let fingerprint = scratch.finish().await?;
                    return Ok(Fetched {
                        scratch,
                        fingerprint,
                        plain_http,
                        packed,
                        announced: Announced {
                            bytes: address.expected_bytes,
                            md5: address.expected_md5.clone(),
                            sha256: address.expected_sha256.clone(),
                        },
                        at,
                    });
                }
            },
            Err(Broken::Spool(error)) => return Err(error.into()),
            Err(Broken::Body(error)) if may_continue(&error.kind) => {
                server_away = error.kind != FetchErrorKind::Truncated;
                tracing::info!(recording = %row.recording_id, %error, attempt, "body broke off");
            }
            Err(Broken::Body(error)) => return Err(fetch_failed(row, &error)),
        }
        resume = match validator {
            Some(validator) if scratch.written() > 0 => Some(ResumeFrom {
                offset: scratch.written(),
                validator,
            }),
            _ => None,
        };
    }
    if server_away {
        // Resets and silence say nothing about the bytes.
        return Err(Verdict::later(reason::PROVIDER_UNREACHABLE));
    }
    Err(Verdict::BadBytes {
        reason: reason::TRUNCATED,
        detail: format!(
            "the body broke off at {} bytes, {} times",
            scratch.written(),
            RESUMES + 1
        ),
    })
}

/// Whole by the file server's word, and not what the vendor announced a moment ago: it may still grow.
fn other_size(address: &Address, written: u64) -> Verdict {
    Verdict::BadBytes {
        reason: reason::TRUNCATED,
        detail: format!(
            "{written} bytes came where {} were announced",
            address.expected_bytes.unwrap_or_default()
        ),
    }
}

enum Broken {
    Body(FetchError),
    Spool(crate::spool::SpoolError),
}

async fn pour(mut response: Response, scratch: &mut Scratch) -> Result<(), Broken> {
    while let Some(chunk) = response.body.next_chunk().await.map_err(Broken::Body)? {
        scratch.write(&chunk).await.map_err(Broken::Spool)?;
        fail::fail_point!("fetch.mid_body");
    }
    Ok(())
}

fn may_continue(kind: &FetchErrorKind) -> bool {
    matches!(
        kind,
        FetchErrorKind::Truncated | FetchErrorKind::Reset | FetchErrorKind::TimedOut
    )
}

fn is_compression(coding: &str) -> bool {
    let known = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress"];
    known.iter().any(|name| coding.eq_ignore_ascii_case(name))
}

/// Whether a 206 goes on where the same file broke off. A server that ignores `If-Range` would have us glue
/// two files together: its validator and the whole length tell.
fn continues(
    content_range: Option<(u64, Option<u64>)>,
    validator: Option<&str>,
    resume: Option<&ResumeFrom>,
    whole: Option<u64>,
) -> bool {
    let (Some((start, total)), Some(resume)) = (content_range, resume) else {
        return false;
    };
    // Where the server says nothing of one, the others have to do.
    let same_validator = validator.is_none_or(|validator| validator == resume.validator);
    let same_length = whole.is_none_or(|whole| total.is_none_or(|total| total == whole));
    start == resume.offset && same_validator && same_length
}

/// Where the body must end by the server's word, or by the notice's.
fn expected_end(response: &Response, address: &Address, already: u64) -> Option<u64> {
    response
        .content_range
        .and_then(|(_, total)| total)
        .or(response.content_length.map(|length| already + length))
        .or(address.expected_bytes)
}

fn bad_status(
    provider: &dyn Provider,
    row: &RecordingRow,
    address: &Address,
    response: &Response,
    now: Timestamp,
) -> Verdict {
    let status = response.status;
    let renewable = row.link_renewable;
    tracing::info!(recording = %row.recording_id, status, "address answered without a recording");
    match status {
        429 | 503 if response.retry_after.is_some() => {
            Verdict::later_after(reason::THROTTLED, response.retry_after.unwrap_or_default())
        }
        429 => Verdict::later(reason::THROTTLED),
        // An address that was given before its file is there (Alibaba page, checklist 6).
        404 if renewable && is_early(provider, row, now) => {
            let held = row.link.as_ref();
            let is_held = held.is_some_and(|link| link.url == address.url);
            Verdict::later(match is_held {
                true => reason::LINK_NOT_READY,
                // The vendor's own: next time the one that we hold.
                false => reason::NOT_READY,
            })
        }
        401 | 403 | 404 | 410 if renewable => Verdict::later(reason::LINK_EXPIRED),
        401 | 403 | 404 | 410 if row.clocks.is_over(false, now) => Verdict::Gone {
            reason: reason::GONE,
            evidence: format!("the address answered {status} after its last day"),
        },
        // Soon after the notice the file may not be there yet (Alibaba page, checklist 6).
        401 | 403 | 404 | 410 => Verdict::later(reason::NOT_READY),
        _ => Verdict::later(reason::PROVIDER_UNREACHABLE),
    }
}

/// So soon after the call that its file may still be on the way.
fn is_early(provider: &dyn Provider, row: &RecordingRow, now: Timestamp) -> bool {
    let since = row.call.ended_at.unwrap_or(row.arrived_at);
    now < since.plus(provider.waiting_plan().ready_deadline)
        && !row.clocks.is_over(row.link_renewable, now)
}

fn fetch_failed(row: &RecordingRow, error: &FetchError) -> Verdict {
    tracing::warn!(recording = %row.recording_id, %error, "fetch failed");
    match &error.kind {
        FetchErrorKind::HostNotAllowed { .. } => Verdict::Later {
            reason: reason::HOST_NOT_ALLOWED,
            wait: Wait::Exactly(HOST_NOT_ALLOWED_AGAIN),
        },
        FetchErrorKind::AddressForbidden
        | FetchErrorKind::BadAddress
        | FetchErrorKind::PlainHttpRefused => Verdict::Later {
            reason: reason::ADDRESS_FORBIDDEN,
            wait: Wait::Exactly(HOST_NOT_ALLOWED_AGAIN),
        },
        FetchErrorKind::TooLarge => Verdict::BadBytes {
            reason: reason::TOO_LARGE,
            detail: error.to_string(),
        },
        _ => Verdict::later(reason::PROVIDER_UNREACHABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_are_never_glued_together() {
        let resume = ResumeFrom {
            offset: 8000,
            validator: "\"A\"".to_owned(),
        };
        let resumed = Some(&resume);
        for (range, validator, resume, whole, fits) in [
            (
                Some((8000, Some(9000))),
                Some("\"A\""),
                resumed,
                Some(9000),
                true,
            ),
            (Some((8000, None)), None, resumed, Some(9000), true),
            (
                Some((8000, Some(9000))),
                Some("\"B\""),
                resumed,
                Some(9000),
                false,
            ),
            (
                Some((8000, Some(9500))),
                Some("\"A\""),
                resumed,
                Some(9000),
                false,
            ),
            (
                Some((0, Some(9000))),
                Some("\"A\""),
                resumed,
                Some(9000),
                false,
            ),
            (None, Some("\"A\""), resumed, Some(9000), false),
            // Nobody asked for a stretch.
            (Some((0, Some(9000))), None, None, None, false),
        ] {
            assert_eq!(
                continues(range, validator, resume, whole),
                fits,
                "{range:?} {validator:?}"
            );
        }
    }
}
