//! Common table expressions: what is visible where. Each reference is bound anew, with scans of its own.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast;
use flightpath_types::Result;

use super::error;
use super::recursive::Work;
use super::scope::{Relation, Scope};

/// The CTEs of one WITH that are visible at a place, and those of the enclosing queries.
#[derive(Clone, Copy)]
pub(super) struct Ctes<'s> {
    /// Those declared so far: a CTE sees the ones before it.
    visible: &'s [ast::Cte],
    recursive: bool,
    pub outer_scope: Option<&'s Scope<'s>>,
    /// Inside a recursive step: the step before.
    work: Option<&'s Work>,
    parent: Option<&'s Ctes<'s>>,
}

/// A CTE and what it may see itself.
pub(super) struct FoundCte<'s> {
    pub cte: &'s ast::Cte,
    pub sees: Ctes<'s>,
    pub outer_scope: Option<&'s Scope<'s>>,
    pub recursive: bool,
}

/// What a name means.
pub(super) enum Found<'s> {
    Cte(FoundCte<'s>),
    Work(&'s Relation),
}

impl<'s> Ctes<'s> {
    pub const fn none() -> Ctes<'static> {
        Ctes { visible: &[], recursive: false, outer_scope: None, work: None, parent: None }
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
        Ok(Ctes { visible: &with.cte_tables, recursive: with.recursive, outer_scope, work: None, parent: Some(parent) })
    }

    /// What a recursive step sees.
    pub fn stepping<'w>(&self, work: &'w Work) -> Ctes<'w>
    where
        's: 'w,
    {
        Ctes { work: Some(work), ..*self }
    }

    pub fn find(&self, name: &str) -> Option<Found<'s>> {
        if let Some(work) = self.work.filter(|w| w.name.eq_ignore_ascii_case(name)) {
            return Some(Found::Work(&work.relation));
        }
        let at = self.visible.iter().position(|cte| cte.alias.name.value.eq_ignore_ascii_case(name));
        match at {
            Some(at) => {
                let cte = &self.visible[at];
                let recursive = self.recursive && refers_to(cte.query.as_ref(), name) > 0;
                let sees = Ctes { visible: &self.visible[..at], work: None, ..*self };
                Some(Found::Cte(FoundCte { cte, sees, outer_scope: self.outer_scope, recursive }))
            }
            None => self.parent.and_then(|parent| parent.find(name)),
        }
    }
}

/// How often a relation of that name stands anywhere in `part`.
pub(super) fn refers_to(part: &impl ast::Visit, name: &str) -> usize {
    let mut count = 0;
    let _ = ast::visit_relations(part, |relation: &ast::ObjectName| {
        let own = matches!(relation.0.as_slice(), [ast::ObjectNamePart::Identifier(ident)] if ident.value.eq_ignore_ascii_case(name));
        count += usize::from(own);
        std::ops::ControlFlow::<()>::Continue(())
    });
    count
}
