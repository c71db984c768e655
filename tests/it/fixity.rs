//! Stored objects are read again and what is wrong with one is named; on both databases, in a directory and
//! in a bucket.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::moody::Moody;
use bytes::Bytes;
use callvault::archive::contract::{Archive, ArchiveErrorKind, Source};
use callvault::archive::disk::DiskArchive;
use callvault::archive::marker::read_or_create_marker;
use callvault::db::recordings::NewObject;
use callvault::domain::clock::Timestamp;
use callvault::domain::digest::{Fingerprint, Sha256};
use callvault::domain::fixity::Damage;
use callvault::domain::ids::new_id;
use callvault::domain::keys::{Folder, ObjectKey};
use callvault::domain::manifest::Manifest;
use callvault::domain::proof::ArchiveProof;
use callvault::domain::recording::Role;
use callvault::jobs::fixity::{Fixity, Report, Settings};
use callvault::pipeline::index::manifest_of;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::db::{House, announced, at, call, feiyu, on_both, reading};
use crate::import::callvault;
use crate::journeys::{all_as_planned_and_written, options};
use crate::support::house::TestHouse;
use crate::support::s3::{configured, open_configured, raw_client, s3_server};

const DAY: i64 = 24 * 60;

pub struct Bench {
    pub house: House,
    pub archive: Arc<dyn Archive>,
    /// Where the bytes of a key lie.
    root: PathBuf,
    _kept: Box<dyn std::any::Any + Send>,
}

/// Runs the test on every database, with a directory and with a bucket.
pub fn on_all<F, Fut>(test: F)
where
    F: Fn(Bench) -> Fut,
    Fut: Future<Output = ()>,
{
    let test = &test;
    on_both(|house| async move {
        let root = house.folder().join("archive");
        let archive = Arc::new(DiskArchive::open(&root).await.unwrap());
        test(bench(house, archive, root, Box::new(())).await).await;
    });
    on_both(|house| async move {
        let server = s3_server().await;
        let root = server.file_of("calls/", "");
        let archive = Arc::new(server.archive("calls/").await);
        test(bench(house, archive, root, Box::new(server)).await).await;
    });
}

pub async fn bench(
    house: House,
    archive: Arc<dyn Archive>,
    root: PathBuf,
    kept: Box<dyn std::any::Any + Send>,
) -> Bench {
    read_or_create_marker(archive.as_ref(), new_id(at(0)), at(0))
        .await
        .unwrap();
    Bench {
        house,
        archive,
        root,
        _kept: kept,
    }
}

impl Bench {
    pub fn fixity(&self, every: &str) -> Fixity {
        Fixity {
            db: self.house.db.clone(),
            archive: self.archive.clone(),
            clock: self.house.clock.clone(),
            settings: toml::from_str::<Settings>(&format!("every = \"{every}\"")).unwrap(),
            stop: CancellationToken::new(),
        }
    }

    pub async fn put(&self, key: &ObjectKey, bytes: &[u8]) -> ArchiveProof {
        let expected = Fingerprint::of(bytes);
        let source = Source::Bytes(Bytes::copy_from_slice(bytes));
        let stored = self
            .archive
            .put(key, source, &expected, "audio/wav")
            .await
            .unwrap();
        let version = stored.version_id.as_deref();
        let proof = self.archive.read_back(key, version, &expected).await;
        proof.unwrap()
    }

