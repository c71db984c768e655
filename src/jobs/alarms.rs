//! Alarms that need the configuration, the clock or this machine's disks; the others are counts in the
//! database (`db/status.rs`).

use std::path::Path;
use std::time::Duration;

use crate::db::alarms::{Dying, Heard};
use crate::db::faults::Fault;
use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::domain::recording::reason;
use crate::domain::view::Alarm;
use crate::pipeline::faults::{CANNOT_LIST_BUCKET, QUEUE_MISSING};
use crate::providers::sources::Sources;
use crate::spool::Usage;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// A source is told of with its narrowest step alone.
const SLACK: [(&str, i64); 4] = [
    ("slack_1d", DAY_MS),
    ("slack_2d", 2 * DAY_MS),
    ("slack_5d", 5 * DAY_MS),
    ("slack_10d", 10 * DAY_MS),
];
/// Without a notice for so long, a source that is used to send some is worth a look.
const QUIET_AFTER_MS: i64 = 3 * DAY_MS;
/// A gap of so many usual ones is none.
const USUAL_GAPS: i64 = 10;
/// A spool or disk fuller than this (per cent) is an alarm.
const FULL_PERCENT: u64 = 80;
/// A vendor that does not answer for longer than this.
const FAILING_MS: i64 = 3600 * 1000;
/// A fault that nobody saw again for so long concerns nobody any more.
const FORGOTTEN_MS: i64 = DAY_MS;
/// As the workers hold it: further off the database's clock, a process claims nothing.
pub const CLOCK_TOLERANCE_MS: i64 = 5_000;
/// What stands in a fault of the house itself: `clock MACHINE`.
pub const CLOCK: &str = "clock";
/// The other fault of the house: its backup fails.
pub const BACKUP: &str = "backup";
pub const BACKUP_FAILED: &str = "backup_failed";
/// And that a restored database does not know all that the archive holds.
pub const RESTORE: &str = "restore";
pub const RESTORE_INCOMPLETE: &str = "restore_incomplete";
/// And that stored objects cannot be read again.
pub const FIXITY_DOING: &str = "fixity";
pub const FIXITY_FAILING: &str = "fixity_failing";
/// The archive was read, and something in it could not be taken in.
pub const LEFT_OUT: &str = "left_out";
/// A worker compares its clock every minute.
const CLOCK_SEEN_MS: i64 = 10 * 60 * 1000;

fn alarm(code: &str, source: Option<&str>, what: String, remedy: &str) -> Alarm {
    Alarm {
        code: code.to_owned(),
        source: source.map(str::to_owned),
        count: 1,
        since: None,
        what,
        remedy: remedy.to_owned(),
    }
}

/// Recordings whose time at the vendor runs out: for each source the narrowest step.
pub async fn slack(db: &Database, now: Timestamp) -> Result<Vec<Alarm>, DbError> {
    let mut alarms: Vec<Alarm> = Vec::new();
    for (code, within_ms) in SLACK {
        for dying in db.dying(within_ms, now).await? {
            let source = Some(dying.source.as_str());
            if !alarms.iter().any(|known| known.source.as_deref() == source) {
                alarms.push(dies(code, within_ms, &dying));
            }
        }
    }
    Ok(alarms)
}

fn dies(code: &str, within_ms: i64, dying: &Dying) -> Alarm {
    let what = match within_ms / DAY_MS {
        1 => "recordings that are not archived are deleted by the vendor within a day".to_owned(),
        days => {
            format!("recordings that are not archived are deleted by the vendor within {days} days")
        }
    };
    let remedy = format!(
        "see `callvault search --source {} --state pending` for their reasons; is the vendor, the archive or a worker away?",
        dying.source
    );
    Alarm {
        count: dying.recordings,
        since: dying.since,
        ..alarm(code, Some(&dying.source), what, &remedy)
    }
}

/// What the vendors' doors answered: refused credentials, whatever was asked, and questions that fail for long.
pub async fn faults(
    db: &Database,
    sources: &Sources,
    now: Timestamp,
    alarms: &mut Vec<Alarm>,
) -> Result<(), DbError> {
    for fault in db.faults().await? {
        let is_fresh = now.since_ms(fault.last) < FORGOTTEN_MS;
        if is_fresh && fault.source.is_empty() {
            clock_fault(&fault, now, alarms);
            backup_fault(&fault, alarms);
            restore_fault(&fault, alarms);
            fixity_fault(&fault, now, alarms);
        } else if is_fresh && sources.get(&fault.source).is_some() {
            vendor_fault(&fault, now, alarms);
        }
    }
    Ok(())
}

