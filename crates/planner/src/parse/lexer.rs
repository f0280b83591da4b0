//! Text to tokens by Databricks' lexical rules: escapes in strings, both quotes, adjacent literals,
//! typed number suffixes, names that begin with a digit, `t@v3`. Gives sqlparser's tokens, so that
//! its parser never sees the text. Never drops a character it doesn't understand.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};
use flightpath_types::Result;

use super::syntax_error;

/// The operator `DIV`, as a custom operator of sqlparser.
pub(crate) const DIV: &str = "div";
/// The operator `>>>`. Its characters close nested types, too, so the parser puts it together.
pub(crate) const SHIFT_RIGHT_UNSIGNED: &str = ">>>";

/// Tokens of the text without whitespace and comments. Positions count characters from 1.
pub(crate) fn tokens(text: &str) -> Result<Vec<TokenWithSpan>> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, line: 1, column: 1, out: Vec::new() };
    lexer.run()?;
    Ok(lexer.out)
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: u64,
    column: u64,
    out: Vec<TokenWithSpan>,
}

impl Lexer {
    fn run(&mut self) -> Result<()> {
        loop {
            let adjacent = !self.skip_blank()?;
            let Some(c) = self.peek(0) else { return Ok(()) };
            let start = self.location();
            let token = self.token(c, adjacent, start)?;
            self.push(token, start);
        }
    }

    fn push(&mut self, token: Token, start: Location) {
        let end = self.location();
        if let (Token::SingleQuotedString(text), Some(last)) = (&token, self.out.last_mut())
            && let Token::SingleQuotedString(before) = &mut last.token
        {
            // Adjacent string literals are one literal.
            before.push_str(text);
            last.span.end = end;
            return;
        }
        self.out.push(TokenWithSpan { token, span: Span::new(start, end) });
    }

    fn token(&mut self, c: char, adjacent: bool, start: Location) -> Result<Token> {
        let next = self.peek(1);
        match c {
            '\'' | '"' => self.string(c, start).map(Token::SingleQuotedString),
            'r' | 'R' if matches!(next, Some('\'' | '"')) => {
                self.bump();
                self.raw_string(start).map(Token::SingleQuotedString)
            }
            'x' | 'X' if self.opens_bytes() => {
                self.bump();
                self.skip_blank()?;
                self.raw_string(start).map(Token::HexStringLiteral)
            }
            '`' => self.backticks(start),
            '0'..='9' => Ok(self.number()),
            '.' if matches!(next, Some('0'..='9')) && !self.after_operand(adjacent) => Ok(self.number()),
            c if is_word(c) => Ok(self.word_or_div()),
            ':' if next == Some(':') => Ok(self.take(2, Token::DoubleColon)),
            ':' if next.is_some_and(is_word) && !self.after_operand(true) => {
                self.bump();
                let name = self.run_of(is_word);
                Ok(Token::Placeholder(format!(":{name}")))
            }
            '@' if adjacent && self.time_travel(start)? => {
                // `time_travel` pushed all but the last token.
                self.out.pop().map(|t| t.token).ok_or_else(|| syntax_error("unexpected '@'", start))
            }
            _ => self.operator(c, start),
        }
    }

    /// `X'0F'`, blanks before the quote or not.
    fn opens_bytes(&self) -> bool {
        let blanks = (1..).take_while(|i| self.peek(*i).is_some_and(char::is_whitespace)).count();
        matches!(self.peek(blanks + 1), Some('\'' | '"')) && (blanks == 0 || !self.after_operand(true))
    }

