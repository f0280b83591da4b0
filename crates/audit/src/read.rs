//! Exported query history, streamed: pages as the API answers them (`res`, `next_page_token`),
//! arrays of pages or queries, or one query a line. Of each query a few numbers are kept, so that
//! files may be larger than memory. What can't be used is counted by reason, never an error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

use flightpath_types::{Error, ErrorKind, Result};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::lenient::{Scalar, without_mark};

/// Queries that are kept: about 100 bytes each.
pub const QUERIES_MAX: usize = 10_000_000;
/// Of a text, what its shape is made of.
const SHAPE_BYTES_MAX: usize = 64 << 10;
/// Shapes of which the beginning of a text is kept, to name them: one with a large part of a history is
/// among the first. And how much of a text that is.
const EXAMPLES_MAX: usize = 100_000;
const EXAMPLE_CHARS_MAX: usize = 120;
/// Errors that the API answered, of which the texts are kept.
const API_ERRORS_MAX: usize = 3;
/// Times beyond these are damaged: 2015, before any SQL warehouse, and 2100.
const EARLIEST_MS: i64 = 1_420_070_400_000;
const LATEST_MS: i64 = 4_102_444_800_000;
const DAY_MS: i64 = 86_400_000;
/// No warehouse lets a statement run for longer.
const DURATION_MAX_MS: i64 = 7 * DAY_MS;
/// A history has no longer gap than this: what lies beyond has a damaged time.
const GAP_MAX_MS: i64 = 366 * DAY_MS;

/// What a statement is, by what could become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Reads tables: another engine may be able to run it.
    Select,
    /// SHOW, DESCRIBE, USE, SET, EXPLAIN: the router answers it by itself.
    Metadata,
    /// Writes, DDL, and what isn't known: stays.
    Other,
}

/// One query that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub start_ms: i64,
    pub end_ms: i64,
    pub warehouse: u32,
    pub class: Class,
    pub read_bytes: Option<u64>,
    pub spilled: bool,
    /// Its warehouse was asleep when it came.
    pub woke: bool,
    /// The same for queries that differ in literals only.
    pub shape: u64,
}

impl Query {
    pub fn span(&self) -> (i64, i64) {
        (self.start_ms, self.end_ms)
    }
}

/// Everything that was read, from any number of files.
#[derive(Debug, Default)]
pub struct History {
    pub(crate) queries: Vec<Query>,
    /// Ids by position, as queries name them.
    pub(crate) warehouses: Vec<String>,
    positions: HashMap<String, u32>,
    seen: HashSet<u64>,
    /// The beginnings of texts, by shape.
    pub(crate) examples: HashMap<u64, String>,
    /// Why lines weren't used, and how many.
    skipped: BTreeMap<&'static str, u64>,
    /// What the API answered instead of queries, the first few.
    pub(crate) api_errors: Vec<String>,
}

