//! Java's date-time patterns as Databricks takes them: formatting and strict parsing, US English.

use chrono::{Datelike, NaiveDate};
use flightpath_types::{Error, ErrorKind, Result};

use crate::cast::civil;
use crate::cast::zone::Zone;

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

pub(crate) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
/// Monday first.
pub(crate) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Year,
    YearOfEra,
    Month,
    Day,
    DayOfYear,
    Quarter,
    /// `F`
    AlignedDayOfWeekInMonth,
    Hour,
    ClockHour,
    HourOfHalf,
    ClockHourOfHalf,
    Minute,
    Second,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Normal,
    NotNegative,
    ExceedsPad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Month,
    DayOfWeek,
    Half,
    Era,
    Quarter,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(String),
    /// `after` is the width of the fixed numbers that follow without a gap.
    Number {
        field: Field,
        min: usize,
        max: usize,
        sign: Sign,
        after: usize,
    },
    /// Two digits of the years 2000 to 2099.
    TwoDigitYear {
        field: Field,
        after: usize,
    },
    Text {
        text: Text,
        full: bool,
    },
    Fraction {
        min: usize,
        max: usize,
    },
    /// `X`, `x` and `Z`: digits and colons by `count`; `Z` for zero when `zulu`.
    Offset {
        count: usize,
        zulu: bool,
    },
    /// `O`: `GMT+8` or `GMT+08:00`.
    GmtOffset {
        full: bool,
    },
    ZoneId,
    ZoneName {
        full: bool,
    },
    Optional(Vec<Item>),
}

/// A pattern once read; what it is for decides which letters it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    items: Vec<Item>,
}

/// What a pattern formats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// Wall clock in microseconds as if it were UTC.
    pub local: i64,
    /// Seconds east of UTC.
    pub offset: i32,
    pub zone: &'a str,
}

/// What parsing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Wall clock in microseconds as if it were UTC.
    pub local: i64,
    pub zone: Option<Zone>,
}

impl Pattern {
    pub(crate) fn for_formatting(text: &str) -> Result<Self> {
        Self::read(text, false)
    }

    pub(crate) fn for_parsing(text: &str) -> Result<Self> {
        Self::read(text, true)
    }

    fn read(text: &str, parsing: bool) -> Result<Self> {
        let era = letters(text).contains(&'G');
        let mut reader = Reader { chars: text.chars().collect(), at: 0, parsing, era, pattern: text };
        let items = reader.section(false)?;
        Ok(Self { items })
    }

    pub(crate) fn format(&self, moment: &Moment<'_>) -> Result<String> {
        let mut out = String::new();
        format_items(&self.items, moment, &mut out)?;
        Ok(out)
    }

    /// `None` when the text doesn't fit or its fields make no date.
    pub(crate) fn parse(&self, text: &str) -> Option<Parsed> {
        let mut fields = Fields::default();
        let rest = parse_items(&self.items, text, &mut fields)?;
        if rest.is_empty() { fields.resolve() } else { None }
    }

