#!/usr/bin/env python3
"""Holds every access copy of a folder against its original, with tools that callvault knows nothing of.

    scripts/access_copies.py callvault-demo
    scripts/access_copies.py --files tests/fixtures/audio/*

For every archived recording with an access copy: ffmpeg decodes both and the samples are counted (within one MP3
frame), ffprobe's length is within 0.25 s, and headless Chromium decodes and plays the file. A call's joint copy is two channels, as long
as its parties' originals where their stamps put them. 
With `--files` the access copies are those of `callvault audio transcode`, as the pipeline would make them: each is as long as the
decoded sound, and Chromium plays it; a file without one says why. Needs ffmpeg and, unless
`--no-browser`, chromium. Ends with 1 and a line for each failure.
"""

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_ledger import Callvault, default_binary  # noqa: E402

FFPROBE_TOLERANCE_S = 0.25
BROWSER_PATIENCE_S = 300


def probe(path):
    """Sample rate, channels and length in seconds, as ffprobe says."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries",
         "stream=codec_name,sample_rate,channels:format=duration", "-of", "json", str(path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    stream = told["streams"][0]
    return stream["codec_name"], int(stream["sample_rate"]), int(stream["channels"]), float(told["format"].get("duration", "nan"))


def lame_tag(path):
    """(frames, samples per frame, delay, padding) of an MP3 with a LAME tag, else None."""
    data = Path(path).read_bytes()
    at = 0
    if data[:3] == b"ID3":
        size = 0
        for byte in data[6:10]:
            size = size << 7 | byte & 0x7F
        at = 10 + size
    header = data[at:at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    mpeg1 = header[1] >> 3 & 3 == 3
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    tag = at + 4 + side
    if data[tag:tag + 4] not in (b"Xing", b"Info") or not data[tag + 7] & 1:
        return None
    frames = int.from_bytes(data[tag + 8:tag + 12], "big")
    both = int.from_bytes(data[tag + 141:tag + 144], "big")
    return frames, 1152 if mpeg1 else 576, both >> 12, both & 0xFFF


def decoded_samples(path, codec, channels):
    """Samples per channel that ffmpeg gives, freed of the encoder's padding where ffmpeg left it in."""
    decoder = subprocess.Popen(
        ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", "0:a:0", "-f", "s16le", "-"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    count = 0
    while chunk := decoder.stdout.read(1 << 20):
        count += len(chunk)
    if decoder.wait() != 0:
        raise RuntimeError(f"ffmpeg cannot decode {path}")
    samples = count // (2 * channels)
    tag = lame_tag(path) if codec == "mp3" else None
    if tag:
        # Some ffmpeg versions ignore the tag below 16 kHz (MPEG-2.5) and play the padding too.
        frames, per_frame, delay, padding = tag
        real = frames * per_frame - delay - padding
        if abs(samples - frames * per_frame) <= per_frame and abs(samples - real) > per_frame:
            samples = real
    return samples


def ledger_lengths(folder):
    """Milliseconds by SHA-256, as the simulated vendors wrote them down."""
    ledger = Path(folder) / "served.ndjson"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    return {line["sha256"]: line["duration_ms"] for line in lines if line["sha256"] and line["duration_ms"]}


def joined_s(callvault, archive, folder, recording):
    """How long the archived files of a playlist play, by ffmpeg: the playlist as it came, its files by their keys."""
    shown = callvault.show(recording["recording_id"])["recordings"]
    objects = [o for one in shown if one["recording_id"] == recording["recording_id"] for o in one["objects"]]
    by_hash = {o["sha256"]: archive / o["key"] for o in objects if o["role"] == "original"}
    playlist = by_hash[recording["original"]["sha256"]].read_text().splitlines()
    pieces = next(o["settings"]["hls"]["pieces"] for o in objects if o["sha256"] == recording["original"]["sha256"] and o["role"] == "original")
    files = iter(pieces)
    local = [line if not line or line.startswith("#") else str(by_hash[next(files)["sha256"]]) for line in playlist]
    if next(files, None):
        raise RuntimeError("the playlist names fewer files than were archived")
    path = folder / f"{recording['recording_id']}.m3u8"
    path.write_text("\n".join(local) + "\n")
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-protocol_whitelist", "file", "-allowed_extensions", "ALL", "-i", str(path),
         "-map", "0:a:0", "-ac", "1", "-ar", "48000", "-f", "s16le", "-"],
        stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return len(done.stdout) / 2 / 48000


