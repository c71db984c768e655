//! Two recordings that are both in the archive when a late notice tells that they are one.

use std::path::Path;

use callvault::db::doubles::Pair;
use callvault::db::recordings::Settle;
use callvault::db::search::{Query, Target};
use callvault::db::settings::Settings;
use callvault::domain::digest::Sha256;
use callvault::domain::keys::Folder;
use callvault::domain::reading::Announced;
use callvault::domain::recording::{Role, State};
use callvault::domain::secret::Secret;
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use uuid::Uuid;

use crate::db::*;
use crate::journeys::rows_of;
use crate::support::house::{TestHouse, stored_keys};
use crate::support::http::post;

fn named(names: &[&str]) -> Announced {
    Announced {
        aliases: names.iter().map(|&name| name.to_owned()).collect(),
        ..announced("a", None)
    }
}

async fn tell(house: &House, names: &[&str], minute: i64) {
    let told = reading(vec![call("a", at(0))], vec![named(names)]);
    house.tell(&told, &feiyu(), at(minute)).await;
}

/// Archives what is due and settles it with its access copy made.
async fn archive(house: &House, bytes: &[u8], minute: i64) -> Uuid {
    let leased = house.claim(at(minute), 1).await.remove(0);
    house.archive(&leased, bytes, at(minute)).await;
    done(house, &leased, minute).await;
    leased.lease.recording_id
}

async fn done(house: &House, leased: &callvault::db::recordings::Leased, minute: i64) {
    house
        .db
        .settle(&leased.lease, Settle::AccessDone, at(minute))
        .await
        .unwrap();
}

async fn states(house: &House) -> Vec<(Uuid, String)> {
    let page = house.db.search(&Query::default(), None, 100).await.unwrap();
    let mut found: Vec<_> = page
        .items
        .iter()
        .map(|item| (item.recording_id.unwrap(), item.state.clone()))
        .collect();
    found.sort();
    found
}

#[test]
fn two_archived_recordings_with_the_same_bytes_become_the_older_one() {
    on_both(async |house| {
        tell(&house, &["one"], 1).await;
        let first = archive(&house, b"sound", 2).await;
        tell(&house, &["two"], 3).await;
        let second = archive(&house, b"sound", 4).await;
        assert_ne!(first, second);
        assert!(house.claim(at(5), 9).await.is_empty());
        tell(&house, &["one", "two"], 6).await;
        // Both have something to write; the younger one goes over first, then nothing of it is left.
        let claimed = house.claim(at(6), 9).await;
        let (mine, theirs): (Vec<_>, Vec<_>) = claimed
            .into_iter()
            .partition(|leased| leased.lease.recording_id == second);
        let mine = mine.into_iter().next().unwrap();
        // The older one is at work: nothing may change under its worker.
        assert_eq!(
            house.db.judge_pair(&mine.lease, at(6)).await.unwrap(),
            Pair::Waits
        );
        assert!(!house.db.unite(&mine.lease, first, at(6)).await.unwrap());
        done(&house, &theirs[0], 6).await;
        assert_eq!(
            house.db.judge_pair(&mine.lease, at(6)).await.unwrap(),
            Pair::Same(first)
        );
        assert!(house.db.unite(&mine.lease, first, at(6)).await.unwrap());
        assert_eq!(states(&house).await, [(first, "archived".to_owned())]);
        // By its own id, too.
        for id in [second.to_string(), first.to_string()] {
            assert_eq!(
                house.db.resolve_id(&id).await.unwrap(),
                [Target::Recording(first)]
            );
        }
        let whole = house.db.load(first).await.unwrap();
        assert_eq!(whole.aliases, ["one", "two"]);
        assert!(whole.row.manifest_due, "the next manifest tells its names");
        let of = |role| whole.objects.iter().filter(move |o| o.role == role).count();
        assert_eq!(
            (of(Role::Original), of(Role::Manifest), of(Role::Duplicate)),
            (1, 1, 2)
        );
        // Whoever held the younger one finds its lease gone, and a repeat changes nothing.
        assert!(house.db.judge_pair(&mine.lease, at(7)).await.is_err());
        tell(&house, &["two", "one"], 8).await;
        assert_eq!(states(&house).await.len(), 1);
    });
}