impl History {
    /// Reads one file. An error names the place where it stops being JSON.
    pub fn read(&mut self, input: impl Read) -> Result<()> {
        let input = without_mark(input).map_err(|e| Error::unavailable(format!("can't be read on: {e}")))?;
        let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::with_capacity(1 << 18, input));
        while json.end().is_err() {
            let before = self.queries.len();
            Top { history: self, listed: true }.deserialize(&mut json).map_err(|e| match e.classify() {
                _ if self.queries.len() >= QUERIES_MAX => {
                    Error::new(ErrorKind::ResourceExhausted, format!("more than {QUERIES_MAX} queries: audit a shorter time, a month say"))
                }
                serde_json::error::Category::Io => Error::unavailable(format!("can't be read on: {e}")),
                serde_json::error::Category::Eof => {
                    Error::invalid(format!("ends in the middle of its JSON, after {} more queries: {e}", self.queries.len() - before))
                }
                serde_json::error::Category::Syntax | serde_json::error::Category::Data => Error::invalid(format!("isn't JSON: {e}")),
            })?;
        }
        Ok(())
    }

    /// Queries that can be used.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// What couldn't be used: why, and how many.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.skipped.iter().map(|(why, count)| (*why, *count))
    }

    fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }

    fn answered_error(&mut self, code: &str, message: Option<&str>) {
        self.skip("an error that the API answered");
        if self.api_errors.len() < API_ERRORS_MAX {
            self.api_errors.push(beginning_of(&format!("{code}: {}", message.unwrap_or("without a message"))));
        }
    }

    /// Leaves out queries more than a year away from where most are: one damaged time would make the history that
    /// much longer, with all that's paid by the hour.
    pub(crate) fn leave_out_strays(&mut self) {
        let mut starts: Vec<i64> = self.queries.iter().map(|q| q.start_ms).collect();
        starts.sort_unstable();
        let most = starts.chunk_by(|a, b| b - a <= GAP_MAX_MS).max_by_key(|together| together.len());
        let Some((first, last)) = most.and_then(|together| Some((*together.first()?, *together.last()?))) else { return };
        let before = self.queries.len();
        self.queries.retain(|q| (first..=last).contains(&q.start_ms));
        let strays = (before - self.queries.len()) as u64;
        if strays > 0 {
            *self.skipped.entry("more than a year away from the others").or_default() += strays;
        }
    }

    /// False once no more can be kept.
    fn take(&mut self, line: Line) -> bool {
        match line.used() {
            Err(why) => self.skip(why),
            Ok(mut query) => {
                if line.id.is_some_and(|id| !self.seen.insert(id)) {
                    self.skip("exported twice");
                    return true;
                }
                if self.queries.len() >= QUERIES_MAX {
                    return false;
                }
                if let Some(example) = line.example
                    && self.examples.len() < EXAMPLES_MAX
                {
                    self.examples.entry(query.shape).or_insert(example);
                }
                query.warehouse = self.position(line.warehouse.unwrap_or_else(|| "unknown".into()));
                self.queries.push(query);
            }
        }
        true
    }

    fn position(&mut self, warehouse: String) -> u32 {
        if let Some(position) = self.positions.get(&warehouse) {
            return *position;
        }
        let position = u32::try_from(self.warehouses.len()).unwrap_or(u32::MAX);
        self.warehouses.push(warehouse.clone());
        self.positions.insert(warehouse, position);
        position
    }
}

/// How far a query had come, by its status.
#[derive(Debug, Default)]
enum Progress {
    /// The export has no such field: what has an end has ended.
    #[default]
    NotSaid,
    Ended,
    NotEnded,
    Unknown,
}

impl Progress {
    fn of(status: Option<&str>) -> Self {
        match status {
            Some("FINISHED" | "FAILED" | "CANCELED" | "CANCELLED" | "CLOSED") => Progress::Ended,
            Some("QUEUED" | "RUNNING" | "STARTED" | "COMPILING" | "COMPILED") => Progress::NotEnded,
            Some(_) | None => Progress::Unknown,
        }
    }
}

/// What is wanted of one query.
#[derive(Debug, Default)]
struct Line {
    known_fields: u32,
    id: Option<u64>,
    progress: Progress,
    class: Option<Class>,
    class_of_text: Option<Class>,
    warehouse: Option<String>,
    start_ms: Option<i64>,
    end_ms: Option<i64>,
    duration_ms: Option<i64>,
    read_bytes: Option<u64>,
    spilled: bool,
    woke: bool,
    shape: Option<u64>,
    example: Option<String>,
}

