#!/usr/bin/env bash
# Makes the recordings beside this script again: short telephone conversations of two synthetic voices,
# in the formats that the simulated vendors send. Needs espeak-ng, sox and ffmpeg (with libmp3lame).
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

agent=en-us+f3
caller=en-gb+m3

# converse NAME RATE_HZ: reads lines "a: text" and "c: text" and writes $work/NAME-{agent,caller}.wav,
# equally long, each silent while the other speaks.
converse() {
  local name=$1 rate=$2 n=0 who text voice own other len
  local a=() c=()
  while IFS=: read -r who text; do
    [ -n "$who" ] || continue
    n=$((n + 1))
    if [ "$who" = a ]; then voice=$agent; else voice=$caller; fi
    espeak-ng -v "$voice" -s 150 -w "$work/raw.wav" "$text"
    own="$work/$name-$n.wav" other="$work/$name-$n-silent.wav"
    # The band of a telephone line, a breath of silence after each turn.
    sox -D -R "$work/raw.wav" -b 16 -c 1 "$own" norm -4 rate "$rate" highpass 250 lowpass $((rate * 425 / 1000)) pad 0 0.35
    len=$(soxi -s "$own")
    sox -D -n -r "$rate" -b 16 -c 1 "$other" trim 0 "${len}s"
    if [ "$who" = a ]; then a+=("$own"); c+=("$other"); else a+=("$other"); c+=("$own"); fi
  done
  sox -D -R "${a[@]}" "$work/$name-agent.wav"
  sox -D -R "${c[@]}" "$work/$name-caller.wav"
  sox -D -R -M "$work/$name-agent.wav" "$work/$name-caller.wav" "$work/$name-stereo.wav"
  sox -D -R -m -v 1 "$work/$name-agent.wav" -v 1 "$work/$name-caller.wav" "$work/$name-mono.wav"
}

# No Xing frame and no tag: every frame is sound, so that a file may be cut after any of them.
mp3() { ffmpeg -v error -y -bitexact -i "$1" -c:a libmp3lame -b:a "$2" -write_xing 0 -id3v2_version 0 -write_id3v1 0 "$3"; }
wav() { ffmpeg -v error -y -bitexact -i "$1" -c:a "$2" -f wav "$3"; }

converse order 8000 <<'TALK'
a: Good morning, service desk, how can I help you?
c: Hello. My order has not arrived. The number is seven, seven, eight, one.
a: Thank you. I see it here. It left our store this morning.
c: So it will be here tomorrow?
a: Tomorrow before noon. Is there anything else?
c: Yes, the invoice. Please send it to my office, not to the store.
a: I have changed that for you.
c: Very kind. Goodbye.
TALK
mp3 "$work/order-mono.wav" 16k order-8k-mono.mp3

converse invoice 16000 <<'TALK'
a: Accounts, good afternoon.
c: Hi, I think that my last invoice was sent twice.
a: You are right. I will cancel the second one at once.
c: Wonderful. Could you confirm that by mail?
a: Of course. You will have it in ten minutes.
TALK
mp3 "$work/invoice-mono.wav" 24k invoice-16k-mono.mp3

converse router 16000 <<'TALK'
a: Technical support, you are speaking with Anna.
c: My router is blinking red again.
a: Please hold the button for five seconds, then wait.
c: One moment. Yes, now the light is green.
a: Then you are back on line. Have a good day.
TALK
mp3 "$work/router-stereo.wav" 40k router-16k-stereo.mp3

converse taxi 8000 <<'TALK'
a: City taxi, where shall we collect you?
c: At the north gate of the station, please.
a: For how many people?
c: Three, with two suitcases.
a: The car will be there in six minutes.
TALK
wav "$work/taxi-mono.wav" pcm_alaw taxi-8k-mono-alaw.wav

converse dentist 8000 <<'TALK'
a: Dental practice, good morning.
c: Good morning. I would like to move my appointment.
a: Would Thursday at nine suit you?
c: Thursday at nine is perfect. Thank you.
TALK
wav "$work/dentist-mono.wav" pcm_mulaw dentist-8k-mono-mulaw.wav

converse parcel 8000 <<'TALK'
a: Parcel service. Your code, please?
c: Four, two, nine, one.
a: It is at the shop around the corner, until eight o'clock.
c: Great, I will fetch it tonight.
TALK
wav "$work/parcel-mono.wav" pcm_s16le parcel-8k-mono-pcm.wav

converse hotel 8000 <<'TALK'
a: Harbour hotel, reception.
c: Do you have a room for tonight?
a: We do, on the second floor, with a view of the sea.
c: Then I will take it.
TALK
wav "$work/hotel-stereo.wav" pcm_s16le hotel-8k-stereo-pcm.wav

# AAC in bare frames (ADTS), in an MP4, and the same frames again as a playlist of transport stream segments.
aac() { ffmpeg -v error -y -bitexact -i "$1" -c:a aac -b:a "$2" -f adts "$3"; }

converse bank 16000 <<'TALK'
a: Harbour bank, card service.
c: I have lost my card, I think in the bus.
a: I will block it at once. What is your name?
c: Miller, from Mill Lane.
a: Done. A new card is on its way to you.
c: That was quick. Thank you.
TALK
aac "$work/bank-mono.wav" 24k bank-16k-mono.aac
ffmpeg -v error -y -bitexact -i bank-16k-mono.aac -c copy -bsf:a aac_adtstoasc -movflags +faststart bank-16k-mono.mp4
ffmpeg -v error -y -bitexact -i bank-16k-mono.aac -c copy -f hls -hls_time 3 -hls_list_size 0 \
  -hls_flags +independent_segments -hls_segment_filename 'bank-16k-mono-%d.ts' bank-16k-mono.m3u8

converse clinic 48000 <<'TALK'
a: Park clinic, reception.
c: I am calling about my blood test.
a: The doctor has seen it. Everything is fine.
c: What a relief. Goodbye.
TALK
aac "$work/clinic-stereo.wav" 48k clinic-48k-stereo.aac

ls -l ./*.mp3 ./*.wav ./*.aac ./*.mp4 ./*.ts ./*.m3u8
