//! GetSqlInfo: what this server can do, for drivers that ask before they act. Every value of 0-11,
//! 100-101 and 500-576 is there, because some drivers fail on a missing one; every value is true.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use arrow_flight::sql::{SqlInfo, SqlSupportsConvert};
use flightpath_types::{Error, Result};

use crate::config::Config;

/// Words that can't be names without quotes in ANSI mode.
const KEYWORDS: &str = "\
    ALL ANY AUTHORIZATION BOTH CASE CAST CHECK COLLATE COLUMN CONSTRAINT CREATE CROSS CURRENT_DATE CURRENT_TIME \
    CURRENT_TIMESTAMP CURRENT_USER DISTINCT ELSE END ESCAPE EXCEPT FALSE FETCH FILTER FOR FOREIGN FROM FULL GRANT \
    GROUP HAVING IN INNER INTERSECT INTO IS JOIN LATERAL LEADING LEFT NATURAL NOT NULL OFFSET ON ONLY OR ORDER \
    OUTER OVERLAPS PERCENTILE_CONT PERCENTILE_DISC PRIMARY QUALIFY REFERENCES RIGHT SELECT SESSION_USER SOME SQL \
    TABLE THEN TIME TO TRAILING TRUE UNION UNIQUE UNKNOWN USER USING WHEN WHERE WITH WITHIN";

pub(crate) fn schema() -> SchemaRef {
    SqlInfoDataBuilder::schema().clone().into()
}

/// The values asked for, or all of them.
pub(crate) fn answer(wanted: &[u32], config: &Config) -> Result<RecordBatch> {
    let mut builder = SqlInfoDataBuilder::new();
    server(&mut builder, config);
    names_and_words(&mut builder, config);
    language(&mut builder);
    sizes(&mut builder, config);
    transactions_and_results(&mut builder);
    builder.build().and_then(|data| data.record_batch(wanted.iter().copied())).map_err(|e| Error::internal(format!("SQL info: {e}")))
}

fn server(info: &mut SqlInfoDataBuilder, config: &Config) {
    info.append(SqlInfo::FlightSqlServerName, "Flightpath");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, !config.writes);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    info.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    info.append(SqlInfo::FlightSqlServerTransaction, 0i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    let statement_ms = i32::try_from(config.lifetimes.prepared.as_millis()).unwrap_or(i32::MAX);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, statement_ms);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0i32);
}

fn names_and_words(info: &mut SqlInfoDataBuilder, config: &Config) {
    const CASE_INSENSITIVE: i32 = 1;
    const NULLS_SORTED_LOW: i32 = 1;
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierCase, CASE_INSENSITIVE);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "`");
    info.append(SqlInfo::SqlQuotedIdentifierCase, CASE_INSENSITIVE);
    // A listed table may be corrupt or use a feature that no engine reads.
    info.append(SqlInfo::SqlAllTablesAreSelectable, false);
    info.append(SqlInfo::SqlNullOrdering, NULLS_SORTED_LOW);
    info.append(SqlInfo::SqlKeywords, KEYWORDS.split(' ').map(str::to_string).collect::<Vec<_>>());
    info.append(SqlInfo::SqlNumericFunctions, config.functions.numeric.clone());
    info.append(SqlInfo::SqlStringFunctions, config.functions.string.clone());
    info.append(SqlInfo::SqlSystemFunctions, config.functions.system.clone());
    info.append(SqlInfo::SqlDatetimeFunctions, config.functions.datetime.clone());
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlCatalogAtStart, true);
}

