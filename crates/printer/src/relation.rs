//! Plan nodes to SELECTs. Nodes share one SELECT where SQL's order of clauses allows it, and
//! joins are written flat, so that DuckDB's optimizer sees what a person would have written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::logical_expr::{Distinct, Expr, Limit, LogicalPlan, Projection, Sort, TableScan, Union, Values};
use flightpath_functions::{duckdb, order};
use flightpath_plan::{ScanId, SnapshotSource};
use flightpath_types::{Refusal, RefusalClass};

use crate::block::{Block, Cell, CellKind, FromItem, SortKey, Stage};
use crate::columns::Referenced;
use crate::shared::Shared;
use crate::uses::Uses;
use crate::{Printed, refuse};

/// Days of 2^63 nanoseconds.
const DURATION_DAYS_MAX: u32 = 106_751;

/// The columns that expressions may refer to: one part per joined input.
#[derive(Clone, Default)]
pub(crate) struct Env {
    pub parts: Vec<(DFSchemaRef, Rc<Vec<Cell>>)>,
}

impl Env {
    pub fn of(schema: &DFSchemaRef, block: &Block) -> Self {
        Self { parts: vec![(schema.clone(), block.cells.clone())] }
    }
}

pub(crate) struct Printer {
    next_alias: u32,
    /// Scans that the text names so far.
    scans_seen: BTreeSet<ScanId>,
    /// Enclosing queries, innermost last.
    pub outers: Vec<Env>,
    shared: Shared,
    referenced: Referenced,
    /// Name of each shared subplan printed so far and which of its columns are there, by class.
    shared_names: HashMap<u32, (String, Vec<bool>)>,
    /// `w0 AS MATERIALIZED (...)` in the order they depend on each other.
    pub with: Vec<String>,
    /// Recursive queries: the name of each in the text, by its name in the plan.
    pub work: HashMap<String, String>,
}

impl Printer {
    pub fn new(shared: Shared, referenced: Referenced) -> Self {
        Self {
            next_alias: 0,
            scans_seen: BTreeSet::new(),
            outers: Vec::new(),
            shared,
            referenced,
            shared_names: HashMap::new(),
            with: Vec::new(),
            work: HashMap::new(),
        }
    }

    /// The whole statement, WITH included.
    pub fn statement(&mut self, plan: &LogicalPlan) -> Printed<String> {
        let mut block = self.relation(plan)?;
        self.bound_durations(&mut block, plan.schema())?;
        let body = block.render(false);
        let with = if self.work.is_empty() { "WITH" } else { "WITH RECURSIVE" };
        Ok(if self.with.is_empty() { body } else { format!("{with} {} {body}", self.with.join(", ")) })
    }

    /// DuckDB's intervals leave it as nanoseconds, which end after 292 years.
    fn bound_durations(&mut self, block: &mut Block, schema: &DFSchemaRef) -> Printed<()> {
        let is_long = |i: usize| matches!(schema.field(i).data_type(), DataType::Duration(_));
        if !(0..schema.fields().len()).any(is_long) {
            return Ok(());
        }
        if block.distinct {
            let inner = std::mem::replace(block, Block::new(None, Vec::new()));
            *block = self.wrap_ordered(inner)?;
        }
        let message = duckdb::string("An interval of more than 292 years isn't known on DuckDB.");
        let raise = duckdb::raise("UNSUPPORTED_FEATURE", "0A000", &message);
        let days = DURATION_DAYS_MAX;
        let mut cells = (*block.cells).clone();
        for (_, cell) in cells.iter_mut().enumerate().filter(|(i, cell)| is_long(*i) && cell.kind != CellKind::Absent) {
            let bounded =
                |d: &str| format!("CASE WHEN {d} BETWEEN to_days(-{days}) AND to_days({days}) OR {d} IS NULL THEN {d} ELSE {raise} END");
            cell.text = match cell.kind {
                CellKind::Column | CellKind::Literal => bounded(&cell.text),
                CellKind::Computed | CellKind::Absent => format!("list_transform([{}], lambda fp_d: {})[1]", cell.text, bounded("fp_d")),
            };
            cell.kind = CellKind::Computed;
        }
        block.cells = Rc::new(cells);
        Ok(())
    }

    /// The scans that the text names, and the plan's scans that each stands for.
    pub fn scans(&self) -> BTreeMap<ScanId, BTreeSet<ScanId>> {
        self.scans_seen.iter().map(|scan| (*scan, self.shared.stands_for(*scan))).collect()
    }

    pub fn alias(&mut self) -> String {
        let alias = format!("t{}", self.next_alias);
        self.next_alias += 1;
        alias
    }

