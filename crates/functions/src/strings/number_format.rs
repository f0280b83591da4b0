//! `FORMAT_NUMBER`: grouped decimal text, rounded half even on the exact value.

use flightpath_types::{Error, Result};

/// What a pattern such as `#,##0.00` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub whole_min: usize,
    pub fraction_min: usize,
    pub fraction_max: usize,
    /// Digits per group; 0 for no groups.
    pub group: usize,
}

/// Java writes lesser doubles with an exponent.
const SCIENTIFIC_BELOW: f64 = 1e-3;

impl Pattern {
    /// What `FORMAT_NUMBER(x, digits)` uses.
    pub(crate) fn digits(digits: usize) -> Self {
        Self { whole_min: 1, fraction_min: digits, fraction_max: digits, group: 3 }
    }

    /// Patterns of `#`, `0`, `,` and one `.`; others are refused.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refuse = || Error::not_eligible(format!("the number format '{text}' isn't known; use '#', '0', ',' and '.'"));
        if text.is_empty() {
            return Ok(Self::digits(0));
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let group = whole.rfind(',').map_or(0, |at| whole.len() - at - 1);
        let plain: String = whole.chars().filter(|c| *c != ',').collect();
        let zeros = plain.trim_start_matches('#');
        let hashes = fraction.trim_start_matches('0');
        let ok = !plain.is_empty()
            && zeros.chars().all(|c| c == '0')
            && hashes.chars().all(|c| c == '#')
            && (!whole.contains(',') || group > 0)
            && !whole.starts_with(',')
            && !(zeros.is_empty() && fraction.is_empty() && plain.is_empty());
        if !ok {
            return Err(refuse());
        }
        // A pattern without a single `0` prints one digit in front of the point at least.
        let whole_min = if zeros.is_empty() && hashes.len() == fraction.len() { 1 } else { zeros.len() };
        Ok(Self { whole_min, fraction_min: fraction.len() - hashes.len(), fraction_max: fraction.len(), group })
    }

    pub(crate) fn format_double(&self, value: f64) -> String {
        if value.is_nan() {
            return "NaN".into();
        }
        if value.is_infinite() {
            return if value > 0.0 { "∞".into() } else { "-∞".into() };
        }
        // Java's digits are the shortest ones that read back, zeros behind them; where some have to go, the
        // exact binary value is rounded half even.
        let shortest = format!("{}", value.abs());
        let has = shortest.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let text = if has <= self.fraction_max {
            shortest
        } else if value.abs() < SCIENTIFIC_BELOW && has == self.fraction_max + 1 && shortest.trim_start_matches(['0', '.']) == "5" {
            // Java reads such a number's digits from `5.0E-4`: what follows the five is nothing, so it's cut off.
            "0".into()
        } else {
            format!("{:.*}", self.fraction_max, value.abs())
        };
        self.assemble(value.is_sign_negative(), &text)
    }

    pub(crate) fn format_decimal(&self, unscaled: i128, scale: usize) -> String {
        let magnitude = unscaled.unsigned_abs();
        let (kept, scale) = if scale > self.fraction_max {
            // At most 38 digits are cut, which `10^n` as u128 holds.
            let unit = 10u128.pow((scale - self.fraction_max) as u32);
            let (quotient, rest) = (magnitude / unit, magnitude % unit);
            let up = rest > unit - rest || (rest == unit - rest && quotient % 2 == 1);
            (quotient + u128::from(up), self.fraction_max)
        } else {
            (magnitude, scale)
        };
        let digits = format!("{kept:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        self.assemble(unscaled < 0, &if scale == 0 { whole.to_string() } else { format!("{whole}.{fraction}") })
    }

    fn assemble(&self, negative: bool, plain: &str) -> String {
        let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
        let whole = whole.trim_start_matches('0');
        let whole = format!("{whole:0>width$}", width = self.whole_min);
        let mut fraction = fraction.to_string();
        while fraction.len() > self.fraction_min && fraction.ends_with('0') {
            fraction.pop();
        }
        while fraction.len() < self.fraction_min {
            fraction.push('0');
        }
        let mut out = String::from(if negative { "-" } else { "" });
        for (i, c) in whole.chars().enumerate() {
            if self.group > 0 && i > 0 && (whole.len() - i).is_multiple_of(self.group) {
                out.push(',');
            }
            out.push(c);
        }
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(&fraction);
        }
        out
    }
}
