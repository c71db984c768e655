//! `status`: the database's figures and alarms, with what only the configuration and the spool know.

use std::collections::BTreeMap;
use std::path::Path;

use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::domain::recording::reason;
use crate::domain::view::{Alarm, SourceStatus, SpoolView, StatusView};
use crate::providers::sources::Sources;
use crate::spool::Usage;

use super::alarms;

pub async fn status(
    db: &Database,
    sources: &Sources,
    spool: Usage,
    archive_folder: Option<&Path>,
    now: Timestamp,
) -> Result<StatusView, DbError> {
    let mut view = db.status_view(now).await?;
    view.spool = SpoolView {
        used_bytes: spool.used_bytes,
        limit_bytes: spool.limit_bytes,
    };
    let open = db.open_work().await?;
    for status in &view.sources {
        if sources.get(&status.source).is_none() {
            let work = open.iter().find(|work| work.source == status.source);
            let (count, since) = work.map_or((0, None), |work| (work.recordings, work.since));
            view.alarms.push(unconfigured(&status.source, count, since));
        }
    }
    // One of which nothing but refused pushes is known has no kind in the database.
    for status in view.sources.iter_mut().filter(|s| s.kind.is_empty()) {
        if let Some(provider) = sources.get(&status.source) {
            provider.kind().clone_into(&mut status.kind);
        }
    }
    // A source that has never sent anything is worth seeing too.
    for (name, provider) in sources.snapshot().iter() {
        if !view.sources.iter().any(|status| status.source == *name) {
            view.sources.push(SourceStatus {
                source: name.clone(),
                kind: provider.kind().to_owned(),
                doors: BTreeMap::new(),
                archived: 0,
                found_by_sweep: 0,
                last_notice_at: None,
            });
        }
    }
    view.sources.sort_by(|a, b| a.source.cmp(&b.source));
    name_the_hosts(db, sources, &mut view.alarms).await?;
    alarms::faults(db, sources, now, &mut view.alarms).await?;
    alarms::clock(db, &mut view.alarms).await?;
    view.alarms.extend(alarms::slack(db, now).await?);
    view.alarms.extend(alarms::quiet(db, sources, now).await?);
    let database_folder = db.file().and_then(Path::parent);
    view.alarms
        .extend(alarms::room(spool, archive_folder, database_folder));
    view.alarms.extend(alarms::parked(spool));
    view.alarms
        .sort_by(|a, b| (&a.code, &a.source).cmp(&(&b.code, &b.source)));
    Ok(view)
}

/// The alarm on hosts that are not allowed names the line to add.
async fn name_the_hosts(
    db: &Database,
    sources: &Sources,
    alarms: &mut [Alarm],
) -> Result<(), DbError> {
    let waits = |alarm: &&mut Alarm| alarm.code == reason::HOST_NOT_ALLOWED;
    let mut concerned = alarms.iter_mut().filter(waits).peekable();
    if concerned.peek().is_none() {
        return Ok(());
    }
    let waiting = db.waiting_addresses(reason::HOST_NOT_ALLOWED).await?;
    for alarm in concerned {
        let source = alarm.source.clone().unwrap_or_default();
        let mut hosts: Vec<String> = sources
            .get(&source)
            .and_then(|provider| provider.common().allow_hosts.clone())
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        let known = hosts.len();
        for (_, address) in waiting.iter().filter(|(name, _)| *name == source) {
            let host = url::Url::parse(address).ok().and_then(|url| offered(&url));
            if let Some(host) = host.filter(|host| !hosts.contains(host)) {
                hosts.push(host);
            }
        }
        if hosts.len() > known {
            alarm.remedy = format!(
                "if these hosts are the vendor's, set in [sources.{source}]: allow_hosts = {hosts:?}"
            );
        }
    }
    Ok(())
}

/// A host that may be offered for pasting: a name. Numbers and this machine's own names are how a forged
/// notice would have us open the way into a private network.
fn offered(url: &url::Url) -> Option<String> {
    let Some(url::Host::Domain(name)) = url.host() else {
        return None;
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_local = name == "localhost"
        || [".localhost", ".local", ".internal", ".lan", ".home.arpa"]
            .iter()
            .any(|end| name.ends_with(end));
    (!is_local && name.contains('.')).then_some(name)
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
