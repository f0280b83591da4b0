//! Statements that the planner answers itself: SHOW, DESCRIBE, EXPLAIN, and the ones that change
//! the session. Columns and types are Databricks'. Nothing here reads a table's data.

mod command;
mod describe;
mod rows;
mod session;
mod show;

pub(crate) use command::{Command, blank_before, read};
pub(crate) use rows::explain_result;
pub(crate) use session::assignments;

use flightpath_catalog::{Catalog, TableName};
use flightpath_plan::{LocalResult, Statement};
use flightpath_types::{Error, Result, Session};

/// What answering may ask of the outside.
pub(crate) struct Asking<'a> {
    pub catalog: &'a dyn Catalog,
    pub session: &'a Session,
}

impl Asking<'_> {
    /// A name completed by the session.
    pub fn complete(&self, parts: &[String]) -> Result<TableName> {
        complete(parts, self.session)
    }
}

/// The full name of a table written in one to three parts. Schema `system` is the server's own.
pub(crate) fn complete(parts: &[String], session: &Session) -> Result<TableName> {
    match parts {
        [table] => Ok(TableName::new(&session.catalog, &session.schema, table)),
        [schema, table] if schema.eq_ignore_ascii_case("system") => Ok(TableName::new("system", "system", table)),
        [schema, table] => Ok(TableName::new(&session.catalog, schema, table)),
        [catalog, schema, table] => Ok(TableName::new(catalog, schema, table)),
        _ => Err(Error::invalid(format!("`{}` isn't a table's name; it has at most three parts", parts.join(".")))),
    }
}

/// Answers a command that is neither a query nor an EXPLAIN of one.
pub(crate) async fn answer(command: Command, asking: &Asking<'_>) -> Result<Statement> {
    let local = |result: Result<LocalResult>| result.map(Statement::Local);
    match command {
        Command::ShowCatalogs { like } => local(show::catalogs(asking, like.as_deref()).await),
        Command::ShowSchemas { catalog, like } => local(show::schemas(asking, catalog.as_deref(), like.as_deref()).await),
        Command::ShowTables { schema, like } => local(show::tables(asking, &schema, like.as_deref()).await),
        Command::ShowColumns { table } => local(show::columns(asking, &table).await),
        Command::ShowProperties { table, key } => local(show::properties(asking, &table, key.as_deref()).await),
        Command::ShowFunctions { like } => local(show::functions(like.as_deref())),
        Command::Describe { table, column, extended } => local(describe::table(asking, &table, column.as_deref(), extended).await),
        Command::DescribeDetail { table } => local(describe::detail(asking, &table).await),
        Command::DescribeHistory { table, limit } => local(describe::history(asking, &table, limit).await),
        Command::UseCatalog(catalog) => session::use_catalog(asking, &catalog).await,
        Command::UseSchema(name) => session::use_schema(asking, &name).await,
        Command::ShowSettings(name) => local(session::settings(asking.session, name.as_deref())),
        Command::Set { name, value } => session::set(asking, &name, &value).await,
        Command::Reset(name) => session::reset(asking.session, name.as_deref()),
        Command::Refused(reason) => Err(Error::not_eligible(reason)),
        Command::Other | Command::ExplainRoute(_) | Command::Explain { .. } | Command::DescribeQuery(_) => {
            Err(Error::internal("a query came where a command was expected"))
        }
    }
}

/// The rows of `DESCRIBE QUERY`: what a query would give.
pub(crate) fn describe_query(schema: &arrow::datatypes::Schema) -> Result<LocalResult> {
    describe::query(schema)
}

#[cfg(test)]
mod tests;
