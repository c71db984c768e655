//! Leases: the order of work, who may write, and what each verdict comes to.

use callvault::db::recordings::{Classes, Count, Lease, ObjectFacts, Settle};
use callvault::domain::deadlines::WorkClass;
use callvault::domain::keys::Folder;
use callvault::domain::reading::Announced;
use callvault::domain::recording::{Role, State};

use crate::db::*;

async fn announce(house: &House, ids: &[&str]) {
    let all = ids
        .iter()
        .map(|id| announced(id, Some(at(0).plus_ms(30 * DAY))))
        .collect();
    house.tell(&reading(vec![], all), &feiyu(), at(0)).await;
}

#[test]
fn work_goes_by_urgency_then_live_then_backfill_then_access() {
    on_both(async |house| {
        let of = |id: &str, days: i64, class| Announced {
            class: Some(class),
            ..announced(id, Some(at(0).plus_ms(days * DAY)))
        };
        let all = [
            of("backfill", 9, WorkClass::Backfill),
            of("live-late", 20, WorkClass::Live),
            of("live", 10, WorkClass::Live),
            of("urgent-backfill", 1, WorkClass::Backfill),
            of("archived", 8, WorkClass::Live),
        ];
        house
            .tell(&reading(vec![], vec![all[4].clone()]), &feiyu(), at(0))
            .await;
        let leased = house.claim(at(0), 1).await.remove(0);
        house.archive(&leased, b"x", at(0)).await;
        house
            .db
            .settle(&leased.lease, Settle::Done, at(0))
            .await
            .unwrap();
        house
            .tell(&reading(vec![], all[..4].to_vec()), &feiyu(), at(0))
            .await;
        assert!(
            house
                .db
                .archive_work_is_due(at(0), &sources())
                .await
                .unwrap()
        );
        let mut order = Vec::new();
        for _ in 0..5 {
            let one = house.claim(at(0), 1).await.remove(0);
            order.push(one.loaded.row.call.provider_call_id);
        }
        assert_eq!(
            order,
            [
                "urgent-backfill",
                "live",
                "live-late",
                "backfill",
                "archived"
            ]
        );
        assert!(
            !house
                .db
                .archive_work_is_due(at(0), &sources())
                .await
                .unwrap()
        );
        // At once, after the leases ran out: the same order.
        let again = house.claim(at(5), 9).await;
        let again: Vec<_> = again
            .into_iter()
            .map(|l| l.loaded.row.call.provider_call_id)
            .collect();
        assert_eq!(again, order);
        assert_eq!(house.db.next_due_at().await.unwrap(), Some(at(6)));
    });
}

#[test]
fn only_configured_sources_and_chosen_classes_are_claimed() {
    on_both(async |house| {
        announce(&house, &["a"]).await;
        let claim = async |sources: &[String], classes| {
            house
                .db
                .claim(at(0), "i", LEASE, 9, sources, classes)
                .await
                .unwrap()
                .len()
        };
        assert_eq!(claim(&["other".to_owned()], Classes::All).await, 0);
        assert_eq!(claim(&[], Classes::All).await, 0);
        assert_eq!(claim(&sources(), Classes::AccessOnly).await, 0);
        assert_eq!(claim(&sources(), Classes::Archive).await, 1);
        assert_eq!(house.db.open_work().await.unwrap()[0].recordings, 1);
    });
}

