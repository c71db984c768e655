//! One call or recording as pages show it.

use chrono_tz::Tz;

use super::text::Lang;
use super::words::{self, Coded, When};
use crate::domain::recording::State;
use crate::domain::view::RecordingView;

/// Characters of a name, number or id on a page; the whole stands in the API.
const MOST_SHOWN: usize = 120;

/// One side of a call.
#[derive(Debug)]
pub struct Side {
    /// A name, or else the number.
    pub title: String,
    /// The number, where a name stands before it.
    pub number: Option<String>,
    pub is_known: bool,
}

#[derive(Debug)]
pub struct Row {
    pub when: When,
    pub day: String,
    pub href: String,
    pub caller: Side,
    pub callee: Side,
    pub source: String,
    pub direction: Option<&'static str>,
    pub part: Option<&'static str>,
    pub duration: Option<String>,
    /// The code, for the colour.
    pub state: String,
    pub state_word: String,
    pub reason: Option<Coded>,
    pub notes: Vec<Coded>,
    pub tags: Vec<String>,
    /// Where the access copy plays.
    pub audio: Option<String>,
}

impl Row {
    pub fn of(view: &RecordingView, zone: Tz, lang: Lang) -> Self {
        let archived = view.state == State::Archived.as_str();
        let audio = match (&view.access, view.recording_id) {
            (Some(_), Some(id)) if archived => Some(format!("/api/v1/recordings/{id}/audio")),
            _ => None,
        };
        let side = |number: &Option<String>, role: &str| {
            let told = view
                .parties
                .iter()
                .filter(|party| party.role.as_deref() == Some(role))
                .find(|party| {
                    number.is_none() || party.number.is_none() || party.number == *number
                });
            let name = told.and_then(|party| {
                party
                    .name
                    .clone()
                    .or_else(|| party.number.clone())
                    .or_else(|| party.id.clone())
            });
            let (title, number) = match (number, name) {
                (Some(number), Some(name)) if *number != name => (name, Some(number.clone())),
                (Some(number), _) => (number.clone(), None),
                (None, Some(name)) => (name, None),
                (None, None) => {
                    return Side {
                        title: lang.text().unknown.to_owned(),
                        number: None,
                        is_known: false,
                    };
                }
            };
            Side {
                title: shown(&title),
                number: number.as_deref().map(shown),
                is_known: true,
            }
        };
        // A note that is the reason as well is said once.
        let notes = view
            .notes
            .iter()
            .filter(|note| Some(*note) != view.reason.as_ref());
        let waits = archived && view.access.is_none() && !view.access_is_explained();
        let waits = waits.then(|| Coded {
            code: "no_access_copy".to_owned(),
            words: lang.text().copy_waits.to_owned(),
        });
        let when = When::new(
            view.started_at.unwrap_or(view.arrived_at),
            zone,
            view.started_at.is_some(),
        );
        Self {
            day: format!("{} {}", words::weekday(when.weekday, lang), when.date),
            when,
            href: match view.recording_id {
                Some(id) => format!("/recordings/{id}"),
                None => format!("/recordings/{}", view.call_id),
            },
            caller: side(&view.caller, "caller"),
            callee: side(&view.callee, "callee"),
            source: view.source.clone(),
            direction: view
                .direction
                .map(|direction| words::direction(direction, lang)),
            part: words::part(view.part, lang),
            duration: view.duration_ms.map(words::length),
            state_word: words::state(&view.state, lang).to_owned(),
            state: view.state.clone(),
            reason: view.reason.as_deref().map(|code| Coded::new(code, lang)),
            notes: notes
                .map(|note| Coded::new(note, lang))
                .chain(waits)
                .collect(),
            tags: Vec::new(),
            audio,
        }
    }
}

/// Cut where nobody reads on; marks that turn the direction of writing are shown as the nothing they are, so that a
/// name cannot rewrite what stands beside it.
pub fn shown(text: &str) -> String {
    let plain = text.chars().filter(|c| {
        !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            && !c.is_control()
    });
    let mut cut: String = plain.take(MOST_SHOWN + 1).collect();
    if cut.chars().count() > MOST_SHOWN {
        cut.pop();
        cut.push('…');
    }
    cut
}

/// A line in which every text that comes from outside is `text`.
#[cfg(test)]
pub fn sample(text: &str) -> RecordingView {
    use crate::domain::clock::Timestamp;
    use crate::domain::digest::Sha256;
    use crate::domain::view::{AccessView, OriginalView};
    let at = Timestamp::from_ms(1_709_611_446_000);
    RecordingView {
        recording_id: Some(uuid::Uuid::from_u128(7)),
        call_id: uuid::Uuid::from_u128(8),
        source: text.into(),
        kind: "feiyu".into(),
        provider_call_id: text.into(),
        provider_recording_id: Some(text.into()),
        correlation_ids: vec![text.into()],
        part: crate::domain::recording::Part::Caller,
        state: State::Archived.as_str().into(),
        reason: Some(text.into()),
        attempts: 2,
        next_try_at: None,
        started_at: Some(at),
        ended_at: Some(at.plus_ms(187_000)),
        duration_ms: Some(187_000),
        direction: Some(crate::domain::call::Direction::Inbound),
        caller: Some(text.into()),
        callee: Some(text.into()),
        parties: vec![crate::domain::call::Party {
            role: Some("caller".into()),
            id: None,
            name: Some(text.into()),
            number: None,
        }],
        arrived_at: at.plus_ms(200_000),
        ready_after: None,
        link_until: None,
        gone_at: Some(at.plus_ms(2_592_000_000)),
        archived_at: Some(at.plus_ms(1_000_000)),
        slack_s: Some(2_591_000),
        original: Some(OriginalView {
            key: text.into(),
            bytes: 100,
            sha256: Sha256::of(b"a"),
            mime: "audio/wav".into(),
            codec: Some(text.into()),
            sample_rate_hz: Some(8000),
            channels: Some(2),
            duration_ms: Some(186_500),
        }),
        access: Some(AccessView {
            key: text.into(),
            bytes: 50,
            sha256: Sha256::of(b"b"),
            sample_rate_hz: Some(8000),
            channels: Some(2),
            duration_ms: Some(186_500),
        }),
        notes: vec![text.into(), "one_way_audio".into()],
        cursor: text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_person_needs() {
        let mut view = sample("+8613900000001");
        view.parties[0].name = Some("Wang".into());
        let row = Row::of(&view, Tz::UTC, Lang::En);
        assert_eq!(row.caller.title, "Wang");
        assert_eq!(row.caller.number.as_deref(), Some("+8613900000001"));
        assert_eq!(row.callee.title, "+8613900000001");
        assert!(row.audio.is_some());
        view.access = None;
        let row = Row::of(&view, Tz::UTC, Lang::En);
        assert!(row.audio.is_none());
        assert_eq!(row.notes.last().unwrap().code, "no_access_copy");
        view.recording_id = None;
        view.state = "none".into();
        let row = Row::of(&view, Tz::UTC, Lang::Zh);
        assert_eq!(row.state_word, "无录音");
        assert!(row.href.ends_with(&view.call_id.to_string()));
    }

    #[test]
    fn endless_names_are_cut_and_marks_of_direction_do_nothing() {
        assert_eq!(shown(&"😀".repeat(10_000)).chars().count(), MOST_SHOWN + 1);
        assert_eq!(shown("a\u{202e}b\u{2066}c\nd"), "abcd");
    }
}
