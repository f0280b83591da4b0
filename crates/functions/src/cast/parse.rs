//! Reading values from text as `CAST(string AS ...)` does under ANSI rules: `None` is malformed.

use chrono::{NaiveDate, Utc};

use super::zone::Zone;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// White space and control characters at both ends don't count.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ' || c == '\u{7f}')
}

pub(crate) fn integer(text: &str) -> Option<i64> {
    let text = trim(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

pub(crate) fn boolean(text: &str) -> Option<bool> {
    let text = trim(text);
    let is = |names: [&str; 5]| names.iter().any(|n| text.eq_ignore_ascii_case(n));
    if is(["t", "true", "y", "yes", "1"]) {
        Some(true)
    } else if is(["f", "false", "n", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// Java's `parseDouble` with a few more names for infinity; hexadecimal floats aren't taken.
pub(crate) fn double(text: &str) -> Option<f64> {
    let text = trim(text);
    match named_float(text) {
        Some(v) => Some(v),
        None => float_body(text)?.parse().ok(),
    }
}

pub(crate) fn float(text: &str) -> Option<f32> {
    let text = trim(text);
    match named_float(text) {
        Some(v) => Some(v as f32),
        None => float_body(text)?.parse().ok(),
    }
}

fn named_float(text: &str) -> Option<f64> {
    let (negative, signed, name) = match text.as_bytes().first()? {
        b'-' => (true, true, &text[1..]),
        b'+' => (false, true, &text[1..]),
        _ => (false, false, text),
    };
    if name.eq_ignore_ascii_case("inf") || name.eq_ignore_ascii_case("infinity") {
        return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    // Java itself takes a signed NaN in this very spelling.
    (name == "NaN" || (!signed && name.eq_ignore_ascii_case("nan"))).then_some(f64::NAN)
}

/// Digits, a point and an exponent, without Java's type suffix.
fn float_body(text: &str) -> Option<&str> {
    let body = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    is_number(body).then_some(body)
}

fn is_number(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let points = mantissa.bytes().filter(|b| *b == b'.').count();
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit())
    });
    digits > 0 && points <= 1 && digits + points == mantissa.len() && exponent_ok
}

/// What became of text on its way into a decimal.
pub(crate) enum DecimalText {
    Value(i128),
    Malformed,
    /// A number, but too wide.
    OutOfRange,
}

/// Rounds HALF_UP to `scale` digits.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> DecimalText {
    let text = trim(text);
    if !is_number(text) {
        return DecimalText::Malformed;
    }
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => match rest[at + 1..].parse::<i64>() {
            Ok(e) if e.abs() <= i64::from(i32::MAX) => (&rest[..at], e),
            _ => return DecimalText::Malformed,
        },
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value: i128 = 0;
    let mut round_up = false;
    // Digits that count: those up to `scale` places behind the point after the exponent moved it.
    let keep = whole.len() as i64 + exponent + i64::from(scale);
    let mut taken: i64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).map(|b| i128::from(b - b'0')) {
        if taken < keep {
            match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
                Some(v) => value = v,
                None => return DecimalText::OutOfRange,
            }
        } else {
            round_up = taken == keep && digit >= 5;
            break;
        }
        taken += 1;
    }
    if value != 0 {
        for _ in taken..keep {
            match value.checked_mul(10) {
                Some(v) => value = v,
                None => return DecimalText::OutOfRange,
            }
        }
    }
    let value = value + i128::from(round_up);
    if value >= 10_i128.pow(u32::from(precision)) {
        return DecimalText::OutOfRange;
    }
    DecimalText::Value(if negative { -value } else { value })
}

/// Days since 1970-01-01.
pub(crate) fn date(text: &str) -> Option<i32> {
    let bytes = trim(text).as_bytes();
    let (sign, bytes) = signed(bytes)?;
    let mut segments = [1_i32; 3];
    let (mut i, mut value, mut digits, mut at) = (0, 0_i32, 0, 0);
    while at < bytes.len() && bytes[at] != b' ' && bytes[at] != b'T' {
        match bytes[at] {
            b'-' if i < 2 => {
                if !date_digits(i, digits) {
                    return None;
                }
                segments[i] = value;
                (value, digits, i) = (0, 0, i + 1);
            }
            b @ b'0'..=b'9' => {
                digits += 1;
                if digits > 7 {
                    return None;
                }
                value = value * 10 + i32::from(b - b'0');
            }
            _ => return None,
        }
        at += 1;
    }
    if !date_digits(i, digits) || (i < 2 && at < bytes.len()) {
        return None;
    }
    segments[i] = value;
    days(sign * segments[0], segments[1], segments[2])
}

