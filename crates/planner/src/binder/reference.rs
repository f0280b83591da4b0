//! Names within expressions: lambda variables, columns, select aliases, columns of the query around,
//! and the fields behind them.

use datafusion::sql::sqlparser::ast::{self, Ident};
use datafusion::sql::sqlparser::tokenizer::Span;
use flightpath_types::{Error, Result};

use super::error;
use super::expr::{Bound, expression_size};
use super::names;
use super::place::{Alias, Place};
use super::query::State;
use super::scope;

impl State<'_> {
    pub(super) fn reference(&mut self, place: &Place<'_>, parts: &[Ident]) -> Result<Bound> {
        if let Some(bound) = self.variable(place, parts)? {
            return Ok(bound);
        }
        if place.names.output_first(place.scope, parts)
            && let Some(bound) = self.alias(place, parts)?
        {
            return Ok(bound);
        }
        if place.aggregate_sorted_by && place.hides_input(parts) {
            return Err(Error::not_eligible(format!(
                "an aggregate function over {0} in ORDER BY, where the SELECT list has another {0}: Databricks takes it for that one",
                scope::dotted(parts)
            )));
        }
        if let Some(found) = place.scope.find(parts)? {
            let mut t = found.col.typed();
            if place.nulled.is_some_and(|nulled| nulled.contains(&t.expr)) {
                t.nullable = true;
            }
            let name = parts[found.used - 1].value.clone();
            return self.fields(Bound::new(t, name), &parts[found.used..]);
        }
        if let Some(bound) = self.alias(place, parts)? {
            return Ok(bound);
        }
        let mut outer = place.scope.outer;
        let mut depth = 1;
        while let Some(scope) = outer {
            if let Some(found) = scope.find(parts)? {
                if depth > 1 {
                    return Err(Error::not_eligible(format!("{} refers to a query more than one level out", scope::dotted(parts))));
                }
                let name = parts[found.used - 1].value.clone();
                return self.fields(Bound::new(scope::outer_reference(found.col), name), &parts[found.used..]);
            }
            outer = scope.outer;
            depth += 1;
        }
        if let [only] = parts
            && names::is_niladic(&only.value)
        {
            return self.call_bound(&only.value, Vec::new(), only.span);
        }
        if let [first, _] = parts
            && first.value.eq_ignore_ascii_case("session_window")
        {
            return Err(Error::not_eligible("grouping by sessions (`session_window(...)`) isn't supported"));
        }
        let span = parts.first().map_or(Span::empty(), |p| p.span);
        Err(error::unresolved_column(&scope::dotted(parts), &place.scope.candidates(), span))
    }

    fn variable(&mut self, place: &Place<'_>, parts: &[Ident]) -> Result<Option<Bound>> {
        let Some(first) = parts.first() else { return Ok(None) };
        let name = first.value.to_lowercase();
        let Some((_, t)) = place.variables.iter().rev().find(|(n, _)| *n == name) else { return Ok(None) };
        let bound = Bound::new(t.clone(), "namedlambdavariable()");
        self.fields(bound, &parts[1..]).map(Some)
    }

    fn alias(&mut self, place: &Place<'_>, parts: &[Ident]) -> Result<Option<Bound>> {
        let (Some(aliases), Some(first)) = (place.aliases, parts.first()) else { return Ok(None) };
        let found = aliases.borrow().get(&first.value.to_lowercase()).cloned();
        match found {
            None => Ok(None),
            Some(Alias::Output(_)) if !place.names.is_output() || parts.len() > 1 => Ok(None),
            Some(Alias::Ambiguous) if place.names.is_output() && place.scope.find(parts)?.is_some() => Ok(None),
            Some(Alias::Ambiguous) => Err(error::ambiguous(&scope::dotted(parts), &[format!("`{0}`, `{0}`", first.value)], first.span)),
            Some(Alias::One(_) | Alias::Made(_))
                if !place.names.is_output() && matches!(place.clause, "a window function" | "an aggregate function") =>
            {
                let (class, what) = match place.clause {
                    "a window function" => ("LATERAL_COLUMN_ALIAS_IN_WINDOW", "a window expression"),
                    _ => ("LATERAL_COLUMN_ALIAS_IN_AGGREGATE_FUNC", "an aggregate function"),
                };
                Err(error::classed(
                    format!("UNSUPPORTED_FEATURE.{class}"),
                    "0A000",
                    format!("Referencing the lateral column alias {} in {what} is not supported.", scope::dotted(parts)),
                ))
            }
            Some(Alias::Output(bound)) => {
                self.spend(expression_size(&bound.t.expr))?;
                Ok(Some(Bound::new(bound.t, first.value.clone())))
            }
            Some(Alias::Made(bound)) => self.fields(Bound::new(bound.t, first.value.clone()), &parts[1..]).map(Some),
            Some(Alias::One(bound)) => {
                // The expression is repeated here: it counts again.
                self.spend(expression_size(&bound.t.expr))?;
                let mut found = self.fields(Bound::new(bound.t, first.value.clone()), &parts[1..])?;
                if let (false, Some(last)) = (place.names.is_output(), parts.last()) {
                    found.name = format!("lateralAliasReference({})", last.value);
                }
                Ok(Some(found))
            }
        }
    }

    /// `.field` for each part.
    fn fields(&mut self, mut base: Bound, parts: &[Ident]) -> Result<Bound> {
        for part in parts {
            base = self.field(base, part)?;
        }
        Ok(base)
    }

    pub(super) fn access(&mut self, place: &Place<'_>, root: &ast::Expr, chain: &[ast::AccessExpr]) -> Result<Bound> {
        // Leading names may be a relation and its column.
        let mut parts: Vec<Ident> = match root {
            ast::Expr::Identifier(ident) => vec![ident.clone()],
            ast::Expr::CompoundIdentifier(parts) => parts.clone(),
            _ => Vec::new(),
        };
        let mut rest = chain;
        if !parts.is_empty() {
            while let [ast::AccessExpr::Dot(ast::Expr::Identifier(ident)), tail @ ..] = rest {
                parts.push(ident.clone());
                rest = tail;
            }
        }
        let mut base = if parts.is_empty() { self.expr(place, root)? } else { self.reference(place, &parts)? };
        for step in rest {
            base = match step {
                ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) => self.field(base, ident)?,
                ast::AccessExpr::Dot(other) => return Err(Error::not_eligible(format!("`.{other}` isn't understood"))),
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    let index = self.expr(place, index)?;
                    self.subscript(base, index)?
                }
                ast::AccessExpr::Subscript(ast::Subscript::Slice { .. }) => {
                    return Err(Error::invalid("slices `[a:b]` aren't part of Databricks SQL"));
                }
            };
        }
        Ok(base)
    }
}
