//! Decoder children as real processes: shut in, warm, replaced after any fault, gone when their parent is.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use callvault::domain::media::{AccessSettings, AccessTags, TranscodeJob, note};
use callvault::media::child::{Request, SUBCOMMAND, Work};
use callvault::pipeline::decoder::{DecoderCrew, DecoderFault, DecoderLimits};

const EXE: &str = env!("CARGO_BIN_EXE_callvault");

/// Children of this test alone: they are started through a name of their own, by which `/proc` knows them.
struct Room {
    folder: tempfile::TempDir,
    exe: PathBuf,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let exe = folder.path().join("callvault");
        std::os::unix::fs::symlink(EXE, &exe).unwrap();
        Self { folder, exe }
    }

    fn crew(&self, wall_clock: Duration) -> DecoderCrew {
        let limits = DecoderLimits {
            wall_clock,
            cpu: Duration::from_secs(60),
        };
        DecoderCrew::new(self.exe.clone(), 1, limits)
    }

    fn job(&self, input: PathBuf) -> TranscodeJob {
        TranscodeJob {
            input,
            raw: None,
            mp3: self.folder.path().join("access.mp3"),
            waveform: self.folder.path().join("waveform.json"),
            settings: AccessSettings::default(),
            tags: AccessTags::default(),
        }
    }

    /// An input that nobody ever writes to: whoever opens it waits.
    fn endless(&self) -> PathBuf {
        self.fifo("endless")
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        path
    }

    fn pids(&self) -> Vec<u32> {
        let name = self.exe.to_str().unwrap().as_bytes();
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            cmdline
                .split(|b| *b == 0)
                .eq([name, SUBCOMMAND.as_bytes(), b""])
        })
        .collect()
    }

    /// Waits for what another process does, which no clock of ours can hurry.
    async fn until(&self, what: &str, is_so: impl Fn(&[u32]) -> bool) -> Vec<u32> {
        for _ in 0..1000 {
            let pids = self.pids();
            if is_so(&pids) {
                return pids;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain until {what}");
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/audio")
        .join(name)
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_warm_child_serves_many_files() {
    let room = Room::new();
    let crew = room.crew(LONG);
    let mut pids = Vec::new();
    for name in [
        "mulaw-8k-stereo.wav",
        "mp3-8k-mono.mp3",
        "video-only.mp4",
        "aac-lc-8k-mono.m4a",
    ] {
        let job = room.job(fixture(name));
        let report = crew.transcode(&job).await.unwrap();
        assert_eq!(report.access.is_some(), name != "video-only.mp4");
        assert_eq!(job.mp3.exists(), report.access.is_some());
        assert_eq!(job.waveform.exists(), report.access.is_some());
        assert_eq!(
            crew.probe(&job.input, None).await.unwrap().original,
            report.original
        );
        pids.extend(crew.idle_pids());
    }
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| *pid == pids[0]));
    drop(crew);
    room.until("the idle child is gone", <[u32]>::is_empty)
        .await;
}

#[tokio::test]
async fn a_child_has_shut_itself_in_before_it_reads() {
    let room = Room::new();
    let crew = room.crew(LONG);
    crew.probe(&fixture("mp3-8k-mono.mp3"), None).await.unwrap();
    let pid = crew.idle_pids()[0];
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let status = read("status");
    assert!(
        status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"),
        "{status}"
    );
    let limits = read("limits");
    for limit in [
        "Max data size",
        "Max address space",
        "Max file size",
        "Max open files",
        "Max cpu time",
    ] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        let soft = line[limit.len()..].split_whitespace().next().unwrap();
        assert_ne!(soft, "unlimited", "{limit}");
    }
    assert!(fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty());
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(
            status.contains("\nSeccomp:\t2\n"),
            "a thread outside the filter"
        );
    }
}