fn signed(bytes: &[u8]) -> Option<(i32, &[u8])> {
    Some(match bytes.first()? {
        b'-' => (-1, &bytes[1..]),
        b'+' => (1, &bytes[1..]),
        _ => (1, bytes),
    })
}

fn date_digits(segment: usize, digits: usize) -> bool {
    if segment == 0 { (4..=7).contains(&digits) } else { (1..=2).contains(&digits) }
}

/// Proleptic Gregorian, any year that DATE holds.
pub(crate) fn days(year: i32, month: i32, day: i32) -> Option<i32> {
    // Chrono ends at year 262142; shift by whole 400-year cycles, which have a fixed length.
    let cycles = (year - 2000).div_euclid(400);
    let date = NaiveDate::from_ymd_opt(year - cycles * 400, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
    let within = i64::from(date.to_epoch_days());
    i32::try_from(within + i64::from(cycles) * 146_097).ok()
}

/// A timestamp's parts as text gives them.
pub(crate) struct TimestampText {
    /// Wall clock in microseconds as if it were UTC.
    pub(crate) local: i64,
    pub(crate) zone: Option<Zone>,
    /// Only a time of day was given: `local` counts from midnight.
    pub(crate) time_only: bool,
}

/// TIMESTAMP: an instant, wall clocks without a zone are the session's.
pub(crate) fn timestamp(text: &str, session: Zone) -> Option<i64> {
    let parsed = timestamp_text(text)?;
    let zone = parsed.zone.unwrap_or(session);
    let local = if parsed.time_only {
        let today = zone.to_local(Utc::now().timestamp_micros())?.div_euclid(MICROS_PER_DAY);
        parsed.local + today * MICROS_PER_DAY
    } else {
        parsed.local
    };
    zone.to_instant(local)
}

/// TIMESTAMP_NTZ: a zone is read and dropped.
pub(crate) fn timestamp_ntz(text: &str) -> Option<i64> {
    timestamp_text(text).filter(|t| !t.time_only).map(|t| t.local)
}

pub(crate) fn timestamp_text(text: &str) -> Option<TimestampText> {
    let text = trim(text);
    let mut year_sign = None;
    let body = match text.as_bytes().first()? {
        b'-' => {
            year_sign = Some(-1);
            &text[1..]
        }
        b'+' => {
            year_sign = Some(1);
            &text[1..]
        }
        _ => text,
    };
    let bytes = body.as_bytes();
    // Year, month, day, hour, minute, second, microseconds.
    let mut segments = [1_i32, 1, 1, 0, 0, 0, 0];
    let (mut i, mut value, mut digits) = (0_usize, 0_i32, 0_usize);
    let mut time_only = false;
    let mut zone = None;
    for (at, b) in bytes.iter().copied().enumerate() {
        if b.is_ascii_digit() {
            if i != 6 || digits < 6 {
                value = value.checked_mul(10)?.checked_add(i32::from(b - b'0'))?;
            }
            digits += 1;
            continue;
        }
        let next = match (i, b) {
            (0, b'T') if at == 0 && year_sign.is_none() => {
                time_only = true;
                i = 3;
                continue;
            }
            (0 | 1, b'-') => i + 1,
            (0, b':') if year_sign.is_none() => {
                time_only = true;
                i = 3;
                4
            }
            (2, b' ' | b'T') => 3,
            (3 | 4, b':') => i + 1,
            (5, b'.') => 6,
            (5 | 6, _) => {
                zone = Some(Zone::parse(&body[at..])?);
                break;
            }
            _ => return None,
        };
        if !timestamp_digits(i, digits) {
            return None;
        }
        segments[i] = value;
        (i, value, digits) = (next, 0, 0);
    }
    if !timestamp_digits(i, digits) {
        return None;
    }
    segments[i] = value;
    if i == 6 {
        segments[6] *= 10_i32.pow(6_u32.saturating_sub(digits as u32));
    }
    let [year, month, day, hour, minute, second, micros] = segments;
    let days = if time_only { 0 } else { days(year * year_sign.unwrap_or(1), month, day)? };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    let local = i64::from(days).checked_mul(MICROS_PER_DAY)?.checked_add(seconds * MICROS_PER_SECOND + i64::from(micros))?;
    Some(TimestampText { local, zone, time_only })
}

fn timestamp_digits(segment: usize, digits: usize) -> bool {
    match segment {
        0 => (4..=6).contains(&digits),
        6 => true,
        _ => (1..=2).contains(&digits),
    }
}
