//! `TO_CHAR` of numbers and `TO_NUMBER`: formats of `9`, `0`, `,`, `.`, `$`, `S`, `MI` and `PR`.

use std::iter::Peekable;
use std::str::Chars;

use flightpath_types::{Error, ErrorKind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// So many digits; with zeros in front when `exact`.
    Digits {
        count: usize,
        exact: bool,
    },
    Comma,
    Point,
    Dollar,
    /// `S`
    Sign,
    /// `MI`
    Minus,
    Open,
    Close,
}

/// A format once read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NumberFormat {
    tokens: Vec<Token>,
    whole: usize,
    fraction: usize,
}

impl NumberFormat {
    /// `[MI|S] [$] [0 9 , G]* [. D] [0 9]* [$] [PR|MI|S]`, in any case.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        if text.is_empty() {
            let message = "The format is invalid: ''. The number format string cannot be empty.";
            return Err(Error::classed(ErrorKind::InvalidArgument, "INVALID_FORMAT.EMPTY", "42601", message));
        }
        if !upper.contains(['0', '9']) {
            return Err(Error::classed(
                ErrorKind::InvalidArgument,
                "INVALID_FORMAT.WRONG_NUM_DIGIT",
                "42601",
                format!("The format is invalid: '{text}'. The format string requires at least one number digit."),
            ));
        }
        let unknown = || Error::not_eligible(format!("the number format '{text}' isn't known"));
        let (body, brackets) = upper.strip_suffix("PR").map_or((upper.as_str(), false), |body| (body, true));
        let mut chars = body.chars().peekable();
        let mut tokens = Vec::new();
        let mut point = false;
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '0' | '9' => Token::Digits { count: 1 + run(&mut chars), exact: c == '0' && !point },
                ',' | 'G' if !point && matches!(tokens.last(), Some(Token::Digits { .. })) => Token::Comma,
                '.' | 'D' if !point => {
                    point = true;
                    Token::Point
                }
                '$' => Token::Dollar,
                'S' => Token::Sign,
                'M' if chars.next() == Some('I') => Token::Minus,
                _ => return Err(unknown()),
            });
        }
        let signs = tokens.iter().filter(|t| matches!(t, Token::Sign | Token::Minus)).count() + usize::from(brackets);
        let dollars = tokens.iter().filter(|t| **t == Token::Dollar).count();
        // A sign stands at either end, a currency sign next to the digits.
        let inner = tokens.iter().enumerate().all(|(i, t)| !matches!(t, Token::Sign | Token::Minus) || i == 0 || i + 1 == tokens.len());
        let is_edge = |t: &Token| matches!(t, Token::Sign | Token::Minus | Token::Dollar);
        let core: Vec<&Token> = tokens.iter().skip_while(|t| is_edge(t)).collect();
        let core_is_whole = core.iter().skip_while(|t| !is_edge(t)).all(|t| is_edge(t));
        if signs > 1 || dollars > 1 || !inner || !core_is_whole || matches!(core.first(), Some(Token::Comma)) || ends_in_comma(&tokens) {
            return Err(unknown());
        }
        if brackets {
            tokens.insert(0, Token::Open);
            tokens.push(Token::Close);
        }
        let split = tokens.iter().position(|t| *t == Token::Point).unwrap_or(tokens.len());
        let digits = |part: &[Token]| part.iter().map(|t| if let Token::Digits { count, .. } = t { *count } else { 0 }).sum();
        let (whole, fraction) = (digits(&tokens[..split]), digits(&tokens[split..]));
        Ok(Self { tokens, whole, fraction })
    }

    pub(crate) fn format(&self, unscaled: i128, scale: usize) -> String {
        let plain = crate::duckdb::decimal_text(unscaled.abs(), scale);
        let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
        let (mut whole, mut fraction) = (whole.trim_start_matches('0').to_string(), fraction.trim_end_matches('0').to_string());
        if whole.len() > self.whole || fraction.len() > self.fraction {
            whole = "#".repeat(self.whole);
            fraction = "#".repeat(self.fraction);
        }
        let whole = format!("{whole:>width$}", width = self.whole);
        let fraction = format!("{fraction:0<width$}", width = self.fraction);
        self.assemble(unscaled < 0, &whole, &fraction)
    }

    /// Precision and scale of what `TO_NUMBER` reads.
    pub(crate) fn decimal(&self) -> (u8, i8) {
        let total = (self.whole + self.fraction).clamp(1, usize::from(crate::types::MAX_PRECISION));
        // Both are at most 38.
        (total as u8, self.fraction.min(total) as i8)
    }

    /// `TO_NUMBER`: the unscaled value, `None` where the text doesn't match.
    pub(crate) fn read(&self, text: &str) -> Option<i128> {
        if self.whole + self.fraction > usize::from(crate::types::MAX_PRECISION) {
            return None;
        }
        let split = self.tokens.iter().position(|t| *t == Token::Point).unwrap_or(self.tokens.len());
        // Spaces may stand anywhere.
        let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let mut rest = compact.as_str();
        let (mut whole, mut fraction) = (String::new(), String::new());
        let (mut negative, mut open) = (false, false);
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            at += 1;
            match token {
                Token::Digits { .. } if at <= split => {
                    let end = self.tokens[at..].iter().position(|t| !matches!(t, Token::Digits { .. } | Token::Comma));
                    let end = end.map_or(self.tokens.len(), |n| at + n);
                    (whole, rest) = read_groups(&self.tokens[at - 1..end], rest)?;
                    at = end;
                }
                Token::Digits { count, .. } => {
                    let (digits, after) = leading_digits(rest);
                    if fraction.len() + digits.len() > *count {
                        return None;
                    }
                    fraction.push_str(digits);
                    rest = after;
                }
                Token::Comma => return None,
                Token::Point => rest = rest.strip_prefix('.').unwrap_or(rest),
                Token::Dollar => rest = rest.strip_prefix('$')?,
                Token::Sign | Token::Minus => {
                    if let Some(after) = rest.strip_prefix('-') {
                        (negative, rest) = (true, after);
                    } else if *token == Token::Sign {
                        rest = rest.strip_prefix('+').unwrap_or(rest);
                    }
                }
                Token::Open => {
                    if let Some(after) = rest.strip_prefix('<') {
                        (open, rest) = (true, after);
                    }
                }
                Token::Close => match rest.strip_prefix('>') {
                    Some(after) if open => (negative, open, rest) = (true, false, after),
                    Some(_) => return None,
                    None => {}
                },
            }
        }
        if !rest.is_empty() || open || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let digits = format!("{whole}{fraction:0<width$}", width = self.fraction);
        let value: i128 = digits.parse().ok()?;
        Some(if negative { -value } else { value })
    }

    fn assemble(&self, negative: bool, whole: &str, fraction: &str) -> String {
        let (mut whole, mut fraction) = (whole.chars(), fraction.chars());
        let mut out: Vec<char> = Vec::new();
        let mut point = false;
        for token in &self.tokens {
            match token {
                Token::Digits { count, .. } if point => out.extend(fraction.by_ref().take(*count)),
                Token::Digits { count, exact } => {
                    for c in whole.by_ref().take(*count) {
                        match c {
                            ' ' if *exact => out.push('0'),
                            ' ' => push_space(&mut out),
                            c => out.push(c),
                        }
                    }
                }
                Token::Comma if out.last().is_some_and(char::is_ascii_digit) => out.push(','),
                Token::Comma => push_space(&mut out),
                Token::Point => {
                    // No whole digits: a zero stands before the point.
                    if let Some(last) = out.last_mut().filter(|c| **c == ' ') {
                        *last = '0';
                    }
                    out.push('.');
                    point = true;
                }
                Token::Dollar => out.push('$'),
                Token::Sign => {
                    strip_point(&mut out);
                    push_before_spaces(&mut out, if negative { '-' } else { '+' });
                }
                Token::Minus if negative => {
                    strip_point(&mut out);
                    push_before_spaces(&mut out, '-');
                }
                Token::Minus => out.push(' '),
                Token::Open if negative => out.push('<'),
                Token::Open => {}
                Token::Close => {
                    strip_point(&mut out);
                    if negative { push_before_spaces(&mut out, '>') } else { out.extend([' ', ' ']) }
                }
            }
        }
        strip_point(&mut out);
        let text: String = out.into_iter().collect();
        if matches!(text.as_str(), "" | "+" | "-") { "0".into() } else { text }
    }
}