    /// DuckDB's strftime pattern that writes the same for years 0 to 9999; and whether a year is in it.
    pub(crate) fn strftime(&self) -> Option<(String, bool)> {
        let (mut out, mut year) = (String::new(), false);
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(&text.replace('%', "%%")),
                Item::TwoDigitYear { .. } => {
                    year = true;
                    out.push_str("%y");
                }
                Item::Number { field, min, .. } => {
                    year |= matches!(field, Field::Year);
                    out.push_str(match (field, min) {
                        (Field::Year, 4) => "%Y",
                        (Field::Month, 2) => "%m",
                        (Field::Month, 1) => "%-m",
                        (Field::Day, 2) => "%d",
                        (Field::Day, 1) => "%-d",
                        (Field::Hour, 2) => "%H",
                        (Field::Hour, 1) => "%-H",
                        (Field::ClockHourOfHalf, 2) => "%I",
                        (Field::ClockHourOfHalf, 1) => "%-I",
                        (Field::Minute, 2) => "%M",
                        (Field::Minute, 1) => "%-M",
                        (Field::Second, 2) => "%S",
                        (Field::Second, 1) => "%-S",
                        (Field::DayOfYear, 3) => "%j",
                        (Field::DayOfYear, 1) => "%-j",
                        _ => return None,
                    });
                }
                Item::Text { text, full } => out.push_str(match (text, full) {
                    (Text::Month, false) => "%b",
                    (Text::Month, true) => "%B",
                    (Text::DayOfWeek, false) => "%a",
                    (Text::DayOfWeek, true) => "%A",
                    (Text::Half, _) => "%p",
                    (Text::Era | Text::Quarter, _) => return None,
                }),
                Item::Fraction { max: 3, .. } => out.push_str("%g"),
                Item::Fraction { max: 6, .. } => out.push_str("%f"),
                _ => return None,
            }
        }
        if out.is_empty() { None } else { Some((out, year)) }
    }

    /// For patterns of fixed digits only: a regular expression that their texts match in full, and
    /// DuckDB's strptime pattern.
    pub(crate) fn strptime(&self) -> Option<(String, String)> {
        let (mut regex, mut format) = (String::new(), String::new());
        for item in &self.items {
            match item {
                Item::Literal(text) if text.chars().all(|c| " -/.:,T".contains(c)) => {
                    for c in text.chars() {
                        regex.push_str(&if c == '.' { r"\.".to_string() } else { c.to_string() });
                    }
                    format.push_str(text);
                }
                Item::Number { field, min, .. } => {
                    let (digits, letter) = match (field, min) {
                        (Field::Year, 4) => (4, "%Y"),
                        (Field::Month, 2) => (2, "%m"),
                        (Field::Day, 2) => (2, "%d"),
                        (Field::Hour, 2) => (2, "%H"),
                        (Field::Minute, 2) => (2, "%M"),
                        (Field::Second, 2) => (2, "%S"),
                        _ => return None,
                    };
                    regex.push_str(&format!("[0-9]{{{digits}}}"));
                    format.push_str(letter);
                }
                _ => return None,
            }
        }
        let needed = ["%Y", "%m", "%d"].iter().all(|l| format.matches(l).count() == 1);
        // In Java a time may lack its hour only with its minutes and seconds; keep to the usual ones.
        let time: Vec<bool> = ["%H", "%M", "%S"].iter().map(|l| format.contains(l)).collect();
        (needed && matches!(time.as_slice(), [false, false, false] | [true, true, true] | [true, true, false] | [true, false, false]))
            .then_some((regex, format))
    }
}

fn letters(text: &str) -> Vec<char> {
    let mut quoted = false;
    text.chars()
        .filter(|c| {
            if *c == '\'' {
                quoted = !quoted;
            }
            !quoted && *c != '\''
        })
        .collect()
}

fn illegal(pattern: &str, what: impl std::fmt::Display) -> Error {
    Error::classed(ErrorKind::Raised, "INVALID_DATETIME_PATTERN", "22007", format!("Unrecognized datetime pattern: '{pattern}' ({what})."))
}

struct Reader<'a> {
    chars: Vec<char>,
    at: usize,
    parsing: bool,
    era: bool,
    pattern: &'a str,
}

