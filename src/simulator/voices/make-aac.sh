#!/usr/bin/env bash
# Makes the AAC and MP4 recordings beside this script again: a telephone conversation of two synthetic voices,
# each party alone, and both together under a picture. Needs espeak-ng, sox and ffmpeg.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

n=0
a=() c=()
while IFS=: read -r who text; do
  [ -n "$who" ] || continue
  n=$((n + 1))
  if [ "$who" = a ]; then voice=en-us+f3; else voice=en-gb+m3; fi
  espeak-ng -v "$voice" -s 150 -w "$work/raw.wav" "$text"
  sox -D -R "$work/raw.wav" -b 16 -c 1 "$work/$n.wav" norm -4 rate 16000 highpass 80 pad 0 0.35
  sox -D -n -r 16000 -b 16 -c 1 "$work/$n-silent.wav" trim 0 "$(soxi -s "$work/$n.wav")s"
  if [ "$who" = a ]; then a+=("$work/$n.wav"); c+=("$work/$n-silent.wav"); else a+=("$work/$n-silent.wav"); c+=("$work/$n.wav"); fi
done <<'TALK'
a: Garden centre, good morning.
c: Hello. Do you have the red maple again?
a: It comes in on Friday. Shall I keep one for you?
c: Two, please. I will fetch them on Saturday.
a: I have noted two red maples. Until Saturday.
TALK
sox -D -R "${a[@]}" "$work/agent.wav"
sox -D -R "${c[@]}" "$work/caller.wav"
sox -D -R -m -v 1 "$work/agent.wav" -v 1 "$work/caller.wav" "$work/mix.wav"

# ADTS: every frame stands alone, so that a file may begin and end at any of them.
aac() { ffmpeg -v error -y -bitexact -i "$1" -c:a aac -b:a 24k -f adts "$2"; }
aac "$work/agent.wav" maple-agent-16k.aac
aac "$work/caller.wav" maple-caller-16k.aac
mp4() { ffmpeg -v error -y -bitexact -f lavfi -i color=c=gray:s=64x48:r=2 -i "$1" -shortest -map 0:v -map 1:a -c:v mpeg4 -b:v 4k -c:a aac -b:a 24k "$2"; }
mp4 "$work/mix.wav" maple-mix-16k.mp4
mp4 "$work/agent.wav" maple-agent-16k.mp4

ls -l ./maple-*
