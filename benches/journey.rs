//! CPU of the whole journey (fetch, hash, store, read back, index, decode, transcode) against
//! transcoding the same files alone, in one run.
//!
//! `cargo bench --bench journey [-- --calls 16 --seconds 180]`. The service runs as its own process
//! with its decoder children; the file server and the pushes are this process and are not counted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callvault::domain::media::{AccessSettings, AccessTags, TranscodeJob};
use callvault::pipeline::decoder::{DecoderCrew, DecoderLimits};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

const TOKEN: &str = "benchbenchbenchbench";

fn main() {
    let calls = option("--calls").unwrap_or(16);
    let seconds = option("--seconds").unwrap_or(180);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(calls, seconds));
}

fn option(name: &str) -> Option<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.nth(1)?.parse().ok()
}

async fn run(calls: u64, seconds: u64) {
    let dir = tempfile::tempdir_in(".").expect("a folder beside the sources");
    let dir = std::path::absolute(dir.path()).expect("a path");
    std::fs::create_dir_all(&dir).expect("a folder");
    let wav = Bytes::from(speech_like(seconds));
    let alone = transcoding_alone(&dir, &wav, calls).await;
    let (journey, wall) = journey(&dir, wav.clone(), calls).await;
    println!(
        "{calls} recordings of {seconds} s, 8 kHz mono WAV of {} KiB",
        wav.len() / 1024
    );
    println!("transcoding alone  {alone:>7.2} s CPU");
    println!("whole journey      {journey:>7.2} s CPU   {wall:.1} s wall");
    println!("ratio              {:>7.2}", journey / alone);
    std::fs::remove_dir_all(&dir).expect("the folder goes");
}

/// A voice-like signal: moving harmonics, syllables, pauses. The same bytes each time.
fn speech_like(seconds: u64) -> Vec<u8> {
    let rate = 8000_u32;
    let frames = rate * u32::try_from(seconds).expect("a call of sane length");
    let mut wav = Vec::with_capacity(frames as usize * 2 + 44);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + frames * 2).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&rate.to_le_bytes());
    wav.extend_from_slice(&(rate * 2).to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&(frames * 2).to_le_bytes());
    for i in 0..frames {
        let t = f64::from(i) / f64::from(rate);
        let syllable = (t * 4.3).sin().max(0.0) * ((t * 0.37).sin() + 0.4).clamp(0.0, 1.0);
        let pitch = 120.0 + 30.0 * (t * 1.7).sin();
        let voice: f64 = (1..=8)
            .map(|h| (std::f64::consts::TAU * pitch * f64::from(h) * t).sin() / f64::from(h))
            .sum();
        wav.extend_from_slice(&((voice * syllable * 6000.0) as i16).to_le_bytes());
    }
    wav
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_callvault").into()
}

async fn transcoding_alone(dir: &Path, wav: &[u8], calls: u64) -> f64 {
    let input = dir.join("input.wav");
    std::fs::write(&input, wav).expect("room");
    let crew = Arc::new(DecoderCrew::new(program(), 2, DecoderLimits::default()));
    let mut jobs = tokio::task::JoinSet::new();
    for n in 0..calls {
        let job = TranscodeJob {
            input: input.clone(),
            raw: None,
            mp3: dir.join(format!("{n}.mp3")),
            waveform: dir.join(format!("{n}.json")),
            settings: AccessSettings::default(),
            tags: AccessTags::default(),
        };
        let crew = crew.clone();
        jobs.spawn(async move { crew.transcode(&job).await.expect("a copy") });
    }
    for report in jobs.join_all().await {
        assert!(report.access.is_some());
    }
    // Only the children count: this process did nothing but wait for them.
    let me = std::process::id();
    tree_cpu(me) - cpu_of(me, false)
}

