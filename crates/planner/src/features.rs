//! A plan as plain numbers for the router: what it does, counted on the optimized plan, and what
//! it reads after pruning. Estimates are rough on purpose; no decision about correctness rests on them.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, ScalarValue};
use datafusion::logical_expr::{Distinct, Expr, FetchType, LogicalPlan, SkipType};
use flightpath_catalog::{DataFile, TableContents, TableFormat, TableSnapshot};
use flightpath_plan::{ScanBinding, ScanId, SnapshotSource};
use flightpath_types::{Features, TableUse};

use crate::cardinality::{self, Estimate};
use crate::prune::columns_of;

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
    tables(scans, &columns_read(optimized), &mut features);
    let mut counter = Counter { features: &mut features, scans, work: Work::default() };
    let rows = counter.node(optimized, 1).rows;
    let work = counter.work;
    features.result_rows = rows.map(whole);
    (features.groups, features.grouped_rows) = (work.groups.map(whole), work.grouped_rows.map(whole));
    (features.joined_rows, features.sorted_rows) = (work.joined_rows.map(whole), work.sorted_rows.map(whole));
    features
}

fn whole(rows: f64) -> u64 {
    rows.ceil().clamp(0.0, 1e18) as u64
}

/// Rows that go through operators, over the whole plan; `None` once one of them can't be told.
struct Work {
    groups: Option<f64>,
    grouped_rows: Option<f64>,
    joined_rows: Option<f64>,
    sorted_rows: Option<f64>,
}

impl Default for Work {
    fn default() -> Self {
        Self { groups: Some(0.0), grouped_rows: Some(0.0), joined_rows: Some(0.0), sorted_rows: Some(0.0) }
    }
}

fn count(sum: &mut Option<f64>, rows: Option<f64>) {
    *sum = sum.zip(rows).map(|(sum, rows)| sum + rows);
}

