//! `/recordings/{id}`: a recording to listen to, and all that is known of its call. A call's id shows its first recording.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use chrono_tz::Tz;
use futures::TryStreamExt;
use uuid::Uuid;

use super::facts::{self, Fact};
use super::frame::{self, Frame, Section, Visit};
use super::row::{self, Row};
use super::text::Lang;
use super::timeline::{self, Bar};
use super::wave::{self, Drawing};
use super::words;
use crate::domain::recording::{Role, State as RecordingState};
use crate::domain::rights::Right;
use crate::domain::view::{CallView, NoticeView, ObjectView, RecordingDetail, ShowView};
use crate::web::access::settings::Asked;
use crate::web::api::{id, query};
use crate::web::problem::ApiError;
use crate::web::reads::{Beside, Reads};
use crate::web::state::WebState;

/// Ours are some tens of kilobytes; what is larger is not drawn.
const MOST_WAVEFORM_BYTES: u64 = 2 << 20;
/// A playlist may have thousands of segments; `show` lists them all.
const MOST_ORIGINALS: u32 = 40;

#[derive(Template)]
#[template(path = "recording.html")]
struct RecordingPage {
    frame: Frame,
    row: Row,
    player: Option<Player>,
    call_id: String,
    /// Nothing is heard or taken before somebody says why.
    asks_reason: bool,
    /// Both parties in one, where there is such a copy: offered before the recording's own.
    joint: Option<Joint>,
    original_href: Option<String>,
    facts: Vec<Fact>,
    clocks: Vec<Fact>,
    bars: Vec<Bar>,
    objects: Vec<Object>,
    history: Vec<Step>,
    notices: Vec<Notice>,
    beside: Shown,
}

struct Joint {
    audio: String,
    length: Option<String>,
}

struct Player {
    recording_id: String,
    audio: String,
    waveform: Option<Drawing>,
    waveform_href: String,
    channels: u16,
    duration_s: String,
    /// Where it opens, in seconds.
    at_s: String,
}

/// What people left, as the page shows it.
#[derive(Default)]
struct Shown {
    markers: Vec<MarkerLine>,
    notes: Vec<NoteLine>,
    tags: Vec<String>,
}

struct MarkerLine {
    id: String,
    seconds: String,
    at: String,
    x: String,
    text: String,
    author: String,
    made: String,
}

struct NoteLine {
    text: String,
    author: String,
    made: String,
}

struct Object {
    role: &'static str,
    n: u32,
    size: String,
    bytes: u64,
    sha256: String,
    verified: String,
    key: String,
    made_from: Option<String>,
    tool: Option<String>,
}

struct Step {
    at: String,
    what: String,
    why: Option<String>,
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
    visit: Visit,
    path: id::Given,
    RawQuery(raw): RawQuery,
) -> Response {
    let page = async {
        let id = id::recording(path)?;
        let at_s = at(raw.as_deref().unwrap_or_default())?;
        page(&state, &visit, id, at_s).await
    };
    match page.await {
        Ok(page) => frame::render(&state, &page),
        Err(error) => frame::problem(&state, &visit, &error),
    }
}

/// The second at which a link opens: `t=83`, also `t=83.5`.
fn at(raw: &str) -> Result<f64, ApiError> {
    let mut at = 0.0;
    for (name, value) in query::pairs(raw)? {
        let seconds = value.parse::<f64>().ok().filter(|t| (0.0..1e7).contains(t));
        match (name.as_str(), seconds) {
            ("t", Some(seconds)) => at = seconds,
            ("t", None) => {
                return Err(ApiError::bad_request(format!(
                    "t={value}: write seconds, such as t=83"
                )));
            }
            _ => {
                return Err(ApiError::bad_request(format!(
                    "{name} is no parameter here"
                )));
            }
        }
    }
    Ok(at)
}

