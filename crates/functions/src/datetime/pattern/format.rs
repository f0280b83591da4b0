//! Writing a moment by a pattern, in US English.

use flightpath_types::{Error, Result};

use super::{DAYS, Field, Item, MICROS_PER_DAY, MICROS_PER_SECOND, MONTHS, Moment, Sign, Text};
use crate::cast::civil;

pub(super) fn format_items(items: &[Item], moment: &Moment<'_>, out: &mut String) -> Result<()> {
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

fn is_leap(year: i64) -> bool {
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
