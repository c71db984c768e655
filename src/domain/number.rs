//! Telephone numbers: kept as received, searched by the digits of their end, shown masked in logs.

/// The ASCII digits of a number as received, punctuation dropped; full-width digits count too.
pub fn digits(received: &str) -> String {
    received
        .chars()
        .filter_map(|c| c.to_digit(10).or_else(|| full_width(c)))
        .filter_map(|d| char::from_digit(d, 10))
        .collect()
}

fn full_width(c: char) -> Option<u32> {
    ('０'..='９').contains(&c).then(|| c as u32 - '０' as u32)
}

/// E.164 with a leading `+`, when the text says unmistakably what it is: it starts with `+` or `00`.
/// National numbers are not guessed: without the country they stay as received.
pub fn e164(received: &str) -> Option<String> {
    let trimmed = received.trim();
    let digits = digits(trimmed);
    let national = if trimmed.starts_with('+') || trimmed.starts_with('＋') {
        digits
    } else {
        digits.strip_prefix("00")?.to_owned()
    };
    (7..=15)
        .contains(&national.len())
        .then(|| format!("+{national}"))
}

/// The digits in reverse, so that "ends with" becomes an index range.
pub fn reversed_digits(received: &str) -> String {
    digits(received).chars().rev().collect()
}

/// What a log may show: the last two digits.
pub fn masked(received: &str) -> String {
    let digits = digits(received);
    let shown = digits.len().saturating_sub(2).min(digits.len());
    format!("…{}", &digits[shown..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (received, expected) in [
            ("+86 139-0000-0001", Some("+8613900000001")),
            ("0086 13900000001", Some("+8613900000001")),
            ("13900000001", None),
            ("+1", None),
            ("+12345678901234567", None),
            ("", None),
            ("＋８６１３９００００００", Some("+86139000000")),
        ] {
            assert_eq!(e164(received).as_deref(), expected, "{received}");
        }
        assert_eq!(digits("(0571) 8888-1234"), "057188881234");
        assert_eq!(reversed_digits("0571-12"), "211750");
        assert_eq!(masked("13900000017"), "…17");
        assert_eq!(masked(""), "…");
    }
}
