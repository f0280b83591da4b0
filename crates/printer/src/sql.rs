//! A printed expression: its text, its type, and how tightly the text holds together, so that it gets
//! parentheses only where it needs them.

use arrow::datatypes::DataType;

/// How tightly a text holds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// A complete operand of anything.
    Atom,
    /// Binds tighter than AND and OR: comparisons, tests, NOT.
    Comparison,
    /// Operands joined by AND.
    And,
    /// Anything looser.
    Loose,
}

/// A printed expression and its type.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    pub text: String,
    pub ty: DataType,
    pub binding: Binding,
}

impl Sql {
    pub fn atom(text: String, ty: DataType) -> Self {
        Self { text, ty, binding: Binding::Atom }
    }

    pub fn loose(text: String, ty: DataType) -> Self {
        Self { text, ty, binding: Binding::Loose }
    }

    /// A comparison or test.
    pub fn boolean(text: String) -> Self {
        Self { text, ty: DataType::Boolean, binding: Binding::Comparison }
    }

    /// Text of a definition's rule, which promises nothing about its outermost operator.
    pub fn of_rule(text: String, ty: DataType) -> Self {
        if is_complete(&text) { Self::atom(text, ty) } else { Self::loose(text, ty) }
    }

    /// As an operand of any operator.
    pub fn operand(self) -> String {
        match self.binding {
            Binding::Atom => self.text,
            Binding::Comparison | Binding::And | Binding::Loose => format!("({})", self.text),
        }
    }

    /// As one operand of AND.
    pub fn conjunct(self) -> String {
        match self.binding {
            Binding::Atom | Binding::Comparison | Binding::And => self.text,
            Binding::Loose => format!("({})", self.text),
        }
    }

    /// As one operand of AND or OR.
    pub fn term(self) -> String {
        match self.binding {
            Binding::Atom | Binding::Comparison => self.text,
            Binding::And | Binding::Loose => format!("({})", self.text),
        }
    }
}

/// Whether `text` is one operand as it stands: a literal, a name, a call, CASE ... END or something
/// in parentheses that close at the end.
fn is_complete(text: &str) -> bool {
    const SCAN_BYTES_MAX: usize = 1 << 16;
    if text.len() > SCAN_BYTES_MAX {
        return false;
    }
    let bytes = text.as_bytes();
    let (mut depth, mut quote) = (0usize, None);
    let mut quoted_all = matches!(bytes.first(), Some(b'\''));
    let mut closed_at = None;
    for (i, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (Some(q), b) if *b == q => {
                quote = None;
                // A doubled quote opens again at once.
                if q == b'\'' && i + 1 < bytes.len() && bytes[i + 1] != b'\'' {
                    quoted_all = false;
                }
            }
            (Some(_), _) => {}
            (None, b'\'') if i > 0 && depth == 0 && !quoted_all => return false,
            (None, b'\'' | b'"') => quote = Some(*byte),
            (None, b'(') => {
                if depth == 0 && closed_at.is_some() {
                    return false;
                }
                depth += 1;
            }
            (None, b')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    closed_at = Some(i);
                }
            }
            (None, b) if depth == 0 && !(b.is_ascii_alphanumeric() || *b == b'_' || *b == b'.') => return false,
            (None, _) if depth == 0 && closed_at.is_some() => return false,
            (None, _) => {}
        }
    }
    !bytes.is_empty() && quote.is_none() && depth == 0
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn a_text_is_complete_when_nothing_hangs_outside_its_parentheses() {
        for complete in ["1", "'a'", "'it''s'", "s0.\"a b\"", "t1.c0", "f(a, ')')", "(a + b)", "CAST('x' AS BLOB)", "NULL", "list_value(1)"]
        {
            assert!(is_complete(complete), "{complete}");
        }
        for loose in [
            "a + b",
            "(a) + (b)",
            "NOT a",
            "'a' || 'b'",
            "f(a) + 1",
            "-1",
            "CASE WHEN a THEN b END",
            "f(a) FILTER (WHERE b)",
            "f(a)(b)",
            "a[1]",
            "",
        ] {
            assert!(!is_complete(loose), "{loose}");
        }
    }
}
