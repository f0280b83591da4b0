//! Rows, groups and joins as foreseen from files' statistics: rough numbers, so within bounds.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use flightpath_catalog::{ColumnStats, DataFile, TableName, TableSnapshot};
use flightpath_types::Features;

use super::catalog::{FakeCatalog, file, int, stats, table, text};
use super::{planner, query};

const ORDERS: i32 = 100_000;
const CUSTOMERS: i32 = 1_000;
const DAYS: i32 = 730;

/// `orders`: 100,000 in two files, of 1,000 customers over two years, with a status of three letters; `lines`: four
/// of each order.
fn shop() -> Arc<FakeCatalog> {
    let catalog = FakeCatalog::default();
    catalog.put(orders(true));
    let lines = vec![Field::new("order_id", DataType::Int32, false), Field::new("part", DataType::Int32, false)];
    let ids = vec![stats(int(1), int(ORDERS), 0), stats(int(1), int(20_000), 0)];
    let lines_file = DataFile { stats: ids, ..file("lines", 4 * ORDERS as u64) };
    catalog.put(table(TableName::new("lake", "default", "lines"), lines, vec![lines_file]));
    // The same with ids up to a billion.
    let gaps = vec![stats(int(1), int(1_000_000_000), 0), ColumnStats::default()];
    let gap_fields = vec![Field::new("order_id", DataType::Int32, false), Field::new("n", DataType::Int32, false)];
    catalog.put(table(
        TableName::new("lake", "default", "gaps"),
        gap_fields,
        vec![DataFile { stats: gaps.clone(), ..file("gaps", 4 * ORDERS as u64) }],
    ));
    let fields = vec![Field::new("id", DataType::Int32, false), Field::new("n", DataType::Int32, false)];
    catalog.put(table(
        TableName::new("lake", "default", "gap_orders"),
        fields,
        vec![DataFile { stats: gaps, ..file("gap_orders", ORDERS as u64) }],
    ));
    // Partitioned by region.
    let fields = vec![Field::new("region", DataType::Utf8, true), Field::new("n", DataType::Int32, false)];
    let part = |region: Option<&str>| {
        let name = region.unwrap_or("none");
        DataFile { partition_values: vec![text(region)], stats: vec![ColumnStats::default(); 2], ..file(name, 1_000) }
    };
    let files = ["eu", "us", "eu"].map(Some).map(part).into_iter().chain([part(None)]).collect();
    let regions = table(TableName::new("lake", "default", "regions"), fields, files);
    catalog.put(TableSnapshot { partition_columns: vec![0], ..regions });
    Arc::new(catalog)
}

fn orders(known: bool) -> TableSnapshot {
    let fields = vec![
        Field::new("id", DataType::Int32, false),
        Field::new("customer", DataType::Int32, false),
        Field::new("day", DataType::Date32, false),
        Field::new("status", DataType::Utf8, false),
        Field::new("price", DataType::Decimal128(10, 2), false),
        Field::new("comment", DataType::Utf8, false),
        Field::new("only", DataType::Int32, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("uuid", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, false),
    ];
    let half = |name: &str, from: i32, to: i32| {
        let date = |day: i32| Arc::new(Date32Array::from(vec![day])) as ArrayRef;
        let micros = |day: i32| i64::from(day) * 86_400_000_000;
        let instant = |day: i32| Arc::new(TimestampMicrosecondArray::from(vec![micros(day)]).with_timezone("UTC")) as ArrayRef;
        let cents = |value: i128| Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(10, 2).expect("fits")) as ArrayRef;
        let of = vec![
            stats(int(from), int(to), 0),
            stats(int(1), int(CUSTOMERS), 0),
            stats(date(0), date(DAYS - 1), 0),
            stats(text(Some("A")), text(Some("C")), 0),
            stats(cents(100), cents(10_099), 0),
            stats(text(Some("a comment")), text(Some("without words")), 0),
            stats(int(1), int(1), 0),
            stats(instant(0), instant(DAYS), 0),
            stats(text(Some("00c3f28a-7d11-4f6e-9d4e-0a1b2c3d")), text(Some("ffe1b7c2-0d9a-41a6-8f00-5e6f7a8b")), 0),
            stats(text(Some("blue")), text(Some("yellow")), 0),
        ];
        let of: Vec<ColumnStats> = if known { of } else { vec![ColumnStats::default(); of.len()] };
        DataFile { stats: of, ..file(name, ORDERS as u64 / 2) }
    };
    let files = vec![half("first", 1, ORDERS / 2), half("second", ORDERS / 2 + 1, ORDERS)];
    table(TableName::new("lake", "default", "orders"), fields, files)
}

