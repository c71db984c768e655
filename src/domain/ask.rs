//! One box for everything: days, times and numbers as people write them, turned into words and a window of time.
//!
//! What a newcomer gets wrong: a word is only taken for a day when all of it is one. `Monday` is, `Mondale` is not, and
//! 周一 is while the name 周一鸣 stays a name. What stands in quotes is always text.

use chrono::{Datelike as _, Days, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone as _};
use chrono_tz::Tz;

use super::clock::Timestamp;

mod numbers;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Words that must all match, as a search takes them.
    pub text: String,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
}

/// Days from the first to before the second.
type DaySpan = (NaiveDate, NaiveDate);
/// Minutes of a day, from the first to before the second.
type MinuteSpan = (i64, i64);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Days(DaySpan),
    Minutes(MinuteSpan),
}

const DAY: i64 = 24 * 60;
/// A search holds so many words at most: what is longer is no search.
const MOST_WORDS: usize = 40;

/// Reads a line as of `now`, days being those of `zone`.
pub fn understand(line: &str, now: Timestamp, zone: Tz) -> Asked {
    let today = now.utc().with_timezone(&zone).date_naive();
    let tokens = tokens(line);
    let mut text: Vec<Token> = Vec::new();
    let mut days: Option<DaySpan> = None;
    let mut minutes: Option<MinuteSpan> = None;
    let mut i = 0;
    while i < tokens.len() {
        if let Some((used, pieces, rest)) = dated(&tokens[i..], today) {
            for piece in pieces {
                match piece {
                    Piece::Days((from, to)) => {
                        days = Some(days.map_or((from, to), |(f, t)| (f.min(from), t.max(to))));
                    }
                    // 下午3点: the second says it better.
                    Piece::Minutes(span) => minutes = Some(span),
                }
            }
            text.extend(rest.map(|word| Token {
                word,
                quoted: false,
            }));
            i += used;
        } else {
            text.push(tokens[i].clone());
            i += 1;
        }
    }
    let (from, to) = window(days, minutes, today, now, zone);
    Asked {
        text: numbers::joined(&text),
        from,
        to,
    }
}

fn window(
    days: Option<DaySpan>,
    minutes: Option<MinuteSpan>,
    today: NaiveDate,
    now: Timestamp,
    zone: Tz,
) -> (Option<Timestamp>, Option<Timestamp>) {
    match (days, minutes) {
        (None, None) => (None, None),
        (Some((from, to)), None) => (instant(from, 0, zone), instant(to, 0, zone)),
        // A time of several days is a time of the first: "last week 14:30" has no better meaning.
        (Some((day, _)), Some((from, to))) => (instant(day, from, zone), instant(day, to, zone)),
        (None, Some((from, to))) => {
            // A time that is still to come was yesterday's.
            let ahead = instant(today, from, zone).is_some_and(|at| at > now);
            let day = if ahead { back(today, 1) } else { today };
            (instant(day, from, zone), instant(day, to, zone))
        }
    }
}

/// A moment by the clock on the wall; where clocks jump over it, the next one that exists.
fn instant(date: NaiveDate, minutes: i64, zone: Tz) -> Option<Timestamp> {
    let wall = date.and_time(NaiveTime::MIN) + TimeDelta::minutes(minutes);
    (0..24 * 4)
        .map(|quarter| wall + TimeDelta::minutes(15 * quarter))
        .find_map(|wall| zone.from_local_datetime(&wall).earliest())
        .map(|at| Timestamp::from_ms(at.timestamp_millis()))
}

#[derive(Clone, Debug, PartialEq)]
struct Token {
    word: String,
    quoted: bool,
}

/// Words; what stands in quotes is one. Full-width digits and marks become plain ones.
fn tokens(line: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut end = |word: &mut String, quoted: bool| {
        if !word.trim().is_empty() && found.len() < MOST_WORDS {
            let word = std::mem::take(word);
            found.push(Token { word, quoted });
        }
        word.clear();
    };
    for c in line.chars() {
        let plain = match c {
            '０'..='９' | '＋' | '－' | '：' | '／' | '．' | '（' | '）' => {
                char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c)
            }
            '“' | '”' => '"',
            _ => c,
        };
        match plain {
            '"' => {
                end(&mut word, quoted);
                quoted = !quoted;
            }
            c if c.is_whitespace() && !quoted => end(&mut word, false),
            '，' | '、' if !quoted => end(&mut word, false),
            c if c.is_control() => {}
            c => word.push(c),
        }
    }
    end(&mut word, quoted);
    found
}

/// Tokens used, what they mean, and digits that stood in the same token.
type Dated = (usize, Vec<Piece>, Option<String>);

