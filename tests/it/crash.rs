//! The program dies at every named point, comes back, and one result remains.
//!
//! `cargo test --features failpoints --test it crash`

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use callvault::app::House;
use callvault::config::Config;
use callvault::domain::clock::{SharedClock, SystemClock};
use callvault::domain::view::RecordingView;
use callvault::simulator::{Options, Profile, Vendor, VendorKind};

use crate::support::free_port;
use crate::support::house::{program, spool_files, stored_keys};

/// Points that this journey cannot reach: multipart needs a bucket and a large file, the journal a
/// database that is away (`tests/it/spool.rs` kills its writer), brokers a broker (`tests/it/crash_ways.rs`), the sweep and
/// deleting at the vendor need one that can be listed or deletes (`tests/it/sweep.rs`, `tests/it/provider_delete.rs`),
/// several files a playlist, two parties a vendor that records each by itself (below), a move to a bucket two archives
/// (`tests/it/crash_move.rs`, which reaches multipart too).
const ELSEWHERE: [&str; 8] = [
    "archive_move.",
    "broker.",
    "mpu_orig.",
    "journal.",
    "sweep.",
    "provider_delete.",
    "store.between_files",
    "pair.",
];

/// Every other `fail_point!` in the sources, so that a new one is tested by existing.
fn points() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for (_, rest) in text
                .match_indices("fail_point!(\"")
                .map(|(i, m)| text[i..].split_at(m.len()))
            {
                let name = rest.split('"').next().unwrap();
                if !ELSEWHERE.iter().any(|prefix| name.starts_with(prefix)) {
                    found.insert(name.to_owned());
                }
            }
        }
    }
    found
}

pub struct Served {
    pub child: Child,
    address: String,
}

/// Starts `serve`; with `dies_at` the process aborts when it comes to that point.
pub fn serve(dir: &std::path::Path, port: u16, dies_at: Option<&str>) -> Served {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("serve.log"))
        .unwrap();
    let mut command = Command::new(program());
    command
        .args(["--config"])
        .arg(dir.join("callvault.toml"))
        .arg("serve")
        .env("CALLVAULT__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(log);
    if let Some(point) = dies_at {
        command.env("CALLVAULT_DIE_AT", point);
    }
    Served {
        child: command.spawn().unwrap(),
        address: format!("http://127.0.0.1:{port}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_any_point_leaves_one_result() {
    let points = points();
    assert!(points.len() > 15, "found only {points:?}");
    for point in points {
        dies_once(&point, VendorKind::Feiyu, 2).await;
        println!("{point}: died, came back, one result");
    }
}

/// Where a recording of several files may be cut apart.
#[tokio::test(flavor = "multi_thread")]
async fn dying_between_a_playlists_files_leaves_it_whole() {
    for point in [
        "fetch.mid_body",
        "store.after_stage",
        "store.between_files",
        "store.after_put",
        "index.after_manifest",
        "index.before_publish",
        "index.after_publish",
        "transcode.before_decode",
    ] {
        // The second call's recording is a playlist in the media store.
        dies_once(point, VendorKind::Trtc, 2).await;
        println!("{point}: died, came back, one result of several files");
    }
}

/// Between two parties' recordings and their joint copy.
#[ignore = "a process that dies before it decodes both parties may leave the call without its joint copy: docs/reliability.md"]
#[tokio::test(flavor = "multi_thread")]
async fn dying_over_a_joint_copy_leaves_one() {
    for point in ["pair.before_decode", "pair.after_put"] {
        dies_once(point, VendorKind::Yunxin, 2).await;
        println!("{point}: died, came back, one joint copy");
    }
}

async fn dies_once(point: &str, kind: VendorKind, calls: u32) {
    let dir = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let options = Options {
        calls,
        speed: 900.0,
        only: vec!["none".to_owned()],
        ledger: Some(dir.path().join("served.ndjson")),
        call_interval: Duration::from_millis(10),
        ..Options::new("crash")
    };
    // Points of queues are reached at a vendor that has one.
    let (kind, options) = if point.starts_with("queue.") {
        let profile = Profile::Queue;
        (VendorKind::Aliyun, Options { profile, ..options })
    } else {
        (kind, options)
    };
    let vendor = Vendor::start(kind, options, clock.clone()).await.unwrap();
    let text = format!(
        "[database]\nurl = \"sqlite://callvault.db\"\n[archive]\nkind = \"directory\"\npath = \"archive\"\n[spool]\npath = \"spool\"\n[schedule]\npoll = \"* * * * * *\"\n{}",
        vendor.config_block()
    );
    std::fs::write(dir.path().join("callvault.toml"), text).unwrap();
    let port = free_port();
    let mut served = serve(dir.path(), port, Some(point));
    vendor.set_push_to(served.address.clone());
    let calling = tokio::spawn({
        let vendor = vendor.clone();
        async move { vendor.make_calls().await.unwrap() }
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = served.child.try_wait().unwrap() {
            break status;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{point} was never reached, see {}",
            dir.keep().display()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(!status.success(), "{point} did not kill the program");
    let mut served = serve(dir.path(), port, None);
    calling.await.unwrap();
    wait_until_whole(dir.path(), &vendor, point, &clock).await;
    terminate(&mut served.child);
    assert_eq!(
        spool_files(&dir.path().join("spool")),
        Vec::<std::path::PathBuf>::new(),
        "{point} left files in the spool"
    );
    vendor.stop().await;
}

async fn wait_until_whole(
    dir: &std::path::Path,
    vendor: &Vendor,
    point: &str,
    clock: &SharedClock,
) {
    let begun = Instant::now();
    let house = loop {
        let config = Config::load(Some(&dir.join("callvault.toml"))).unwrap();
        match House::open(config, clock.clone()).await {
            Ok(house) => break house,
            Err(error) => {
                assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "{point}: {error}"
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    };
    loop {
        let mut open = Vec::new();
        for line in vendor.ledger() {
            let found = house
                .db
                .recordings_of_call(&line.source, &line.provider_call_id)
                .await
                .unwrap();
            let own = |one: &&RecordingView| {
                one.original.as_ref().map(|o| o.sha256.to_string()) == line.sha256
            };
            let mine: Vec<_> = found.iter().filter(own).collect();
            let of_call = vendor
                .ledger()
                .iter()
                .filter(|other| other.provider_call_id == line.provider_call_id)
                .count();
            // Every simulated call with single recordings has two parties.
            if point.starts_with("pair.") {
                let call = found.first().map(|view| view.call_id).unwrap_or_default();
                if house.db.call_access(call).await.unwrap().is_none() {
                    open.push(format!("no joint copy of {call}"));
                }
            }
            let whole = found.len() == of_call
                && matches!(mine.as_slice(), [one]
                    if one.state == "archived" && one.access.is_some());
            if !whole {
                open.push(format!("{line:?}: {found:?}"));
            }
        }
        let rows: BTreeSet<String> = house
            .db
            .all_object_keys()
            .await
            .unwrap()
            .into_iter()
            .map(|key| key.to_string())
            .collect();
        let stored = stored_keys(house.archive.as_ref()).await;
        if rows != stored {
            open.push(format!(
                "rows without object or objects without row: {:?}",
                rows.symmetric_difference(&stored).collect::<Vec<_>>()
            ));
        }
        // What the dead process had not settled is done by the one that came after it.
        let work = house.db.open_work().await.unwrap();
        if !work.is_empty() {
            open.push(format!("work is left: {work:?}"));
        }
        if open.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(100),
            "{point}: not whole again: {open:#?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub fn terminate(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
}
