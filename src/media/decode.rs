//! Turns any file into blocks of samples, and says what was wrong with it; nothing a file contains is an error here.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use symphonia::core::codecs::audio::well_known as codec_ids;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::well_known as format_ids;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::ahead::{Ahead, decoder};
use super::refusal::{self, Refusal};
use super::source::{Patch, Window};
use super::{MediaError, bare, codecs, header, mp4, sniff, ts};
use crate::domain::media::{Declared, RawAudio, SniffClass, note};

/// Rates that a recording may have. Beyond them a header is damaged; a resampler for them would need too much memory.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=384_000;
const MAX_CHANNELS: usize = 32;
/// Packets in a row that cannot be decoded before the rest is given up.
const MAX_ERRORS_IN_A_ROW: u32 = 2_000;
/// Streams one after the other in one file (chained Ogg) that are followed.
const MAX_RESTARTS: u32 = 1_000;
/// No call is longer; a file that decodes to more is a bomb or a stream that never ended.
const MAX_SECONDS: u64 = 24 * 3600;

/// A file that was looked at.
pub enum Opened {
    Stream(Box<Stream>),
    /// It cannot be decoded: a code of `note`, and the codec where it is known.
    Refused {
        reason: &'static str,
        codec: Option<String>,
    },
}

impl From<Refusal> for Opened {
    fn from((reason, codec): Refusal) -> Self {
        Self::Refused {
            reason,
            codec: codec.map(Into::into),
        }
    }
}

fn refused(reason: &'static str, codec: Option<&'static str>) -> Opened {
    (reason, codec).into()
}

/// One sound track, decoded block by block.
pub struct Stream {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    /// Packets that were read ahead to tell HE-AAC from AAC-LC.
    ahead: VecDeque<Packet>,
    block: Vec<Vec<f32>>,
    /// As an MP4's edit list has it.
    edit: Option<mp4::Sound>,
    /// Samples of a decoder's own delay, at the rate that it plays at.
    pre_skip: u64,
    /// All the samples that the header counts, where the last block is filled up with others.
    counted: Option<u64>,
    skip_frames: u64,
    limit_frames: Option<u64>,
    announced_seconds: Option<f64>,
    known_by_sniffing: bool,
    playable_mp3_kbps: Option<u32>,
    done: bool,
    errors_in_a_row: u32,
    restarts: u32,
    packets: u64,
    /// Samples of the last packet that was decoded, and of those that could not be, taken as equally long.
    packet_frames: u64,
    lost_frames: u64,
    found: Found,
}

/// Decoded samples.
pub struct Block<'a> {
    pub rate_hz: u32,
    /// One per channel, equally long, never empty, each sample finite and within -1 to 1.
    pub planes: &'a [Vec<f32>],
}

/// What was counted and noticed on the way.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub codec: String,
    /// Of the decoded samples; 0 before the first.
    pub rate_hz: u32,
    pub channels: usize,
    pub frames: u64,
    pub decode_errors: u64,
    pub truncated: bool,
    pub short: bool,
    pub format_changed: bool,
    pub too_long: bool,
    /// What the header says.
    pub declared: Declared,
}

/// Opens `path`, finds its first sound track and a decoder for it.
///
/// `raw` is what its source says of bytes that say nothing of themselves.
pub fn open(path: &Path, raw: Option<&RawAudio>) -> Result<Opened, MediaError> {
    look(path, raw).map_err(MediaError::Input)
}