fn dated(tokens: &[Token], today: NaiveDate) -> Option<Dated> {
    let word = |i: usize| -> Option<String> {
        let token = tokens.get(i).filter(|token| !token.quoted)?;
        Some(token.word.trim_end_matches(',').to_lowercase())
    };
    let first = word(0)?;
    let one = |piece| Some((1, vec![piece], None));
    // Small words before or between days say nothing by themselves.
    if matches!(
        first.as_str(),
        "on" | "at" | "around" | "about" | "from" | "to" | "until" | "-" | "–" | "到" | "至"
    ) {
        let (used, pieces, rest) = dated(&tokens[1..], today)?;
        return Some((used + 1, pieces, rest));
    }
    if let (Some(second), third) = (word(1), word(2)) {
        let span = two_or_three(&first, &second, third.as_deref(), today);
        if let Some((used, span)) = span {
            return Some((used, vec![Piece::Days(span)], None));
        }
        // 3 pm
        if matches!(second.as_str(), "am" | "pm")
            && let Some(span) = clock(&format!("{first}{second}"))
        {
            return Some((2, vec![Piece::Minutes(span)], None));
        }
    }
    if let Some(span) = day_word(&first, today).or_else(|| date(&first)) {
        return one(Piece::Days(span));
    }
    if let Some(span) = part_of_day(&first).or_else(|| clock(&first)) {
        return one(Piece::Minutes(span));
    }
    let (pieces, rest) = chinese(&first, today)?;
    Some((1, pieces, rest))
}

fn two_or_three(
    first: &str,
    second: &str,
    third: Option<&str>,
    today: NaiveDate,
) -> Option<(usize, DaySpan)> {
    let count = |text: &str| text.parse::<u64>().ok().filter(|n| (1..=3660).contains(n));
    let tomorrow = back_by(today, -1);
    match (first, second, third) {
        ("last" | "past", n, Some("days" | "day")) => {
            return Some((3, (back(today, count(n)?.saturating_sub(1)), tomorrow)));
        }
        ("last" | "past", n, Some("weeks" | "week")) => {
            return Some((3, (back(today, count(n)? * 7 - 1), tomorrow)));
        }
        (n, "days" | "day", Some("ago")) => return Some((3, single(back(today, count(n)?)))),
        (n, "weeks" | "week", Some("ago")) => {
            return Some((3, week_of(back(today, count(n)? * 7))));
        }
        ("this", "week", _) => return Some((2, week_of(today))),
        ("last", "week", _) => return Some((2, week_of(back(today, 7)))),
        ("this", "month", _) => return Some((2, month_of(today))),
        ("last", "month", _) => return Some((2, month_of(earlier_month(today)))),
        ("last", name, _) if weekday(name).is_some() => {
            return Some((2, single(recent(back(today, 1), weekday(name)?))));
        }
        _ => {}
    }
    // 5 March 2024, 5th March, March 5, March 2024
    let ordinal = |text: &str| -> Option<u32> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let ending = &text[digits.len()..];
        let sound = matches!(ending, "" | "st" | "nd" | "rd" | "th");
        digits
            .parse()
            .ok()
            .filter(|day| sound && (1..=31).contains(day))
    };
    let year = |text: &str| {
        text.parse::<i32>()
            .ok()
            .filter(|y| (1990..=2200).contains(y))
    };
    let (month, other) = match (month(first), month(second)) {
        (Some(month), None) => (month, second),
        (None, Some(month)) => (month, first),
        _ => return None,
    };
    if let Some(day) = ordinal(other) {
        return match third.and_then(year) {
            Some(year) => Some((3, single(NaiveDate::from_ymd_opt(year, month, day)?))),
            None => Some((2, single(latest(today, month, day)?))),
        };
    }
    let year = year(second)?;
    Some((2, month_of(NaiveDate::from_ymd_opt(year, month, 1)?)))
}

fn day_word(word: &str, today: NaiveDate) -> Option<DaySpan> {
    match word {
        "today" => Some(single(today)),
        "yesterday" => Some(single(back(today, 1))),
        _ => Some(single(recent(today, weekday(word)?))),
    }
}

/// `2024-03-05`, `2024/3/5`, `2024.3.5`, and `2024-03` for the month.
fn date(word: &str) -> Option<DaySpan> {
    let parts: Vec<&str> = word.split(['-', '/', '.']).collect();
    let digits = parts
        .iter()
        .all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if !digits || parts.first().is_none_or(|year| year.len() != 4) {
        return None;
    }
    let year = parts[0]
        .parse()
        .ok()
        .filter(|year| (1990..=2200).contains(year))?;
    let small = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() <= 2);
    match parts[1..] {
        [month, day] => Some(single(NaiveDate::from_ymd_opt(
            year,
            small(month)?,
            small(day)?,
        )?)),
        [month] => Some(month_of(NaiveDate::from_ymd_opt(year, small(month)?, 1)?)),
        _ => None,
    }
}