impl Reader<'_> {
    fn section(&mut self, inner: bool) -> Result<Vec<Item>> {
        let mut items: Vec<Item> = Vec::new();
        // The number that takes the width of fixed numbers right behind it.
        let mut base: Option<usize> = None;
        while self.at < self.chars.len() {
            let c = self.chars[self.at];
            self.at += 1;
            let item = match c {
                '\'' => self.quoted()?,
                '[' => Item::Optional(self.section(true)?),
                ']' if inner => return Ok(items),
                ']' => return Err(illegal(self.pattern, "']' without '['")),
                '{' | '}' | '#' => return Err(illegal(self.pattern, format!("'{c}' is reserved"))),
                c if c.is_ascii_alphabetic() => {
                    let start = self.at - 1;
                    while self.chars.get(self.at) == Some(&c) {
                        self.at += 1;
                    }
                    self.letter(c, self.at - start)?
                }
                c => Item::Literal(c.to_string()),
            };
            match (&item, base) {
                (Item::Number { min, max, sign: Sign::NotNegative, .. }, Some(b)) if min == max => add_after(&mut items[b], *max),
                (Item::TwoDigitYear { .. }, Some(b)) => add_after(&mut items[b], 2),
                (Item::Number { .. } | Item::TwoDigitYear { .. }, _) => base = Some(items.len()),
                _ => base = None,
            }
            match (items.last_mut(), item) {
                (Some(Item::Literal(before)), Item::Literal(text)) => before.push_str(&text),
                (_, item) => items.push(item),
            }
        }
        Ok(items)
    }

    fn quoted(&mut self) -> Result<Item> {
        let mut text = String::new();
        loop {
            match self.chars.get(self.at) {
                Some('\'') if self.chars.get(self.at + 1) == Some(&'\'') => {
                    text.push('\'');
                    self.at += 2;
                }
                Some('\'') => {
                    self.at += 1;
                    // `''` outside quotes is a quote.
                    return Ok(Item::Literal(if text.is_empty() { "'".into() } else { text }));
                }
                Some(c) => {
                    text.push(*c);
                    self.at += 1;
                }
                None => return Err(illegal(self.pattern, "a quote isn't closed")),
            }
        }
    }

    fn letter(&self, c: char, count: usize) -> Result<Item> {
        let wrong = || illegal(self.pattern, format!("{count} times '{c}'"));
        let number = |field, most: usize| match count {
            1 => Ok(Item::Number { field, min: 1, max: 19, sign: Sign::Normal, after: 0 }),
            n if n <= most => Ok(Item::Number { field, min: n, max: n, sign: Sign::NotNegative, after: 0 }),
            _ => Err(wrong()),
        };
        let text = |text| match count {
            1..=3 => Ok(Item::Text { text, full: false }),
            4 => Ok(Item::Text { text, full: true }),
            _ => Err(wrong()),
        };
        let year = if self.era { Field::YearOfEra } else { Field::Year };
        if self.parsing && "EFqQ".contains(c) {
            return Err(illegal(self.pattern, format!("'{c}' can't be parsed")));
        }
        match c {
            'y' => match count {
                2 => Ok(Item::TwoDigitYear { field: year, after: 0 }),
                1 | 3 => Ok(Item::Number { field: year, min: count, max: 19, sign: Sign::Normal, after: 0 }),
                4..=6 => Ok(Item::Number { field: year, min: count, max: 19, sign: Sign::ExceedsPad, after: 0 }),
                _ => Err(wrong()),
            },
            'M' | 'L' if count <= 2 => number(Field::Month, 2),
            'M' | 'L' => text(Text::Month),
            'Q' | 'q' if count <= 2 => number(Field::Quarter, 2),
            'Q' | 'q' => text(Text::Quarter),
            'd' => number(Field::Day, 2),
            'D' if count == 2 => Ok(Item::Number { field: Field::DayOfYear, min: 2, max: 3, sign: Sign::NotNegative, after: 0 }),
            'D' => number(Field::DayOfYear, 3),
            'F' => number(Field::AlignedDayOfWeekInMonth, 1),
            'E' => text(Text::DayOfWeek),
            'G' => text(Text::Era),
            'a' if count == 1 => Ok(Item::Text { text: Text::Half, full: false }),
            'H' => number(Field::Hour, 2),
            'k' => number(Field::ClockHour, 2),
            'K' => number(Field::HourOfHalf, 2),
            'h' => number(Field::ClockHourOfHalf, 2),
            'm' => number(Field::Minute, 2),
            's' => number(Field::Second, 2),
            'S' if count <= 9 => Ok(Item::Fraction { min: if self.parsing { 1 } else { count }, max: count }),
            'X' if count <= 5 => Ok(Item::Offset { count, zulu: true }),
            'x' if count <= 5 => Ok(Item::Offset { count, zulu: false }),
            'Z' if count <= 3 => Ok(Item::Offset { count: 2, zulu: false }),
            'Z' if count == 4 => Ok(Item::GmtOffset { full: true }),
            'Z' if count == 5 => Ok(Item::Offset { count: 5, zulu: true }),
            'O' if count == 1 || count == 4 => Ok(Item::GmtOffset { full: count == 4 }),
            'V' if count == 2 => Ok(Item::ZoneId),
            'z' if count <= 4 => Ok(Item::ZoneName { full: count == 4 }),
            _ => Err(wrong()),
        }
    }
}