    /// A recording with its original and the manifest that `change` leaves: their keys.
    pub async fn archived(
        &self,
        id: &str,
        bytes: &[u8],
        now: Timestamp,
        change: impl FnOnce(&mut Manifest),
    ) -> [ObjectKey; 2] {
        self.house.clock.set(now);
        let news = reading(vec![call(id, now)], vec![announced(id, None)]);
        self.house.tell(&news, &feiyu(), now).await;
        let leased = self.house.claim(now, 1).await.remove(0);
        let (lease, row) = (&leased.lease, &leased.loaded.row);
        let folder = Folder::of_recording(&row.source, row.arrived_at, row.recording_id);
        let object = |role, key: &ObjectKey, bytes: &[u8]| NewObject {
            role,
            key: key.clone(),
            bytes: bytes.len() as u64,
            sha256: Sha256::of(bytes),
            mime: "audio/wav".into(),
            ..NewObject::default_at(now)
        };
        let db = &self.house.db;
        let original = folder.original(&Sha256::of(bytes), "wav");
        let planned = object(Role::Original, &original, bytes);
        db.stage(lease, &folder, planned, now).await.unwrap();
        let proof = self.put(&original, bytes).await;
        let loaded = db.load(row.recording_id).await.unwrap();
        let object_id = new_id(now);
        let mut manifest = manifest_of(&loaded, 1, object_id, now);
        change(&mut manifest);
        let text = manifest.to_bytes().unwrap();
        let key = folder.manifest(1);
        let planned = NewObject {
            object_id: Some(object_id),
            ..object(Role::Manifest, &key, &text)
        };
        db.add_object(lease, planned, now).await.unwrap();
        let second = self.put(&key, &text).await;
        db.publish(lease, &proof, &second, &[], now).await.unwrap();
        [original, key]
    }

    pub async fn sound(&self, id: &str, now: Timestamp) -> [ObjectKey; 2] {
        self.archived(id, id.as_bytes(), now, |_| {}).await
    }

