//! What may stand in FROM: relations, joins, table functions by an allow-list.

use datafusion::sql::sqlparser::ast::{
    Expr, ExprWithAlias, Join, JoinConstraint, JoinOperator, NullInclusion, ObjectName, ObjectNamePart, PivotValueSource, SetExpr,
    TableFactor, TableFunctionArgs, TableSample, TableSampleKind, TableSampleModifier, TableSampleQuantity, TableSampleUnit, TableVersion,
    TableWithJoins, Value,
};
use flightpath_types::{Error, ErrorKind, Result};

use super::expr::{check_argument, check_expr};
use super::{check_alias, check_name, check_order_by_expr, check_query, empty, forbidden_path, none, not, refuse};

/// Table functions that a query may call.
const TABLE_FUNCTIONS: [&str; 10] = [
    "range",
    "explode",
    "explode_outer",
    "posexplode",
    "posexplode_outer",
    "inline",
    "inline_outer",
    "stack",
    "json_tuple",
    "sql_keywords",
];

/// Table functions that read files.
const FILE_FUNCTIONS: [&str; 16] = [
    "read_files",
    "read_parquet",
    "parquet_scan",
    "read_csv",
    "read_csv_auto",
    "read_json",
    "read_json_auto",
    "read_text",
    "read_blob",
    "delta_scan",
    "iceberg_scan",
    "glob",
    "cloud_files",
    "read_kafka",
    "read_statestore",
    "read_pulsar",
];

/// First parts of names such as `` delta.`/path` ``.
const PATH_FORMATS: [&str; 10] = ["delta", "parquet", "csv", "json", "text", "orc", "avro", "binaryfile", "iceberg", "hudi"];

pub(super) fn check_joins(item: &TableWithJoins) -> Result<()> {
    let TableWithJoins { relation, joins } = item;
    check_factor(relation)?;
    joins.iter().try_for_each(check_join_of)
}

pub(super) fn check_join_of(join: &Join) -> Result<()> {
    let Join { relation, global, join_operator } = join;
    not(*global, "GLOBAL JOIN")?;
    check_factor(relation)?;
    check_join(join_operator)
}

pub(super) fn check_pivot(aggregates: &[ExprWithAlias], source: &PivotValueSource) -> Result<()> {
    aggregates.iter().try_for_each(check_named)?;
    match source {
        PivotValueSource::List(values) => values.iter().try_for_each(check_named),
        PivotValueSource::Any(keys) => {
            keys.iter().try_for_each(check_order_by_expr)?;
            Err(refuse("PIVOT ... IN (ANY)"))
        }
        PivotValueSource::Subquery(_) => Err(refuse("PIVOT ... IN (subquery)")),
    }
}

fn check_join(operator: &JoinOperator) -> Result<()> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Semi(c)
        | JoinOperator::LeftSemi(c)
        | JoinOperator::Anti(c)
        | JoinOperator::LeftAnti(c) => match c {
            JoinConstraint::On(e) => check_expr(e),
            JoinConstraint::Using(names) => names.iter().try_for_each(check_object_name),
            JoinConstraint::Natural | JoinConstraint::None => Ok(()),
        },
        JoinOperator::RightSemi(_) => Err(refuse("RIGHT SEMI JOIN")),
        JoinOperator::RightAnti(_) => Err(refuse("RIGHT ANTI JOIN")),
        JoinOperator::CrossApply => Err(refuse("CROSS APPLY")),
        JoinOperator::OuterApply => Err(refuse("OUTER APPLY")),
        JoinOperator::AsOf { match_condition: _, constraint: _ } => Err(refuse("ASOF JOIN")),
        JoinOperator::StraightJoin(_) => Err(refuse("STRAIGHT_JOIN")),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => Err(refuse("ARRAY JOIN")),
    }
}

