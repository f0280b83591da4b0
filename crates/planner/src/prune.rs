//! Which files of each scan a query has to read: partition values and statistics against the
//! filters of the optimized plan. Never drops a file on a bound that isn't one in Databricks'
//! order of values.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_expr::{PhysicalExpr, conjunction, create_physical_expr};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use flightpath_catalog::{ColumnStats, DataFile, TableSnapshot};
use flightpath_plan::{ScanBinding, ScanId, SnapshotSource};
use flightpath_types::{Error, Result};

/// Fewer files than this aren't worth a predicate.
const FILES_MIN: usize = 2;

/// The bindings of all scans of `plan`. `optimized` is the same plan after optimization: a scan that
/// vanished from it keeps its files, one that was copied keeps what any copy needs.
pub(crate) fn bind_scans(plan: &LogicalPlan, optimized: &LogicalPlan) -> Result<BTreeMap<ScanId, ScanBinding>> {
    let columns = flightpath_printer::scan_columns(plan).map_err(|r| Error::internal(r.reason))?;
    let mut snapshots = BTreeMap::new();
    let mut visited = HashSet::new();
    walk(plan, |node| {
        // The walk makes `Subquery` nodes in passing: their addresses mean nothing.
        if !matches!(node, LogicalPlan::Subquery(_)) && !visited.insert(std::ptr::from_ref(node)) {
            return TreeNodeRecursion::Jump;
        }
        if let Some((_, source)) = as_scan(node) {
            snapshots.insert(source.scan, source.snapshot.clone());
        }
        TreeNodeRecursion::Continue
    })?;

    let mut found: BTreeMap<ScanId, Found> = BTreeMap::new();
    // Filters right above a scan, by the scan's address: a subquery of the filter is visited in between.
    let mut above: HashMap<*const LogicalPlan, Expr> = HashMap::new();
    walk(optimized, |node| {
        if let Some((scan, source)) = as_scan(node) {
            let filter = above.get(&std::ptr::from_ref(node)).cloned();
            let entry = found.entry(source.scan).or_default();
            entry.columns.extend(columns_of(scan, &source.snapshot));
            entry.kept.push(kept_files(scan, source, filter.as_ref()));
        }
        if let LogicalPlan::Filter(filter) = node
            && as_scan(&filter.input).is_some()
        {
            above.insert(std::ptr::from_ref(filter.input.as_ref()), filter.predicate.clone());
        }
        TreeNodeRecursion::Continue
    })?;

    let bind = |(scan, snapshot): (ScanId, Arc<TableSnapshot>)| {
        let found = found.remove(&scan).unwrap_or_default();
        let mut read: BTreeSet<usize> = columns.get(&scan).cloned().unwrap_or_default();
        read.extend(found.columns);
        let files = union_of(&snapshot, &found.kept);
        (scan, ScanBinding { snapshot, files, columns: read.into_iter().collect() })
    };
    Ok(snapshots.into_iter().map(bind).collect())
}

#[derive(Default)]
struct Found {
    columns: BTreeSet<usize>,
    /// Per copy of the scan: which files it needs; `None` for all.
    kept: Vec<Option<Vec<bool>>>,
}

fn walk(plan: &LogicalPlan, mut visit: impl FnMut(&LogicalPlan) -> TreeNodeRecursion) -> Result<()> {
    plan.apply_with_subqueries(|node| Ok(visit(node)))
        .map(|_| ())
        .map_err(|e| Error::internal(format!("the plan can't be walked: {}", e.strip_backtrace())))
}

fn as_scan(node: &LogicalPlan) -> Option<(&TableScan, &SnapshotSource)> {
    match node {
        LogicalPlan::TableScan(scan) => scan.source.downcast_ref::<SnapshotSource>().map(|source| (scan, source)),
        _ => None,
    }
}

/// Columns that a scan takes, and those that its filters look at.
pub(crate) fn columns_of(scan: &TableScan, snapshot: &TableSnapshot) -> Vec<usize> {
    let mut columns: Vec<usize> = match &scan.projection {
        Some(projection) => projection.clone(),
        None => (0..snapshot.schema.fields().len()).collect(),
    };
    for filter in &scan.filters {
        for column in filter.column_refs() {
            columns.extend(snapshot.schema.index_of(&column.name));
        }
    }
    columns
}

fn union_of(snapshot: &TableSnapshot, kept: &[Option<Vec<bool>>]) -> Arc<Vec<Arc<DataFile>>> {
    let all = || Arc::new(snapshot.files().to_vec());
    if kept.is_empty() {
        return all();
    }
    let mut keep = vec![false; snapshot.files().len()];
    for one in kept {
        match one {
            None => return all(),
            Some(flags) => keep.iter_mut().zip(flags).for_each(|(k, flag)| *k |= flag),
        }
    }
    Arc::new(snapshot.files().iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
}

/// What any of several scans of one snapshot needs.
pub(crate) fn union_of_bindings<'a>(bindings: impl Iterator<Item = &'a ScanBinding>) -> Option<ScanBinding> {
    let bindings: Vec<&ScanBinding> = bindings.collect();
    let snapshot = bindings.first()?.snapshot.clone();
    let columns: BTreeSet<usize> = bindings.iter().flat_map(|b| b.columns.iter().copied()).collect();
    let most = bindings.iter().max_by_key(|b| b.files.len())?;
    let files = if most.files.len() == snapshot.files().len() {
        most.files.clone()
    } else {
        let kept: HashSet<*const DataFile> = bindings.iter().flat_map(|b| b.files.iter().map(Arc::as_ptr)).collect();
        Arc::new(snapshot.files().iter().filter(|file| kept.contains(&Arc::as_ptr(file))).cloned().collect())
    };
    Some(ScanBinding { snapshot, files, columns: columns.into_iter().collect() })
}