fn language(info: &mut SqlInfoDataBuilder) {
    const MINIMUM_AND_CORE: i32 = 0b11;
    const ENTRY: i32 = 0b1;
    const FULL_OUTER_JOINS: i32 = 2;
    const UNRELATED_AND_BEYOND_SELECT: i32 = 0b11;
    // Comparisons, EXISTS and IN; not quantified ones (`= ANY (SELECT ...)`).
    const SUBQUERIES: i32 = 0b111;
    const UNION_AND_UNION_ALL: i32 = 0b11;
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsConvert, conversions());
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(SqlInfo::SqlSupportedGroupBy, UNRELATED_AND_BEYOND_SELECT);
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(SqlInfo::SqlSupportedGrammar, MINIMUM_AND_CORE);
    info.append(SqlInfo::SqlAnsi92SupportedLevel, ENTRY);
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, FULL_OUTER_JOINS);
    info.append(SqlInfo::SqlSchemasSupportedActions, 0i32);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0i32);
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0i32);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    info.append(SqlInfo::SqlSupportedSubqueries, SUBQUERIES);
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(SqlInfo::SqlSupportedUnions, UNION_AND_UNION_ALL);
}

/// Limits; 0 is "none, or not known".
fn sizes(info: &mut SqlInfoDataBuilder, config: &Config) {
    let bytes = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    for unlimited in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        info.append(unlimited, 0i64);
    }
    info.append(SqlInfo::SqlMaxConnections, bytes(config.limits.connections));
    info.append(SqlInfo::SqlMaxRowSize, bytes(config.limits.row_bytes));
    info.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
    info.append(SqlInfo::SqlMaxStatementLength, bytes(config.limits.statement_bytes));
}

fn transactions_and_results(info: &mut SqlInfoDataBuilder) {
    const TRANSACTION_NONE: i32 = 0;
    const ONLY_TRANSACTION_NONE: i32 = 0b1;
    const FORWARD_ONLY: i32 = 0b10;
    const READ_ONLY: i32 = 0b10;
    info.append(SqlInfo::SqlDefaultTransactionIsolation, TRANSACTION_NONE);
    info.append(SqlInfo::SqlTransactionsSupported, false);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, ONLY_TRANSACTION_NONE);
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    info.append(SqlInfo::SqlSupportedResultSetTypes, FORWARD_ONLY);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, 0i32);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, READ_ONLY);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0i32);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0i32);
    info.append(SqlInfo::SqlBatchUpdatesSupported, false);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    info.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

/// What CAST can make of what, by Databricks' rules in ANSI mode.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as C;
    let numbers = [
        C::SqlConvertTinyint,
        C::SqlConvertSmallint,
        C::SqlConvertInteger,
        C::SqlConvertBigint,
        C::SqlConvertReal,
        C::SqlConvertFloat,
        C::SqlConvertDecimal,
        C::SqlConvertNumeric,
        C::SqlConvertBit,
    ];
    let to = |targets: &[C]| targets.iter().map(|t| *t as i32).collect::<Vec<_>>();
    let mut map = BTreeMap::new();
    for number in numbers {
        let mut targets = to(&numbers);
        targets.push(C::SqlConvertVarchar as i32);
        map.insert(number as i32, targets);
    }
    let mut from_text = to(&numbers);
    from_text.extend(to(&[C::SqlConvertVarchar, C::SqlConvertDate, C::SqlConvertTimestamp, C::SqlConvertVarbinary]));
    map.insert(C::SqlConvertVarchar as i32, from_text);
    let of_time = to(&[C::SqlConvertDate, C::SqlConvertTimestamp, C::SqlConvertVarchar]);
    map.insert(C::SqlConvertDate as i32, of_time.clone());
    map.insert(C::SqlConvertTimestamp as i32, of_time);
    map.insert(C::SqlConvertVarbinary as i32, to(&[C::SqlConvertVarchar, C::SqlConvertVarbinary]));
    map
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::UInt32Type;

    use super::*;

    #[test]
    fn no_value_that_a_driver_may_ask_for_is_missing() {
        let all = answer(&[], &Config::default()).unwrap();
        assert_eq!(all.schema(), schema());
        let names: Vec<u32> = all.column(0).as_primitive::<UInt32Type>().values().to_vec();
        let expected: Vec<u32> = (0..=11).chain(100..=101).chain(500..=576).collect();
        assert_eq!(names, expected);
        assert_eq!(answer(&[504, 8, 99_999], &Config::default()).unwrap().num_rows(), 2);
    }
}