    /// Makes `block` a derived table: all its columns become plain references.
    pub fn wrap(&mut self, block: Block) -> Printed<Block> {
        let sql = block.render(false);
        crate::check_size(&sql)?;
        let alias = self.alias();
        let mut outer = Block::over(sql, alias, block.cells.len());
        if block.cells.iter().any(|c| c.kind == CellKind::Absent) {
            let mut cells = (*outer.cells).clone();
            for (cell, inner) in cells.iter_mut().zip(block.cells.iter()) {
                if inner.kind == CellKind::Absent {
                    *cell = inner.clone();
                }
            }
            outer.cells = Rc::new(cells);
        }
        Ok(outer)
    }

    /// Like [`Printer::wrap`], and the rows stay in the order the block asks for.
    fn wrap_ordered(&mut self, mut block: Block) -> Printed<Block> {
        if block.order.is_empty() {
            return self.wrap(block);
        }
        let sql = block.render(true);
        crate::check_size(&sql)?;
        let alias = self.alias();
        let text = format!("({sql}) AS {alias}");
        let cells = block.cells.iter().enumerate();
        let cells = cells.map(|(i, c)| if c.kind == CellKind::Absent { c.clone() } else { Cell::column(format!("{alias}.c{i}")) });
        let mut outer = Block::new(Some(FromItem { text, joined: false, derived: None }), cells.collect());
        let keys = std::mem::take(&mut block.order).into_iter().enumerate();
        outer.order = keys.map(|(i, key)| SortKey { text: format!("{alias}.k{i}"), direction: key.direction }).collect();
        outer.stage = Stage::Ordered;
        Ok(outer)
    }

    /// Blanks the columns that `needed` doesn't hold, so that a derived table leaves them out.
    fn keep_only(&self, block: &mut Block, needed: &BTreeSet<usize>) {
        if block.distinct || needed.len() == block.cells.len() {
            return;
        }
        let cells = block.cells.iter().enumerate();
        block.cells = Rc::new(cells.map(|(i, c)| if needed.contains(&i) { c.clone() } else { Cell::absent() }).collect());
    }