/// Digits in groups: from the right, each has at most, or with zeros exactly, as many as its format.
fn read_groups<'a>(format: &[Token], text: &'a str) -> Option<(String, &'a str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(text.len());
    let (body, rest) = text.split_at(end);
    let sizes: Vec<(usize, bool)> = format
        .iter()
        .filter_map(|t| match t {
            Token::Digits { count, exact } => Some((*count, *exact)),
            _ => None,
        })
        .collect();
    let groups: Vec<&str> = body.split(',').collect();
    if groups.len() > sizes.len() {
        return None;
    }
    let fits = |(group, (count, exact)): (&&str, &(usize, bool))| if *exact { group.len() == *count } else { group.len() <= *count };
    groups.iter().rev().zip(sizes.iter().rev()).all(fits).then(|| (groups.concat(), rest))
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn run(chars: &mut Peekable<Chars<'_>>) -> usize {
    std::iter::from_fn(|| chars.next_if(|c| matches!(c, '0' | '9'))).count()
}

fn ends_in_comma(tokens: &[Token]) -> bool {
    tokens.windows(2).any(|w| w[0] == Token::Comma && !matches!(w[1], Token::Digits { .. })) || tokens.last() == Some(&Token::Comma)
}

/// A space moves in front of signs that stand right before it.
fn push_space(out: &mut Vec<char>) {
    let signs = out.iter().rev().take_while(|c| matches!(c, '+' | '-' | '<')).count();
    out.insert(out.len() - signs, ' ');
}

/// A sign moves in front of spaces that stand right before it.
fn push_before_spaces(out: &mut Vec<char>, sign: char) {
    let spaces = out.iter().rev().take_while(|c| **c == ' ').count();
    out.insert(out.len() - spaces, sign);
}

/// A point without digits behind it becomes a space.
fn strip_point(out: &mut [char]) {
    if let Some(i) = out.iter().position(|c| *c == '.')
        && out.get(i + 1).is_none_or(|c| *c == ' ')
    {
        out[i] = ' ';
    }
}