def judge(callvault, folder, lengths, archive, recording):
    """Fetches both files of a recording and measures them: failures, and the name of the access copy."""
    recording_id, access = recording["recording_id"], recording["access"]
    own_copy = access["key"] == recording["original"]["key"]
    original_path, access_path = folder / f"{recording_id}.original", folder / f"{recording_id}.mp3"
    try:
        callvault.get(recording_id, "original", original_path)
        callvault.get(recording_id, "access", access_path)
        rounding = 0
        if original_path.read_bytes()[:7] == b"#EXTM3U":
            # The sound is in the segments: the ledger knows how long it is, and so do the archived files.
            codec, rate, length_s = "playlist", 0, lengths[recording["original"]["sha256"]] / 1000
            rounding = 2
            if archive.is_dir():
                joined = joined_s(callvault, archive, folder, recording)
                if abs(joined - length_s) > FFPROBE_TOLERANCE_S:
                    return [f"{recording_id}: its archived files play {joined:.3f} s, the ledger says {length_s:.3f} s"], None
        else:
            codec, rate, channels, _ = probe(original_path)
            length_s = decoded_samples(original_path, codec, channels) / rate
        access_codec, access_rate, access_channels, told_s = probe(access_path)
        samples = decoded_samples(access_path, access_codec, access_channels)
    except (RuntimeError, subprocess.CalledProcessError, KeyError, IndexError, ValueError, OSError, StopIteration) as error:
        return [f"{recording_id}: {error}"], None
    wrong = []
    frame = 1152 if access_rate >= 32000 else 576
    wanted = length_s * access_rate
    if access_codec != "mp3":
        wrong.append(f"{recording_id}: the access copy is {access_codec}, not mp3")
    if abs(samples - wanted) > frame + rounding * access_rate / 1000:
        wrong.append(f"{recording_id}: {samples} samples decoded, the original has {wanted:.0f} at {access_rate} Hz ({codec}, {rate} Hz)")
    if abs(told_s - length_s) > FFPROBE_TOLERANCE_S:
        wrong.append(f"{recording_id}: ffprobe says {told_s:.3f} s, the original lasts {length_s:.3f} s")
    if not own_copy and access_rate != access["sample_rate_hz"]:
        wrong.append(f"{recording_id}: the file has {access_rate} Hz, callvault says {access['sample_rate_hz']}")
    original_path.unlink()
    return wrong, (access_path.name, length_s)


def judge_joint(callvault, folder, call_id):
    """The same for the joint copy of a call's two parties; None where the call has none."""
    shown = callvault.show(call_id)
    if not shown["call_access"]:
        return None
    try:
        objects = {(one["recording_id"], o["role"], o["sha256"]) for one in shown["recordings"] for o in one["objects"]}
        joint = max((o for one in shown["recordings"] for o in one["objects"] if o["role"] == "call_access"), key=lambda o: o["n"])
        path = folder / f"{call_id}.mp3"
        callvault.get(call_id, "access", path)
        codec, rate, channels, told_s = probe(path)
        samples = decoded_samples(path, codec, channels)
        ends = []
        for placed in joint["settings"]["pair"]["left"] + joint["settings"]["pair"]["right"]:
            if (placed["recording_id"], "original", placed["sha256"]) not in objects:
                return [f"{call_id}: made of {placed['sha256']}, which is no original of its recordings"], None
            original = folder / f"{placed['recording_id']}.joined"
            callvault.get(placed["recording_id"], "original", original)
            its_codec, its_rate, its_channels, _ = probe(original)
            ends.append(placed["at_ms"] / 1000 + decoded_samples(original, its_codec, its_channels) / its_rate)
            original.unlink()
    except (RuntimeError, subprocess.CalledProcessError, KeyError, IndexError, ValueError, OSError) as error:
        return [f"{call_id}: {error}"], None
    length_s = max(ends)
    wrong = []
    if (codec, channels) != ("mp3", 2):
        wrong.append(f"{call_id}: the joint copy is {codec} with {channels} channels")
    if abs(samples - length_s * rate) > (1152 if rate >= 32000 else 576):
        wrong.append(f"{call_id}: {samples} samples in the joint copy, the parties make {length_s * rate:.0f} at {rate} Hz")
    if abs(told_s - length_s) > FFPROBE_TOLERANCE_S:
        wrong.append(f"{call_id}: ffprobe says {told_s:.3f} s, the parties make {length_s:.3f} s")
    return wrong, (path.name, length_s)