fn part_of_day(word: &str) -> Option<MinuteSpan> {
    Some(match word {
        "morning" | "早上" | "上午" | "早晨" => (5 * 60, 12 * 60),
        "noon" | "中午" => (11 * 60, 14 * 60),
        "afternoon" | "下午" => (12 * 60, 18 * 60),
        "evening" | "tonight" | "晚上" | "傍晚" => (17 * 60, DAY),
        "凌晨" => (0, 6 * 60),
        _ => return None,
    })
}

/// `14:30`, `14:30:05`, `3pm`, `3:30pm`: half an hour around it, and after a bare hour all of that hour.
fn clock(word: &str) -> Option<MinuteSpan> {
    let (digits, half) = if let Some(digits) = word.strip_suffix("pm") {
        (digits, Some(true))
    } else if let Some(digits) = word.strip_suffix("am") {
        (digits, Some(false))
    } else {
        (word, None)
    };
    let mut parts = digits.split(':');
    let small = |text: &str| -> Option<i64> {
        let sound = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| sound)
    };
    let hour = small(parts.next()?)?;
    let minute = parts.next();
    let second = parts.next();
    if parts.next().is_some() || (minute.is_none() && half.is_none()) {
        return None;
    }
    let minutes = minute.map_or(Some(0), small).filter(|m| *m < 60)?;
    second.map_or(Some(0), small).filter(|s| *s < 60)?;
    let hour = match half {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(pm) => hour % 12 + if pm { 12 } else { 0 },
        None if hour > 23 => return None,
        None => hour,
    };
    Some(around(hour, minutes, minute.is_none()))
}

fn around(hour: i64, minutes: i64, whole_hour: bool) -> MinuteSpan {
    let at = hour * 60 + minutes;
    let after = if whole_hour { 60 } else { 30 };
    ((at - 30).max(0), (at + after).min(DAY))
}

/// A token that is made of days, times and digits through and through, as 昨天下午3点 or 昨天1234.
fn chinese(word: &str, today: NaiveDate) -> Option<(Vec<Piece>, Option<String>)> {
    let mut rest = word;
    let mut pieces = Vec::new();
    let mut digits = None;
    while !rest.is_empty() {
        if let Some((piece, left)) = chinese_piece(rest, today, pieces.last()) {
            pieces.push(piece);
            rest = left;
            continue;
        }
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        if end < 3 || digits.is_some() {
            return None;
        }
        digits = Some(rest[..end].to_owned());
        rest = &rest[end..];
    }
    (!pieces.is_empty()).then_some((pieces, digits))
}

