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
    for left in ["notes.docx", "broken.json", "moved.wav", "copy.wav"] {
        assert!(at.join(left).exists(), "{left} was taken away");
    }
    house.finish().await;
}
