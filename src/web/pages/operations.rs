//! `/operations`: what comes in, what waits, what is near its end, why, and what to do about it.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use chrono_tz::Tz;

use super::frame::{self, Frame, Section, Visit};
use super::row::Row;
use super::text::Lang;
use super::{alarms, words};
use crate::domain::clock::Timestamp;
use crate::domain::view::{ExpiryBucket, HourCount, OperationsView, RecordingView, SourceStatus};
use crate::web::api::query;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

/// Height of a chart's highest column, in its own units.
const HEIGHT: f64 = 100.0;

#[derive(Template)]
#[template(path = "operations.html")]
struct OperationsPage {
    frame: Frame,
    has_sources: bool,
    alarms: Vec<Alarm>,
    parts: Vec<Part>,
    queue: Vec<Count>,
    oldest: Option<String>,
    least_slack: Option<Slack>,
    spool: Option<Spool>,
    hours: Chart,
    expiry: Chart,
    expiry_is_empty: bool,
    reasons: Vec<Reason>,
    sources: Vec<Source>,
    aside: Vec<Stuck>,
    nearest: Vec<Stuck>,
}

struct Alarm {
    what: String,
    /// Commands apart from text.
    remedy: Vec<(bool, String)>,
    /// The language that it is in: not every alarm has words in each.
    tag: &'static str,
    code: String,
    source: Option<String>,
    count: u64,
    since: Option<String>,
}

struct Part {
    name: &'static str,
    is_ok: bool,
}

struct Count {
    name: &'static str,
    n: u64,
    href: Option<&'static str>,
    is_bad: bool,
}

struct Slack {
    text: String,
    href: String,
}

struct Spool {
    used: String,
    limit: String,
    percent: u64,
}

/// Columns of a drawing that is so many wide and `HEIGHT` high.
struct Chart {
    columns: Vec<Column>,
    width: usize,
    most: u64,
}

struct Column {
    x: usize,
    y: String,
    height: String,
    n: u64,
    label: String,
    /// The label is written below the axis.
    is_labelled: bool,
    class: &'static str,
}

struct Reason {
    source: String,
    words: words::Coded,
    remedy: &'static str,
    n: u64,
    since: Option<String>,
}

struct Source {
    name: String,
    kind: String,
    doors: Vec<String>,
    archived: u64,
    swept: u64,
    last: Option<String>,
}

/// A recording that a person may try again.
struct Stuck {
    row: Row,
    id: String,
    left: Option<String>,
}

pub async fn show(
    State(state): State<WebState>,
    visit: Visit,
    RawQuery(raw): RawQuery,
) -> Response {
    let page = async {
        query::none(raw.as_deref())?;
        let view = Reads::of(&state, &visit.reader).operations().await?;
        Ok::<_, ApiError>(page(&state, &visit, view))
    };
    match page.await {
        Ok(page) => frame::render(&state, &page),
        Err(error) => frame::problem(&state, &visit, &error),
    }
}

fn page(state: &WebState, visit: &Visit, view: OperationsView) -> OperationsPage {
    let (zone, lang) = (state.settings.time_zone, visit.lang);
    let t = lang.text();
    let now = view.status.now;
    let status = &view.status;
    let of = |state: &str| status.queues.recordings.get(state).copied().unwrap_or(0);
    let count = |name, n, href, is_bad| Count {
        name,
        n,
        href,
        is_bad,
    };
    let limit = status.spool.limit_bytes;
    OperationsPage {
        frame: Frame::of(state, visit, Section::Operations),
        has_sources: !state.providers.snapshot().is_empty(),
        alarms: status
            .alarms
            .iter()
            .map(|alarm| {
                let own = alarms::words(alarm, lang);
                let is_own = own.is_some();
                let (what, remedy) =
                    own.unwrap_or_else(|| (alarm.what.clone(), alarm.remedy.clone()));
                Alarm {
                    what,
                    remedy: words::spans(&remedy),
                    tag: if is_own { lang.tag() } else { Lang::En.tag() },
                    code: alarm.code.clone(),
                    source: alarm.source.clone(),
                    count: alarm.count,
                    since: alarm.since.map(|at| words::full(at, zone)),
                }
            })
            .collect(),
        parts: [
            ("database", t.database),
            ("storage", t.storage),
            ("spool", t.spool),
        ]
        .into_iter()
        .map(|(part, name)| Part {
            name,
            is_ok: view.parts.get(part).is_some_and(|part| part == "ok"),
        })
        .collect(),
        queue: vec![
            count(
                t.notices_waiting,
                status.queues.notices.waiting,
                None,
                false,
            ),
            count(t.pending, of("pending"), Some("/?state=pending"), false),
            count(t.staged, of("staged"), Some("/?state=staged"), false),
            count(
                t.copies_waiting,
                status.queues.transcode_waiting,
                None,
                false,
            ),
            count(
                t.quarantined,
                of("quarantined"),
                Some("/?state=quarantined"),
                true,
            ),
            count(
                words::state("lost", lang),
                of("lost"),
                Some("/?state=lost"),
                true,
            ),
            count(
                t.notices_unreadable,
                status.queues.notices.unreadable,
                None,
                true,
            ),
        ],
        oldest: status.oldest_work_at.map(|at| words::full(at, zone)),
        least_slack: status.least_slack.as_ref().map(|least| Slack {
            text: words::span(least.seconds, lang),
            href: format!("/recordings/{}", least.recording_id),
        }),
        spool: (limit > 0).then(|| Spool {
            used: words::size(status.spool.used_bytes),
            limit: words::size(limit),
            percent: status.spool.used_bytes.saturating_mul(100) / limit,
        }),
        hours: hours(&view.notices_by_hour, zone),
        expiry_is_empty: view
            .time_to_expiry
            .iter()
            .all(|bucket| bucket.recordings == 0),
        expiry: expiry(&view.time_to_expiry, lang),
        reasons: view
            .wait_reasons
            .iter()
            .map(|reason| Reason {
                source: reason.source.clone(),
                words: words::Coded::new(&reason.reason, lang),
                remedy: words::remedy(&reason.reason, lang),
                n: reason.recordings,
                since: reason.since.map(|at| words::full(at, zone)),
            })
            .collect(),
        sources: status
            .sources
            .iter()
            .map(|source| told(source, zone, lang))
            .collect(),
        aside: stuck(&view.quarantined, zone, lang, now),
        nearest: stuck(&view.nearest_loss, zone, lang, now),
    }
}