#[test]
fn other_bytes_under_one_name_stay_two_and_both_say_so() {
    on_both(async |house| {
        tell(&house, &["one"], 1).await;
        let first = archive(&house, b"sound", 2).await;
        tell(&house, &["two"], 3).await;
        let second = archive(&house, b"other sound", 4).await;
        for minute in [6, 10] {
            tell(&house, &["one", "two"], minute).await;
            for leased in house.claim(at(minute), 9).await {
                if leased.loaded.row.same_as.is_some() {
                    // Its partner may be at work in this very claim.
                    house.db.release(&leased.lease, at(minute)).await.unwrap();
                } else {
                    done(&house, &leased, minute).await;
                }
            }
            for leased in house.claim(at(minute + 1), 9).await {
                if leased.lease.recording_id == second {
                    let pair = house.db.judge_pair(&leased.lease, at(minute + 1)).await;
                    assert_eq!(pair.unwrap(), Pair::Apart);
                }
                done(&house, &leased, minute + 1).await;
            }
        }
        for id in [first, second] {
            let row = house.db.load(id).await.unwrap().row;
            assert_eq!(row.notes, ["same_recording_other_bytes"]);
            assert_eq!((row.state, row.same_as), (State::Archived, None));
        }
        assert_eq!(states(&house).await.len(), 2);
    });
}

#[test]
fn the_one_that_brings_nothing_goes_when_its_worker_ends() {
    on_both(async |house| {
        // Both are at work when the notice comes; the older one is never to be had.
        tell(&house, &["one"], 1).await;
        tell(&house, &["two"], 1).await;
        let claimed = house.claim(at(2), 2).await;
        tell(&house, &["one", "two"], 3).await;
        let older = claimed.iter().map(|l| l.lease.recording_id).min().unwrap();
        let (of_older, of_younger): (Vec<_>, Vec<_>) = claimed
            .iter()
            .partition(|leased| leased.lease.recording_id == older);
        let (older, younger) = (of_older[0], of_younger[0]);
        house.archive(younger, b"sound", at(3)).await;
        let lost = Settle::Lost {
            reason: "gone".into(),
            evidence: "404".into(),
        };
        house.db.settle(&older.lease, lost, at(3)).await.unwrap();
        done(&house, younger, 4).await;
        let id = younger.lease.recording_id;
        assert_eq!(states(&house).await, [(id, "archived".to_owned())]);
        let whole = house.db.load(id).await.unwrap();
        assert_eq!((whole.aliases.len(), whole.row.same_as), (2, None));
    });
}

#[test]
fn what_was_given_up_gives_its_names_to_what_is_archived_and_the_manifest_tells_them() {
    on_both(async |house| {
        tell(&house, &["one"], 1).await;
        let first = archive(&house, b"sound", 2).await;
        // At work when the notice comes, and lost after it was staged.
        tell(&house, &["two"], 3).await;
        let second = house.claim(at(3), 1).await.remove(0);
        tell(&house, &["one", "two"], 3).await;
        for leased in house.claim(at(3), 9).await {
            done(&house, &leased, 3).await;
        }
        house.sql("update recording set manifest_due = false, work_class = null where archived_at_ms is not null").await;
        let row = &second.loaded.row;
        let folder = Folder::of_recording(&row.source, row.arrived_at, row.recording_id);
        let (original, _) = object(&folder, Role::Original, 1, b"sound", at(3));
        let db = &house.db;
        db.stage(&second.lease, &folder, original, at(3))
            .await
            .unwrap();
        let lost = Settle::Lost {
            reason: "gone".into(),
            evidence: "404".into(),
        };
        db.settle(&second.lease, lost, at(3)).await.unwrap();
        assert_eq!(states(&house).await, [(first, "archived".to_owned())]);
        let whole = db.load(first).await.unwrap();
        assert_eq!(whole.aliases, ["one", "two"]);
        assert!(whole.row.manifest_due && whole.row.work_class.is_some());

        // Lost before anybody told: it goes with the notice that tells.
        tell(&house, &["three"], 6).await;
        let third = house
            .claim(at(6), 9)
            .await
            .into_iter()
            .find(|leased| leased.lease.recording_id != first)
            .unwrap();
        let row = &third.loaded.row;
        let folder = Folder::of_recording(&row.source, row.arrived_at, row.recording_id);
        let (original, _) = object(&folder, Role::Original, 1, b"other", at(6));
        db.stage(&third.lease, &folder, original, at(6))
            .await
            .unwrap();
        let lost = Settle::Lost {
            reason: "gone".into(),
            evidence: "404".into(),
        };
        db.settle(&third.lease, lost, at(6)).await.unwrap();
        assert_eq!(states(&house).await.len(), 2);
        tell(&house, &["one", "three"], 7).await;
        assert_eq!(states(&house).await, [(first, "archived".to_owned())]);
    });
}