async fn journey(dir: &Path, wav: Bytes, calls: u64) -> (f64, f64) {
    let files = serve_files(wav).await;
    let port = free_port();
    let config = dir.join("callvault.toml");
    let text = format!(
        r#"[server]
listen = "127.0.0.1:{port}"
[database]
url = "sqlite://bench.db"
[archive]
kind = "directory"
path = "archive"
[spool]
path = "spool"
[log]
level = "warn"
[sources.bench]
kind = "aliyun"
hook_token = "{TOKEN}"
allow_hosts = ["127.0.0.1"]
http_links = "allow"
"#
    );
    std::fs::write(&config, text).expect("room");
    let mut service = Command::new(program())
        .arg("--config")
        .arg(&config)
        .arg("serve")
        .stdout(Stdio::null())
        .spawn()
        .expect("the service");
    let client = Http(Client::builder(TokioExecutor::new()).build_http());
    let base = format!("http://127.0.0.1:{port}");
    let ready = format!("{base}/readyz");
    client.until(&ready, 30, |status, _| status == 200).await;
    let begun = Instant::now();
    for n in 0..calls {
        let body = format!(
            r#"[{{"call_id":"1000{n}^2000{n}","start_time":"2026-11-20 12:00:00","end_time":"2026-11-20 12:03:00","duration":180,"status_code":"200000","record_file":"http://127.0.0.1:{files}/{n}.wav?Expires=4102444800&Signature=x"}}]"#
        );
        client
            .push(
                &format!("{base}/hooks/bench/{TOKEN}/VoiceRecordReport"),
                body,
            )
            .await;
    }
    // The archive itself is looked at: a question to the service would be work that no journey has. The second manifest is the last
    // object of a journey.
    while count(&dir.join("archive"), "manifest-0002.json") < calls {
        assert!(begun.elapsed().as_secs() < 900, "waited in vain");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let wall = begun.elapsed().as_secs_f64();
    // It is written a moment before the row is settled.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cpu = tree_cpu(service.id());
    let list = format!("{base}/api/v1/recordings?state=archived&limit=1000");
    client
        .until(&list, 30, |_, body| {
            let items = body["items"].as_array().map_or(&[][..], Vec::as_slice);
            items.len() as u64 == calls && items.iter().all(|item| !item["access"].is_null())
        })
        .await;
    service.kill().expect("an end");
    service.wait().expect("an end");
    (cpu, wall)
}

/// Files of this name below `folder`.
fn count(folder: &Path, name: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let below = entries.flatten().map(|entry| match entry.path() {
        path if path.is_dir() => count(&path, name),
        path => u64::from(path.ends_with(name)),
    });
    below.sum()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("a port").port()
}

async fn serve_files(body: Bytes) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let app = axum::Router::new().fallback(move || {
        let body = body.clone();
        async move { ([("content-type", "audio/wav")], body) }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    async fn push(&self, url: &str, body: String) {
        let request = http::Request::post(url)
            .header("content-type", "application/json")
            .body(Full::from(body))
            .expect("a request");
        let answer = self.0.request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }

    async fn until(&self, url: &str, seconds: u64, done: impl Fn(u16, serde_json::Value) -> bool) {
        let begun = Instant::now();
        loop {
            if let Ok(answer) = self.0.get(url.parse().expect("an address")).await {
                let status = answer.status().as_u16();
                let body = answer.into_body().collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                if done(status, serde_json::from_slice(&body).unwrap_or_default()) {
                    return;
                }
            }
            assert!(begun.elapsed().as_secs() < seconds, "waited in vain");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// User and system seconds of a process and of those below it, waited-for ones included.
fn tree_cpu(pid: u32) -> f64 {
    let mut sum = cpu_of(pid, true);
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        if fields(child).and_then(|f| f.get(1)?.parse().ok()) == Some(pid) {
            sum += tree_cpu(child);
        }
    }
    sum
}

/// The fields of /proc/PID/stat behind the name: state, parent, ...
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(ToOwned::to_owned).collect())
}

/// utime and stime, with those of waited-for children where asked.
fn cpu_of(pid: u32, with_waited: bool) -> f64 {
    let Some(fields) = fields(pid) else {
        return 0.0;
    };
    let last = if with_waited { 14 } else { 12 };
    let ticks: u64 = fields[11..=last]
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
