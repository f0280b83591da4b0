//! Reading a text by a pattern, strictly, and making a date of the fields it has.

use chrono::{Datelike, NaiveDate};

use super::{Field, Item, MICROS_PER_DAY, MICROS_PER_SECOND, MONTHS, Parsed, Sign, Text};
use crate::cast::civil;
use crate::cast::zone::Zone;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fields {
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

    pub(super) fn resolve(self) -> Option<Parsed> {
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

pub(super) fn parse_items<'a>(items: &[Item], text: &'a str, fields: &mut Fields) -> Option<&'a str> {
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