#[test]
fn the_one_with_more_originals_stays() {
    on_both(async |house| {
        tell(&house, &["one"], 1).await;
        let first = archive(&house, b"sound", 2).await;
        tell(&house, &["two"], 3).await;
        let leased = house.claim(at(4), 1).await.remove(0);
        house.archive(&leased, b"sound", at(4)).await;
        let folder = house
            .db
            .load(leased.lease.recording_id)
            .await
            .unwrap()
            .row
            .folder
            .unwrap();
        let (longer, proof) = object(&folder, Role::Original, 2, b"longer sound", at(4));
        house
            .db
            .stage_second(&leased.lease, longer, at(4))
            .await
            .unwrap();
        house
            .db
            .mark_verified(&leased.lease, &proof, None, at(4))
            .await
            .unwrap();
        done(&house, &leased, 4).await;
        let second = leased.lease.recording_id;
        tell(&house, &["one", "two"], 5).await;
        for leased in house.claim(at(5), 9).await {
            if leased.lease.recording_id == first {
                done(&house, &leased, 5).await;
            } else {
                house.db.release(&leased.lease, at(5)).await.unwrap();
            }
        }
        let claimed = house.claim(at(6), 9).await;
        let (mine, others): (Vec<_>, Vec<_>) = claimed
            .iter()
            .partition(|leased| leased.lease.recording_id == second);
        for leased in others {
            done(&house, leased, 6).await;
        }
        let pair = house.db.judge_pair(&mine[0].lease, at(6)).await;
        assert_eq!(pair.unwrap(), Pair::Apart);
        done(&house, mine[0], 6).await;
        let leased = house.claim(at(7), 9).await;
        let leased = leased
            .iter()
            .find(|leased| leased.lease.recording_id == first)
            .unwrap();
        let pair = house.db.judge_pair(&leased.lease, at(7)).await.unwrap();
        assert_eq!(pair, Pair::Same(second));
        assert!(house.db.unite(&leased.lease, second, at(7)).await.unwrap());
        assert_eq!(states(&house).await, [(second, "archived".to_owned())]);
    });
}

#[test]
fn a_recording_that_came_before_its_calls_record_is_not_expected_once_more() {
    on_both(async |house| {
        let expected = named(&[&callvault::domain::reading::placeholder("a")]);
        for (n, told) in [named(&["one"]), expected.clone(), named(&["one"]), expected]
            .into_iter()
            .enumerate()
        {
            let told = reading(vec![call("a", at(0))], vec![told]);
            house.tell(&told, &feiyu(), at(1 + n as i64)).await;
        }
        assert_eq!(states(&house).await.len(), 1);
        let id = archive(&house, b"sound", 30).await;
        assert_eq!(states(&house).await, [(id, "archived".to_owned())]);
    });
}

const TOKEN: &str = "doubles-of-one-recording";