async fn page(
    state: &WebState,
    visit: &Visit,
    id: Uuid,
    at_s: f64,
) -> Result<RecordingPage, ApiError> {
    let (zone, lang) = (state.settings.time_zone, visit.lang);
    let reads = Reads::of(state, &visit.reader);
    let shown = reads.show(id).await?;
    let ShowView {
        call,
        recordings,
        call_access,
    } = &shown;
    // A call's own page stands on its first recording, where it has one.
    let detail = recordings
        .iter()
        .find(|detail| detail.recording.recording_id == Some(id))
        .or(recordings.first());
    let recording_id = detail.and_then(|detail| detail.recording.recording_id);
    let beside = reads.beside(&shown, recording_id).await?;
    let mut page = RecordingPage {
        frame: Frame::of(state, visit, Section::Search),
        row: match detail {
            Some(detail) => Row::of(&detail.recording, zone, lang),
            None => Row::of(&facts::without_recording(call), zone, lang),
        },
        player: None,
        call_id: call.call_id.to_string(),
        asks_reason: false,
        joint: call_access
            .as_ref()
            .filter(|_| visit.reader.may(Right::Play))
            .map(|access| Joint {
                audio: format!("/api/v1/calls/{}/audio", call.call_id),
                length: access.duration_ms.map(words::length),
            }),
        original_href: None,
        facts: facts::facts(call, detail, zone, lang),
        clocks: detail.map_or(Vec::new(), |detail| {
            facts::clocks(&detail.recording, zone, lang)
        }),
        bars: timeline::bars(call, recordings, recording_id, zone, lang),
        objects: Vec::new(),
        history: Vec::new(),
        notices: told(call, detail, zone, lang),
        beside: Shown::default(),
    };
    let Some(detail) = detail else {
        page.beside = left(beside, 0, 0, zone);
        return Ok(page);
    };
    let recording = &detail.recording;
    let length_ms = recording
        .access
        .as_ref()
        .and_then(|access| access.duration_ms)
        .or(recording
            .original
            .as_ref()
            .and_then(|original| original.duration_ms))
        .or(recording.duration_ms)
        .unwrap_or(0);
    page.objects = detail
        .objects
        .iter()
        .filter(|object| object.role != Role::Original || object.n <= MOST_ORIGINALS)
        .map(|object| line(object, detail, zone, lang))
        .collect();
    page.history = detail
        .history
        .iter()
        .map(|step| Step {
            at: words::full(step.at, zone),
            what: words::step(&step.to, lang).to_owned(),
            why: step
                .reason
                .as_deref()
                .map(|code| words::Coded::new(code, lang).words),
        })
        .collect();
    let archived = recording.state == RecordingState::Archived.as_str();
    // The door of the sound asks again; here it is only not offered.
    page.row.audio = page.row.audio.filter(|_| visit.reader.may(Right::Play));
    let mut may_take = archived && visit.reader.may(Right::Download);
    if may_take && reads.must_ask(call.call_id, Asked::Download).await? {
        page.asks_reason |= recording.original.is_some();
        may_take = false;
    }
    let is_heard = page.row.audio.is_some() || page.joint.is_some();
    if is_heard && reads.must_ask(call.call_id, Asked::Play).await? {
        page.asks_reason = true;
        page.row.audio = None;
        page.joint = None;
    }
    page.original_href = recording_id
        .filter(|_| may_take && recording.original.is_some())
        .map(|id| format!("/api/v1/recordings/{id}/audio?role=original"));
    let mut width = 0;
    if let (Some(audio), Some(id)) = (page.row.audio.clone(), recording_id) {
        let waveform = waveform(state, detail).await;
        width = waveform.as_ref().map_or(0, |drawing| drawing.width);
        page.player = Some(Player {
            recording_id: id.to_string(),
            audio,
            waveform,
            waveform_href: format!("/api/v1/recordings/{id}/waveform"),
            channels: recording
                .access
                .as_ref()
                .and_then(|a| a.channels)
                .unwrap_or(1),
            duration_s: seconds(length_ms as f64 / 1000.0),
            at_s: seconds(at_s),
        });
    }
    page.beside = left(beside, length_ms, width, zone);
    Ok(page)
}

