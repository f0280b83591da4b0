//! FROM: tables, subqueries, table functions, joins.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, TableReference};
use datafusion::logical_expr::{EmptyRelation, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery};
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectNamePart};
use flightpath_catalog::{AsOf, TableSnapshot};
use flightpath_plan::{ScanId, SnapshotSource};
use flightpath_types::{Error, Result};

use super::TableRequest;
use super::cte::{Ctes, Found};
use super::error::{self, built};
use super::expr::balanced;
use super::place::Place;
use super::query::State;
use super::scope::{Col, Relation, Scope};
use super::tables;

/// What a relation counts against the statement's limit of work: it copies columns and plans.
const RELATION_WORK: usize = 500;

impl State<'_> {
    /// The relations of a FROM clause, joined; one row without columns when there is none.
    pub fn from(&mut self, from: &[ast::TableWithJoins], ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        let mut result: Option<Relation> = None;
        for item in from {
            let mut joined = match result.take() {
                None => self.factor(&item.relation, None, ctes, outer)?,
                Some(left) => self.join_factor(left, &item.relation, JoinType::Inner, &ast::JoinConstraint::None, ctes, outer)?,
            };
            for join in &item.joins {
                joined = self.join_clause(joined, join, ctes, outer)?;
            }
            result = Some(joined);
        }
        match result {
            Some(relation) => Ok(relation),
            None => {
                let plan = built(LogicalPlanBuilder::empty(true).build())?;
                Ok(Relation { plan, cols: Vec::new(), ordered: false })
            }
        }
    }

    fn factor(
        &mut self,
        factor: &ast::TableFactor,
        left: Option<&Relation>,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        self.spend(RELATION_WORK)?;
        match factor {
            ast::TableFactor::Table { name, alias, args, version, sample, .. } => {
                let relation = match args {
                    Some(args) => self.table_function(name, &args.args, left, false, ctes, outer)?,
                    None => self.named_relation(&identifiers(name)?, version.as_ref(), ctes)?,
                };
                let relation = self.sample(relation, sample.as_ref(), ctes)?;
                self.alias_relation(relation, alias.as_ref())
            }
            ast::TableFactor::Derived { lateral, subquery, alias, sample } => {
                let relation = if *lateral { self.lateral(subquery, left, ctes, outer)? } else { self.bind_query(subquery, ctes, outer)? };
                let relation = self.sample(relation, sample.as_ref(), ctes)?;
                let mut relation = self.alias_relation(relation, alias.as_ref())?;
                if alias.is_none() {
                    relation.cols.retain(|c| !c.hidden);
                    relation.cols.iter_mut().for_each(|c| c.qualifier = None);
                }
                Ok(relation)
            }
            ast::TableFactor::Function { lateral, name, args, with_ordinality: _, alias } => {
                let relation = self.table_function(name, args, left, *lateral, ctes, outer)?;
                self.alias_relation(relation, alias.as_ref())
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias } => {
                let relation = self.from(std::slice::from_ref(table_with_joins.as_ref()), ctes, outer)?;
                self.alias_relation(relation, alias.as_ref())
            }
            ast::TableFactor::Pivot { table, aggregate_functions, value_column, value_source, default_on_null: _, alias } => {
                let input = self.factor(table, left, ctes, outer)?;
                let relation = self.pivot(input, aggregate_functions, value_column, value_source, ctes, outer)?;
                self.alias_relation(relation, alias.as_ref())
            }
            ast::TableFactor::Unpivot { table, value, name, columns, null_inclusion, alias } => {
                let input = self.factor(table, left, ctes, outer)?;
                let include_nulls = matches!(null_inclusion, Some(ast::NullInclusion::IncludeNulls));
                let relation = self.unpivot(input, value, name, columns, include_nulls, ctes, outer)?;
                self.alias_relation(relation, alias.as_ref())
            }
            other => Err(Error::not_eligible(format!("`{other}` in FROM isn't supported"))),
        }
    }

    /// The samples that the guard lets through: so many rows, or all.
    fn sample(&mut self, relation: Relation, sample: Option<&ast::TableSampleKind>, ctes: &Ctes<'_>) -> Result<Relation> {
        let Some(ast::TableSampleKind::BeforeTableAlias(sample) | ast::TableSampleKind::AfterTableAlias(sample)) = sample else {
            return Ok(relation);
        };
        match &sample.quantity {
            Some(ast::TableSampleQuantity { value, unit: Some(ast::TableSampleUnit::Rows), .. }) => {
                let limit = ast::LimitClause::LimitOffset { limit: Some(value.clone()), offset: None, limit_by: Vec::new() };
                self.limit(relation, &limit, ctes)
            }
            _ => Ok(relation),
        }
    }

    fn alias_relation(&mut self, relation: Relation, alias: Option<&ast::TableAlias>) -> Result<Relation> {
        match alias {
            None => Ok(relation),
            Some(alias) => {
                let columns: Vec<Ident> = alias.columns.iter().map(|c| c.name.clone()).collect();
                relation.aliased(&alias.name.value, &columns)
            }
        }
    }

    /// A CTE or a table by its name.
    pub fn named_relation(&mut self, parts: &[Ident], version: Option<&ast::TableVersion>, ctes: &Ctes<'_>) -> Result<Relation> {
        if let ([only], None) = (parts, version)
            && let Some(found) = ctes.find(&only.value)
        {
            let found = match found {
                Found::Cte(found) => found,
                Found::Work(relation) => return Ok(relation.clone()),
            };
            if found.recursive {
                return self.recursive(&found);
            }
            let relation = self.bind_query(&found.cte.query, &found.sees, found.outer_scope)?;
            let columns: Vec<Ident> = found.cte.alias.columns.iter().map(|c| c.name.clone()).collect();
            let mut relation = relation.aliased(&found.cte.alias.name.value, &columns)?;
            relation.ordered = false;
            return Ok(relation);
        }
        let as_of = match version {
            Some(version) => tables::as_of(version, &self.ctx.time_zone)?,
            None => AsOf::Latest,
        };
        let request = TableRequest { parts: parts.iter().map(|p| p.value.to_lowercase()).collect(), as_of };
        match self.input.tables.get(&request) {
            Some(Ok(snapshot)) => self.scan(snapshot.clone()),
            Some(Err(error)) => Err(error.clone()),
            None => Err(Error::internal(format!("table {} wasn't resolved before binding", request.parts.join(".")))),
        }
    }

    fn scan(&mut self, snapshot: Arc<TableSnapshot>) -> Result<Relation> {
        let id = self.scan_id();
        let name = TableReference::bare(format!("s{id}"));
        let source = Arc::new(SnapshotSource { scan: ScanId(id), snapshot: snapshot.clone() });
        let plan = built(LogicalPlanBuilder::scan(name.clone(), source, None).and_then(LogicalPlanBuilder::build))?;
        let own = &snapshot.name;
        let qualifier: Arc<[String]> = Arc::from(vec![own.catalog.to_lowercase(), own.schema.to_lowercase(), own.table.to_lowercase()]);
        let cols = snapshot
            .schema
            .fields()
            .iter()
            .map(|f| Col {
                name: Arc::from(f.name().as_str()),
                qualifier: Some(qualifier.clone()),
                column: Column::new(Some(name.clone()), f.name()),
                ty: f.data_type().clone(),
                nullable: f.is_nullable(),
                hidden: false,
            })
            .collect();
        if !self.tables.iter().any(|t| Arc::ptr_eq(t, &snapshot)) {
            self.tables.push(snapshot);
        }
        Ok(Relation { plan, cols, ordered: false })
    }

    /// A subquery that sees the relations to its left.
    fn lateral(&mut self, subquery: &ast::Query, left: Option<&Relation>, ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        let Some(left) = left else { return self.bind_query(subquery, ctes, outer) };
        let scope = Scope::new(&left.cols, outer);
        let relation = self.bind_query(subquery, ctes, Some(&scope))?;
        let outer_ref_columns = relation.plan.all_out_ref_exprs();
        if outer_ref_columns.is_empty() {
            return Ok(relation);
        }
        let plan = LogicalPlan::Subquery(Subquery { subquery: Arc::new(relation.plan), outer_ref_columns, spans: Default::default() });
        Ok(Relation { plan, ..relation })
    }

    pub fn join_clause(&mut self, left: Relation, join: &ast::Join, ctes: &Ctes<'_>, outer: Option<&Scope<'_>>) -> Result<Relation> {
        use ast::JoinOperator as J;
        let (kind, constraint) = match &join.join_operator {
            J::Join(c) | J::Inner(c) => (JoinType::Inner, c),
            J::CrossJoin(c) => (JoinType::Inner, c),
            J::Left(c) | J::LeftOuter(c) => (JoinType::Left, c),
            J::Right(c) | J::RightOuter(c) => (JoinType::Right, c),
            J::FullOuter(c) => (JoinType::Full, c),
            J::Semi(c) | J::LeftSemi(c) => (JoinType::LeftSemi, c),
            J::Anti(c) | J::LeftAnti(c) => (JoinType::LeftAnti, c),
            other => return Err(Error::not_eligible(format!("join {other:?} isn't part of Databricks SQL"))),
        };
        self.join_factor(left, &join.relation, kind, constraint, ctes, outer)
    }

    /// A join whose right side may see the left one.
    fn join_factor(
        &mut self,
        left: Relation,
        factor: &ast::TableFactor,
        kind: JoinType,
        constraint: &ast::JoinConstraint,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let unconditional = match constraint {
            ast::JoinConstraint::None => true,
            ast::JoinConstraint::On(ast::Expr::Value(v)) => v.value == ast::Value::Boolean(true),
            _ => false,
        };
        if unconditional
            && matches!(kind, JoinType::Inner | JoinType::Left)
            && let ast::TableFactor::Function { lateral: true, name, args, with_ordinality: _, alias } = factor
        {
            if kind == JoinType::Left && matches!(constraint, ast::JoinConstraint::None) {
                return Err(Error::not_eligible("LEFT JOIN LATERAL of a generator without a condition isn't supported; add ON true"));
            }
            return self.lateral_function(left, name, args, alias.as_ref(), kind == JoinType::Left, ctes, outer);
        }
        let right = self.factor(factor, Some(&left), ctes, outer)?;
        if unconditional
            && matches!(kind, JoinType::Inner | JoinType::Left)
            && let Some(joined) = row_of_left(&left, &right)?
        {
            return Ok(joined);
        }
        self.join(left, right, kind, constraint, ctes, outer)
    }

    fn join(
        &mut self,
        left: Relation,
        right: Relation,
        kind: JoinType,
        constraint: &ast::JoinConstraint,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let keys = match constraint {
            ast::JoinConstraint::Using(names) => {
                let names: Result<Vec<String>> = names
                    .iter()
                    .map(|n| match identifiers(n)?.as_slice() {
                        [only] => Ok(only.value.clone()),
                        _ => Err(Error::invalid(format!("USING takes plain column names, not {n}"))),
                    })
                    .collect();
                names?
            }
            ast::JoinConstraint::Natural => {
                let theirs: HashSet<String> = right.visible().map(|c| c.name.to_lowercase()).collect();
                left.visible().filter(|c| theirs.contains(&c.name.to_lowercase())).map(|c| c.name.to_string()).collect()
            }
            ast::JoinConstraint::On(_) | ast::JoinConstraint::None => Vec::new(),
        };
        let filter = match constraint {
            ast::JoinConstraint::On(condition) => {
                let cols: Vec<Col> = left.cols.iter().chain(&right.cols).cloned().collect();
                let scope = Scope::new(&cols, outer);
                Some(self.condition(&Place::new(&scope, ctes, "the JOIN condition"), condition)?.t.expr)
            }
            _ => None,
        };
        let mut pairs = Vec::with_capacity(keys.len());
        let mut equalities = Vec::with_capacity(keys.len());
        for key in &keys {
            let (l, r) = (using_column(&left, key, "left")?, using_column(&right, key, "right")?);
            equalities.push(self.compare(l.typed(), Operator::Eq, r.typed())?.expr);
            pairs.push((l, r));
        }
        let filter = if equalities.is_empty() { filter } else { Some(balanced(equalities, Operator::And)) };
        // Of an outer join the rows without a partner stay: its condition is a value.
        let filter = if kind == JoinType::Inner { filter.map(flightpath_functions::lazy::conjuncts) } else { filter };
        let ordered = false;
        let plan = join_plan(left.plan, right.plan, kind, filter)?;
        let semi = matches!(kind, JoinType::LeftSemi | JoinType::LeftAnti);
        let mut cols: Vec<Col> = left.cols;
        if matches!(kind, JoinType::Right | JoinType::Full) {
            cols.iter_mut().for_each(|c| c.nullable = true);
        }
        if !semi {
            let mut theirs = right.cols;
            if matches!(kind, JoinType::Left | JoinType::Full) {
                theirs.iter_mut().for_each(|c| c.nullable = true);
            }
            cols.extend(theirs);
        }
        let relation = Relation { plan, cols, ordered };
        match (pairs.is_empty(), semi) {
            (true, _) => Ok(relation),
            // The left side's columns alone are left, the keys first.
            (false, true) => {
                let is_key = |col: &Col| pairs.iter().any(|(l, _)| l.column == col.column);
                let (mut cols, others): (Vec<Col>, Vec<Col>) = relation.cols.into_iter().partition(is_key);
                cols.sort_by_key(|col| pairs.iter().position(|(l, _)| l.column == col.column));
                cols.extend(others);
                Ok(Relation { cols, ..relation })
            }
            (false, false) => self.merge_keys(relation, pairs, kind),
        }
    }

    /// After USING the key columns stand first and once; each side's own stays reachable by its name.
    fn merge_keys(&mut self, relation: Relation, pairs: Vec<(Col, Col)>, kind: JoinType) -> Result<Relation> {
        let Relation { mut plan, mut cols, ordered } = relation;
        let mut keys = Vec::with_capacity(pairs.len());
        if kind == JoinType::Full {
            let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
            let mut names = Vec::with_capacity(pairs.len());
            for (l, r) in &pairs {
                let merged = self.function("coalesce", vec![nullable(l), nullable(r)])?;
                let name = self.column();
                exprs.push(merged.expr.alias(name.clone()));
                names.push((name, merged.ty));
            }
            plan = built(LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build))?;
            for ((l, _), (name, ty)) in pairs.iter().zip(names) {
                let column = Column::new_unqualified(name);
                keys.push(Col { name: l.name.clone(), qualifier: None, column, ty, nullable: true, hidden: false });
            }
        } else {
            for (l, r) in &pairs {
                let source = if kind == JoinType::Right { r } else { l };
                keys.push(Col { name: source.name.clone(), qualifier: None, ..source.clone() });
            }
        }
        for col in &mut cols {
            if pairs.iter().any(|(l, r)| col.column == l.column || col.column == r.column) {
                col.hidden = true;
            }
        }
        keys.extend(cols);
        Ok(Relation { plan, cols: keys, ordered })
    }
}

