//! Parts of a plan that depend on no table. Where DuckDB has no text for them, they are computed
//! with the compile table's own kernels while the statement is planned, and DuckDB is told the values.

use datafusion::common::{Column, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use flightpath_functions::duckdb;
use flightpath_functions::fold::{Unfolded, fold};

use crate::Printed;
use crate::block::{Block, Cell, FromItem};
use crate::relation::{Printer, type_name};
use crate::sql::Sql;

/// More values are left to an engine.
const CELLS_MAX: usize = 4_096;

/// One value, or why there is none: an error stays with its cell until something reads that.
type Value = Result<ScalarValue, Unfolded>;

/// Rows that are known, with the plan's own schema.
struct Rows<'a> {
    schema: &'a DFSchemaRef,
    rows: Vec<Vec<Value>>,
}

/// Whether a text may refuse values when it runs.
pub(crate) fn refuses_values(text: &str) -> bool {
    text.contains("|UNSUPPORTED_FEATURE|")
}

/// The text of an expression of constants.
pub(crate) fn expression(expr: &Expr) -> Option<Printed<Sql>> {
    match flightpath_functions::fold::constant(expr) {
        Ok(value) => Some(crate::expr::literal(&value)),
        Err(Unfolded::Raised(error)) => {
            let ty = flightpath_functions::fold::type_of(expr)?;
            let text = type_name(&ty).map(|name| format!("CAST({} AS {name})", raise(&error)));
            Some(text.map(|text| Sql::atom(text, ty)))
        }
        Err(Unfolded::Unknown) => None,
    }
}

fn raise(error: &flightpath_types::Error) -> String {
    let (class, state) = (error.class().unwrap_or("INTERNAL_ERROR"), error.sql_state().unwrap_or("XX000"));
    duckdb::raise(class, state, &duckdb::string(error.message()))
}

impl Printer {
    /// The rows of a plan without tables, when all of them can be computed here.
    pub fn constant_rows(&mut self, plan: &LogicalPlan) -> Option<Block> {
        let known = rows(plan)?;
        let fields = known.schema.fields();
        if known.rows.is_empty() {
            return self.empty(false, known.schema).ok();
        }
        let mut texts = Vec::with_capacity(known.rows.len());
        for row in &known.rows {
            let mut cells = Vec::with_capacity(row.len().max(1));
            for (value, field) in row.iter().zip(fields) {
                cells.push(cell(value, field.data_type())?);
            }
            if cells.is_empty() {
                cells.push("1".into());
            }
            texts.push(format!("({})", cells.join(", ")));
        }
        let text = texts.join(", ");
        crate::check_size(&text).ok()?;
        let alias = self.alias();
        let names: Vec<String> = (0..fields.len().max(1)).map(|i| format!("c{i}")).collect();
        let cells = (0..fields.len()).map(|i| Cell::column(format!("{alias}.c{i}"))).collect();
        let text = format!("(VALUES {text}) AS {alias}({})", names.join(", "));
        Some(Block::new(Some(FromItem { text, joined: false, derived: None }), cells))
    }
}

fn cell(value: &Value, ty: &arrow::datatypes::DataType) -> Option<String> {
    let name = type_name(ty).ok()?;
    match value {
        Ok(value) if value.is_null() => Some(format!("CAST(NULL AS {name})")),
        Ok(value) => duckdb::literal(value).ok(),
        Err(Unfolded::Raised(error)) => Some(format!("CAST({} AS {name})", raise(error))),
        Err(Unfolded::Unknown) => None,
    }
}

fn rows(plan: &LogicalPlan) -> Option<Rows<'_>> {
    let schema = plan.schema();
    let computed = match plan {
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Vec::new(),
        LogicalPlan::EmptyRelation(empty) if empty.schema.fields().is_empty() => vec![Vec::new()],
        LogicalPlan::Values(values) => {
            let no_columns = |_: &Column| Err(Unfolded::Unknown);
            check(values.values.len(), schema)?;
            values.values.iter().map(|row| row.iter().map(|expr| known(fold(expr, &no_columns))).collect()).collect::<Option<_>>()?
        }
        LogicalPlan::SubqueryAlias(alias) => rows(&alias.input)?.rows,
        LogicalPlan::Projection(projection) => {
            let input = rows(&projection.input)?;
            check(input.rows.len(), schema)?;
            let project = |row: &Vec<Value>| {
                let column = |named: &Column| value_of(&input, row, named);
                projection.expr.iter().map(|expr| known(fold(expr, &column))).collect::<Option<Vec<Value>>>()
            };
            input.rows.iter().map(project).collect::<Option<_>>()?
        }
        LogicalPlan::Filter(filter) => {
            let input = rows(&filter.input)?;
            let mut kept = Vec::new();
            for row in &input.rows {
                match fold(&filter.predicate, &|named| value_of(&input, row, named)) {
                    Ok(ScalarValue::Boolean(Some(true))) => kept.push(row.clone()),
                    Ok(_) => {}
                    // An error of the whole statement; an engine is to raise it.
                    Err(_) => return None,
                }
            }
            kept
        }
        _ => return None,
    };
    Some(Rows { schema, rows: computed })
}

fn check(rows: usize, schema: &DFSchemaRef) -> Option<()> {
    (rows.saturating_mul(schema.fields().len().max(1)) <= CELLS_MAX).then_some(())
}

fn known(value: Value) -> Option<Value> {
    match value {
        Err(Unfolded::Unknown) => None,
        value => Some(value),
    }
}

fn value_of(input: &Rows<'_>, row: &[Value], column: &Column) -> Value {
    let index = input.schema.maybe_index_of_column(column).ok_or(Unfolded::Unknown)?;
    row.get(index).cloned().unwrap_or(Err(Unfolded::Unknown))
}