async fn push(house: &TestHouse, n: usize, recording: &str, file: &Path, sha256: Option<Sha256>) {
    let mut told =
        json!({ "id": recording, "state": "ready", "locator": { "type": "file", "path": file } });
    if let Some(sha256) = sha256 {
        told["sha256"] = json!(sha256.to_string());
    }
    let body = json!({
        "spec": "cdr/1", "event_id": format!("e{n}"), "event_type": "recording.ready",
        "occurred_at": format!("2024-04-05T20:31:{:02}+08:00", 10 + n),
        "source": { "provider": "freeswitch", "account": "pbx" },
        "call": { "id": "call-1", "caller": { "number": "+8613900000001" } },
        "recordings": [told],
    });
    let address = house.running.as_ref().unwrap().addresses.page().unwrap();
    let address = address.strip_prefix("http://").unwrap();
    let to = address.trim_end_matches('/').parse().unwrap();
    let answer = post(to, &format!("/hooks/pbx/{TOKEN}"), body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A telephone system that tells by HTTP and leaves its files in a folder.
async fn switch(files: &Path) -> TestHouse {
    crate::ways::house(&format!(
        "[sources.pbx]\nkind = \"cdr\"\nfrom = \"http\"\nhook_token = \"{TOKEN}\"\nfile_roots = [\"{}\"]\n",
        files.display()
    ))
    .await
}

async fn until_archived(house: &TestHouse, expected: usize) {
    house
        .until(async |house| {
            let db = &house.house().db;
            if !db.all_notices_read().await.unwrap() {
                return Err("notices are still read".to_owned());
            }
            let page = db.search(&Query::default(), None, 100).await.unwrap();
            let states: Vec<_> = page.items.iter().map(|item| item.state.clone()).collect();
            let whole = states.len() == expected && states.iter().all(|state| state == "archived");
            let open = db.open_work().await.unwrap();
            if whole && open.is_empty() {
                Ok(())
            } else {
                Err(format!("{states:?} {open:?}"))
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_message_unites_them_in_index_and_archive_and_a_rebuild_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().canonicalize().unwrap();
    let house = switch(&at).await;
    let sound = crate::folders::wav(3, 64_000);
    for name in ["one.wav", "two.wav"] {
        std::fs::write(at.join(name), &sound).unwrap();
    }
    push(&house, 1, "r1", &at.join("one.wav"), None).await;
    until_archived(&house, 1).await;
    push(&house, 2, "r2", &at.join("two.wav"), None).await;
    until_archived(&house, 2).await;
    let before = stored_keys(house.house().archive.as_ref()).await;
    // Yesterday's database: two recordings.
    let now_there = house.path().join("callvault.db");
    let old = house.path().join("old.db");
    let source = sea_orm::Database::connect(format!("sqlite://{}", now_there.display()))
        .await
        .unwrap();
    let copy = format!("vacuum into '{}'", old.display());
    source.execute_unprepared(&copy).await.unwrap();
    // The switch tells later that r1 is what lies in the second file.
    push(&house, 3, "r1", &at.join("two.wav"), None).await;
    until_archived(&house, 1).await;
    let after = stored_keys(house.house().archive.as_ref()).await;
    assert!(after.is_superset(&before), "nothing leaves the archive");

    let now = house.house().clock.now();
    for (name, mode) in [("rebuilt.db", false), ("empty.db", true), ("old.db", true)] {
        let settings = Settings {
            url: Secret::new(format!("sqlite://{name}")),
            auto_migrate: Some(true),
        };
        let clock = house.house().clock.clone();
        let db = callvault::db::Database::connect(&settings, house.path(), clock)
            .await
            .unwrap();
        let archive = house.house().archive.as_ref();
        for _ in 0..2 {
            let report = if mode {
                callvault::jobs::rebuild::complete(&db, archive, now, |_| {}).await
            } else {
                callvault::jobs::rebuild::rebuild(&db, archive, now, |_| {}).await
            };
            assert!(report.as_ref().unwrap().findings.is_empty(), "{report:?}");
        }
        for table in [
            "call",
            "recording",
            "archive_object",
            "recording_alias",
            "search_key",
        ] {
            let before = rows_of(&house.path().join("callvault.db"), table).await;
            let after = rows_of(&house.path().join(name), table).await;
            assert_eq!(before, after, "{table} of {name}");
        }
    }
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_under_the_same_name_is_kept_beside_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().canonicalize().unwrap();
    let house = switch(&at).await;
    let (file, first) = (at.join("one.wav"), crate::folders::wav(3, 64_000));
    std::fs::write(&file, &first).unwrap();
    push(&house, 1, "r1", &file, Some(Sha256::of(&first))).await;
    until_archived(&house, 1).await;
    // Shorter even: what the vendor says of the bytes counts, not their number.
    let second = crate::folders::wav(5, 32_000);
    std::fs::write(&file, &second).unwrap();
    for n in [2, 3] {
        push(&house, n, "r1", &file, Some(Sha256::of(&second))).await;
        until_archived(&house, 1).await;
    }
    let query = Query::default();
    let db = &house.house().db;
    let page = db.search(&query, None, 10).await.unwrap();
    let found = &page.items[0];
    assert_eq!(
        found.original.as_ref().unwrap().sha256,
        Sha256::of(&second),
        "the newest counts"
    );
    assert!(found.notes.contains(&"changed_at_vendor".to_owned()));
    let whole = db.load(found.recording_id.unwrap()).await.unwrap();
    let originals = whole.objects.iter().filter(|o| o.role == Role::Original);
    let kept: Vec<_> = originals.map(|object| object.sha256).collect();
    assert_eq!(kept, [Sha256::of(&first), Sha256::of(&second)]);
    house.finish().await;
}