/// `LATERAL (SELECT expressions)` without a FROM is one row for each row of the left side: a projection.
fn row_of_left(left: &Relation, right: &Relation) -> Result<Option<Relation>> {
    let LogicalPlan::Subquery(Subquery { subquery, .. }) = &right.plan else { return Ok(None) };
    let LogicalPlan::Projection(Projection { expr, input, .. }) = subquery.as_ref() else { return Ok(None) };
    if !matches!(input.as_ref(), LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. })) {
        return Ok(None);
    }
    let mut exprs: Vec<Expr> = left.plan.schema().columns().into_iter().map(Expr::Column).collect();
    let own: HashSet<Column> = left.plan.schema().columns().into_iter().collect();
    for e in expr {
        let mut foreign = false;
        let e = e.clone().transform_up(|e| {
            Ok(match e {
                Expr::OuterReferenceColumn(_, column) if own.contains(&column) => Transformed::yes(Expr::Column(column)),
                Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
                    foreign = true;
                    Transformed::no(e)
                }
                other => Transformed::no(other),
            })
        });
        if foreign {
            return Ok(None);
        }
        exprs.push(built(e)?.data);
    }
    let plan = LogicalPlan::Projection(built(Projection::try_new(exprs, Arc::new(left.plan.clone())))?);
    let cols = left.cols.iter().chain(&right.cols).cloned().collect();
    Ok(Some(Relation { plan, cols, ordered: false }))
}