    fn operator(&mut self, c: char, start: Location) -> Result<Token> {
        let (b, d) = (self.peek(1), self.peek(2));
        let (length, token) = match (c, b, d) {
            ('<', Some('='), Some('>')) => (3, Token::Spaceship),
            ('<', Some('='), _) => (2, Token::LtEq),
            ('<', Some('>'), _) => (2, Token::Neq),
            ('<', Some('<'), _) => (2, Token::ShiftLeft),
            ('<', ..) => (1, Token::Lt),
            ('>', Some('='), _) => (2, Token::GtEq),
            ('>', Some('>'), _) => (2, Token::ShiftRight),
            ('>', ..) => (1, Token::Gt),
            ('=', Some('='), _) => (2, Token::DoubleEq),
            ('=', Some('>'), _) => (2, Token::RArrow),
            ('=', ..) => (1, Token::Eq),
            ('!', Some('='), _) => (2, Token::Neq),
            ('!', ..) => (1, Token::ExclamationMark),
            ('-', Some('>'), _) => (2, Token::Arrow),
            ('-', ..) => (1, Token::Minus),
            ('|', Some('|'), _) => (2, Token::StringConcat),
            ('|', Some('>'), _) => (2, Token::VerticalBarRightAngleBracket),
            ('|', ..) => (1, Token::Pipe),
            ('+', ..) => (1, Token::Plus),
            ('*', ..) => (1, Token::Mul),
            ('/', ..) => (1, Token::Div),
            ('%', ..) => (1, Token::Mod),
            ('&', ..) => (1, Token::Ampersand),
            ('^', ..) => (1, Token::Caret),
            ('~', ..) => (1, Token::Tilde),
            ('(', ..) => (1, Token::LParen),
            (')', ..) => (1, Token::RParen),
            ('[', ..) => (1, Token::LBracket),
            (']', ..) => (1, Token::RBracket),
            ('{', ..) => (1, Token::LBrace),
            ('}', ..) => (1, Token::RBrace),
            (',', ..) => (1, Token::Comma),
            ('.', ..) => (1, Token::Period),
            (';', ..) => (1, Token::SemiColon),
            (':', ..) => (1, Token::Colon),
            ('@', ..) => (1, Token::AtSign),
            ('?', ..) => (1, Token::Placeholder("?".into())),
            _ => return Err(syntax_error(&format!("unexpected character '{}'", c.escape_debug()), start)),
        };
        Ok(self.take(length, token))
    }