impl Line {
    fn used(&self) -> Result<Query, &'static str> {
        if self.known_fields == 0 {
            return Err("not a query");
        }
        let start_ms = self.start_ms.ok_or("without a start time")?;
        match self.progress {
            Progress::NotSaid | Progress::Ended => {}
            Progress::NotEnded => return Err("not ended when it was exported"),
            Progress::Unknown => return Err("of a status that isn't known"),
        }
        if !(EARLIEST_MS..LATEST_MS).contains(&start_ms) {
            return Err("begun before 2015 or after 2100");
        }
        let end_ms = self.end_ms.or_else(|| start_ms.checked_add(self.duration_ms?)).ok_or("without an end or a duration")?;
        if end_ms < start_ms {
            return Err("ends before it begins");
        }
        if end_ms - start_ms > DURATION_MAX_MS {
            return Err("longer than 7 days");
        }
        Ok(Query {
            start_ms,
            end_ms,
            warehouse: 0,
            class: self.class.or(self.class_of_text).unwrap_or(Class::Other),
            read_bytes: self.read_bytes,
            spilled: self.spilled,
            woke: self.woke,
            shape: self.shape.or(self.id).unwrap_or(start_ms.unsigned_abs()),
        })
    }

    /// Takes a field; false if it isn't one of interest.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "query_id" => self.id = map.next_value::<Scalar>()?.text().map(|id| hash_of(&id)),
            "status" => self.progress = Progress::of(map.next_value::<Scalar>()?.text().map(|s| s.to_ascii_uppercase()).as_deref()),
            "statement_type" => self.class = map.next_value::<Scalar>()?.text().map(|t| class_of(&t)),
            "query_text" => {
                if let Some(text) = map.next_value::<Scalar>()?.text() {
                    self.class_of_text = Some(class_of(first_word(&text)));
                    self.shape = Some(shape_of(&text));
                    self.example = Some(beginning_of(&text));
                }
            }
            "warehouse_id" => self.warehouse = map.next_value::<Scalar>()?.text().or(self.warehouse.take()),
            "endpoint_id" => self.warehouse = self.warehouse.take().or(map.next_value::<Scalar>()?.text()),
            "query_start_time_ms" => self.start_ms = map.next_value::<Scalar>()?.whole().filter(|ms| *ms > 0).or(self.start_ms),
            "query_end_time_ms" => self.end_ms = map.next_value::<Scalar>()?.whole().filter(|ms| *ms > 0).or(self.end_ms),
            "execution_end_time_ms" => self.end_ms = self.end_ms.or(map.next_value::<Scalar>()?.whole().filter(|ms| *ms > 0)),
            "duration" => self.duration_ms = map.next_value::<Scalar>()?.whole().filter(|ms| *ms >= 0).or(self.duration_ms),
            "metrics" => map.next_value_seed(Metrics(self))?,
            _ => return Ok(false),
        }
        self.known_fields += 1;
        Ok(true)
    }
}

fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// By Databricks' name of a statement's type, or its first word.
fn class_of(statement_type: &str) -> Class {
    match statement_type.to_ascii_uppercase().as_str() {
        "SELECT" | "WITH" | "VALUES" | "TABLE" | "FROM" => Class::Select,
        "SHOW" | "DESCRIBE" | "DESC" | "USE" | "SET" | "EXPLAIN" => Class::Metadata,
        _ => Class::Other,
    }
}

/// The first word behind blanks, comments and parentheses.
fn first_word(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == '\u{feff}');
        let end = match rest {
            _ if rest.starts_with("--") => rest.find('\n'),
            _ if rest.starts_with("/*") => rest.find("*/").map(|at| at + 2),
            _ => {
                let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
                return &rest[..end];
            }
        };
        rest = end.map_or("", |end| &rest[end..]);
    }
}

/// A hash of the text without its numbers, strings, blanks and case.
fn shape_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut quote = None;
    let mut in_word = false;
    for byte in text.bytes().take(SHAPE_BYTES_MAX) {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'0'..=b'9' | b'.') if !in_word => {}
            (None, _) if byte.is_ascii_whitespace() => in_word = false,
            (None, _) => {
                in_word = byte.is_ascii_alphanumeric() || byte == b'_';
                hasher.write_u8(byte.to_ascii_lowercase());
            }
        }
    }
    hasher.finish()
}