fn nullable(col: &Col) -> flightpath_functions::Typed {
    let mut t = col.typed();
    t.nullable = true;
    t
}

pub(super) fn join_plan(left: LogicalPlan, right: LogicalPlan, kind: JoinType, filter: Option<Expr>) -> Result<LogicalPlan> {
    let join = built(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        Vec::new(),
        filter,
        kind,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    ))?;
    Ok(LogicalPlan::Join(join))
}

fn using_column(relation: &Relation, key: &str, side: &str) -> Result<Col> {
    let mut found = relation.visible().filter(|c| c.name.eq_ignore_ascii_case(key));
    match (found.next(), found.next()) {
        (Some(col), None) => Ok(col.clone()),
        (Some(a), Some(b)) => {
            Err(error::ambiguous(&format!("`{key}`"), &[a.display(), b.display()], datafusion::sql::sqlparser::tokenizer::Span::empty()))
        }
        (None, _) => {
            let have: Vec<String> = relation.visible().take(5).map(|c| format!("`{}`", c.name)).collect();
            Err(error::classed(
                "UNRESOLVED_USING_COLUMN_FOR_JOIN",
                "42703",
                format!(
                    "USING column `{key}` cannot be resolved on the {side} side of the join. The {side}-side columns: [{}].",
                    have.join(", ")
                ),
            ))
        }
    }
}

/// The parts of a name that has no function calls in it.
pub(super) fn identifiers(name: &ast::ObjectName) -> Result<Vec<Ident>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(ident.clone()),
            ObjectNamePart::Function(f) => Err(Error::not_eligible(format!("`{f}` as a part of a name isn't supported"))),
        })
        .collect()
}
