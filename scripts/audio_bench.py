#!/usr/bin/env python3
"""Access copies by callvault and by ffmpeg, in one run: CPU, wall time, memory, PESQ, SNR and size.

    scripts/audio_bench.py [--lengths 10,180,3600] [--program target/release/callvault]

Needs ffmpeg; PESQ and SNR need numpy, scipy and pesq (pip), else they are left out. The speech is `--speech FILE`, else made of the
fixtures; it is repeated to the length. callvault works as in the service: one child serves file after file. ffmpeg runs once a file. Both make an MP3 of
the same rate, channels and bitrate. Prints a table in Markdown.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "scripts"))
from audio_mutants import Child, work  # noqa: E402

# name, extension, rate, channels, encoder options; access rate
CASES = [
    ("8 kHz mono WAV, PCM", "wav", 8000, 1, ["-c:a", "pcm_s16le"], 8000),
    ("8 kHz mono WAV, A-law", "wav", 8000, 1, ["-c:a", "pcm_alaw"], 8000),
    ("16 kHz mono AAC", "aac", 16000, 1, ["-c:a", "aac", "-b:a", "32k"], 16000),
    ("44.1 kHz stereo M4A", "m4a", 44100, 2, ["-c:a", "aac", "-b:a", "96k"], 16000),
    ("16 kHz mono MP3", "mp3", 16000, 1, ["-c:a", "libmp3lame", "-b:a", "48k"], 16000),
    ("48 kHz mono Opus", "ogg", 48000, 1, ["-c:a", "libopus", "-b:a", "24k", "-application", "voip"], 16000),
]


def quiet(*command):
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ffmpeg(source, target, rate, channels):
    """CPU seconds, wall seconds, peak KiB of one ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-y", "-i", source, "-vn", "-c:a", "libmp3lame", "-b:a", f"{32 * channels}k",
               "-ar", rate, "-ac", channels, "-joint_stereo", "0", target]
    begun = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begun, usage.ru_maxrss


def cpu_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def callvault(child, folder, source):
    """The same of one file through a warm child (the memory is the child's, since it began)."""
    (folder / "input").unlink(missing_ok=True)
    os.link(source, folder / "input")
    job = work(folder, None)
    job["transcode"]["settings"] = {"use_original_mp3": False}
    cpu, begun = cpu_of(child.process.pid), time.monotonic()
    request = {"cpu_seconds": 600, "work": job}
    child.process.stdin.write(json.dumps(request).encode() + b"\n")
    child.process.stdin.flush()
    answer = child.hear(600)
    wall = time.monotonic() - begun
    assert answer.get("report", {}).get("access"), answer
    return cpu_of(child.process.pid) - cpu, wall, child.peak_kib()


def samples(path, rate):
    import numpy
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-ar", str(rate), "-ac", "1", "-"], check=True, capture_output=True).stdout
    return numpy.frombuffer(raw, dtype="<f4").astype(float)


