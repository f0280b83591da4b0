//! Arithmetic that stays finite. Facts and features come from outside; a NaN among them must never
//! reach a comparison or a record.

/// Between the bounds; the lower one for what isn't a number.
pub(crate) fn clamped(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() { low } else { value.clamp(low, high) }
}

/// The nearest whole number of bytes or rows; 0 for what isn't a number.
pub(crate) fn saturating_u64(value: f64) -> u64 {
    // A cast saturates, and makes 0 of NaN.
    value as u64
}

/// `1.5 GB`: decimal units, as storage is sold.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `12 ms`, `3.4 s`, `5.0 min`.
pub(crate) fn millis_text(ms: f64) -> String {
    match ms {
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 120_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms => format!("{:.1} min", ms / 60_000.0),
    }
}

/// `$0.00012`: two significant digits, however small.
pub(crate) fn usd_text(usd: f64) -> String {
    if usd <= 0.0 {
        return "$0".into();
    }
    if usd >= 0.1 {
        return format!("${usd:.2}");
    }
    let digits = (1.0 - usd.log10().floor()).clamp(2.0, 12.0) as usize;
    format!("${usd:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_would_write_them() {
        assert_eq!((bytes_text(999), bytes_text(1_500_000_000)), ("999 B".into(), "1.5 GB".into()));
        assert_eq!((millis_text(12.3), millis_text(3_400.0), millis_text(300_000.0)), ("12 ms".into(), "3.4 s".into(), "5.0 min".into()));
        assert_eq!((usd_text(0.0), usd_text(1.234), usd_text(0.000_123)), ("$0".into(), "$1.23".into(), "$0.00012".into()));
    }

    #[test]
    fn what_isnt_a_number_becomes_the_lower_bound() {
        assert_eq!((clamped(f64::NAN, 1.0, 2.0), clamped(f64::INFINITY, 1.0, 2.0)), (1.0, 2.0));
        assert_eq!((saturating_u64(f64::NAN), saturating_u64(f64::INFINITY)), (0, u64::MAX));
    }
}
