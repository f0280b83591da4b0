//! `*`, `t.*`, `struct.*`, with EXCEPT.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Ident};
use flightpath_functions::Typed;
use flightpath_types::{Error, Result};

use super::error;
use super::expr::Bound;
use super::from::identifiers;
use super::place::Place;
use super::query::State;
use super::scope::{self, Col};
use super::select::Item;
use crate::parse::PATH;

impl State<'_> {
    pub fn star(
        &mut self,
        place: &Place<'_>,
        of: Option<&ast::SelectItemQualifiedWildcardKind>,
        options: &ast::WildcardAdditionalOptions,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let mut columns: Vec<(Arc<str>, Typed)> = self.star_columns(place, of)?.into_iter().map(|c| (c.name, c.t)).collect();
        if let Some(except) = &options.opt_except {
            let paths: Vec<Vec<Ident>> = std::iter::once(&except.first_element)
                .chain(&except.additional_elements)
                .map(|ident| ident.value.split(PATH).map(|part| Ident::with_span(ident.span, part)).collect())
                .collect();
            columns = self.without(place, columns, &paths)?;
        }
        for (name, mut t) in columns {
            if place.nulled.is_some_and(|n| n.contains(&t.expr)) {
                t.nullable = true;
            }
            items.push(Item { name, t });
        }
        Ok(())
    }

    /// The columns without those that the paths name: whole columns, or fields of structs.
    fn without(&mut self, place: &Place<'_>, columns: Vec<(Arc<str>, Typed)>, paths: &[Vec<Ident>]) -> Result<Vec<(Arc<str>, Typed)>> {
        let mut taken: Vec<(usize, &[Ident])> = Vec::with_capacity(paths.len());
        for path in paths {
            let (at, fields) = excepted(place, &columns, path)?;
            let overlaps = |other: &[Ident]| other.iter().zip(fields).all(|(a, b)| a.value.eq_ignore_ascii_case(&b.value));
            if taken.iter().any(|(i, other)| *i == at && overlaps(other)) {
                return Err(error::classed(
                    "EXCEPT_OVERLAPPING_COLUMNS",
                    "42702",
                    format!("Columns in an EXCEPT list must be distinct and non-overlapping, but {} isn't.", scope::dotted(path)),
                ));
            }
            taken.push((at, fields));
        }
        let mut kept = Vec::with_capacity(columns.len());
        for (i, (name, t)) in columns.into_iter().enumerate() {
            let fields: Vec<&[Ident]> = taken.iter().filter(|(at, _)| *at == i).map(|(_, fields)| *fields).collect();
            if fields.is_empty() {
                kept.push((name, t));
            } else if fields.iter().all(|f| !f.is_empty()) {
                let rest = self.without_fields(Bound::new(t, name.as_ref()), &fields)?;
                kept.push((name, rest));
            }
        }
        Ok(kept)
    }

    /// A struct made anew of the fields that no path names.
    fn without_fields(&mut self, base: Bound, paths: &[&[Ident]]) -> Result<Typed> {
        let DataType::Struct(fields) = base.t.ty.clone() else {
            return Err(error::classed(
                "EXCEPT_NESTED_COLUMN_INVALID_TYPE",
                "428H2",
                format!("EXCEPT names a field of `{}`, which isn't a STRUCT.", base.name),
            ));
        };
        for path in paths {
            if let [first, ..] = path
                && !fields.iter().any(|f| f.name().eq_ignore_ascii_case(&first.value))
            {
                self.field(base.clone(), first)?;
            }
        }
        let mut args = Vec::with_capacity(fields.len() * 2);
        for field in &fields {
            let of_it = |path: &&&[Ident]| path.first().is_some_and(|p| p.value.eq_ignore_ascii_case(field.name()));
            let deeper: Vec<&[Ident]> = paths.iter().filter(of_it).map(|path| &path[1..]).collect();
            if deeper.iter().any(|path| path.is_empty()) {
                continue;
            }
            let value = self.field(base.clone(), &Ident::new(field.name().as_str()))?;
            let value = if deeper.is_empty() { value.t } else { self.without_fields(value, &deeper)? };
            args.push(Typed::literal(ScalarValue::Utf8(Some(field.name().clone()))));
            args.push(value);
        }
        if args.is_empty() {
            return Err(Error::not_eligible("EXCEPT of all of a struct's fields isn't supported"));
        }
        self.function("named_struct", args)
    }

    /// The columns that a star stands for.
    pub fn star_columns(&mut self, place: &Place<'_>, of: Option<&ast::SelectItemQualifiedWildcardKind>) -> Result<Vec<Starred>> {
        let columns = match of {
            None if place.scope.cols().is_empty() => {
                return Err(Error::invalid("`*` needs a FROM clause"));
            }
            None => place.scope.cols().iter().filter(|c| !c.hidden).map(Starred::column).collect(),
            Some(ast::SelectItemQualifiedWildcardKind::ObjectName(name)) => {
                let parts = identifiers(name)?;
                let qualifier: Vec<String> = parts.iter().map(|p| p.value.to_lowercase()).collect();
                let own = place.scope.of_relation(&qualifier);
                if own.is_empty() { self.struct_star(place, &parts)? } else { own.into_iter().map(Starred::column).collect() }
            }
            Some(ast::SelectItemQualifiedWildcardKind::Expr(e)) => {
                let bound = self.expr(place, e)?;
                self.struct_fields(bound)?
            }
        };
        self.spend(columns.len())?;
        Ok(columns)
    }

    fn struct_star(&mut self, place: &Place<'_>, parts: &[Ident]) -> Result<Vec<Starred>> {
        let e = match parts {
            [only] => ast::Expr::Identifier(only.clone()),
            several => ast::Expr::CompoundIdentifier(several.to_vec()),
        };
        match self.expr(place, &e) {
            Ok(bound) => self.struct_fields(bound),
            Err(_) => Err(error::classed(
                "CANNOT_RESOLVE_STAR_EXPAND",
                "42704",
                format!("Cannot resolve {}.* given input columns.", scope::dotted(parts)),
            )),
        }
    }

    fn struct_fields(&mut self, bound: Bound) -> Result<Vec<Starred>> {
        let DataType::Struct(fields) = bound.t.ty.clone() else {
            return Err(error::classed(
                "CANNOT_RESOLVE_STAR_EXPAND",
                "42704",
                format!("Cannot expand {}.*: it isn't a STRUCT.", bound.name),
            ));
        };
        fields
            .iter()
            .map(|f| {
                let field = self.field(bound.clone(), &Ident::new(f.name().as_str()))?;
                let shown = format!("{} AS {}", field.name, f.name());
                Ok(Starred { name: Arc::from(f.name().as_str()), t: field.t, shown })
            })
            .collect()
    }
}

