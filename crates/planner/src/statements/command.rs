//! The small statements' grammar, over tokens: Databricks' SHOW, DESCRIBE, EXPLAIN, USE, SET and
//! RESET. sqlparser knows other forms of these, so they are read here.

use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use flightpath_types::Result;

use crate::parse::syntax_error;

/// What a text asks for. Names are as written; at most three parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Anything else: a query, or something that is refused.
    Other,
    ExplainRoute(Location),
    Explain {
        extended: bool,
        query: Location,
    },
    ShowCatalogs {
        like: Option<String>,
    },
    ShowSchemas {
        catalog: Option<String>,
        like: Option<String>,
    },
    ShowTables {
        schema: Vec<String>,
        like: Option<String>,
    },
    ShowColumns {
        table: Vec<String>,
    },
    ShowProperties {
        table: Vec<String>,
        key: Option<String>,
    },
    ShowFunctions {
        like: Option<String>,
    },
    Describe {
        table: Vec<String>,
        column: Option<String>,
        extended: bool,
    },
    DescribeDetail {
        table: Vec<String>,
    },
    DescribeHistory {
        table: Vec<String>,
        limit: Option<usize>,
    },
    DescribeQuery(Location),
    UseCatalog(String),
    UseSchema(Vec<String>),
    ShowSettings(Option<String>),
    Set {
        name: String,
        value: String,
    },
    Reset(Option<String>),
    /// Understood, and not offered here.
    Refused(String),
}

/// Reads the command of a text whose tokens these are.
pub(crate) fn read(tokens: &[TokenWithSpan]) -> Result<Command> {
    let mut end = tokens.len();
    while end > 0 && tokens[end - 1].token == Token::SemiColon {
        end -= 1;
    }
    let mut reader = Reader { tokens: &tokens[..end], at: 0 };
    let command = match reader.word().as_deref() {
        Some("explain") => reader.explain()?,
        Some("show") => reader.show()?,
        Some("describe" | "desc") => reader.describe()?,
        Some("use") => reader.use_()?,
        Some("set") => return reader.set(),
        Some("reset") => reader.reset()?,
        _ => return Ok(Command::Other),
    };
    match command {
        Command::ExplainRoute(_) | Command::Explain { .. } | Command::DescribeQuery(_) | Command::Refused(_) => Ok(command),
        complete => {
            reader.end()?;
            Ok(complete)
        }
    }
}

