//! The file server behind the vendors' addresses: ranges, validators, and the mishaps of a download.

use http::{Method, StatusCode, header};
use md5::{Digest, Md5};

use super::house::{Call, House};
use super::plan::Mishap;
use super::voices::Audio;
use super::wire::{Delivery, Reply, Request};

/// Serves a call's sound to someone whose address was found valid. `ranges`: whether this server knows Range.
pub fn serve(house: &House, call: &Call, request: &Request, ranges: bool) -> Reply {
    serve_file(house, call, &call.audio, request, ranges)
}

/// The same for one of several files of a call; its mishaps strike whichever is asked for first.
pub fn serve_file(
    house: &House,
    call: &Call,
    audio: &Audio,
    request: &Request,
    ranges: bool,
) -> Reply {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET")
            .with(header::ALLOW, "GET, HEAD");
    }
    if call.strikes(Mishap::TooMany) {
        return Reply::text(StatusCode::TOO_MANY_REQUESTS, "slow down")
            .with(header::RETRY_AFTER, 1);
    }
    if call.strikes(Mishap::Failing) {
        return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
    }
    if call.strikes(Mishap::Html) {
        return Reply::new(
            StatusCode::OK,
            "text/html; charset=utf-8",
            "<!DOCTYPE html><html><head><title>Busy</title></head><body><h1>The system is busy, please try again \
             later.</h1></body></html>",
        );
    }
    let mut reply = sound(audio, request, ranges);
    reply.delivery = match reply.status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT if request.method == Method::GET => {
            if call.strikes(Mishap::Reset) {
                Delivery::Reset
            } else if call.strikes(Mishap::Truncated) {
                Delivery::Half
            } else if call.strikes(Mishap::WrongLength) {
                Delivery::Overstated(1000)
            } else {
                house.count_download(reply.body.len());
                Delivery::Whole
            }
        }
        _ => Delivery::Whole,
    };
    reply
}

fn sound(audio: &Audio, request: &Request, ranges: bool) -> Reply {
    let bytes = &audio.bytes;
    let etag = format!("\"{}\"", hex::encode_upper(Md5::digest(bytes)));
    let whole = Reply::new(StatusCode::OK, audio.mime, bytes.clone());
    if !ranges {
        return whole;
    }
    let whole = whole
        .with(header::ETAG, &etag)
        .with(header::ACCEPT_RANGES, "bytes");
    let asked = |name: header::HeaderName| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let Some(range) = asked(header::RANGE) else {
        return whole;
    };
    if asked(header::IF_RANGE).is_some_and(|validator| validator != etag) {
        return whole;
    }
    let len = bytes.len() as u64;
    match span(range, len) {
        Span::Ignored => whole,
        Span::Outside => Reply::text(StatusCode::RANGE_NOT_SATISFIABLE, "")
            .with(header::CONTENT_RANGE, format!("bytes */{len}")),
        Span::Part(first, last) => {
            let part = bytes.slice(first as usize..=last as usize);
            Reply::new(StatusCode::PARTIAL_CONTENT, audio.mime, part)
                .with(header::ETAG, &etag)
                .with(header::ACCEPT_RANGES, "bytes")
                .with(header::CONTENT_RANGE, format!("bytes {first}-{last}/{len}"))
        }
    }
}

/// What a Range header asks of a file.
#[derive(Debug, PartialEq, Eq)]
enum Span {
    /// No single byte range: as good as not sent (RFC 9110, section 14.2).
    Ignored,
    /// Behind the end of the file.
    Outside,
    /// First and last byte.
    Part(u64, u64),
}

fn span(range: &str, len: u64) -> Span {
    fn read(text: &str) -> Option<u64> {
        text.parse().ok()
    }
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Span::Ignored;
    };
    let end = len.saturating_sub(1);
    let (first, last) = match (read(first), read(last)) {
        (None, Some(0)) if first.is_empty() => return Span::Outside,
        (None, Some(tail)) if first.is_empty() => (len.saturating_sub(tail), end),
        (Some(first), None) if last.is_empty() => (first, end.max(first)),
        (Some(first), Some(last)) if first <= last => (first, last),
        _ => return Span::Ignored,
    };
    if first < len {
        Span::Part(first, last.min(end))
    } else {
        Span::Outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_standard_says() {
        for (range, expected) in [
            ("bytes=0-9", Span::Part(0, 9)),
            ("bytes=90-", Span::Part(90, 99)),
            ("bytes=90-400", Span::Part(90, 99)),
            ("bytes=-10", Span::Part(90, 99)),
            ("bytes=-400", Span::Part(0, 99)),
            ("bytes=100-", Span::Outside),
            ("bytes=-0", Span::Outside),
            ("bytes=9-3", Span::Ignored),
            ("bytes=0-1,5-6", Span::Ignored),
            ("lines=0-1", Span::Ignored),
        ] {
            assert_eq!(span(range, 100), expected, "{range}");
        }
        assert_eq!(span("bytes=0-", 0), Span::Outside);
    }
}