fn check_factor(factor: &TableFactor) -> Result<()> {
    match factor {
        TableFactor::Table { name, alias, args, with_hints, version, with_ordinality, partitions, json_path, sample, index_hints } => {
            alias.iter().try_for_each(check_alias)?;
            empty(with_hints, "a table hint")?;
            not(*with_ordinality, "WITH ORDINALITY")?;
            empty(partitions, "PARTITION (...)")?;
            none(json_path.as_ref(), "a path into a table")?;
            sample.iter().try_for_each(check_sample)?;
            empty(index_hints, "an index hint")?;
            version.iter().try_for_each(check_version)?;
            match args {
                None => check_table_name(name),
                Some(TableFunctionArgs { args, settings }) => {
                    none(settings.as_ref(), "SETTINGS")?;
                    check_table_function(name)?;
                    args.iter().try_for_each(check_argument)
                }
            }
        }
        TableFactor::Derived { lateral: _, subquery, alias, sample } => {
            alias.iter().try_for_each(check_alias)?;
            sample.iter().try_for_each(check_sample)?;
            not(sample.is_some() && matches!(subquery.body.as_ref(), SetExpr::Values(_)), "TABLESAMPLE of VALUES")?;
            check_query(subquery)
        }
        TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
            alias.iter().try_for_each(check_alias)?;
            not(*with_ordinality, "WITH ORDINALITY")?;
            check_table_function(name)?;
            args.iter().try_for_each(check_argument)
        }
        TableFactor::NestedJoin { table_with_joins, alias } => {
            alias.iter().try_for_each(check_alias)?;
            check_joins(table_with_joins)
        }
        TableFactor::Pivot { table, aggregate_functions, value_column, value_source, default_on_null, alias } => {
            alias.iter().try_for_each(check_alias)?;
            none(default_on_null.as_ref(), "DEFAULT ON NULL in PIVOT")?;
            value_column.iter().try_for_each(check_expr)?;
            check_pivot(aggregate_functions, value_source)?;
            check_factor(table)
        }
        TableFactor::Unpivot { table, value, name, columns, null_inclusion, alias } => {
            alias.iter().try_for_each(check_alias)?;
            check_name(name)?;
            columns.iter().filter_map(|column| column.alias.as_ref()).try_for_each(check_name)?;
            match null_inclusion {
                None | Some(NullInclusion::IncludeNulls | NullInclusion::ExcludeNulls) => {}
            }
            check_expr(value)?;
            columns.iter().try_for_each(check_named)?;
            check_factor(table)
        }
        TableFactor::TableFunction { expr: _, alias: _ } => Err(refuse("TABLE(...) in FROM")),
        TableFactor::UNNEST { alias: _, array_exprs: _, with_offset: _, with_offset_alias: _, with_ordinality: _ } => {
            Err(refuse("UNNEST; use explode"))
        }
        TableFactor::JsonTable { json_expr: _, json_path: _, columns: _, alias: _ } => Err(refuse("JSON_TABLE")),
        TableFactor::OpenJsonTable { json_expr: _, json_path: _, columns: _, alias: _ } => Err(refuse("OPENJSON")),
        TableFactor::MatchRecognize {
            table: _,
            partition_by: _,
            order_by: _,
            measures: _,
            rows_per_match: _,
            after_match_skip: _,
            pattern: _,
            symbols: _,
            alias: _,
        } => Err(refuse("MATCH_RECOGNIZE")),
        TableFactor::XmlTable { namespaces: _, row_expression: _, passing: _, columns: _, alias: _ } => Err(refuse("XMLTABLE")),
        TableFactor::SemanticView { name: _, dimensions: _, metrics: _, facts: _, where_clause: _, alias: _ } => {
            Err(refuse("SEMANTIC_VIEW"))
        }
    }
}

/// Of samples only those that aren't drawn: a number of rows, or all of them.
fn check_sample(sample: &TableSampleKind) -> Result<()> {
    let (TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample;
    let TableSample { modifier, name, quantity, seed: _, bucket, offset } = sample.as_ref();
    let random = || refuse("a random TABLESAMPLE");
    match modifier {
        TableSampleModifier::TableSample => {}
        TableSampleModifier::Sample => return Err(refuse("SAMPLE; use TABLESAMPLE")),
    }
    if name.is_some() || bucket.is_some() || offset.is_some() {
        return Err(random());
    }
    let Some(TableSampleQuantity { parenthesized: true, value, unit }) = quantity else { return Err(random()) };
    check_expr(value)?;
    match unit {
        Some(TableSampleUnit::Rows) => Ok(()),
        Some(TableSampleUnit::Percent) => match value {
            Expr::Value(v) if matches!(&v.value, Value::Number(n, _) if n == "100") => Ok(()),
            _ => Err(random()),
        },
        None => Err(random()),
    }
}

pub(super) fn check_named(e: &ExprWithAlias) -> Result<()> {
    let ExprWithAlias { expr, alias: _ } = e;
    check_expr(expr)
}

fn check_version(version: &TableVersion) -> Result<()> {
    match version {
        TableVersion::VersionAsOf(e) | TableVersion::TimestampAsOf(e) => check_expr(e),
        TableVersion::ForSystemTimeAsOf(_) => Err(refuse("FOR SYSTEM_TIME AS OF; use TIMESTAMP AS OF")),
        TableVersion::Function(_) => Err(refuse("AT and BEFORE; use VERSION AS OF or TIMESTAMP AS OF")),
        TableVersion::Changes { changes: _, at: _, end: _ } => Err(refuse("CHANGES")),
    }
}

pub(super) fn check_object_name(name: &ObjectName) -> Result<()> {
    let ObjectName(parts) = name;
    parts.iter().try_for_each(|part| match part {
        ObjectNamePart::Identifier(_) => Ok(()),
        ObjectNamePart::Function(_) => Err(refuse("IDENTIFIER(...) and functions in a name")),
    })
}

fn check_table_name(name: &ObjectName) -> Result<()> {
    check_object_name(name)?;
    let ObjectName(parts) = name;
    let names: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(ident.value.as_str()),
            ObjectNamePart::Function(_) => None,
        })
        .collect();
    let is_path = |s: &str| s.contains('/') || s.contains("://") || s.contains('\\');
    if let [format, path] = names.as_slice()
        && PATH_FORMATS.iter().any(|f| f.eq_ignore_ascii_case(format))
        && is_path(path)
    {
        return Err(forbidden_path(&format!("{}.`...`", format.to_lowercase())));
    }
    if names.iter().any(|n| is_path(n)) {
        return Err(forbidden_path(&format!("`{}`", names.join("`.`"))));
    }
    if names.len() > 3 {
        return Err(Error::invalid(format!("a table's name has at most three parts: `{}`", names.join("`.`"))));
    }
    Ok(())
}

fn check_table_function(name: &ObjectName) -> Result<()> {
    check_object_name(name)?;
    let text = name.to_string().replace('`', "").to_lowercase();
    if FILE_FUNCTIONS.contains(&text.as_str()) {
        return Err(forbidden_path(&format!("`{text}`")));
    }
    if TABLE_FUNCTIONS.contains(&text.as_str()) {
        return Ok(());
    }
    Err(Error::classed(
        ErrorKind::NotEligible,
        "UNRESOLVABLE_TABLE_VALUED_FUNCTION",
        "42883",
        format!("not eligible: table function `{text}` isn't supported; {} are", TABLE_FUNCTIONS[..7].join(", ")),
    ))
}
