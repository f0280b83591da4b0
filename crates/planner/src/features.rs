//! A plan as plain numbers for the router: what it does, counted on the optimized plan, and what
//! it reads after pruning. Estimates are rough on purpose; no decision about correctness rests on them.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Distinct, Expr, FetchType, LogicalPlan, Operator, SkipType};
use flightpath_catalog::{DataFile, TableContents, TableFormat, TableSnapshot};
use flightpath_plan::{ScanBinding, ScanId, SnapshotSource};
use flightpath_types::{Features, TableUse};

/// Share of rows that a filter leaves, by its kind.
const EQUALITY_SHARE: f64 = 0.1;
const RANGE_SHARE: f64 = 0.4;
/// Groups per input row of an aggregation, and distinct rows per row.
const GROUP_SHARE: f64 = 0.1;
/// Elements per array, where they aren't told by constants.
const ELEMENTS: f64 = 4.0;
/// Rows that go through an operator at once.
const BATCH_ROWS: f64 = 8_192.0;
/// Aggregates that keep no more of a group than a few numbers; of others nothing is promised.
const BOUNDED: [&str; 27] = [
    "any_value",
    "approx_count_distinct",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "count_if",
    "covar_pop",
    "covar_samp",
    "first",
    "grouping",
    "kurtosis",
    "last",
    "max",
    "min",
    "skewness",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "try_avg",
    "try_sum",
    "var_pop",
    "var_samp",
];

pub(crate) fn extract(optimized: &LogicalPlan, scans: &BTreeMap<ScanId, ScanBinding>) -> Features {
    let mut features = Features::default();
    tables(scans, &mut features);
    let mut counter = Counter { features: &mut features, scans };
    let rows = counter.node(optimized, 1);
    features.result_rows = rows.map(|r| r.ceil().clamp(0.0, 1e18) as u64);
    features
}

fn tables(scans: &BTreeMap<ScanId, ScanBinding>, features: &mut Features) {
    let mut uses: BTreeMap<String, TableUse> = BTreeMap::new();
    let mut rows_total = Some(0u64);
    for binding in scans.values() {
        let snapshot = &binding.snapshot;
        let bytes: u64 = binding.files.iter().map(|f| f.size_bytes).sum();
        let rows = rows(binding, |f| f.rows);
        let deleted: u64 = binding.files.iter().map(|f| deleted_rows(f)).sum();
        let rows = rows.map(|r| r.saturating_sub(deleted));
        let name = snapshot.name.to_string();
        let table = uses.entry(name.clone()).or_insert_with(|| TableUse { name, rows: Some(0), ..TableUse::default() });
        table.version = (snapshot.format == TableFormat::Delta).then_some(snapshot.version);
        table.files += binding.files.len() as u64;
        table.files_total += snapshot.files().len() as u64;
        table.bytes += bytes;
        table.rows = add(table.rows, rows);
        for column in &binding.columns {
            let column = snapshot.schema.field(*column).name();
            if !table.columns.contains(column) {
                table.columns.push(column.clone());
            }
        }
        features.files += binding.files.len() as u64;
        features.files_total += snapshot.files().len() as u64;
        features.file_bytes += bytes;
        features.scan_bytes += (bytes as f64 * share_of_columns(snapshot, &binding.columns)) as u64;
        features.columns_read += binding.columns.len() as u32;
        features.deleted_rows += deleted;
        rows_total = add(rows_total, rows);
    }
    features.scans = scans.len() as u32;
    features.scan_rows = rows_total;
    features.tables = uses.into_values().collect();
}

fn add(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a?.saturating_add(b?))
}

/// Unknown where the files are.
fn rows(binding: &ScanBinding, of_file: impl Fn(&DataFile) -> Option<u64>) -> Option<u64> {
    match binding.snapshot.contents {
        TableContents::Remote => None,
        TableContents::Files(_) | TableContents::System(_) => binding.files.iter().map(|f| of_file(f)).sum(),
    }
}

fn deleted_rows(file: &DataFile) -> u64 {
    file.deletion_vector.as_ref().map_or(0, |dv| dv.rows.len() as u64)
}

