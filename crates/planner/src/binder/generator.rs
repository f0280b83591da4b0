//! Functions that make rows: in the select list, in LATERAL VIEW, in FROM. Each becomes an unnesting
//! of a list over the rows it belongs to.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, NullHandling, ScalarValue, UnnestOptions};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection};
use datafusion::sql::sqlparser::ast::{self, FunctionArguments, Ident};
use flightpath_functions::{JSON_FIELD, Typed, types};
use flightpath_types::{Error, Result};

use super::call::function_name;
use super::cte::Ctes;
use super::error::{self, built};
use super::expr::Bound;
use super::place::Place;
use super::query::State;
use super::scope::{Col, Qualifier, Relation, Scope};
use super::select::filter;

/// Qualifies columns that only the binder itself names.
pub(super) const OWN: &str = "\u{1}generated";
/// Rows that `range` may make: they are one list.
const RANGE_ROWS_MAX: i64 = 10_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Explode,
    PosExplode,
    Inline,
    Stack,
    JsonTuple,
}

/// A generator by name, and whether it keeps rows that it makes nothing of.
fn generator(name: &str) -> Option<(Kind, bool)> {
    Some(match name {
        "explode" => (Kind::Explode, false),
        "explode_outer" => (Kind::Explode, true),
        "posexplode" => (Kind::PosExplode, false),
        "posexplode_outer" => (Kind::PosExplode, true),
        "inline" => (Kind::Inline, false),
        "inline_outer" => (Kind::Inline, true),
        "stack" => (Kind::Stack, false),
        "json_tuple" => (Kind::JsonTuple, false),
        _ => return None,
    })
}

pub(super) fn is_generator(name: &str) -> bool {
    generator(name).is_some()
}

/// The generator that an expression is, if it's one.
pub(super) fn as_generator(e: &ast::Expr) -> Result<Option<(&ast::Function, Kind, bool)>> {
    let ast::Expr::Function(f) = e else { return Ok(None) };
    if f.over.is_some() {
        return Ok(None);
    }
    let (name, _) = match function_name(f) {
        Ok(name) => name,
        Err(_) => return Ok(None),
    };
    Ok(generator(&name).map(|(kind, outer)| (f, kind, outer)))
}

/// A column that a generator makes.
pub(super) struct Made {
    pub name: String,
    pub t: Typed,
}

