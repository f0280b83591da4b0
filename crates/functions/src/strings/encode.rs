//! Encodings: Base64, URLs, character sets, masks and check digits.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use flightpath_types::{Error, Result};
use regex::Regex;

/// `BASE64`: MIME, lines of 76 characters parted by CR LF.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let plain = STANDARD.encode(bytes);
    let mut out = String::with_capacity(plain.len() + plain.len() / 38);
    for (i, c) in plain.chars().enumerate() {
        if i > 0 && i % 76 == 0 {
            out.push_str("\r\n");
        }
        out.push(c);
    }
    out
}

/// `UNBASE64`: characters outside the alphabet are skipped. `None` when the length can't be right.
pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let mut digits = String::with_capacity(text.len());
    let mut chars = text.chars();
    let mut padded = 0;
    for c in chars.by_ref() {
        if c.is_ascii_alphanumeric() || matches!(c, '+' | '/') {
            digits.push(c);
        } else if c == '=' {
            padded = 1;
            break;
        }
    }
    if digits.len() % 4 == 2 && padded == 1 && chars.clone().next() != Some('=') {
        return None;
    }
    padded += chars.filter(|c| *c == '=').count();
    match (digits.len() % 4, padded) {
        (1, _) | (2, 1) => None,
        (0, p) if p > 0 && digits.len().is_multiple_of(4) => None,
        _ => LENIENT.decode(digits).ok(),
    }
}

/// Strict Base64 as `TO_BINARY(x, 'base64')` takes it: white space may stand between digits.
pub(crate) fn strict_base64(text: &str) -> Option<Vec<u8>> {
    let compact: String = text.chars().filter(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')).collect();
    let valid = compact.trim_end_matches('=');
    if compact.len() - valid.len() > 2 || !valid.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/')) {
        return None;
    }
    unbase64(&compact)
}

/// `URL_ENCODE`: form encoding, a space is `+`.
pub(crate) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(b)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// `URL_DECODE`; `None` for a `%` without two hexadecimal digits behind it.
pub(crate) fn url_decode(text: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let pair = bytes.get(i + 1..i + 3)?;
                out.push((hex_digit(pair[0])? << 4) | hex_digit(pair[1])?);
                i += 3;
            }
            b'+' => {
                out.push(b' ');
                i += 1;
            }
            b => {
                out.push(b);
                i += 1;
            }
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn hex_digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|d| d as u8)
}

/// Character sets that `ENCODE` and `DECODE` know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16,
    Utf16Be,
    Utf16Le,
    Utf32,
}

impl Charset {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "US-ASCII" => Charset::Ascii,
            "ISO-8859-1" => Charset::Latin1,
            "UTF-8" => Charset::Utf8,
            "UTF-16" => Charset::Utf16,
            "UTF-16BE" => Charset::Utf16Be,
            "UTF-16LE" => Charset::Utf16Le,
            "UTF-32" => Charset::Utf32,
            _ => {
                return Err(Error::raised(
                    "INVALID_PARAMETER_VALUE.CHARSET",
                    "22023",
                    format!(
                        "The value of parameter `charset` must be one of iso-8859-1, us-ascii, utf-16, utf-16be, utf-16le, utf-32, utf-8, not '{name}'."
                    ),
                ));
            }
        })
    }

    pub(crate) fn encode(self, text: &str) -> Result<Vec<u8>> {
        let single = |limit: u32| {
            text.chars()
                .map(|c| if u32::from(c) < limit { Ok(u32::from(c) as u8) } else { Err(malformed("encode")) })
                .collect::<Result<Vec<u8>>>()
        };
        Ok(match self {
            Charset::Ascii => single(0x80)?,
            Charset::Latin1 => single(0x100)?,
            Charset::Utf8 => text.as_bytes().to_vec(),
            Charset::Utf16 if text.is_empty() => Vec::new(),
            Charset::Utf16 => std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect(),
            Charset::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Charset::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Charset::Utf32 => text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
        })
    }

    pub(crate) fn decode(self, bytes: &[u8]) -> Result<String> {
        let units = |read: fn([u8; 2]) -> u16, bytes: &[u8]| {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| read(*pair)).collect();
            if rest.is_empty() { String::from_utf16(&units).ok() } else { None }
        };
        let text = match self {
            Charset::Ascii => bytes.is_ascii().then(|| bytes.iter().map(|b| char::from(*b)).collect()),
            Charset::Latin1 => Some(bytes.iter().map(|b| char::from(*b)).collect()),
            Charset::Utf8 => String::from_utf8(bytes.to_vec()).ok(),
            Charset::Utf16 => match bytes {
                [0xFF, 0xFE, rest @ ..] => units(u16::from_le_bytes, rest),
                [0xFE, 0xFF, rest @ ..] => units(u16::from_be_bytes, rest),
                other => units(u16::from_be_bytes, other),
            },
            Charset::Utf16Be => units(u16::from_be_bytes, bytes),
            Charset::Utf16Le => units(u16::from_le_bytes, bytes),
            Charset::Utf32 => {
                let (quads, rest) = bytes.as_chunks::<4>();
                let text: Option<String> = quads.iter().map(|q| char::from_u32(u32::from_be_bytes(*q))).collect();
                text.filter(|_| rest.is_empty())
            }
        };
        text.ok_or_else(|| malformed("decode"))
    }
}

