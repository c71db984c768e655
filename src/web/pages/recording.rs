//! `/recordings/{id}`: all that is known of one recording, or of a call that has none, with its waveform.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use chrono_tz::Tz;
use futures::TryStreamExt;
use uuid::Uuid;

use super::frame::{self, Frame};
use super::row::Row;
use super::wave::{self, Drawing};
use super::words;
use crate::domain::recording::{Role, State as RecordingState};
use crate::domain::view::{CallView, NoticeView, RecordingDetail, RecordingView, ShowView};
use crate::web::access::Reader;
use crate::web::api::{id, query};
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

/// Ours are some tens of kilobytes; what is larger is not drawn.
const MOST_WAVEFORM_BYTES: u64 = 2 << 20;

#[derive(Template)]
#[template(path = "recording.html")]
struct RecordingPage {
    frame: Frame,
    row: Row,
    waveform: Option<Drawing>,
    original_href: Option<String>,
    facts: Vec<Fact>,
    siblings: Vec<Sibling>,
    objects: Vec<Object>,
    history: Vec<Step>,
    notices: Vec<Notice>,
}

struct Fact {
    name: &'static str,
    value: String,
}

struct Sibling {
    href: String,
    title: String,
}

struct Object {
    role: &'static str,
    n: u32,
    bytes: u64,
    sha256: String,
    verified: String,
    key: String,
}

struct Step {
    at: String,
    from: String,
    to: String,
    reason: String,
}

struct Notice {
    at: String,
    door: String,
    topic: String,
    result: String,
    sha256: String,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
) -> Response {
    let page = async {
        let id = id::recording(path)?;
        query::none(raw.as_deref())?;
        let shown = Reads::of(&state, &reader).show(id).await?;
        page(&state, id, shown).await
    };
    match page.await {
        Ok(page) => frame::render(&state, &page),
        Err(error) => frame::problem(&state, &error),
    }
}

async fn page(state: &WebState, id: Uuid, shown: ShowView) -> Result<RecordingPage, ApiError> {
    let zone = state.settings.time_zone;
    let ShowView { call, recordings } = shown;
    let (mut mine, others): (Vec<_>, Vec<_>) = recordings
        .into_iter()
        .partition(|detail| detail.recording.recording_id == Some(id));
    // A call's own page stands on its first recording, where it has one.
    let mut others = others;
    if mine.is_empty() && !others.is_empty() {
        mine.push(others.remove(0));
    }
    let siblings = others
        .iter()
        .filter_map(|detail| sibling(&detail.recording))
        .collect();
    let Some(detail) = mine.pop() else {
        return Ok(RecordingPage {
            frame: Frame::of(state),
            row: without_recording(&call, zone),
            waveform: None,
            original_href: None,
            facts: facts(&call, None, zone),
            siblings,
            objects: Vec::new(),
            history: Vec::new(),
            notices: call
                .notices
                .iter()
                .map(|notice| told(notice, zone))
                .collect(),
        });
    };
    let row = Row::of(&detail.recording, zone);
    let waveform = if row.audio.is_some() {
        waveform(state, &detail).await
    } else {
        None
    };
    let recording = &detail.recording;
    let archived = recording.state == RecordingState::Archived.as_str();
    Ok(RecordingPage {
        frame: Frame::of(state),
        waveform,
        original_href: recording
            .recording_id
            .filter(|_| archived && recording.original.is_some())
            .map(|id| format!("/api/v1/recordings/{id}/audio?role=original")),
        facts: with_files(facts(&call, Some(recording), zone), &detail),
        siblings,
        objects: detail
            .objects
            .iter()
            .filter(|object| object.role != Role::Original || object.n <= MOST_ORIGINALS)
            .map(|object| Object {
                role: object.role.as_str(),
                n: object.n,
                bytes: object.bytes,
                sha256: object.sha256.to_string(),
                verified: object
                    .verified_at
                    .map_or("not yet".to_owned(), |at| words::full(at, zone)),
                key: object.key.clone(),
            })
            .collect(),
        history: detail
            .history
            .iter()
            .map(|step| Step {
                at: words::full(step.at, zone),
                from: step.from.clone().unwrap_or_default(),
                to: step.to.clone(),
                reason: step.reason.clone().unwrap_or_default(),
            })
            .collect(),
        notices: detail
            .notices
            .iter()
            .map(|notice| told(notice, zone))
            .collect(),
        row,
    })
}