async fn features(text: &str) -> Features {
    query(&planner(&shop()), text).await.features.clone()
}

async fn rows(text: &str) -> u64 {
    features(text).await.result_rows.unwrap_or_else(|| panic!("{text}: nothing is foreseen"))
}

async fn groups(text: &str) -> u64 {
    features(text).await.groups.unwrap_or_else(|| panic!("{text}: nothing is foreseen"))
}

fn expect(text: &str, what: u64, within: RangeInclusive<u64>) {
    assert!(within.contains(&what), "{text}: {what}, not within {within:?}");
}

#[tokio::test]
async fn filters_leave_what_bounds_tell() {
    for (filter, within) in [
        ("id = 7", 1..=1),
        ("customer = 7", 100..=100),
        ("7 = customer", 100..=100),
        ("customer <> 7", 99_000..=99_999),
        ("customer IN (1, 2, 3)", 300..=300),
        ("customer NOT IN (1, 2, 3)", 99_000..=99_999),
        ("customer <= 100", 9_000..=11_000),
        ("customer > 900", 9_000..=11_000),
        ("100 >= customer", 9_000..=11_000),
        ("customer BETWEEN 101 AND 200", 9_000..=11_000),
        // One narrow range, not two wide ones.
        ("day >= DATE'1970-03-01' AND day < DATE'1970-03-31'", 3_900..=4_400),
        ("customer < 100 OR customer > 900", 17_000..=22_000),
        ("NOT customer < 100", 88_000..=92_000),
        ("status = 'A'", 33_000..=34_000),
        ("price < 2", 900..=1_100),
        ("customer = 7 AND status = 'B'", 30..=40),
        ("comment LIKE '%word%'", 10_000..=90_000),
        // Ranges include their ends.
        ("customer <= 1", 100..=100),
        ("customer >= 1000", 100..=100),
        // Of what is computed only the most values are known.
        ("customer % 10 = 3", 10_000..=10_000),
        ("only <> 2", 40_000..=100_000),
        ("NOT only = 2", 10_000..=100_000),
        // Nothing can be learned from no rows.
        ("customer = 7 AND customer > 900 AND id = 1 AND price < 1.01", 1..=1),
    ] {
        let text = format!("SELECT * FROM orders WHERE {filter}");
        expect(&text, rows(&text).await, within);
    }
}

#[tokio::test]
async fn groups_are_as_many_as_keys_have_values() {
    for (keys, within) in [
        ("status", 3..=3),
        ("customer", 1_000..=1_000),
        ("customer, status", 2_900..=3_000),
        ("id", 60_000..=100_000),
        // No table has more combinations than rows.
        ("id, customer, status", 60_000..=100_000),
        ("year(day)", 2..=4),
        ("month(day)", 12..=12),
        ("customer % 10", 900..=100_000),
        ("customer > 5", 2..=2),
        ("CASE WHEN customer > 5 THEN 'few' ELSE 'many' END", 2..=2),
        ("comment", 100..=10_000),
        ("year(at)", 2..=4),
        ("CAST(at AS DATE)", 725..=735),
        ("date_trunc('DAY', at)", 725..=735),
        ("date_trunc('MONTH', at)", 20..=30),
        ("trunc(day, 'MONTH')", 20..=30),
        ("uuid", 60_000..=100_000),
        // Two texts of which nothing is known aren't as many as rows.
        ("comment, kind", 1_000..=20_000),
        ("GROUPING SETS ((customer), (status))", 1_000..=1_003),
    ] {
        let text = format!("SELECT count(*) FROM orders GROUP BY {keys}");
        expect(&text, rows(&text).await, within.clone());
        expect(&text, groups(&text).await, within);
    }
    // The groups of all sets; of the rows, which a filter for empty tables stands above, only some are foreseen.
    let text = "SELECT count(*) FROM orders GROUP BY ROLLUP (customer, status)";
    expect(text, groups(text).await, 3_900..=4_001);
    // A filter on the key leaves fewer of them.
    let text = "SELECT customer, sum(price) FROM orders WHERE customer <= 10 GROUP BY customer";
    expect(text, groups(text).await, 5..=15);
    let text = "SELECT customer, sum(price) FROM orders WHERE customer = 10 GROUP BY customer";
    expect(text, groups(text).await, 1..=1);
    // Each key keeps its own bounds behind grouping sets.
    let sets =
        "SELECT status, customer, month(day) AS m, count(*) AS n FROM orders GROUP BY GROUPING SETS ((status), (customer, month(day)))";
    let text = format!("SELECT * FROM ({sets}) WHERE customer <= 100");
    expect(&text, rows(&text).await, 1_000..=1_400);
    let text = "SELECT DISTINCT status FROM orders";
    expect(text, rows(text).await, 3..=3);
    let text = "SELECT sum(price) FROM orders";
    expect(text, rows(text).await, 1..=1);
    // What a DISTINCT argument keeps counts beside the groups.
    let text = "SELECT status, count(DISTINCT customer) FROM orders GROUP BY status";
    expect(text, groups(text).await, 2_900..=6_100);
}