struct Reader<'a> {
    tokens: &'a [TokenWithSpan],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.token)
    }

    fn location(&self) -> Location {
        match self.tokens.get(self.at) {
            Some(token) => token.span.start,
            None => self.tokens.last().map_or(Location { line: 1, column: 1 }, |t| t.span.end),
        }
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        let found = self.peek().map_or_else(|| "end of input".to_string(), |t| format!("'{t}'"));
        Err(syntax_error(&format!("Syntax error at or near {found}: expected {wanted}"), self.location()))
    }

    fn end(&self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { self.unexpected("the end of the statement") }
    }

    /// The next token as a keyword in lower case; moves past it.
    fn word(&mut self) -> Option<String> {
        let word = self.keyword()?;
        self.at += 1;
        Some(word)
    }

    fn keyword(&self) -> Option<String> {
        match self.peek()? {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn accept(&mut self, keywords: &[&str]) -> bool {
        let found = self.keyword().is_some_and(|k| keywords.contains(&k.as_str()));
        self.at += usize::from(found);
        found
    }

    fn identifier(&mut self) -> Result<String> {
        let found = match self.peek() {
            Some(Token::Word(word)) => word.value.clone(),
            _ => return self.unexpected("a name"),
        };
        self.at += 1;
        Ok(found)
    }

    fn name(&mut self) -> Result<Vec<String>> {
        let mut parts = vec![self.identifier()?];
        while self.peek() == Some(&Token::Period) {
            self.at += 1;
            parts.push(self.identifier()?);
        }
        if parts.len() > 3 {
            return self.unexpected("a name of at most three parts");
        }
        Ok(parts)
    }

    fn string(&mut self) -> Option<String> {
        match self.peek() {
            Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => {
                let text = text.clone();
                self.at += 1;
                Some(text)
            }
            _ => None,
        }
    }

    /// `[LIKE] 'pattern'`
    fn like(&mut self) -> Result<Option<String>> {
        let required = self.accept(&["like"]);
        match self.string() {
            Some(pattern) => Ok(Some(pattern)),
            None if required => self.unexpected("a pattern"),
            None => Ok(None),
        }
    }

    fn explain(&mut self) -> Result<Command> {
        let mut extended = false;
        match self.keyword().as_deref() {
            Some("route") => {
                self.at += 1;
                return self.rest().map(Command::ExplainRoute);
            }
            Some("extended" | "formatted") => {
                self.at += 1;
                extended = true;
            }
            Some("codegen" | "cost" | "analyze") => {
                return Ok(Command::Refused("this form of EXPLAIN isn't offered; use EXPLAIN, EXPLAIN EXTENDED or EXPLAIN ROUTE".into()));
            }
            _ => {}
        }
        self.rest().map(|query| Command::Explain { extended, query })
    }

    fn rest(&self) -> Result<Location> {
        if self.peek().is_none() { self.unexpected("a query") } else { Ok(self.location()) }
    }

    fn show(&mut self) -> Result<Command> {
        match self.word().as_deref() {
            Some("catalogs") => Ok(Command::ShowCatalogs { like: self.like()? }),
            Some("schemas" | "databases") => {
                let catalog = if self.accept(&["in", "from"]) { Some(self.identifier()?) } else { None };
                Ok(Command::ShowSchemas { catalog, like: self.like()? })
            }
            Some("tables") => {
                let schema = if self.accept(&["in", "from"]) { self.name()? } else { Vec::new() };
                Ok(Command::ShowTables { schema, like: self.like()? })
            }
            Some("columns") => {
                if !self.accept(&["in", "from"]) {
                    return self.unexpected("IN or FROM and a table");
                }
                let mut table = self.name()?;
                if self.accept(&["in", "from"]) {
                    let mut schema = self.name()?;
                    schema.extend(table.pop());
                    table = schema;
                }
                Ok(Command::ShowColumns { table })
            }
            Some("tblproperties") => {
                let table = self.name()?;
                let mut key = None;
                if self.peek() == Some(&Token::LParen) {
                    self.at += 1;
                    key = Some(match self.string() {
                        Some(key) => key,
                        None => self.dotted()?,
                    });
                    if self.peek() != Some(&Token::RParen) {
                        return self.unexpected("')'");
                    }
                    self.at += 1;
                }
                Ok(Command::ShowProperties { table, key })
            }
            Some("functions") => Ok(Command::ShowFunctions { like: self.like()? }),
            Some(other) => Ok(Command::Refused(format!(
                "SHOW {} isn't offered; SHOW knows CATALOGS, SCHEMAS, TABLES, COLUMNS, TBLPROPERTIES and FUNCTIONS",
                other.to_uppercase()
            ))),
            None => self.unexpected("what to show"),
        }
    }

    fn describe(&mut self) -> Result<Command> {
        let start = self.at;
        match self.word().as_deref() {
            Some("detail") if self.peek().is_some() => return Ok(Command::DescribeDetail { table: self.name()? }),
            Some("history") if self.peek().is_some() => {
                let table = self.name()?;
                let mut limit = None;
                if self.accept(&["limit"]) {
                    limit = match self.peek() {
                        Some(Token::Number(digits, _)) => digits.parse().ok(),
                        _ => None,
                    };
                    if limit.is_none() {
                        return self.unexpected("a number of commits");
                    }
                    self.at += 1;
                }
                return Ok(Command::DescribeHistory { table, limit });
            }
            Some("query") => return self.rest().map(Command::DescribeQuery),
            Some("select" | "with" | "values") => {
                self.at = start;
                return self.rest().map(Command::DescribeQuery);
            }
            Some(kind @ ("catalog" | "schema" | "database" | "function" | "volume" | "credential" | "share")) if self.peek().is_some() => {
                return Ok(Command::Refused(format!(
                    "DESCRIBE {} isn't offered; DESCRIBE knows tables, DETAIL, HISTORY and QUERY",
                    kind.to_uppercase()
                )));
            }
            Some("table") if self.peek().is_some() => {}
            _ => self.at = start,
        }
        let before = self.at;
        let mut extended = self.accept(&["extended", "formatted"]);
        if extended && self.peek().is_none() {
            // A table of that name.
            self.at = before;
            extended = false;
        }
        let table = self.name()?;
        let column = if self.peek().is_some() { Some(self.dotted()?) } else { None };
        Ok(Command::Describe { table, column, extended })
    }

    fn use_(&mut self) -> Result<Command> {
        let start = self.at;
        match self.word().as_deref() {
            Some("catalog") if self.peek().is_some() => {
                let name = self.string().map_or_else(|| self.identifier(), Ok)?;
                return Ok(Command::UseCatalog(name));
            }
            Some("schema" | "database") if self.peek().is_some() => {}
            _ => self.at = start,
        }
        let name = self.name()?;
        if name.len() > 2 {
            return Ok(Command::Refused("USE takes a schema: `schema` or `catalog.schema`".into()));
        }
        Ok(Command::UseSchema(name))
    }

    fn set(&mut self) -> Result<Command> {
        if self.peek().is_none() {
            return Ok(Command::ShowSettings(None));
        }
        if self.keyword().as_deref() == Some("all") || self.peek() == Some(&Token::Minus) {
            return Ok(Command::ShowSettings(None));
        }
        let start = self.at;
        match self.keyword().as_deref() {
            Some("time") if matches!(self.tokens.get(self.at + 1).map(|t| &t.token), Some(Token::Word(w)) if w.value.eq_ignore_ascii_case("zone")) =>
            {
                self.at += 2;
                return self.time_zone();
            }
            Some("catalog") if !matches!(self.tokens.get(self.at + 1).map(|t| &t.token), Some(Token::Eq) | None) => {
                self.at += 1;
                let name = self.string().map_or_else(|| self.identifier(), Ok)?;
                self.end()?;
                return Ok(Command::UseCatalog(name));
            }
            _ => self.at = start,
        }
        let name = self.dotted()?;
        match self.peek() {
            None => Ok(Command::ShowSettings(Some(name))),
            Some(Token::Eq) => {
                self.at += 1;
                let value = match (self.tokens.len() - self.at, self.string()) {
                    (1, Some(text)) => text,
                    _ => spelled(&self.tokens[self.at..]),
                };
                Ok(Command::Set { name, value })
            }
            Some(_) => self.unexpected("'='"),
        }
    }

    fn time_zone(&mut self) -> Result<Command> {
        let name = "time_zone".to_string();
        if self.accept(&["local"]) {
            self.end()?;
            return Ok(Command::Set { name, value: String::new() });
        }
        let Some(value) = self.string() else {
            return self.unexpected("LOCAL or the name of a time zone in quotes");
        };
        self.end()?;
        Ok(Command::Set { name, value })
    }

    fn reset(&mut self) -> Result<Command> {
        if self.peek().is_none() {
            return Ok(Command::Reset(None));
        }
        self.dotted().map(|name| Command::Reset(Some(name)))
    }

    /// `a.b.c` of any length, as one text.
    fn dotted(&mut self) -> Result<String> {
        let mut parts = vec![self.identifier()?];
        while self.peek() == Some(&Token::Period) {
            self.at += 1;
            parts.push(self.identifier()?);
        }
        Ok(parts.join("."))
    }
}

/// Tokens as one text, with a blank wherever something stood between two of them.
fn spelled(tokens: &[TokenWithSpan]) -> String {
    let mut text = String::new();
    let mut end = None;
    for token in tokens {
        if end.is_some_and(|end| end != token.span.start) {
            text.push(' ');
        }
        text.push_str(&token.token.to_string());
        end = Some(token.span.end);
    }
    text
}

/// `text` from `start` on, with what stands before it blanked, so that positions stay true.
pub(crate) fn blank_before(text: &str, start: Location) -> String {
    let (mut line, mut column) = (1u64, 1u64);
    let mut blanked = String::with_capacity(text.len());
    let mut chars = text.chars();
    for c in chars.by_ref() {
        if (line, column) >= (start.line, start.column) {
            blanked.push(c);
            break;
        }
        if c == '\n' {
            line += 1;
            column = 1;
            blanked.push('\n');
        } else {
            column += 1;
            blanked.push(' ');
        }
    }
    blanked.push_str(chars.as_str());
    blanked
}

/// Databricks' patterns of SHOW: `*` for any text, `|` between alternatives, in any case.
pub(crate) fn matches(pattern: Option<&str>, name: &str) -> bool {
    let Some(pattern) = pattern else { return true };
    let name: Vec<char> = name.to_lowercase().chars().collect();
    pattern.to_lowercase().split('|').any(|p| glob(&p.trim().chars().collect::<Vec<_>>(), &name))
}

fn glob(pattern: &[char], name: &[char]) -> bool {
    // Greedy with one point to come back to: linear in practice, no recursion.
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && (pattern[p] == '*' || pattern[p] == '%') {
            back = Some((p, n));
            p += 1;
        } else if p < pattern.len() && pattern[p] == name[n] {
            p += 1;
            n += 1;
        } else if let Some((star, from)) = back {
            p = star + 1;
            n = from + 1;
            back = Some((star, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*' || *c == '%')
}