/// A column that a star stands for.
pub(super) struct Starred {
    pub name: Arc<str>,
    pub t: Typed,
    /// In the names of what it is an argument of.
    pub shown: String,
}

impl Starred {
    fn column(column: &Col) -> Self {
        Self { name: column.name.clone(), t: column.typed(), shown: column.name.to_string() }
    }
}

/// The column that a path in EXCEPT begins with, by its place among the star's, and the fields behind it.
fn excepted<'p>(place: &Place<'_>, columns: &[(Arc<str>, Typed)], path: &'p [Ident]) -> Result<(usize, &'p [Ident])> {
    if let [only] = path {
        let mut named = columns.iter().enumerate().filter(|(_, (name, _))| name.eq_ignore_ascii_case(&only.value));
        return match (named.next(), named.next()) {
            (Some((at, _)), None) => Ok((at, &[])),
            (Some(_), Some(_)) => Err(error::ambiguous(&format!("`{}`", only.value), &[], only.span)),
            (None, _) => Err(unknown(columns, path)),
        };
    }
    let Some(found) = place.scope.find(path)? else { return Err(unknown(columns, path)) };
    let column = found.col.typed();
    match columns.iter().position(|(_, t)| t.expr == column.expr) {
        Some(at) => Ok((at, &path[found.used..])),
        None => Err(unknown(columns, path)),
    }
}

fn unknown(columns: &[(Arc<str>, Typed)], path: &[Ident]) -> Error {
    let known: Vec<String> = columns.iter().map(|(n, _)| n.to_string()).collect();
    let span = path.first().map_or(datafusion::sql::sqlparser::tokenizer::Span::empty(), |p| p.span);
    error::unresolved_column(&scope::dotted(path), &known, span)
}