#[tokio::test]
async fn partitions_tell_their_values() {
    let text = "SELECT count(*) FROM regions GROUP BY region";
    expect(text, groups(text).await, 3..=3);
    // Pruned already: what is left holds all of it.
    let text = "SELECT n FROM regions WHERE region = 'eu'";
    expect(text, rows(text).await, 2_000..=2_000);
}

#[tokio::test]
async fn joins_give_what_their_keys_share() {
    let all = u64::from(ORDERS.unsigned_abs()) * 4;
    let joined = async |text: &str| features(text).await.joined_rows.unwrap_or_else(|| panic!("{text}: nothing is foreseen"));
    for (text, within) in [
        ("SELECT price, part FROM orders JOIN lines ON id = order_id", all * 9 / 10..=all),
        ("SELECT price, part FROM lines LEFT JOIN orders ON id = order_id", all..=all),
        // A hundredth of the orders: a hundredth of the lines.
        ("SELECT price, part FROM orders JOIN lines ON id = order_id WHERE customer <= 10", all / 200..=all / 50),
        (
            "SELECT price FROM orders LEFT SEMI JOIN lines ON id = order_id",
            u64::from(ORDERS.unsigned_abs()) * 9 / 10..=u64::from(ORDERS.unsigned_abs()),
        ),
        ("SELECT a.id, b.id FROM orders a JOIN orders b ON a.customer = b.customer", 9_000_000..=11_000_000),
        ("SELECT price FROM orders", 0..=0),
        // Keys with gaps: there's room for more values than there are rows, and each line has its order all the same.
        ("SELECT a.order_id FROM gaps a JOIN gap_orders b ON a.order_id = b.id", all * 9 / 10..=all),
    ] {
        expect(text, joined(text).await, within);
    }
}

#[tokio::test]
async fn what_is_sorted_whole_is_counted() {
    let sorted = async |text: &str| features(text).await.sorted_rows;
    let all = u64::from(ORDERS.unsigned_abs());
    assert_eq!(sorted("SELECT id FROM orders ORDER BY price").await, Some(all));
    assert_eq!(sorted("SELECT id FROM orders ORDER BY price LIMIT 10").await, Some(10));
    assert_eq!(sorted("SELECT id, rank() OVER (PARTITION BY customer ORDER BY price) AS r FROM orders").await, Some(all));
}

#[tokio::test]
async fn without_statistics_shapes_alone_tell() {
    let catalog = FakeCatalog::default();
    catalog.put(orders(false));
    let planner = planner(&Arc::new(catalog));
    let of = async |text: &str| query(&planner, text).await.features.clone();
    let grouped = of("SELECT count(*) FROM orders GROUP BY customer").await;
    assert_eq!(grouped.grouped_rows, Some(u64::from(ORDERS.unsigned_abs())));
    assert!(grouped.groups.is_some_and(|groups| (1..=100_000).contains(&groups)), "{grouped:?}");
    assert!(of("SELECT * FROM orders WHERE customer = 7").await.result_rows.is_some_and(|rows| (1..50_000).contains(&rows)));
}