#[tokio::test]
async fn a_child_that_hangs_is_killed_and_replaced() {
    let room = Room::new();
    let crew = room.crew(Duration::from_millis(500));
    let job = room.job(room.endless());
    let fault = crew.transcode(&job).await.unwrap_err();
    assert_eq!(fault.code(), "decoder_timeout");
    assert!(fault.blames_the_file());
    assert_eq!(room.pids(), [0; 0]);
    assert!(!job.mp3.exists() && !job.waveform.exists());
    let crew = room.crew(LONG);
    assert!(
        crew.transcode(&room.job(fixture("mp3-8k-mono.mp3")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_child_killed_at_work_is_replaced() {
    let room = Room::new();
    let crew = room.crew(LONG);
    let job = room.job(room.endless());
    let killer = async {
        let pids = room.until("a child works", |pids| pids.len() == 1).await;
        kill(pids[0]);
        pids[0]
    };
    let (result, killed) = tokio::join!(crew.transcode(&job), killer);
    let fault = result.unwrap_err();
    assert!(
        matches!(
            &fault,
            DecoderFault::Crashed { .. } | DecoderFault::Unavailable(_)
        ),
        "{fault}"
    );
    let report = crew
        .transcode(&room.job(fixture("mp3-8k-mono.mp3")))
        .await
        .unwrap();
    assert!(report.access.is_some());
    assert_ne!(crew.idle_pids(), [killed]);
}

#[tokio::test]
async fn a_child_killed_while_idle_costs_no_file_a_try() {
    let room = Room::new();
    let crew = room.crew(LONG);
    let job = room.job(fixture("mp3-8k-mono.mp3"));
    for _ in 0..3 {
        crew.transcode(&job).await.unwrap();
        kill(crew.idle_pids()[0]);
        room.until("the idle child is dead", |pids| pids.is_empty())
            .await;
    }
    crew.transcode(&job).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_no_child() {
    let room = Room::new();
    let crew = room.crew(LONG);
    let job = room.job(room.endless());
    tokio::select! {
        _ = crew.transcode(&job) => panic!("nobody writes to that file"),
        _ = room.until("a child works", |pids| pids.len() == 1) => {}
    }
    room.until("the child is gone", <[u32]>::is_empty).await;
    crew.probe(&fixture("mp3-8k-mono.mp3"), None).await.unwrap();
}

#[tokio::test]
async fn trouble_around_the_file_does_not_blame_it() {
    let room = Room::new();
    let crew = room.crew(LONG);
    let missing = crew
        .probe(&room.folder.path().join("missing"), None)
        .await
        .unwrap_err();
    assert_eq!(
        (missing.code(), missing.blames_the_file()),
        ("input_unreadable", false)
    );
    let mut job = room.job(fixture("mp3-8k-mono.mp3"));
    job.waveform = room.folder.path().join("no/such/folder.json");
    let unwritable = crew.transcode(&job).await.unwrap_err();
    assert_eq!(
        (unwritable.code(), unwritable.blames_the_file()),
        ("output_unwritable", false)
    );
    assert!(!job.mp3.exists(), "half an access copy");
    for exe in ["/no/such/program", "/bin/true"] {
        let crew = DecoderCrew::new(exe.into(), 1, DecoderLimits::default());
        let fault = crew.probe(&job.input, None).await.unwrap_err();
        assert_eq!(
            (fault.code(), fault.blames_the_file()),
            ("decoder_unavailable", false)
        );
    }
}

#[tokio::test]
async fn hostile_files_get_their_codes_from_a_living_child() {
    let room = Room::new();
    let crew = room.crew(LONG);
    let file = room.folder.path().join("input");
    let mut channels = fs::read(fixture("pcm-s16-8k-mono.wav")).unwrap();
    channels[22..24].fill(0xFF);
    let cases: &[(&[u8], &str)] = &[
        (b"", note::UNDECODABLE),
        (b"<html>404</html>", note::UNDECODABLE),
        (b"#!AMR\n", note::NO_AUDIO),
        (b"#!AMR_MC1.0\n\x3C", note::UNSUPPORTED_CODEC),
        (&channels, note::UNDECODABLE),
        (&[0x55; 4096], note::UNDECODABLE),
    ];
    for (bytes, reason) in cases {
        fs::write(&file, bytes).unwrap();
        let report = crew.transcode(&room.job(file.clone())).await.unwrap();
        assert_eq!(report.no_access_reason.as_deref(), Some(*reason));
    }
    assert_eq!(crew.idle_pids().len(), 1);
    assert_eq!(room.pids(), crew.idle_pids());
}

/// An MP4 whose table of sample sizes has so many entries, all of them there: a demuxer that reads it whole needs four bytes of memory for
/// each. Sparse on the disk.
fn huge_table(path: &Path, entries: u32) {
    let boxed = |kind: &[u8; 4], body: &[u8], more: u32| {
        let bytes = 8 + body.len() as u32 + more;
        [&bytes.to_be_bytes(), &kind[..], body].concat()
    };
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_be_bytes()).collect() };
    let full = |kind: &[u8; 4], body: &[u8]| boxed(kind, &[&[0; 4], body].concat(), 0);
    let table = entries * 4;
    let esds =
        b"\x03\x19\0\0\0\x04\x11\x40\x15\0\0\0\0\0\xfa\0\0\0\xfa\0\x05\x02\x14\x08\x06\x01\x02";
    let mp4a = [
        &[
            0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 16, 0, 0, 0, 0,
        ][..],
        &(16_000u32 << 16).to_be_bytes(),
        &full(b"esds", esds),
    ]
    .concat();
    let stbl = [
        full(b"stsd", &[words(&[1]), boxed(b"mp4a", &mp4a, 0)].concat()),
        full(b"stts", &words(&[1, entries, 1024])),
        full(b"stsc", &words(&[1, 1, entries, 1])),
        full(b"stco", &words(&[1, 64])),
        // Its entries end the file.
        boxed(b"stsz", &words(&[0, 0, entries]), table),
    ]
    .concat();
    let url = boxed(b"url ", &[0, 0, 0, 1], 0);
    let dref = full(b"dref", &[words(&[1]), url].concat());
    let minf = [
        full(b"smhd", &[0; 4]),
        boxed(b"dinf", &dref, 0),
        boxed(b"stbl", &stbl, table),
    ]
    .concat();
    let mdia = [
        full(b"mdhd", &words(&[0, 0, 16_000, 16_000, 0x55c4_0000])),
        full(b"hdlr", b"\0\0\0\0soun\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        boxed(b"minf", &minf, table),
    ]
    .concat();
    let mut tkhd = words(&[0, 0, 1, 0, 1000]);
    tkhd.resize(80, 0);
    let trak = [
        boxed(b"tkhd", &[&[0, 0, 0, 7][..], &tkhd].concat(), 0),
        boxed(b"mdia", &mdia, table),
    ]
    .concat();
    let mut mvhd = words(&[0, 0, 1000, 1000, 0x1_0000, 0x100_0000]);
    mvhd.resize(92, 0);
    mvhd.extend(words(&[2]));
    let moov = [full(b"mvhd", &mvhd), boxed(b"trak", &trak, table)].concat();
    let head = [
        boxed(b"ftyp", b"M4A \0\0\x02\0M4A isom", 0),
        boxed(b"moov", &moov, table),
    ]
    .concat();
    fs::write(path, &head).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(head.len() as u64 + u64::from(table)).unwrap();
}

#[tokio::test]
async fn a_file_that_eats_the_childs_memory_costs_the_child_alone() {
    let room = Room::new();
    let crew = room.crew(LONG);
    let path = room.folder.path().join("huge.m4a");
    // Small, it is a file like any other: what kills below is its size alone.
    huge_table(&path, 100);
    crew.probe(&path, None).await.unwrap();
    let before = crew.idle_pids();
    // 120 MB of entries, in a child that may have 64 MiB.
    huge_table(&path, 30_000_000);
    let job = room.job(path);
    let fault = crew.transcode(&job).await.unwrap_err();
    assert!(matches!(fault, DecoderFault::Crashed { .. }), "{fault}");
    assert!(fault.blames_the_file());
    assert!(!job.mp3.exists() && !job.waveform.exists());
    // The next file has a child of its own.
    let good = room.job(fixture("mp3-8k-mono.mp3"));
    assert!(crew.transcode(&good).await.unwrap().access.is_some());
    assert_ne!(crew.idle_pids(), before);
}

#[tokio::test]
async fn no_child_outlives_a_killed_parent_even_at_work() {
    let room = Room::new();
    // Its stdin is a pipe that the child itself holds open, so that only the death of the parent can end it.
    let stdin = room.fifo("stdin");
    let script = r#""$0" "$1" <>"$2" >"$3" & exec sleep 600"#;
    let out = room.folder.path().join("out");
    let mut parent = Command::new("sh")
        .args(["-c", script])
        .args([
            room.exe.as_os_str(),
            SUBCOMMAND.as_ref(),
            stdin.as_os_str(),
            out.as_os_str(),
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    room.until("the child is ready", |_| {
        fs::read(&out).is_ok_and(|out| !out.is_empty())
    })
    .await;
    let request = Request {
        cpu_seconds: 60,
        work: Work::Probe {
            input: room.endless(),
            raw: None,
        },
    };
    let mut pipe = fs::OpenOptions::new().write(true).open(&stdin).unwrap();
    writeln!(pipe, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(room.pids().len(), 1);
    parent.kill().unwrap();
    parent.wait().unwrap();
    room.until("the child is gone", <[u32]>::is_empty).await;
}
