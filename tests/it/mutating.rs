//! Every parser that meets foreign bytes is fed with damaged real ones: no panic, and memory that stays in proportion.
//!
//! A short time in the suite; `CALLVAULT_FUZZ_SECONDS=600 cargo test --release --test it mutating -- --nocapture` takes
//! so long for each target and tells how many inputs that were. The seed is printed: `CALLVAULT_FUZZ_SEED` plays it
//! again. An input that fails is written to a file that the message names.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use callvault::db::Database;
use callvault::db::search::Query;
use callvault::domain::call::CallFacts;
use callvault::domain::clock::{SystemClock, Timestamp};
use callvault::domain::deadlines::Clocks;
use callvault::domain::digest::Sha256;
use callvault::domain::keys::ObjectKey;
use callvault::domain::manifest::{
    Manifest, ManifestCall, ManifestObject, ManifestRecording, SCHEMA,
};
use callvault::domain::recording::{Part, Role};
use callvault::domain::secret::Secret;
use callvault::media::{header, hls, sniff};
use callvault::providers::contract::Incoming;
use callvault::web::range;
use http::{HeaderMap, HeaderValue, Method};
use uuid::Uuid;

use crate::providers::{notice, providers, samples};

/// Of one input: so much, and so many times its length.
const MOST_BYTES: i64 = 8 << 20;
const MOST_TIMES: i64 = 64;
const LONGEST: usize = 64 << 10;

/// Counts what the thread holds, and the most since it was asked to begin anew.
pub struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // At a thread's end its counters may be gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(place, layout, size) }
    }
}

/// xorshift64*: enough to choose damage.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// What parsers trip over.
const TOKENS: [&[u8]; 22] = [
    b"<!DOCTYPE a [<!ENTITY b \"c\">]>",
    b"&#x0;",
    b"<![CDATA[",
    b"]]>",
    b"\\u0000",
    b"\\ud800",
    b"{\"a\":",
    b"[[[[[[[[",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"1e309",
    b"bytes=0-",
    b"bytes=-1,",
    b"#EXTINF:",
    b"#EXT-X-KEY:METHOD=",
    b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
    b"RIFF\xff\xff\xff\xff",
    b"data\xff\xff\xff\x7f",
    b"%00%ff",
    b"\xff\xfe\xef\xbb\xbf",
    b"\r\n\r\n",
    b"2026-02-30T25:61:61+99:99",
];

fn damaged(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        let to = (at + dice.below(40)).min(bytes.len());
        match dice.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.next() as u8,
            2 => drop(bytes.drain(at..to)),
            3 => drop(bytes.splice(at..at, TOKENS[dice.below(TOKENS.len())].iter().copied())),
            4 => {
                let again = bytes[at..to].repeat(1 + dice.below(200));
                drop(bytes.splice(at..at, again));
            }
            5 => bytes.truncate(at),
            6 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 => drop(bytes.splice(at..to, TOKENS[dice.below(TOKENS.len())].iter().copied())),
            _ => {
                let number = dice.next().to_string();
                drop(bytes.splice(at..to, number.into_bytes()));
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// Feeds one parser for a while; gives how many inputs that were.
fn feed(name: &str, seeds: Vec<Vec<u8>>, mut parse: impl FnMut(&[u8])) -> u64 {
    let number = |variable: &str| std::env::var(variable).ok()?.parse::<u64>().ok();
    let long =
        number("CALLVAULT_FUZZ_SECONDS").map_or(Duration::from_millis(600), Duration::from_secs);
    let seed = number("CALLVAULT_FUZZ_SEED").unwrap_or_else(rand::random) | 1;
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mut dice = Dice(seed);
    let (mut inputs, mut slowest) = (0, Duration::ZERO);
    let began = Instant::now();
    while began.elapsed() < long {
        let bytes = damaged(&mut dice, &seeds);
        MOST.set(HELD.get());
        let before = HELD.get();
        let one = Instant::now();
        let parsed = catch_unwind(AssertUnwindSafe(|| parse(&bytes)));
        slowest = slowest.max(one.elapsed());
        let most = MOST.get() - before;
        inputs += 1;
        let bound = MOST_BYTES + MOST_TIMES * bytes.len() as i64;
        if parsed.is_err() || most > bound {
            let file = std::env::temp_dir().join(format!("callvault-{name}-{seed}"));
            std::fs::write(&file, &bytes).unwrap();
            panic!(
                "{name}, seed {seed}: {} with {} bytes in memory (at most {bound}), the input lies in {}",
                if parsed.is_err() {
                    "a panic"
                } else {
                    "too much"
                },
                most,
                file.display()
            );
        }
    }
    println!("{name}: {inputs} inputs, the slowest {slowest:?}, seed {seed}");
    inputs
}

const NOW: Timestamp = Timestamp::from_ms(1_712_346_600_500);

/// Bodies, queries and signatures of pushes, of every kind in the registry; the body is read whether or not it was let in.
#[test]
fn pushes_of_all_kinds() {
    for provider in providers() {
        let real = samples(provider.kind());
        let body_of = |one: &Incoming| {
            if one.body.is_empty() {
                one.query.clone().into_bytes()
            } else {
                one.body.to_vec()
            }
        };
        let mut n = 0;
        feed(
            provider.kind(),
            real.iter().map(body_of).collect(),
            |bytes| {
                n += 1;
                let mut incoming = real[n % real.len()].clone();
                if incoming.body.is_empty() || n % 5 == 0 {
                    incoming.query = String::from_utf8_lossy(bytes).into_owned();
                } else {
                    incoming.body = bytes.to_vec().into();
                }
                // Signatures, dates and types come with headers.
                if n % 3 == 0 && !incoming.headers.is_empty() {
                    let at = n % incoming.headers.len();
                    incoming.headers[at].1 =
                        String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
                }
                let _ = provider.admit(&incoming, NOW);
                let _ = provider.read(&notice(&*provider, &incoming, String::new()));
            },
        );
    }
}

#[test]
fn xml_of_queues() {
    let message = b"<?xml version=\"1.0\"?><Messages xmlns=\"http://mns.aliyuncs.com/doc/v1\"><Message><MessageId>5F290C</MessageId>\
        <ReceiptHandle>1-ODU4</ReceiptHandle><MessageBody>eyJhIjoxfQ==</MessageBody><EnqueueTime>1250700979248</EnqueueTime>\
        <DequeueCount>1</DequeueCount><Priority>8</Priority></Message></Messages>";
    let error = b"<Error><Code>MessageNotExist</Code><Message>Message not exist.</Message><RequestId>5</RequestId></Error>";
    feed("mns-xml", vec![message.to_vec(), error.to_vec()], |bytes| {
        let _ = callvault::providers::parse_xml(bytes);
    });
}

#[test]
fn ranges() {
    let seeds = [
        "bytes=0-99",
        "bytes=-5",
        "bytes=5-",
        "bytes=0-1,5-9",
        "items=1-2",
    ];
    let seeds = seeds.map(|text| text.as_bytes().to_vec()).to_vec();
    feed("range", seeds, |bytes| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else {
            return;
        };
        let mut headers = HeaderMap::new();
        headers.insert(http::header::RANGE, value.clone());
        headers.insert(http::header::IF_RANGE, value);
        for total in [0, 1, 1000, u64::MAX] {
            let _ = range::choose(&Method::GET, &headers, "\"e\"", total);
        }
    });
}

#[test]
fn first_bytes_headers_and_playlists() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio");
    let mut files: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap_or_default())
        .filter(|bytes| !bytes.is_empty())
        .collect();
    for file in &mut files {
        file.truncate(4096);
    }
    files.push(b"<html><body>403</body></html>".to_vec());
    feed("sniff-and-headers", files, |bytes| {
        let _ = sniff::sniff(bytes);
        let long = bytes.len() as u64;
        let _ = header::wav(&mut Cursor::new(bytes), long);
        if let Ok(start) = header::behind_id3(&mut Cursor::new(bytes), long) {
            let _ = header::mp3_knows_its_length(&mut Cursor::new(bytes), start);
        }
    });
    let playlist = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXT-X-MAP:URI=\"a.mp4\"\n#EXTINF:9.9,\na.ts\n#EXTINF:3,\nb.ts?x=1\n#EXT-X-ENDLIST\n";
    feed("hls", vec![playlist.to_vec()], |bytes| {
        let _ = hls::read(bytes);
    });
}

