//! Answers about the server and its catalog: schemas exactly as Flight SQL fixes them, nullability
//! included. Nothing here reads data.

mod keys;
mod like;
mod objects;
mod sql_info;
mod type_info;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::Command;
use flightpath_types::Result;

use crate::door::{Caller, Door};

/// The schema of a metadata command's answer; `None` when it isn't one.
pub(crate) fn schema_of(command: &Command) -> Option<SchemaRef> {
    Some(match command {
        Command::CommandGetCatalogs(_) => objects::catalogs_schema(),
        Command::CommandGetDbSchemas(_) => objects::db_schemas_schema(),
        Command::CommandGetTables(command) => objects::tables_schema(command.include_schema),
        Command::CommandGetTableTypes(_) => objects::table_types_schema(),
        Command::CommandGetSqlInfo(_) => sql_info::schema(),
        Command::CommandGetXdbcTypeInfo(_) => type_info::schema(),
        Command::CommandGetPrimaryKeys(_) => keys::primary_schema(),
        Command::CommandGetExportedKeys(_) | Command::CommandGetImportedKeys(_) | Command::CommandGetCrossReference(_) => {
            keys::foreign_schema()
        }
        _ => return None,
    })
}

/// The answer to a metadata command; `None` when it isn't one.
pub(crate) async fn answer(door: &Door, caller: &Caller, command: &Command) -> Result<Option<RecordBatch>> {
    let catalog = door.queries.catalog();
    let principal = &caller.principal;
    Ok(Some(match command {
        Command::CommandGetCatalogs(_) => objects::catalogs(catalog.as_ref(), principal).await?,
        Command::CommandGetDbSchemas(command) => objects::db_schemas(catalog.as_ref(), principal, command).await?,
        Command::CommandGetTables(command) => objects::tables(catalog, principal, command, door.config.limits.listed_tables).await?,
        Command::CommandGetTableTypes(_) => objects::table_types()?,
        Command::CommandGetSqlInfo(command) => sql_info::answer(&command.info, &door.config)?,
        Command::CommandGetXdbcTypeInfo(command) => type_info::answer(command.data_type)?,
        Command::CommandGetPrimaryKeys(_)
        | Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => match schema_of(command) {
            Some(schema) => RecordBatch::new_empty(schema),
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

fn schema(fields: Vec<arrow::datatypes::Field>) -> SchemaRef {
    Arc::new(arrow::datatypes::Schema::new(fields))
}
