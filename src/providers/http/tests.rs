//! Small pieces of the client, case by case; whole fetches are in `tests/it/egress.rs`.

use super::*;

#[test]
fn content_ranges_are_read() {
    for (text, expected) in [
        ("bytes 100-199/1000", Some((100, Some(1000)))),
        ("bytes 0-0/*", Some((0, None))),
        ("bytes */1000", None),
        ("items 0-1/2", None),
        ("", None),
    ] {
        assert_eq!(read_content_range(text), expected, "{text}");
    }
}