# What says nothing of itself, as a source would declare it.
RAW = {".ul": "mulaw/8000/1", ".al": "alaw/8000/1", ".g722": "g722/16000/1", ".g729": "g729/8000/1", ".gsm": "gsm/8000/1"}


def judge_file(binary, folder, path):
    """The access copy of a file by itself: failures, its name and length, and the reason when there is none."""
    raw = ["--raw", RAW[path.suffix]] if path.suffix in RAW else []
    made = folder / f"{path.name}.mp3"
    # In the folder: no configuration of somebody else's is near.
    run = partial(subprocess.run, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder)
    done = run([binary, "--json", "audio", "transcode", str(path), str(made), *raw])
    told = run([binary, "--json", "audio", "probe", str(path), *raw])
    if told.returncode != 0:
        return [f"{path.name}: {told.stderr.strip()}"], None, None
    found = json.loads(told.stdout)
    if done.returncode != 0:
        reason = found["no_access_reason"] or found["not_a_recording"]
        return ([] if reason else [f"{path.name}: no access copy and no reason: {done.stderr.strip()}"]), None, reason
    length_s = found["original"]["duration_ms"] / 1000
    codec, rate, channels, told_s = probe(made)
    samples = decoded_samples(made, codec, channels)
    wrong = []
    if abs(samples - length_s * rate) > (1152 if rate >= 32000 else 576):
        wrong.append(f"{path.name}: {samples} samples in the copy, the original has {length_s * rate:.0f} at {rate} Hz")
    if abs(told_s - length_s) > FFPROBE_TOLERANCE_S:
        wrong.append(f"{path.name}: ffprobe says {told_s:.3f} s, the original lasts {length_s:.3f} s")
    return wrong, (made.name, length_s), None


def the_browsers_failures(folder, files):
    sounds = in_the_browser(folder, files)
    wrong = []
    for file, length_s in files:
        sound = sounds.get(file, {"error": "not told of"})
        if not sound.get("plays") or sound.get("error"):
            wrong.append(f"{file}: the browser does not play it: {sound.get('error')}")
        elif abs(sound["duration"] - length_s) > FFPROBE_TOLERANCE_S:
            wrong.append(f"{file}: the browser says {sound['duration']:.3f} s, the original lasts {length_s:.3f} s")
    return wrong


def files_alone(args):
    paths = [Path(name).resolve() for name in args.files]
    sounds = [path for path in paths if path.is_file() and path.suffix not in {".sh", ".rs", ".py", ".md"}]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
            verdicts = list(pool.map(partial(judge_file, str(Path(args.binary).resolve()), folder), sounds))
        files = [file for _, file, _ in verdicts if file]
        wrong = [line for failures, _, _ in verdicts for line in failures]
        if not args.no_browser:
            wrong += the_browsers_failures(folder, files)
    for path, (_, _, reason) in zip(sounds, verdicts):
        if reason:
            print(f"{path.name}: none, {reason}")
    for line in wrong:
        print(line)
    if wrong or not files:
        print(f"{len(wrong)} failures in {len(files)} access copies", file=sys.stderr)
        return 1
    browser = "not asked" if args.no_browser else "plays all of them"
    print(f"{len(files)} access copies are as long as what was decoded; Chromium {browser}; {len(sounds) - len(files)} files without one, with a reason")
    return 0