fn look(path: &Path, raw: Option<&RawAudio>) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let mut prefix = vec![0; sniff::PREFIX_BYTES];
    let n = header::read_full(&mut file, &mut prefix)?;
    let sniffed = sniff::sniff(&prefix[..n]);
    if matches!(sniffed.class, SniffClass::NotARecording(_)) {
        return Ok(refused(note::UNDECODABLE, None));
    }
    // The first packet of an Ogg Speex stream; the demuxer would find no track at all.
    if prefix.starts_with(b"OggS") && prefix[28..].starts_with(b"Speex   ") {
        return Ok(refused(note::UNSUPPORTED_CODEC, Some("speex")));
    }
    let wav = header::wav(&mut file, file_bytes)?;
    // Symphonia multiplies these before it looks at them.
    let is_possible = |wav: &header::Wav| {
        RATES_HZ.contains(&wav.rate_hz) && (1..=MAX_CHANNELS).contains(&usize::from(wav.channels))
    };
    if wav
        .as_ref()
        .is_some_and(|wav| wav.format_tag != 0x55 && !is_possible(wav))
    {
        return Ok(refused(note::UNDECODABLE, None));
    }
    let sound = mp4::sound(&mut file, file_bytes)?;
    let bare = bare::layout(&prefix[..n], wav.as_ref(), sound.as_ref(), raw);
    if let Some(bare) = bare {
        return Ok(match bare.open(file, file_bytes, sound.as_ref())? {
            Ok(format) => Stream::begin(
                format,
                Container {
                    wav,
                    known_by_sniffing: true,
                    ..Container::default()
                },
            )?,
            Err(refusal) => refusal.into(),
        });
    }
    let (start, length, patches) = window(&mut file, file_bytes, wav.as_ref())?;
    let counts_itself = header::mp3_knows_its_length(&mut file, start)?;
    file.seek(SeekFrom::Start(0))?;

    let window = Window::new(file, start, length, patches)?;
    let source: Box<dyn MediaSource> = match sniffed.ext.as_str() {
        "ts" => match transport_stream(window)? {
            Ok(sound) => sound,
            Err(refusal) => return Ok(refusal),
        },
        _ => Box::new(window),
    };
    let stream = MediaSourceStream::new(source, Default::default());
    let format = match symphonia::default::get_probe().probe(
        &Hint::new(),
        stream,
        FormatOptions::default(),
        MetadataOptions::default(),
    ) {
        Ok(format) => format,
        Err(Error::IoError(e)) if is_real(&e) => return Err(e),
        Err(_) => return Ok(refusal::unreadable(wav.as_ref(), sound.as_ref()).into()),
    };
    if sound.as_ref().is_some_and(|s| &s.format == b"enca") {
        return Ok(refused(note::ENCRYPTED, None));
    }
    let container = Container {
        wav,
        sound,
        counts_itself,
        known_by_sniffing: sniffed.class == SniffClass::Audio,
        sound_bytes: length,
    };
    Stream::begin(format, container)
}

/// What is known of the container beside what the demuxer tells.
#[derive(Default)]
struct Container {
    wav: Option<header::Wav>,
    sound: Option<mp4::Sound>,
    counts_itself: bool,
    known_by_sniffing: bool,
    /// Behind its tags.
    sound_bytes: u64,
}

/// The bare stream inside a transport stream, or why there is none.
fn transport_stream(mut window: Window) -> io::Result<Result<Box<dyn MediaSource>, Opened>> {
    Ok(match ts::sound(&mut window)? {
        ts::Sound::Bare => {
            window.seek(SeekFrom::Start(0))?;
            Ok(Box::new(ts::Bare::new(window)))
        }
        ts::Sound::Unsupported(codec) => Err(refused(note::UNSUPPORTED_CODEC, Some(codec))),
        ts::Sound::Encrypted => Err(refused(note::ENCRYPTED, None)),
        ts::Sound::None => Err(refused(note::NO_AUDIO, None)),
    })
}

/// Which part of the file the demuxer sees, and what of its header is put right.
fn window(
    file: &mut File,
    file_bytes: u64,
    wav: Option<&header::Wav>,
) -> io::Result<(u64, u64, Vec<Patch>)> {
    let Some(wav) = wav else {
        let start = header::behind_id3(file, file_bytes)?;
        return Ok((start, file_bytes - start, Vec::new()));
    };
    // An MP3 in a WAV's clothes.
    if wav.format_tag == 0x55 {
        return Ok((wav.data_at, wav.held, Vec::new()));
    }
    // The demuxer is told the true lengths: it refuses zeros, and takes the end of a file for damage.
    let block = u64::from(wav.block_align.max(1));
    let whole_blocks = wav.held - wav.held % block;
    let riff = u32::try_from(wav.data_at + whole_blocks - 8).unwrap_or(u32::MAX);
    let data = match riff {
        u32::MAX => u32::MAX,
        _ => u32::try_from(whole_blocks).unwrap_or(u32::MAX),
    };
    let patches = vec![
        (0, *b"RIFF"),
        (4, riff.to_le_bytes()),
        (wav.size_at, data.to_le_bytes()),
    ];
    Ok((0, file_bytes, patches))
}

/// Foreign code that panics over a file is foreign code that cannot read it.
pub(super) fn guarded<T>(
    read: impl FnOnce() -> symphonia::core::errors::Result<T>,
) -> symphonia::core::errors::Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(Error::Unsupported("it panicked")))
}

/// A disk that fails, not a file that ends early.
pub(super) fn is_real(e: &io::Error) -> bool {
    !matches!(
        e.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::Other
    )
}

fn audio_track(format: &dyn FormatReader) -> Option<(u32, AudioCodecParameters)> {
    let track = format.default_track(TrackType::Audio)?;
    let params = track.codec_params.as_ref()?.audio()?;
    Some((track.id, params.clone()))
}