impl State<'_> {
    pub fn lateral_view(
        &mut self,
        input: Relation,
        view: &ast::LateralView,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let Some((f, kind, is_outer)) = as_generator(&view.lateral_view)? else {
            return Err(Error::not_eligible(format!("LATERAL VIEW {} isn't supported", view.lateral_view)));
        };
        let args = {
            let scope = Scope::new(&input.cols, outer);
            self.arguments(&Place::new(&scope, ctes, "LATERAL VIEW"), f)?.args
        };
        let name = super::from::identifiers(&view.lateral_view_name)?.iter().map(|p| p.value.clone()).collect::<Vec<_>>().join(".");
        let (plan, made) = self.generate(input.plan, kind, view.outer || is_outer, args)?;
        let cols = named(made, &name, &view.lateral_col_alias)?;
        let mut all = input.cols;
        all.extend(cols);
        Ok(Relation { plan, cols: all, ordered: false })
    }

    /// Generators in the select list: each one's columns join the input, and the item becomes references to them.
    pub fn select_generator(
        &mut self,
        input: &mut Relation,
        projection: &[ast::SelectItem],
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Option<Vec<ast::SelectItem>>> {
        let mut items = Vec::with_capacity(projection.len());
        let mut generated = false;
        for item in projection {
            let (e, aliases) = match item {
                ast::SelectItem::UnnamedExpr(e) => (e, &[][..]),
                ast::SelectItem::ExprWithAlias { expr, alias } => (expr, std::slice::from_ref(alias)),
                ast::SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.as_slice()),
                ast::SelectItem::QualifiedWildcard(..) | ast::SelectItem::Wildcard(_) => {
                    items.push(item.clone());
                    continue;
                }
            };
            match as_generator(e)? {
                None => items.push(item.clone()),
                Some(call) => {
                    generated = true;
                    items.extend(self.selected_generator(input, call, aliases, ctes, outer)?);
                }
            }
        }
        Ok(generated.then_some(items))
    }

    fn selected_generator(
        &mut self,
        input: &mut Relation,
        (f, kind, is_outer): (&ast::Function, Kind, bool),
        aliases: &[Ident],
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Vec<ast::SelectItem>> {
        let args = {
            let scope = Scope::new(&input.cols, outer);
            self.arguments(&Place::new(&scope, ctes, "a generator's arguments"), f)?.args
        };
        let (plan, made) = self.generate(std::mem::take(&mut input.plan), kind, is_outer, args)?;
        input.plan = plan;
        let names: Vec<String> = made.iter().map(|m| m.name.clone()).collect();
        if !aliases.is_empty() && aliases.len() != names.len() {
            return Err(error::classed(
                "UDTF_ALIAS_NUMBER_MISMATCH",
                "42802",
                format!(
                    "The number of aliases supplied in the AS clause does not match the number of columns output by the generator: expected {} aliases, but got {}.",
                    names.len(),
                    aliases.len()
                ),
            ));
        }
        let qualifier: Qualifier = Arc::from(vec![OWN.to_string()]);
        let mut items = Vec::with_capacity(made.len());
        for (i, m) in made.into_iter().enumerate() {
            let own = input.cols.len().to_string();
            input.cols.push(column_of(m.t, &own, Some(qualifier.clone()), true)?);
            let shown = aliases.get(i).map_or(names[i].as_str(), |a| a.value.as_str());
            let expr = ast::Expr::CompoundIdentifier(vec![Ident::new(OWN), Ident::new(own)]);
            items.push(ast::SelectItem::ExprWithAlias { expr, alias: Ident::new(shown) });
        }
        Ok(items)
    }

    /// `range(...)` or a generator in FROM; with LATERAL it sees the relations before it, and the
    /// result holds their columns too.
    pub fn table_function(
        &mut self,
        name: &ast::ObjectName,
        args: &[ast::FunctionArg],
        left: Option<&Relation>,
        lateral: bool,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let parts = super::from::identifiers(name)?;
        let [ident] = parts.as_slice() else {
            return Err(Error::not_eligible(format!("table function `{name}` isn't supported")));
        };
        let function = ident.value.to_lowercase();
        let call = call_of(name, args);
        if lateral && left.is_some() {
            return Err(Error::not_eligible(format!("LATERAL {function}(...) with a join condition isn't supported; use LATERAL VIEW")));
        }
        let scope = Scope::new(&[], outer);
        let bound = self.arguments(&Place::new(&scope, ctes, "a table function's arguments"), &call)?.args;
        let relation = if function == "range" {
            self.range(bound)?
        } else {
            let Some((kind, is_outer)) = generator(&function) else {
                return Err(Error::not_eligible(format!("table function `{function}` isn't supported")));
            };
            let one_row = built(LogicalPlanBuilder::empty(true).build())?;
            let (plan, made) = self.generate(one_row, kind, is_outer, bound)?;
            Relation { plan, cols: named(made, &function, &[])?, ordered: false }
        };
        Ok(relation)
    }

    /// `JOIN LATERAL explode(t.a) AS x`: each row of the left side with what is made of it.
    #[allow(clippy::too_many_arguments)]
    pub fn lateral_function(
        &mut self,
        left: Relation,
        name: &ast::ObjectName,
        args: &[ast::FunctionArg],
        alias: Option<&ast::TableAlias>,
        keep_left: bool,
        ctes: &Ctes<'_>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation> {
        let call = call_of(name, args);
        let (function, _) = function_name(&call)?;
        let Some((kind, is_outer)) = generator(&function) else {
            return Err(Error::not_eligible(format!("LATERAL {function}(...) isn't supported")));
        };
        let args = {
            let scope = Scope::new(&left.cols, outer);
            self.arguments(&Place::new(&scope, ctes, "LATERAL"), &call)?.args
        };
        let (plan, made) = self.generate(left.plan, kind, keep_left || is_outer, args)?;
        let columns: Vec<Ident> = alias.iter().flat_map(|a| &a.columns).map(|c| c.name.clone()).collect();
        let relation = alias.map_or(function.as_str(), |a| a.name.value.as_str());
        let mut cols = left.cols;
        cols.extend(named(made, relation, &columns)?);
        Ok(Relation { plan, cols, ordered: false })
    }

    /// `range([start,] end [, step])`: BIGINT from `start` up to, and without, `end`.
    fn range(&mut self, args: Vec<Bound>) -> Result<Relation> {
        let numbers: Result<Vec<i64>> = args
            .into_iter()
            .map(|a| match self.coerce(a.t, &DataType::Int64)?.expr {
                Expr::Literal(ScalarValue::Int64(Some(n)), _) => Ok(n),
                Expr::Cast(cast) => match cast.expr.as_ref() {
                    Expr::Literal(value, _) => match value.cast_to(&DataType::Int64) {
                        Ok(ScalarValue::Int64(Some(n))) => Ok(n),
                        _ => Err(Error::invalid("range() takes whole numbers")),
                    },
                    _ => Err(Error::not_eligible("range() takes constants")),
                },
                _ => Err(Error::not_eligible("range() takes constants")),
            })
            .collect();
        let (start, end, step) = match numbers?.as_slice() {
            [end] => (0, *end, 1),
            [start, end] => (*start, *end, 1),
            [start, end, step] | [start, end, step, _] => (*start, *end, *step),
            _ => return Err(error::classed("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "42605", "The `range` requires [1, 2, 3, 4] parameters.")),
        };
        if step == 0 {
            return Err(error::classed("FAILED_FUNCTION_CALL", "38000", "range() needs a step other than 0."));
        }
        let span = (i128::from(end) - i128::from(start)) / i128::from(step);
        let exact = (i128::from(end) - i128::from(start)) % i128::from(step) == 0;
        let rows = (span + i128::from(!exact)).max(0);
        let going = if step > 0 { start < end } else { start > end };
        let rows = if going { rows } else { 0 };
        if rows > i128::from(RANGE_ROWS_MAX) {
            return Err(Error::not_eligible(format!("range() of more than {RANGE_ROWS_MAX} rows isn't supported")));
        }
        let last = if rows == 0 { start } else { (i128::from(start) + (rows - 1) * i128::from(step)) as i64 };
        let long = |n: i64| Typed::literal(ScalarValue::Int64(Some(n)));
        let list = self.function("sequence", vec![long(start), long(last), long(if rows <= 1 { 1 } else { step })])?;
        let one_row = built(LogicalPlanBuilder::empty(true).build())?;
        let (mut plan, mut made) = self.unnest(one_row, vec![list], false)?;
        if rows == 0 {
            plan = filter(plan, Expr::Literal(ScalarValue::Boolean(Some(false)), None))?;
        }
        let Some(mut t) = made.pop() else { return Err(Error::internal("range() made nothing")) };
        t.nullable = false;
        let qualifier: Qualifier = Arc::from(vec!["range".to_string()]);
        Ok(Relation { plan, cols: vec![column_of(t, "id", Some(qualifier), false)?], ordered: false })
    }

    fn generate(&mut self, input: LogicalPlan, kind: Kind, outer: bool, args: Vec<Bound>) -> Result<(LogicalPlan, Vec<Made>)> {
        let mut args: Vec<Typed> = args.into_iter().map(|a| a.t).collect();
        match kind {
            Kind::Stack => return self.stack(input, args),
            Kind::JsonTuple => return self.json_tuple(input, args),
            Kind::Explode | Kind::PosExplode | Kind::Inline => {}
        }
        let (Some(arg), true) = (args.pop(), args.is_empty()) else {
            return Err(error::classed("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "42605", "A generator takes one argument."));
        };
        let wrong = || {
            error::mismatch(
                "UNEXPECTED_INPUT_TYPE",
                format!("The generator needs an ARRAY or MAP, but has the type {}.", types::sql_name(&arg.ty)),
            )
        };
        let map = types::map_parts(&arg.ty).map(|(k, v)| (k.data_type().clone(), v.data_type().clone(), v.is_nullable()));
        let list = match (&arg.ty, &map) {
            (DataType::List(_), _) => arg.clone(),
            (_, Some(_)) if kind != Kind::Inline => self.function("map_entries", vec![arg.clone()])?,
            _ => return Err(wrong()),
        };
        let DataType::List(item) = list.ty.clone() else { return Err(wrong()) };
        if kind == Kind::Inline && !matches!(item.data_type(), DataType::Struct(_)) {
            return Err(wrong());
        }
        let mut lists = vec![list.clone()];
        if kind == Kind::PosExplode {
            lists.push(self.positions(list)?);
        }
        let (plan, unnested) = self.unnest(input, lists, outer)?;
        let Some(element) = unnested.first() else { return Err(Error::internal("a generator made nothing")) };
        let mut made = Vec::new();
        if let Some(position) = unnested.get(1) {
            made.push(Made { name: "pos".into(), t: Typed { nullable: outer, ..position.clone() } });
        }
        let fields_of = |state: &mut Self, names: &[String]| -> Result<Vec<Typed>> {
            names
                .iter()
                .map(|n| state.function("get_field", vec![element.clone(), Typed::literal(ScalarValue::Utf8(Some(n.clone())))]))
                .collect()
        };
        if map.is_some() {
            let DataType::Struct(fields) = item.data_type() else { return Err(Error::internal("a map's entries aren't structs")) };
            let names: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
            let nullable = [false, fields.get(1).is_none_or(|f| f.is_nullable())];
            for ((t, shown), nullable) in fields_of(self, &names)?.into_iter().zip(["key", "value"]).zip(nullable) {
                made.push(Made { name: shown.into(), t: Typed { nullable: outer || nullable, ..t } });
            }
        } else if kind == Kind::Inline {
            let DataType::Struct(fields) = item.data_type() else { return Err(wrong()) };
            let names: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
            for (t, f) in fields_of(self, &names)?.into_iter().zip(fields) {
                made.push(Made { name: f.name().clone(), t: Typed { nullable: outer || item.is_nullable() || f.is_nullable(), ..t } });
            }
        } else {
            made.push(Made { name: "col".into(), t: Typed { nullable: outer || item.is_nullable(), ..element.clone() } });
        }
        self.materialize(plan, made)
    }

    /// `0, 1, ...` for each element; NULL for a list without elements.
    fn positions(&mut self, list: Typed) -> Result<Typed> {
        let int = |n: i32| Typed::literal(ScalarValue::Int32(Some(n)));
        let size = self.function("size", vec![list])?;
        let last = flightpath_functions::ops::binary(&self.ctx, flightpath_functions::ops::BinaryOp::Subtract, size.clone(), int(1))?;
        let some = self.compare(size, Operator::Gt, int(0))?;
        let sequence = self.function("sequence", vec![int(0), last, int(1)])?;
        let ty = sequence.ty.clone();
        let case = datafusion::logical_expr::expr::Case {
            expr: None,
            when_then_expr: vec![(Box::new(some.expr), Box::new(sequence.expr))],
            else_expr: None,
        };
        Ok(Typed::new(Expr::Case(case), ty, true))
    }

    /// `stack(n, v1, v2, ...)`: the values in `n` rows.
    fn stack(&mut self, input: LogicalPlan, args: Vec<Typed>) -> Result<(LogicalPlan, Vec<Made>)> {
        let mut args = args.into_iter();
        let rows = match args.next().as_ref().and_then(Typed::as_literal) {
            Some(ScalarValue::Int32(Some(n))) if *n > 0 => *n as usize,
            _ => return Err(error::mismatch("NON_FOLDABLE_INPUT", "stack() needs a positive literal number of rows.")),
        };
        let values: Vec<Typed> = args.collect();
        let width = values.len().div_ceil(rows);
        if width == 0 {
            return Err(error::classed("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "42605", "stack() needs values."));
        }
        let mut columns: Vec<Vec<Typed>> = vec![Vec::new(); width];
        for i in 0..rows * width {
            let value = values.get(i).cloned().unwrap_or(Typed::literal(ScalarValue::Null));
            columns[i % width].push(value);
        }
        let mut common = Vec::with_capacity(width);
        for column in columns {
            // Nothing but NULL becomes what the others are.
            let mut typed = column.iter().filter(|t| t.ty != DataType::Null);
            if let Some(first) = typed.next()
                && let Some(other) = typed.find(|t| !types::same(&t.ty, &first.ty))
            {
                let (first, other) = (types::sql_name(&first.ty), types::sql_name(&other.ty));
                return Err(error::mismatch(
                    "STACK_COLUMN_DIFF_TYPES",
                    format!("stack() has values of the types {first} and {other} in one column; cast them."),
                ));
            }
            common.push(self.common(column, "stack")?.0);
        }
        let names: Vec<String> = (0..width).map(|i| format!("col{i}")).collect();
        let (plan, mut made) = self.unnest_rows(input, &names, common, rows)?;
        made.iter_mut().for_each(|m| m.t.nullable = true);
        self.materialize(plan, made)
    }

    /// `json_tuple(json, name, ...)`: the fields' texts, one row for each row.
    fn json_tuple(&mut self, input: LogicalPlan, args: Vec<Typed>) -> Result<(LogicalPlan, Vec<Made>)> {
        if args.len() < 2 {
            return Err(error::classed("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "42605", "The `json_tuple` requires > 1 parameters."));
        }
        if args.iter().any(|a| a.ty != DataType::Utf8) {
            return Err(error::mismatch("NON_STRING_TYPE", "All arguments of `json_tuple` must be strings."));
        }
        let Some((json, names)) = args.split_first() else { return Err(Error::internal("arity was checked")) };
        let made: Result<Vec<Made>> = names
            .iter()
            .enumerate()
            .map(|(i, name)| Ok(Made { name: format!("c{i}"), t: JSON_FIELD.call(&self.ctx, vec![json.clone(), name.clone()])? }))
            .collect();
        self.materialize(input, made?)
    }

    /// Rows written out as an array of structs, unnested.
    pub fn unnest_rows(
        &mut self,
        input: LogicalPlan,
        names: &[String],
        columns: Vec<Vec<Typed>>,
        rows: usize,
    ) -> Result<(LogicalPlan, Vec<Made>)> {
        let mut structs = Vec::with_capacity(rows);
        for row in 0..rows {
            let args = names
                .iter()
                .zip(&columns)
                .flat_map(|(name, column)| [Typed::literal(ScalarValue::Utf8(Some(name.clone()))), column[row].clone()])
                .collect();
            structs.push(self.function("named_struct", args)?);
        }
        let list = self.function("array", structs)?;
        let (plan, unnested) = self.unnest(input, vec![list], false)?;
        let Some(element) = unnested.into_iter().next() else { return Err(Error::internal("rows made nothing")) };
        let made: Result<Vec<Made>> = names
            .iter()
            .map(|n| {
                let t = self.function("get_field", vec![element.clone(), Typed::literal(ScalarValue::Utf8(Some(n.clone())))])?;
                Ok(Made { name: n.clone(), t })
            })
            .collect();
        Ok((plan, made?))
    }

    /// The input's rows once for each element of the lists; the elements as columns of their own.
    pub fn unnest(&mut self, input: LogicalPlan, lists: Vec<Typed>, outer: bool) -> Result<(LogicalPlan, Vec<Typed>)> {
        let input = self.without_dependencies(input)?;
        let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let mut columns = Vec::with_capacity(lists.len());
        let mut elements = Vec::with_capacity(lists.len());
        for list in lists {
            let DataType::List(item) = &list.ty else { return Err(Error::internal("unnesting something other than a list")) };
            let name = self.column();
            let column = Column::new_unqualified(name.clone());
            elements.push(Typed::new(Expr::Column(column.clone()), item.data_type().clone(), true));
            columns.push(column);
            exprs.push(list.expr.alias(name));
        }
        let projected = LogicalPlan::Projection(built(Projection::try_new(exprs, Arc::new(input)))?);
        let null_handling = if outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
        let options = UnnestOptions { null_handling, recursions: Vec::new() };
        let plan =
            built(LogicalPlanBuilder::from(projected).unnest_columns_with_options(columns, options).and_then(LogicalPlanBuilder::build))?;
        Ok((plan, elements))
    }

    /// The input with nothing known of which columns decide others: DataFusion believes it of the unnested
    /// rows too, and drops keys of sorts and groups.
    fn without_dependencies(&mut self, input: LogicalPlan) -> Result<LogicalPlan> {
        if input.schema().functional_dependencies().is_empty() {
            return Ok(input);
        }
        let mut exprs = Vec::with_capacity(input.schema().fields().len());
        for (relation, field) in input.schema().iter() {
            let column = Expr::Column(Column::new(relation.cloned(), field.name().clone()));
            let opaque = flightpath_functions::ops::nullable(&self.ctx, Typed::new(column, field.data_type().clone(), field.is_nullable()));
            exprs.push(opaque.expr.alias_qualified(relation.cloned(), field.name().clone()));
        }
        Ok(LogicalPlan::Projection(built(Projection::try_new(exprs, Arc::new(input)))?))
    }

    /// What was made of the elements, as columns.
    pub fn materialize(&mut self, plan: LogicalPlan, made: Vec<Made>) -> Result<(LogicalPlan, Vec<Made>)> {
        if made.iter().all(|m| matches!(m.t.expr, Expr::Column(_))) {
            return Ok((plan, made));
        }
        let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let mut out = Vec::with_capacity(made.len());
        for m in made {
            let name = self.column();
            exprs.push(m.t.expr.alias(name.clone()));
            out.push(Made { name: m.name, t: Typed { expr: Expr::Column(Column::new_unqualified(name)), ..m.t } });
        }
        Ok((LogicalPlan::Projection(built(Projection::try_new(exprs, Arc::new(plan)))?), out))
    }
}

/// A generator's columns under the names that it's given.
fn named(made: Vec<Made>, relation: &str, aliases: &[Ident]) -> Result<Vec<Col>> {
    if !aliases.is_empty() && aliases.len() != made.len() {
        return Err(error::classed(
            "UDTF_ALIAS_NUMBER_MISMATCH",
            "42802",
            format!(
                "The number of aliases supplied in the AS clause does not match the number of columns output by the generator: expected {} aliases, but got {}.",
                made.len(),
                aliases.len()
            ),
        ));
    }
    let qualifier: Qualifier = Arc::from(vec![relation.to_lowercase()]);
    made.into_iter()
        .enumerate()
        .map(|(i, m)| {
            let name = aliases.get(i).map_or(m.name.as_str(), |a| a.value.as_str());
            column_of(m.t, name, Some(qualifier.clone()), false)
        })
        .collect()
}

pub(super) fn column_of(t: Typed, name: &str, qualifier: Option<Qualifier>, hidden: bool) -> Result<Col> {
    let Expr::Column(column) = t.expr else { return Err(Error::internal("a generated column isn't one")) };
    Ok(Col { name: Arc::from(name), qualifier, column, ty: t.ty, nullable: t.nullable, hidden })
}

/// A table function's call as a plain call.
fn call_of(name: &ast::ObjectName, args: &[ast::FunctionArg]) -> ast::Function {
    ast::Function {
        name: name.clone(),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(ast::FunctionArgumentList { duplicate_treatment: None, args: args.to_vec(), clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}
