//! Which engines may run a plan: DataFusion only functions of the compile table and shapes that its
//! physical planner has, nobody a governed table, and nobody but this process its own tables.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, NullEquality};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, WindowFunctionDefinition};
use flightpath_catalog::{AccessRules, Home, TableContents};
use flightpath_functions::lambda::FpHigher;
use flightpath_functions::{FpScalar, FunctionDef, lookup};
use flightpath_plan::BoundTable;
use flightpath_types::{Refusal, RefusalClass};

/// The reason why no engine here may read these tables.
pub(crate) fn governed(tables: &[BoundTable]) -> Option<Refusal> {
    let governed = tables.iter().find_map(|table| match table.access() {
        AccessRules::Free => None,
        AccessRules::Governed(reason) => {
            Some(Refusal::new(RefusalClass::Governance, format!("table {} is governed: {reason}", table.snapshot.name)))
        }
    });
    governed.or_else(|| {
        tables.iter().find(|table| matches!(table.snapshot.contents, TableContents::Remote)).map(|table| {
            Refusal::new(RefusalClass::TableFeature, format!("the files of table {} can be read only where it lives", table.snapshot.name))
        })
    })
}

/// The reason why only this process may read these tables.
pub(crate) fn in_process_only(tables: &[BoundTable]) -> Option<Refusal> {
    tables.iter().find_map(|table| match &table.snapshot.contents {
        TableContents::Files(_) | TableContents::Remote => None,
        TableContents::System(_) => {
            let reason = format!("table {} is made by this server and isn't in any file", table.snapshot.name);
            Some(Refusal::new(RefusalClass::TableFeature, reason))
        }
    })
}

/// The reason why a Databricks warehouse can't read these tables.
pub(crate) fn not_in_databricks(tables: &[BoundTable]) -> Option<Refusal> {
    tables.iter().find_map(|table| match table.snapshot.home {
        Home::Databricks => None,
        Home::Local => Some(Refusal::new(RefusalClass::TableFeature, format!("table {} isn't in Databricks", table.snapshot.name))),
    })
}