fn add_after(item: &mut Item, width: usize) {
    if let Item::Number { after, .. } | Item::TwoDigitYear { after, .. } = item {
        *after += width;
    }
}

fn format_items(items: &[Item], moment: &Moment<'_>, out: &mut String) -> Result<()> {
    let days = moment.local.div_euclid(MICROS_PER_DAY);
    let of_day = moment.local.rem_euclid(MICROS_PER_DAY);
    let (year, month, day) = civil(days);
    let hour = of_day / (3600 * MICROS_PER_SECOND);
    let value = |field: Field| -> i64 {
        match field {
            Field::Year => year,
            Field::YearOfEra => {
                if year > 0 {
                    year
                } else {
                    1 - year
                }
            }
            Field::Month => i64::from(month),
            Field::Day => i64::from(day),
            Field::DayOfYear => day_of_year(year, month, day),
            Field::Quarter => i64::from((month - 1) / 3 + 1),
            Field::AlignedDayOfWeekInMonth => i64::from((day - 1) % 7 + 1),
            Field::Hour => hour,
            Field::ClockHour => {
                if hour == 0 {
                    24
                } else {
                    hour
                }
            }
            Field::HourOfHalf => hour % 12,
            Field::ClockHourOfHalf => {
                if hour % 12 == 0 {
                    12
                } else {
                    hour % 12
                }
            }
            Field::Minute => of_day / (60 * MICROS_PER_SECOND) % 60,
            Field::Second => of_day / MICROS_PER_SECOND % 60,
        }
    };
    for item in items {
        match item {
            Item::Literal(text) => out.push_str(text),
            Item::Number { field, min, max, sign, .. } => {
                let v = value(*field);
                let digits = v.unsigned_abs().to_string();
                if digits.len() > *max || (v < 0 && *sign == Sign::NotNegative) {
                    return Err(Error::raised(
                        "DATETIME_OVERFLOW",
                        "22008",
                        format!("The field {field:?} of value {v} doesn't fit the datetime pattern."),
                    ));
                }
                if v < 0 {
                    out.push('-');
                } else if *sign == Sign::ExceedsPad && digits.len() > *min {
                    out.push('+');
                }
                out.push_str(&format!("{digits:0>min$}"));
            }
            Item::TwoDigitYear { field, .. } => out.push_str(&format!("{:02}", value(*field).unsigned_abs() % 100)),
            Item::Text { text, full } => out.push_str(&name_of(*text, *full, year, month, days, hour)),
            Item::Fraction { max, .. } => {
                let nanos = format!("{:06}000", of_day % MICROS_PER_SECOND);
                out.push_str(&nanos[..*max]);
            }
            Item::Offset { count, zulu } => out.push_str(&offset_text(moment.offset, *count, *zulu)),
            Item::GmtOffset { full } => out.push_str(&gmt_offset_text(moment.offset, *full)),
            Item::ZoneId => out.push_str(moment.zone),
            Item::ZoneName { full } => match moment.zone {
                "UTC" | "Etc/UTC" => out.push_str(if *full { "Coordinated Universal Time" } else { "UTC" }),
                zone => {
                    return Err(Error::not_eligible(format!(
                        "the name of time zone {zone} (pattern letter 'z') isn't known; use 'VV' or 'XXX'"
                    )));
                }
            },
            Item::Optional(items) => format_items(items, moment, out)?,
        }
    }
    Ok(())
}

