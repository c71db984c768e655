//! A folder as people leave it: files that grow, come twice, are renamed, are no recordings at all.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use crate::support::house::TestHouse;
use crate::ways::{door, house, message};

pub fn wav(seed: u8, samples: u32) -> Vec<u8> {
    let samples: Vec<u8> = (0..samples).map(|n| (n as u8).wrapping_mul(seed)).collect();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + samples.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    file.extend((samples.len() as u32).to_le_bytes());
    file.extend(samples);
    file
}

async fn until_archived(house: &TestHouse, expected: &[&str]) {
    house
        .until(async |house| {
            let query = callvault::db::search::Query {
                state: Some("archived".to_owned()),
                ..callvault::db::search::Query::default()
            };
            let page = house.house().db.search(&query, None, 100).await.unwrap();
            let found = page.items.iter().map(|item| item.provider_call_id.clone());
            let mut found: Vec<String> = found.collect();
            found.sort();
            if found == expected {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
}

fn sidecar(at: &Path, n: usize) {
    let text = String::from_utf8(message(n)).unwrap();
    std::fs::write(at, text.replace("call.ended", "recording.ready")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_as_people_leave_it_gives_each_recording_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().canonicalize().unwrap();
    let house = house(&format!(
        "[sources.pbx]\nkind = \"cdr\"\nfrom = \"folder\"\npath = \"{}\"\nsettle_time = \"1s\"\n",
        at.display()
    ))
    .await;
    // Foreign things of all kinds, from the start.
    std::fs::write(at.join("notes.docx"), b"x").unwrap();
    std::fs::write(at.join("empty.wav"), b"").unwrap();
    std::fs::write(at.join("broken.json"), b"{\"spec\":").unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe.wav");
    std::fs::write(at.join(name), wav(2, 8000)).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(at.join("pipe.wav"))
        .status();
    assert!(pipe.unwrap().success());
    std::fs::create_dir(at.join("day")).unwrap();
    std::os::unix::fs::symlink(&at, at.join("day/loop")).unwrap();
    std::os::unix::fs::symlink(at.join("nowhere.wav"), at.join("dangling.wav")).unwrap();

    // Half-written for longer than it takes to settle, a piece at a time, and its message there before it is whole.
    let whole = wav(3, 64_000);
    sidecar(&at.join("day/grows.wav.json"), 1);
    let mut file = std::fs::File::create(at.join("day/grows.wav")).unwrap();
    for piece in whole.chunks(whole.len() / 8 + 1) {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    drop(file);
    until_archived(&house, &["call-1"]).await;
    let stored = crate::support::house::stored_keys(house.house().archive.as_ref()).await;
    assert!(!stored.is_empty());

    // The same message and file once more under another name: a repeat. The same sound alone: a call of its own.
    std::fs::copy(at.join("day/grows.wav"), at.join("copy.wav")).unwrap();
    std::fs::copy(at.join("day/grows.wav.json"), at.join("copy.wav.json")).unwrap();
    std::fs::copy(at.join("day/grows.wav"), at.join("alone.wav")).unwrap();
    until_archived(&house, &["alone.wav", "call-1"]).await;
    // Moved away with its message after it was archived: nothing is lost and nothing comes twice.
    std::fs::rename(at.join("day/grows.wav"), at.join("moved.wav")).unwrap();
    std::fs::rename(at.join("day/grows.wav.json"), at.join("moved.wav.json")).unwrap();
    std::fs::write(at.join("last.wav"), wav(5, 8000)).unwrap();
    until_archived(&house, &["alone.wav", "call-1", "last.wav"]).await;
    let (_, repeated) = door(&house, "folder").await;
    println!("{repeated} repeated");
    // Its message comes when the file is archived already: one call, known by both names.
    sidecar(&at.join("last.wav.json"), 2);
    let last = house
        .until(async |house| {
            let db = &house.house().db;
            let found = db.recordings_of_call("pbx", "call-2").await.unwrap();
            match &found[..] {
                [one] => Ok(one.recording_id),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    let db = &house.house().db;
    let found = db.recordings_of_call("pbx", "last.wav").await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].recording_id, last);
    assert_eq!(found[0].caller.as_deref(), Some("+8613900000002"));
    // A message long before its file: the call is told at once, its recording when it is there.
    sidecar(&at.join("slow.json"), 3);
    house
        .until(async |house| {
            let found = house.house().db.find_call("pbx", "call-3").await.unwrap();
            found.map(|_| ()).ok_or("no call".to_owned())
        })
        .await;
    std::fs::write(at.join("slow.wav"), wav(13, 8000)).unwrap();
    until_archived(&house, &["alone.wav", "call-1", "call-2", "call-3"]).await;
    for left in ["notes.docx", "broken.json", "moved.wav", "copy.wav"] {
        assert!(at.join(left).exists(), "{left} was taken away");
    }
    house.finish().await;
}

/// Without root's privilege to read everything: all threads of the house are an ordinary user's.
#[test]
fn what_this_user_may_not_read_is_told_of_and_what_follows_is_taken() {
    use std::os::unix::fs::PermissionsExt as _;

    const NOBODY: u32 = 65534;
    let leave_root = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(NOBODY);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
    };
    // This thread ends with the test, the others with the runtime.
    leave_root();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(leave_root)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        let shut = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::create_dir(at.join("shut")).unwrap();
        std::fs::write(at.join("shut/in.wav"), wav(3, 8000)).unwrap();
        shut(&at.join("shut"), 0o000);
        std::fs::write(at.join("secret.wav"), wav(5, 8000)).unwrap();
        shut(&at.join("secret.wav"), 0o000);
        std::fs::write(at.join("heard.wav"), wav(7, 8000)).unwrap();
        sidecar(&at.join("heard.wav.json"), 4);
        shut(&at.join("heard.wav.json"), 0o000);
        std::fs::create_dir(at.join("folder.wav")).unwrap();
        std::fs::write(at.join("folder.wav/good.wav"), wav(9, 8000)).unwrap();
        let house = house(&format!(
            "[sources.pbx]\nkind = \"cdr\"\nfrom = \"folder\"\npath = \"{}\"\nsettle_time = \"200ms\"\n",
            at.display()
        ))
        .await;
        until_archived(&house, &["folder.wav/good.wav"]).await;
        // Announced, and why it is not taken is told.
        house
            .until(async |house| {
                let db = &house.house().db;
                let found = db.recordings_of_call("pbx", "secret.wav").await.unwrap();
                let reasons: Vec<_> = found.iter().map(|one| one.reason.clone()).collect();
                match &reasons[..] {
                    [Some(reason)] if reason == "address_forbidden" => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        // Readable at last: nothing was given up.
        shut(&at.join("shut"), 0o755);
        shut(&at.join("heard.wav.json"), 0o644);
        until_archived(&house, &["call-4", "folder.wav/good.wav", "shut/in.wav"]).await;
        shut(&at.join("secret.wav"), 0o644);
        let found = house.house().db.recordings_of_call("pbx", "secret.wav").await.unwrap();
        let id = found[0].recording_id.unwrap().to_string();
        let (code, _, error) = crate::import::callvault(&house, &["retry", &id]).await;
        assert_eq!(code, 0, "{error}");
        until_archived(&house, &["call-4", "folder.wav/good.wav", "secret.wav", "shut/in.wav"]).await;
        let mut house = house;
        house.stop().await;
    });
}
