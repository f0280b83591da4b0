//! Finds subplans that compute the same, as the references to one common table expression do: they
//! are printed once, in WITH, so that DuckDB computes them once. What counts is what a subplan
//! computes from which snapshots, not the names of its columns or the numbers of its scans.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::logical_expr::expr::{InList, Placeholder};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use flightpath_plan::{ScanId, SnapshotSource};
use flightpath_types::Refusal;

/// Which nodes are printed once for several places, by class: nodes of one class compute the same.
#[derive(Default)]
pub(crate) struct Shared {
    nodes: HashMap<usize, Rc<Node>>,
    shared: HashSet<u32>,
    /// Output columns of every node of a shared class.
    schemas: HashMap<u32, Vec<DFSchemaRef>>,
    /// The number that stands for a scan's whole group, where it has others.
    merged: BTreeMap<ScanId, ScanId>,
}

struct Node {
    /// `None` where it isn't known to compute the same as any other.
    class: Option<u32>,
    /// Whether computing it twice costs more than keeping it.
    costly: bool,
    /// Scans below, in an order that is the same for all nodes of a class.
    scans: Vec<ScanId>,
}

impl Shared {
    pub fn find(plan: &LogicalPlan) -> Result<Self, Refusal> {
        if !scans_repeat(plan).map_err(not_walked)? {
            return Ok(Self::default());
        }
        let mut finder = Finder::default();
        finder.visit(plan).map_err(not_walked)?;
        finder.count(plan).map_err(not_walked)?;
        Ok(finder.finish())
    }

    /// The class that a node is printed once for.
    pub fn class(&self, node: &LogicalPlan) -> Option<u32> {
        if self.shared.is_empty() || !stands_alone(node) {
            return None;
        }
        let class = self.nodes.get(&address(node))?.class?;
        self.shared.contains(&class).then_some(class)
    }

    /// Output columns of the nodes of each shared class.
    pub fn schemas(&self) -> impl Iterator<Item = &Vec<DFSchemaRef>> {
        self.shared.iter().filter_map(|class| self.schemas.get(class))
    }

    /// The scan that stands for `scan` in the text.
    pub fn scan(&self, scan: ScanId) -> ScanId {
        self.merged.get(&scan).copied().unwrap_or(scan)
    }

    /// The plan's scans that `printed` stands for.
    pub fn stands_for(&self, printed: ScanId) -> BTreeSet<ScanId> {
        let of_group: BTreeSet<ScanId> = self.merged.iter().filter(|(_, merged)| **merged == printed).map(|(scan, _)| *scan).collect();
        if of_group.is_empty() { BTreeSet::from([printed]) } else { of_group }
    }
}

fn not_walked(error: datafusion::error::DataFusionError) -> Refusal {
    crate::refuse(format!("a plan that can't be walked ({})", error.strip_backtrace()))
}

/// The walk makes a `Subquery` node in passing for each subquery of an expression: its address
/// means nothing.
pub(crate) fn is_passing(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Subquery(_))
}

fn address(node: &LogicalPlan) -> usize {
    std::ptr::from_ref(node) as usize
}