/// Columns that the plan's scans take, by their place in the table. A binding may have more: all that its plan
/// names, also where nothing comes of them.
fn columns_read(optimized: &LogicalPlan) -> BTreeMap<ScanId, BTreeSet<usize>> {
    let mut read: BTreeMap<ScanId, BTreeSet<usize>> = BTreeMap::new();
    // The closure doesn't fail, so neither does the walk.
    let _ = optimized.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = scan.source.downcast_ref::<SnapshotSource>()
        {
            read.entry(source.scan).or_default().extend(columns_of(scan, &source.snapshot));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    read
}

fn tables(scans: &BTreeMap<ScanId, ScanBinding>, read: &BTreeMap<ScanId, BTreeSet<usize>>, features: &mut Features) {
    let mut uses: BTreeMap<String, TableUse> = BTreeMap::new();
    let mut rows_total = Some(0u64);
    for (scan, binding) in scans {
        let snapshot = &binding.snapshot;
        let taken = |column: &&usize| read.get(scan).is_none_or(|read| read.contains(*column));
        let columns: Vec<usize> = binding.columns.iter().filter(taken).copied().collect();
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
        for column in &columns {
            let column = snapshot.schema.field(*column).name();
            if !table.columns.contains(column) {
                table.columns.push(column.clone());
            }
        }
        features.files += binding.files.len() as u64;
        features.files_total += snapshot.files().len() as u64;
        features.file_bytes += bytes;
        features.scan_bytes += (bytes as f64 * share_of_columns(snapshot, &columns)) as u64;
        features.columns_read += columns.len() as u32;
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
    work: Work,
}

impl Counter<'_> {
    /// Counts a node and what is below it; what it is expected to give, as far as that can be told.
    fn node(&mut self, plan: &LogicalPlan, depth: u32) -> Estimate {
        stacker::maybe_grow(128 * 1024, 2 * 1024 * 1024, || self.node_here(plan, depth))
    }

    fn node_here(&mut self, plan: &LogicalPlan, depth: u32) -> Estimate {
        self.features.depth = self.features.depth.max(depth);
        self.subqueries(plan, depth);
        let mut inputs = plan.inputs().into_iter().map(|input| self.node(input, depth + 1)).collect::<Vec<_>>().into_iter();
        let input = inputs.next().unwrap_or_default();
        match plan {
            LogicalPlan::Filter(filter) => {
                self.features.filters += 1;
                cardinality::filter(&filter.predicate, filter.input.schema(), input)
            }
            LogicalPlan::Window(_) => {
                self.features.windows += 1;
                count(&mut self.work.sorted_rows, input.rows);
                input
            }
            LogicalPlan::Aggregate(aggregate) => {
                self.features.aggregates += 1;
                self.features.collects += aggregate.aggr_expr.iter().filter(|expr| collects(expr)).count() as u32;
                self.features.group_keys += aggregate.group_expr.len() as u32;
                let groups = cardinality::group(aggregate, &input);
                let distinct = cardinality::distinct_arguments(aggregate, &input);
                count(&mut self.work.groups, groups.rows.zip(distinct).map(|(groups, distinct)| groups + distinct));
                // To count rows nobody looks at them.
                if !aggregate.group_expr.is_empty() || aggregate.aggr_expr.iter().any(|expr| !expr.column_refs().is_empty()) {
                    // Each row goes through all of its grouping sets.
                    let sets = cardinality::sets(aggregate).len() as f64;
                    count(&mut self.work.grouped_rows, input.rows.map(|rows| rows * sets));
                }
                if aggregate.group_expr.is_empty() { Estimate::of_rows(Some(1.0)) } else { groups }
            }
            LogicalPlan::Sort(sort) => {
                self.features.sorts += 1;
                match sort.fetch {
                    Some(fetch) => {
                        let rows = input.rows.map_or(fetch as f64, |rows| rows.min(fetch as f64));
                        count(&mut self.work.sorted_rows, Some(rows));
                        input.with_rows(Some(rows))
                    }
                    None => {
                        count(&mut self.work.sorted_rows, input.rows);
                        input
                    }
                }
            }
            LogicalPlan::Join(join) => {
                self.features.joins += 1;
                let right = inputs.next().unwrap_or_default();
                let pairs = input.rows.zip(right.rows).map(|(l, r)| crossed(&join.left, l) * crossed(&join.right, r));
                let unkeyed = pairs.filter(|_| join.on.is_empty());
                if let Some(pairs) = unkeyed {
                    self.produce(pairs);
                    if matches!(join.join_type, JoinType::Inner) {
                        self.features.cross_joins += 1;
                    }
                }
                let joined = cardinality::join(join, input, right, unkeyed);
                // Pairs without keys are rows that are made.
                if unkeyed.is_none() {
                    count(&mut self.work.joined_rows, joined.rows);
                }
                joined
            }
            LogicalPlan::Union(_) => {
                self.features.unions += 1;
                Estimate::of_rows(inputs.fold(input.rows, |sum, one| Some(sum? + one.rows?)))
            }
            LogicalPlan::Limit(limit) => {
                self.features.limits += 1;
                let skip = match limit.get_skip_type() {
                    Ok(SkipType::Literal(skip)) => skip as f64,
                    _ => 0.0,
                };
                let left = input.rows.map(|rows| (rows - skip).max(0.0));
                let rows = match limit.get_fetch_type() {
                    Ok(FetchType::Literal(Some(fetch))) => Some(left.map_or(fetch as f64, |rows| rows.min(fetch as f64))),
                    _ => left,
                };
                input.with_rows(rows)
            }
            LogicalPlan::Distinct(Distinct::All(_) | Distinct::On(_)) => {
                self.features.distincts += 1;
                count(&mut self.work.grouped_rows, input.rows);
                let mut input = input;
                // Of columns that nothing is known of there are values enough.
                input.columns.resize(plan.schema().fields().len(), cardinality::ColumnEstimate::default());
                let rows = input.rows.map(|rows| cardinality::groups(&input.columns, rows));
                count(&mut self.work.groups, rows);
                input.with_rows(rows)
            }
            LogicalPlan::Unnest(unnest) => Estimate::of_rows(self.generate(&unnest.input, input.rows)),
            LogicalPlan::TableScan(scan) => {
                let source = scan.source.downcast_ref::<SnapshotSource>();
                let Some((id, binding)) = source.and_then(|s| self.scans.get(&s.scan).map(|binding| (s.scan, binding))) else {
                    return Estimate::default();
                };
                // The filters of a scan stay above it in the plan and count there.
                let rows = rows(binding, |f| Some(f.rows?.saturating_sub(deleted_rows(f)))).map(|rows| rows as f64);
                let all = cardinality::scan(id, binding, rows, &scan.projected_schema);
                let rows = scan.fetch.map_or(rows, |fetch| rows.map(|rows| rows.min(fetch as f64)));
                all.with_rows(rows)
            }
            LogicalPlan::EmptyRelation(empty) => Estimate::of_rows(Some(if empty.produce_one_row { 1.0 } else { 0.0 })),
            LogicalPlan::Values(values) => Estimate::of_rows(Some(values.values.len() as f64)),
            LogicalPlan::Projection(projection) => cardinality::project(&projection.expr, projection.input.schema(), input),
            LogicalPlan::Repartition(_) | LogicalPlan::Subquery(_) | LogicalPlan::SubqueryAlias(_) => input,
            LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => Estimate::default(),
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

/// The rows of an input that is joined without keys. Groups are estimated high, but who pairs each of them with
/// everything has few of them: a guess that is linear on both sides would be off by its square.
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