fn name_of(text: Text, full: bool, year: i64, month: u32, days: i64, hour: i64) -> String {
    let cut = |name: &str| if full { name.to_string() } else { name[..3].to_string() };
    match text {
        Text::Month => cut(MONTHS[(month - 1) as usize % 12]),
        Text::DayOfWeek => cut(DAYS[weekday(days)]),
        Text::Half => {
            if hour < 12 {
                "AM".into()
            } else {
                "PM".into()
            }
        }
        Text::Era => match (year > 0, full) {
            (true, false) => "AD".into(),
            (true, true) => "Anno Domini".into(),
            (false, false) => "BC".into(),
            (false, true) => "Before Christ".into(),
        },
        Text::Quarter => {
            let quarter = (month - 1) / 3 + 1;
            if full { format!("{} quarter", ["1st", "2nd", "3rd", "4th"][(quarter - 1) as usize % 4]) } else { format!("Q{quarter}") }
        }
    }
}

/// 0 is Monday. Day 0, 1970-01-01, was a Thursday.
pub(crate) fn weekday(days: i64) -> usize {
    (days + 3).rem_euclid(7) as usize
}

pub(crate) fn day_of_year(year: i64, month: u32, day: u32) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    BEFORE[(month - 1) as usize % 12] + i64::from(day) + i64::from(month > 2 && is_leap(year))
}

pub(crate) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn offset_text(offset: i32, count: usize, zulu: bool) -> String {
    if zulu && offset == 0 {
        return "Z".into();
    }
    let sign = if offset < 0 { '-' } else { '+' };
    let (h, m, s) = (offset.abs() / 3600, offset.abs() / 60 % 60, offset.abs() % 60);
    let colon = if matches!(count, 3 | 5) { ":" } else { "" };
    let mut out = format!("{sign}{h:02}");
    if count > 1 || m != 0 {
        out.push_str(&format!("{colon}{m:02}"));
    }
    if count >= 4 && s != 0 {
        out.push_str(&format!("{colon}{s:02}"));
    }
    out
}

fn gmt_offset_text(offset: i32, full: bool) -> String {
    if offset == 0 {
        return "GMT".into();
    }
    let sign = if offset < 0 { '-' } else { '+' };
    let (h, m, s) = (offset.abs() / 3600, offset.abs() / 60 % 60, offset.abs() % 60);
    let mut out = if full { format!("GMT{sign}{h:02}:{m:02}") } else { format!("GMT{sign}{h}") };
    if !full && (m != 0 || s != 0) {
        out.push_str(&format!(":{m:02}"));
    }
    if s != 0 {
        out.push_str(&format!(":{s:02}"));
    }
    out
}

#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    year: Option<i64>,
    year_of_era: Option<i64>,
    /// True is AD.
    era: Option<bool>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    /// True is PM.
    half: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    micros: Option<i64>,
    zone: Option<Zone>,
}

