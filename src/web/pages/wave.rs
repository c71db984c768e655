//! The waveform of a recording as paths of an SVG, drawn by the server.

use std::fmt::Write as _;

use serde::Deserialize;

const COLUMNS: usize = 1000;
const LANE_HEIGHT: f64 = 60.0;

/// Paths to stand in one drawing, a lane for each channel.
#[derive(Debug)]
pub struct Drawing {
    pub width: usize,
    pub height: usize,
    pub lanes: Vec<String>,
}

/// audiowaveform JSON, version 2 (github.com/bbc/audiowaveform, doc/DataFormat.md).
#[derive(Deserialize)]
struct Waveform {
    channels: usize,
    bits: u8,
    data: Vec<i16>,
}

/// `None` for what is no waveform, or an empty one.
pub fn draw(json: &[u8]) -> Option<Drawing> {
    let waveform: Waveform = serde_json::from_slice(json).ok()?;
    let channels = waveform.channels;
    if !(1..=8).contains(&channels) {
        return None;
    }
    let full_scale: f64 = if waveform.bits == 16 { 32768.0 } else { 128.0 };
    let points = waveform.data.len() / (2 * channels);
    let columns = COLUMNS.min(points);
    if columns == 0 {
        return None;
    }
    // Quiet speech is drawn larger, up to four times, all lanes alike.
    let peak = waveform
        .data
        .iter()
        .map(|sample| f64::from(*sample).abs())
        .fold(1.0, f64::max);
    let full_scale = full_scale.min(peak.max(full_scale / 4.0));
    let lanes = (0..channels)
        .map(|channel| {
            let extremes = |column: usize| {
                let from = column * points / columns;
                let to = ((column + 1) * points / columns).max(from + 1);
                let pairs = (from..to).map(|point| 2 * (point * channels + channel));
                pairs.fold((i16::MAX, i16::MIN), |(low, high), at| {
                    (low.min(waveform.data[at]), high.max(waveform.data[at + 1]))
                })
            };
            lane(channel, columns, full_scale, extremes)
        })
        .collect();
    Some(Drawing {
        width: (columns - 1).max(1),
        height: LANE_HEIGHT as usize * channels,
        lanes,
    })
}

/// The upper edge from left to right, then the lower edge back; silence keeps a hair's breadth.
fn lane(
    channel: usize,
    columns: usize,
    full_scale: f64,
    extremes: impl Fn(usize) -> (i16, i16),
) -> String {
    let middle = (channel as f64 + 0.5) * LANE_HEIGHT;
    let y = |sample: i16, hair: f64| {
        middle - f64::from(sample) / full_scale * (LANE_HEIGHT / 2.0 - 2.0) + hair
    };
    let mut path = String::with_capacity(columns * 20);
    for column in 0..columns {
        let lead = if column == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{lead}{column} {:.1}", y(extremes(column).1, -0.4));
    }
    for column in (0..columns).rev() {
        let _ = write!(path, "L{column} {:.1}", y(extremes(column).0, 0.4));
    }
    path.push('Z');
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_lane() {
        let json =
            br#"{"version":2,"channels":2,"sample_rate":8000,"samples_per_pixel":64,"bits":8,
            "length":2,"data":[0,0,-128,127,-64,64,0,0]}"#;
        let drawing = draw(json).unwrap();
        assert_eq!(
            (drawing.width, drawing.height, drawing.lanes.len()),
            (1, 120, 2)
        );
        assert_eq!(drawing.lanes[0], "M0 29.6L1 15.6L1 44.4L0 30.4Z");
    }

    #[test]
    fn foreign_bytes_draw_nothing() {
        for bad in [
            &b""[..],
            b"[]",
            br#"{"channels":0,"bits":8,"data":[1,2]}"#,
            br#"{"channels":2,"bits":8,"data":[1,2]}"#,
            br#"{"channels":1,"bits":8,"data":[99999]}"#,
        ] {
            assert!(draw(bad).is_none());
        }
    }
}