fn chinese_piece<'a>(
    text: &'a str,
    today: NaiveDate,
    before: Option<&Piece>,
) -> Option<(Piece, &'a str)> {
    let days = |span, rest| Some((Piece::Days(span), rest));
    for (name, span) in [
        ("今天", single(today)),
        ("昨天", single(back(today, 1))),
        ("前天", single(back(today, 2))),
        ("本周", week_of(today)),
        ("这周", week_of(today)),
        ("本月", month_of(today)),
        ("这个月", month_of(today)),
        ("上个月", month_of(earlier_month(today))),
        ("上月", month_of(earlier_month(today))),
    ] {
        if let Some(rest) = text.strip_prefix(name) {
            return days(span, rest);
        }
    }
    let weekday = |text: &'a str| {
        let rest = text
            .strip_prefix("周")
            .or_else(|| text.strip_prefix("星期"))?;
        let c = rest.chars().next()?;
        let at = "一二三四五六日".find(c).map(|at| at / '一'.len_utf8());
        let at = at.or((c == '天').then_some(6))?;
        Some((u32::try_from(at).ok()?, &rest[c.len_utf8()..]))
    };
    if let Some(last) = text.strip_prefix("上") {
        if let Some((day, rest)) = weekday(last) {
            let monday = week_of(back(today, 7)).0;
            return days(single(back_by(monday, -i64::from(day))), rest);
        }
        for name in ["周", "星期", "个星期"] {
            if let Some(rest) = last.strip_prefix(name) {
                return days(week_of(back(today, 7)), rest);
            }
        }
    }
    if let Some((day, rest)) = weekday(text) {
        return days(single(recent(today, day)), rest);
    }
    for name in [
        "早上", "上午", "早晨", "中午", "下午", "晚上", "傍晚", "凌晨",
    ] {
        if let Some(rest) = text.strip_prefix(name) {
            return Some((Piece::Minutes(part_of_day(name)?), rest));
        }
    }
    if let Some(rest) = text.strip_prefix("最近") {
        let (n, rest) = leading(rest)?;
        let rest = rest.strip_prefix("天")?;
        return days((back(today, n.saturating_sub(1)), back_by(today, -1)), rest);
    }
    let (n, rest) = leading(text)?;
    if let Some(rest) = rest.strip_prefix("天前") {
        return days(single(back(today, n)), rest);
    }
    let small = |n: u64| u32::try_from(n).ok();
    if let Some(rest) = rest.strip_prefix("年") {
        let year = i32::try_from(n)
            .ok()
            .filter(|year| (1990..=2200).contains(year))?;
        let (month, rest) = leading(rest)?;
        let rest = rest.strip_prefix("月")?;
        if let Some((day, rest)) = day_of_month(rest) {
            return days(
                single(NaiveDate::from_ymd_opt(year, small(month)?, day)?),
                rest,
            );
        }
        return days(
            month_of(NaiveDate::from_ymd_opt(year, small(month)?, 1)?),
            rest,
        );
    }
    if let Some(rest) = rest.strip_prefix("月") {
        let (day, rest) = day_of_month(rest)?;
        return days(single(latest(today, small(n)?, day)?), rest);
    }
    let rest = rest
        .strip_prefix("点")
        .or_else(|| rest.strip_prefix("时"))?;
    let hour = i64::try_from(n).ok().filter(|hour| *hour < 24)?;
    // 下午3点 is 15:00.
    let later = hour < 12 && matches!(before, Some(Piece::Minutes((from, _))) if *from >= 12 * 60);
    let hour = if later { hour + 12 } else { hour };
    if let Some(rest) = rest.strip_prefix("半") {
        return Some((Piece::Minutes(around(hour, 30, false)), rest));
    }
    if let Some((minutes, after)) = leading(rest)
        && let Some(after) = after.strip_prefix("分")
    {
        let minutes = i64::try_from(minutes).ok().filter(|m| *m < 60)?;
        return Some((Piece::Minutes(around(hour, minutes, false)), after));
    }
    Some((Piece::Minutes(around(hour, 0, true)), rest))
}

fn day_of_month(text: &str) -> Option<(u32, &str)> {
    let (day, rest) = leading(text)?;
    let rest = rest
        .strip_prefix("日")
        .or_else(|| rest.strip_prefix("号"))?;
    Some((u32::try_from(day).ok()?, rest))
}

/// A number of at most four digits, and what follows.
fn leading(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|_| end <= 4)?;
    Some((number, &text[end..]))
}

fn month(name: &str) -> Option<u32> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let name = name.trim_end_matches('.');
    let at = NAMES.iter().position(|month| {
        *month == name
            || (name.len() == 3 && month.starts_with(name))
            || (name == "sept" && *month == "september")
    })?;
    u32::try_from(at + 1).ok()
}

/// Days since Monday.
fn weekday(name: &str) -> Option<u32> {
    const NAMES: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let at = NAMES.iter().position(|day| *day == name)?;
    u32::try_from(at).ok()
}

fn single(day: NaiveDate) -> DaySpan {
    (day, back_by(day, -1))
}

fn week_of(day: NaiveDate) -> DaySpan {
    let monday = back(day, u64::from(day.weekday().num_days_from_monday()));
    (monday, back_by(monday, -7))
}

fn month_of(day: NaiveDate) -> DaySpan {
    let first = day.with_day(1).unwrap_or(day);
    (
        first,
        first.checked_add_months(Months::new(1)).unwrap_or(first),
    )
}

fn earlier_month(day: NaiveDate) -> NaiveDate {
    let first = day.with_day(1).unwrap_or(day);
    first.checked_sub_months(Months::new(1)).unwrap_or(first)
}

/// The latest such weekday that is not after `day`.
fn recent(day: NaiveDate, weekday: u32) -> NaiveDate {
    let ago = (7 + day.weekday().num_days_from_monday() - weekday) % 7;
    back(day, u64::from(ago))
}

/// The latest such day of a year that is not after today.
fn latest(today: NaiveDate, month: u32, day: u32) -> Option<NaiveDate> {
    (0..8)
        .filter_map(|ago| NaiveDate::from_ymd_opt(today.year() - ago, month, day))
        .find(|date| *date <= today)
}

fn back(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days)).unwrap_or(day)
}

fn back_by(day: NaiveDate, days: i64) -> NaiveDate {
    day.checked_sub_signed(TimeDelta::days(days)).unwrap_or(day)
}

#[cfg(test)]
mod tests;
