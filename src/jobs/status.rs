//! `status`: the database's figures and alarms, with what only the configuration and the spool know.

use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::domain::recording::reason;
use crate::domain::view::{Alarm, SpoolView, StatusView};
use crate::providers::sources::Sources;
use crate::spool::Usage;

/// Without a notice for so long, a source that is used to send some is worth a look.
const QUIET_AFTER_MS: i64 = 3 * 86_400_000;
/// A spool fuller than this (per cent) is an alarm.
const SPOOL_FULL_PERCENT: u64 = 80;

pub async fn status(
    db: &Database,
    sources: &Sources,
    spool: Usage,
    now: Timestamp,
) -> Result<StatusView, DbError> {
    let mut view = db.status_view(now).await?;
    view.spool = SpoolView {
        used_bytes: spool.used_bytes,
        limit_bytes: spool.limit_bytes,
    };
    for work in db.open_work().await? {
        if sources.get(&work.source).is_none() {
            view.alarms
                .push(unconfigured(&work.source, work.recordings, work.since));
        }
    }
    for status in &view.sources {
        if let (Some(provider), Some(last)) = (sources.get(&status.source), status.last_notice_at) {
            let after = provider
                .common()
                .quiet_after
                .map_or(QUIET_AFTER_MS, |after| after.as_millis() as i64);
            if now.since_ms(last) > after {
                view.alarms.push(quiet(&status.source, last));
            }
        }
    }
    if spool.used_bytes.saturating_mul(100) > spool.limit_bytes.saturating_mul(SPOOL_FULL_PERCENT) {
        view.alarms.push(nearly_full(spool));
    }
    Ok(view)
}

fn unconfigured(source: &str, count: u64, since: Option<Timestamp>) -> Alarm {
    Alarm {
        code: reason::SOURCE_UNCONFIGURED.to_owned(),
        source: Some(source.to_owned()),
        count,
        since,
        what: "recordings wait because their source is not in the configuration any more"
            .to_owned(),
        remedy: format!("add [sources.{source}] again: a source's name is for ever"),
    }
}

fn quiet(source: &str, last: Timestamp) -> Alarm {
    Alarm {
        code: "source_quiet".to_owned(),
        source: Some(source.to_owned()),
        count: 1,
        since: Some(last),
        what: "the vendor has sent no notice for long".to_owned(),
        remedy: "do its notices still reach us? `callvault sources` shows the addresses to give it"
            .to_owned(),
    }
}

fn nearly_full(spool: Usage) -> Alarm {
    Alarm {
        code: reason::SPOOL_FULL.to_owned(),
        source: None,
        count: 1,
        since: None,
        what: format!(
            "the spool holds {} of {} MiB",
            spool.used_bytes >> 20,
            spool.limit_bytes >> 20
        ),
        remedy: "is the archive away? See `callvault check`; or raise [spool] limit".to_owned(),
    }
}
