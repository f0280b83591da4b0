//! Java's date-time patterns as Databricks takes them: formatting and strict parsing, US English.

mod duck;
mod format;
mod parse;

use flightpath_types::{Error, ErrorKind, Result};

pub(crate) use format::{day_of_year, weekday};
pub(crate) use parse::days_of;

use crate::cast::zone::Zone;
use format::format_items;
use parse::{Fields, parse_items};

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
