//! `FORMAT_STRING`: Java's format specifiers, those whose result is certain.

use flightpath_types::{Error, Result};

/// One argument's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Text(String),
    Bool(bool),
    /// With the width in bits, which decides how negatives look in hexadecimal.
    Int(i64, u32),
    Double(f64),
    Float(f32),
    /// Unscaled value and scale.
    Decimal(i128, usize),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Literal(String),
    Spec(Spec),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    pub(super) index: Index,
    pub(super) flags: Flags,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
    pub(super) conversion: char,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Index {
    Next,
    Previous,
    At(usize),
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Flags {
    pub(super) left: bool,
    pub(super) plus: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    pub(super) group: bool,
    pub(super) parentheses: bool,
    /// `#`: `0x` or `0` before hexadecimal and octal digits.
    pub(super) alternate: bool,
}

/// A format once parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Format(pub(super) Vec<Piece>);

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            let (spec, len) = parse_spec(&rest[at + 1..]).ok_or_else(|| invalid(text))?;
            rest = &rest[at + 1 + len..];
            match spec.conversion {
                '%' if spec.width == 0 => literal.push('%'),
                'n' => literal.push('\n'),
                _ => {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    pieces.push(Piece::Spec(spec));
                }
            }
        }
        literal.push_str(rest);
        pieces.push(Piece::Literal(literal));
        Ok(Self(pieces))
    }

    pub(crate) fn format(&self, args: &[Value]) -> Result<String> {
        let mut out = String::new();
        let (mut next, mut previous) = (0usize, None);
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Spec(spec) => {
                    let index = match spec.index {
                        Index::At(n) => n - 1,
                        Index::Previous => previous.ok_or_else(|| invalid("%<"))?,
                        Index::Next => {
                            next += 1;
                            next - 1
                        }
                    };
                    previous = Some(index);
                    let value = args.get(index).ok_or_else(|| invalid("more specifiers than arguments"))?;
                    out.push_str(&spec.pad(spec.format(value)?));
                }
            }
        }
        Ok(out)
    }
}

fn parse_spec(text: &str) -> Option<(Spec, usize)> {
    let mut spec = Spec { index: Index::Next, flags: Flags::default(), width: 0, precision: None, conversion: ' ' };
    let bytes = text.as_bytes();
    let mut at = 0;
    let number = |from: usize| {
        let len = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        (len, text[from..from + len].parse::<usize>().ok())
    };
    let (len, value) = number(0);
    if len > 0 && bytes.get(len) == Some(&b'$') {
        spec.index = Index::At(value.filter(|v| *v > 0)?);
        at = len + 1;
    } else if bytes.first() == Some(&b'<') {
        spec.index = Index::Previous;
        at = 1;
    }
    loop {
        let flag = match bytes.get(at)? {
            b'-' => &mut spec.flags.left,
            b'+' => &mut spec.flags.plus,
            b' ' => &mut spec.flags.space,
            b'0' => &mut spec.flags.zero,
            b',' => &mut spec.flags.group,
            b'(' => &mut spec.flags.parentheses,
            b'#' => &mut spec.flags.alternate,
            _ => break,
        };
        if std::mem::replace(flag, true) {
            return None;
        }
        at += 1;
    }
    let (len, value) = number(at);
    if len > 0 {
        // A width beyond any use would only take memory.
        spec.width = value.filter(|w| *w <= 1 << 20)?;
        at += len;
    }
    if bytes.get(at) == Some(&b'.') {
        let (len, value) = number(at + 1);
        spec.precision = Some(value.filter(|p| *p <= 1 << 10)?);
        at += 1 + len;
    }
    spec.conversion = text[at..].chars().next()?;
    let needs_width = (spec.flags.left || spec.flags.zero) && spec.width == 0;
    let conflict = (spec.flags.left && spec.flags.zero) || (spec.flags.plus && spec.flags.space);
    (!needs_width && !conflict).then(|| (spec.clone(), at + spec.conversion.len_utf8()))
}