/// By width in memory: what compression makes of each column isn't known without its footer.
fn share_of_columns(snapshot: &TableSnapshot, columns: &[usize]) -> f64 {
    let stored = |i: &usize| !snapshot.partition_columns.contains(i);
    let width = |i: usize| weight(snapshot.schema.field(i).data_type());
    let all: f64 = (0..snapshot.schema.fields().len()).filter(stored).map(width).sum();
    let read: f64 = columns.iter().copied().filter(stored).map(width).sum();
    if all > 0.0 { (read / all).clamp(0.0, 1.0) } else { 0.0 }
}

fn weight(ty: &DataType) -> f64 {
    match ty {
        DataType::Null => 0.1,
        DataType::Boolean => 0.25,
        DataType::Int8 => 1.0,
        DataType::Int16 => 2.0,
        DataType::Int32 | DataType::Float32 | DataType::Date32 => 4.0,
        DataType::Utf8 | DataType::Binary => 16.0,
        DataType::List(item) => 8.0 + 4.0 * weight(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|f| weight(f.data_type())).sum(),
        DataType::Map(entries, _) => 8.0 + 4.0 * weight(entries.data_type()),
        _ => 8.0,
    }
}

struct Counter<'a> {
    features: &'a mut Features,
    scans: &'a BTreeMap<ScanId, ScanBinding>,
}

impl Counter<'_> {
    /// Counts a node and what is below it; the rows it is expected to give, when that can be told.
    fn node(&mut self, plan: &LogicalPlan, depth: u32) -> Option<f64> {
        stacker::maybe_grow(128 * 1024, 2 * 1024 * 1024, || self.node_here(plan, depth))
    }

    fn node_here(&mut self, plan: &LogicalPlan, depth: u32) -> Option<f64> {
        self.features.depth = self.features.depth.max(depth);
        self.subqueries(plan, depth);
        let inputs: Vec<Option<f64>> = plan.inputs().into_iter().map(|input| self.node(input, depth + 1)).collect();
        let input = inputs.first().copied().flatten();
        match plan {
            LogicalPlan::Filter(filter) => {
                self.features.filters += 1;
                input.map(|rows| rows * selectivity(&filter.predicate))
            }
            LogicalPlan::Window(_) => {
                self.features.windows += 1;
                input
            }
            LogicalPlan::Aggregate(aggregate) => {
                self.features.aggregates += 1;
                self.features.collects += aggregate.aggr_expr.iter().filter(|expr| collects(expr)).count() as u32;
                self.features.group_keys += aggregate.group_expr.len() as u32;
                if aggregate.group_expr.is_empty() { Some(1.0) } else { input.map(|rows| (rows * GROUP_SHARE).max(1.0_f64.min(rows))) }
            }
            LogicalPlan::Sort(sort) => {
                self.features.sorts += 1;
                match sort.fetch {
                    Some(fetch) => Some(input.map_or(fetch as f64, |rows| rows.min(fetch as f64))),
                    None => input,
                }
            }
            LogicalPlan::Join(join) => {
                self.features.joins += 1;
                let (left, right) = (input?, inputs.get(1).copied().flatten()?);
                let keyed = !join.on.is_empty();
                let pairs = crossed(&join.left, left) * crossed(&join.right, right);
                if !keyed {
                    self.produce(pairs);
                    if matches!(join.join_type, JoinType::Inner) {
                        self.features.cross_joins += 1;
                    }
                }
                Some(match join.join_type {
                    JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
                    JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
                    JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full if keyed => left.max(right),
                    JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => pairs,
                })
            }
            LogicalPlan::Union(_) => {
                self.features.unions += 1;
                inputs.into_iter().sum()
            }
            LogicalPlan::Limit(limit) => {
                self.features.limits += 1;
                let skip = match limit.get_skip_type() {
                    Ok(SkipType::Literal(skip)) => skip as f64,
                    _ => 0.0,
                };
                let left = input.map(|rows| (rows - skip).max(0.0));
                match limit.get_fetch_type() {
                    Ok(FetchType::Literal(Some(fetch))) => Some(left.map_or(fetch as f64, |rows| rows.min(fetch as f64))),
                    _ => left,
                }
            }
            LogicalPlan::Distinct(Distinct::All(_) | Distinct::On(_)) => {
                self.features.distincts += 1;
                input.map(|rows| rows * GROUP_SHARE)
            }
            LogicalPlan::Unnest(unnest) => self.generate(&unnest.input, input),
            LogicalPlan::TableScan(scan) => {
                let binding = scan.source.downcast_ref::<SnapshotSource>().and_then(|s| self.scans.get(&s.scan));
                let rows = rows(binding?, |f| Some(f.rows?.saturating_sub(deleted_rows(f))));
                // The filters of a scan stay above it in the plan and count there.
                let rows = rows? as f64;
                Some(scan.fetch.map_or(rows, |fetch| rows.min(fetch as f64)))
            }
            LogicalPlan::EmptyRelation(empty) => Some(if empty.produce_one_row { 1.0 } else { 0.0 }),
            LogicalPlan::Values(values) => Some(values.values.len() as f64),
            LogicalPlan::Projection(_) | LogicalPlan::Repartition(_) | LogicalPlan::Subquery(_) | LogicalPlan::SubqueryAlias(_) => input,
            LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => None,
        }
    }

    /// Rows that nothing read has.
    fn produce(&mut self, rows: f64) {
        // As an integer it saturates.
        self.features.produced_rows = self.features.produced_rows.saturating_add(rows as u64);
    }

    fn generate(&mut self, input: &LogicalPlan, rows: Option<f64>) -> Option<f64> {
        self.features.generators += 1;
        let rows = rows?;
        let told = elements(input);
        if let Some(elements) = told {
            let held = (elements * rows.min(BATCH_ROWS)) as u64;
            self.features.array_elements = self.features.array_elements.max(held);
        }
        let made = rows * told.unwrap_or(ELEMENTS);
        self.produce(made);
        Some(made)
    }

    fn subqueries(&mut self, plan: &LogicalPlan, depth: u32) {
        let mut found = 0;
        // The closures don't fail, so neither does the walk.
        let _ = plan.apply_subqueries(|subquery| {
            found += 1;
            self.node(subquery, depth + 1);
            Ok(TreeNodeRecursion::Jump)
        });
        self.features.subqueries += found;
    }
}

