//! Numbers in a line of the search box: one word each, however they are written.

use super::Token;
use crate::domain::number;

/// Numbers that were written in groups become one word, without country or trunk prefix where that is known
/// not to be part of what other writings of the number end in.
pub(super) fn joined(tokens: &[Token]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let run = tokens[i..]
            .iter()
            .take_while(|token| is_digits(token))
            .count();
        let taken = (2..=run).rev().find(|n| is_one_number(&tokens[i..i + n]));
        let taken = taken.unwrap_or(1);
        if run > 0 {
            let together: Vec<&str> = tokens[i..i + taken]
                .iter()
                .map(|t| t.word.as_str())
                .collect();
            words.push(bare_number(&together.concat()));
        } else {
            words.push(tokens[i].word.clone());
        }
        i += taken;
    }
    words.join(" ")
}

fn is_digits(token: &Token) -> bool {
    let sound = |c: char| c.is_ascii_digit() || "+-().".contains(c);
    !token.quoted && token.word.chars().all(sound) && token.word.chars().any(|c| c.is_ascii_digit())
}

/// Two groups may be the ends of two numbers; with a country code, an area code or a third group they are one.
fn is_one_number(tokens: &[Token]) -> bool {
    let begins = tokens[0].word.as_str();
    let clear = begins.starts_with(['+', '(', '0']) || tokens.len() > 2;
    let again = tokens[1..].iter().any(|token| token.word.starts_with('+'));
    let digits: usize = tokens
        .iter()
        .map(|token| number::digits(&token.word).len())
        .sum();
    clear && !again && (7..=15).contains(&digits)
}

fn bare_number(written: &str) -> String {
    let without_trunk = written.replace("(0)", "");
    let digits = number::digits(&without_trunk);
    let international = without_trunk.starts_with('+') || digits.starts_with("00");
    if international {
        let national = digits.trim_start_matches("00");
        // China's numbers are often stored without their country, and none begins with 0 behind it.
        return match national.strip_prefix("86") {
            Some(rest) if rest.len() >= 9 => rest.trim_start_matches('0').to_owned(),
            _ => national.to_owned(),
        };
    }
    if digits.len() >= 9 && digits.starts_with('0') {
        return digits[1..].to_owned();
    }
    if digits.len() >= 3 && written.chars().any(|c| "()".contains(c)) {
        return digits;
    }
    written.to_owned()
}
