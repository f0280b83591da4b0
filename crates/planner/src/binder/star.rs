//! `*`, `t.*`, `struct.*`, with EXCEPT.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{self, Ident};
use flightpath_functions::Typed;
use flightpath_types::{Error, Result};

use super::error;
use super::expr::{Bound, Place};
use super::from::identifiers;
use super::query::State;
use super::scope;
use super::select::Item;

impl State<'_> {
    pub fn star(
        &mut self,
        place: &Place<'_>,
        of: Option<&ast::SelectItemQualifiedWildcardKind>,
        options: &ast::WildcardAdditionalOptions,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let mut columns = self.star_columns(place, of)?;
        if let Some(except) = &options.opt_except {
            let mut names: HashSet<String> = HashSet::new();
            for ident in std::iter::once(&except.first_element).chain(&except.additional_elements) {
                if !columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(&ident.value)) {
                    let known: Vec<String> = columns.iter().map(|(n, _)| n.to_string()).collect();
                    return Err(error::unresolved_column(&format!("`{}`", ident.value), &known, ident.span));
                }
                if !names.insert(ident.value.to_lowercase()) {
                    return Err(error::classed(
                        "EXCEPT_OVERLAPPING_COLUMNS",
                        "42702",
                        format!("Columns in an EXCEPT list must be distinct, but `{}` stands there twice.", ident.value),
                    ));
                }
            }
            columns.retain(|(name, _)| !names.contains(&name.to_lowercase()));
        }
        for (name, mut t) in columns {
            if place.nulled.is_some_and(|n| n.contains(&t.expr)) {
                t.nullable = true;
            }
            items.push(Item { name, t });
        }
        Ok(())
    }

    /// The columns that a star stands for, with their names.
    pub fn star_columns(&mut self, place: &Place<'_>, of: Option<&ast::SelectItemQualifiedWildcardKind>) -> Result<Vec<(Arc<str>, Typed)>> {
        let columns: Vec<(Arc<str>, Typed)> = match of {
            None if place.scope.cols().is_empty() => {
                return Err(Error::invalid("`*` needs a FROM clause"));
            }
            None => place.scope.cols().iter().filter(|c| !c.hidden).map(|c| (c.name.clone(), c.typed())).collect(),
            Some(ast::SelectItemQualifiedWildcardKind::ObjectName(name)) => {
                let parts = identifiers(name)?;
                let qualifier: Vec<String> = parts.iter().map(|p| p.value.to_lowercase()).collect();
                let own = place.scope.of_relation(&qualifier);
                if own.is_empty() { self.struct_star(place, &parts)? } else { own.iter().map(|c| (c.name.clone(), c.typed())).collect() }
            }
            Some(ast::SelectItemQualifiedWildcardKind::Expr(e)) => {
                let bound = self.expr(place, e)?;
                self.struct_fields(bound)?
            }
        };
        self.spend(columns.len())?;
        Ok(columns)
    }

    fn struct_star(&mut self, place: &Place<'_>, parts: &[Ident]) -> Result<Vec<(Arc<str>, Typed)>> {
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

    fn struct_fields(&mut self, bound: Bound) -> Result<Vec<(Arc<str>, Typed)>> {
        let DataType::Struct(fields) = bound.t.ty.clone() else {
            return Err(error::classed(
                "CANNOT_RESOLVE_STAR_EXPAND",
                "42704",
                format!("Cannot expand {}.*: it isn't a STRUCT.", bound.name),
            ));
        };
        fields.iter().map(|f| Ok((Arc::from(f.name().as_str()), self.field(bound.clone(), &Ident::new(f.name().as_str()))?.t))).collect()
    }
}