fn vendor_fault(fault: &Fault, now: Timestamp, alarms: &mut Vec<Alarm>) {
    let source = Some(fault.source.as_str());
    let found = if fault.code == reason::CREDENTIALS_REFUSED && fault.doing == "receive" {
        alarm(
            reason::CREDENTIALS_REFUSED,
            source,
            "the broker refuses our user or password, or does not let this user at the queue"
                .to_owned(),
            "correct the source's url and reload, or the user's rights at the broker; nothing is lost there meanwhile",
        )
    } else if fault.code == QUEUE_MISSING {
        alarm(
            QUEUE_MISSING,
            source,
            "the broker has not the queue or stream that the source names, and create = false"
                .to_owned(),
            "make it at the broker (it is looked for again every few seconds), correct the name, or write create = true",
        )
    } else if fault.code == reason::CREDENTIALS_REFUSED {
        alarm(
            reason::CREDENTIALS_REFUSED,
            source,
            "the vendor refuses our credentials".to_owned(),
            "check the source's secrets with `callvault check`",
        )
    } else if fault.code == reason::ARCHIVE_CONFLICT {
        alarm(
            reason::ARCHIVE_CONFLICT,
            source,
            "an archived original is not what it was when it was read back before its vendor's copy was to be deleted".to_owned(),
            "look at the store and its versions; the vendor's copy was not deleted",
        )
    } else if fault.code == CANNOT_LIST_BUCKET {
        alarm(
            CANNOT_LIST_BUCKET,
            source,
            "the bucket's key may not list it, so what no callback announces there stays unknown"
                .to_owned(),
            "allow the key cos:GetBucket beside cos:GetObject, or write list = false in the source's cos",
        )
    } else if now.since_ms(fault.since) >= FAILING_MS {
        alarm(
            "questions_failing",
            source,
            format!("the vendor does not answer as it should ({})", fault.code),
            "`callvault sync` tries now and says what came; `callvault check` looks at the keys",
        )
    } else {
        return;
    };
    // One alarm a reason and source, however many doors show it.
    let same = |known: &&mut Alarm| known.code == found.code && known.source == found.source;
    match alarms.iter_mut().find(same) {
        Some(known) => {
            known.since = [known.since, Some(fault.since)].into_iter().flatten().min();
        }
        None => alarms.push(Alarm {
            since: Some(fault.since),
            ..found
        }),
    }
}

fn clock_fault(fault: &Fault, now: Timestamp, alarms: &mut Vec<Alarm>) {
    let Some(machine) = fault.doing.strip_prefix(CLOCK) else {
        return;
    };
    if now.since_ms(fault.last).abs() >= CLOCK_SEEN_MS {
        return;
    }
    match alarms.iter_mut().find(|known| known.code == CLOCK) {
        Some(known) => known.count += 1,
        None => alarms.push(Alarm {
            since: Some(fault.since),
            ..clock_is_off(machine.trim())
        }),
    }
}

fn backup_fault(fault: &Fault, alarms: &mut Vec<Alarm>) {
    if fault.doing == BACKUP {
        alarms.push(Alarm {
            since: Some(fault.since),
            ..alarm(
                BACKUP_FAILED,
                None,
                format!(
                    "the scheduled backup of the database fails ({})",
                    fault.code
                ),
                "`callvault backup` tries now and says why; it is tried again every ten minutes",
            )
        });
    }
}

fn restore_fault(fault: &Fault, alarms: &mut Vec<Alarm>) {
    if fault.doing != RESTORE {
        return;
    }
    let (what, remedy) = if fault.code == LEFT_OUT {
        (
            "this database was restored from a backup, and something in the archive could not be taken in: the vendor may bring it a second time".to_owned(),
            "`callvault rebuild --from-archive --missing` names it, and so does the log; it is tried again every hour",
        )
    } else {
        (
            format!(
                "this database was restored from a backup and waits for the archive, and all work with it ({})",
                fault.code
            ),
            "see `callvault check` about the archive; it is tried again every ten seconds",
        )
    };
    alarms.push(Alarm {
        since: Some(fault.since),
        ..alarm(RESTORE_INCOMPLETE, None, what, remedy)
    });
}

fn fixity_fault(fault: &Fault, now: Timestamp, alarms: &mut Vec<Alarm>) {
    if fault.doing == FIXITY_DOING && now.since_ms(fault.since) >= FAILING_MS {
        alarms.push(Alarm {
            since: Some(fault.since),
            ..alarm(
                FIXITY_FAILING,
                None,
                "the archive does not give stored objects to be read again".to_owned(),
                "the log names them; see `callvault check` about the archive; they are tried again by themselves",
            )
        });
    }
}

fn clock_is_off(machine: &str) -> Alarm {
    alarm(
        CLOCK,
        None,
        format!(
            "the clock of {machine} is more than 5 s off the database's; its workers claim nothing"
        ),
        "set the clocks by NTP, on this machine and on the database's",
    )
}

/// This process's own clock against the database's.
pub async fn clock(db: &Database, alarms: &mut Vec<Alarm>) -> Result<(), DbError> {
    let off = db.clock_offset_ms().await?.abs() > CLOCK_TOLERANCE_MS;
    if off && !alarms.iter().any(|known| known.code == CLOCK) {
        alarms.push(clock_is_off("this machine"));
    }
    Ok(())
}

