//! What people type, and what it means.

use super::*;

/// Wednesday, 25 November 2026, 15:00 in Shanghai.
fn ask(line: &str) -> Asked {
    let now = Timestamp::parse("2026-11-25T07:00:00Z").unwrap();
    understand(line, now, Tz::Asia__Shanghai)
}

/// The text that is left, and the window on the wall.
fn read(line: &str) -> (String, String) {
    let asked = ask(line);
    let wall = |at: Option<Timestamp>| {
        at.map_or(String::new(), |at| {
            let local = at.utc().with_timezone(&Tz::Asia__Shanghai);
            local.format("%m-%d %H:%M").to_string()
        })
    };
    let window = match (asked.from, asked.to) {
        (None, None) => String::new(),
        (from, to) => format!("{} {}", wall(from), wall(to)),
    };
    (asked.text, window)
}

#[test]
fn days_and_times_are_taken_out_of_the_line() {
    for (line, text, window) in [
        ("1234 yesterday", "1234", "11-24 00:00 11-25 00:00"),
        ("Today wang", "wang", "11-25 00:00 11-26 00:00"),
        ("last week", "", "11-16 00:00 11-23 00:00"),
        ("this week", "", "11-23 00:00 11-30 00:00"),
        ("last month 99", "99", "10-01 00:00 11-01 00:00"),
        ("last 3 days", "", "11-23 00:00 11-26 00:00"),
        ("3 days ago", "", "11-22 00:00 11-23 00:00"),
        ("on monday", "", "11-23 00:00 11-24 00:00"),
        ("wednesday", "", "11-25 00:00 11-26 00:00"),
        ("last wednesday", "", "11-18 00:00 11-19 00:00"),
        ("monday to tuesday", "", "11-23 00:00 11-25 00:00"),
        ("2026-11-03", "", "11-03 00:00 11-04 00:00"),
        ("2026/11/3", "", "11-03 00:00 11-04 00:00"),
        ("2026-10", "", "10-01 00:00 11-01 00:00"),
        ("3 November", "", "11-03 00:00 11-04 00:00"),
        ("nov 3rd 5678", "5678", "11-03 00:00 11-04 00:00"),
        ("November 3, 2026", "", "11-03 00:00 11-04 00:00"),
        ("yesterday afternoon", "", "11-24 12:00 11-24 18:00"),
        ("yesterday 14:30", "", "11-24 14:00 11-24 15:00"),
        ("yesterday at 3pm", "", "11-24 14:30 11-24 16:00"),
        ("yesterday 3 pm", "", "11-24 14:30 11-24 16:00"),
        ("9:15", "", "11-25 08:45 11-25 09:45"),
        ("22:00", "", "11-24 21:30 11-24 22:30"),
        ("昨天 1234", "1234", "11-24 00:00 11-25 00:00"),
        ("昨天1234", "1234", "11-24 00:00 11-25 00:00"),
        ("昨天下午", "", "11-24 12:00 11-24 18:00"),
        ("昨天下午3点", "", "11-24 14:30 11-24 16:00"),
        ("昨天下午3点半", "", "11-24 15:00 11-24 16:00"),
        ("前天上午", "", "11-23 05:00 11-23 12:00"),
        ("上周", "", "11-16 00:00 11-23 00:00"),
        ("上周三", "", "11-18 00:00 11-19 00:00"),
        ("星期一 王", "王", "11-23 00:00 11-24 00:00"),
        ("11月3日", "", "11-03 00:00 11-04 00:00"),
        ("2026年11月3号", "", "11-03 00:00 11-04 00:00"),
        ("最近3天", "", "11-23 00:00 11-26 00:00"),
        ("３天前", "", "11-22 00:00 11-23 00:00"),
        ("上个月", "", "10-01 00:00 11-01 00:00"),
    ] {
        assert_eq!(read(line), (text.into(), window.into()), "{line}");
    }
}

#[test]
fn what_is_no_day_stays_text() {
    for line in [
        "",
        "wang",
        "周一鸣",
        "may",
        "mondale",
        "2026",
        "2026-13-01",
        "25:00",
        "3",
        "14",
        "last",
        "今天天气",
        "99点",
        "order-2026-11-03x",
        "1234 5678",
        "上海",
    ] {
        assert_eq!(read(line), (line.into(), String::new()), "{line}");
    }
    assert_eq!(read("\"yesterday\" bell").0, "yesterday bell");
    assert_eq!(read("“昨天”").0, "昨天");
}

#[test]
fn numbers_are_one_word_however_they_are_written() {
    for (line, text) in [
        ("139 0000 1234", "13900001234"),
        ("+86 139 0000 1234", "13900001234"),
        ("0086-139-0000-1234", "13900001234"),
        ("+86 (0571) 8888 1234", "57188881234"),
        ("0571 88881234", "57188881234"),
        ("(0571) 8888-1234", "57188881234"),
        ("+1 (415) 555-5173", "14155555173"),
        ("+44 (0)20 7946 0958", "442079460958"),
        ("1234", "1234"),
        ("1234 5678", "1234 5678"),
        ("012", "012"),
        ("+8613900001234 yesterday", "13900001234"),
    ] {
        assert_eq!(ask(line).text, text, "{line}");
    }
}

#[test]
fn endless_and_hostile_lines_do_no_harm() {
    let long = "昨天 ".repeat(100_000);
    assert_eq!(read(&long).1, "11-24 00:00 11-25 00:00");
    for line in [
        "\u{202e}\u{0}\"",
        "\"\"\"",
        "-",
        "+",
        "( ) 0",
        "9999999天前",
        "4294967296 days ago",
        "9999年99月99日",
    ] {
        ask(line);
    }
}
