//! Records on disk between a query's end and the database: append-only segment files of JSON
//! lines and a cursor. A record is in a file before `append` returns, so killing the process
//! loses nothing; a torn last line, the mark of a crash in mid-write, is dropped at open.
//! Blocking file I/O of a few microseconds (page cache); never reads a whole backlog into memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flightpath_types::QueryRecord;

/// One read stops beyond this.
const READ_BYTES_MAX: u64 = 4 << 20;
/// A new segment starts beyond this.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;
const CURSOR_FILE: &str = "cursor";
/// Records hold the texts of statements: what is made here is for this process's user alone.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Where reading stands: everything before it is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub segment: u64,
    pub offset: u64,
}

#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    writer: File,
    /// End of what was written whole.
    end: Cursor,
    cursor: Cursor,
    /// Bytes of whole segments between cursor's and the writer's, exclusive of both.
    middle_bytes: u64,
    cursor_segment_bytes: u64,
}

/// Why a record wasn't taken.
#[derive(Debug)]
pub(crate) enum AppendError {
    Full,
    Io(io::Error),
}

impl Spool {
    /// Opens or creates the spool in `dir`, which belongs to it alone.
    pub fn open(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
        let mut segments = list_segments(dir)?;
        let cursor = read_cursor(dir, segments.first().copied().unwrap_or(0));
        for old in segments.iter().filter(|s| **s < cursor.segment) {
            fs::remove_file(segment_path(dir, *old))?;
        }
        segments.retain(|s| *s >= cursor.segment);
        let last = segments.last().copied().unwrap_or(cursor.segment);
        let writer = open_segment(dir, last)?;
        let length = whole_lines_length(&writer)?;
        writer.set_len(length)?;
        let middle_bytes = segments
            .iter()
            .filter(|s| **s > cursor.segment && **s < last)
            .map(|s| fs::metadata(segment_path(dir, *s)).map(|m| m.len()))
            .sum::<io::Result<u64>>()?;
        let cursor_segment_bytes =
            if cursor.segment == last { length } else { fs::metadata(segment_path(dir, cursor.segment)).map(|m| m.len()).unwrap_or(0) };
        let cursor = Cursor { offset: cursor.offset.min(cursor_segment_bytes), ..cursor };
        Ok(Self {
            dir: dir.to_path_buf(),
            bytes_max,
            writer,
            end: Cursor { segment: last, offset: length },
            cursor,
            middle_bytes,
            cursor_segment_bytes,
        })
    }

    /// Bytes not yet in the database.
    pub fn pending_bytes(&self) -> u64 {
        if self.cursor.segment == self.end.segment {
            self.end.offset - self.cursor.offset
        } else {
            self.cursor_segment_bytes - self.cursor.offset + self.middle_bytes + self.end.offset
        }
    }

    /// Where the next record goes.
    pub fn end(&self) -> Cursor {
        self.end
    }

    /// Whether everything before `place` is in the database.
    pub fn is_read_up_to(&self, place: Cursor) -> bool {
        self.cursor >= place || self.pending_bytes() == 0
    }

    /// Takes one [`line`].
    pub fn append(&mut self, line: &[u8]) -> Result<(), AppendError> {
        if self.pending_bytes() + line.len() as u64 > self.bytes_max {
            return Err(AppendError::Full);
        }
        if self.end.offset >= SEGMENT_BYTES_MAX {
            self.rotate().map_err(AppendError::Io)?;
        }
        if let Err(error) = self.writer.write_all(line) {
            // A half-written line would swallow the next record.
            let _ = self.writer.set_len(self.end.offset);
            return Err(AppendError::Io(error));
        }
        self.end.offset += line.len() as u64;
        if self.cursor.segment == self.end.segment {
            self.cursor_segment_bytes = self.end.offset;
        }
        Ok(())
    }

    /// What can be read now. Reading takes no lock: what is written whole doesn't change, and only
    /// the reader's own `advance` deletes.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { dir: self.dir.clone(), cursor: self.cursor, end: self.end }
    }

    /// Reading goes on from `cursor`, which was kept with [`SpoolReader::keep`].
    pub fn advance(&mut self, cursor: Cursor) -> io::Result<()> {
        if cursor.segment != self.cursor.segment {
            self.middle_bytes = (cursor.segment + 1..self.end.segment)
                .map(|s| fs::metadata(segment_path(&self.dir, s)).map(|m| m.len()).unwrap_or(0))
                .sum();
            self.cursor_segment_bytes = if cursor.segment == self.end.segment {
                self.end.offset
            } else {
                fs::metadata(segment_path(&self.dir, cursor.segment))?.len()
            };
        }
        self.cursor = cursor;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.end.segment + 1;
        let writer = open_segment(&self.dir, next)?;
        if self.end.segment != self.cursor.segment {
            self.middle_bytes += self.end.offset;
        }
        self.writer = writer;
        self.end = Cursor { segment: next, offset: 0 };
        Ok(())
    }
}

