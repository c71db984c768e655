//! Legs and recorded pieces of one call on one line of time.

use chrono_tz::Tz;

use super::row;
use super::text::Lang;
use super::words;
use crate::domain::clock::Timestamp;
use crate::domain::view::{CallView, RecordingDetail, RecordingView};
use uuid::Uuid;

/// Units of the drawing from one end to the other.
const WIDTH: f64 = 1000.0;
/// What lasted no time is still to be seen.
const LEAST: f64 = 4.0;
/// A conference may have hundreds of legs.
const MOST: usize = 60;

/// A line of the drawing.
#[derive(Debug)]
pub struct Bar {
    pub what: &'static str,
    pub title: String,
    pub x: String,
    pub width: String,
    pub begins: String,
    pub length: Option<String>,
    pub href: Option<String>,
    /// It stands for the recording that the page shows.
    pub is_this: bool,
    pub class: &'static str,
}

struct Span {
    from: i64,
    to: i64,
}

/// Nothing for a call of one piece without legs: there is nothing to compare.
///
/// When a piece began is told by no vendor but through its call, so a piece is drawn from the moment of the answer on.
pub fn bars(
    call: &CallView,
    recordings: &[RecordingDetail],
    this: Option<Uuid>,
    zone: Tz,
    lang: Lang,
) -> Vec<Bar> {
    let t = lang.text();
    if recordings.len() < 2 && call.legs.is_empty() {
        return Vec::new();
    }
    let Some(begin) = call.started_at.or(call.answered_at) else {
        return pieces_alone(recordings, this, lang);
    };
    let span = |from: Option<Timestamp>, to: Option<Timestamp>, length: Option<i64>| {
        let from = from.unwrap_or(begin).ms();
        let to = to.map(Timestamp::ms).or(length.map(|ms| from + ms));
        let to = to.unwrap_or(from).max(from);
        Span { from, to }
    };
    let mut found: Vec<(Bar, Span)> = Vec::new();
    let mut add = |what, title: String, class, href, is_this, span: Span| {
        let bar = Bar {
            what,
            title,
            x: String::new(),
            width: String::new(),
            begins: words::When::new(Timestamp::from_ms(span.from), zone, true).time,
            length: (span.to > span.from).then(|| words::length(span.to - span.from)),
            href,
            is_this,
            class,
        };
        found.push((bar, span));
    };
    let whole = span(call.started_at, call.ended_at, call.duration_ms);
    add(t.call_whole, String::new(), "whole", None, false, whole);
    for leg in call.legs.iter().take(MOST) {
        let sides = [&leg.caller, &leg.callee];
        let sides: Vec<_> = sides
            .into_iter()
            .flatten()
            .map(|side| row::shown(side))
            .collect();
        let span = span(
            leg.started_at.or(leg.answered_at),
            leg.ended_at,
            leg.duration_ms,
        );
        add(t.leg, sides.join(" → "), "leg", None, false, span);
    }
    for detail in recordings.iter().take(MOST) {
        let recording = &detail.recording;
        let span = span(call.answered_at, None, sound_ms(recording));
        let is_this = recording.recording_id == this;
        add(
            t.piece,
            title(recording, lang),
            "piece",
            href(recording),
            is_this,
            span,
        );
    }
    let from = found.iter().map(|(_, span)| span.from).min().unwrap_or(0);
    let to = found.iter().map(|(_, span)| span.to).max().unwrap_or(0);
    let scale = WIDTH / (to - from).max(1) as f64;
    found
        .into_iter()
        .map(|(mut bar, span)| {
            let width = ((span.to - span.from) as f64 * scale).max(LEAST);
            let x = ((span.from - from) as f64 * scale)
                .min(WIDTH - width)
                .max(0.0);
            bar.x = format!("{x:.1}");
            bar.width = format!("{width:.1}");
            bar
        })
        .collect()
}

/// Of a call whose time nobody told: the pieces beside each other by their length.
fn pieces_alone(recordings: &[RecordingDetail], this: Option<Uuid>, lang: Lang) -> Vec<Bar> {
    let longest = recordings
        .iter()
        .filter_map(|detail| sound_ms(&detail.recording))
        .max();
    let scale = WIDTH / longest.unwrap_or(1).max(1) as f64;
    let pieces = recordings.iter().take(MOST).map(|detail| {
        let recording = &detail.recording;
        let length = sound_ms(recording);
        Bar {
            what: lang.text().piece,
            title: title(recording, lang),
            x: "0".to_owned(),
            width: format!("{:.1}", (length.unwrap_or(0) as f64 * scale).max(LEAST)),
            begins: String::new(),
            length: length.map(words::length),
            href: href(recording),
            is_this: recording.recording_id == this,
            class: "piece",
        }
    });
    pieces.collect()
}

fn sound_ms(recording: &RecordingView) -> Option<i64> {
    let original = recording
        .original
        .as_ref()
        .and_then(|original| original.duration_ms);
    original.or(recording
        .access
        .as_ref()
        .and_then(|access| access.duration_ms))
}

fn href(recording: &RecordingView) -> Option<String> {
    recording.recording_id.map(|id| format!("/recordings/{id}"))
}

fn title(recording: &RecordingView, lang: Lang) -> String {
    let part = words::part(recording.part, lang);
    let state = words::state(&recording.state, lang);
    part.map_or_else(|| state.to_owned(), |part| format!("{part}, {state}"))
}