/// Sources that stopped sending.
///
/// `quiet_after` counts as it is written. Without it a source is quiet after three days, or after ten
/// times its usual gap where that is longer: a source that speaks once a week is not quiet on Thursday.
/// Only what the vendor sends by itself counts: that we can list it does not mean that it talks to us.
pub async fn quiet(
    db: &Database,
    sources: &Sources,
    now: Timestamp,
) -> Result<Vec<Alarm>, DbError> {
    let mut alarms = Vec::new();
    for heard in db.heard().await? {
        let Some(provider) = sources.get(&heard.source) else {
            continue;
        };
        if now.since_ms(heard.last) > quiet_after_ms(&heard, provider.common().quiet_after) {
            alarms.push(Alarm {
                since: Some(heard.last),
                ..alarm(
                    "source_quiet",
                    Some(&heard.source),
                    "the vendor has sent no notice for long".to_owned(),
                    "do its notices still reach us? `callvault sources` shows the addresses to give it",
                )
            });
        }
    }
    Ok(alarms)
}

fn quiet_after_ms(heard: &Heard, written: Option<Duration>) -> i64 {
    if let Some(after) = written {
        return i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    }
    // Gaps lie between notices: of a single one nothing is known.
    let gaps = i64::try_from(heard.notices.saturating_sub(1)).unwrap_or(i64::MAX);
    let usual = heard.last.since_ms(heard.first) / gaps.max(1);
    QUIET_AFTER_MS.max(usual.saturating_mul(USUAL_GAPS))
}

/// The spool against its limit, and the disks under spool, archive and an SQLite database.
pub fn room(spool: Usage, archive_disk: Option<&Path>, database_disk: Option<&Path>) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    if spool.used_bytes.saturating_mul(100) > spool.limit_bytes.saturating_mul(FULL_PERCENT) {
        let what = format!(
            "the spool holds {} of {} MiB",
            spool.used_bytes >> 20,
            spool.limit_bytes >> 20
        );
        let remedy = "is the archive away? See `callvault check`; or raise [spool] limit";
        alarms.push(alarm(reason::SPOOL_FULL, None, what, remedy));
    }
    let full = |used: Option<u8>| used.filter(|used| u64::from(*used) > FULL_PERCENT);
    let spool_disk = full(spool.disk_used_percent).map(|used| ("the spool", used));
    let of_folder = |folder: Option<&Path>| full(folder.and_then(crate::spool::disk_used_percent));
    let archive_disk = of_folder(archive_disk).map(|used| ("the archive", used));
    let database_disk = of_folder(database_disk).map(|used| ("the database", used));
    let told: Vec<String> = [spool_disk, archive_disk, database_disk]
        .into_iter()
        .flatten()
        .map(|(whose, used)| format!("the disk of {whose} is {used} % full"))
        .collect();
    if !told.is_empty() {
        let remedy = "make room or take a larger disk, before work has to wait";
        alarms.push(alarm("disk_full", None, told.join(", "), remedy));
    }
    alarms
}

/// Notices that lie in the journal and not in the database, on this machine.
pub fn parked(spool: Usage) -> Option<Alarm> {
    (spool.parked_notices > 0).then(|| Alarm {
        count: spool.parked_notices,
        ..alarm(
            "notices_parked",
            None,
            "the database refuses notices of the journal; they are kept beside it".to_owned(),
            "the log names the reason; mend it: they are tried again every hour and at each start",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(notices: u64, days: i64) -> Heard {
        Heard {
            source: "a".to_owned(),
            notices,
            first: Timestamp::from_ms(0),
            last: Timestamp::from_ms(days * DAY_MS),
        }
    }

    #[test]
    fn a_source_is_quiet_by_its_own_measure() {
        let hour = Duration::from_secs(3600);
        assert_eq!(quiet_after_ms(&heard(5, 20), Some(hour)), 3_600_000);
        // Many a day: three days of silence. One a week: ten weeks. A single one: three days.
        assert_eq!(quiet_after_ms(&heard(1000, 20), None), 3 * DAY_MS);
        assert_eq!(quiet_after_ms(&heard(3, 14), None), 70 * DAY_MS);
        assert_eq!(quiet_after_ms(&heard(1, 0), None), 3 * DAY_MS);
        assert_eq!(quiet_after_ms(&heard(0, 0), None), 3 * DAY_MS);
    }

    #[test]
    fn a_spool_or_disk_over_four_fifths_is_told_of_once() {
        let usage = |used_bytes, disk| Usage {
            used_bytes,
            limit_bytes: 100,
            disk_used_percent: disk,
            parked_notices: 0,
        };
        let codes = |usage| -> Vec<String> {
            room(usage, None, None)
                .into_iter()
                .map(|alarm| alarm.code)
                .collect()
        };
        assert_eq!(codes(usage(80, Some(80))), [] as [&str; 0]);
        assert_eq!(codes(usage(81, None)), ["spool_full"]);
        assert_eq!(codes(usage(81, Some(81))), ["spool_full", "disk_full"]);
    }
}