/// A stretch of the spool that is written whole.
pub(crate) struct SpoolReader {
    dir: PathBuf,
    cursor: Cursor,
    end: Cursor,
}

impl SpoolReader {
    /// Everything before `cursor` is in the database: kept for the next start. Whole segments before
    /// it are deleted once the spool has advanced, by [`SpoolReader::delete_before`].
    pub fn keep(&self, cursor: Cursor) -> io::Result<()> {
        let temporary = self.dir.join("cursor.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(&temporary)?;
        file.write_all(format!("{} {}", cursor.segment, cursor.offset).as_bytes())?;
        fs::rename(&temporary, self.dir.join(CURSOR_FILE))
    }

    pub fn delete_before(&self, cursor: Cursor) -> io::Result<()> {
        for segment in self.cursor.segment..cursor.segment {
            match fs::remove_file(segment_path(&self.dir, segment)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Up to `max` records from the cursor on, and the cursor behind them. Lines that aren't
    /// records (a damaged disk) are passed over and counted.
    pub fn read(&self, max: usize) -> io::Result<(Vec<QueryRecord>, Cursor, usize)> {
        let mut records = Vec::new();
        let mut damaged = 0;
        let mut at = self.cursor;
        let mut bytes = 0;
        while records.len() < max && bytes < READ_BYTES_MAX && at < self.end {
            let mut file = match File::open(segment_path(&self.dir, at.segment)) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound && at.segment < self.end.segment => {
                    at = Cursor { segment: at.segment + 1, offset: 0 };
                    continue;
                }
                Err(e) => return Err(e),
            };
            file.seek(SeekFrom::Start(at.offset))?;
            let length = if at.segment == self.end.segment { self.end.offset } else { file.metadata()?.len() };
            let mut lines = BufReader::new(file.take(length.saturating_sub(at.offset)));
            let mut line = Vec::new();
            while records.len() < max && bytes < READ_BYTES_MAX && lines.read_until(b'\n', &mut line)? > 0 {
                at.offset += line.len() as u64;
                bytes += line.len() as u64;
                match serde_json::from_slice(&line) {
                    Ok(record) => records.push(record),
                    Err(_) => damaged += 1,
                }
                line.clear();
            }
            if at.offset >= length && at.segment < self.end.segment {
                at = Cursor { segment: at.segment + 1, offset: 0 };
            }
        }
        Ok((records, at, damaged))
    }
}

/// Whether a spool that nobody has open holds something that isn't in the database. Changes nothing.
pub fn holds_records(dir: &Path) -> bool {
    let segments = list_segments(dir).unwrap_or_default();
    let cursor = read_cursor(dir, segments.first().copied().unwrap_or(0));
    segments.iter().filter(|s| **s >= cursor.segment).any(|s| {
        let stored = if *s == cursor.segment { cursor.offset } else { 0 };
        fs::metadata(segment_path(dir, *s)).is_ok_and(|m| m.len() > stored)
    })
}

/// A record as the spool keeps it.
pub(crate) fn line(record: &QueryRecord) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("records-{segment:010}.jsonl"))
}

fn open_segment(dir: &Path, segment: u64) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).mode(FILE_MODE).open(segment_path(dir, segment))
}

fn list_segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|n| n.strip_prefix("records-")?.strip_suffix(".jsonl")?.parse().ok());
        segments.extend(number);
    }
    segments.sort_unstable();
    Ok(segments)
}

/// A missing or damaged cursor means the start: records are written twice, and kept once.
fn read_cursor(dir: &Path, first: u64) -> Cursor {
    let start = Cursor { segment: first, offset: 0 };
    let Ok(text) = fs::read_to_string(dir.join(CURSOR_FILE)) else { return start };
    let mut parts = text.split_whitespace().map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(segment)), Some(Ok(offset))) if segment >= first => Cursor { segment, offset },
        _ => start,
    }
}

/// Length up to and including the last line end.
fn whole_lines_length(file: &File) -> io::Result<u64> {
    let mut position = file.metadata()?.len();
    let mut file = file;
    let mut block = [0u8; 4096];
    while position > 0 {
        let size = position.min(block.len() as u64) as usize;
        file.seek(SeekFrom::Start(position - size as u64))?;
        file.read_exact(&mut block[..size])?;
        if let Some(at) = block[..size].iter().rposition(|b| *b == b'\n') {
            return Ok(position - size as u64 + at as u64 + 1);
        }
        position -= size as u64;
    }
    Ok(0)
}
