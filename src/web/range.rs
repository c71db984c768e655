//! Which bytes of an object a player gets: validators and one range, after RFC 9110 sections 13 and 14.
//!
//! Chosen where the RFC leaves a choice: several ranges, another unit or a range that cannot be read
//! get the whole object; a range that lies outside gets 416. HEAD ignores ranges.

use http::header::{HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, Method};

use crate::archive::contract::ByteRange;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Whole,
    Part(ByteRange),
    NotModified,
    Unsatisfiable,
}

/// `etag` is strong and stands in its quotes.
pub fn choose(method: &Method, headers: &HeaderMap, etag: &str, total_bytes: u64) -> Answer {
    if lists(headers, IF_NONE_MATCH, etag) {
        return Answer::NotModified;
    }
    let Some(range) = single(headers, RANGE) else {
        return Answer::Whole;
    };
    if method != Method::GET || headers.get_all(RANGE).iter().count() > 1 {
        return Answer::Whole;
    }
    // A date never matches: objects carry no date, and only a strong validator may join two halves.
    if headers.contains_key(IF_RANGE) && single(headers, IF_RANGE) != Some(etag) {
        return Answer::Whole;
    }
    match one_range(range, total_bytes) {
        None => Answer::Whole,
        Some(part) => part.map_or(Answer::Unsatisfiable, Answer::Part),
    }
}

/// `None`: no single range of bytes. `Some(None)`: one that holds nothing of the object.
///
/// By hand, because the crate at hand refuses `bytes=-0` as malformed and a suffix longer than the
/// object as unsatisfiable; RFC 9110 section 14.1.2 says the opposite of both.
fn one_range(header: &str, total_bytes: u64) -> Option<Option<ByteRange>> {
    let (unit, spec) = header.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    let (start, end_inclusive) = match (first, last) {
        ("", suffix) => match number(suffix)? {
            0 => return Some(None),
            bytes => (total_bytes.saturating_sub(bytes), u64::MAX),
        },
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    let range = ByteRange {
        start,
        end_inclusive,
    };
    Some(range.within(total_bytes))
}

/// Digits alone; what is beyond all lengths counts as such.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().unwrap_or(u64::MAX))
}

fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn lists(headers: &HeaderMap, name: HeaderName, etag: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(HeaderName, &str)], total: u64) -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), value.parse().unwrap());
        }
        choose(&Method::GET, &headers, "\"tag\"", total)
    }

    fn part(start: u64, end_inclusive: u64) -> Answer {
        Answer::Part(ByteRange {
            start,
            end_inclusive,
        })
    }

    #[test]
    fn the_table_of_ranges() {
        for (range, total, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=0-", 10, part(0, 9)),
            ("bytes=3-5", 10, part(3, 5)),
            ("bytes=3-99", 10, part(3, 9)),
            ("bytes=-4", 10, part(6, 9)),
            ("bytes=-40", 10, part(0, 9)),
            ("bytes=9-9", 10, part(9, 9)),
            ("bytes=10-", 10, Answer::Unsatisfiable),
            ("bytes=10-12", 10, Answer::Unsatisfiable),
            ("bytes=-0", 10, Answer::Unsatisfiable),
            ("bytes=5-3", 10, Answer::Unsatisfiable),
            ("bytes=0-", 0, Answer::Unsatisfiable),
            ("bytes=-1", 0, Answer::Unsatisfiable),
            ("bytes=0-1,3-4", 10, Answer::Whole),
            ("bytes=0-5,3-8", 10, Answer::Whole),
            ("bytes=", 10, Answer::Whole),
            ("bytes=a-b", 10, Answer::Whole),
            ("bytes=--1", 10, Answer::Whole),
            ("bytes=99999999999999999999999-", 10, Answer::Unsatisfiable),
            ("bytes=00-05", 10, part(0, 5)),
            ("Bytes=0-1", 10, part(0, 1)),
            ("bytes=+0-1", 10, Answer::Whole),
            ("bytes=0-18446744073709551615", 10, part(0, 9)),
            ("items=0-1", 10, Answer::Whole),
            ("0-1", 10, Answer::Whole),
        ] {
            assert_eq!(
                ask(&[(RANGE, range)], total),
                expected,
                "{range} of {total}"
            );
        }
    }

    #[test]
    fn validators_decide_first() {
        let range = (RANGE, "bytes=1-2");
        for (tags, expected) in [
            ("\"tag\"", Answer::NotModified),
            ("W/\"tag\"", Answer::NotModified),
            ("\"x\", \"tag\"", Answer::NotModified),
            ("*", Answer::NotModified),
            ("\"x\"", part(1, 2)),
            ("tag", part(1, 2)),
        ] {
            assert_eq!(
                ask(&[range.clone(), (IF_NONE_MATCH, tags)], 10),
                expected,
                "{tags}"
            );
        }
        for (validator, expected) in [
            ("\"tag\"", part(1, 2)),
            ("W/\"tag\"", Answer::Whole),
            ("\"x\"", Answer::Whole),
            ("Sat, 29 Oct 1994 19:43:31 GMT", Answer::Whole),
        ] {
            let asked = ask(&[range.clone(), (IF_RANGE, validator)], 10);
            assert_eq!(asked, expected, "{validator}");
        }
        assert_eq!(ask(&[range.clone(), range], 10), Answer::Whole);
    }

    #[test]
    fn head_ignores_ranges() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, "bytes=0-1".parse().unwrap());
        assert_eq!(choose(&Method::HEAD, &headers, "\"t\"", 9), Answer::Whole);
    }
}