impl Spec {
    fn format(&self, value: &Value) -> Result<String> {
        let upper = self.conversion.is_ascii_uppercase();
        let widened;
        let value = match (value, self.conversion.to_ascii_lowercase()) {
            // Only as a text does a float differ from the double it widens to.
            (Value::Float(v), c) if c != 's' => {
                widened = Value::Double(f64::from(*v));
                &widened
            }
            (value, _) => value,
        };
        let numeric_flags = self.flags.plus || self.flags.space || self.flags.zero || self.flags.group || self.flags.parentheses;
        let text = match (self.conversion.to_ascii_lowercase(), value) {
            ('d' | 'x' | 'o' | 'e' | 'f' | 'g' | 'c', Value::Null) | ('s', Value::Null) => self.cut("null".into()),
            ('b', Value::Null) => "false".into(),
            ('b', Value::Bool(b)) => self.cut(b.to_string()),
            ('b', _) => self.cut("true".into()),
            ('s', _) if numeric_flags => return Err(invalid("a numeric flag with %s")),
            ('s', Value::Text(text)) => self.cut(text.clone()),
            ('s', Value::Bool(b)) => self.cut(b.to_string()),
            ('s', Value::Int(v, _)) => self.cut(v.to_string()),
            ('s', Value::Double(v)) => self.cut(crate::cast::double_text(*v)),
            ('s', Value::Float(v)) => self.cut(crate::cast::float_text(*v)),
            ('s', Value::Decimal(v, s)) => self.cut(java_decimal(*v, *s)),
            ('d', Value::Int(v, _)) if self.precision.is_none() => self.signed(*v < 0, v.unsigned_abs().to_string(), ""),
            ('x', Value::Int(v, bits)) if self.is_plain_radix() => self.radix("0x", format!("{:x}", *v as u64 & mask(*bits))),
            ('o', Value::Int(v, bits)) if self.is_plain_radix() => self.radix("0", format!("{:o}", *v as u64 & mask(*bits))),
            ('c', Value::Int(v, 32)) if !numeric_flags => match u32::try_from(*v).ok().and_then(char::from_u32) {
                Some(c) => c.to_string(),
                None => return Err(invalid("a number that is no character for %c")),
            },
            ('f', Value::Double(v)) if v.is_finite() && !upper => {
                let text = round_shortest(v.abs(), self.precision.unwrap_or(6));
                let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
                self.signed(v.is_sign_negative(), whole.to_string(), fraction)
            }
            ('f' | 'e' | 'g', Value::Double(v)) if !(v.is_finite() || upper && self.conversion == 'F') => self.not_finite(*v),
            ('e', Value::Double(v)) if !self.flags.group => self.scientific(*v, self.precision.unwrap_or(6)),
            ('g', Value::Double(v)) => self.general(*v),
            // Java's formatter doesn't know Databricks' decimals.
            ('f' | 'e' | 'g', Value::Decimal(..)) => return Err(invalid("%f, %e or %g with a DECIMAL; cast it to DOUBLE")),
            (c, Value::Text(_) | Value::Bool(_)) if "dxoefc".contains(c) => {
                return Err(invalid(&format!("%{c} with a value that isn't a number")));
            }
            ('d' | 'x' | 'o' | 'c', Value::Double(_) | Value::Float(_) | Value::Decimal(..)) => {
                return Err(invalid("an integer specifier with a fractional value"));
            }
            ('f' | 'e' | 'g', Value::Int(..)) => return Err(invalid("%f or %e with an integer")),
            _ => return Err(Error::not_eligible(format!("the format specifier %{} isn't known for this argument", self.conversion))),
        };
        Ok(if upper { text.to_uppercase() } else { text })
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(p) => text.chars().take(p).collect(),
            None => text,
        }
    }

    fn is_plain_radix(&self) -> bool {
        let flags = self.flags;
        self.precision.is_none() && !(flags.plus || flags.space || flags.group || flags.parentheses)
    }

    /// Digits of another base, filled up with zeros where that was asked for.
    fn radix(&self, prefix: &str, digits: String) -> String {
        let prefix = if self.flags.alternate { prefix } else { "" };
        let room = if self.flags.zero { self.width.saturating_sub(prefix.len()) } else { 0 };
        format!("{prefix}{digits:0>room$}")
    }

    /// NaN and infinities, which zeros never fill up.
    fn not_finite(&self, v: f64) -> String {
        let spaces = Spec { flags: Flags { zero: false, ..self.flags }, ..self.clone() };
        if v.is_nan() { "NaN".into() } else { spaces.signed(v < 0.0, "Infinity".into(), "").replace(',', "") }
    }

    /// `d.ddde+xx`, rounded half up on the shortest digits.
    fn scientific(&self, v: f64, precision: usize) -> String {
        let (digits, exponent) = rounded_digits(v.abs(), precision + 1);
        let (first, rest) = digits.split_at(1);
        let sign = if exponent < 0 { '-' } else { '+' };
        let tail = format!("e{sign}{:02}", exponent.abs());
        let shown = Spec { width: self.width.saturating_sub(tail.len()), ..self.clone() };
        shown.signed(v.is_sign_negative(), first.to_string(), rest) + &tail
    }

    /// So many digits in all: plain where that isn't long, else scientific.
    fn general(&self, v: f64) -> String {
        let precision = self.precision.unwrap_or(6).max(1);
        let (digits, exponent) = rounded_digits(v.abs(), precision);
        if v != 0.0 && (exponent < -4 || exponent >= precision as i32) {
            return self.scientific(v, precision - 1);
        }
        if exponent < 0 {
            let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
            return self.signed(v.is_sign_negative(), "0".into(), &format!("{zeros}{digits}"));
        }
        let (whole, fraction) = digits.split_at(exponent as usize + 1);
        self.signed(v.is_sign_negative(), whole.to_string(), fraction)
    }

    /// Sign, groups and zero padding around digits.
    fn signed(&self, negative: bool, whole: String, fraction: &str) -> String {
        let mut digits = String::new();
        for (i, c) in whole.chars().enumerate() {
            if self.flags.group && i > 0 && (whole.len() - i).is_multiple_of(3) {
                digits.push(',');
            }
            digits.push(c);
        }
        if !fraction.is_empty() {
            digits.push('.');
            digits.push_str(fraction);
        }
        let (open, close) = match (negative, self.flags.parentheses) {
            (true, true) => ("(", ")"),
            (true, false) => ("-", ""),
            (false, _) if self.flags.plus => ("+", ""),
            (false, _) if self.flags.space => (" ", ""),
            (false, _) => ("", ""),
        };
        let room = self.width.saturating_sub(open.len() + close.len());
        if self.flags.zero { format!("{open}{digits:0>room$}{close}") } else { format!("{open}{digits}{close}") }
    }

    fn pad(&self, text: String) -> String {
        // Java counts UTF-16 units.
        let missing = self.width.saturating_sub(text.encode_utf16().count());
        let fill = " ".repeat(missing);
        if self.flags.left { text + &fill } else { fill + &text }
    }
}

fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// `BigDecimal.toString`: small numbers with an exponent.
fn java_decimal(unscaled: i128, scale: usize) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let exponent = digits.len() as i64 - 1 - scale as i64;
    if scale == 0 || exponent >= -6 {
        return crate::duckdb::decimal_text(unscaled, scale);
    }
    let (first, rest) = digits.split_at(1);
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent}")
}

/// The first `count` digits of a number that isn't negative, rounded half up on its shortest text, and
/// the power of ten of the first.
fn rounded_digits(value: f64, count: usize) -> (String, i32) {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let rounded = round_half_up(mantissa, count - 1);
    let digits: String = rounded.chars().filter(char::is_ascii_digit).collect();
    // 9.99 may have become 10.0.
    if digits.len() > count { (digits[..count].to_string(), exponent + 1) } else { (digits, exponent) }
}

/// Java rounds a double half up on its shortest decimal text.
pub(crate) fn round_shortest(value: f64, digits: usize) -> String {
    // Rust's `{}` is the shortest text that reads back, without an exponent.
    round_half_up(&format!("{value}"), digits)
}

/// Rounds a non-negative plain decimal text half up to `digits` behind the point.
fn round_half_up(text: &str, digits: usize) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut kept: Vec<u8> = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(digits)).collect();
    if fraction.as_bytes().get(digits).is_some_and(|b| *b >= b'5') {
        let mut i = kept.len();
        loop {
            if i == 0 {
                kept.insert(0, b'1');
                break;
            }
            i -= 1;
            if kept[i] == b'9' {
                kept[i] = b'0';
            } else {
                kept[i] += 1;
                break;
            }
        }
    }
    let split = kept.len() - digits;
    let ascii = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
    if digits == 0 { ascii(&kept) } else { format!("{}.{}", ascii(&kept[..split]), ascii(&kept[split..])) }
}

fn invalid(what: &str) -> Error {
    Error::raised("INVALID_PARAMETER_VALUE.PRINTF_FORMAT", "22023", format!("The format isn't valid for its arguments: {what}."))
}
