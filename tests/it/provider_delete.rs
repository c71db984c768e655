//! The vendor's copy goes only after ours was read back once more; on both databases.

use std::sync::Arc;

use bytes::Bytes;
use callvault::archive::contract::{Archive as _, Source};
use callvault::archive::disk::DiskArchive;
use callvault::domain::clock::Timestamp;
use callvault::domain::recording::Role;
use callvault::jobs::provider_delete::{Deleter, Report};
use callvault::pipeline::faults::Faults;
use callvault::providers::contract::{Capabilities, Provider, ProviderErrorKind};
use callvault::providers::sources::Sources;
use uuid::Uuid;

use crate::db::{House, announced, at, call, feiyu, on_both, reading};
use crate::support::shelf::{Mood, Shelf};

const HOUR: i64 = 60;

struct Bench<'a> {
    house: &'a House,
    shelf: Arc<Shelf>,
    archive: Arc<DiskArchive>,
    deleter: Deleter,
}

async fn bench<'a>(house: &'a House, keys: &str, can_delete: bool) -> Bench<'a> {
    let can = Capabilities {
        can_delete,
        ..Capabilities::default()
    };
    let shelf = Shelf::named("feiyu-main", keys, can);
    let root = house.folder().join("archive");
    let archive = Arc::new(DiskArchive::open(&root).await.unwrap());
    let deleter = Deleter {
        db: house.db.clone(),
        archive: archive.clone(),
        sources: Sources::new([shelf.clone() as Arc<dyn Provider>]),
        faults: Faults::new(house.db.clone(), house.clock.clone()),
        clock: house.clock.clone(),
    };
    Bench {
        house,
        shelf,
        archive,
        deleter,
    }
}

impl Bench<'_> {
    /// A recording that is archived, its bytes where the row says.
    async fn archived(&self, id: &str, now: Timestamp) -> Uuid {
        let news = reading(
            vec![call(id, now)],
            vec![announced(id, Some(now.plus_ms(30 * 86_400_000)))],
        );
        self.house.tell(&news, &feiyu(), now).await;
        let leased = self.house.claim(now, 1).await.remove(0);
        self.house.archive(&leased, id.as_bytes(), now).await;
        let recording = leased.lease.recording_id;
        let loaded = self.house.db.load(recording).await.unwrap();
        let original = loaded.objects.iter().find(|o| o.role == Role::Original);
        let original = original.unwrap();
        let source = Source::Bytes(Bytes::copy_from_slice(id.as_bytes()));
        self.archive
            .put(&original.key, source, &original.fingerprint(), "audio/wav")
            .await
            .unwrap();
        recording
    }

    async fn pass(&self, now: Timestamp) -> (u32, u32) {
        self.house.clock.set(now);
        let Report { deleted, failed } = self.deleter.pass().await.unwrap();
        (deleted, failed)
    }

    fn deleted(&self) -> Vec<String> {
        self.shelf.deleted.lock().unwrap().clone()
    }
}

#[test]
fn a_copy_is_deleted_once_after_the_sources_delay_and_leaves_a_trail() {
    on_both(async |house| {
        let bench = bench(&house, "delete_after = \"2h\"", true).await;
        let recording = bench.archived("one", at(0)).await;
        assert_eq!(bench.pass(at(60)).await, (0, 0));
        assert_eq!(bench.pass(at(2 * HOUR)).await, (1, 0));
        assert_eq!(bench.pass(at(3 * HOUR)).await, (0, 0));
        assert_eq!(bench.deleted(), ["one"]);
        let trail = house.db.audit_trail(10).await.unwrap();
        assert_eq!(trail.len(), 1);
        assert_eq!(
            (trail[0].action.as_str(), trail[0].actor.as_str()),
            ("provider_delete", "schedule")
        );
        assert_eq!(trail[0].subject, recording.to_string());
        let history = "select count(*) from recording_event where reason = 'deleted_at_provider'";
        assert_eq!(house.number(history).await, 1);
    });
}

#[test]
fn nothing_is_deleted_for_a_source_that_does_not_want_it_or_for_what_is_not_archived() {
    on_both(async |house| {
        let unwanted = bench(&house, "", false).await;
        unwanted.archived("one", at(0)).await;
        assert_eq!(unwanted.pass(at(HOUR)).await, (0, 0));
        let wanted = bench(&house, "", true).await;
        house
            .tell(
                &reading(vec![call("two", at(0))], vec![announced("two", None)]),
                &feiyu(),
                at(0),
            )
            .await;
        assert_eq!(wanted.pass(at(HOUR)).await, (1, 0));
        assert_eq!(wanted.deleted(), ["one"]);
        assert!(unwanted.deleted().is_empty());
    });
}

#[test]
fn an_original_that_is_missing_or_changed_keeps_the_vendors_copy_and_is_an_alarm() {
    on_both(async |house| {
        let bench = bench(&house, "", true).await;
        let recording = bench.archived("one", at(0)).await;
        let loaded = house.db.load(recording).await.unwrap();
        let key = loaded.objects[0].key.as_str().to_owned();
        let root = house.folder().join("archive");
        let file = root.join(
            loaded
                .objects
                .iter()
                .find(|o| o.role == Role::Original)
                .map_or(key, |o| o.key.to_string()),
        );
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, b"0ne").unwrap();
        assert_eq!(bench.pass(at(HOUR)).await, (0, 1));
        assert!(bench.deleted().is_empty());
        assert!(house.db.audit_trail(10).await.unwrap().is_empty());
        let fault = house.db.faults().await.unwrap().remove(0);
        assert_eq!(fault.code, "archive_conflict");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(bench.pass(at(3 * HOUR)).await, (0, 1));
        std::fs::write(&file, b"one").unwrap();
        assert_eq!(bench.pass(at(6 * HOUR)).await, (1, 0));
        assert!(house.db.faults().await.unwrap().is_empty());
    });
}

#[test]
fn a_vendor_that_does_not_delete_is_asked_again_with_growing_waits_until_it_forgets_by_itself() {
    on_both(async |house| {
        let bench = bench(&house, "", true).await;
        bench.archived("one", at(0)).await;
        bench.shelf.set(Mood::Fails(ProviderErrorKind::Unreachable));
        assert_eq!(bench.pass(at(1)).await, (0, 1));
        assert_eq!(bench.pass(at(1)).await, (0, 0), "not at once again");
        for hour in 1..5 {
            assert_eq!(bench.pass(at(hour * 2 * HOUR)).await, (0, 1));
        }
        bench.shelf.set(Mood::Fine);
        let gone = at(31 * 24 * HOUR);
        assert_eq!(
            bench.pass(gone).await,
            (0, 0),
            "the vendor keeps nothing for so long"
        );
        let open = "select count(*) from provider_delete where deleted_at_ms is null";
        assert_eq!(house.number(open).await, 0);
    });
}

#[test]
fn a_run_that_died_before_it_could_say_so_tells_the_vendor_again_and_no_two_run_at_once() {
    on_both(async |house| {
        let bench = bench(&house, "", true).await;
        let recording = bench.archived("one", at(0)).await;
        house
            .db
            .plan_copy(recording, "feiyu-main", at(0))
            .await
            .unwrap();
        let claimed = house
            .db
            .claim_copy("feiyu-main", at(30), at(0))
            .await
            .unwrap();
        assert_eq!(claimed, Some((recording, 0)));
        assert_eq!(bench.pass(at(29)).await, (0, 0), "another process is at it");
        assert_eq!(bench.pass(at(30)).await, (1, 0), "and is dead");
        assert_eq!(bench.deleted(), ["one"]);
    });
}
