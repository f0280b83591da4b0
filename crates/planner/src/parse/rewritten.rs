//! Grammar that sqlparser's tree has no place for, written as what it has: paths in `* EXCEPT (a.b)` become one
//! name, an expression in PIVOT becomes a call under a name that nobody writes. Never changes
//! other text.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::steps;

/// Stands between the names of a path. No name that is written holds it.
pub(crate) const PATH: char = '\u{1}';

fn keyword(token: Option<&TokenWithSpan>) -> Option<Keyword> {
    match token.map(|t| &t.token) {
        Some(Token::Word(w)) if w.quote_style.is_none() => Some(w.keyword),
        _ => None,
    }
}

/// `* EXCEPT (s.a, t)`: each path as one name.
pub(super) fn paths_in_except(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let starts = |i: usize| {
        tokens[i].token == Token::Mul
            && keyword(tokens.get(i + 1)) == Some(Keyword::EXCEPT)
            && matches!(tokens.get(i + 2).map(|t| &t.token), Some(Token::LParen))
    };
    if !(0..tokens.len()).any(starts) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut inside = false;
    let mut i = 0;
    while i < tokens.len() {
        if starts(i) {
            out.extend_from_slice(&tokens[i..i + 3]);
            inside = true;
            i += 3;
            continue;
        }
        inside &= tokens[i].token != Token::RParen;
        let follows = tokens[i].token == Token::Period;
        match (out.last_mut().map(|t| &mut t.token), tokens.get(i + 1).map(|t| &t.token)) {
            (Some(Token::Word(path)), Some(Token::Word(next))) if inside && follows && !next.value.contains(PATH) => {
                *path = Word { value: format!("{}{PATH}{}", path.value, next.value), quote_style: Some('`'), keyword: Keyword::NoKeyword };
                i += 2;
            }
            _ => {
                out.push(tokens[i].clone());
                i += 1;
            }
        }
    }
    out
}

/// `PIVOT (sum(a) / count(*) AS r FOR ...)`: what isn't a plain call becomes the argument of one.
pub(super) fn pivot_expressions(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| keyword(Some(t)) == Some(Keyword::PIVOT)) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    let mut i = 0;
    while i < tokens.len() {
        out.push(tokens[i].clone());
        i += 1;
        let opens = keyword(out.last()) == Some(Keyword::PIVOT) && matches!(tokens.get(i).map(|t| &t.token), Some(Token::LParen));
        if let Some(end) = opens.then(|| end_of_aggregates(&tokens, i + 1)).flatten() {
            out.push(tokens[i].clone());
            aggregates(&tokens[i + 1..end], &mut out);
            i = end;
        }
    }
    out
}

/// Where PIVOT's FOR stands.
fn end_of_aggregates(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    let mut open = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(from) {
        match token.token {
            Token::LParen | Token::LBracket => open += 1,
            Token::RParen | Token::RBracket => open = open.checked_sub(1)?,
            _ if open == 0 && keyword(Some(token)) == Some(Keyword::FOR) => return Some(i),
            _ => {}
        }
    }
    None
}

fn aggregates(tokens: &[TokenWithSpan], out: &mut Vec<TokenWithSpan>) {
    let mut open = 0usize;
    let mut start = 0;
    for (i, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen | Token::LBracket => open += 1,
            Token::RParen | Token::RBracket => open = open.saturating_sub(1),
            Token::Comma if open == 0 => {
                aggregate(&tokens[start..i], out);
                out.push(token.clone());
                start = i + 1;
            }
            _ => {}
        }
    }
    aggregate(&tokens[start..], out);
}

fn aggregate(tokens: &[TokenWithSpan], out: &mut Vec<TokenWithSpan>) {
    let aliased = tokens.len() >= 2
        && keyword(tokens.get(tokens.len() - 2)) == Some(Keyword::AS)
        && matches!(tokens.last().map(|t| &t.token), Some(Token::Word(_)));
    let (expression, alias) = tokens.split_at(tokens.len() - if aliased { 2 } else { 0 });
    let Some(first) = expression.first() else {
        out.extend_from_slice(tokens);
        return;
    };
    if is_call(expression) {
        out.extend_from_slice(tokens);
        return;
    }
    let push = |out: &mut Vec<TokenWithSpan>, token: Token, span: Span| out.push(TokenWithSpan { token, span });
    push(out, Token::make_word(steps::PIVOTED, Some('`')), first.span);
    push(out, Token::LParen, first.span);
    out.extend_from_slice(expression);
    push(out, Token::RParen, expression.last().map_or(first.span, |t| t.span));
    out.extend_from_slice(alias);
}

/// Whether all of it is one call, perhaps with a filter or an alias without AS behind it.
fn is_call(tokens: &[TokenWithSpan]) -> bool {
    let plain = match tokens.first().map(|t| &t.token) {
        Some(Token::Word(w)) => {
            w.quote_style.is_some()
                || !matches!(
                    w.keyword,
                    Keyword::CAST
                        | Keyword::TRY_CAST
                        | Keyword::CASE
                        | Keyword::EXTRACT
                        | Keyword::NOT
                        | Keyword::TRIM
                        | Keyword::SUBSTRING
                )
        }
        _ => false,
    };
    if !plain || !matches!(tokens.get(1).map(|t| &t.token), Some(Token::LParen)) {
        return false;
    }
    let mut open = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(1) {
        match token.token {
            Token::LParen => open += 1,
            Token::RParen => open = open.saturating_sub(1),
            _ => {}
        }
        if open == 0 {
            return matches!(tokens.get(i + 1).map(|t| &t.token), None | Some(Token::Word(_)))
                && !matches!(
                    keyword(tokens.get(i + 1)),
                    Some(
                        Keyword::AND
                            | Keyword::OR
                            | Keyword::IS
                            | Keyword::IN
                            | Keyword::LIKE
                            | Keyword::BETWEEN
                            | Keyword::NOT
                            | Keyword::DIV
                    )
                );
        }
    }
    false
}