    pub fn relation(&mut self, plan: &LogicalPlan) -> Printed<Block> {
        stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || self.relation_or_shared(plan))
    }

    fn relation_or_shared(&mut self, plan: &LogicalPlan) -> Printed<Block> {
        let Some(class) = self.shared.class(plan) else {
            return self.node(plan);
        };
        if !self.shared_names.contains_key(&class) {
            // A shared subplan stands outside every query that encloses its uses.
            let outers = std::mem::take(&mut self.outers);
            let printed = self.node(plan);
            self.outers = outers;
            let block = printed?;
            let name = format!("w{}", self.with.len());
            self.with.push(format!("{name} AS ({})", block.render(false)));
            let present = block.cells.iter().map(|c| c.kind != CellKind::Absent).collect();
            self.shared_names.insert(class, (name, present));
        }
        let alias = self.alias();
        let (name, present) = self.shared_names.get(&class).ok_or_else(|| refuse("a shared subplan that was lost"))?;
        let cells = present.iter().enumerate();
        let cells = cells.map(|(i, there)| if *there { Cell::column(format!("{alias}.c{i}")) } else { Cell::absent() }).collect();
        Ok(Block::new(Some(FromItem { text: format!("{name} AS {alias}"), joined: false, derived: None }), cells))
    }

    fn node(&mut self, plan: &LogicalPlan) -> Printed<Block> {
        let shared = self.with.len();
        match self.node_here(plan) {
            Err(refusal) if refusal.class == RefusalClass::Semantics => match self.constant_rows(plan) {
                Some(block) => {
                    self.with.truncate(shared);
                    Ok(block)
                }
                None => Err(refusal),
            },
            Ok(block) if block.cells.iter().any(|cell| crate::constant::refuses_values(&cell.text)) => {
                Ok(self.constant_rows(plan).unwrap_or(block))
            }
            printed => printed,
        }
    }

    fn node_here(&mut self, plan: &LogicalPlan) -> Printed<Block> {
        match plan {
            LogicalPlan::Projection(p) => self.projection(p),
            LogicalPlan::Filter(f) => self.filter(&f.predicate, &f.input),
            LogicalPlan::Window(w) => self.window(w),
            LogicalPlan::Aggregate(a) => self.aggregate(a),
            LogicalPlan::Sort(s) => self.sort(s),
            LogicalPlan::Join(j) => self.join(j),
            // How rows are spread over partitions is no part of the answer.
            LogicalPlan::Repartition(r) => self.relation(&r.input),
            LogicalPlan::Union(u) => self.union(u),
            LogicalPlan::TableScan(t) => self.scan(t),
            LogicalPlan::EmptyRelation(e) => self.empty(e.produce_one_row, &e.schema),
            LogicalPlan::Subquery(s) => self.relation(&s.subquery),
            // Only qualifies names, and columns are found by position.
            LogicalPlan::SubqueryAlias(a) => self.relation(&a.input),
            LogicalPlan::Limit(l) => self.limit(l),
            LogicalPlan::Values(v) => self.values(v),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Distinct(Distinct::On(_)) => Err(refuse("DISTINCT ON")),
            LogicalPlan::Unnest(u) => self.unnest(u),
            LogicalPlan::RecursiveQuery(r) => self.recursive(r),
            LogicalPlan::Statement(_) => Err(refuse("a session statement")),
            LogicalPlan::Explain(_) => Err(refuse("EXPLAIN inside a query")),
            LogicalPlan::Analyze(_) => Err(refuse("EXPLAIN ANALYZE inside a query")),
            LogicalPlan::Extension(e) => Err(refuse(format!("the plan node `{}`", e.node.name()))),
            LogicalPlan::Dml(_) => Err(refuse("a statement that writes")),
            LogicalPlan::Ddl(_) => Err(refuse("a statement that changes definitions")),
            LogicalPlan::Copy(_) => Err(refuse("COPY")),
            LogicalPlan::DescribeTable(_) => Err(refuse("DESCRIBE inside a query")),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Printed<Block> {
        let Some(source) = scan.source.downcast_ref::<SnapshotSource>() else {
            if let Some(name) = self.work.get(scan.table_name.table()).cloned() {
                let alias = self.alias();
                let cells = (0..scan.projected_schema.fields().len()).map(|i| Cell::column(format!("{alias}.c{i}"))).collect();
                return Ok(Block::new(Some(FromItem { text: format!("{name} AS {alias}"), joined: false, derived: None }), cells));
            }
            return Err(refuse(format!("relation `{}`", scan.table_name)));
        };
        let mut lower = HashSet::new();
        for field in source.snapshot.schema.fields() {
            if !lower.insert(field.name().to_lowercase()) {
                let reason = format!(
                    "table {} has two columns named `{}` but for their case, which DuckDB can't tell apart",
                    source.snapshot.name,
                    field.name()
                );
                return Err(Refusal::new(RefusalClass::TableFeature, reason));
            }
        }
        let scan_id = self.shared.scan(source.scan);
        let id = scan_id.0;
        let (name, text) = if self.scans_seen.insert(scan_id) {
            (format!("s{id}"), format!("s{id}"))
        } else {
            let alias = self.alias();
            (alias.clone(), format!("s{id} AS {alias}"))
        };
        let fields = scan.projected_schema.fields().iter().enumerate();
        let cell = |(i, field): (usize, &arrow::datatypes::FieldRef)| match self.referenced.has(&scan.projected_schema, i) {
            true => Cell::column(format!("{name}.{}", duckdb::identifier(field.name()))),
            false => Cell::absent(),
        };
        let cells = fields.map(cell).collect();
        let mut block = Block::new(Some(FromItem { text, joined: false, derived: None }), cells);
        if !scan.filters.is_empty() {
            // Filters may name columns that the projection leaves out.
            return Err(refuse("a scan with filters pushed into it"));
        }
        if let Some(fetch) = scan.fetch {
            block.limit = Some(fetch as u64);
            block.stage = Stage::Limited;
        }
        Ok(block)
    }

    pub fn empty(&mut self, one_row: bool, schema: &DFSchemaRef) -> Printed<Block> {
        if one_row && !schema.fields().is_empty() {
            return Err(refuse("a row made of nothing but NULLs"));
        }
        let mut cells = Vec::new();
        for field in schema.fields() {
            let text = format!("CAST(NULL AS {})", type_name(field.data_type())?);
            cells.push(Cell { text, kind: CellKind::Literal });
        }
        let mut block = Block::new(None, cells);
        if !one_row {
            block.filters.push("FALSE".into());
            block.stage = Stage::Where;
        }
        Ok(block)
    }

    fn values(&mut self, values: &Values) -> Printed<Block> {
        let env = Env::default();
        let mut rows = Vec::with_capacity(values.values.len());
        for row in &values.values {
            let mut texts = Vec::with_capacity(row.len());
            for (expr, field) in row.iter().zip(values.schema.fields()) {
                let printed = self.expr(expr, &env)?;
                if printed.ty != *field.data_type() && printed.ty != DataType::Null {
                    return Err(refuse("VALUES whose rows have different types"));
                }
                let untyped = printed.ty == DataType::Null && *field.data_type() != DataType::Null;
                texts.push(if untyped { format!("CAST(NULL AS {})", type_name(field.data_type())?) } else { printed.text });
            }
            rows.push(format!("({})", texts.join(", ")));
        }
        let alias = self.alias();
        let columns = values.schema.fields().len();
        let names: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
        let text = format!("(VALUES {}) AS {alias}({})", rows.join(", "), names.join(", "));
        let cells = (0..columns).map(|i| Cell::column(format!("{alias}.c{i}"))).collect();
        Ok(Block::new(Some(FromItem { text, joined: false, derived: None }), cells))
    }

    fn projection(&mut self, projection: &Projection) -> Printed<Block> {
        let schema = projection.input.schema();
        let mut block = self.relation(&projection.input)?;
        let uses = Uses::of(&projection.expr, schema);
        let only_picks = projection.expr.iter().all(|e| matches!(strip_alias(e), Expr::Column(_)));
        let repeated = block.cells.iter().zip(&uses.counts).any(|(c, n)| c.kind == CellKind::Computed && *n > 1);
        let fits = match block.stage {
            Stage::From | Stage::Where | Stage::Aggregated | Stage::Windowed => true,
            Stage::Distinct => false,
            Stage::Ordered => true,
            Stage::Limited => only_picks,
        };
        let blocked = uses.has_subquery && (block.stage >= Stage::Aggregated || block.has_computed());
        if !fits || repeated || blocked {
            if !uses.has_subquery {
                self.keep_only(&mut block, &uses.indices());
            }
            block = self.wrap_ordered(block)?;
        }
        let env = Env::of(schema, &block);
        let mut cells = Vec::with_capacity(projection.expr.len());
        for expr in &projection.expr {
            cells.push(self.cell(expr, &env)?);
        }
        block.cells = Rc::new(cells);
        Ok(block)
    }

    /// One entry of a select list, with what may be done with it further up.
    fn cell(&mut self, expr: &Expr, env: &Env) -> Printed<Cell> {
        let bare = strip_alias(expr);
        if let Expr::Column(column) = bare {
            return self.column_cell(column, env).map(|(cell, _)| cell.clone());
        }
        let kind = if matches!(bare, Expr::Literal(..)) { CellKind::Literal } else { CellKind::Computed };
        let printed = self.expr(bare, env)?;
        crate::check_size(&printed.text)?;
        Ok(Cell { text: printed.text, kind })
    }

    fn filter(&mut self, predicate: &Expr, input: &LogicalPlan) -> Printed<Block> {
        let mut block = self.relation(input)?;
        let uses = Uses::of(std::slice::from_ref(predicate), input.schema());
        let touches_computed = block.cells.iter().zip(&uses.counts).any(|(c, n)| c.kind == CellKind::Computed && *n > 0);
        if block.stage > Stage::Where || touches_computed || (uses.has_subquery && block.has_computed()) {
            block = self.wrap(block)?;
        }
        let env = Env::of(input.schema(), &block);
        for conjunct in datafusion::logical_expr::utils::split_conjunction(predicate) {
            let printed = self.expr(conjunct, &env)?;
            block.filters.push(printed.conjunct());
        }
        block.stage = Stage::Where;
        Ok(block)
    }

    fn sort(&mut self, sort: &Sort) -> Printed<Block> {
        let mut block = self.relation(&sort.input)?;
        let schema = sort.input.schema();
        let keys: Vec<Expr> = sort.expr.iter().map(|s| s.expr.clone()).collect();
        let uses = Uses::of(&keys, schema);
        let touches_computed = block.cells.iter().zip(&uses.counts).any(|(c, n)| c.kind != CellKind::Column && *n > 0);
        // The order of arrays and structs is computed, which keys of GROUP BY can't be.
        let nested = schema.fields().iter().zip(&uses.counts).any(|(f, n)| f.data_type().is_nested() && *n > 0);
        if block.stage >= Stage::Distinct || (nested && block.stage > Stage::Where) || touches_computed || uses.has_subquery {
            block = self.wrap(block)?;
        }
        let env = Env::of(schema, &block);
        block.order = self.sort_keys(&sort.expr, &env)?;
        block.stage = Stage::Ordered;
        if let Some(fetch) = sort.fetch {
            block.limit = Some(fetch as u64);
            block.stage = Stage::Limited;
        }
        Ok(block)
    }

    /// ORDER BY keys; constants are left out, since they order nothing and numbers would be ordinals.
    pub fn sort_keys(&mut self, keys: &[datafusion::logical_expr::SortExpr], env: &Env) -> Printed<Vec<SortKey>> {
        let mut printed = Vec::with_capacity(keys.len());
        for key in keys {
            if matches!(strip_alias(&key.expr), Expr::Literal(..)) {
                continue;
            }
            let sql = self.expr(&key.expr, env)?;
            let direction = match (key.asc, key.nulls_first) {
                (true, true) => " ASC NULLS FIRST",
                (true, false) => " ASC NULLS LAST",
                (false, true) => " DESC NULLS FIRST",
                (false, false) => " DESC NULLS LAST",
            };
            let ty = sql.ty.clone();
            let text = order::key(&ty, &sql.operand()).map_err(|_| refuse(format!("ordering by a value of type {ty}")))?;
            printed.push(SortKey { text, direction });
        }
        Ok(printed)
    }

    fn limit(&mut self, limit: &Limit) -> Printed<Block> {
        let fetch = limit_value(limit.fetch.as_deref())?;
        let skip = limit_value(limit.skip.as_deref())?.unwrap_or(0);
        let mut block = self.relation(&limit.input)?;
        if block.stage == Stage::Limited {
            let left = block.limit.map(|inner| inner.saturating_sub(skip));
            block.limit = match (left, fetch) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            block.offset = block.offset.saturating_add(skip);
        } else {
            block.limit = fetch;
            block.offset = skip;
            block.stage = Stage::Limited;
        }
        Ok(block)
    }

    fn distinct(&mut self, input: &LogicalPlan) -> Printed<Block> {
        let mut block = self.relation(input)?;
        if block.stage >= Stage::Distinct {
            block = self.wrap(block)?;
        }
        for field in input.schema().fields() {
            if contains_map(field.data_type()) {
                return Err(refuse("DISTINCT over a map"));
            }
        }
        block.distinct = true;
        block.stage = Stage::Distinct;
        Ok(block)
    }

    fn union(&mut self, union: &Union) -> Printed<Block> {
        let mut parts = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            let pairs = input.schema().fields().iter().zip(union.schema.fields());
            for (have, promised) in pairs {
                if !same_type(have.data_type(), promised.data_type()) {
                    return Err(refuse(format!("UNION of {} and {}", have.data_type(), promised.data_type())));
                }
            }
            let block = self.relation(input)?;
            parts.push(format!("({})", block.render(false)));
        }
        let sql = parts.join(" UNION ALL ");
        crate::check_size(&sql)?;
        let alias = self.alias();
        Ok(Block::over(sql, alias, union.schema.fields().len()))
    }
}