    /// Skips blanks and comments; whether there were any.
    fn skip_blank(&mut self) -> Result<bool> {
        let begin = self.at;
        while let Some(c) = self.peek(0) {
            if c.is_whitespace() || c == '\u{feff}' {
                self.bump();
            } else if c == '-' && self.peek(1) == Some('-') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    // A backslash at the end of the line continues the comment.
                    if self.peek(0) == Some('\\') && self.peek(1) == Some('\n') {
                        self.bump();
                    }
                    self.bump();
                }
            } else if c == '/' && self.peek(1) == Some('*') {
                self.block_comment()?;
            } else {
                break;
            }
        }
        Ok(self.at > begin)
    }

    /// Block comments nest. Hints (`/*+ ... */`) change how a query runs, never its answer, and are skipped.
    fn block_comment(&mut self) -> Result<()> {
        let start = self.location();
        let mut depth = 0usize;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => {
                    depth += 1;
                    self.bump();
                }
                ('*', Some('/')) => {
                    depth -= 1;
                    self.bump();
                }
                _ => {}
            }
            self.bump();
            if depth == 0 {
                return Ok(());
            }
        }
        Err(syntax_error("a comment that begins here isn't closed", start))
    }

    fn string(&mut self, quote: char, start: Location) -> Result<String> {
        self.bump();
        let mut text = String::new();
        loop {
            let Some(c) = self.bump() else {
                return Err(syntax_error("a string literal that begins here isn't closed", start));
            };
            if c == quote {
                if self.peek(0) != Some(quote) {
                    return Ok(text);
                }
                // A doubled quote is one quote.
                self.bump();
                text.push(quote);
            } else if c == '\\' {
                self.escape(&mut text, start)?;
            } else {
                text.push(c);
            }
        }
    }

    fn escape(&mut self, text: &mut String, start: Location) -> Result<()> {
        let Some(c) = self.peek(0) else {
            return Err(syntax_error("a string literal that begins here isn't closed", start));
        };
        for (mark, digits) in [('u', 4), ('U', 8)] {
            if c == mark
                && let Some(code) = self.hex_digits(1, digits)
            {
                self.advance(1 + digits);
                return self.code_point(code, text, start);
            }
        }
        if let (Some(a @ '0'..='3'), Some(b @ '0'..='7'), Some(d @ '0'..='7')) = (Some(c), self.peek(1), self.peek(2)) {
            self.advance(3);
            let code = [a, b, d].iter().fold(0, |n, c| n * 8 + c.to_digit(8).unwrap_or(0));
            text.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            return Ok(());
        }
        self.bump();
        match c {
            '0' => text.push('\0'),
            'b' => text.push('\u{8}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'Z' => text.push('\u{1a}'),
            // These two keep their backslash: they mean something to LIKE.
            '%' | '_' => {
                text.push('\\');
                text.push(c);
            }
            other => text.push(other),
        }
        Ok(())
    }

    /// `\uD83D\uDE00` is one character written as two surrogates.
    fn code_point(&mut self, code: u32, text: &mut String, start: Location) -> Result<()> {
        if (0xD800..0xDC00).contains(&code)
            && self.peek(0) == Some('\\')
            && self.peek(1) == Some('u')
            && let Some(low @ 0xDC00..=0xDFFF) = self.hex_digits(2, 4)
        {
            self.advance(6);
            let joined = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            text.push(char::from_u32(joined).unwrap_or('\u{fffd}'));
            return Ok(());
        }
        match char::from_u32(code) {
            Some(c) => text.push(c),
            None => return Err(syntax_error(&format!("\\u{code:04X} is half a character"), start)),
        }
        Ok(())
    }

    fn hex_digits(&self, from: usize, count: usize) -> Option<u32> {
        let mut code = 0u32;
        for i in 0..count {
            code = code.checked_mul(16)?.checked_add(self.peek(from + i)?.to_digit(16)?)?;
        }
        Some(code)
    }

    fn raw_string(&mut self, start: Location) -> Result<String> {
        let quote = self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return Err(syntax_error("a string literal that begins here isn't closed", start)),
                c if c == quote => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    fn backticks(&mut self, start: Location) -> Result<Token> {
        self.bump();
        let mut name = String::new();
        loop {
            match self.bump() {
                None => return Err(syntax_error("a name in backticks that begins here isn't closed", start)),
                Some('`') if self.peek(0) == Some('`') => {
                    self.bump();
                    name.push('`');
                }
                Some('`') if name.is_empty() => return Err(syntax_error("a name in backticks is empty", start)),
                Some('`') => {
                    return Ok(Token::Word(Word { value: name, quote_style: Some('`'), keyword: Keyword::NoKeyword }));
                }
                Some(c) => name.push(c),
            }
        }
    }

    /// `DIV` behind an operand is an operator.
    fn word_or_div(&mut self) -> Token {
        let after_operand = self.after_operand(true);
        match self.word() {
            Token::Word(w) if after_operand && w.keyword == Keyword::DIV => Token::CustomBinaryOperator(DIV.into()),
            word => word,
        }
    }

    fn word(&mut self) -> Token {
        let word = self.run_of(is_word);
        Token::make_word(&word, None)
    }

    /// A number with its type's suffix, kept as written; or a name that begins with a digit.
    fn number(&mut self) -> Token {
        let begin = self.at;
        let digits = |lexer: &Self, mut i: usize| {
            while matches!(lexer.chars.get(i), Some('0'..='9')) {
                i += 1;
            }
            i
        };
        let mut end = digits(self, begin);
        let mut fraction = false;
        // `1.` is a decimal, but `1..` and `1.x` aren't.
        if self.chars.get(end) == Some(&'.') && !self.chars.get(end + 1).is_some_and(|c| *c == '.' || (is_word(*c) && !c.is_ascii_digit()))
        {
            fraction = true;
            end = digits(self, end + 1);
        }
        if matches!(self.chars.get(end), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.chars.get(end + 1), Some('+' | '-')));
            let exponent = digits(self, end + 1 + sign);
            if exponent > end + 1 + sign {
                end = exponent;
                fraction = true;
            }
        }
        let suffixes: &[&str] = if fraction { &["BD", "D", "F"] } else { &["BD", "L", "S", "Y", "D", "F"] };
        for suffix in suffixes {
            let matches = suffix.chars().enumerate().all(|(i, s)| self.chars.get(end + i).is_some_and(|c| c.to_ascii_uppercase() == s));
            if matches {
                end += suffix.len();
                break;
            }
        }
        if self.chars.get(end).is_some_and(|c| is_word(*c)) && self.chars[begin] != '.' {
            return self.word();
        }
        let text: String = self.chars[begin..end].iter().collect();
        self.advance(end - begin);
        Token::Number(text, false)
    }

    /// `t@v3` and `t@20240131120000000` become `t VERSION AS OF 3` and `t TIMESTAMP AS OF '...'`.
    fn time_travel(&mut self, start: Location) -> Result<bool> {
        if !matches!(self.out.last().map(|t| &t.token), Some(Token::Word(_))) {
            return Ok(false);
        }
        let version: String = self.chars[self.at + 1..].iter().take_while(|c| is_word(**c)).collect();
        let (keyword, value) = match version.strip_prefix(['v', 'V']) {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                ("VERSION", Token::Number(digits.to_string(), false))
            }
            _ if version.len() == 17 && version.bytes().all(|b| b.is_ascii_digit()) => {
                let v = &version;
                let instant = format!("{}-{}-{} {}:{}:{}.{}", &v[0..4], &v[4..6], &v[6..8], &v[8..10], &v[10..12], &v[12..14], &v[14..17]);
                ("TIMESTAMP", Token::SingleQuotedString(instant))
            }
            _ => return Ok(false),
        };
        self.advance(1 + version.len());
        for token in [Token::make_word(keyword, None), Token::make_word("AS", None), Token::make_word("OF", None), value] {
            self.out.push(TokenWithSpan { token, span: Span::new(start, self.location()) });
        }
        Ok(true)
    }

    /// Whether what stands before could be the end of an operand, so that `.5`, `:name` go on with it.
    fn after_operand(&self, adjacent: bool) -> bool {
        match self.out.last().map(|t| &t.token) {
            Some(Token::Word(w)) => adjacent && (w.quote_style.is_some() || !begins_operand(w.keyword)),
            Some(Token::RParen | Token::RBracket | Token::SingleQuotedString(_) | Token::Number(..)) => adjacent,
            _ => false,
        }
    }

    fn run_of(&mut self, accepts: fn(char) -> bool) -> String {
        let begin = self.at;
        let length = self.chars[begin..].iter().take_while(|c| accepts(**c)).count();
        self.advance(length);
        self.chars[begin..begin + length].iter().collect()
    }

    fn take(&mut self, length: usize, token: Token) -> Token {
        self.advance(length);
        token
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn advance(&mut self, count: usize) {
        for _ in 0..count {
            self.bump();
        }
    }

    fn location(&self) -> Location {
        Location { line: self.line, column: self.column }
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Keywords after which an operand begins, so that a `:name` there is a parameter.
fn begins_operand(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::SELECT
            | Keyword::DISTINCT
            | Keyword::WHERE
            | Keyword::AND
            | Keyword::OR
            | Keyword::NOT
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::ESCAPE
            | Keyword::BETWEEN
            | Keyword::CASE
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE
            | Keyword::ON
            | Keyword::HAVING
            | Keyword::QUALIFY
            | Keyword::BY
            | Keyword::LIMIT
            | Keyword::OFFSET
            | Keyword::OF
            | Keyword::FROM
            | Keyword::DIV
            | Keyword::IS
            | Keyword::INTERVAL
    )
}
