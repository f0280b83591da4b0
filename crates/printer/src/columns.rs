//! Which columns a plan refers to. The printed text names only these, so that what a scan must
//! offer is known before it runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use flightpath_plan::{ScanId, SnapshotSource};
use flightpath_types::Refusal;

use crate::shared::{Shared, is_passing};
use crate::subquery::existence;

/// Names of all columns that are referred to, by qualifier.
#[derive(Default)]
pub(crate) struct Referenced {
    columns: HashMap<Option<TableReference>, HashSet<String>>,
}

/// For each scan of a plan that hasn't been optimized, the columns of its table that any
/// expression or result refers to: indices into the snapshot's schema.
pub fn scan_columns(plan: &LogicalPlan) -> Result<BTreeMap<ScanId, BTreeSet<usize>>, Refusal> {
    let referenced = Referenced::of(plan, &Shared::find(plan)?)?;
    let mut scans: BTreeMap<ScanId, BTreeSet<usize>> = BTreeMap::new();
    let mut visited = HashSet::new();
    let walked = plan.apply_with_subqueries(|node| {
        if !is_passing(node) && !visited.insert(std::ptr::from_ref(node)) {
            return Ok(TreeNodeRecursion::Jump);
        }
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = scan.source.downcast_ref::<SnapshotSource>()
        {
            let used = scans.entry(source.scan).or_default();
            let indices: Vec<usize> = match &scan.projection {
                Some(projection) => projection.clone(),
                None => (0..source.snapshot.schema.fields().len()).collect(),
            };
            for (position, index) in indices.into_iter().enumerate() {
                if referenced.has(&scan.projected_schema, position) {
                    used.insert(index);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| crate::refuse(format!("a plan that can't be walked ({e})")))?;
    Ok(scans)
}

impl Referenced {
    pub fn of(plan: &LogicalPlan, shared: &Shared) -> Result<Self, Refusal> {
        let walked = |e| crate::refuse(format!("a plan that can't be walked ({e})"));
        let mut referenced = Self::default();
        referenced.walk(plan, true).map_err(walked)?;
        let mut added = false;
        // What is asked of one of several equal subplans is asked of the one that is printed.
        for schemas in shared.schemas() {
            let columns = schemas.first().map_or(0, |s| s.fields().len());
            for index in 0..columns {
                if schemas.iter().any(|s| referenced.has(s, index)) {
                    for schema in schemas.iter().filter(|s| index < s.fields().len()) {
                        let (qualifier, field) = schema.qualified_field(index);
                        added |= referenced.add(qualifier.cloned(), field.name());
                    }
                }
            }
        }
        if added {
            // Through aliases to their inputs.
            referenced.walk(plan, true).map_err(walked)?;
        }
        Ok(referenced)
    }

    pub fn has(&self, schema: &DFSchema, index: usize) -> bool {
        let (qualifier, field) = schema.qualified_field(index);
        let named = |q: &Option<TableReference>| self.columns.get(q).is_some_and(|names| names.contains(field.name()));
        named(&qualifier.cloned()) || (qualifier.is_some() && named(&None))
    }

    /// Whether it is new.
    fn add(&mut self, qualifier: Option<TableReference>, name: &str) -> bool {
        let names = self.columns.entry(qualifier).or_default();
        !names.contains(name) && names.insert(name.to_string())
    }

    fn add_column(&mut self, column: &Column) {
        self.add(column.relation.clone(), &column.name);
    }

    /// A node whose columns count by position refers to all of them.
    fn add_all(&mut self, schema: &DFSchema) {
        for (qualifier, field) in schema.iter() {
            self.add(qualifier.cloned(), field.name());
        }
    }

    fn walk(&mut self, plan: &LogicalPlan, all: bool) -> DfResult<()> {
        if all {
            self.add_all(plan.schema());
        }
        let mut visited = HashSet::new();
        let mut aliases: Vec<&LogicalPlan> = Vec::new();
        let mut pending: Vec<&LogicalPlan> = vec![plan];
        while let Some(node) = pending.pop() {
            if !visited.insert(std::ptr::from_ref(node)) {
                continue;
            }
            match node {
                LogicalPlan::Union(union) => union.inputs.iter().for_each(|input| self.add_all(input.schema())),
                LogicalPlan::RecursiveQuery(query) => {
                    self.add_all(query.static_term.schema());
                    self.add_all(query.recursive_term.schema());
                }
                LogicalPlan::Distinct(Distinct::All(input)) => self.add_all(input.schema()),
                LogicalPlan::SubqueryAlias(_) => aliases.push(node),
                LogicalPlan::Unnest(unnest) => {
                    for (index, _) in &unnest.list_type_columns {
                        let (qualifier, field) = unnest.input.schema().qualified_field(*index);
                        self.add(qualifier.cloned(), field.name());
                    }
                }
                _ => {}
            }
            let mut subqueries = Vec::new();
            node.apply_expressions(|expr| {
                self.expression(expr, &mut subqueries)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            for (subquery, exists) in subqueries {
                if exists {
                    self.walk(existence(&subquery), false)?;
                } else {
                    self.walk(&subquery, true)?;
                }
            }
            pending.extend(node.inputs());
        }
        // From the outside in: what is asked of an alias is asked of its input.
        for node in aliases {
            if let LogicalPlan::SubqueryAlias(alias) = node {
                for index in 0..alias.schema.fields().len() {
                    if self.has(&alias.schema, index) {
                        let (qualifier, field) = alias.input.schema().qualified_field(index);
                        self.add(qualifier.cloned(), field.name());
                    }
                }
            }
        }
        Ok(())
    }

    fn expression(&mut self, expr: &Expr, subqueries: &mut Vec<(Arc<LogicalPlan>, bool)>) -> DfResult<()> {
        expr.apply(|e| {
            match e {
                Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => self.add_column(column),
                Expr::ScalarSubquery(subquery) => subqueries.push((subquery.subquery.clone(), false)),
                Expr::Exists(exists) => subqueries.push((exists.subquery.subquery.clone(), true)),
                Expr::InSubquery(in_subquery) => subqueries.push((in_subquery.subquery.subquery.clone(), false)),
                Expr::SetComparison(comparison) => subqueries.push((comparison.subquery.subquery.clone(), false)),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }
}