/// Whether DataFusion gives Databricks' answer to `plan`, whose optimized form is `optimized`.
pub(crate) fn on_datafusion(plan: &LogicalPlan, optimized: &LogicalPlan) -> Result<(), Refusal> {
    let mut refusal = None;
    let checked = each_expression(plan, &mut |expr| known_function(expr).or_else(|| correlated(expr)), &mut refusal)
        .and_then(|()| each_expression(optimized, &mut |expr| executable(expr), &mut refusal))
        .and_then(|()| {
            optimized.apply_with_subqueries(|node| {
                // Only as an input: the walk shows subqueries of expressions as such nodes too.
                if node.inputs().iter().any(|input| matches!(input, LogicalPlan::Subquery(_))) {
                    refusal.get_or_insert_with(|| no("a LATERAL subquery that can't be made a join"));
                }
                if matches!(node, LogicalPlan::RecursiveQuery(query) if query.is_distinct) {
                    refusal.get_or_insert_with(|| no("a recursive query by UNION without ALL"));
                }
                Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
            Ok(())
        });
    let checked = checked.and_then(|()| {
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Filter(filter) = node
                && split_conjunction(&filter.predicate).into_iter().any(not_in_within)
            {
                refusal.get_or_insert_with(|| no("NOT IN with a subquery, beside OR or under NOT,"));
            }
            for input in node.inputs() {
                if let LogicalPlan::Subquery(lateral) = input
                    && !lateral.outer_ref_columns.is_empty()
                {
                    if loses_row_of_nothing(&lateral.subquery) {
                        refusal.get_or_insert_with(|| no("a LATERAL subquery over an aggregation without GROUP BY, beside something else"));
                    }
                    if regroups(&lateral.subquery) {
                        refusal.get_or_insert_with(|| no("a LATERAL subquery that groups, numbers or limits rows"));
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .map(|_| ())
    });
    if refusal.is_none() && null_equal_keys(optimized) > null_equal_keys(plan) {
        refusal = Some(no("a join by `<=>` and a condition that turns out to be an equality"));
    }
    match (checked, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (Err(error), None) => Err(no(&format!("a plan that can't be walked ({})", error.strip_backtrace()))),
        (Ok(()), None) => Ok(()),
    }
}

/// Keys, or conditions that may become keys, of joins in which NULL equals NULL. Optimizing may make a key
/// of an equality in which it doesn't.
fn null_equal_keys(plan: &LogicalPlan) -> usize {
    let mut keys = 0usize;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node
            && join.null_equality == NullEquality::NullEqualsNull
        {
            keys += join.on.len();
        }
        // A scan's filters are those above it once more, and no join's.
        if matches!(node, LogicalPlan::TableScan(_)) {
            return Ok(TreeNodeRecursion::Continue);
        }
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                keys += usize::from(matches!(e, Expr::BinaryExpr(b) if b.op == Operator::IsNotDistinctFrom));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    if walked.is_err() { 0 } else { keys }
}

fn no(what: &str) -> Refusal {
    Refusal::new(RefusalClass::Semantics, format!("{what} isn't known to answer as Databricks does on DataFusion"))
}

fn each_expression(plan: &LogicalPlan, check: &mut dyn FnMut(&Expr) -> Option<String>, refusal: &mut Option<Refusal>) -> DfResult<()> {
    let mut visited = std::collections::HashSet::new();
    plan.apply_with_subqueries(|node| {
        // The walk makes `Subquery` nodes in passing: their addresses mean nothing.
        if !matches!(node, LogicalPlan::Subquery(_)) && !visited.insert(std::ptr::from_ref(node)) {
            return Ok(TreeNodeRecursion::Jump);
        }
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Some(what) = check(e) {
                    *refusal = Some(no(&what));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// A NOT IN that isn't a condition by itself: as a value it doesn't mind NULLs there.
fn not_in_within(condition: &Expr) -> bool {
    let holds_in = |e: &Expr| e.exists(|e| Ok(matches!(e, Expr::InSubquery(_)))).unwrap_or(true);
    let negated = |e: &Expr| match e {
        Expr::InSubquery(within) => within.negated,
        Expr::Not(inner) => holds_in(inner),
        _ => false,
    };
    !matches!(condition, Expr::InSubquery(_)) && condition.exists(|e| Ok(negated(e))).unwrap_or(true)
}

/// What becomes of correlated subqueries there. An aggregation without groups gives a row of no rows. A
/// correlated subquery with one is made a join that finds no partner instead, which DataFusion mends for a subquery that is made of the aggregates and
/// nothing else, and not otherwise.
fn correlated(expr: &Expr) -> Option<String> {
    if let Expr::InSubquery(within) = expr
        && within.negated
        && !within.subquery.outer_ref_columns.is_empty()
    {
        // Its anti join, which minds NULLs, minds them for all outer rows at once.
        return Some("a correlated NOT IN".into());
    }
    let (subquery, loses, what): (_, fn(&LogicalPlan) -> bool, _) = match expr {
        Expr::Exists(exists) => (&exists.subquery, ungrouped, "EXISTS"),
        Expr::InSubquery(within) => (&within.subquery, ungrouped, "IN"),
        Expr::ScalarSubquery(subquery) => (subquery, loses_row_of_nothing, "subquery"),
        _ => return None,
    };
    if subquery.outer_ref_columns.is_empty() {
        return None;
    }
    if regroups(&subquery.subquery) {
        return Some(format!("a correlated {what} that groups, numbers or limits rows"));
    }
    loses(&subquery.subquery).then(|| format!("a correlated {what} over an aggregation without GROUP BY"))
}

/// Whether rows are grouped above a condition on the outer row that doesn't fix a column of theirs: the
/// condition's columns become keys of the groups there, and split them. Windows and limits above any such
/// condition are taken over the rows of all outer rows together.
fn regroups(plan: &LogicalPlan) -> bool {
    let groups = |node: &LogicalPlan| match node {
        LogicalPlan::Aggregate(aggregate) => !aggregate.group_expr.is_empty(),
        LogicalPlan::Distinct(_) => true,
        _ => false,
    };
    let over_all =
        |node: &LogicalPlan| matches!(node, LogicalPlan::Window(_) | LogicalPlan::Limit(_)) && !node.all_out_ref_exprs().is_empty();
    let unfixed = |plan: &LogicalPlan| {
        plan.exists(|node| match node {
            LogicalPlan::Filter(filter) => {
                Ok(split_conjunction(&filter.predicate).into_iter().any(|condition| condition.contains_outer() && !fixes_column(condition)))
            }
            node => Ok(node.expressions().iter().any(Expr::contains_outer)),
        })
        .unwrap_or(true)
    };
    plan.exists(|node| Ok(over_all(node) || groups(node) && node.inputs().into_iter().any(unfixed))).unwrap_or(true)
}

/// `own column = expression over the outer row`.
fn fixes_column(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::IsNotDistinctFrom, right }) = condition else { return false };
    let fixed = |own: &Expr, other: &Expr| matches!(own, Expr::Column(_)) && !other.any_column_refs();
    fixed(left, right) || fixed(right, left)
}

/// Whether an aggregation without groups stands anywhere in a plan, whatever is correlated below it.
fn ungrouped(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty()))).unwrap_or(true)
}

/// Whether it stands where its row isn't made up for.
fn loses_row_of_nothing(plan: &LogicalPlan) -> bool {
    match plan {
        _ if !ungrouped(plan) => false,
        LogicalPlan::Projection(projection) => {
            let schema = projection.input.schema();
            projection.expr.iter().any(|e| constant_in_time(e, schema)) || loses_row_of_nothing(&projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => loses_row_of_nothing(&alias.input),
        LogicalPlan::Sort(sort) => loses_row_of_nothing(&sort.input),
        LogicalPlan::Aggregate(aggregate) => ungrouped(&aggregate.input),
        // HAVING above all: it becomes a condition of the join, or is asked before the row is made up.
        _ => true,
    }
}

/// What is a constant, or may be made one before the subquery is made a join (`count(*) IS NULL`): it is NULL
/// in the row that is made up, whoever reads it.
fn constant_in_time(expr: &Expr, schema: &DFSchema) -> bool {
    let decided = expr.exists(|e| match e {
        Expr::IsNull(of) | Expr::IsNotNull(of) => of.nullable(schema).map(|nullable| !nullable),
        _ => Ok(false),
    });
    expr.column_refs().is_empty() || decided.unwrap_or(true)
}

/// What the binder leaves native is what DataFusion has right; functions must be of the table.
fn known_function(expr: &Expr) -> Option<String> {
    match expr {
        Expr::ScalarFunction(call) => match FpHigher::of(call) {
            // What stands in a lambda stands nowhere else.
            Some(higher) => higher.lambdas.iter().find_map(|lambda| unknown_in(&lambda.body)),
            None if call.func.inner().is::<FpScalar>() => None,
            None => Some(format!("the native function `{}`", call.name())),
        },
        Expr::AggregateFunction(call) => match lookup(call.func.name()) {
            Some(FunctionDef::Aggregate(_)) => None,
            _ if call.func.name() == "grouping" => None,
            _ => Some(format!("aggregate `{}`", call.func.name())),
        },
        Expr::WindowFunction(call) => {
            let known = matches!(
                (&call.fun, lookup(call.fun.name())),
                (WindowFunctionDefinition::AggregateUDF(_), Some(FunctionDef::Aggregate(_)))
                    | (WindowFunctionDefinition::WindowUDF(_), Some(FunctionDef::Window(_)))
            );
            (!known).then(|| format!("window function `{}`", call.fun.name()))
        }
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo | Operator::IntegerDivide => {
                Some(format!("the native operator `{}`", binary.op))
            }
            _ => None,
        },
        Expr::Like(like) if !matches!(like.pattern.as_ref(), Expr::Literal(..)) => Some("LIKE with a pattern that isn't a constant".into()),
        Expr::SimilarTo(_) => Some("SIMILAR TO".into()),
        Expr::Negative(_) => Some("the native operator `-`".into()),
        Expr::HigherOrderFunction(call) => Some(format!("higher-order function `{}`", call.name())),
        Expr::Placeholder(placeholder) => Some(format!("parameter {} without a value", placeholder.id)),
        _ => None,
    }
}

fn unknown_in(body: &Expr) -> Option<String> {
    let mut found = None;
    let walked = body.apply(|e| {
        found = known_function(e);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match walked {
        Ok(_) => found,
        Err(e) => Some(format!("a lambda that can't be walked ({e})")),
    }
}

/// What optimization has to have turned into joins.
fn executable(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Exists(_) => Some("an EXISTS that can't be made a join".into()),
        Expr::InSubquery(_) => Some("an IN subquery that can't be made a join".into()),
        Expr::SetComparison(_) => Some("a comparison with ANY or ALL".into()),
        Expr::OuterReferenceColumn(..) => Some("a correlated subquery of this shape".into()),
        _ => None,
    }
}
