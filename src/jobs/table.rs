//! Files that people bring: a table with a header (CSV), or a JSON object on each line. Read in a stream, a
//! line at a time, whatever the length of the file.
//!
//! What a newcomer gets wrong: one forgotten quotation mark must not swallow the rest of the file. A record
//! that grows beyond all measure inside quotes is given up at its first line, and reading goes on behind it.

use std::io::{self, Read};

/// Longest record, and longest JSON line: what `cdr/1` allows.
const LONGEST: usize = 256 * 1024;
const CHUNK: usize = 64 * 1024;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    #[error("the file is UTF-16: save it as UTF-8")]
    Utf16,
    #[error("the file holds no line")]
    Empty,
    #[error("the header cannot be read: {0}")]
    Header(&'static str),
}

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Cells in the order of the header.
    Cells(Vec<String>),
    /// A line that begins with `{`.
    Json(Vec<u8>),
}

/// A record, or the stable reason why it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of its first line, from 1.
    pub line: u64,
    pub content: Result<Content, &'static str>,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Table<R> {
    bytes: Bytes<R>,
    delimiter: u8,
    /// Names as written, trimmed; `None` for JSON lines.
    header: Option<Vec<String>>,
}

impl<R: Read> Table<R> {
    /// Finds out what the file is and reads its header.
    pub fn open(reader: R) -> Result<Self, TableError> {
        let mut bytes = Bytes::new(reader);
        bytes.fill_to(BOM.len())?;
        let start = bytes.ahead();
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(TableError::Utf16);
        }
        if start.starts_with(BOM) {
            bytes.at += BOM.len();
        }
        let mut table = Self {
            bytes,
            delimiter: b',',
            header: None,
        };
        if !table.skip_blank()? {
            return Err(TableError::Empty);
        }
        if table.bytes.peek()? != Some(b'{') {
            table.bytes.fill_to(LONGEST)?;
            table.delimiter = delimiter_of(table.bytes.ahead());
            let cells = match table.record()? {
                Some(Ok(cells)) => cells,
                Some(Err(why)) => return Err(TableError::Header(why)),
                None => return Err(TableError::Empty),
            };
            let names = cells.into_iter().map(|name| name.trim().to_owned());
            table.header = Some(names.collect());
        }
        Ok(table)
    }

    pub fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }

    pub fn into_reader(self) -> R {
        self.bytes.reader
    }

    /// Bytes taken from the file so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.taken
    }

    /// The next record that is not empty. `None` at the end.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if !self.skip_blank()? {
                return Ok(None);
            }
            let line = self.bytes.line;
            let content = if self.header.is_some() {
                match self.record()? {
                    None => return Ok(None),
                    Some(Ok(cells)) if cells.iter().all(|cell| cell.trim().is_empty()) => continue,
                    Some(cells) => cells.map(Content::Cells),
                }
            } else {
                self.json()?
            };
            return Ok(Some(Entry { line, content }));
        }
    }

    /// Leaves empty lines behind; false at the end of the file.
    fn skip_blank(&mut self) -> io::Result<bool> {
        while let Some(byte) = self.bytes.peek()? {
            if !matches!(byte, b'\n' | b'\r')
                && (self.header.is_some() || !byte.is_ascii_whitespace())
            {
                return Ok(true);
            }
            self.bytes.next()?;
        }
        Ok(false)
    }

    fn json(&mut self) -> io::Result<Result<Content, &'static str>> {
        let mut line = Vec::new();
        while let Some(byte) = self.bytes.next()? {
            if byte == b'\n' {
                break;
            }
            // One more than fits, so that its length is seen to be too much.
            if line.len() <= LONGEST {
                line.push(byte);
            }
        }
        if line.len() > LONGEST {
            return Ok(Err("too_large"));
        }
        Ok(Ok(Content::Json(line)))
    }

    fn record(&mut self) -> io::Result<Option<Result<Vec<String>, &'static str>>> {
        let first_line = self.bytes.line;
        let mut raw: Vec<u8> = Vec::new();
        let mut cells: Vec<Vec<u8>> = vec![Vec::new()];
        let (mut quoted, mut was_quoted, mut begun) = (false, false, false);
        loop {
            let byte = self.bytes.next()?;
            begun |= byte.is_some();
            if quoted && (byte.is_none() || raw.len() >= LONGEST) {
                return self.give_up(raw, byte, first_line).map(Some);
            }
            // Unwrap safety: there is one cell from the start, and none is taken away.
            let cell = cells.last_mut().unwrap();
            let Some(byte) = byte else {
                break;
            };
            if raw.len() >= LONGEST {
                self.skip_line()?;
                return Ok(Some(Err("too_long")));
            }
            raw.push(byte);
            match byte {
                b'"' if quoted && self.bytes.peek()? == Some(b'"') => {
                    self.bytes.next()?;
                    raw.push(b'"');
                    cell.push(b'"');
                }
                b'"' if quoted => quoted = false,
                b'"' if cell.is_empty() && !was_quoted => {
                    quoted = true;
                    was_quoted = true;
                }
                byte if quoted => cell.push(byte),
                byte if byte == self.delimiter => {
                    cells.push(Vec::new());
                    was_quoted = false;
                }
                b'\n' => break,
                byte => cell.push(byte),
            }
        }
        if !begun {
            return Ok(None);
        }
        if let Some(last) = cells.last_mut()
            && last.last() == Some(&b'\r')
        {
            last.pop();
        }
        let cells = cells.into_iter().map(String::from_utf8);
        let cells: Result<Vec<String>, _> = cells.collect();
        Ok(Some(cells.map_err(|_| "not_utf8")))
    }

    /// Quotes that never close: the record is its first line, the rest is read again.
    fn give_up(
        &mut self,
        mut raw: Vec<u8>,
        unread: Option<u8>,
        first_line: u64,
    ) -> io::Result<Result<Vec<String>, &'static str>> {
        raw.extend(unread);
        match raw.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.bytes.put_back(&raw[end + 1..]);
                self.bytes.line = first_line + 1;
            }
            None if unread.is_some() => self.skip_line()?,
            None => {}
        }
        Ok(Err("unclosed_quote"))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        while let Some(byte) = self.bytes.next()? {
            if byte == b'\n' {
                break;
            }
        }
        Ok(())
    }
}

