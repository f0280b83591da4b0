//! What plans are printed as, and what is refused. Plans are built by hand with native operators,
//! so that these tests stand without the binder and the compile table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{Column, JoinType, NullEquality, ScalarValue, Spans};
use datafusion::logical_expr::expr::TryCast;
use datafusion::logical_expr::expr::{Exists, GroupingSet, InSubquery, Like, Placeholder, ScalarFunction, SetComparison, SetQuantifier};
use datafusion::logical_expr::logical_plan::{Join, RecursiveQuery, Repartition};
use datafusion::logical_expr::{
    Between, Case, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Partitioning, SortExpr, Subquery, TableScanBuilder, col, in_list, lit,
    not,
};
use flightpath_catalog::{AccessRules, Column as TableColumn, Home, TableContents, TableFormat, TableName, TableSnapshot};
use flightpath_plan::{ScanId, SnapshotSource};
use flightpath_printer::{scan_columns, to_duckdb};

fn snapshot(name: &str, fields: Vec<Field>) -> Arc<TableSnapshot> {
    let columns = fields.iter().map(|f| TableColumn { physical_name: f.name().clone(), field_id: None, comment: None, widened: false });
    Arc::new(TableSnapshot {
        name: TableName::new("lake", "default", name),
        format: TableFormat::Delta,
        version: 1,
        committed_unix_ms: None,
        columns: columns.collect(),
        schema: Arc::new(Schema::new(fields)),
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

fn scan_of(id: u32, fields: Vec<Field>) -> LogicalPlan {
    let source = SnapshotSource { scan: ScanId(id), snapshot: snapshot(&format!("table{id}"), fields) };
    LogicalPlan::TableScan(TableScanBuilder::new(format!("s{id}"), Arc::new(source)).build().expect("a scan"))
}

fn scan(id: u32) -> LogicalPlan {
    scan_of(
        id,
        vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
            Field::new("f", DataType::Float64, true),
            Field::new("l", DataType::new_list(DataType::Int32, true), true),
        ],
    )
}

fn from(plan: LogicalPlan) -> LogicalPlanBuilder {
    LogicalPlanBuilder::from(plan)
}

fn build(builder: LogicalPlanBuilder) -> LogicalPlan {
    builder.build().expect("a plan")
}

fn print(plan: &LogicalPlan) -> String {
    to_duckdb(plan).unwrap_or_else(|refusal| panic!("refused: {}\n{}", refusal.reason, plan.display_indent())).sql
}

fn refusal(plan: &LogicalPlan) -> String {
    match to_duckdb(plan) {
        Ok(printed) => panic!("printed: {}", printed.sql),
        Err(refusal) => refusal.reason,
    }
}

fn print_expr(expr: Expr) -> String {
    let plan = build(from(scan(0)).project(vec![expr.alias("c1")]).expect("a projection"));
    let sql = print(&plan);
    let text = sql.strip_prefix("SELECT ").and_then(|s| s.strip_suffix(" AS c0 FROM s0")).expect("one column of s0");
    text.to_string()
}

fn a() -> Expr {
    col("s0.a")
}

fn b() -> Expr {
    col("s0.b")
}

#[test]
fn a_query_of_one_table_is_one_select() {
    let plan = from(scan(0))
        .filter(a().gt(lit(5)).and(b().is_not_null()))
        .and_then(|p| p.project(vec![b().alias("c1"), a().eq(lit(7)).alias("c2")]))
        .and_then(|p| p.sort(vec![SortExpr::new(col("c1"), false, false)]))
        .and_then(|p| p.limit(2, Some(10)));
    assert_eq!(
        print(&build(plan.expect("a plan"))),
        "SELECT s0.\"b\" AS c0, s0.\"a\" = 7 AS c1 FROM s0 WHERE s0.\"a\" > 5 AND s0.\"b\" IS NOT NULL ORDER BY s0.\"b\" DESC NULLS LAST LIMIT 10 OFFSET 2"
    );
}

#[test]
fn sorting_by_what_was_computed_goes_through_a_derived_table() {
    let plan = from(scan(0)).project(vec![a().eq(lit(7)).alias("c1")]).and_then(|p| p.sort(vec![SortExpr::new(col("c1"), true, true)]));
    assert_eq!(
        print(&build(plan.expect("a plan"))),
        "SELECT t0.c0 AS c0 FROM (SELECT s0.\"a\" = 7 AS c0 FROM s0) AS t0 ORDER BY t0.c0 ASC NULLS FIRST"
    );
}

#[test]
fn dropping_a_sort_key_keeps_the_order() {
    let plan = from(scan(0))
        .project(vec![a().eq(lit(7)).alias("c1"), b().alias("c2")])
        .and_then(|p| p.sort(vec![SortExpr::new(col("c2"), true, true)]))
        .and_then(|p| p.project(vec![col("c1")]));
    assert_eq!(print(&build(plan.expect("a plan"))), "SELECT s0.\"a\" = 7 AS c0 FROM s0 ORDER BY s0.\"b\" ASC NULLS FIRST");
}

#[test]
fn an_expression_over_a_limit_is_computed_for_its_rows_only_and_keeps_their_order() {
    let plan = from(scan(0))
        .sort(vec![SortExpr::new(a(), true, true)])
        .and_then(|p| p.limit(0, Some(3)))
        .and_then(|p| p.project(vec![b().eq(lit(1i64)).alias("c1")]));
    assert_eq!(
        print(&build(plan.expect("a plan"))),
        "SELECT t0.c1 = CAST(1 AS BIGINT) AS c0 FROM (SELECT s0.\"b\" AS c1, s0.\"a\" AS k0 FROM s0 ORDER BY s0.\"a\" ASC NULLS FIRST LIMIT 3) AS t0 ORDER BY t0.k0 ASC NULLS FIRST"
    );
}

#[test]
fn a_computed_column_is_printed_once() {
    let plan =
        from(scan(0)).project(vec![a().eq(lit(7)).alias("c1")]).and_then(|p| p.project(vec![col("c1").and(not(col("c1"))).alias("c2")]));
    assert_eq!(print(&build(plan.expect("a plan"))), "SELECT t0.c0 AND NOT t0.c0 AS c0 FROM (SELECT s0.\"a\" = 7 AS c0 FROM s0) AS t0");
}

#[test]
fn inner_joins_are_flat_and_filters_move_behind_them() {
    let left = build(from(scan(0)).filter(a().gt(lit(1))).expect("a filter"));
    let plan = from(left)
        .join(scan(1), JoinType::Inner, (vec![Column::new(Some("s0"), "a")], vec![Column::new(Some("s1"), "a")]), None)
        .and_then(|p| p.cross_join(scan(2)))
        .and_then(|p| p.project(vec![col("s2.b").alias("c1")]));
    assert_eq!(
        print(&build(plan.expect("a plan"))),
        "SELECT s2.\"b\" AS c0 FROM s0 JOIN s1 ON s0.\"a\" = s1.\"a\" CROSS JOIN s2 WHERE s0.\"a\" > 1"
    );
}

#[test]
fn a_filter_on_the_optional_side_stays_inside() {
    let right = build(from(scan(1)).filter(col("s1.a").gt(lit(1))).expect("a filter"));
    let plan = from(scan(0))
        .join(right, JoinType::Left, (vec![Column::new(Some("s0"), "a")], vec![Column::new(Some("s1"), "a")]), None)
        .and_then(|p| p.project(vec![b().alias("c1"), col("s1.b").alias("c2")]));
    assert_eq!(
        print(&build(plan.expect("a plan"))),
        "SELECT s0.\"b\" AS c0, t0.c1 AS c1 FROM s0 LEFT JOIN (SELECT s1.\"a\" AS c0, s1.\"b\" AS c1 FROM s1 WHERE s1.\"a\" > 1) AS t0 ON s0.\"a\" = t0.c0"
    );
}

#[test]
fn every_kind_of_join_is_printed_or_refused() {
    let join = |kind| {
        let plan = from(scan(0)).join(scan(1), kind, (vec![Column::new(Some("s0"), "a")], vec![Column::new(Some("s1"), "a")]), None);
        build(plan.expect("a join"))
    };
    let text = |kind| print(&build(from(join(kind)).project(vec![lit(1).alias("c1")]).expect("a projection")));
    assert_eq!(text(JoinType::Right), "SELECT 1 AS c0 FROM s0 RIGHT JOIN s1 ON s0.\"a\" = s1.\"a\"");
    assert_eq!(text(JoinType::Full), "SELECT 1 AS c0 FROM s0 FULL JOIN s1 ON s0.\"a\" = s1.\"a\"");
    assert_eq!(text(JoinType::LeftSemi), "SELECT 1 AS c0 FROM s0 SEMI JOIN s1 ON s0.\"a\" = s1.\"a\"");
    assert_eq!(text(JoinType::LeftAnti), "SELECT 1 AS c0 FROM s0 ANTI JOIN s1 ON s0.\"a\" = s1.\"a\"");
    assert_eq!(text(JoinType::RightSemi), "SELECT 1 AS c0 FROM s1 SEMI JOIN s0 ON s0.\"a\" = s1.\"a\"");
    assert_eq!(text(JoinType::RightAnti), "SELECT 1 AS c0 FROM s1 ANTI JOIN s0 ON s0.\"a\" = s1.\"a\"");
    for kind in [JoinType::LeftMark, JoinType::RightMark] {
        assert!(refusal(&join(kind)).starts_with("a mark join"));
    }
    let LogicalPlan::Join(inner) = join(JoinType::LeftAnti) else { panic!("isn't a join") };
    assert!(refusal(&LogicalPlan::Join(Join { null_aware: true, ..inner })).starts_with("a null-aware join"));
    let LogicalPlan::Join(inner) = join(JoinType::Inner) else { panic!("isn't a join") };
    let null_equal = LogicalPlan::Join(Join { null_equality: NullEquality::NullEqualsNull, ..inner });
    let plan = build(from(null_equal).project(vec![lit(1).alias("c1")]).expect("a projection"));
    assert_eq!(print(&plan), "SELECT 1 AS c0 FROM s0 JOIN s1 ON s0.\"a\" IS NOT DISTINCT FROM s1.\"a\"");
}

#[test]
fn unions_distinct_values_and_empty_relations() {
    let one = |id| build(from(scan(id)).project(vec![col(format!("s{id}.a")).alias("c1")]).expect("a projection"));
    let union = build(from(one(0)).union(one(1)).and_then(|p| p.distinct()).expect("a union"));
    assert_eq!(
        print(&union),
        "SELECT DISTINCT t0.c0 AS c0 FROM ((SELECT s0.\"a\" AS c0 FROM s0) UNION ALL (SELECT s1.\"a\" AS c0 FROM s1)) AS t0"
    );
    let values = LogicalPlanBuilder::values(vec![vec![lit(1), lit("x")], vec![lit(ScalarValue::Int32(None)), lit("it's")]]);
    assert_eq!(
        print(&build(values.expect("values"))),
        "SELECT t0.c0 AS c0, t0.c1 AS c1 FROM (VALUES (1, 'x'), (CAST(NULL AS INTEGER), 'it''s')) AS t0(c0, c1)"
    );
    let nothing = build(LogicalPlanBuilder::empty(true).project(vec![lit(1).alias("c1")]).expect("a projection"));
    assert_eq!(print(&nothing), "SELECT 1 AS c0");
    let none = build(LogicalPlanBuilder::empty(false).project(vec![lit(1).alias("c1")]).expect("a projection"));
    assert_eq!(print(&none), "SELECT 1 AS c0 WHERE FALSE");
}

#[test]
fn nested_limits_are_one() {
    let plan = from(scan(0)).project(vec![a()]).and_then(|p| p.limit(5, Some(10))).and_then(|p| p.limit(3, Some(20)));
    assert_eq!(print(&build(plan.expect("a plan"))), "SELECT s0.\"a\" AS c0 FROM s0 LIMIT 7 OFFSET 8");
}

#[test]
fn native_operators_are_written_with_their_operands_complete() {
    assert_eq!(print_expr(a().eq(lit(1)).and(a().lt(lit(2)).or(b().is_null()))), "s0.\"a\" = 1 AND (s0.\"a\" < 2 OR s0.\"b\" IS NULL)");
    assert_eq!(print_expr(not(a().gt(lit(1)))), "NOT (s0.\"a\" > 1)");
    assert_eq!(print_expr(a().gt(lit(1)).is_true()), "(s0.\"a\" > 1) IS TRUE");
    assert_eq!(print_expr(a().gt(lit(1)).is_unknown()), "(s0.\"a\" > 1) IS NULL");
    assert_eq!(print_expr(a().gt(lit(1)).is_not_false()), "(s0.\"a\" > 1) IS NOT FALSE");
    assert_eq!(print_expr(in_list(a(), vec![lit(1), lit(-2)], true)), "s0.\"a\" NOT IN (1, CAST(-2 AS INTEGER))");
    assert_eq!(print_expr(in_list(a(), vec![], false)), "FALSE");
    assert_eq!(
        print_expr(Expr::Between(Between::new(Box::new(a()), false, Box::new(lit(1)), Box::new(lit(2))))),
        "s0.\"a\" BETWEEN 1 AND 2"
    );
    let like = |pattern: &str, escape| Expr::Like(Like::new(false, Box::new(col("s0.t")), Box::new(lit(pattern)), escape, false));
    assert_eq!(print_expr(like("a\\%_", None)), "s0.\"t\" LIKE 'a\\%_' ESCAPE '\\'");
    assert_eq!(print_expr(like("a!%", Some('!'))), "s0.\"t\" LIKE 'a!%' ESCAPE '!'");
    assert_eq!(print_expr(like("%a_", None)), "s0.\"t\" LIKE '%a_'");
    assert_eq!(print_expr(like("%a!_", Some('\\'))), "s0.\"t\" LIKE '%a!_'");
    let computed = Expr::Like(Like::new(false, Box::new(col("s0.t")), Box::new(col("s0.t")), None, false));
    let printed = print_expr(computed);
    assert!(printed.contains("THEN error('FLIGHTPATH_RAISED|INVALID_FORMAT.ESC_IN_THE_MIDDLE|42601|'"), "{printed}");
    assert!(printed.contains("regexp_matches(s0.\"t\", '(?s)\\A(?:[^\\\\]|\\\\[%_\\\\])*\\\\(?:[^%_\\\\]|\\z)')"), "{printed}");
    let case = Case::new(None, vec![(Box::new(a().gt(lit(1))), Box::new(b()))], Some(Box::new(lit(ScalarValue::Null))));
    assert_eq!(print_expr(Expr::Case(case)), "CASE WHEN s0.\"a\" > 1 THEN s0.\"b\" ELSE NULL END");
    assert_eq!(print_expr(datafusion::logical_expr::cast(a(), DataType::Int64).eq(b())), "CAST(s0.\"a\" AS BIGINT) = s0.\"b\"");
}

#[test]
fn what_isnt_the_same_in_duckdb_is_refused_by_name() {
    let refused = |expr: Expr| {
        let plan = build(from(scan(0)).project(vec![expr.alias("c1")]).expect("a projection"));
        refusal(&plan)
    };
    let binary = |op| datafusion::logical_expr::binary_expr(a(), op, a());
    for op in [Operator::Plus, Operator::Minus, Operator::Multiply, Operator::Divide, Operator::Modulo, Operator::BitwiseAnd] {
        assert!(refused(binary(op)).starts_with("the native operator"), "{op}");
    }
    assert!(refused(Expr::Negative(Box::new(a()))).starts_with("the native operator `-`"));
    assert!(refused(datafusion::logical_expr::cast(b(), DataType::Int32)).starts_with("a native cast from Int64 to Int32"));
    assert!(refused(datafusion::logical_expr::cast(a(), DataType::Utf8)).starts_with("a native cast"));
    assert!(refused(Expr::TryCast(TryCast::new(Box::new(a()), DataType::Int64))).starts_with("a native TRY_CAST"));
    let between =
        Expr::Between(datafusion::logical_expr::Between::new(Box::new(col("s0.l")), false, Box::new(col("s0.l")), Box::new(col("s0.l"))));
    assert!(refused(between).starts_with("a comparison of values of type"));
    let like = |pattern: Expr, insensitive| Expr::Like(Like::new(false, Box::new(col("s0.t")), Box::new(pattern), None, insensitive));
    assert!(refused(like(lit("a"), true)).contains("ILIKE"));
    assert!(refused(like(lit("a\\b"), false)).contains("escape"));
    assert!(refused(Expr::SimilarTo(Like::new(false, Box::new(col("s0.t")), Box::new(lit("a")), None, false))).starts_with("SIMILAR TO"));
    assert!(refused(Expr::ScalarVariable(Arc::new(Field::new("v", DataType::Int32, true)), vec!["@v".into()])).contains("@v"));
    let placeholder = Placeholder::new_with_field("$1".into(), Some(Arc::new(Field::new("", DataType::Int32, true))));
    assert!(refused(Expr::Placeholder(placeholder)).contains("$1"));
    let function = datafusion::functions::math::abs();
    assert!(refused(Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![a()]))).contains("`abs`"));
    let subquery = Subquery { subquery: Arc::new(scan(1)), outer_ref_columns: vec![], spans: Spans::new() };
    let any = SetComparison::new(Box::new(a()), subquery, Operator::Eq, SetQuantifier::Any);
    let plan = build(from(scan(0)).project(vec![a()]).expect("a projection"));
    let LogicalPlan::Projection(mut projection) = plan else { panic!("isn't a projection") };
    projection.expr = vec![Expr::SetComparison(any)];
    assert!(refusal(&LogicalPlan::Projection(projection)).contains("ANY or ALL"));
}

