//! Pipe syntax as sqlparser's grammar knows it: set operations behind `|>` with DISTINCT written out and
//! their query in parentheses, `|> SEMI JOIN` as a LEFT one, steps that it lacks as calls, and a statement
//! `TABLE t` as `FROM t`, which may be followed by pipes. Never changes a text that holds neither.

use std::iter::Peekable;
use std::vec::IntoIter;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::steps;

/// What goes at the end of a step, and how many parentheses are open inside of it.
struct Pending {
    ending: Vec<Token>,
    open: usize,
}

struct Written {
    tokens: Vec<TokenWithSpan>,
    pending: Vec<Pending>,
}

pub(super) fn pipes_written_out(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if keyword(tokens.first()) == Some(Keyword::TABLE) && matches!(tokens.get(1).map(|t| &t.token), Some(Token::Word(_))) {
        tokens[0].token = Token::make_keyword("FROM");
    }
    if !tokens.iter().any(|t| t.token == Token::VerticalBarRightAngleBracket) {
        return tokens;
    }
    let mut out = Written { tokens: Vec::with_capacity(tokens.len() + 8), pending: Vec::new() };
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let span = token.span;
        let ends = matches!(token.token, Token::VerticalBarRightAngleBracket | Token::RParen | Token::SemiColon | Token::EOF);
        while ends && out.pending.last().is_some_and(|step| step.open == 0) {
            out.end(span);
        }
        match (&token.token, out.pending.last_mut()) {
            (Token::LParen, Some(step)) => step.open += 1,
            (Token::RParen, Some(step)) => step.open = step.open.saturating_sub(1),
            _ => {}
        }
        let pipe = token.token == Token::VerticalBarRightAngleBracket;
        out.tokens.push(token);
        if pipe {
            out.step(&mut tokens, span);
        }
    }
    let end = out.tokens.last().map_or_else(Span::empty, |t| t.span);
    while !out.pending.is_empty() {
        out.end(end);
    }
    out.tokens
}

impl Written {
    fn push(&mut self, tokens: impl IntoIterator<Item = Token>, span: Span) {
        self.tokens.extend(tokens.into_iter().map(|token| TokenWithSpan { token, span }));
    }

    fn end(&mut self, span: Span) {
        if let Some(step) = self.pending.pop() {
            self.push(step.ending, span);
        }
    }

    /// The first words of what stands behind `|>`.
    fn step(&mut self, tokens: &mut Peekable<IntoIter<TokenWithSpan>>, span: Span) {
        match keyword(tokens.peek()) {
            Some(Keyword::SEMI | Keyword::ANTI) => self.push([Token::make_keyword("LEFT")], span),
            Some(Keyword::OFFSET) => {
                tokens.next();
                self.push(call(steps::OFFSET), span);
                self.pending.push(Pending { ending: vec![Token::RParen], open: 0 });
            }
            Some(Keyword::SELECT) => {
                self.tokens.extend(tokens.next());
                if keyword(tokens.peek()) == Some(Keyword::DISTINCT) {
                    tokens.next();
                    let mut ending = vec![Token::VerticalBarRightAngleBracket];
                    ending.extend(call(steps::DISTINCT));
                    ending.push(Token::RParen);
                    self.pending.push(Pending { ending, open: 0 });
                }
            }
            Some(operation @ (Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS)) => {
                tokens.next();
                self.set_operation(operation, tokens, span);
            }
            _ => {}
        }
    }

    fn set_operation(&mut self, operation: Keyword, tokens: &mut Peekable<IntoIter<TokenWithSpan>>, span: Span) {
        let quantifier = keyword(tokens.peek()).filter(|k| matches!(k, Keyword::ALL | Keyword::DISTINCT));
        if quantifier.is_some() {
            tokens.next();
        }
        let all = quantifier == Some(Keyword::ALL);
        let bare = !matches!(tokens.peek().map(|t| &t.token), Some(Token::LParen));
        let mut ending = if bare { vec![Token::RParen] } else { Vec::new() };
        let word = match operation {
            Keyword::UNION => "UNION",
            Keyword::INTERSECT => "INTERSECT",
            _ => "EXCEPT",
        };
        if all && operation != Keyword::UNION {
            self.push(call(if operation == Keyword::INTERSECT { steps::INTERSECT_ALL } else { steps::EXCEPT_ALL }), span);
            ending.push(Token::RParen);
        } else {
            self.push([Token::make_keyword(word), Token::make_keyword(if all { "ALL" } else { "DISTINCT" })], span);
        }
        if bare {
            self.push([Token::LParen], span);
            if keyword(tokens.peek()) == Some(Keyword::TABLE) {
                tokens.next();
                self.push([Token::make_keyword("FROM")], span);
            }
        }
        if !ending.is_empty() {
            self.pending.push(Pending { ending, open: 0 });
        }
    }
}

/// `CALL step(`
fn call(step: &str) -> [Token; 3] {
    [Token::make_keyword("CALL"), Token::make_word(step, Some('`')), Token::LParen]
}

fn keyword(token: Option<&TokenWithSpan>) -> Option<Keyword> {
    match token.map(|t| &t.token) {
        Some(Token::Word(w)) if w.quote_style.is_none() => Some(w.keyword),
        _ => None,
    }
}