/// Without a snapshot that is read twice nothing can be the same.
fn scans_repeat(plan: &LogicalPlan) -> Result<bool, datafusion::error::DataFusionError> {
    let mut seen = HashSet::new();
    let mut repeats = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = scan.source.downcast_ref::<SnapshotSource>()
            && !seen.insert(Arc::as_ptr(&source.snapshot))
        {
            repeats = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(repeats)
}

/// A node by what it computes: columns by position, inputs by class.
#[derive(PartialEq, Eq, Hash)]
struct Canon {
    kind: &'static str,
    numbers: Vec<u64>,
    exprs: Vec<Expr>,
    types: Vec<DataType>,
    inputs: Vec<u32>,
}

impl Canon {
    fn new(kind: &'static str, inputs: Vec<u32>) -> Self {
        Self { kind, numbers: Vec::new(), exprs: Vec::new(), types: Vec::new(), inputs }
    }
}

#[derive(Default)]
struct Finder {
    nodes: HashMap<usize, Rc<Node>>,
    classes: HashMap<Canon, u32>,
    schemas: HashMap<u32, Vec<DFSchemaRef>>,
    /// Scan lists of every node of a class.
    scans: HashMap<u32, Vec<Vec<ScanId>>>,
    reached: HashSet<u32>,
    shared: HashSet<u32>,
}

type Walked<T> = Result<T, datafusion::error::DataFusionError>;

impl Finder {
    fn visit(&mut self, plan: &LogicalPlan) -> Walked<Rc<Node>> {
        if let Some(known) = self.nodes.get(&address(plan)) {
            return Ok(known.clone());
        }
        let node = Rc::new(stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || self.visit_new(plan))?);
        self.nodes.insert(address(plan), node.clone());
        Ok(node)
    }

    fn visit_new(&mut self, plan: &LogicalPlan) -> Walked<Node> {
        let mut costly = is_costly(plan);
        let mut scans = Vec::new();
        for subquery in subqueries(plan)? {
            let node = self.visit(&subquery)?;
            costly |= node.costly;
            scans.extend(&node.scans);
        }
        let mut inputs = Some(Vec::new());
        for input in plan.inputs() {
            let node = self.visit(input)?;
            costly |= node.costly;
            scans.extend(&node.scans);
            inputs = match (inputs, node.class) {
                (Some(mut inputs), Some(class)) => {
                    inputs.push(class);
                    Some(inputs)
                }
                _ => None,
            };
        }
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(source) = scan.source.downcast_ref::<SnapshotSource>()
        {
            scans.push(source.scan);
        }
        let class = match (plan, inputs) {
            (_, None) => None,
            (LogicalPlan::SubqueryAlias(_), Some(inputs)) => inputs.first().copied(),
            (_, Some(inputs)) => match self.canon(plan, inputs)? {
                Some(canon) => {
                    let next = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
                    let class = *self.classes.entry(canon).or_insert(next);
                    self.schemas.entry(class).or_default().push(plan.schema().clone());
                    self.scans.entry(class).or_default().push(scans.clone());
                    Some(class)
                }
                None => None,
            },
        };
        Ok(Node { class, costly, scans })
    }

    /// What the node computes; `None` for what isn't told apart here.
    fn canon(&self, plan: &LogicalPlan, inputs: Vec<u32>) -> Walked<Option<Canon>> {
        let exprs = |exprs: &mut dyn Iterator<Item = &Expr>| self.exprs(exprs, plan);
        let option = |n: Option<usize>| n.map_or(u64::MAX, |n| n as u64);
        Ok(match plan {
            LogicalPlan::Projection(p) => exprs(&mut p.expr.iter())?.map(|e| Canon { exprs: e, ..Canon::new("projection", inputs) }),
            LogicalPlan::Filter(f) => {
                exprs(&mut std::iter::once(&f.predicate))?.map(|e| Canon { exprs: e, ..Canon::new("filter", inputs) })
            }
            LogicalPlan::Window(w) => exprs(&mut w.window_expr.iter())?.map(|e| Canon { exprs: e, ..Canon::new("window", inputs) }),
            LogicalPlan::Aggregate(a) => {
                let numbers = vec![a.group_expr.len() as u64];
                exprs(&mut a.group_expr.iter().chain(&a.aggr_expr))?.map(|e| Canon { exprs: e, numbers, ..Canon::new("aggregate", inputs) })
            }
            LogicalPlan::Sort(s) => {
                let mut numbers = vec![option(s.fetch)];
                numbers.extend(s.expr.iter().map(|k| u64::from(k.asc) * 2 + u64::from(k.nulls_first)));
                exprs(&mut s.expr.iter().map(|k| &k.expr))?.map(|e| Canon { exprs: e, numbers, ..Canon::new("sort", inputs) })
            }
            LogicalPlan::Join(j) => {
                let kind = j.join_type as u64;
                let null_equal = matches!(j.null_equality, datafusion::common::NullEquality::NullEqualsNull);
                let numbers = vec![kind, u64::from(null_equal), u64::from(j.null_aware), j.on.len() as u64];
                let mut all = j.on.iter().flat_map(|(l, r)| [l, r]).chain(j.filter.as_ref());
                exprs(&mut all)?.map(|e| Canon { exprs: e, numbers, ..Canon::new("join", inputs) })
            }
            LogicalPlan::Union(_) => Some(Canon::new("union", inputs)),
            LogicalPlan::TableScan(scan) => match scan.source.downcast_ref::<SnapshotSource>() {
                Some(source) if scan.filters.is_empty() && scan.fetch.is_none() => {
                    let mut numbers = vec![Arc::as_ptr(&source.snapshot) as usize as u64, u64::from(scan.projection.is_some())];
                    numbers.extend(scan.projection.iter().flatten().map(|i| *i as u64));
                    Some(Canon { numbers, ..Canon::new("scan", inputs) })
                }
                _ => None,
            },
            LogicalPlan::EmptyRelation(e) => {
                let types = e.schema.fields().iter().map(|f| f.data_type().clone()).collect();
                Some(Canon { types, numbers: vec![u64::from(e.produce_one_row)], ..Canon::new("empty", inputs) })
            }
            LogicalPlan::Limit(l) => {
                let numbers = vec![u64::from(l.skip.is_some()), u64::from(l.fetch.is_some())];
                let mut all = l.skip.iter().chain(&l.fetch).map(|e| e.as_ref());
                exprs(&mut all)?.map(|e| Canon { exprs: e, numbers, ..Canon::new("limit", inputs) })
            }
            LogicalPlan::Values(v) => {
                let types = v.schema.fields().iter().map(|f| f.data_type().clone()).collect();
                exprs(&mut v.values.iter().flatten())?.map(|e| Canon { exprs: e, types, ..Canon::new("values", inputs) })
            }
            LogicalPlan::Distinct(Distinct::All(_)) => Some(Canon::new("distinct", inputs)),
            // Rare, or never printed.
            LogicalPlan::Distinct(Distinct::On(_))
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => None,
        })
    }

    /// Expressions with columns by their position in the inputs, and without names.
    fn exprs(&self, exprs: &mut dyn Iterator<Item = &Expr>, plan: &LogicalPlan) -> Walked<Option<Vec<Expr>>> {
        let inputs = plan.inputs();
        let position = |column: &Column| {
            let mut before = 0;
            for input in &inputs {
                if let Some(index) = input.schema().maybe_index_of_column(column) {
                    return Some(before + index);
                }
                before += input.schema().fields().len();
            }
            None
        };
        let mut canonical = Vec::new();
        for expr in exprs {
            if expr.is_volatile() {
                return Ok(None);
            }
            let mut known = true;
            let rewritten = expr.clone().transform_up(|e| {
                Ok(match e {
                    Expr::Column(column) => match position(&column) {
                        Some(index) => Transformed::yes(Expr::Column(Column::new_unqualified(format!("#{index}")))),
                        None => {
                            known = false;
                            Transformed::no(Expr::Column(column))
                        }
                    },
                    Expr::Alias(alias) => Transformed::yes(*alias.expr),
                    Expr::ScalarSubquery(s) => Transformed::yes(self.subquery("scalar", &s.subquery, &mut known)),
                    Expr::Exists(e) => {
                        Transformed::yes(self.subquery(if e.negated { "not exists" } else { "exists" }, &e.subquery.subquery, &mut known))
                    }
                    Expr::InSubquery(i) => {
                        let list = vec![self.subquery("in", &i.subquery.subquery, &mut known)];
                        Transformed::yes(Expr::InList(InList { expr: i.expr, list, negated: i.negated }))
                    }
                    e @ (Expr::OuterReferenceColumn(..) | Expr::SetComparison(_) | Expr::Placeholder(_) | Expr::ScalarVariable(..)) => {
                        known = false;
                        Transformed::no(e)
                    }
                    e => Transformed::no(e),
                })
            })?;
            if !known {
                return Ok(None);
            }
            canonical.push(rewritten.data);
        }
        Ok(Some(canonical))
    }

    /// A stand-in for a subquery that names its class.
    fn subquery(&self, kind: &str, plan: &Arc<LogicalPlan>, known: &mut bool) -> Expr {
        let class = self.nodes.get(&address(plan)).and_then(|node| node.class);
        *known &= class.is_some();
        Expr::Placeholder(Placeholder { id: format!("{kind} {}", class.unwrap_or_default()), field: None })
    }

    /// From the outside in: what is reached a second time is shared, and isn't looked into again.
    fn count(&mut self, plan: &LogicalPlan) -> Walked<()> {
        stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || self.count_here(plan))
    }

    fn count_here(&mut self, plan: &LogicalPlan) -> Walked<()> {
        let node = self.visit(plan)?;
        if !node.costly {
            return Ok(());
        }
        if let Some(class) = node.class
            && !matches!(plan, LogicalPlan::SubqueryAlias(_))
            && !is_bare_join(plan)
            && !self.reached.insert(class)
        {
            self.shared.insert(class);
            return Ok(());
        }
        for subquery in subqueries(plan)? {
            self.count(&subquery)?;
        }
        for input in plan.inputs() {
            self.count(input)?;
        }
        Ok(())
    }

    fn finish(self) -> Shared {
        let merged = self.merge();
        Shared { nodes: self.nodes, shared: self.shared, schemas: self.schemas, merged }
    }

    /// Scans that stand at the same place of a shared subplan become one, with a number of its own.
    fn merge(&self) -> BTreeMap<ScanId, ScanId> {
        let mut parent: BTreeMap<ScanId, ScanId> = BTreeMap::new();
        let mut next = 0;
        for node in self.nodes.values() {
            next = node.scans.iter().map(|s| s.0 + 1).max().unwrap_or(0).max(next);
        }
        let root = |parent: &BTreeMap<ScanId, ScanId>, mut scan: ScanId| {
            while let Some(up) = parent.get(&scan).filter(|up| **up != scan) {
                scan = *up;
            }
            scan
        };
        for class in &self.shared {
            let Some([first, rest @ ..]) = self.scans.get(class).map(Vec::as_slice) else { continue };
            for other in rest {
                for (a, b) in first.iter().zip(other) {
                    let (a, b) = (root(&parent, *a), root(&parent, *b));
                    parent.insert(a.max(b), a.min(b));
                }
            }
        }
        let mut groups: BTreeMap<ScanId, BTreeSet<ScanId>> = BTreeMap::new();
        for scan in parent.keys().chain(parent.values()) {
            groups.entry(root(&parent, *scan)).or_default().insert(*scan);
        }
        let several = groups.into_values().filter(|group| group.len() > 1);
        several.zip(next..).flat_map(|(group, id)| group.into_iter().map(move |scan| (scan, ScanId(id)))).collect()
    }
}