#[test]
fn manifests() {
    let key = ObjectKey::stored("s/2026/04/05/x/original-1.wav");
    let real = Manifest {
        schema: SCHEMA.to_owned(),
        n: 1,
        object_id: Uuid::nil(),
        written_at: NOW,
        source: "s".to_owned(),
        kind: "cdr".to_owned(),
        folder: "s/2026/04/05/x".to_owned(),
        call: ManifestCall {
            call_id: Uuid::nil(),
            facts: CallFacts::new("call-1"),
            arrived_at: NOW,
        },
        legs: Vec::new(),
        recording: ManifestRecording {
            recording_id: Uuid::nil(),
            provider_recording_id: Some("r1".to_owned()),
            aliases: vec!["r:r1".to_owned()],
            part: Part::Mixed,
            arrived_at: NOW,
            clocks: Clocks::default(),
            confirmed_at: Some(NOW),
            archived_at: None,
            began_at: Some(NOW),
            party: Some("caller".to_owned()),
            notes: vec!["short".to_owned()],
        },
        united_into: None,
        objects: vec![ManifestObject {
            object_id: Uuid::nil(),
            role: Role::Original,
            n: 1,
            key,
            bytes: 44,
            sha256: Sha256::of(b"a"),
            mime: "audio/wav".to_owned(),
            version_id: None,
            codec: Some("pcm_s16le".to_owned()),
            sample_rate_hz: Some(8000),
            channels: Some(1),
            duration_ms: Some(10),
            created_at: NOW,
            verified_at: Some(NOW),
            made_from: None,
            tool: None,
            settings: Some(serde_json::json!({ "files": ["a"] })),
        }],
        notices: vec![Sha256::of(b"b")],
    };
    feed("manifest", vec![real.to_bytes().unwrap()], |bytes| {
        if let Ok(manifest) = Manifest::from_bytes(bytes) {
            // What was read can be written and read again.
            Manifest::from_bytes(&manifest.to_bytes().unwrap()).unwrap();
        }
    });
}

#[test]
fn cursors_of_lists() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = callvault::db::settings::Settings {
        url: Secret::new("sqlite://callvault.db"),
        ..callvault::db::settings::Settings::default()
    };
    let opening = Database::connect(&settings, dir.path(), Arc::new(SystemClock));
    let db = runtime.block_on(opening).unwrap();
    // `{"t":1700000000000,"i":"00000000-0000-0000-0000-000000000000"}`
    let real =
        b"eyJ0IjoxNzAwMDAwMDAwMDAwLCJpIjoiMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwIn0";
    feed("cursor", vec![real.to_vec()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match runtime.block_on(db.search(&Query::default(), Some(&text), 10)) {
            Ok(page) => assert!(page.items.is_empty()),
            Err(error) => assert!(error.is_bad_cursor(), "{error}"),
        }
    });
}
