//! Time zones as Databricks reads and applies them: names, offsets, and the two directions between
//! instants and wall clocks, with Java's rules at the two yearly jumps.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Java's widest zone offset.
const OFFSET_SECONDS_MAX: i32 = 18 * 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Seconds east of UTC.
    Fixed(i32),
    Named(Tz),
}

impl Zone {
    pub(crate) const UTC: Zone = Zone::Fixed(0);

    /// `UTC`, `Z`, `+3`, `+03:00`, `GMT+3`, an IANA name, or one of Java's short names.
    pub(crate) fn parse(text: &str) -> Option<Zone> {
        let text = text.trim();
        match text {
            "Z" | "UTC" | "GMT" | "UT" => return Some(Zone::UTC),
            _ => {}
        }
        if text.starts_with(['+', '-']) {
            return offset(text).map(Zone::Fixed);
        }
        for prefix in ["UTC", "GMT", "UT"] {
            if let Some(rest) = text.strip_prefix(prefix)
                && rest.starts_with(['+', '-'])
            {
                return offset(rest).map(Zone::Fixed);
            }
        }
        let name = match short_name(text) {
            Some(Ok(name)) => name,
            Some(Err(fixed)) => return Some(Zone::Fixed(fixed)),
            None => text,
        };
        match name.parse::<Tz>() {
            Ok(Tz::UTC | Tz::Etc__UTC) => Some(Zone::UTC),
            Ok(tz) => Some(Zone::Named(tz)),
            Err(_) => None,
        }
    }

    pub(crate) fn is_utc(self) -> bool {
        self == Zone::UTC
    }

    /// The wall clock at an instant, both in microseconds (a wall clock as if it were UTC).
    pub(crate) fn to_local(self, instant: i64) -> Option<i64> {
        let seconds = match self {
            Zone::Fixed(seconds) => seconds,
            Zone::Named(tz) => tz.offset_from_utc_datetime(&naive(instant)?).fix().local_minus_utc(),
        };
        instant.checked_add(i64::from(seconds) * MICROS_PER_SECOND)
    }

    /// The instant of a wall clock. One that a jump skips counts from before the jump (so it moves
    /// forward by the jump); of one that occurs twice the earlier is meant.
    pub(crate) fn to_instant(self, local: i64) -> Option<i64> {
        let seconds = match self {
            Zone::Fixed(seconds) => seconds,
            Zone::Named(tz) => {
                let wall = naive(local)?;
                match tz.offset_from_local_datetime(&wall) {
                    LocalResult::Single(offset) => offset.fix().local_minus_utc(),
                    LocalResult::Ambiguous(earlier, _) => earlier.fix().local_minus_utc(),
                    LocalResult::None => {
                        let day_before = naive(local.checked_sub(SECONDS_PER_DAY * MICROS_PER_SECOND)?)?;
                        tz.offset_from_utc_datetime(&day_before).fix().local_minus_utc()
                    }
                }
            }
        };
        local.checked_sub(i64::from(seconds) * MICROS_PER_SECOND)
    }
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc())
}

/// `+h`, `+hh`, `+h:mm`, `+hh:m`, `+hh:mm`, `+hhmm`, `+hh:mm:ss`, `+hhmmss` in seconds.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    if !rest.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let parts: Vec<&str> = if rest.contains(':') {
        rest.split(':').collect()
    } else {
        match rest.len() {
            1 | 2 => vec![rest],
            4 => vec![&rest[..2], &rest[2..]],
            6 => vec![&rest[..2], &rest[2..4], &rest[4..]],
            _ => return None,
        }
    };
    if parts.len() > 3 || parts.iter().any(|p| p.is_empty() || p.len() > 2) || (parts.len() == 3 && parts[1].len() + parts[2].len() != 4) {
        return None;
    }
    let mut numbers = [0_i32; 3];
    for (slot, part) in numbers.iter_mut().zip(&parts) {
        *slot = part.parse().ok()?;
    }
    let [hours, minutes, seconds] = numbers;
    let total = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && total <= OFFSET_SECONDS_MAX).then_some(sign * total)
}

/// Java's `ZoneId.SHORT_IDS`: a name, or a fixed offset in seconds.
fn short_name(text: &str) -> Option<Result<&'static str, i32>> {
    Some(match text {
        "ACT" => Ok("Australia/Darwin"),
        "AET" => Ok("Australia/Sydney"),
        "AGT" => Ok("America/Argentina/Buenos_Aires"),
        "ART" => Ok("Africa/Cairo"),
        "AST" => Ok("America/Anchorage"),
        "BET" => Ok("America/Sao_Paulo"),
        "BST" => Ok("Asia/Dhaka"),
        "CAT" => Ok("Africa/Harare"),
        "CNT" => Ok("America/St_Johns"),
        "CST" => Ok("America/Chicago"),
        "CTT" => Ok("Asia/Shanghai"),
        "EAT" => Ok("Africa/Addis_Ababa"),
        "ECT" => Ok("Europe/Paris"),
        "IET" => Ok("America/Indiana/Indianapolis"),
        "IST" => Ok("Asia/Kolkata"),
        "JST" => Ok("Asia/Tokyo"),
        "MIT" => Ok("Pacific/Apia"),
        "NET" => Ok("Asia/Yerevan"),
        "NST" => Ok("Pacific/Auckland"),
        "PLT" => Ok("Asia/Karachi"),
        "PNT" => Ok("America/Phoenix"),
        "PRT" => Ok("America/Puerto_Rico"),
        "PST" => Ok("America/Los_Angeles"),
        "SST" => Ok("Pacific/Guadalcanal"),
        "VST" => Ok("Asia/Ho_Chi_Minh"),
        "EST" => Err(-5 * 3600),
        "MST" => Err(-7 * 3600),
        "HST" => Err(-10 * 3600),
        _ => return None,
    })
}