#[test]
fn two_claimers_never_share_a_recording() {
    on_both(async |house| {
        let ids: Vec<String> = (0..60).map(|i| format!("c{i:02}")).collect();
        announce(&house, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let other = house.neighbour().await;
        let claimers: Vec<_> = (0..6)
            .map(|i| {
                let db = if i % 2 == 0 {
                    house.db.clone()
                } else {
                    other.clone()
                };
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    loop {
                        let got = db
                            .claim(at(0), &format!("i{i}"), LEASE, 4, &sources(), Classes::All)
                            .await
                            .unwrap();
                        if got.is_empty() {
                            return mine;
                        }
                        mine.extend(got.into_iter().map(|l| l.lease.recording_id));
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for claimer in claimers {
            all.extend(claimer.await.unwrap());
        }
        // A claimer may find nothing while others hold locks; what is left is claimed now.
        all.extend(
            house
                .claim(at(0), 60)
                .await
                .into_iter()
                .map(|l| l.lease.recording_id),
        );
        let claimed = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((claimed, all.len()), (60, 60));
    });
}

#[test]
fn a_lost_lease_cannot_publish_or_settle() {
    on_both(async |house| {
        announce(&house, &["a"]).await;
        let db = &house.db;
        let old = house.claim(at(0), 1).await.remove(0);
        let new = house.claim(at(2), 1).await.remove(0);
        assert_eq!(new.loaded.row.lapses, 1);
        assert!(new.lease.token > old.lease.token);
        let folder = Folder::of_recording("feiyu-main", at(0), old.lease.recording_id);
        let (original, proof) = object(&folder, Role::Original, 1, b"a", at(2));
        let (manifest, manifest_proof) = object(&folder, Role::Manifest, 1, b"{}", at(2));
        let lease = &old.lease;
        let key = proof.key().clone();
        let facts = ObjectFacts {
            codec: "x".into(),
            sample_rate_hz: 1,
            channels: 1,
            duration_ms: 1,
            analysis: None,
        };
        for error in [
            db.heartbeat(lease, at(9)).await,
            db.confirm(lease, at(2)).await,
            db.stage(lease, &folder, original.clone(), at(2)).await,
            db.stage_second(lease, original.clone(), at(2)).await,
            db.add_object(lease, manifest.clone(), at(2)).await,
            db.drop_object(lease, &key, at(2)).await,
            db.mark_verified(lease, &proof, None, at(2)).await,
            db.set_object_facts(lease, &key, facts, at(2)).await,
            db.set_notes(lease, &[], at(2)).await,
            db.recheck_done(lease, at(2)).await,
            db.publish(lease, &proof, &manifest_proof, &[], at(2)).await,
            db.settle(lease, Settle::Done, at(2)).await,
            db.release(lease, at(2)).await,
        ] {
            assert!(error.unwrap_err().is_lease_lost());
        }
        house.archive(&new, b"a", at(2)).await;
        db.settle(&new.lease, Settle::AccessDone, at(2))
            .await
            .unwrap();
        assert!(
            db.settle(&new.lease, Settle::Done, at(2))
                .await
                .unwrap_err()
                .is_lease_lost()
        );
        let nobody = Lease {
            recording_id: uuid::Uuid::nil(),
            token: 1,
        };
        assert!(
            db.heartbeat(&nobody, at(3))
                .await
                .unwrap_err()
                .is_lease_lost()
        );
    });
}

#[test]
fn publishing_needs_the_rows_that_the_proofs_speak_of() {
    on_both(async |house| {
        announce(&house, &["a"]).await;
        let db = &house.db;
        let leased = house.claim(at(0), 1).await.remove(0);
        let lease = &leased.lease;
        let folder = Folder::of_recording("feiyu-main", at(0), lease.recording_id);
        let (original, proof) = object(&folder, Role::Original, 1, b"a", at(0));
        let (manifest, manifest_proof) = object(&folder, Role::Manifest, 1, b"{}", at(0));
        let (_, wrong) = object(&folder, Role::Original, 1, b"b", at(0));
        // Pending: nothing was staged.
        assert!(
            db.publish(lease, &proof, &manifest_proof, &[], at(0))
                .await
                .is_err()
        );
        db.stage(lease, &folder, original.clone(), at(0))
            .await
            .unwrap();
        db.stage(lease, &folder, original, at(0)).await.unwrap();
        assert!(
            db.publish(lease, &proof, &manifest_proof, &[], at(0))
                .await
                .is_err(),
            "no manifest row"
        );
        db.add_object(lease, manifest, at(0)).await.unwrap();
        assert!(
            db.publish(lease, &wrong, &manifest_proof, &[], at(0))
                .await
                .is_err(),
            "other bytes"
        );
        assert!(
            db.publish(lease, &manifest_proof, &proof, &[], at(0))
                .await
                .is_err(),
            "roles swapped"
        );
        let loaded = db.load(lease.recording_id).await.unwrap();
        assert_eq!(loaded.row.state, State::Staged);
        assert_eq!(
            loaded.objects.len(),
            2,
            "staging the same bytes again is the same row"
        );
        assert!(loaded.objects.iter().all(|o| o.verified_at.is_none()));
        db.publish(lease, &proof, &manifest_proof, &["short".to_owned()], at(1))
            .await
            .unwrap();
        let loaded = db.load(lease.recording_id).await.unwrap();
        assert_eq!(loaded.row.state, State::Archived);
        assert_eq!(loaded.row.archived_at, Some(at(1)));
        assert!(loaded.row.access_due && loaded.objects.iter().all(|o| o.verified_at.is_some()));
        // What is archived can be nothing else by any verdict.
        let lost = Settle::Lost {
            reason: "gone".into(),
            evidence: "404".into(),
        };
        assert!(db.settle(lease, lost, at(1)).await.is_err());
        db.settle(lease, Settle::AccessDone, at(1)).await.unwrap();

        // Short: once more after six hours, a longer body is a second original.
        assert!(house.claim(at(359), 1).await.is_empty());
        let second = house.claim(at(361), 1).await.remove(0);
        assert!(second.loaded.row.recheck_due && second.loaded.row.state == State::Archived);
        let (longer, longer_proof) = object(&folder, Role::Original, 1, b"aaaa", at(361));
        db.stage_second(&second.lease, longer, at(361))
            .await
            .unwrap();
        db.mark_verified(&second.lease, &longer_proof, None, at(361))
            .await
            .unwrap();
        db.recheck_done(&second.lease, at(361)).await.unwrap();
        db.settle(&second.lease, Settle::Done, at(361))
            .await
            .unwrap();
        assert!(house.claim(at(99_999), 1).await.is_empty());
        let current = db
            .current_object(lease.recording_id, Role::Original)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((current.n, current.bytes), (2, 4));
    });
}

#[test]
fn planned_objects_can_be_replaced_and_verified_ones_cannot() {
    on_both(async |house| {
        announce(&house, &["a"]).await;
        let db = &house.db;
        let leased = house.claim(at(0), 1).await.remove(0);
        house.archive(&leased, b"a", at(0)).await;
        let lease = &leased.lease;
        let folder = db
            .load(lease.recording_id)
            .await
            .unwrap()
            .row
            .folder
            .unwrap();
        let (plan, _) = object(&folder, Role::Access, 1, b"first", at(0));
        let (other, proof) = object(&folder, Role::Access, 1, b"other", at(0));
        db.add_object(lease, plan.clone(), at(0)).await.unwrap();
        db.add_object(lease, other.clone(), at(0)).await.unwrap();
        let facts = ObjectFacts {
            codec: "mp3".into(),
            sample_rate_hz: 8000,
            channels: 2,
            duration_ms: 1234,
            analysis: Some(serde_json::json!({"peak_dbfs": -3.5})),
        };
        db.mark_verified(lease, &proof, Some(facts), at(0))
            .await
            .unwrap();
        db.add_object(lease, other, at(0)).await.unwrap();
        assert!(db.add_object(lease, plan, at(0)).await.is_err());
        db.drop_object(lease, proof.key(), at(0)).await.unwrap();
        let access = db
            .current_object(lease.recording_id, Role::Access)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (access.bytes, access.channels, access.duration_ms),
            (5, Some(2), Some(1234))
        );
        assert_eq!(access.settings, None, "only originals are measured");
        let original = || db.current_object(lease.recording_id, Role::Original);
        let key = original().await.unwrap().unwrap().key;
        let facts = ObjectFacts {
            codec: "mp3".into(),
            sample_rate_hz: 8000,
            channels: 2,
            duration_ms: 1234,
            analysis: Some(serde_json::json!({"peak_dbfs": -3.5})),
        };
        db.set_object_facts(lease, &key, facts, at(0))
            .await
            .unwrap();
        let settings = original().await.unwrap().unwrap().settings.unwrap();
        assert_eq!(settings["analysis"]["peak_dbfs"], -3.5);
    });
}

#[test]
fn each_verdict_has_its_end() {
    on_both(async |house| {
        announce(&house, &["a"]).await;
        let db = &house.db;
        let retry = |count, minutes| Settle::Retry {
            at: at(minutes),
            reason: "x".into(),
            count,
        };
        let mut minutes = 0;
        for count in [
            Count::Attempt,
            Count::NotReady,
            Count::Failure,
            Count::Failure,
            Count::Nothing,
        ] {
            let leased = house.claim(at(minutes), 1).await.remove(0);
            minutes += 10;
            db.settle(&leased.lease, retry(count, minutes), at(minutes - 10))
                .await
                .unwrap();
            assert!(house.claim(at(minutes - 1), 1).await.is_empty());
        }
        let leased = house.claim(at(minutes), 1).await.remove(0);
        let row = &leased.loaded.row;
        assert_eq!(
            (row.attempts, row.not_ready_tries, row.failures, row.lapses),
            (1, 1, 2, 0)
        );
        let quarantine = Settle::Quarantine {
            reason: "truncated".into(),
            retry_at: at(minutes + 1440),
        };
        db.settle(&leased.lease, quarantine, at(minutes))
            .await
            .unwrap();
        assert_eq!(
            db.status_view(at(minutes)).await.unwrap().alarms[0].code,
            "quarantined"
        );
        assert!(house.claim(at(minutes + 1439), 1).await.is_empty());
        let leased = house.claim(at(minutes + 1440), 1).await.remove(0);
        db.settle(&leased.lease, retry(Count::Failure, 9000), at(5000))
            .await
            .unwrap();
        let id = leased.lease.recording_id;
        assert_eq!(db.load(id).await.unwrap().row.state, State::Quarantined);
        assert!(db.retry(id, at(5001)).await.unwrap());
        let leased = house.claim(at(5001), 1).await.remove(0);
        assert_eq!(
            (leased.loaded.row.state, leased.loaded.row.attempts),
            (State::Pending, 0)
        );
        let absent = Settle::Absent {
            reason: "never_made".into(),
        };
        db.settle(&leased.lease, absent, at(5002)).await.unwrap();
        assert!(house.claim(at(99_999), 1).await.is_empty());
        let states = db.count_by_state().await.unwrap();
        assert_eq!((states["absent"], states["archived"]), (1, 0));
        assert!(!db.retry(uuid::Uuid::nil(), at(0)).await.unwrap());
    });
}

#[test]
fn leases_of_a_dead_process_are_free_at_once_and_count_as_lapses() {
    on_both(async |house| {
        announce(&house, &["a", "b"]).await;
        let db = &house.db;
        let mine = house.claim(at(0), 1).await.remove(0);
        db.claim(at(0), "alive", LEASE, 1, &sources(), Classes::All)
            .await
            .unwrap();
        assert_eq!(db.live_leases(at(0)).await.unwrap().len(), 2);
        assert_eq!(db.free_dead_leases("i1", at(0)).await.unwrap(), 1);
        let again = house.claim(at(0), 9).await;
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].lease.recording_id, mine.lease.recording_id);
        assert_eq!(again[0].loaded.row.lapses, 1);
        // A worker that stops in order hands back without a lapse.
        db.release(&again[0].lease, at(0)).await.unwrap();
        assert_eq!(house.claim(at(0), 1).await[0].loaded.row.lapses, 1);
    });
}

#[test]
fn lapses_of_the_transcode_phase_are_counted_apart() {
    on_both(async |house| {
        announce(&house, &["a"]).await;
        let db = &house.db;
        let leased = house.claim(at(0), 1).await.remove(0);
        house.archive(&leased, b"a", at(0)).await;
        // Died in transcode, three times.
        for n in 1..=3 {
            let again = house.claim(at(n * 2), 1).await.remove(0);
            assert_eq!(i64::from(again.loaded.row.access_lapses), n);
            assert_eq!(again.loaded.row.lapses, 0);
        }
        let last = house.claim(at(10), 1).await.remove(0);
        let later = Settle::AccessLater {
            at: at(20),
            reason: "undecodable".into(),
            counts: true,
        };
        db.settle(&last.lease, later, at(10)).await.unwrap();
        let last = house.claim(at(20), 1).await.remove(0);
        assert_eq!(last.loaded.row.access_tries, 1);
        let gave_up = Settle::AccessGaveUp {
            reason: "transcode_gave_up".into(),
        };
        db.settle(&last.lease, gave_up, at(20)).await.unwrap();
        assert!(house.claim(at(999), 1).await.is_empty());
        let view = db
            .show_recording(last.lease.recording_id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            view.recordings[0].recording.reason.as_deref(),
            Some("transcode_gave_up")
        );
        assert!(
            db.request_access_again(last.lease.recording_id, at(30))
                .await
                .unwrap()
        );
        let again = house.claim(at(30), 1).await.remove(0);
        assert!(again.loaded.row.access_due);
        assert_eq!(
            (
                again.loaded.row.access_tries,
                again.loaded.row.access_lapses
            ),
            (0, 0)
        );
    });
}