/// What stands most often between the names of the first line.
fn delimiter_of(start: &[u8]) -> u8 {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or(start);
    let mut quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    for byte in line {
        quoted ^= *byte == b'"';
        if !quoted && let Some(found) = counts.iter_mut().find(|(known, _)| known == byte) {
            found.1 += 1;
        }
    }
    let mut most = counts[0];
    for one in counts {
        if one.1 > most.1 {
            most = one;
        }
    }
    most.0
}

/// A reader with a line count, and with bytes that can be put back.
#[derive(Debug)]
struct Bytes<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
    line: u64,
    taken: u64,
    ended: bool,
}

impl<R: Read> Bytes<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            at: 0,
            line: 1,
            taken: 0,
            ended: false,
        }
    }

    fn ahead(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn fill_to(&mut self, wanted: usize) -> io::Result<()> {
        while self.ahead().len() < wanted && !self.ended {
            self.buffer.drain(..self.at);
            self.at = 0;
            let before = self.buffer.len();
            self.buffer.resize(before + CHUNK, 0);
            let read = loop {
                match self.reader.read(&mut self.buffer[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
            let read = read?;
            self.taken += read as u64;
            self.ended = read == 0;
        }
        Ok(())
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.fill_to(1)?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.at += 1;
            self.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    fn put_back(&mut self, bytes: &[u8]) {
        self.buffer.splice(..self.at, bytes.iter().copied());
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> (Option<Vec<String>>, Vec<Entry>) {
        let mut table = Table::open(text).unwrap();
        let header = table.header().map(<[String]>::to_vec);
        let mut entries = Vec::new();
        while let Some(entry) = table.next_entry().unwrap() {
            entries.push(entry);
        }
        (header, entries)
    }

    fn cells(line: u64, cells: &[&str]) -> Entry {
        let cells = cells.iter().map(ToString::to_string).collect();
        Entry {
            line,
            content: Ok(Content::Cells(cells)),
        }
    }

    #[test]
    fn a_table_as_offices_write_it_is_read() {
        let text = "\u{feff}\r\n id ;\"na;me\";number\r\n\r\n1;\"Wang \"\"Li\"\"\nof sales\";+86\r\n;;\r\n2;Ü;\n";
        let (header, entries) = all(text.as_bytes());
        assert_eq!(header.unwrap(), ["id", "na;me", "number"]);
        assert_eq!(
            entries,
            [
                cells(4, &["1", "Wang \"Li\"\nof sales", "+86"]),
                cells(7, &["2", "Ü", ""])
            ]
        );
    }

    #[test]
    fn an_unclosed_quote_costs_its_line_alone() {
        let text = "a,b\n\"x,1\ny,2\nz,3\n";
        let (_, entries) = all(text.as_bytes());
        assert_eq!(entries[0].content, Err("unclosed_quote"));
        assert_eq!(entries[1..], [cells(3, &["y", "2"]), cells(4, &["z", "3"])]);
        let mut long = b"a,b\n\"x,1\n".to_vec();
        for _ in 0..100_000 {
            long.extend(b"y,2\n");
        }
        let (_, entries) = all(&long);
        assert_eq!(entries.len(), 100_001);
        assert_eq!(entries[100_000], cells(100_002, &["y", "2"]));
    }

    #[test]
    fn endless_lines_and_other_bytes_are_told_with_their_number() {
        let mut text = b"a\tb\n".to_vec();
        text.extend(vec![b'x'; LONGEST + 10]);
        text.extend(b"\n\xff\t1\nlast\t2");
        let (_, entries) = all(&text);
        let told: Vec<_> = entries
            .iter()
            .map(|e| (e.line, e.content.clone()))
            .collect();
        assert_eq!(told[0], (2, Err("too_long")));
        assert_eq!(told[1], (3, Err("not_utf8")));
        assert_eq!(entries[2], cells(4, &["last", "2"]));
    }

    #[test]
    fn json_lines_are_handed_on_as_they_are() {
        let mut text = "\u{feff}\n{\"a\":1}\n\n  \n{\"b\":\n".as_bytes().to_vec();
        text.extend(vec![b'{'; LONGEST + 1]);
        text.extend(b"\n{}");
        let (header, entries) = all(&text);
        assert_eq!(header, None);
        let json = |text: &str| Ok(Content::Json(text.as_bytes().to_vec()));
        assert_eq!(
            entries.iter().map(|e| e.line).collect::<Vec<_>>(),
            [2, 5, 6, 7]
        );
        assert_eq!(entries[0].content, json("{\"a\":1}"));
        assert_eq!(entries[2].content, Err("too_large"));
        assert_eq!(entries[3].content, json("{}"));
    }

    #[test]
    fn what_is_no_table_says_why() {
        assert!(matches!(Table::open(&b""[..]), Err(TableError::Empty)));
        assert!(matches!(
            Table::open(&b"\n\r\n"[..]),
            Err(TableError::Empty)
        ));
        assert!(matches!(
            Table::open(&b"\xff\xfea\0"[..]),
            Err(TableError::Utf16)
        ));
        assert!(matches!(
            Table::open(&b"\"a,b"[..]),
            Err(TableError::Header("unclosed_quote"))
        ));
    }
}
