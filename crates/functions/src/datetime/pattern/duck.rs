//! Patterns that DuckDB's strftime and strptime write and read alike.

use super::{Field, Item, Pattern, Text};

impl Pattern {
    /// DuckDB's strftime pattern that writes the same for years 0 to 9999; and whether a year is in it.
    pub(crate) fn strftime(&self) -> Option<(String, bool)> {
        let (mut out, mut year) = (String::new(), false);
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(&text.replace('%', "%%")),
                Item::TwoDigitYear { .. } => {
                    year = true;
                    out.push_str("%y");
                }
                Item::Number { field, min, .. } => {
                    year |= matches!(field, Field::Year);
                    out.push_str(match (field, min) {
                        (Field::Year, 4) => "%Y",
                        (Field::Month, 2) => "%m",
                        (Field::Month, 1) => "%-m",
                        (Field::Day, 2) => "%d",
                        (Field::Day, 1) => "%-d",
                        (Field::Hour, 2) => "%H",
                        (Field::Hour, 1) => "%-H",
                        (Field::ClockHourOfHalf, 2) => "%I",
                        (Field::ClockHourOfHalf, 1) => "%-I",
                        (Field::Minute, 2) => "%M",
                        (Field::Minute, 1) => "%-M",
                        (Field::Second, 2) => "%S",
                        (Field::Second, 1) => "%-S",
                        (Field::DayOfYear, 3) => "%j",
                        (Field::DayOfYear, 1) => "%-j",
                        _ => return None,
                    });
                }
                Item::Text { text, full } => out.push_str(match (text, full) {
                    (Text::Month, false) => "%b",
                    (Text::Month, true) => "%B",
                    (Text::DayOfWeek, false) => "%a",
                    (Text::DayOfWeek, true) => "%A",
                    (Text::Half, _) => "%p",
                    (Text::Era | Text::Quarter, _) => return None,
                }),
                Item::Fraction { max: 3, .. } => out.push_str("%g"),
                Item::Fraction { max: 6, .. } => out.push_str("%f"),
                _ => return None,
            }
        }
        if out.is_empty() { None } else { Some((out, year)) }
    }

    /// For patterns of fixed digits only: a regular expression that their texts match in full, and
    /// DuckDB's strptime pattern.
    pub(crate) fn strptime(&self) -> Option<(String, String)> {
        let (mut regex, mut format) = (String::new(), String::new());
        for item in &self.items {
            match item {
                Item::Literal(text) if text.chars().all(|c| " -/.:,T".contains(c)) => {
                    for c in text.chars() {
                        regex.push_str(&if c == '.' { r"\.".to_string() } else { c.to_string() });
                    }
                    format.push_str(text);
                }
                Item::Number { field, min, .. } => {
                    let (digits, letter) = match (field, min) {
                        (Field::Year, 4) => (4, "%Y"),
                        (Field::Month, 2) => (2, "%m"),
                        (Field::Day, 2) => (2, "%d"),
                        (Field::Hour, 2) => (2, "%H"),
                        (Field::Minute, 2) => (2, "%M"),
                        (Field::Second, 2) => (2, "%S"),
                        _ => return None,
                    };
                    regex.push_str(&format!("[0-9]{{{digits}}}"));
                    format.push_str(letter);
                }
                _ => return None,
            }
        }
        let needed = ["%Y", "%m", "%d"].iter().all(|l| format.matches(l).count() == 1);
        // In Java a time may lack its hour only with its minutes and seconds; keep to the usual ones.
        let time: Vec<bool> = ["%H", "%M", "%S"].iter().map(|l| format.contains(l)).collect();
        (needed && matches!(time.as_slice(), [false, false, false] | [true, true, true] | [true, true, false] | [true, false, false]))
            .then_some((regex, format))
    }
}