PAGE = """<!doctype html><meta charset="utf-8"><title>access copies</title><pre id="told"></pre><script>
const files = FILES;
const told = [];
async function one(name) {
  const audio = new Audio();
  const sound = {name, plays: false};
  try {
    audio.muted = true;
    audio.preload = "auto";
    audio.src = name;
    await new Promise((fine, bad) => {
      audio.oncanplaythrough = fine;
      audio.onerror = () => bad(new Error(audio.error ? audio.error.message : "cannot load"));
      setTimeout(() => bad(new Error("not ready to play after 60 s")), 60000);
    });
    sound.duration = audio.duration;
    await audio.play();
    await new Promise((fine, bad) => {
      audio.ontimeupdate = () => { if (audio.currentTime > 0.05) fine(); };
      audio.onended = fine;
      setTimeout(() => bad(new Error("does not move on")), 30000);
    });
    audio.pause();
    sound.plays = true;
    const bytes = await (await fetch(name)).arrayBuffer();
    const decoded = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes);
    sound.decoded = decoded.duration;
  } catch (error) { sound.error = String(error); }
  audio.removeAttribute("src"); audio.load();
  told.push(sound);
}
async function worker() { while (files.length) await one(files.shift()); }
Promise.all([1, 2, 3, 4].map(worker)).then(() => {
  document.getElementById("told").textContent = JSON.stringify(told);
  return fetch("/told", {method: "POST"});
});
</script><img src="/hold" alt="">
"""


class Pages(SimpleHTTPRequestHandler):
    """The files, the page, and an image that loads only when the page has told all: it holds the load event."""

    def do_GET(self):
        if self.path == "/hold":
            self.server.all_told.wait(BROWSER_PATIENCE_S)
            self.send_response(404)
            self.end_headers()
        else:
            super().do_GET()

    def do_POST(self):
        self.send_response(204)
        self.end_headers()
        self.server.all_told.set()

    def log_message(self, *_):
        pass


def in_the_browser(folder, files):
    """What headless Chromium says of each file."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        raise RuntimeError("no chromium found (apt-get install chromium), or give --no-browser")
    (folder / "index.html").write_text(PAGE.replace("FILES", json.dumps([name for name, _ in files])))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory=str(folder)))
    server.daemon_threads = True
    server.all_told = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            done = subprocess.run(
                [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--disable-dev-shm-usage", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
                 f"--user-data-dir={profile}", f"--timeout={BROWSER_PATIENCE_S * 1000}", "--dump-dom",
                 f"http://127.0.0.1:{server.server_port}/index.html"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BROWSER_PATIENCE_S + 60)
    finally:
        server.shutdown()
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
    if not found or not found.group(1):
        raise RuntimeError(f"the browser told nothing (exit {done.returncode}): {done.stderr[-800:]}")
    return {sound["name"]: sound for sound in json.loads(html.unescape(found.group(1)))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="holds callvault.toml")
    parser.add_argument("--files", nargs="+", help="sound files instead of a folder")
    parser.add_argument("--binary", default=default_binary(), help="callvault (else $CALLVAULT_BIN, target/release)")
    parser.add_argument("--no-browser", action="store_true", help="leave Chromium out")
    args = parser.parse_args()
    if args.files:
        return files_alone(args)
    if not args.folder:
        parser.error("name a folder, or --files")

    callvault = Callvault(args.binary, args.folder)
    archived = callvault.lines("search", "--state", "archived", "--limit", "0")
    with_copy = [recording for recording in archived if recording["access"]]
    wrong = [
        f"{recording['recording_id']}: no access copy, and no note says why"
        for recording in archived
        if not recording["access"] and not recording["notes"]
    ]
    if not with_copy:
        print("no archived recording with an access copy", file=sys.stderr)
        return 1
    lengths = ledger_lengths(args.folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
            verdicts = list(pool.map(lambda one: judge(callvault, folder, lengths, Path(args.folder).resolve() / "archive", one), with_copy))
            calls = sorted({recording["call_id"] for recording in archived})
            joint = [verdict for verdict in pool.map(lambda one: judge_joint(callvault, folder, one), calls) if verdict]
        files = []
        for failures, file in verdicts + joint:
            wrong.extend(failures)
            if file:
                files.append(file)
        if not args.no_browser:
            wrong += the_browsers_failures(folder, files)
    for line in wrong:
        print(line)
    if wrong:
        print(f"{len(wrong)} failures in {len(with_copy)} access copies", file=sys.stderr)
        return 1
    browser = "not asked" if args.no_browser else "plays all of them"
    print(f"{len(with_copy)} access copies are as long as their originals; Chromium {browser}; "
          f"{len(archived) - len(with_copy)} archived without one, with a reason; {len(joint)} joint copies of calls")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        sys.exit(str(error))