/// The rows of an input that is joined without keys. How many groups there are nobody knows, but who pairs each
/// group with everything has few of them: a guess that is linear on both sides would be off by its square.
fn crossed(input: &LogicalPlan, rows: f64) -> f64 {
    match input {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => rows.min(rows.sqrt()),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) => {
            input.inputs().first().map_or(rows, |below| crossed(below, rows))
        }
        _ => rows,
    }
}

fn collects(aggregate: &Expr) -> bool {
    match aggregate {
        Expr::Alias(alias) => collects(&alias.expr),
        Expr::AggregateFunction(call) => call.params.distinct || !BOUNDED.contains(&call.func.name()),
        _ => false,
    }
}

/// Of the longest array that the generator's input makes from constants.
fn elements(input: &LogicalPlan) -> Option<f64> {
    let LogicalPlan::Projection(projection) = input else { return None };
    let mut longest: Option<f64> = None;
    for expr in &projection.expr {
        // The closure doesn't fail, so neither does the walk.
        let _ = expr.apply(|e| {
            let length = match e {
                Expr::ScalarFunction(call) if call.func.name() == "sequence" => sequence_length(&call.args),
                Expr::Literal(ScalarValue::List(list), _) => Some(list.values().len() as f64),
                _ => None,
            };
            longest = longest.into_iter().chain(length).reduce(f64::max);
            Ok(TreeNodeRecursion::Continue)
        });
    }
    longest
}

/// `None` where it isn't one of constant numbers.
fn sequence_length(args: &[Expr]) -> Option<f64> {
    let number = |expr: &Expr| match constant(expr)?.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(n))) => Some(n as f64),
        _ => None,
    };
    let (start, stop) = (number(args.first()?)?, number(args.get(1)?)?);
    let step = args.get(2).map_or(Some(1.0), number)?.abs();
    (step > 0.0).then(|| ((stop - start).abs() / step).floor() + 1.0)
}

fn constant(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => Some(value),
        Expr::Cast(cast) => constant(&cast.expr),
        _ => None,
    }
}

fn selectivity(predicate: &Expr) -> f64 {
    let share = |e: &&Expr| match e {
        Expr::BinaryExpr(b) if b.op == Operator::Eq => EQUALITY_SHARE,
        Expr::InList(list) if !list.negated => (EQUALITY_SHARE * list.list.len() as f64).min(RANGE_SHARE),
        Expr::IsNotNull(_) => 1.0,
        _ => RANGE_SHARE,
    };
    split_conjunction(predicate).iter().map(share).product()
}
