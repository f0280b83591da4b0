//! PIVOT and UNPIVOT.

use datafusion::sql::sqlparser::ast;
use flightpath_types::{Error, Result};

use super::cte::Ctes;
use super::query::State;
use super::scope::{Relation, Scope};

impl State<'_> {
    pub fn pivot(&mut self, _input: Relation, _aggregates: &[ast::ExprWithAlias], _columns: &[ast::Expr], _source: &ast::PivotValueSource, _ctes: &Ctes<'_>, _outer: Option<&Scope<'_>>) -> Result<Relation> {
        Err(Error::not_eligible("PIVOT isn't supported yet"))
    }

    #[allow(clippy::too_many_arguments)]
    pub fn unpivot(&mut self, _input: Relation, _value: &ast::Expr, _name: &ast::Ident, _columns: &[ast::ExprWithAlias], _include_nulls: bool, _ctes: &Ctes<'_>, _outer: Option<&Scope<'_>>) -> Result<Relation> {
        Err(Error::not_eligible("UNPIVOT isn't supported yet"))
    }
}
