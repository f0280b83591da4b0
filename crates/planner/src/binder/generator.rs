//! Functions that make rows: LATERAL VIEW, generators in the select list, table functions.

use datafusion::sql::sqlparser::ast;
use flightpath_types::{Error, Result};

use super::cte::Ctes;
use super::query::State;
use super::scope::{Relation, Scope};

impl State<'_> {
    pub fn lateral_view(&mut self, _input: Relation, view: &ast::LateralView, _ctes: &Ctes<'_>, _outer: Option<&Scope<'_>>) -> Result<Relation> {
        Err(Error::not_eligible(format!("LATERAL VIEW {} isn't supported yet", view.lateral_view)))
    }

    pub fn select_generator(&mut self, _input: &mut Relation, _projection: &[ast::SelectItem], _ctes: &Ctes<'_>, _outer: Option<&Scope<'_>>) -> Result<Option<Vec<ast::SelectItem>>> {
        Ok(None)
    }

    #[allow(clippy::too_many_arguments)]
    pub fn table_function(&mut self, name: &ast::ObjectName, _args: &[ast::FunctionArg], _alias: Option<&ast::TableAlias>, _left: Option<&Relation>, _lateral: bool, _ctes: &Ctes<'_>, _outer: Option<&Scope<'_>>) -> Result<Relation> {
        Err(Error::not_eligible(format!("table function `{name}` isn't supported yet")))
    }

    pub fn pipe(&mut self, _relation: Relation, pipe: &ast::PipeOperator, _ctes: &Ctes<'_>, _outer: Option<&Scope<'_>>) -> Result<Relation> {
        Err(Error::not_eligible(format!("the pipe operator |> {pipe} isn't supported yet")))
    }
}
