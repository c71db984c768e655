#!/usr/bin/env bash
# Makes the recordings of meetings beside this script again: MP4 files with a tiny moving picture and two synthetic
# voices, as a meeting platform records them. Needs espeak-ng, sox and ffmpeg (with libx264).
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# say NAME: reads lines "VOICE: text" and writes $work/NAME.wav at 16 kHz.
say() {
  local name=$1 n=0 voice text
  local turns=()
  while IFS=: read -r voice text; do
    [ -n "$voice" ] || continue
    n=$((n + 1))
    espeak-ng -v "$voice" -s 160 -w "$work/raw.wav" "$text"
    sox -D -R "$work/raw.wav" -b 16 -c 1 -r 16000 "$work/$name-$n.wav" norm -4 pad 0 0.3
    turns+=("$work/$name-$n.wav")
  done
  sox -D -R "${turns[@]}" "$work/$name.wav"
}

# film NAME CHANNELS RATE KBPS: a still life of 32 by 32 points at one picture a second above the sound.
film() {
  ffmpeg -v error -y -bitexact -f lavfi -i "testsrc=size=32x32:rate=1" -i "$work/$1.wav" -t "$(soxi -D "$work/$1.wav")" \
    -c:v libx264 -threads 1 -preset veryslow -crf 40 -pix_fmt yuv420p -flags +bitexact \
    -c:a aac -b:a "$4k" -ac "$2" -ar "$3" -flags:a +bitexact -movflags +faststart "$1-meeting.mp4"
}

say budget <<'TALK'
en-us+f3: Good morning everyone, shall we begin with the budget?
en-gb+m3: Yes. We are four percent below the plan.
en-us+f3: Very good. Then the new machine can be ordered.
TALK
film budget 1 16000 24

say launch <<'TALK'
en-gb+m3: The launch is on the third of May. Who writes the letter?
en-us+f4: I will. You have it on Monday.
TALK
film launch 2 44100 48

say roster <<'TALK'
en-us+f3: Who can stand in on Saturday?
en-gb+m2: I can, until two o'clock.
en-us+f3: Thank you, that will do.
TALK
film roster 1 32000 32

ls -l ./*.mp4
