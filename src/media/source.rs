//! A file as the demuxer shall see it: from an offset, to an end, with some header bytes put right.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

/// Bytes that the reader sees instead of those in the file, at an offset into the window.
pub type Patch = (u64, [u8; 4]);

/// A window over a regular file. Offsets are counted from the window's start.
pub struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
    patches: Vec<Patch>,
}

impl Window {
    pub fn new(mut file: File, start: u64, length: u64, patches: Vec<Patch>) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Self {
            file,
            start,
            length,
            at: 0,
            patches,
        })
    }
}

impl Read for Window {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let n = self.file.read(&mut buf[..wanted])?;
        for (offset, bytes) in &self.patches {
            for (at, byte) in (*offset..).zip(bytes) {
                if let Some(i) = at
                    .checked_sub(self.at)
                    .and_then(|i| usize::try_from(i).ok())
                    && i < n
                {
                    buf[i] = *byte;
                }
            }
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let absolute = target.and_then(|at| self.start.checked_add(at));
        let (Some(target), Some(absolute)) = (target, absolute) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        self.file.seek(SeekFrom::Start(absolute))?;
        self.at = target;
        Ok(target)
    }
}

impl MediaSource for Window {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_window_shows_its_part_of_the_file_with_the_patches() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789abcdef").unwrap();
        let mut window = Window::new(file, 4, 8, vec![(2, *b"WXYZ")]).unwrap();
        let mut text = String::new();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "45WXYZab");
        window.seek(SeekFrom::Start(3)).unwrap();
        let mut two = [0; 2];
        window.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"XY");
        assert_eq!(window.seek(SeekFrom::End(-1)).unwrap(), 7);
        assert!(window.seek(SeekFrom::Current(-9)).is_err());
    }
}