/// A playlist may have thousands of segments; `show` lists them all.
const MOST_ORIGINALS: u32 = 40;

/// How many files the original is made of, where it is more than one.
fn with_files(mut facts: Vec<Fact>, detail: &RecordingDetail) -> Vec<Fact> {
    let originals = detail.objects.iter().filter(|o| o.role == Role::Original);
    let (files, bytes) = originals.fold((0_u64, 0_u64), |(files, bytes), object| {
        (files + 1, bytes + object.bytes)
    });
    if files > 1 {
        facts.push(Fact {
            name: "Files of the original",
            value: format!("{files}, {bytes} bytes"),
        });
    }
    facts
}

/// The page is worth showing without it, so trouble here is only logged.
async fn waveform(state: &WebState, detail: &RecordingDetail) -> Option<Drawing> {
    let object = detail
        .objects
        .iter()
        .filter(|object| object.role == Role::Waveform && object.verified_at.is_some())
        .max_by_key(|object| object.n)?;
    if object.bytes > MOST_WAVEFORM_BYTES {
        return None;
    }
    let key = crate::domain::keys::ObjectKey::stored(object.key.clone());
    let read = async {
        let reader = state
            .archive
            .open(&key, object.version_id.as_deref(), None)
            .await?;
        reader
            .body
            .try_fold(Vec::new(), async |mut all, chunk| {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await
    };
    match read.await {
        Ok(json) => wave::draw(&json),
        Err(error) => {
            tracing::warn!(%key, %error, "a waveform cannot be read");
            None
        }
    }
}

fn sibling(recording: &RecordingView) -> Option<Sibling> {
    let id = recording.recording_id?;
    Some(Sibling {
        href: format!("/recordings/{id}"),
        title: format!(
            "{}, {}",
            recording.part.as_str(),
            words::state(&recording.state)
        ),
    })
}

fn told(notice: &NoticeView, zone: Tz) -> Notice {
    Notice {
        at: words::full(notice.arrived_at, zone),
        door: notice.door.clone(),
        topic: notice.topic.clone(),
        result: notice.result.clone(),
        sha256: notice.sha256.to_string(),
    }
}

/// A call that has no recording, as a line of its own.
fn without_recording(call: &CallView, zone: Tz) -> Row {
    Row::of(
        &RecordingView {
            recording_id: None,
            call_id: call.call_id,
            source: call.source.clone(),
            kind: String::new(),
            provider_call_id: call.provider_call_id.clone(),
            provider_recording_id: None,
            correlation_ids: Vec::new(),
            part: crate::domain::recording::Part::Unknown,
            state: "none".to_owned(),
            reason: None,
            attempts: 0,
            next_try_at: None,
            started_at: call.started_at,
            ended_at: call.ended_at,
            duration_ms: call.duration_ms,
            direction: call.direction,
            caller: call.caller.clone(),
            callee: call.callee.clone(),
            parties: call.parties.clone(),
            arrived_at: call.arrived_at,
            ready_after: None,
            link_until: None,
            gone_at: None,
            archived_at: None,
            slack_s: None,
            original: None,
            access: None,
            notes: Vec::new(),
            cursor: String::new(),
        },
        zone,
    )
}

fn facts(call: &CallView, recording: Option<&RecordingView>, zone: Tz) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push(Fact { name, value });
        }
    };
    let time = |at: Option<crate::domain::clock::Timestamp>| at.map(|at| words::full(at, zone));
    add("Began", time(call.started_at));
    add("Answered", time(call.answered_at));
    add("Ended", time(call.ended_at));
    add("Hung up", call.hangup_cause.clone());
    for party in &call.parties {
        let parts = [&party.name, &party.number, &party.id];
        let parts: Vec<_> = parts.into_iter().flatten().map(String::as_str).collect();
        let role = party
            .role
            .as_deref()
            .map(|role| format!(" ({role})"))
            .unwrap_or_default();
        add("Party", Some(format!("{}{role}", parts.join(", "))));
    }
    add("Provider's call id", Some(call.provider_call_id.clone()));
    add("Correlation ids", Some(call.correlation_ids.join(", ")));
    add("Call id", Some(call.call_id.to_string()));
    let Some(recording) = recording else {
        return facts;
    };
    add(
        "Recording id",
        recording.recording_id.map(|id| id.to_string()),
    );
    add(
        "Provider's recording id",
        recording.provider_recording_id.clone(),
    );
    add(
        "Tries",
        (recording.attempts > 0).then(|| recording.attempts.to_string()),
    );
    let waits = recording.archived_at.is_none();
    add("Next try", time(recording.next_try_at.filter(|_| waits)));
    add("Link dies", time(recording.link_until.filter(|_| waits)));
    add("Provider deletes it", time(recording.gone_at));
    add("Archived", time(recording.archived_at));
    add(
        "Time left when archived",
        recording
            .slack_s
            .map(|slack| format!("{:.1} days", slack as f64 / 86_400.0)),
    );
    if let Some(original) = &recording.original {
        let sound = original.codec.as_ref().map(|codec| {
            let rate = original
                .sample_rate_hz
                .map(|rate| format!(", {rate} Hz"))
                .unwrap_or_default();
            let channels = match original.channels {
                Some(1) => ", one channel".to_owned(),
                Some(n) => format!(", {n} channels"),
                None => String::new(),
            };
            format!("{codec}{rate}{channels}")
        });
        add(
            "Original",
            Some(sound.unwrap_or_else(|| original.mime.clone())),
        );
        add(
            "Length of the sound",
            original.duration_ms.map(words::length),
        );
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = r#""><script>alert(1)</script><img src=x onerror='y'>"#;

    #[test]
    fn what_providers_send_is_text_on_the_page() {
        let view = super::super::row::sample(NASTY);
        let call = CallView {
            call_id: view.call_id,
            source: NASTY.into(),
            aliases: Vec::new(),
            provider_call_id: NASTY.into(),
            correlation_ids: vec![NASTY.into()],
            started_at: view.started_at,
            answered_at: view.started_at,
            ended_at: view.ended_at,
            duration_ms: view.duration_ms,
            direction: view.direction,
            caller: view.caller.clone(),
            callee: view.callee.clone(),
            parties: view.parties.clone(),
            custom: serde_json::Value::Null,
            legs: Vec::new(),
            hangup_cause: Some(NASTY.into()),
            arrived_at: view.arrived_at,
            notices: Vec::new(),
        };
        let waveform = br#"{"channels":2,"bits":8,"data":[-9,9,-5,100,-128,127,0,0]}"#;
        let page = RecordingPage {
            frame: Frame {
                assets: "v",
                banner: None,
                zone: "UTC",
                version: "0",
            },
            row: Row::of(&view, Tz::UTC),
            waveform: wave::draw(waveform),
            original_href: Some("/original".into()),
            facts: facts(&call, Some(&view), Tz::UTC),
            siblings: vec![Sibling {
                href: "/recordings/x".into(),
                title: NASTY.into(),
            }],
            objects: vec![Object {
                role: "original",
                n: 1,
                bytes: 100,
                sha256: "00".into(),
                verified: "not yet".into(),
                key: NASTY.into(),
            }],
            history: vec![Step {
                at: "now".into(),
                from: NASTY.into(),
                to: NASTY.into(),
                reason: NASTY.into(),
            }],
            notices: vec![Notice {
                at: "now".into(),
                door: NASTY.into(),
                topic: NASTY.into(),
                result: NASTY.into(),
                sha256: "00".into(),
            }],
        };
        let html = page.render().unwrap();
        assert_eq!(html.matches("<script").count(), 1, "our own alone");
        assert!(!html.contains("<img") && !html.contains("onerror='y'"));
        assert!(html.contains("<path class=\"lane\" d=\"M0 "));
    }
}