/// Of a text as much as names it, in one line.
fn beginning_of(text: &str) -> String {
    let line: String =
        text.split_whitespace().flat_map(|word| word.chars().chain([' '])).filter(|c| !c.is_control()).take(EXAMPLE_CHARS_MAX).collect();
    line.trim_end().to_string()
}

/// A page, a query, or an array of either.
struct Top<'a> {
    history: &'a mut History,
    /// It stands where a query is expected; else it may be a page's list, which may be null.
    listed: bool,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of query history, a query, or an array of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        while parts.next_element_seed(Top { history: self.history, listed: true })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut line = Line::default();
        let mut is_page = false;
        let (mut error_code, mut message) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "res" | "results" | "queries" => {
                    is_page = true;
                    map.next_value_seed(Top { history: self.history, listed: false })?;
                }
                // An empty last page has these alone.
                "next_page_token" | "has_next_page" => {
                    is_page = true;
                    map.next_value::<IgnoredAny>()?;
                }
                "error_code" => error_code = map.next_value::<Scalar>()?.text(),
                "message" => message = map.next_value::<Scalar>()?.text(),
                name if line.field(name, &mut map)? => {}
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match error_code {
            Some(code) if line.known_fields == 0 => self.history.answered_error(&code, message.as_deref()),
            Some(_) | None if is_page => {}
            Some(_) | None => {
                if !self.history.take(line) {
                    return Err(serde::de::Error::custom("too many queries"));
                }
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if self.listed {
            self.history.skip("not a query");
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.history.skip("not a query");
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.history.skip("not a query");
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.history.skip("not a query");
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.history.skip("not a query");
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.history.skip("not a query");
        Ok(())
    }
}

/// The metrics of one query; they may be missing.
struct Metrics<'a>(&'a mut Line);

impl<'de> DeserializeSeed<'de> for Metrics<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Metrics<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a query's metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let line = self.0;
        while let Some(name) = map.next_key::<String>()? {
            let value: Scalar = map.next_value()?;
            match name.as_str() {
                "total_time_ms" => line.duration_ms = line.duration_ms.or(value.whole().filter(|ms| *ms >= 0)),
                "read_bytes" => line.read_bytes = value.count(),
                "spill_to_disk_bytes" => line.spilled = value.count().is_some_and(|bytes| bytes > 0),
                // An answer from the cache read nothing, whatever was read when it was made.
                "result_from_cache" if value.is_true() => line.read_bytes = line.read_bytes.or(Some(0)),
                "provisioning_queue_start_timestamp" => line.woke = value.count().is_some_and(|ms| ms > 0),
                _ => {}
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        while parts.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_found_behind_comments_and_parentheses() {
        for (text, word) in
            [("SELECT 1", "SELECT"), ("  -- a\n/* b */ ((select 1))", "select"), ("/* open", ""), ("with x AS (SELECT 1) SELECT 2", "with")]
        {
            assert_eq!(first_word(text), word, "{text}");
        }
    }

    #[test]
    fn shapes_leave_out_literals_blanks_and_case() {
        assert_eq!(shape_of("SELECT a FROM t1 WHERE b = 17 AND c = 'x'"), shape_of("select  a from t1\nwhere b = 4.5 and c = 'why'"));
        assert_ne!(shape_of("SELECT a FROM t1"), shape_of("SELECT a FROM t2"));
    }

    #[test]
    fn a_shape_is_named_by_the_beginning_of_a_text_in_one_line() {
        assert_eq!(beginning_of("  SELECT a,\n\tb\u{1b}[0m FROM t  "), "SELECT a, b[0m FROM t");
        assert_eq!(beginning_of(&"é".repeat(500)), "é".repeat(EXAMPLE_CHARS_MAX));
        assert_eq!(beginning_of(""), "");
    }
}
