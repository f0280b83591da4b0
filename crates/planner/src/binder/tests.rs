//! What the binder makes of statements: names, types, nullability and plans, against files that show
//! any change in review. Set `UPDATE_GOLDEN=1` to write them anew.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::Statement;
use flightpath_catalog::{AccessRules, AsOf, Column, Home, TableContents, TableFormat, TableName, TableSnapshot};
use flightpath_functions::types;
use flightpath_types::{Error, ErrorKind, Principal, Result, Session};

use super::*;

type Tables = HashMap<String, Arc<TableSnapshot>>;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Tables of a file with lines `table: column type, column type`.
fn tables(file: &str) -> Tables {
    let text = std::fs::read_to_string(data(file)).expect(file);
    text.lines()
        .map(|line| {
            let (name, columns) = line.split_once(": ").expect(line);
            (name.to_string(), snapshot(name, &columns_of(columns)))
        })
        .collect()
}

/// Types as the binder itself reads them: through a cast.
fn columns_of(text: &str) -> SchemaRef {
    let mut depth = 0;
    let columns: Vec<String> = text
        .split(|c: char| {
            depth += i32::from(matches!(c, '<' | '(')) - i32::from(matches!(c, '>' | ')'));
            c == ',' && depth == 0
        })
        .map(|c| c.trim().split_once(' ').map(|(n, t)| format!("CAST(NULL AS {t}) AS {n}")).expect("name and type"))
        .collect();
    let bound = bind(&format!("SELECT {}", columns.join(", ")), &Tables::new(), None).expect(text);
    let fields: Vec<Field> = bound.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn snapshot(name: &str, schema: &SchemaRef) -> Arc<TableSnapshot> {
    let column = |f: &Arc<Field>| Column { physical_name: f.name().clone(), field_id: None, comment: None, widened: false };
    Arc::new(TableSnapshot {
        name: TableName::new("lake", "default", name),
        format: TableFormat::Delta,
        version: 0,
        committed_unix_ms: None,
        schema: schema.clone(),
        columns: schema.fields().iter().map(column).collect(),
        partition_columns: Vec::new(),
        contents: TableContents::Files(Arc::new(Vec::new())),
        access: AccessRules::Free,
        home: Home::Local,
        storage: None,
        location: String::new(),
        properties: BTreeMap::new(),
        min_reader_version: 1,
        min_writer_version: 2,
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        table_id: None,
        description: None,
        created_unix_ms: None,
    })
}

fn bind(sql: &str, tables: &Tables, parameters: Option<&Parameters>) -> Result<BoundQuery> {
    let parsed = crate::parse::parse(sql)?;
    let Statement::Query(query) = parsed.statement() else { return Err(crate::guard::refuse_statement(parsed.statement())) };
    let mut resolved = ResolvedTables::new();
    for request in referenced_tables(query, "UTC")? {
        let found = request.parts.last().and_then(|name| tables.get(name)).cloned();
        let found = found.ok_or_else(|| Error::classed(ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND", "42P01", request.parts.join(".")));
        resolved.insert(request, found);
    }
    let session = Session::new(Principal::new("someone"));
    let input = BindInput { session: &session, now_micros: 1_700_000_000_000_000, tables: &resolved, parameters };
    DatabricksBinder.bind(query, &input)
}

/// Names, types and plan of a statement, or its error.
fn check(sql: &str, tables: &Tables) -> String {
    match bind(sql, tables, None) {
        Ok(bound) => {
            let columns: Vec<String> = bound
                .schema
                .fields()
                .iter()
                .map(|f| format!("{}: {}{}", f.name(), types::name(f.data_type()), if f.is_nullable() { "" } else { " not null" }))
                .collect();
            format!("{}\n{}\n", columns.join("\n"), bound.plan.display_indent())
        }
        Err(error) => format!("{error}\n"),
    }
}

/// Statements stand between lines of `====`; what came of each stands behind a line of `----`.
#[test]
fn plans_are_as_recorded() {
    let tables = tables("shop.schema");
    let path = data("plans.golden");
    let text = std::fs::read_to_string(&path).expect("golden file");
    let mut now = String::new();
    for section in text.split("====\n").filter(|s| !s.trim().is_empty()) {
        let sql = section.split("----\n").next().unwrap_or_default();
        now.push_str(&format!("====\n{sql}----\n{}", check(sql, &tables)));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).expect("golden file");
        return;
    }
    for (was, is) in text.split("====\n").zip(now.split("====\n")) {
        assert_eq!(was, is);
    }
}

#[test]
fn tpch_and_tpcds_bind() {
    for set in ["tpch", "tpcds"] {
        let tables = tables(&format!("{set}.schema"));
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/queries").join(set);
        let mut bound = 0;
        for entry in std::fs::read_dir(folder).expect("query texts") {
            let path = entry.expect("query text").path();
            let sql = std::fs::read_to_string(&path).expect("query text");
            bind(&sql, &tables, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            bound += 1;
        }
        assert_eq!(bound, if set == "tpch" { 22 } else { 99 });
    }
}

#[test]
fn errors_have_databricks_classes() {
    let tables = tables("shop.schema");
    for (sql, class, text) in [
        ("SELECT nam FROM customers", "UNRESOLVED_COLUMN.WITH_SUGGESTION", "`name`"),
        ("SELECT nam FROM customers", "UNRESOLVED_COLUMN.WITH_SUGGESTION", "line 1, column 8"),
        ("SELECT customer_id FROM customers c JOIN orders o ON c.customer_id = o.customer_id", "AMBIGUOUS_REFERENCE", "`c`.`customer_id`"),
        ("SELECT address.nope FROM customers", "FIELD_NOT_FOUND", "nope"),
        ("SELECT name, count(*) FROM customers", "MISSING_AGGREGATION", "name"),
        ("SELECT 1 UNION SELECT 1, 2", "NUM_COLUMNS_MISMATCH", "number of columns"),
        ("SELECT a FROM nowhere", "TABLE_OR_VIEW_NOT_FOUND", "nowhere"),
        ("WITH x AS (SELECT 1), X AS (SELECT 2) SELECT 1", "DUPLICATED_CTE_NAMES", "X"),
        ("SELECT name FROM customers WHERE count(*) > 1", "INVALID_WHERE_CONDITION", "count"),
        ("SELECT sum(sum(amount)) FROM orders", "NESTED_AGGREGATE_FUNCTION", "sum"),
        ("SELECT 1 FROM orders ORDER BY 2", "ORDER_BY_POS_OUT_OF_RANGE", "position 2"),
        ("SELECT CASE WHEN true THEN array(1) ELSE 5 END", "DATATYPE_MISMATCH.DATA_DIFF_TYPES", "CASE WHEN"),
        ("SELECT * FROM orders JOIN customers USING (nope)", "UNRESOLVED_USING_COLUMN_FOR_JOIN", "nope"),
        ("SELECT no_such_function(1)", "UNRESOLVED_ROUTINE", "not eligible"),
        ("SELECT 1 LIMIT -1", "INVALID_LIMIT_LIKE_EXPRESSION.IS_NEGATIVE", "LIMIT"),
        ("SELECT 'a' LIKE 'b\\\\c'", "INVALID_FORMAT.ESC_IN_THE_MIDDLE", "escape"),
        ("SELECT DATE'2024-13-01'", "INVALID_TYPED_LITERAL", "DATE"),
        ("SELECT t.a FROM (SELECT 1 AS a, 2 AS a) t", "AMBIGUOUS_REFERENCE", "`t`.`a`"),
        ("SELECT count(DISTINCT status) OVER () FROM orders", "DISTINCT_WINDOW_FUNCTION_UNSUPPORTED", "Distinct"),
        ("SELECT status FROM orders WHERE sum(amount) OVER () > 1", "WINDOW_FUNCTION_NOT_ALLOWED_IN_CLAUSE", "WHERE"),
    ] {
        let error = bind(sql, &tables, None).expect_err(sql);
        assert_eq!(error.class(), Some(class), "{sql}: {error}");
        assert!(error.message().contains(text), "{sql}: {error}");
    }
}

#[test]
fn open_parameters_take_the_type_of_where_they_stand() {
    let tables = tables("shop.schema");
    let sql = "SELECT order_id FROM orders WHERE amount > ? AND status IN ('a', ?) AND order_date BETWEEN :from AND :until AND CAST(? AS INT) = 1 LIMIT ?";
    let bound = bind(sql, &tables, None).expect(sql);
    assert_eq!(
        bound.parameters,
        [DataType::Decimal128(10, 2), DataType::Utf8, DataType::Date32, DataType::Date32, DataType::Int32, DataType::Int64]
    );
    // A date is moved by days.
    let sql = "SELECT order_date + ?, ? + order_date FROM orders WHERE order_date > ?";
    assert_eq!(bind(sql, &tables, None).expect(sql).parameters, [DataType::Int32, DataType::Int32, DataType::Date32]);
}

#[test]
fn open_parameters_may_turn_out_equal() {
    let tables = tables("shop.schema");
    let sql = "SELECT order_id + ?, grouping(order_id + ?), sum(amount) FROM orders GROUP BY ROLLUP (order_id + ?) ORDER BY order_id + ?";
    let bound = bind(sql, &tables, None).expect(sql);
    assert_eq!(bound.parameters, vec![DataType::Int64; 4]);
    assert_eq!(bound.schema.field(0).data_type(), &DataType::Int64);
    // Once values are known they decide.
    let sql = "SELECT order_id + ? FROM orders GROUP BY order_id + ?";
    assert_eq!(bind(sql, &tables, None).expect(sql).parameters, vec![DataType::Int64; 2]);
    let given = |a, b| Parameters { positional: vec![ScalarValue::Int64(Some(a)), ScalarValue::Int64(Some(b))], named: HashMap::new() };
    assert!(bind(sql, &tables, Some(&given(1, 1))).is_ok());
    assert_eq!(bind(sql, &tables, Some(&given(1, 2))).expect_err(sql).class(), Some("MISSING_AGGREGATION"));
    // A column isn't made of a parameter.
    let sql = "SELECT status FROM orders GROUP BY order_id + ?";
    assert_eq!(bind(sql, &tables, None).expect_err(sql).class(), Some("MISSING_AGGREGATION"));
}

#[test]
fn given_parameters_are_literals() {
    let tables = tables("shop.schema");
    let parameters = Parameters {
        positional: vec![ScalarValue::Int32(Some(7)), ScalarValue::Utf8(None)],
        named: HashMap::from([("who".to_string(), ScalarValue::Utf8(Some("me".into())))]),
    };
    let bound = bind("SELECT ? + 1, ?, :who", &tables, Some(&parameters)).expect("bound");
    let names: Vec<&str> = bound.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["(7 + 1)", "NULL", "me"]);
    assert_eq!(bound.parameters, []);
    // WHERE is bound before SELECT, and the values are those of the text's order all the same.
    let both = Parameters { positional: vec![ScalarValue::Int32(Some(7)), ScalarValue::Int32(Some(3))], named: HashMap::new() };
    let bound = bind("SELECT ? + 1 FROM orders WHERE order_id > ?", &tables, Some(&both)).expect("bound");
    assert_eq!(bound.schema.field(0).name(), "(7 + 1)");
    assert_eq!(bind("SELECT ?, ?, ?", &tables, Some(&parameters)).expect_err("too few").class(), Some("UNBOUND_SQL_PARAMETER"));
}

#[test]
fn a_version_is_asked_for_once_and_never_becomes_an_alias() {
    let parsed =
        crate::parse::parse("SELECT * FROM a@v3 x JOIN b VERSION AS OF 2 JOIN c TIMESTAMP AS OF '2024-01-01' JOIN A@v3").expect("parsed");
    let Statement::Query(query) = parsed.statement() else { panic!("not a query") };
    let asked: Vec<(String, AsOf)> =
        referenced_tables(query, "UTC").expect("tables").into_iter().map(|r| (r.parts.join("."), r.as_of)).collect();
    assert_eq!(
        asked,
        [("a".into(), AsOf::Version(3)), ("b".into(), AsOf::Version(2)), ("c".into(), AsOf::TimestampMicros(1_704_067_200_000_000))]
    );
}

#[test]
fn large_statements_neither_overflow_nor_crawl() {
    let wide: Vec<String> = (0..10_000).map(|i| format!("column_{i} int")).collect();
    let tables = Tables::from([("wide".to_string(), snapshot("wide", &columns_of(&wide.join(", "))))]);
    let named: Vec<String> = (0..10_000).map(|i| format!("column_{i}")).collect();
    let ors: Vec<String> = (0..4_000).map(|i| format!("column_1 = {i}")).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    for sql in [
        "SELECT * FROM wide".to_string(),
        format!("SELECT {} FROM wide ORDER BY column_9999", named.join(", ")),
        format!("SELECT 1 FROM wide WHERE {}", ors.join(" OR ")),
        format!("SELECT {}1{}", "upper(".repeat(90), ")".repeat(90)),
        format!("SELECT 1 AS x {}", "UNION ALL SELECT 2 ".repeat(2_000)),
        format!("SELECT {}", vec!["1"; 400].join(" + ")),
    ] {
        bind(&sql, &tables, None).unwrap_or_else(|e| panic!("{}...: {e}", sql.chars().take(60).collect::<String>()));
        assert!(Instant::now() < deadline, "{}...", sql.chars().take(60).collect::<String>());
    }
    let doubling: Vec<String> = (1..40).map(|i| format!("c{i} AS (SELECT a.x FROM c{} a, c{} b)", i - 1, i - 1)).collect();
    for (sql, kind) in [
        (format!("WITH c0 AS (SELECT 1 AS x), {} SELECT * FROM c39", doubling.join(", ")), ErrorKind::ResourceExhausted),
        (format!("SELECT {}", vec!["1"; 5_000].join(" + ")), ErrorKind::ResourceExhausted),
        (format!("SELECT {}1{}", "abs(".repeat(5_000), ")".repeat(5_000)), ErrorKind::ResourceExhausted),
        (format!("SELECT 1 FROM {}wide{}", "(".repeat(3_000), ")".repeat(3_000)), ErrorKind::ResourceExhausted),
    ] {
        assert_eq!(bind(&sql, &tables, None).expect_err("too much").kind(), kind, "{}...", sql.chars().take(60).collect::<String>());
        assert!(Instant::now() < deadline, "{}...", sql.chars().take(60).collect::<String>());
    }
}

#[test]
fn names_show_as_databricks_shows_them() {
    for (sql, want) in [
        ("SELECT 1 + 1 AS y, y * 2", &["y", "(lateralAliasReference(y) * 2)"][..]),
        ("SELECT named_struct('p', 1) AS s, s.p, s.p + 1", &["s", "p", "(lateralAliasReference(p) + 1)"]),
        ("SELECT array(named_struct('a', 1)) AS z, z[0].a + 1", &["z", "(lateralAliasReference(z)[0].a + 1)"]),
        ("SELECT explode(array(1)) AS n, n * 2", &["n", "(n * 2)"]),
        (
            "SELECT string_agg('a', '-'), string_agg('a', '-') WITHIN GROUP (ORDER BY 1 DESC)",
            &["string_agg(a, -)", "listagg(a, -) WITHIN GROUP (ORDER BY 1 DESC NULLS LAST)"],
        ),
        ("SELECT approx_count_distinct(1, 0.01)", &["approx_count_distinct(1)"]),
        (
            "SELECT rank(x) OVER (ORDER BY x) FROM VALUES (1) AS t(x)",
            &["RANK() OVER (ORDER BY x ASC NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"],
        ),
        (
            "SELECT sum(x) OVER (ORDER BY x RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM VALUES (1.0D) AS t(x)",
            &["sum(x) OVER (ORDER BY x ASC NULLS FIRST RANGE BETWEEN (- 1) FOLLOWING AND 1 FOLLOWING)"],
        ),
        (
            "SELECT * FROM VALUES (DATE'2024-01-01', 1) AS t(k, v) PIVOT (sum(v) FOR k IN (DATE'2024-01-01', DATE'2024-02-01' AS feb))",
            &["2024-01-01", "feb"],
        ),
        (
            "SELECT d - INTERVAL 1 DAY, d + INTERVAL 2 DAYS, d - INTERVAL 1 MONTH, d - 3 FROM VALUES (DATE'2024-01-05') AS t(d)",
            &[
                "date_add(d, (- extractansiintervaldays(INTERVAL '1' DAY)))",
                "date_add(d, extractansiintervaldays(INTERVAL '2' DAY))",
                "d - INTERVAL '1' MONTH",
                "date_sub(d, 3)",
            ],
        ),
        (
            "SELECT make_dt_interval(1, 2), regexp_like('a', 'a'), regexp('a', 'a'), 'a' RLIKE 'a'",
            &["make_dt_interval(1, 2, 0, 0.000000)", "REGEXP_LIKE(a, a)", "REGEXP(a, a)", "RLIKE(a, a)"],
        ),
        (
            "SELECT convert_timezone('Asia/Tokyo', TIMESTAMP_NTZ'2024-01-01 00:00:00'), assert_true(1 < 2), assert_true(true, 'm')",
            &[
                "convert_timezone(current_timezone(), Asia/Tokyo, TIMESTAMP_NTZ '2024-01-01 00:00:00')",
                "assert_true((1 < 2), '(1 < 2)' is not true!)",
                "assert_true(true, m)",
            ],
        ),
        (
            "SELECT coalesce(x, raise_error('none')), trim(TRAILING FROM 'a '), trim(BOTH FROM 'a ') FROM VALUES (1) AS t(x)",
            &["coalesce(x, raise_error(USER_RAISED_EXCEPTION, map(errorMessage, none)))", "rtrim(a )", "trim(a )"],
        ),
        (
            "SELECT lag(x) IGNORE NULLS OVER (ORDER BY x), nth_value(x, 1) IGNORE NULLS OVER (ORDER BY x) FROM VALUES (1) AS t(x)",
            &[
                "lag(x, 1, NULL) OVER (ORDER BY x ASC NULLS FIRST ROWS BETWEEN -1 FOLLOWING AND -1 FOLLOWING)",
                "nth_value(x, 1) ignore nulls OVER (ORDER BY x ASC NULLS FIRST RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
            ],
        ),
        (
            "SELECT (SELECT max(x) FROM VALUES (5) AS u(x) WHERE u.x > t.a AND u.x < t.b + t.a), \
             EXISTS (SELECT 1 FROM VALUES (5) AS u(x) WHERE u.x > t.a), a IN (SELECT x FROM VALUES (5) AS u(x) WHERE u.x > t.b), \
             sum((SELECT t.b FROM VALUES (5) AS u(x) WHERE u.x > t.a)) FROM VALUES (1, 2) AS t(a, b) GROUP BY ALL",
            &["scalarsubquery(a, b, a)", "exists(a)", "(a IN (listquery(b)))", "sum(scalarsubquery(b, a))"],
        ),
        (
            "SELECT (1, 'a') IN ((1, 'a')), (a, b) = (1, 2), (a, b) IN (SELECT 1, 2), struct(a, 1) FROM VALUES (1, 2) AS t(a, b)",
            &[
                "(named_struct(col1, 1, col2, a) IN (named_struct(col1, 1, col2, a)))",
                "(named_struct(a, a, b, b) = named_struct(col1, 1, col2, 2))",
                "(named_struct('a', a, 'b', b) IN (listquery()))",
                "struct(a, 1)",
            ],
        ),
        ("SELECT json_tuple('{}', 'a', 'b'), to_json(struct(1 AS x))", &["c0", "c1", "to_json(struct(1 AS x))"]),
        (
            "SELECT * FROM VALUES ('a', 'x', 1) AS t(g, k, v) PIVOT (sum(v) AS s, max(v) - min(v), count(*) * 2 FOR k IN ('x' AS p))",
            &["g", "p_s", "p_(max(v) - min(v))", "p_(count(1) * 2)"],
        ),
        ("FROM VALUES (1, 'a') AS t(x, s) |> SET X = x + 1 |> EXTEND x * 2 AS d", &["X", "s", "d"]),
        ("FROM VALUES (1, 'a') AS t(x, s) |> AGGREGATE sum(x) GROUP BY s, x % 2", &["s", "(x % 2)", "sum(x)"]),
    ] {
        let bound = bind(sql, &Tables::new(), None).expect(sql);
        let names: Vec<&str> = bound.schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, want, "{sql}");
    }
}