#[test]
fn nodes_that_are_no_queries_are_refused_and_distribution_is_ignored() {
    let explain = build(from(scan(0)).explain(false, false).expect("an explain"));
    assert!(refusal(&explain).starts_with("EXPLAIN"));
    let analyze = build(from(scan(0)).explain(false, true).expect("an analyze"));
    assert!(refusal(&analyze).starts_with("EXPLAIN ANALYZE"));
    let table = LogicalPlan::Repartition(Repartition { input: Arc::new(scan(0)), partitioning_scheme: Partitioning::RoundRobinBatch(4) });
    let plan = build(from(table).project(vec![a()]).expect("a projection"));
    assert_eq!(print(&plan), "SELECT s0.\"a\" AS c0 FROM s0");
    let recursive = |is_distinct| {
        let made = RecursiveQuery::try_new("r".into(), Arc::new(scan(0)), Arc::new(scan(1)), is_distinct);
        LogicalPlan::RecursiveQuery(made.expect("terms of one schema"))
    };
    assert!(refusal(&recursive(true)).contains("recursive"));
    assert!(print(&recursive(false)).starts_with("WITH RECURSIVE t0 AS ((SELECT s0."));
    let distinct_on = from(scan(0)).distinct_on(vec![a()], vec![b()], None).expect("a plan");
    assert!(refusal(&build(distinct_on)).starts_with("DISTINCT ON"));
    let set = Expr::GroupingSet(GroupingSet::Rollup(vec![a()]));
    let LogicalPlan::Projection(mut projection) = build(from(scan(0)).project(vec![a()]).expect("a projection")) else {
        panic!("isn't a projection")
    };
    projection.expr = vec![set];
    assert!(refusal(&LogicalPlan::Projection(projection)).contains("grouping set"));
}