def quality(source, copy, rate):
    """Mean PESQ of excerpts spread over the file, and SNR in dB after alignment."""
    import numpy
    from pesq import pesq
    told, heard = samples(source, rate), samples(copy, rate)
    scores, snrs = [], []
    span = 10 * rate
    starts = [0] if len(told) <= span + rate else [len(told) * i // 5 for i in range(5) if len(told) * i // 5 + span < len(told)]
    for start in starts:
        a = told[start : start + span]
        reach = heard[max(0, start - rate // 4) : start + span + rate // 4]
        n = len(a) + len(reach)
        link = numpy.fft.irfft(numpy.fft.rfft(reach, n) * numpy.conj(numpy.fft.rfft(a, n)), n)
        lag = int(link[: max(1, len(reach) - len(a) // 2)].argmax())
        b = reach[lag : lag + len(a)]
        a = a[: len(b)]
        scores.append(pesq(rate, a, b, "nb" if rate == 8000 else "wb"))
        gain = (a @ b) / max(b @ b, 1e-12)
        snrs.append(10 * numpy.log10((a @ a) / max(((a - gain * b) ** 2).sum(), 1e-12)))
    return sum(scores) / len(scores), sum(snrs) / len(snrs)


def judged(source, copy, rate):
    """`quality` in a process of its own: what runs after it would count this one's memory as its own."""
    command = [sys.executable, __file__, "--judge", str(source), str(copy), str(rate)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main():
    if sys.argv[1:2] == ["--judge"]:
        return print(json.dumps(quality(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--lengths", default="10,180,3600")
    args.add_argument("--program", default=os.environ.get("CALLVAULT_BIN", HERE / "target/release/callvault"))
    args.add_argument("--speech", type=pathlib.Path, default=HERE / "tests/fixtures/audio/speech-16k.flac")
    args.add_argument("--many", type=int, default=1000, help="files of 10 s for the wall-clock comparison on two children")
    args = args.parse_args()
    can_judge = all(importlib.util.find_spec(name) for name in ("numpy", "pesq"))
    if not can_judge:
        print("PESQ and SNR are left out: pip install numpy scipy pesq", file=sys.stderr)
    print("| source | length | CPU callvault | CPU ffmpeg | ratio | wall ratio | memory callvault | memory ffmpeg | PESQ callvault / ffmpeg | SNR callvault / ffmpeg | size ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        folder = pathlib.Path(folder).resolve()
        for name, ext, rate, channels, options, access_hz in CASES:
            for seconds in map(int, args.lengths.split(",")):
                source, theirs = folder / f"source.{ext}", folder / "theirs.mp3"
                quiet("ffmpeg", "-v", "error", "-y", "-stream_loop", -1, "-i", args.speech, "-t", seconds, "-ar", rate, "-ac", channels, *options, source)
                rounds = 5 if seconds <= 10 else 3 if seconds <= 180 else 1
                child = Child(args.program)
                callvault(child, folder, source)
                ours = [callvault(child, folder, source) for _ in range(rounds * 4 if seconds <= 10 else rounds)]
                others = [ffmpeg(source, theirs, access_hz, channels) for _ in range(rounds)]
                child.end()
                cpu, wall = (sum(run[i] for run in ours) / len(ours) for i in (0, 1))
                their_cpu, their_wall = (sum(run[i] for run in others) / len(others) for i in (0, 1))
                marks = ["", ""]
                if can_judge:
                    (p, s), (q, t) = judged(source, folder / "a.mp3", access_hz), judged(source, theirs, access_hz)
                    marks = [f"{p:.2f} / {q:.2f}", f"{s:.1f} / {t:.1f}"]
                size = (folder / "a.mp3").stat().st_size / theirs.stat().st_size
                print(f"| {name} | {seconds} s | {cpu:.3f} s | {their_cpu:.3f} s | {cpu / their_cpu:.2f} | {wall / their_wall:.2f} | "
                      f"{ours[-1][2] / 1024:.0f} MiB | {others[-1][2] / 1024:.0f} MiB | {marks[0]} | {marks[1]} | {size:.2f} |", flush=True)
        if args.many:
            many(args, folder)


def many(args, folder):
    """So many short files: two warm children against two ffmpeg at a time."""
    import concurrent.futures
    source = folder / "short.wav"
    quiet("ffmpeg", "-v", "error", "-y", "-stream_loop", -1, "-i", args.speech, "-t", 10, "-ar", 8000, "-ac", 1, source)
    rooms = []
    for i in range(2):
        room = folder / f"room{i}"
        room.mkdir()
        rooms.append((Child(args.program), room))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        begun = time.monotonic()
        list(pool.map(lambda pair: [callvault(*pair, source) for _ in range(args.many // 2)], rooms))
        ours = time.monotonic() - begun
        begun = time.monotonic()
        list(pool.map(lambda i: ffmpeg(source, folder / f"{i % 2}.mp3", 8000, 1) if i >= 0 else None, range(args.many)))
        theirs = time.monotonic() - begun
    for child, _ in rooms:
        child.end()
    print(f"\n{args.many} files of 10 s on two: callvault {ours:.1f} s, ffmpeg {theirs:.1f} s, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
