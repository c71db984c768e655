//! `status`: queues, oldest work, least slack, counters, alarms; ends with 3 when there is an alarm.

use std::sync::Arc;

use crate::app;
use crate::domain::clock::{Clock as _, SharedClock, SystemClock};
use crate::domain::view::StatusView;
use crate::jobs::status;
use crate::providers::http::GuardedClient;
use crate::spool::Spool;

use super::{Failure, Global, Out, exit};

pub async fn run(global: &Global, out: &Out) -> Result<u8, Failure> {
    let config = super::run::load(global)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let db = app::open_database(&config, &clock).await?;
    let client = Arc::new(GuardedClient::new(clock.clone()));
    let sources = app::open_sources(&config, &client, &clock, &app::shared_pace(&db, &clock))?;
    let spool = Spool::open(&config.spool, &config.base_dir)
        .await
        .map_err(|error| {
            Failure::failed(
                error.code(),
                error.to_string(),
                "[spool]",
                "see callvault check",
            )
        })?;
    let usage = spool.usage().await.map_err(|error| {
        Failure::failed(
            error.code(),
            error.to_string(),
            "[spool]",
            "see callvault check",
        )
    })?;
    let folder = config.archive.folder(&config.base_dir);
    let view = status::status(&db, &sources, usage, folder.as_deref(), SystemClock.now()).await?;
    out.item(&view, || text(&view));
    Ok(if view.alarms.is_empty() {
        exit::DONE
    } else {
        exit::LOOK
    })
}

fn text(view: &StatusView) -> String {
    let mut text = String::new();
    let states: Vec<String> = view
        .queues
        .recordings
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    text += &format!(
        "recordings   {}\nnotices      {} waiting, {} unreadable, {} in part\naccess       {} waiting\n",
        if states.is_empty() {
            "none yet".to_owned()
        } else {
            states.join(", ")
        },
        view.queues.notices.waiting,
        view.queues.notices.unreadable,
        view.queues.notices.unreadable_in_part,
        view.queues.transcode_waiting
    );
    if let Some(at) = view.oldest_work_at {
        text += &format!("oldest work  {at}\n");
    }
    if let Some(slack) = &view.least_slack {
        text += &format!(
            "least slack  {:.1} days ({})\n",
            slack.seconds as f64 / 86_400.0,
            slack.recording_id
        );
    }
    for source in &view.sources {
        let doors: Vec<String> = source
            .doors
            .iter()
            .map(|(door, n)| {
                format!(
                    "{door} {} ({} repeated, {} refused)",
                    n.notices, n.repeated, n.refused
                )
            })
            .collect();
        text += &format!(
            "{:<12} {} archived; notices: {}\n",
            source.source,
            source.archived,
            if doors.is_empty() {
                "none".to_owned()
            } else {
                doors.join(", ")
            }
        );
    }
    for alarm in &view.alarms {
        text += &format!(
            "ALARM {}{}: {} {}\n      {}\n",
            alarm.code,
            alarm
                .source
                .as_ref()
                .map_or(String::new(), |s| format!(" [{s}]")),
            alarm.count,
            alarm.what,
            alarm.remedy
        );
    }
    if view.alarms.is_empty() {
        text.push_str("no alarm");
    }
    text.trim_end().to_owned()
}