/// `None` keeps every file: there is nothing to prune by.
fn kept_files(scan: &TableScan, source: &SnapshotSource, above: Option<&Expr>) -> Option<Vec<bool>> {
    let files = source.snapshot.files();
    if files.len() < FILES_MIN {
        return None;
    }
    let schema = &source.snapshot.schema;
    let df_schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), schema).ok()?;
    let props = ExecutionProps::new();
    let context = PhysicalPlanningContext::default();
    let from_above = if scan.filters.is_empty() { above } else { None };
    let conjuncts = scan.filters.iter().chain(from_above).flat_map(|f| split_conjunction(f));
    // What can't be evaluated by itself, a subquery for one, just doesn't prune.
    let predicates: Vec<Arc<dyn PhysicalExpr>> =
        conjuncts.filter(|e| !e.is_volatile()).filter_map(|e| create_physical_expr(e, &df_schema, &props, &context).ok()).collect();
    if predicates.is_empty() {
        return None;
    }
    let stats = FileStatistics { snapshot: &source.snapshot };
    let prune = |predicate: Arc<dyn PhysicalExpr>| {
        let pruning = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(predicate).ok()?;
        if pruning.always_true() { None } else { pruning.prune(&stats).ok() }
    };
    match prune(conjunction(predicates.clone())) {
        Some(kept) => Some(kept),
        // One conjunct that can't be used mustn't keep the others from pruning.
        None => predicates.into_iter().filter_map(prune).reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a && b).collect()),
    }
}

/// A snapshot's files as containers of the pruning predicate.
struct FileStatistics<'a> {
    snapshot: &'a TableSnapshot,
}

enum Bound {
    Min,
    Max,
}

impl FileStatistics<'_> {
    fn column(&self, column: &Column) -> Option<(usize, Option<usize>, &DataType)> {
        let (index, field) = self.snapshot.schema.column_with_name(&column.name)?;
        let partition = self.snapshot.partition_columns.iter().position(|p| *p == index);
        Some((index, partition, field.data_type()))
    }

    fn bounds(&self, column: &Column, bound: &Bound) -> Option<ArrayRef> {
        let (index, partition, ty) = self.column(column)?;
        if !has_usable_order(ty) {
            return None;
        }
        let unknown = new_null_array(ty, 1);
        let mut known = false;
        let mut values: Vec<ArrayRef> = Vec::with_capacity(self.num_containers());
        for file in self.snapshot.files() {
            let value = match partition {
                Some(position) => file.partition_values.get(position).cloned(),
                None => file.stats.get(index).and_then(|stats| of_stats(stats, bound)),
            };
            match value.filter(|v| v.len() == 1 && v.data_type() == ty) {
                Some(value) => {
                    known |= !value.is_null(0);
                    values.push(value);
                }
                None => values.push(unknown.clone()),
            }
        }
        if !known {
            return None;
        }
        let values: Vec<&dyn Array> = values.iter().map(|v| v.as_ref()).collect();
        arrow::compute::concat(&values).ok()
    }
}

/// Floats are left out: NaN is greatest and both zeros are equal for Databricks, which neither the
/// writers of statistics nor the comparison of bounds can be trusted with. So are nested types.
fn has_usable_order(ty: &DataType) -> bool {
    !ty.is_nested() && !matches!(ty, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

fn of_stats(stats: &ColumnStats, bound: &Bound) -> Option<ArrayRef> {
    match bound {
        Bound::Min => stats.min.clone(),
        Bound::Max => stats.max.as_ref().map(with_slack),
    }
}

/// Delta writes bounds of timestamps cut to milliseconds: the true maximum may be later.
fn with_slack(max: &ArrayRef) -> ArrayRef {
    const CUT_OFF_US: i64 = 999;
    match max.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let later = max.as_primitive::<TimestampMicrosecondType>().iter().map(|v| v.map(|v| v.saturating_add(CUT_OFF_US)));
            Arc::new(TimestampMicrosecondArray::from_iter(later).with_timezone_opt(zone.clone()))
        }
        _ => max.clone(),
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, &Bound::Min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, &Bound::Max)
    }

    fn num_containers(&self) -> usize {
        self.snapshot.files().len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (index, partition, _) = self.column(column)?;
        let counts = self.snapshot.files().iter().map(|file| match partition {
            Some(position) => match file.partition_values.get(position)?.is_null(0) {
                true => file.rows,
                false => Some(0),
            },
            None => file.stats.get(index)?.nulls,
        });
        Some(Arc::new(UInt64Array::from_iter(counts)))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter(self.snapshot.files().iter().map(|f| f.rows))))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let (_, partition, ty) = self.column(column)?;
        let position = partition.filter(|_| has_usable_order(ty))?;
        let contained = self.snapshot.files().iter().map(|file| {
            let value = ScalarValue::try_from_array(file.partition_values.get(position)?, 0).ok()?;
            if value.is_null() || value.data_type() != *ty || values.iter().any(|v| v.data_type() != *ty || v.is_null()) {
                return None;
            }
            Some(values.contains(&value))
        });
        Some(BooleanArray::from_iter(contained))
    }
}