impl Stream {
    /// Finds the sound track of `format`, and its decoder.
    fn begin(format: Box<dyn FormatReader>, container: Container) -> io::Result<Opened> {
        let Container {
            wav,
            sound,
            counts_itself,
            known_by_sniffing,
            sound_bytes,
        } = container;
        let Some((track_id, params)) = audio_track(format.as_ref()) else {
            return Ok(refusal::trackless(sound.as_ref()).into());
        };
        let id = format.format_info().format;
        let track = format.tracks().iter().find(|track| track.id == track_id);
        let num_frames = track.and_then(|track| track.num_frames);
        let rate = params.sample_rate.filter(|rate| *rate > 0);
        let seconds_by_header = if id == format_ids::FORMAT_ID_ISOMP4 {
            sound.as_ref().and_then(mp4::Sound::announced_seconds)
        } else if let Some(wav) = &wav {
            wav.announced_seconds()
        } else {
            let known = id == format_ids::FORMAT_ID_FLAC
                || id == format_ids::FORMAT_ID_MP3 && counts_itself;
            num_frames
                .zip(rate)
                .filter(|_| known)
                .map(|(frames, rate)| frames as f64 / f64::from(rate))
        };
        let declared = Declared {
            sample_rate_hz: rate,
            channels: params
                .channels
                .as_ref()
                .and_then(|c| u16::try_from(c.count()).ok()),
            duration_ms: seconds_by_header.map(|s| (s * 1000.0).round() as u64),
        };
        let is_opus = params.codec == codec_ids::CODEC_ID_OPUS;
        let head = params.extra_data.as_deref().unwrap_or_default();
        let pre_skip = if is_opus {
            codecs::opus_pre_skip(head)
        } else {
            0
        };
        let mut opened = Ahead::read(format, track_id, &params)?;
        let decoder = match decoder(&params, opened.is_he_aac) {
            Ok(decoder) => decoder,
            Err(refusal) => return Ok(refusal.into()),
        };
        let codec = if opened.is_he_aac {
            "he_aac".to_owned()
        } else {
            decoder.codec_info().short_name.to_owned()
        };
        let found = Found {
            codec,
            short: wav.as_ref().is_some_and(header::Wav::is_short),
            truncated: opened.truncated,
            decode_errors: opened.errors,
            declared,
            ..Found::default()
        };
        Ok(Opened::Stream(Box::new(Stream {
            format: opened.format,
            decoder,
            track_id,
            ahead: std::mem::take(&mut opened.packets),
            block: Vec::new(),
            // HE-AAC decoders have a delay of their own that the edit list does not count.
            edit: sound.filter(|_| id == format_ids::FORMAT_ID_ISOMP4 && !opened.is_he_aac),
            pre_skip,
            counted: wav.as_ref().and_then(header::Wav::counted_frames),
            skip_frames: 0,
            limit_frames: None,
            // A WAV that is short says so by its bytes.
            announced_seconds: seconds_by_header.filter(|_| wav.is_none()),
            known_by_sniffing,
            playable_mp3_kbps: seconds_by_header
                .filter(|seconds| counts_itself && wav.is_none() && *seconds > 0.0)
                .map(|seconds| (sound_bytes as f64 * 0.008 / seconds).ceil() as u32)
                .filter(|_| id == format_ids::FORMAT_ID_MP3),
            done: false,
            errors_in_a_row: 0,
            restarts: 0,
            packets: 0,
            packet_frames: 0,
            lost_frames: 0,
            found,
        })))
    }

