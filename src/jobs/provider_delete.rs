//! Deletes the vendor's copy of what is archived, where a source wants that.
//!
//! What a newcomer gets wrong: that a row says `archived` is not enough. Every original is read back from the
//! archive once more, right before the vendor is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::archive::contract::{Archive, ArchiveErrorKind};
use crate::db::audit::AuditEvent;
use crate::db::recordings::Loaded;
use crate::db::{Database, DbError};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::recording::{Role, State, reason};
use crate::domain::retry::{RetryAdvice, backoff};
use crate::pipeline::faults::Faults;
use crate::providers::contract::{Provider, Wanted};
use crate::providers::sources::Sources;

/// Reading back and telling the vendor take less; then another process may try.
const LEASE: Duration = Duration::from_secs(1800);
/// No vendor keeps a recording for longer than this after its call: older ones are left alone.
const OLDEST: Duration = Duration::from_secs(400 * 24 * 3600);
const PLANNED_AT_ONCE: usize = 500;
/// Failures in one pass after which a source waits for the next one.
const FAILURES: u32 = 5;

#[derive(Clone, Debug)]
pub struct Deleter {
    pub db: Database,
    pub archive: Arc<dyn Archive>,
    pub sources: Sources,
    pub faults: Faults,
    pub clock: SharedClock,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub deleted: u32,
    pub failed: u32,
}

/// What became of one copy.
enum Copy {
    Deleted,
    /// The vendor deleted it by itself.
    Gone,
    Later(Timestamp),
    Failed(Option<Duration>),
}

impl Deleter {
    /// One pass over all sources that delete.
    pub async fn pass(&self) -> Result<Report, DbError> {
        let mut report = Report::default();
        for provider in self.sources.snapshot().values() {
            if provider.capabilities().can_delete {
                self.source(provider.as_ref(), &mut report).await?;
            }
        }
        Ok(report)
    }

    async fn source(&self, provider: &dyn Provider, report: &mut Report) -> Result<(), DbError> {
        let name = provider.name();
        let since = self.clock.now().plus_ms(-(OLDEST.as_millis() as i64));
        loop {
            let found = self.db.copies_to_plan(name, since, PLANNED_AT_ONCE).await?;
            for (recording_id, archived_at) in &found {
                let at = archived_at.plus(provider.common().delete_after);
                self.db.plan_copy(*recording_id, name, at).await?;
            }
            if found.len() < PLANNED_AT_ONCE {
                break;
            }
        }
        let mut failures = 0;
        while failures < FAILURES {
            let now = self.clock.now();
            let claimed = self.db.claim_copy(name, now.plus(LEASE), now).await?;
            let Some((recording_id, tries)) = claimed else {
                break;
            };
            let loaded = self.db.load(recording_id).await?;
            match self.copy(provider, &loaded).await? {
                Copy::Deleted => {
                    self.db
                        .mark_copy_deleted(recording_id, true, self.clock.now())
                        .await?;
                    report.deleted += 1;
                }
                Copy::Gone => {
                    self.db
                        .mark_copy_deleted(recording_id, false, self.clock.now())
                        .await?;
                }
                Copy::Later(at) => self.db.put_off_copy(recording_id, at).await?,
                Copy::Failed(wait) => {
                    failures += 1;
                    report.failed += 1;
                    let wait = wait.unwrap_or_else(|| backoff(tries, rand::random()));
                    let at = self.clock.now().plus(wait);
                    self.db.put_off_copy(recording_id, at).await?;
                }
            }
        }
        Ok(())
    }

    async fn copy(&self, provider: &dyn Provider, loaded: &Loaded) -> Result<Copy, DbError> {
        let (row, now) = (&loaded.row, self.clock.now());
        let source = provider.name();
        if row.clocks.gone_at.is_some_and(|gone| gone <= now) {
            return Ok(Copy::Gone);
        }
        let archived_at = match (row.state, row.archived_at) {
            (State::Archived, Some(at)) => at,
            _ => return Ok(Copy::Failed(None)),
        };
        // The delay may have been written after the plan; and a second look still wants the file.
        let due = archived_at.plus(provider.common().delete_after);
        if due > now {
            return Ok(Copy::Later(due));
        }
        if row.work_class.is_some() && !row.access_due && !row.manifest_due {
            return Ok(Copy::Later(now.plus_ms(3_600_000)));
        }
        if let Err(code) = self.verified(loaded).await {
            tracing::error!(source, recording = %row.recording_id, code, "vendor's copy not deleted: ours was not verified");
            self.faults.saw_code(source, "verify", Some(code)).await;
            return Ok(Copy::Failed(None));
        }
        self.faults.saw_code(source, "verify", None).await;
        self.audit(source, loaded, now).await?;
        let wanted = Wanted {
            recording_id: row.recording_id,
            provider_call_id: row.call.provider_call_id.clone(),
            provider_recording_id: row.provider_recording_id.clone(),
            handle: row.handle.clone(),
            link: row.link.clone(),
            call_ended_at: row.call.ended_at,
            arrived_at: row.arrived_at,
        };
        fail::fail_point!("provider_delete.before_call");
        let told = provider.delete(&wanted, now).await;
        fail::fail_point!("provider_delete.after_call");
        self.faults.saw(source, "delete", told.as_ref().err()).await;
        Ok(match told {
            Ok(()) => Copy::Deleted,
            Err(error) => {
                tracing::warn!(source, recording = %row.recording_id, %error, "vendor's copy not deleted");
                match error.advice {
                    RetryAdvice::After(wait) => Copy::Failed(Some(wait)),
                    RetryAdvice::Backoff | RetryAdvice::Never => Copy::Failed(None),
                }
            }
        })
    }

    /// Every original is in the archive with the bytes that came from the vendor; else why not.
    async fn verified(&self, loaded: &Loaded) -> Result<(), &'static str> {
        let mut originals = 0;
        for object in loaded.objects.iter().filter(|o| o.role == Role::Original) {
            // Planned and not verified: somebody is still at it.
            object.verified_at.ok_or(reason::ARCHIVE_UNAVAILABLE)?;
            let (key, version) = (&object.key, object.version_id.as_deref());
            let proof = self
                .archive
                .read_back(key, version, &object.fingerprint())
                .await;
            if let Err(error) = proof {
                tracing::error!(%key, error = error.whole(), "archived original not verified");
                return Err(match error.kind() {
                    ArchiveErrorKind::Mismatch | ArchiveErrorKind::NotFound => {
                        reason::ARCHIVE_CONFLICT
                    }
                    _ => reason::ARCHIVE_UNAVAILABLE,
                });
            }
            originals += 1;
        }
        if originals == 0 {
            return Err(reason::ARCHIVE_CONFLICT);
        }
        Ok(())
    }

    /// Written before the vendor is told: what we had deleted is never without a row.
    async fn audit(&self, source: &str, loaded: &Loaded, now: Timestamp) -> Result<(), DbError> {
        let originals: Vec<String> = loaded
            .objects
            .iter()
            .filter(|object| object.role == Role::Original)
            .map(|object| object.sha256.to_string())
            .collect();
        self.db
            .audit(AuditEvent {
                actor: "schedule".to_owned(),
                action: "provider_delete".to_owned(),
                subject: loaded.row.recording_id.to_string(),
                detail: json!({ "source": source, "verified": originals }),
                from: "local".to_owned(),
                at: now,
            })
            .await
    }
}
