//! A JSON value of an export, of whatever type it turns out to be: exports come through many hands,
//! and a number in quotes or a null must not cost the whole file, nor a mark in front of it.

use std::fmt;
use std::io::{Cursor, Read};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The byte order mark in UTF-8, which some editors and shells write in front of a text.
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// The same text without a byte order mark, which isn't JSON.
pub(crate) fn without_mark(mut input: impl Read) -> std::io::Result<impl Read> {
    let mut head = Vec::with_capacity(MARK.len());
    input.by_ref().take(MARK.len() as u64).read_to_end(&mut head)?;
    if head == MARK {
        head.clear();
    }
    Ok(Cursor::new(head).chain(input))
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Number(f64),
    Text(String),
    Boolean(bool),
    /// Null, or something with parts.
    Nothing,
}

impl Scalar {
    pub fn number(&self) -> Option<f64> {
        let number = match self {
            Scalar::Number(number) => Some(*number),
            Scalar::Text(text) => text.trim().parse().ok(),
            Scalar::Boolean(_) | Scalar::Nothing => None,
        };
        number.filter(|n: &f64| n.is_finite())
    }

    /// Rounded down, if it is in range.
    pub fn whole(&self) -> Option<i64> {
        // Beyond 2^53 a double is no count of anything here.
        self.number().filter(|n| n.abs() < 9e15).map(|n| n.floor() as i64)
    }

    pub fn count(&self) -> Option<u64> {
        self.whole().and_then(|n| u64::try_from(n).ok())
    }

    pub fn text(self) -> Option<String> {
        match self {
            Scalar::Text(text) => Some(text).filter(|t| !t.is_empty()),
            Scalar::Number(number) => Some(number.to_string()),
            Scalar::Boolean(_) | Scalar::Nothing => None,
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Scalar::Boolean(value) => *value,
            Scalar::Text(text) => text.eq_ignore_ascii_case("true"),
            Scalar::Number(_) | Scalar::Nothing => false,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Scalar, A::Error> {
        while parts.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Scalar, A::Error> {
        while parts.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a slow pipe may.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let length = to.len().min(1);
            self.0.read(&mut to[..length])
        }
    }

    #[test]
    fn only_a_byte_order_mark_at_the_head_is_left_out() {
        for (text, rest) in [("\u{feff}{}", "{}"), ("{}", "{}"), ("", ""), ("[", "["), ("\u{feff}", ""), ("1\u{feff}", "1\u{feff}")] {
            let mut read = String::new();
            without_mark(Slow(text.as_bytes())).unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, rest);
        }
    }
}