#[test]
fn correlated_subqueries_refer_to_the_outer_relation_by_its_own_name() {
    let outer = Expr::OuterReferenceColumn(Arc::new(Field::new("a", DataType::Int32, true)), Column::new(Some("s0"), "a"));
    let inner = from(scan(1)).filter(col("s1.a").eq(outer.clone())).and_then(|p| p.project(vec![col("s1.b").alias("c9")]));
    let subquery = Subquery { subquery: Arc::new(build(inner.expect("a subquery"))), outer_ref_columns: vec![outer], spans: Spans::new() };
    let exists = Expr::Exists(Exists::new(subquery.clone(), true));
    let isin = Expr::InSubquery(InSubquery::new(Box::new(b()), subquery.clone(), false));
    let plan = from(scan(0)).filter(exists.and(isin)).and_then(|p| p.project(vec![a()]));
    let inner = "SELECT s1.\"b\" AS c0 FROM s1 WHERE s1.\"a\" = s0.\"a\"";
    // The second print of scan 1 has an alias of its own.
    let again = "SELECT t0.\"b\" AS c0 FROM s1 AS t0 WHERE t0.\"a\" = s0.\"a\"";
    assert_eq!(
        print(&build(plan.expect("a plan"))),
        format!(
            "SELECT s0.\"a\" AS c0 FROM s0 WHERE NOT EXISTS (SELECT 1 AS c0 FROM s1 WHERE s1.\"a\" = s0.\"a\") AND s0.\"b\" IN ({again})"
        )
    );
    let scalar = Expr::ScalarSubquery(subquery);
    let plan = from(scan(0)).project(vec![scalar.alias("c1")]).expect("a plan");
    assert_eq!(
        print(&build(plan)),
        format!(
            "SELECT (SELECT CASE WHEN count(*) > 1 THEN error('FLIGHTPATH_RAISED|SCALAR_SUBQUERY_TOO_MANY_ROWS|21000|' || 'More than one row returned by a subquery used as an expression.') ELSE first(t0.c0) END FROM ({inner}) AS t0) AS c0 FROM s0"
        )
    );
}