impl Fields {
    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let (slot, value, range) = match field {
            Field::Year => (&mut self.year, value, -999_999_999..=999_999_999),
            Field::YearOfEra => (&mut self.year_of_era, value, 1..=999_999_999),
            Field::Month => (&mut self.month, value, 1..=12),
            Field::Day => (&mut self.day, value, 1..=31),
            Field::DayOfYear => (&mut self.day_of_year, value, 1..=366),
            Field::Hour => (&mut self.hour, value, 0..=23),
            Field::ClockHour if (1..=24).contains(&value) => (&mut self.hour, value % 24, 0..=23),
            Field::HourOfHalf => (&mut self.hour_of_half, value, 0..=11),
            Field::ClockHourOfHalf if (1..=12).contains(&value) => (&mut self.hour_of_half, value % 12, 0..=11),
            Field::Minute => (&mut self.minute, value, 0..=59),
            Field::Second => (&mut self.second, value, 0..=59),
            Field::ClockHour | Field::ClockHourOfHalf | Field::Quarter | Field::AlignedDayOfWeekInMonth => return None,
        };
        // A field given twice must agree.
        if !range.contains(&value) || slot.is_some_and(|v| v != value) {
            return None;
        }
        *slot = Some(value);
        Some(())
    }

    fn resolve(self) -> Option<Parsed> {
        let year = match (self.year, self.year_of_era, self.era) {
            (Some(y), None, None) => y,
            (None, Some(y), Some(true)) => y,
            (None, Some(y), Some(false)) => 1 - y,
            (None, None, _) => 1970,
            _ => return None,
        };
        let days = match self.day_of_year {
            Some(n) if self.year.is_some() || self.year_of_era.is_some() => {
                let first = days_of(year, 1, 1)?;
                let days = first + n - 1;
                let (y, m, d) = civil(days);
                let agrees = y == year && self.month.is_none_or(|v| v == i64::from(m)) && self.day.is_none_or(|v| v == i64::from(d));
                if !agrees {
                    return None;
                }
                days
            }
            Some(_) => return None,
            None => days_of(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = match (self.hour, self.hour_of_half, self.half) {
            (Some(h), half_hour, half) => {
                if half_hour.is_some_and(|v| v != h % 12) || half.is_some_and(|pm| pm != (h >= 12)) {
                    return None;
                }
                h
            }
            (None, Some(h), half) => h + if half == Some(true) { 12 } else { 0 },
            (None, None, Some(true)) => 12,
            (None, None, _) => 0,
        };
        let seconds = hour * 3600 + self.minute.unwrap_or(0) * 60 + self.second.unwrap_or(0);
        let local = days.checked_mul(MICROS_PER_DAY)?.checked_add(seconds * MICROS_PER_SECOND + self.micros.unwrap_or(0))?;
        Some(Parsed { local, zone: self.zone })
    }
}

/// Days since 1970-01-01; `None` for a date that doesn't exist.
pub(crate) fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let cycles = (year - 2000).div_euclid(400);
    let date = NaiveDate::from_ymd_opt((year - cycles * 400) as i32, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
    Some(i64::from(date.num_days_from_ce()) - 719_163 + cycles * 146_097)
}

fn parse_items<'a>(items: &[Item], text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    let mut rest = text;
    for item in items {
        rest = match item {
            Item::Literal(literal) => strip_ignoring_case(rest, literal)?,
            Item::Number { field, min, max, sign, after } => {
                let (value, left) = number(rest, *min, *max, *sign, *after)?;
                fields.set(*field, value)?;
                left
            }
            Item::TwoDigitYear { field, after } => {
                let (value, left) = number(rest, 2, 2, Sign::NotNegative, *after)?;
                fields.set(*field, 2000 + value)?;
                left
            }
            Item::Text { text, full } => parse_text(rest, *text, *full, fields)?,
            Item::Fraction { min, max } => {
                let digits: String = rest.chars().take(*max).take_while(char::is_ascii_digit).collect();
                if digits.len() < *min {
                    return None;
                }
                let padded = format!("{digits:0<9}");
                // Below a microsecond nothing is kept.
                fields.micros = Some(padded[..6].parse().ok()?);
                &rest[digits.len()..]
            }
            Item::Offset { count, zulu } => parse_offset(rest, *count, *zulu, fields)?,
            Item::ZoneId => {
                let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_/+-:".contains(c))).unwrap_or(rest.len());
                fields.zone = Some(Zone::parse(&rest[..len])?);
                &rest[len..]
            }
            Item::GmtOffset { .. } | Item::ZoneName { .. } => return None,
            Item::Optional(items) => {
                let mut tried = *fields;
                match parse_items(items, rest, &mut tried) {
                    Some(left) => {
                        *fields = tried;
                        left
                    }
                    None => rest,
                }
            }
        };
    }
    Some(rest)
}