fn told(source: &SourceStatus, zone: Tz, lang: Lang) -> Source {
    let doors = source.doors.iter().map(|(door, counts)| {
        let door = words::door(door, lang);
        format!(
            "{door} {} / {} / {}",
            counts.notices, counts.repeated, counts.refused
        )
    });
    Source {
        name: source.source.clone(),
        kind: source.kind.clone(),
        doors: doors.collect(),
        archived: source.archived,
        swept: source.found_by_sweep,
        last: source.last_notice_at.map(|at| words::full(at, zone)),
    }
}

fn stuck(views: &[RecordingView], zone: Tz, lang: Lang, now: Timestamp) -> Vec<Stuck> {
    let lines = views.iter().filter_map(|view| {
        Some(Stuck {
            id: view.recording_id?.to_string(),
            row: Row::of(view, zone, lang),
            left: view
                .gone_at
                .map(|at| words::span((at.ms() - now.ms()) / 1000, lang)),
        })
    });
    lines.collect()
}

fn hours(counts: &[HourCount], zone: Tz) -> Chart {
    let last = counts.len().saturating_sub(1);
    let columns = counts.iter().enumerate().map(|(at, count)| {
        let local = count.from.utc().with_timezone(&zone);
        // Both ends and the middle: labels are spread evenly below.
        let is_labelled = at == 0 || at == last || at == last.div_ceil(2);
        let label = local.format("%m-%d %H:%M").to_string();
        (count.notices, label, is_labelled, "bar")
    });
    chart(columns.collect())
}

fn expiry(buckets: &[ExpiryBucket], lang: Lang) -> Chart {
    let t = lang.text();
    let mut below = None;
    let columns = buckets.iter().map(|bucket| {
        let label = match (bucket.is_known, bucket.below_hours, below) {
            (false, ..) => t.unknown_end.to_owned(),
            (true, Some(0), _) => t.overdue.to_owned(),
            (true, Some(hours), _) if hours < 48 => format!("< {hours} {}", t.hours),
            (true, Some(hours), _) => format!("< {} {}", hours / 24, t.days),
            (true, None, Some(hours)) => format!("≥ {} {}", hours / 24, t.days),
            (true, None, None) => String::new(),
        };
        below = bucket.below_hours;
        let class = match bucket.below_hours {
            Some(0..=1) => "bar bad",
            Some(2..=24) => "bar wait",
            _ => "bar",
        };
        (bucket.recordings, label, true, class)
    });
    chart(columns.collect())
}

fn chart(columns: Vec<(u64, String, bool, &'static str)>) -> Chart {
    let most = columns.iter().map(|(n, ..)| *n).max().unwrap_or(0);
    let width = columns.len();
    let columns = columns
        .into_iter()
        .enumerate()
        .map(|(x, (n, label, is_labelled, class))| {
            // What is there at all is to be seen.
            let height = if n == 0 {
                0.0
            } else {
                (HEIGHT * n as f64 / most.max(1) as f64).max(2.0)
            };
            Column {
                x,
                y: format!("{:.1}", HEIGHT - height),
                height: format!("{height:.1}"),
                n,
                label,
                is_labelled,
                class,
            }
        });
    Chart {
        columns: columns.collect(),
        width,
        most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_high_as_its_share_and_one_is_not_nothing() {
        let chart = chart(vec![
            (1000, "a".into(), true, "bar"),
            (500, "b".into(), true, "bar"),
            (1, "c".into(), true, "bar"),
            (0, "d".into(), true, "bar"),
        ]);
        let heights: Vec<_> = chart
            .columns
            .iter()
            .map(|column| column.height.as_str())
            .collect();
        assert_eq!(heights, ["100.0", "50.0", "2.0", "0.0"]);
        assert_eq!((chart.most, chart.width), (1000, 4));
    }

    #[test]
    fn every_class_of_the_histogram_has_its_own_name() {
        let known = crate::db::operations::EXPIRY_HOURS.map(|hours| ExpiryBucket {
            below_hours: Some(hours).filter(|hours| *hours < i64::MAX),
            is_known: true,
            recordings: 0,
        });
        let unknown = ExpiryBucket {
            below_hours: None,
            is_known: false,
            recordings: 1,
        };
        let buckets: Vec<_> = known.into_iter().chain([unknown]).collect();
        let chart = expiry(&buckets, Lang::En);
        let labels: Vec<_> = chart
            .columns
            .iter()
            .map(|column| column.label.as_str())
            .collect();
        assert_eq!(labels[..3], ["past", "< 1 hours", "< 6 hours"]);
        assert_eq!(labels[6..], ["< 30 days", "≥ 30 days", "end unknown"]);
    }
}