#[test]
fn a_subplan_used_twice_is_printed_once() {
    let shared = Arc::new(build(from(scan(0)).project(vec![a().alias("c1")]).and_then(|p| p.distinct()).expect("a plan")));
    let renamed = |name: &str| {
        let expr = vec![col("c1").alias(name)];
        LogicalPlan::Projection(datafusion::logical_expr::Projection::try_new(expr, shared.clone()).expect("a projection"))
    };
    let plan = from(renamed("c2")).join(renamed("c3"), JoinType::Inner, (vec!["c2"], vec!["c3"]), None).expect("a join");
    assert_eq!(
        print(&build(plan)),
        "WITH w0 AS (SELECT DISTINCT s0.\"a\" AS c0 FROM s0) SELECT t1.c0 AS c0, t2.c0 AS c1 FROM w0 AS t1 JOIN w0 AS t2 ON t1.c0 = t2.c0"
    );
}

#[test]
fn only_columns_that_are_referred_to_are_named() {
    let right = build(from(scan(1)).filter(col("s1.a").gt(lit(1))).expect("a filter"));
    let join = from(scan(0)).join(right, JoinType::Left, (vec![Column::new(Some("s0"), "a")], vec![Column::new(Some("s1"), "a")]), None);
    let plan = build(join.and_then(|p| p.project(vec![b().alias("c1")])).expect("a plan"));
    let columns = scan_columns(&plan).expect("columns");
    assert_eq!(columns[&ScanId(0)].iter().copied().collect::<Vec<_>>(), vec![0, 1]);
    assert_eq!(columns[&ScanId(1)].iter().copied().collect::<Vec<_>>(), vec![0]);
    assert!(!print(&plan).contains("s1.\"b\""));
}