fn malformed(function: &str) -> Error {
    Error::raised("MALFORMED_CHARACTER_CODING", "22000", format!("Invalid value found when performing `{function}`."))
}

static UPPER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{Lu}").ok());
static LOWER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{Ll}").ok());
static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{Nd}").ok());

fn is_of(category: &LazyLock<Option<Regex>>, text: &str) -> bool {
    category.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// `MASK`: upper case, lower case, digits and the rest each become one character, or stay.
pub(crate) fn mask(text: &str, upper: Option<char>, lower: Option<char>, digit: Option<char>, other: Option<char>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0u8; 4];
    for c in text.chars() {
        let one: &str = c.encode_utf8(&mut buffer);
        // Java masks UTF-16 units: what lies beyond the basic plane is two of no kind.
        let (with, times) = match c {
            c if c.len_utf16() > 1 => (other, 2),
            'A'..='Z' => (upper, 1),
            'a'..='z' => (lower, 1),
            '0'..='9' => (digit, 1),
            c if c.is_ascii() => (other, 1),
            _ if is_of(&UPPER, one) => (upper, 1),
            _ if is_of(&LOWER, one) => (lower, 1),
            _ if is_of(&DIGIT, one) => (digit, 1),
            _ => (other, 1),
        };
        match with {
            Some(with) => out.extend(std::iter::repeat_n(with, times)),
            None => out.push(c),
        }
    }
    out
}

/// `LUHN_CHECK`: false for anything but digits, or none.
pub(crate) fn luhn_check(text: &str) -> bool {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| {
            let digit = u32::from(b - b'0') * if i % 2 == 1 { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The parts of a URL that `PARSE_URL` gives. Only plain URLs are read; `None` for what isn't one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub scheme: Option<&'a str>,
    pub authority: Option<&'a str>,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub fragment: Option<&'a str>,
}

impl<'a> Url<'a> {
    /// By the generic syntax of RFC 2396; `None` for characters that a URI can't hold.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let allowed = |c: char| {
            c.is_ascii_alphanumeric() || "-_.!~*'();:@&=+$,/?#[]%".contains(c) || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
        };
        if !text.chars().all(allowed) || !percent_pairs(text) || text.matches('#').count() > 1 {
            return None;
        }
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let is_scheme =
            |s: &str| s.starts_with(|c: char| c.is_ascii_alphabetic()) && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let (scheme, rest) = match rest.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            Some((before, _)) if !before.contains('/') => return None,
            _ => (None, rest),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                (Some(&rest[..end]).filter(|a| !a.is_empty()), &rest[end..])
            }
            None => (None, rest),
        };
        Some(Self { scheme, authority, path, query, fragment })
    }

    fn user_and_host(&self) -> (Option<&'a str>, Option<&'a str>) {
        match self.authority {
            Some(a) => match a.rsplit_once('@') {
                Some((user, host)) => (Some(user), Some(host)),
                None => (None, Some(a)),
            },
            None => (None, None),
        }
    }

    /// One part by its name in capitals; `key` picks a parameter of the query.
    pub(crate) fn part(&self, name: &str, key: Option<&str>) -> Option<String> {
        if key.is_some() && name != "QUERY" {
            return None;
        }
        match name {
            "HOST" => self.user_and_host().1.map(|h| match h.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host.to_string(),
                _ => h.to_string(),
            }),
            "PATH" => Some(self.path.to_string()),
            "QUERY" => match key {
                None => self.query.map(str::to_string),
                Some(key) => {
                    self.query?.split('&').find_map(|pair| pair.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v.to_string()))
                }
            },
            "REF" => self.fragment.map(str::to_string),
            "PROTOCOL" => self.scheme.map(str::to_string),
            "FILE" => Some(match self.query {
                Some(query) => format!("{}?{query}", self.path),
                None => self.path.to_string(),
            }),
            "AUTHORITY" => self.authority.map(str::to_string),
            "USERINFO" => self.user_and_host().0.map(str::to_string),
            _ => None,
        }
    }
}

fn percent_pairs(text: &str) -> bool {
    text.match_indices('%').all(|(i, _)| text.as_bytes().get(i + 1..i + 3).is_some_and(|p| p.iter().all(u8::is_ascii_hexdigit)))
}

/// `QUOTE`: in single quotes, which `\` escapes inside.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "\\'"))
}