    /// The next samples.
    ///
    /// `None` at the end, whatever ended it; [`Stream::found`] knows more. Errors are those of the disk.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, MediaError> {
        while !self.done {
            if self.errors_in_a_row > MAX_ERRORS_IN_A_ROW {
                break;
            }
            let Some(packet) = self.next_packet().map_err(MediaError::Input)? else {
                break;
            };
            if packet.track_id == self.track_id && self.decode(&packet) {
                return Ok(Some(Block {
                    rate_hz: self.found.rate_hz,
                    planes: &self.block,
                }));
            }
        }
        self.done = true;
        Ok(None)
    }

    fn next_packet(&mut self) -> io::Result<Option<Packet>> {
        if let Some(packet) = self.ahead.pop_front() {
            return Ok(Some(packet));
        }
        loop {
            let format = &mut self.format;
            match guarded(move || format.next_packet()) {
                Ok(packet) => return Ok(packet),
                Err(Error::IoError(e)) if is_real(&e) => return Err(e),
                Err(Error::IoError(_)) => {
                    self.found.truncated = true;
                    return Ok(None);
                }
                Err(Error::DecodeError(_)) => {
                    self.error();
                    if self.errors_in_a_row > MAX_ERRORS_IN_A_ROW {
                        return Ok(None);
                    }
                }
                // Chained Ogg: the next stream may be of the same kind.
                Err(Error::ResetRequired) => {
                    self.restarts += 1;
                    if self.restarts > MAX_RESTARTS || !self.restart() {
                        self.found.format_changed = true;
                        return Ok(None);
                    }
                }
                Err(_) => {
                    self.error();
                    return Ok(None);
                }
            }
        }
    }

    fn restart(&mut self) -> bool {
        let Some((track_id, params)) = audio_track(self.format.as_ref()) else {
            return false;
        };
        match decoder(&params, false) {
            Ok(decoder) if decoder.codec_info().short_name == self.found.codec => {
                self.track_id = track_id;
                self.decoder = decoder;
                true
            }
            _ => false,
        }
    }

    fn error(&mut self) {
        self.lost_frames += self.packet_frames;
        self.found.decode_errors += 1;
        self.errors_in_a_row += 1;
    }

    /// Decodes into `self.block`; false when nothing is in it.
    fn decode(&mut self, packet: &Packet) -> bool {
        let decoder = &mut self.decoder;
        let decoded = match guarded(move || decoder.decode(packet)) {
            Ok(decoded) => decoded,
            Err(Error::DecodeError(_) | Error::IoError(_)) => {
                self.error();
                return false;
            }
            Err(Error::ResetRequired) => {
                self.decoder.reset();
                self.error();
                return false;
            }
            Err(_) => {
                self.error();
                self.done = true;
                return false;
            }
        };
        self.errors_in_a_row = 0;
        self.packets += 1;
        if decoded.is_empty() {
            return false;
        }
        let (rate_hz, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
        if self.found.rate_hz == 0 {
            if !RATES_HZ.contains(&rate_hz) || !(1..=MAX_CHANNELS).contains(&channels) {
                self.done = true;
                return false;
            }
            (self.found.rate_hz, self.found.channels) = (rate_hz, channels);
            (self.skip_frames, self.limit_frames) = (self.pre_skip, self.counted);
            if let Some(edit) = &self.edit {
                (self.skip_frames, self.limit_frames) = edit.edit(rate_hz);
            }
        } else if (self.found.rate_hz, self.found.channels) != (rate_hz, channels) {
            self.found.format_changed = true;
            self.done = true;
            return false;
        }
        decoded.copy_to_vecs_planar(&mut self.block);
        self.packet_frames = self.block.first().map_or(0, Vec::len) as u64;
        self.trim();
        for sample in self.block.iter_mut().flatten() {
            *sample = if sample.is_finite() {
                sample.clamp(-1.0, 1.0)
            } else {
                0.0
            };
        }
        let frames = self.block.first().map_or(0, Vec::len);
        self.found.frames += frames as u64;
        frames > 0
    }

    /// Leaves out priming samples, and what lies beyond the edit or beyond any sensible length.
    fn trim(&mut self) {
        let frames = self.block.first().map_or(0, Vec::len);
        let skip = usize::try_from(self.skip_frames)
            .unwrap_or(usize::MAX)
            .min(frames);
        self.skip_frames -= skip as u64;
        let longest = MAX_SECONDS * u64::from(self.found.rate_hz);
        let limit = self.limit_frames.unwrap_or(u64::MAX);
        let left = limit.min(longest) - self.found.frames.min(limit.min(longest));
        let keep = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(frames - skip);
        if keep < frames - skip {
            self.done = true;
            self.found.too_long = longest < limit;
        }
        for plane in &mut self.block {
            plane.truncate(skip + keep);
            plane.drain(..skip);
        }
    }

    /// Samples that packets would have had that could not be decoded; they were left out so far.
    pub const fn lost_frames(&self) -> u64 {
        self.lost_frames
    }

    /// What was found so far; complete after the last block.
    pub fn found(&self) -> Found {
        let mut found = self.found.clone();
        if let Some(announced) = self.announced_seconds
            && found.rate_hz > 0
        {
            let decoded = found.frames as f64 / f64::from(found.rate_hz);
            found.short |= decoded + 0.25 < announced;
        }
        found
    }

    /// The bitrate of a bare MP3 that carries its own length, as a browser needs it for seeking; `None` of all else.
    pub const fn playable_mp3_kbps(&self) -> Option<u32> {
        self.playable_mp3_kbps
    }

    /// Bytes that no signature vouched for, and of which less was decoded than not: noise that looked like frames.
    pub fn is_noise(&self) -> bool {
        !self.known_by_sniffing && self.found.decode_errors >= self.packets
    }
}