fn seconds(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Markers stand at their place in a drawing that is so many units wide.
fn left(beside: Beside, length_ms: i64, width: usize, zone: Tz) -> Shown {
    let scale = width as f64 / length_ms.max(1) as f64;
    let markers = beside.markers.into_iter().map(|marker| MarkerLine {
        id: marker.marker_id.to_string(),
        seconds: seconds(marker.offset_ms as f64 / 1000.0),
        at: words::length(marker.offset_ms),
        x: format!("{:.2}", marker.offset_ms as f64 * scale),
        text: marker.text,
        author: marker.author,
        made: words::full(marker.made_at, zone),
    });
    let notes = beside.notes.into_iter().map(|note| NoteLine {
        text: note.text,
        author: note.author,
        made: words::full(note.made_at, zone),
    });
    Shown {
        markers: markers.collect(),
        notes: notes.collect(),
        tags: beside.tags,
    }
}

fn line(object: &ObjectView, detail: &RecordingDetail, zone: Tz, lang: Lang) -> Object {
    // A hash is for machines; people want to know which of the lines above it was.
    let made_from = object.made_from.as_ref().map(|hash| {
        let source = detail.objects.iter().find(|other| other.sha256 == *hash);
        match source {
            Some(source) => format!("{} {}", words::role(source.role, lang), source.n),
            None => hash.to_string(),
        }
    });
    Object {
        role: words::role(object.role, lang),
        n: object.n,
        size: words::size(object.bytes),
        bytes: object.bytes,
        sha256: object.sha256.to_string(),
        verified: object
            .verified_at
            .map_or(lang.text().not_yet.to_owned(), |at| words::full(at, zone)),
        key: object.key.clone(),
        made_from,
        tool: object.tool.clone(),
    }
}

fn told(call: &CallView, detail: Option<&RecordingDetail>, zone: Tz, lang: Lang) -> Vec<Notice> {
    let mut notices: Vec<&NoticeView> = call.notices.iter().collect();
    for notice in detail.into_iter().flat_map(|detail| &detail.notices) {
        if notices
            .iter()
            .all(|known| known.notice_id != notice.notice_id)
        {
            notices.push(notice);
        }
    }
    notices.sort_by_key(|notice| (notice.arrived_at, notice.notice_id));
    notices
        .into_iter()
        .map(|notice| Notice {
            at: words::full(notice.arrived_at, zone),
            door: words::door(&notice.door, lang).to_owned(),
            topic: row::shown(&notice.topic),
            result: words::result(&notice.result, lang).to_owned(),
            sha256: notice.sha256.to_string(),
        })
        .collect()
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
    // A store that hangs must not hold the page: the player says by itself what is wrong.
    match tokio::time::timeout(WAVEFORM_WITHIN, read).await {
        Ok(Ok(json)) => wave::draw(&json),
        Ok(Err(error)) => {
            tracing::warn!(%key, %error, "a waveform cannot be read");
            None
        }
        Err(_) => {
            tracing::warn!(%key, "a waveform did not come in time");
            None
        }
    }
}

const WAVEFORM_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = r#""><script>alert(1)</script><img src=x onerror='y'>"#;

    #[test]
    fn links_open_at_a_second() {
        assert_eq!(at("t=83").unwrap(), 83.0);
        assert_eq!(seconds(at("t=83.5").unwrap()), "83.5");
        for bad in ["t=-1", "t=x", "t=", "x=1", "t=inf"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_providers_and_people_write_is_text_on_the_page() {
        let view = super::super::row::sample(NASTY);
        let mut call = facts::sample_call(&view);
        call.hangup_cause = Some(NASTY.into());
        let detail = RecordingDetail {
            recording: view,
            objects: Vec::new(),
            history: Vec::new(),
            notices: Vec::new(),
        };
        let waveform = br#"{"channels":2,"bits":8,"data":[-9,9,-5,100,-128,127,0,0]}"#;
        for lang in [Lang::En, Lang::Zh] {
            let zone = Tz::UTC;
            let page = RecordingPage {
                frame: Frame::sample(lang),
                row: Row::of(&detail.recording, zone, lang),
                player: Some(Player {
                    recording_id: "7".into(),
                    audio: "/audio".into(),
                    waveform: wave::draw(waveform),
                    waveform_href: "/waveform".into(),
                    channels: 2,
                    duration_s: "186.5".into(),
                    at_s: "83".into(),
                }),
                asks_reason: false,
                call_id: "8".into(),
                joint: Some(Joint {
                    audio: "/joint".into(),
                    length: Some(NASTY.into()),
                }),
                original_href: Some("/original".into()),
                facts: facts::facts(&call, Some(&detail), zone, lang),
                clocks: facts::clocks(&detail.recording, zone, lang),
                bars: timeline::bars(&call, std::slice::from_ref(&detail), None, zone, lang),
                objects: vec![Object {
                    role: "original",
                    n: 1,
                    size: "100 B".into(),
                    bytes: 100,
                    sha256: "00".into(),
                    verified: "not yet".into(),
                    key: NASTY.into(),
                    made_from: Some(NASTY.into()),
                    tool: Some(NASTY.into()),
                }],
                history: vec![Step {
                    at: "now".into(),
                    what: NASTY.into(),
                    why: Some(NASTY.into()),
                }],
                notices: vec![Notice {
                    at: "now".into(),
                    door: NASTY.into(),
                    topic: NASTY.into(),
                    result: NASTY.into(),
                    sha256: "00".into(),
                }],
                beside: Shown {
                    markers: vec![MarkerLine {
                        id: "1".into(),
                        seconds: "1".into(),
                        at: "0:01".into(),
                        x: "3".into(),
                        text: NASTY.into(),
                        author: NASTY.into(),
                        made: "now".into(),
                    }],
                    notes: vec![NoteLine {
                        text: NASTY.into(),
                        author: NASTY.into(),
                        made: "now".into(),
                    }],
                    tags: vec![NASTY.into()],
                },
            };
            let html = page.render().unwrap();
            assert_eq!(html.matches("<script").count(), 1, "our own alone");
            assert!(!html.contains("<img") && !html.contains("onerror='y'"));
            assert!(!html.contains("style="), "styles stand in the style sheet");
            assert!(html.contains("d=\"M0 "));
        }
    }
}