    pub fn file(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Behind the archive's back.
    pub fn write(&self, key: &ObjectKey, bytes: &[u8]) {
        let _ = std::fs::remove_file(self.file(key));
        std::fs::write(self.file(key), bytes).unwrap();
    }

    /// Code and key of each finding, sorted.
    async fn found(&self) -> Vec<(String, String)> {
        let found = self.house.db.fixity_findings(100).await.unwrap();
        let mut found: Vec<_> = found.into_iter().map(|f| (f.code, f.key)).collect();
        found.sort();
        found
    }

    async fn alarms(&self) -> Vec<String> {
        let now = at(60 * DAY);
        let view = self.house.db.status_view(now).await.unwrap();
        let codes = view.alarms.into_iter().map(|alarm| alarm.code);
        codes
            .filter(|code| code.starts_with("object_") || code.starts_with("manifest_"))
            .collect()
    }
}

fn quiet(_: &Report) {}

#[test]
fn every_damage_is_found_and_named_until_the_object_is_whole_again() {
    on_all(async |bench| {
        let fixity = bench.fixity("90d");
        let flipped = bench.sound("flipped", at(0)).await;
        let missing = bench.sound("missing", at(0)).await;
        let left = bench.sound("swapped-1", at(0)).await;
        let right = bench.sound("swapped-2", at(0)).await;
        let lies = |manifest: &mut Manifest| manifest.objects[0].sha256 = Sha256::of(b"lie");
        let wrong = bench.archived("wrong", b"wrong", at(0), lies).await;
        let scribbled = bench.sound("scribbled", at(0)).await;
        bench.sound("fine", at(0)).await;
        bench.house.clock.set(at(1));
        let clean = fixity.all(&quiet).await.unwrap();
        assert_eq!((clean.structure, clean.checked), (Some(14), 14));
        let lie = ("manifest_wrong".to_owned(), wrong[1].to_string());
        assert_eq!(
            bench.found().await,
            std::slice::from_ref(&lie),
            "all else is sound"
        );

        bench.write(&flipped[0], b"flippee");
        std::fs::remove_file(bench.file(&missing[0])).unwrap();
        bench.write(&left[0], b"swapped-2");
        bench.write(&right[0], b"swapped-1");
        let manifest = std::fs::read(bench.file(&scribbled[1])).unwrap();
        bench.write(&scribbled[1], &manifest[1..]);
        bench.house.clock.set(at(2));
        let report = fixity.all(&quiet).await.unwrap();
        assert_eq!(report.damaged, 6, "{report:?}");
        let named = |code: &str, key: &ObjectKey| (code.to_owned(), key.to_string());
        let mut expected = vec![
            named("object_changed", &flipped[0]),
            named("object_missing", &missing[0]),
            named("object_swapped", &left[0]),
            named("object_swapped", &right[0]),
            named("manifest_wrong", &scribbled[1]),
            lie.clone(),
        ];
        expected.sort();
        assert_eq!(bench.found().await, expected);
        let alarms = [
            "manifest_wrong",
            "object_changed",
            "object_missing",
            "object_swapped",
        ];
        assert_eq!(bench.alarms().await, alarms);
        let told = "select count(*) from recording_event where reason = 'object_swapped'";
        assert_eq!(bench.house.number(told).await, 2);

        // Nothing was mended, and nothing is told twice.
        bench.house.clock.set(at(3));
        assert_eq!(fixity.all(&quiet).await.unwrap().damaged, 6);
        assert_eq!(bench.found().await, expected);
        assert_eq!(bench.house.number(told).await, 2);

        bench.write(&flipped[0], b"flipped");
        bench.write(&missing[0], b"missing");
        bench.write(&left[0], b"swapped-1");
        bench.write(&right[0], b"swapped-2");
        bench.write(&scribbled[1], &manifest);
        bench.house.clock.set(at(4));
        let report = fixity.all(&quiet).await.unwrap();
        assert_eq!((report.damaged, report.healed), (1, 5));
        assert_eq!(bench.found().await, [lie]);
        assert_eq!(bench.alarms().await, ["manifest_wrong"]);
    });
}

#[test]
fn an_archive_that_is_away_says_nothing_about_its_objects() {
    on_all(async |bench| {
        let fixity = bench.fixity("90d");
        bench.sound("a", at(0)).await;
        bench.house.clock.set(at(1));
        let away = bench.root.with_extension("away");
        std::fs::rename(&bench.root, &away).unwrap();
        assert!(fixity.all(&quiet).await.is_err());
        assert!(fixity.due(&quiet).await.is_err());
        assert_eq!(bench.found().await, []);
        std::fs::rename(&away, &bench.root).unwrap();
        // The run that broke off holds nobody up.
        let report = fixity.all(&quiet).await.unwrap();
        assert_eq!((report.checked, report.busy), (2, false));
        assert_eq!(fixity.due(&quiet).await.unwrap().structure, Some(2));
    });
}

#[test]
fn a_share_is_read_each_day_and_everything_within_the_period() {
    on_all(async |bench| {
        let fixity = bench.fixity("5d");
        for n in 0..10 {
            bench.sound(&format!("call-{n}"), at(0)).await;
        }
        for day in 1..=5 {
            bench.house.clock.set(at(day * DAY));
            let report = fixity.due(&quiet).await.unwrap();
            assert_eq!((report.structure, report.checked), (Some(20), 4), "{day}");
            bench.house.clock.set(at(day * DAY + 60));
            let again = fixity.due(&quiet).await.unwrap();
            assert_eq!((again.structure, again.checked), (None, 0), "once a day");
        }
        let coverage = bench.house.db.fixity_coverage(at(DAY)).await.unwrap();
        assert_eq!((coverage.objects, coverage.checked_objects), (20, 20));
        assert_eq!(coverage.bytes, coverage.checked_bytes);
        assert_eq!(coverage.oldest_unchecked_at, Some(at(DAY)));
        let coverage = bench.house.db.fixity_coverage(at(3 * DAY)).await.unwrap();
        assert_eq!(coverage.checked_objects, 12);
        // Away for long: what would be older than the period is read at once.
        bench.house.clock.set(at(30 * DAY));
        assert_eq!(fixity.due(&quiet).await.unwrap().checked, 20);
        let off = bench.fixity("off");
        bench.house.clock.set(at(90 * DAY));
        assert_eq!(off.due(&quiet).await.unwrap(), Report::default());
        assert_eq!(off.sample(7, &quiet).await.unwrap().checked, 7);
        assert_eq!(off.sample(70, &quiet).await.unwrap().checked, 20);
    });
}

#[test]
fn what_is_missing_or_has_another_size_is_found_on_the_same_day() {
    on_all(async |bench| {
        let fixity = bench.fixity("400d");
        for n in 0..5 {
            bench.sound(&format!("call-{n}"), at(n)).await;
        }
        let gone = bench.sound("gone", at(10)).await;
        let short = bench.sound("short", at(11)).await;
        std::fs::remove_file(bench.file(&gone[0])).unwrap();
        bench.write(&short[0], b"shor");
        bench.house.clock.set(at(DAY));
        let report = fixity.due(&quiet).await.unwrap();
        assert_eq!(report.structure, Some(14));
        assert!(report.checked < 5, "the rest was not read: {report:?}");
        let found = bench.found().await;
        assert_eq!(
            found,
            [
                ("object_changed".to_owned(), short[0].to_string()),
                ("object_missing".to_owned(), gone[0].to_string()),
            ]
        );
        let coverage = bench.house.db.fixity_coverage(at(0)).await.unwrap();
        assert_eq!(coverage.damaged, 2);
    });
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_was_and_no_two_run_at_once() {
    on_all(async |bench| {
        for n in 0..5 {
            bench.sound(&format!("call-{n}"), at(0)).await;
        }
        bench.house.clock.set(at(1));
        let fixity = bench.fixity("90d");
        let stop = fixity.stop.clone();
        let seen = AtomicU64::new(0);
        let stopped = fixity
            .all(&|report| {
                seen.store(report.checked, Ordering::Relaxed);
                if report.checked == 3 {
                    stop.cancel();
                }
            })
            .await
            .unwrap();
        assert_eq!((stopped.checked, stopped.stopped), (3, true));
        assert_eq!(seen.load(Ordering::Relaxed), 3);
        bench.house.clock.set(at(2));
        let fixity = bench.fixity("90d");
        let rest = fixity.all(&quiet).await.unwrap();
        assert_eq!((rest.checked, rest.stopped), (7, false));
        bench.house.clock.set(at(3));
        assert_eq!(fixity.all(&quiet).await.unwrap().checked, 10, "a new one");

        // Another process is at it, dies, and is followed when its time is over.
        bench.house.clock.set(at(4));
        let db = &bench.house.db;
        let held = db.claim_check("all", 0, at(34), at(4)).await.unwrap();
        assert!(held.is_some());
        bench.house.clock.set(at(33));
        let busy = fixity.all(&quiet).await.unwrap();
        assert_eq!((busy.checked, busy.busy), (0, true));
        bench.house.clock.set(at(34));
        let after = fixity.all(&quiet).await.unwrap();
        assert_eq!((after.checked, after.busy), (10, false));
    });
}

/// Needs a store with versions: `CALLVAULT_TEST_S3_LOCK_BUCKET` of the configured one, since a bucket with
/// object lock keeps versions.
#[test]
fn a_delete_marker_is_found_and_named() {
    let Some(settings) = configured("LOCK_BUCKET") else {
        // Few stores can: asked for by naming one, required of nobody.
        println!("SKIPPED: no bucket with versions in CALLVAULT_TEST_S3_LOCK_BUCKET");
        return;
    };
    let settings = &settings;
    on_both(|house| async move {
        let mut settings = settings.clone();
        settings["prefix"] = format!("it-{}/", new_id(at(0))).into();
        let archive = Arc::new(open_configured(settings.clone()).await);
        let bench = bench(house, archive, PathBuf::new(), Box::new(())).await;
        let [original, _] = bench.sound("hidden", at(0)).await;
        let [_, manifest] = bench.sound("covered", at(0)).await;
        let fixity = bench.fixity("90d");
        bench.house.clock.set(at(1));
        assert_eq!(fixity.all(&quiet).await.unwrap().damaged, 0);
        let text = |name: &str| settings[name].as_str().unwrap().to_owned();
        let (client, prefix) = (raw_client(&settings), text("prefix"));
        let object = |key: &ObjectKey| format!("{prefix}{key}");
        client
            .delete_object()
            .bucket(text("bucket"))
            .key(object(&original))
            .send()
            .await
            .unwrap();
        client
            .put_object()
            .bucket(text("bucket"))
            .key(object(&manifest))
            .body(b"scribble".to_vec().into())
            .send()
            .await
            .unwrap();
        bench.house.clock.set(at(2 * DAY));
        fixity.due(&quiet).await.unwrap();
        let found = bench.house.db.fixity_findings(10).await.unwrap();
        let mut told: Vec<_> = found
            .iter()
            .map(|f| (f.code.as_str(), f.what.contains("below is still whole")))
            .collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [("manifest_wrong", true), ("object_delete_marker", true)]
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_reports_coverage_and_ends_with_3_when_something_is_wrong() {
    let calls = options("feiyu-t", &["none", "twice", "never"]);
    let vendors = vec![(callvault::simulator::VendorKind::Feiyu, calls)];
    let house = TestHouse::open(vendors).await;
    house.make_calls().await;
    all_as_planned_and_written(&house).await;
    let check = async |args: &[&str]| {
        let args: Vec<&str> = ["--json", "fixity"].iter().chain(args).copied().collect();
        let (code, out, error) = callvault(&house, &args).await;
        let answer: Value =
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {error}"));
        (code, answer)
    };
    let (code, answer) = check(&["--all"]).await;
    assert_eq!(code, 0, "what the pipeline makes is sound: {answer}");
    let objects = answer["coverage"]["objects"].as_u64().unwrap();
    assert!(objects >= 12, "{answer}");
    assert_eq!(answer["checked"], objects);
    assert_eq!(answer["structure"], objects);
    assert_eq!(answer["coverage"]["checked_objects"], objects);
    assert_eq!(answer["every_s"], 90 * 24 * 3600);
    let (code, answer) = check(&["--sample", "2"]).await;
    assert_eq!((code, answer["checked"].as_u64()), (0, Some(2)));

    let key = answer["coverage"]["oldest_unchecked_key"].as_str().unwrap();
    let file = house.path().join("archive").join(key);
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &flipped).unwrap();
    let (code, answer) = check(&["--all"]).await;
    assert_eq!(code, 3, "{answer}");
    assert_eq!(answer["findings"][0]["key"], key);
    assert_eq!(answer["coverage"]["damaged"], 1);
    let (code, status, _) = callvault(&house, &["status"]).await;
    assert_eq!(code, 3, "{status}");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &whole).unwrap();
    let (code, answer) = check(&["--all"]).await;
    assert_eq!((code, answer["healed"].as_u64()), (0, Some(1)), "{answer}");
    let (code, _, error) = callvault(&house, &["fixity", "--all", "--sample", "1"]).await;
    assert_eq!(code, 2, "{error}");
    house.finish().await;
}

#[test]
fn a_store_that_is_busy_is_no_damage_and_one_such_object_holds_up_no_other() {
    on_all(async |bench| {
        let keys = bench.sound("a", at(0)).await;
        for n in 1..4 {
            bench.sound(&format!("other-{n}"), at(n)).await;
        }
        bench.house.clock.set(at(DAY));
        let archive = Moody::over(bench.archive.clone());
        let fixity = Fixity {
            archive: archive.clone(),
            ..bench.fixity("1d")
        };
        let kinds = [ArchiveErrorKind::Unavailable, ArchiveErrorKind::TimedOut];
        for (n, kind) in (0..).zip(kinds) {
            for (m, key) in (0..).zip(&keys) {
                let now = at(DAY + 120 * n + 60 * m);
                bench.house.clock.set(now);
                archive.fails(key.as_str(), kind);
                assert!(fixity.all(&quiet).await.is_err(), "it is told of");
                assert_eq!(bench.found().await, []);
                // The others were read all the same, and what was put off is what is left.
                let before = bench.house.db.fixity_coverage(now).await.unwrap();
                assert_eq!(before.checked_objects, 7);
                archive.is_fine();
                assert_eq!(fixity.all(&quiet).await.unwrap().checked, 1);
                let coverage = bench.house.db.fixity_coverage(now).await.unwrap();
                assert_eq!((coverage.checked_objects, coverage.damaged), (8, 0));
            }
        }
        // A sector that cannot be read is damage; `get` gives it no other name.
        bench.house.clock.set(at(3 * DAY));
        archive.fails(keys[0].as_str(), ArchiveErrorKind::Other);
        fixity.all(&quiet).await.unwrap();
        let named = [("object_unreadable".to_owned(), keys[0].to_string())];
        assert_eq!(bench.found().await, named);
        let db = &bench.house.db;
        let id = db.kept_damaged(at(9 * DAY), 9).await.unwrap()[0]
            .object
            .object_id;
        db.object_looks_damaged(id, Damage::Changed, "by get", at(3 * DAY))
            .await
            .unwrap();
        assert_eq!(bench.found().await, named);
        // A finding whose object has no row counts for nothing.
        bench
            .house
            .sql("delete from archive_object where role = 'original'")
            .await;
        let coverage = db.fixity_coverage(at(DAY)).await.unwrap();
        assert_eq!(coverage.damaged, 0);
    });
}
