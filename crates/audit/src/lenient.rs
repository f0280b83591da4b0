//! A JSON value of an export, of whatever type it turns out to be: exports come through many hands,
//! and a number in quotes or a null must not cost the whole file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

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