fn strip_ignoring_case<'a>(text: &'a str, literal: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    for c in literal.chars() {
        let d = rest.next()?;
        if c != d && !c.to_uppercase().eq(d.to_uppercase()) && !c.to_lowercase().eq(d.to_lowercase()) {
            return None;
        }
    }
    Some(rest.as_str())
}

/// Java's strict number parsing, which leaves `after` digits to the fixed numbers behind it.
fn number(text: &str, min: usize, max: usize, sign: Sign, after: usize) -> Option<(i64, &str)> {
    let (negative, positive, body) = match text.as_bytes().first()? {
        b'-' => (true, false, &text[1..]),
        b'+' => (false, true, &text[1..]),
        _ => (false, false, text),
    };
    // In strict parsing a plus needs a field that exceeds its width; a minus, one that may be negative.
    let sign_allowed = match sign {
        Sign::Normal => !positive,
        Sign::NotNegative => !positive && !negative,
        Sign::ExceedsPad => true,
    };
    if !sign_allowed {
        return None;
    }
    let digits = |most: usize| body.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let mut len = digits(max + after);
    if after > 0 {
        len = digits(min.max(len.saturating_sub(after)));
    }
    if len < min || len == 0 || len > 18 {
        return None;
    }
    if sign == Sign::ExceedsPad && !negative && (positive != (len > min)) {
        return None;
    }
    let value: i64 = body[..len].parse().ok()?;
    if negative && value == 0 {
        return None;
    }
    Some((if negative { -value } else { value }, &body[len..]))
}

fn parse_text<'a>(text: &'a str, what: Text, full: bool, fields: &mut Fields) -> Option<&'a str> {
    let cut = |name: &'static str| if full { name } else { &name[..3] };
    match what {
        Text::Month => {
            let (month, rest) =
                MONTHS.iter().enumerate().find_map(|(i, name)| strip_ignoring_case(text, cut(name)).map(|rest| (i, rest)))?;
            fields.set(Field::Month, month as i64 + 1)?;
            Some(rest)
        }
        Text::Half => {
            let (pm, rest) =
                ["AM", "PM"].iter().enumerate().find_map(|(i, name)| strip_ignoring_case(text, name).map(|rest| (i == 1, rest)))?;
            fields.half = Some(pm);
            Some(rest)
        }
        Text::Era => {
            let names = if full { ["Anno Domini", "Before Christ"] } else { ["AD", "BC"] };
            let (bc, rest) = names.iter().enumerate().find_map(|(i, name)| strip_ignoring_case(text, name).map(|rest| (i == 1, rest)))?;
            fields.era = Some(!bc);
            Some(rest)
        }
        Text::DayOfWeek | Text::Quarter => None,
    }
}

fn parse_offset<'a>(text: &'a str, count: usize, zulu: bool, fields: &mut Fields) -> Option<&'a str> {
    if zulu && let Some(rest) = strip_ignoring_case(text, "Z") {
        fields.zone = Some(Zone::UTC);
        return Some(rest);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let colon = matches!(count, 3 | 5);
    let mut rest = &text[1..];
    let mut parts = [0i32; 3];
    for (i, part) in parts.iter_mut().enumerate() {
        let required = i == 0 || (i == 1 && count > 1);
        let possible = i < 2 || count >= 4;
        let body = if i > 0 && colon { rest.strip_prefix(':') } else { Some(rest) };
        let two = body.filter(|b| b.len() >= 2 && b.bytes().take(2).all(|c| c.is_ascii_digit()));
        match two {
            Some(body) if possible => {
                *part = body[..2].parse().ok()?;
                rest = &body[2..];
            }
            _ if required => return None,
            _ => break,
        }
    }
    let [h, m, s] = parts;
    let total = h * 3600 + m * 60 + s;
    if m > 59 || s > 59 || total > 18 * 3600 {
        return None;
    }
    fields.zone = Some(Zone::Fixed(sign * total));
    Some(rest)
}
