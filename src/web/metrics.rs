//! Numbers for Prometheus: a few counters of this process, and the database's own counts at scrape time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::view::StatusView;

/// Upper edges of the histogram of answers to notices; one vendor gives up after 0.7 s.
const EDGES_S: [f64; 8] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.7];

/// Counters since this process started. Labels come from configuration and route patterns alone, so
/// that no caller can make new series.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    hooks: Mutex<BTreeMap<String, Histogram>>,
    denied: AtomicU64,
    unknown_hooks: AtomicU64,
    audio_bytes: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct Histogram {
    buckets: [u64; EDGES_S.len()],
    count: u64,
    sum_s: f64,
}

impl Metrics {
    /// One answer, by the pattern of its route.
    pub fn answered(&self, route: &str, status: u16) {
        let mut requests = lock(&self.requests);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// One answer to a vendor, from the request's head to the answer's.
    pub fn hook_answered(&self, source: &str, took: Duration) {
        let mut hooks = lock(&self.hooks);
        let histogram = hooks.entry(source.to_owned()).or_default();
        let took_s = took.as_secs_f64();
        histogram.count += 1;
        histogram.sum_s += took_s;
        for (bucket, edge) in histogram.buckets.iter_mut().zip(EDGES_S) {
            *bucket += u64::from(took_s <= edge);
        }
    }

    pub fn denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unknown_hook(&self) {
        self.unknown_hooks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn audio_sent(&self, bytes: u64) {
        self.audio_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// This process's own part of `/metrics`.
    pub fn write(&self, page: &mut Page) {
        page.family(
            "callvault_http_requests_total",
            "counter",
            "Answers by route and status.",
        );
        for ((route, status), count) in lock(&self.requests).iter() {
            page.sample(
                &[("route", route), ("status", &status.to_string())],
                *count as f64,
            );
        }
        page.family(
            "callvault_readers_denied_total",
            "counter",
            "Requests that may not read.",
        );
        page.sample(&[], self.denied.load(Ordering::Relaxed) as f64);
        page.family(
            "callvault_hooks_unknown_total",
            "counter",
            "Notices for no source of ours, or with a wrong token.",
        );
        page.sample(&[], self.unknown_hooks.load(Ordering::Relaxed) as f64);
        page.family(
            "callvault_audio_bytes_total",
            "counter",
            "Bytes of audio asked for and begun.",
        );
        page.sample(&[], self.audio_bytes.load(Ordering::Relaxed) as f64);
        page.family(
            "callvault_hook_seconds",
            "histogram",
            "Time to answer a notice.",
        );
        for (source, histogram) in lock(&self.hooks).iter() {
            for (count, edge) in histogram.buckets.iter().zip(EDGES_S) {
                page.part(
                    "_bucket",
                    &[("source", source), ("le", &edge.to_string())],
                    *count as f64,
                );
            }
            let count = histogram.count as f64;
            page.part("_bucket", &[("source", source), ("le", "+Inf")], count);
            page.part("_sum", &[("source", source)], histogram.sum_s);
            page.part("_count", &[("source", source)], count);
        }
    }
}

/// A poisoned counter is still a counter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What the database counts, for every process of the house alike.
#[derive(Clone, Debug)]
pub struct Numbers {
    pub status: StatusView,
    /// Source, state, how many.
    pub recordings: Vec<(String, String, u64)>,
    /// Source, and the least time left among its recordings that are not archived.
    pub slack_s: Vec<(String, i64)>,
}

impl Numbers {
    pub fn write(&self, page: &mut Page) {
        let status = &self.status;
        page.family(
            "callvault_notices_total",
            "counter",
            "Notices by source, door and what became of them.",
        );
        for source in &status.sources {
            for (door, counts) in &source.doors {
                for (result, count) in [
                    ("stored", counts.notices),
                    ("repeated", counts.repeated),
                    ("refused", counts.refused),
                ] {
                    let labels = [
                        ("source", &*source.source),
                        ("door", door),
                        ("result", result),
                    ];
                    page.sample(&labels, count as f64);
                }
            }
        }
        page.family(
            "callvault_notices_waiting",
            "gauge",
            "Notices that are not read yet.",
        );
        page.sample(&[], status.queues.notices.waiting as f64);
        page.family(
            "callvault_notices_unreadable",
            "gauge",
            "Notices that nobody could read; kept.",
        );
        page.sample(&[], status.queues.notices.unreadable as f64);
        page.family(
            "callvault_recordings",
            "gauge",
            "Recordings by source and state.",
        );
        for (source, state, count) in &self.recordings {
            page.sample(&[("source", source), ("state", state)], *count as f64);
        }
        page.family(
            "callvault_transcodes_waiting",
            "gauge",
            "Archived recordings whose access copy is to be made.",
        );
        page.sample(&[], status.queues.transcode_waiting as f64);
        page.family(
            "callvault_sweep_unannounced_total",
            "counter",
            "Recordings that polling found and nobody had announced.",
        );
        for source in &status.sources {
            page.sample(&[("source", &source.source)], source.found_by_sweep as f64);
        }
        page.family(
            "callvault_slack_seconds_min",
            "gauge",
            "Least seconds left until the vendor's copy or its link ends, over a source's recordings: from now for what waits, from archiving for what is archived; negative: too late.",
        );
        for (source, slack_s) in &self.slack_s {
            page.sample(&[("source", source)], *slack_s as f64);
        }
        page.family(
            "callvault_oldest_work_seconds",
            "gauge",
            "Age of the oldest work that waits; 0 without any.",
        );
        let age_ms = status
            .oldest_work_at
            .map_or(0, |at| status.now.since_ms(at));
        page.sample(&[], age_ms as f64 / 1000.0);
        page.family(
            "callvault_alarm",
            "gauge",
            "What a person should see, by code and source.",
        );
        for alarm in &status.alarms {
            let source = alarm.source.as_deref().unwrap_or_default();
            page.sample(
                &[("code", &alarm.code), ("source", source)],
                alarm.count as f64,
            );
        }
    }
}

/// Prometheus text, version 0.0.4.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Samples that follow belong to `name`.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.part("", labels, value);
    }

    fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (i, (name, value)) in labels.iter().enumerate() {
            let lead = if i == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{lead}{name}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_prometheus_text() {
        let metrics = Metrics::default();
        metrics.answered("/hooks/{source}", 200);
        metrics.hook_answered("a\"b", Duration::from_millis(30));
        let mut page = Page::default();
        metrics.write(&mut page);
        let text = page.finish();
        for line in [
            "# TYPE callvault_http_requests_total counter",
            "callvault_http_requests_total{route=\"/hooks/{source}\",status=\"200\"} 1",
            "callvault_hook_seconds_bucket{source=\"a\\\"b\",le=\"0.025\"} 0",
            "callvault_hook_seconds_bucket{source=\"a\\\"b\",le=\"0.05\"} 1",
            "callvault_hook_seconds_bucket{source=\"a\\\"b\",le=\"+Inf\"} 1",
            "callvault_hook_seconds_sum{source=\"a\\\"b\"} 0.03",
            "callvault_readers_denied_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
