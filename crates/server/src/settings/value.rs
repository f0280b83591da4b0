//! Reading one value, from TOML or from an environment variable's text.

use std::time::Duration;

use toml::de::DeValue;

/// A value as given.
#[derive(Clone, Copy)]
pub(crate) enum Given<'a> {
    Toml(&'a DeValue<'a>),
    Text(&'a str),
}

impl Given<'_> {
    pub fn text(self) -> Result<String, String> {
        match self {
            Given::Text(text) => Ok(text.to_string()),
            Given::Toml(DeValue::String(text)) => Ok(text.to_string()),
            Given::Toml(other) => Err(format!("must be text in quotes, not {}", other.type_str())),
        }
    }

    /// An empty text unsets.
    pub fn optional_text(self) -> Result<Option<String>, String> {
        Ok(Some(self.text()?).filter(|t| !t.is_empty()))
    }

    pub fn boolean(self) -> Result<bool, String> {
        match self {
            Given::Toml(DeValue::Boolean(truth)) => Ok(*truth),
            Given::Text("true" | "1") => Ok(true),
            Given::Text("false" | "0") => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }

    pub fn whole(self, min: u64, max: u64) -> Result<u64, String> {
        let number = match self {
            Given::Toml(DeValue::Integer(n)) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            Given::Text(text) => text.trim().parse().ok(),
            Given::Toml(_) => None,
        };
        number.filter(|n| (min..=max).contains(n)).ok_or_else(|| format!("must be a whole number from {min} to {max}"))
    }

    pub fn number(self, min: f64, max: f64) -> Result<f64, String> {
        let number = match self {
            Given::Toml(DeValue::Integer(n)) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n as f64),
            Given::Toml(DeValue::Float(n)) => n.as_str().parse().ok(),
            Given::Text(text) => text.trim().parse().ok(),
            Given::Toml(_) => None,
        };
        number.filter(|n| (min..=max).contains(n)).ok_or_else(|| format!("must be a number from {min} to {max}"))
    }

    /// A count of bytes: a number, or text such as `512MB` or `4GiB`.
    pub fn bytes(self, min: u64) -> Result<u64, String> {
        let bytes = match self {
            Given::Toml(DeValue::Integer(n)) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            Given::Toml(DeValue::String(text)) => parse_bytes(text),
            Given::Text(text) => parse_bytes(text),
            Given::Toml(_) => None,
        };
        let bytes = bytes.ok_or("must be a size such as \"512MB\" or \"4GiB\", or a number of bytes")?;
        if bytes < min { Err(format!("must be at least {min} bytes")) } else { Ok(bytes) }
    }

    /// Seconds, whole or not.
    pub fn seconds(self, min: f64, max: f64) -> Result<Duration, String> {
        self.number(min, max).map(Duration::from_secs_f64).map_err(|_| format!("must be a number of seconds from {min} to {max}"))
    }

    /// A list of texts; in an environment variable, or as one text, parted by `:`.
    pub fn list(self) -> Result<Vec<String>, String> {
        match self {
            Given::Toml(DeValue::Array(items)) => items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_string).ok_or_else(|| "must be a list of texts in quotes".to_string()))
                .collect(),
            Given::Toml(DeValue::String(text)) => Ok(vec![text.to_string()]),
            Given::Text(text) => Ok(text.split(':').filter(|part| !part.is_empty()).map(str::to_string).collect()),
            Given::Toml(_) => Err("must be a list of texts in quotes".into()),
        }
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let factor: f64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number * factor;
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}
