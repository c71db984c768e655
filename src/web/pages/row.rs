//! One call or recording as pages show it.

use chrono_tz::Tz;

use super::words::{self, Coded, When};
use crate::domain::recording::{Part, State};
use crate::domain::view::RecordingView;

#[derive(Debug)]
pub struct Row {
    pub when: When,
    pub href: String,
    pub caller: String,
    pub callee: String,
    pub source: String,
    pub direction: Option<&'static str>,
    pub part: Option<&'static str>,
    pub duration: Option<String>,
    /// The code, for the colour.
    pub state: String,
    pub state_word: String,
    pub reason: Option<Coded>,
    pub notes: Vec<Coded>,
    /// Where the access copy plays.
    pub audio: Option<String>,
}

impl Row {
    pub fn of(view: &RecordingView, zone: Tz) -> Self {
        let archived = view.state == State::Archived.as_str();
        let audio = match (&view.access, view.recording_id) {
            (Some(_), Some(id)) if archived => Some(format!("/api/v1/recordings/{id}/audio")),
            _ => None,
        };
        let told = |role: &str| {
            view.parties
                .iter()
                .find(|party| party.role.as_deref() == Some(role))
                .and_then(|party| {
                    party
                        .name
                        .clone()
                        .or(party.number.clone())
                        .or(party.id.clone())
                })
        };
        let party = |number: &Option<String>, role: &str| match (number, told(role)) {
            (Some(number), Some(name)) if *number != name => format!("{name}, {number}"),
            (Some(number), _) => number.clone(),
            (None, Some(name)) => name,
            (None, None) => "unknown".to_owned(),
        };
        // A note that is the reason as well is said once.
        let notes = view
            .notes
            .iter()
            .filter(|note| Some(*note) != view.reason.as_ref());
        let waits = archived && view.access.is_none() && !view.access_is_explained();
        let waits = waits.then(|| Coded {
            code: "no_access_copy".to_owned(),
            words: "the copy to play is being made".to_owned(),
        });
        Self {
            when: When::new(
                view.started_at.unwrap_or(view.arrived_at),
                zone,
                view.started_at.is_some(),
            ),
            href: match view.recording_id {
                Some(id) => format!("/recordings/{id}"),
                None => format!("/recordings/{}", view.call_id),
            },
            caller: party(&view.caller, "caller"),
            callee: party(&view.callee, "callee"),
            source: view.source.clone(),
            direction: view.direction.map(|direction| direction.as_str()),
            part: match view.part {
                Part::Caller => Some("caller's side"),
                Part::Callee => Some("callee's side"),
                Part::Party => Some("one side"),
                Part::Mixed | Part::Unknown => None,
            },
            duration: view.duration_ms.map(words::length),
            state_word: words::state(&view.state).to_owned(),
            state: view.state.clone(),
            reason: view.reason.as_deref().map(Coded::new),
            notes: notes.map(|note| Coded::new(note)).chain(waits).collect(),
            audio,
        }
    }
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
        part: Part::Caller,
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
        let row = Row::of(&view, Tz::UTC);
        assert_eq!(row.caller, "Wang, +8613900000001");
        assert_eq!(row.callee, "+8613900000001");
        assert!(row.audio.is_some());
        view.access = None;
        let row = Row::of(&view, Tz::UTC);
        assert!(row.audio.is_none());
        assert_eq!(row.notes.last().unwrap().code, "no_access_copy");
        view.recording_id = None;
        view.state = "none".into();
        let row = Row::of(&view, Tz::UTC);
        assert_eq!(row.state_word, "no recording");
        assert!(row.href.ends_with(&view.call_id.to_string()));
    }
}
