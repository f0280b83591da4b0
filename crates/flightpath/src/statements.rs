//! A text as statements, by Databricks' lexical rules: a `;` in a string, a name or a comment parts
//! nothing.

/// One statement of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// With its comments, without blanks around it.
    pub text: &'a str,
    /// Where it begins behind its leading comments; from 1.
    pub line: usize,
}

impl<'a> Statement<'a> {
    /// Its text behind leading comments.
    pub fn code(&self) -> &'a str {
        &self.text[skip_blank(self.text.as_bytes(), 0)..]
    }

    /// Its first word in upper case.
    pub fn first_word(&self) -> String {
        self.code().chars().take_while(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase()).collect()
    }
}

/// Parts a text at each `;` that stands outside quotes and comments. Parts of blanks and comments
/// alone are left out.
pub fn split(text: &str) -> Vec<Statement<'_>> {
    let bytes = text.as_bytes();
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    let (mut line, mut counted) = (1, 0);
    let mut part = |start: usize, end: usize| {
        let begin = skip_blank(&bytes[..end], start);
        if begin < end {
            line += bytes[counted..begin].iter().filter(|b| **b == b'\n').count();
            counted = begin;
            parts.push(Statement { text: text[start..end].trim(), line });
        }
    };
    while at < bytes.len() {
        at = match bytes[at] {
            b'\'' | b'"' => end_of_string(bytes, at),
            b'`' => end_of_raw(bytes, at),
            b'-' | b'/' => match skip_comment(bytes, at) {
                Some(end) => end,
                None => at + 1,
            },
            b';' => {
                part(start, at);
                start = at + 1;
                start
            }
            _ => at + 1,
        };
    }
    part(start, bytes.len());
    parts
}

/// Behind the literal that opens at `at`. Literals behind `r` and `x` have no escapes.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let prefixed = at > 0 && matches!(bytes[at - 1], b'r' | b'R' | b'x' | b'X') && (at == 1 || !is_word(bytes[at - 2]));
    if prefixed {
        return end_of_raw(bytes, at);
    }
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != bytes[at] {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

/// Behind the next quote of the same kind.
fn end_of_raw(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at + 1..].iter().position(|b| *b == bytes[at]);
    rest.map_or(bytes.len(), |length| at + length + 2)
}

/// Behind the comment that opens at `at`; `None` where none does. Block comments nest.
fn skip_comment(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    match (bytes[at], bytes.get(at + 1)?) {
        (b'-', b'-') => {
            while end < bytes.len() && bytes[end] != b'\n' {
                // A backslash at the end of the line continues the comment.
                end += if bytes[end..].starts_with(b"\\\n") { 2 } else { 1 };
            }
        }
        (b'/', b'*') => {
            let mut depth = 0;
            while end < bytes.len() {
                match &bytes[end..(end + 2).min(bytes.len())] {
                    b"/*" => (depth, end) = (depth + 1, end + 2),
                    b"*/" => (depth, end) = (depth - 1, end + 2),
                    _ => end += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        }
        _ => return None,
    }
    Some(end)
}

/// The first byte from `at` on that is neither blank nor in a comment.
fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
        } else if bytes[at..].starts_with("\u{feff}".as_bytes()) {
            at += 3;
        } else {
            match skip_comment(bytes, at) {
                Some(end) => at = end,
                None => break,
            }
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn statements_part_at_semicolons_outside_quotes_and_comments() {
        assert_eq!(texts("SELECT 1; SELECT 2;\n"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(texts(r"SELECT 'a;\';b', `c;d` -- e;f"), [r"SELECT 'a;\';b', `c;d` -- e;f"]);
        assert_eq!(texts("/* a; /* b; */ c; */ SELECT ';';"), ["/* a; /* b; */ c; */ SELECT ';'"]);
        assert_eq!(texts("SELECT 'it''s;', \"x;\"\"\"; SELECT 3"), ["SELECT 'it''s;', \"x;\"\"\"", "SELECT 3"]);
        assert_eq!(texts("SELECT 'open;"), ["SELECT 'open;"]);
        assert_eq!(texts("SELECT 'ends\\"), ["SELECT 'ends\\"]);
        assert_eq!(texts("SELECT 1 - 2 / 3 -"), ["SELECT 1 - 2 / 3 -"]);
    }

    #[test]
    fn a_raw_literal_ends_at_its_quote_whatever_stands_before() {
        assert_eq!(texts(r"SELECT r'\'; SELECT R'a;'"), [r"SELECT r'\'", r"SELECT R'a;'"]);
        // A word that ends in r is no prefix.
        assert_eq!(texts(r"SELECT bar'\';'; SELECT 2"), [r"SELECT bar'\';'", "SELECT 2"]);
        assert_eq!(texts("-- a \\\n; still a comment\nSELECT 1"), ["-- a \\\n; still a comment\nSELECT 1"]);
    }

    #[test]
    fn lines_are_counted_and_parts_without_a_statement_left_out() {
        assert!(split(" ;; -- nothing;\n/* here */ ; ").is_empty());
        let found = split("-- first\nSELECT 1;\n\n/* the\nnext */ select\n2; ; SELECT '\n'; SELECT 4");
        let lines: Vec<(usize, String)> = found.iter().map(|s| (s.line, s.first_word())).collect();
        let expected = [(2, "SELECT"), (5, "SELECT"), (6, "SELECT"), (7, "SELECT")];
        assert_eq!(lines, expected.map(|(line, word)| (line, word.to_string())));
    }
}