/// Subqueries of a node's expressions, in their order.
fn subqueries(plan: &LogicalPlan) -> Walked<Vec<Arc<LogicalPlan>>> {
    let mut found = Vec::new();
    plan.apply_expressions(|expr| {
        expr.apply(|e| {
            match e {
                Expr::ScalarSubquery(subquery) => found.push(subquery.subquery.clone()),
                Expr::Exists(exists) => found.push(exists.subquery.subquery.clone()),
                Expr::InSubquery(in_subquery) => found.push(in_subquery.subquery.subquery.clone()),
                Expr::SetComparison(comparison) => found.push(comparison.subquery.subquery.clone()),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// A join that nothing in the subplan narrows: `FROM a, b` has its conditions in the WHERE above,
/// and computed for itself it would be all pairs of rows.
fn is_bare_join(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Join(_) => true,
        LogicalPlan::Projection(projection) => is_bare_join(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_bare_join(&alias.input),
        _ => false,
    }
}

/// Whether a node may be computed by itself: filters above it reach through what is below only as
/// far as they would anyhow. A join's conditions may all stand above it.
fn stands_alone(node: &LogicalPlan) -> bool {
    matches!(
        node,
        LogicalPlan::Projection(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            | LogicalPlan::Limit(_)
    )
}

/// What is worth keeping rather than computing twice. Scans, filters and joins are cheaper read
/// twice, each with the filters and columns of its place pushed down.
fn is_costly(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Window(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_) => true,
        LogicalPlan::Distinct(Distinct::All(_) | Distinct::On(_)) | LogicalPlan::RecursiveQuery(_) | LogicalPlan::Extension(_) => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => false,
    }
}
