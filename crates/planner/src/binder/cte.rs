//! Common table expressions: what is visible where. Each reference is bound anew, with scans of its own.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast;
use flightpath_types::{Error, Result};

use super::error;
use super::scope::Scope;

/// The CTEs of one WITH that are visible at a place, and those of the enclosing queries.
#[derive(Clone, Copy)]
pub(super) struct Ctes<'s> {
    /// Those declared so far: a CTE sees the ones before it.
    visible: &'s [ast::Cte],
    recursive: bool,
    pub outer_scope: Option<&'s Scope<'s>>,
    parent: Option<&'s Ctes<'s>>,
}

/// A CTE and what it may see itself.
pub(super) struct FoundCte<'s> {
    pub cte: &'s ast::Cte,
    pub sees: Ctes<'s>,
    pub outer_scope: Option<&'s Scope<'s>>,
}

impl<'s> Ctes<'s> {
    pub const fn none() -> Ctes<'static> {
        Ctes { visible: &[], recursive: false, outer_scope: None, parent: None }
    }

    pub fn declared(with: &'s ast::With, parent: &'s Ctes<'s>, outer_scope: Option<&'s Scope<'s>>) -> Result<Self> {
        let mut names = HashSet::new();
        for cte in &with.cte_tables {
            if !names.insert(cte.alias.name.value.to_lowercase()) {
                return Err(error::classed(
                    "DUPLICATED_CTE_NAMES",
                    "42602",
                    format!("CTE definition can't have duplicate names: `{}`.", cte.alias.name.value),
                ));
            }
        }
        Ok(Ctes { visible: &with.cte_tables, recursive: with.recursive, outer_scope, parent: Some(parent) })
    }

    pub fn find(&self, name: &str) -> Result<Option<FoundCte<'s>>> {
        let at = self.visible.iter().position(|cte| cte.alias.name.value.eq_ignore_ascii_case(name));
        match at {
            Some(at) => {
                let cte = &self.visible[at];
                if self.recursive && refers_to_itself(cte) {
                    return Err(Error::not_eligible(format!("recursive common table expressions (`{name}`) aren't supported yet")));
                }
                let sees = Ctes { visible: &self.visible[..at], ..*self };
                Ok(Some(FoundCte { cte, sees, outer_scope: self.outer_scope }))
            }
            None => match self.parent {
                Some(parent) => parent.find(name),
                None => Ok(None),
            },
        }
    }
}

/// Whether a relation of the CTE's own name stands anywhere in it.
fn refers_to_itself(cte: &ast::Cte) -> bool {
    let name = &cte.alias.name.value;
    let found = ast::visit_relations(cte.query.as_ref(), |relation: &ast::ObjectName| {
        let own = matches!(relation.0.as_slice(), [ast::ObjectNamePart::Identifier(ident)] if ident.value.eq_ignore_ascii_case(name));
        if own { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    found.is_break()
}