pub(crate) fn strip_alias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => strip_alias(&alias.expr),
        other => other,
    }
}

pub(crate) fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
}

pub(crate) fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|e| Ok(is_subquery(e))).unwrap_or(true)
}

fn limit_value(expr: Option<&Expr>) -> Printed<Option<u64>> {
    match expr {
        None => Ok(None),
        Some(Expr::Literal(value, _)) => match value {
            ScalarValue::Int64(None) | ScalarValue::Null => Ok(None),
            ScalarValue::Int64(Some(n)) if *n >= 0 => Ok(Some(*n as u64)),
            ScalarValue::Int32(Some(n)) if *n >= 0 => Ok(Some(*n as u64)),
            _ => Err(refuse("a LIMIT or OFFSET that isn't a whole number from 0 up")),
        },
        Some(_) => Err(refuse("a LIMIT or OFFSET that isn't a constant")),
    }
}

pub(crate) fn type_name(ty: &DataType) -> Printed<String> {
    duckdb::type_name(ty).map_err(|reason| Refusal::new(RefusalClass::Semantics, reason))
}

/// Equal but for nullability and names inside, which DuckDB doesn't have, and the zone that
/// instants are shown in.
pub(crate) fn same_type(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Timestamp(x, Some(_)), DataType::Timestamp(y, Some(_))) => x == y,
        (DataType::List(x), DataType::List(y)) => same_type(x.data_type(), y.data_type()),
        (DataType::Struct(x), DataType::Struct(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.name() == y.name() && same_type(x.data_type(), y.data_type()))
        }
        (DataType::Map(x, _), DataType::Map(y, _)) => match (x.data_type(), y.data_type()) {
            (DataType::Struct(x), DataType::Struct(y)) => {
                x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same_type(x.data_type(), y.data_type()))
            }
            _ => false,
        },
        (a, b) => a == b,
    }
}

pub(crate) fn contains_map(ty: &DataType) -> bool {
    match ty {
        DataType::Map(..) => true,
        DataType::List(item) => contains_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| contains_map(f.data_type())),
        _ => false,
    }
}