#[test]
fn names_that_differ_by_case_only_are_refused() {
    let plan = scan_of(0, vec![Field::new("a", DataType::Int32, true), Field::new("A", DataType::Int32, true)]);
    assert!(refusal(&plan).contains("but for their case"));
}

#[test]
fn literals_carry_their_types() {
    let zone: Arc<str> = "UTC".into();
    for (value, text) in [
        (ScalarValue::Int32(Some(i32::MIN)), "CAST(-2147483648 AS INTEGER)"),
        (ScalarValue::Int64(Some(i64::MIN)), "CAST(-9223372036854775808 AS BIGINT)"),
        (ScalarValue::Int8(Some(-128)), "CAST(-128 AS TINYINT)"),
        (ScalarValue::Decimal128(Some(-5), 10, 2), "CAST('-0.05' AS DECIMAL(10,2))"),
        (ScalarValue::Float64(Some(f64::NAN)), "CAST('NaN' AS DOUBLE)"),
        (ScalarValue::Float32(Some(f32::NEG_INFINITY)), "CAST('-Infinity' AS FLOAT)"),
        (ScalarValue::Utf8(Some("a\0'b".into())), "('a' || chr(0) || '''b')"),
        (ScalarValue::Date32(Some(-719_893)), "(DATE '1970-01-01' + CAST(-719893 AS INTEGER))"),
        (ScalarValue::Date32(Some(8_582)), "CAST('1993-07-01' AS DATE)"),
        (ScalarValue::TimestampMicrosecond(Some(-1), None), "make_timestamp(CAST(-1 AS BIGINT))"),
        (ScalarValue::TimestampMicrosecond(Some(1), Some(zone)), "make_timestamptz(CAST(1 AS BIGINT))"),
        (ScalarValue::Null, "NULL"),
    ] {
        assert_eq!(print_expr(Expr::Literal(value, None)), text);
    }
    let nanos = Expr::Literal(ScalarValue::Time64Nanosecond(Some(1)), None);
    let plan = build(from(scan(0)).project(vec![nanos.alias("c1")]).expect("a projection"));
    assert!(refusal(&plan).contains("literal of type"));
    assert_eq!(DataType::Timestamp(TimeUnit::Microsecond, None), ScalarValue::TimestampMicrosecond(Some(1), None).data_type());
}

#[test]
fn deep_chains_are_flat_and_deep_nesting_is_refused_without_overflow() {
    // Building and freeing such expressions recurses outside of the printer.
    let roomy = std::thread::Builder::new().stack_size(256 << 20).spawn(|| {
        let chain = (0..3_000).fold(a().eq(lit(0)), |e, i| e.or(a().eq(lit(i))));
        assert_eq!(print_expr(chain).matches(" OR ").count(), 3_000);
        let deep = (0..3_000).fold(a().eq(lit(0)), |e, _| not(e));
        let plan = build(from(scan(0)).project(vec![deep.alias("c1")]).expect("a projection"));
        assert!(refusal(&plan).contains("nested this deep"));
    });
    roomy.expect("a thread").join().expect("no overflow");
}
