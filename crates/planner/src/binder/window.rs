//! Window calls: their specification, and the nodes that compute them.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Expr, LogicalPlan, Window, WindowFunctionDefinition};
use datafusion::sql::sqlparser::ast;
use flightpath_functions::ops::comparable_float;
use flightpath_functions::{FunctionDef, Typed, types};
use flightpath_types::{Error, Result};

use super::call::Arguments;
use super::error::{self, built};
use super::expr::Bound;
use super::frame::{default_frame, default_text, fixed_frame, written};
use super::order;
use super::place::Place;
use super::query::State;

/// Begins the internal names of columns that windows make.
pub(super) const PREFIX: &str = "#w";

/// The window calls of one SELECT, and its named windows.
pub(super) struct Windows<'s> {
    named: &'s [ast::NamedWindowDefinition],
    calls: RefCell<Vec<(Expr, Column)>>,
}

impl<'s> Windows<'s> {
    pub fn new(named: &'s [ast::NamedWindowDefinition]) -> Self {
        Self { named, calls: RefCell::new(Vec::new()) }
    }

    pub fn take(&self) -> Vec<(Expr, Column)> {
        self.calls.take()
    }

    pub fn is_empty(&self) -> bool {
        self.calls.borrow().is_empty()
    }

    fn column(&self, state: &mut State<'_>, call: Expr) -> Column {
        let mut calls = self.calls.borrow_mut();
        if let Some((_, column)) = calls.iter().find(|(known, _)| *known == call) {
            return column.clone();
        }
        let column = Column::new_unqualified(format!("{PREFIX}{}", state.column()));
        calls.push((call, column.clone()));
        column
    }

    /// A window's name stands for one.
    pub fn check(&self) -> Result<()> {
        let name = |w: &ast::NamedWindowDefinition| w.0.value.to_lowercase();
        match self.named.iter().enumerate().find(|(i, w)| self.named[..*i].iter().any(|known| name(known) == name(w))) {
            None => Ok(()),
            Some((_, w)) => Err(error::classed(
                "INVALID_SQL_SYNTAX.REPETITIVE_WINDOW_DEFINITION",
                "42000",
                format!("The definition of window `{}` is repetitive.", w.0.value),
            )),
        }
    }

    fn named(&self, name: &ast::Ident) -> Result<&'s ast::WindowSpec> {
        let found = self.named.iter().find(|w| w.0.value.eq_ignore_ascii_case(&name.value));
        match found.map(|w| &w.1) {
            Some(ast::NamedWindowExpr::WindowSpec(spec)) => Ok(spec),
            Some(ast::NamedWindowExpr::NamedWindow(other)) if !other.value.eq_ignore_ascii_case(&name.value) => self.named(other),
            _ => Err(error::classed(
                "MISSING_WINDOW_SPECIFICATION",
                "42P20",
                format!("Window specification is not defined in the WINDOW clause for `{}`.", name.value),
            )),
        }
    }
}

impl State<'_> {
    pub fn window_call(
        &mut self,
        place: &Place<'_>,
        f: &ast::Function,
        over: &ast::WindowType,
        def: &'static FunctionDef,
    ) -> Result<Bound> {
        let Some(windows) = place.windows else {
            if place.clause == "ORDER BY" {
                return Err(Error::not_eligible(format!(
                    "the window function `{}` in ORDER BY isn't supported; give it an alias in the SELECT list, and sort by that",
                    f.name
                )));
            }
            return Err(error::classed(
                "WINDOW_FUNCTION_NOT_ALLOWED_IN_CLAUSE",
                "42903",
                format!("The window function `{}` is not allowed in {}.", f.name, place.clause),
            ));
        };
        let spec = match over {
            ast::WindowType::WindowSpec(spec) => match &spec.window_name {
                Some(name) if spec.partition_by.is_empty() && spec.order_by.is_empty() && spec.window_frame.is_none() => {
                    windows.named(name)?
                }
                Some(name) => {
                    return Err(error::classed(
                        "PARSE_SYNTAX_ERROR",
                        "42601",
                        format!("Syntax error: a window can't refine the window `{name}`."),
                    ));
                }
                None => spec,
            },
            ast::WindowType::NamedWindow(name) => windows.named(name)?,
        };
        let inner = place.inside_window();
        let args = self.arguments(&inner, f)?;
        let distinct = args.distinct;
        if distinct {
            return Err(error::classed("DISTINCT_WINDOW_FUNCTION_UNSUPPORTED", "0A000", "Distinct window functions are not supported."));
        }
        let mut texts = Vec::new();
        let mut partition_by = Vec::with_capacity(spec.partition_by.len());
        let mut partition_names = Vec::with_capacity(spec.partition_by.len());
        for e in &spec.partition_by {
            let bound = self.expr(&inner, e)?;
            if types::holds_map(&bound.t.ty) {
                return Err(error::classed(
                    "EXPRESSION_TYPE_IS_NOT_ORDERABLE",
                    "42822",
                    format!(
                        "Column expression `{}` cannot be sorted because its type {} is not orderable.",
                        bound.name,
                        types::sql_name(&bound.t.ty)
                    ),
                ));
            }
            partition_names.push(bound.name);
            partition_by.push(comparable_float(&self.ctx, bound.t).expr);
        }
        if !partition_names.is_empty() {
            texts.push(format!("PARTITION BY {}", partition_names.join(", ")));
        }
        let mut order_by: Vec<Sort> = Vec::with_capacity(spec.order_by.len());
        let mut order_names = Vec::with_capacity(spec.order_by.len());
        let mut order_types = Vec::with_capacity(spec.order_by.len());
        for key in &spec.order_by {
            let (sort, text, ty) = order::window_sort(self, &inner, key)?;
            order_by.extend(sort);
            order_names.push(text);
            order_types.push(ty);
        }
        if !order_names.is_empty() {
            texts.push(format!("ORDER BY {}", order_names.join(", ")));
        }
        let ranking = matches!(def, FunctionDef::Window(_));
        let name = def.name();
        if ranking && order_by.is_empty() && name != "first_value" && name != "last_value" {
            return Err(error::classed(
                "WINDOW_FUNCTION_FRAME_NOT_ORDERED",
                "42601",
                format!("Window function {name}() requires window to be ordered, please add ORDER BY clause."),
            ));
        }
        let sorted_by = order_by.iter().map(|sort| &sort.expr);
        if partition_by.iter().chain(sorted_by).chain(args.args.iter().map(|arg| &arg.t.expr)).any(Expr::contains_outer) {
            return Err(super::subquery::outer_reference("a window function"));
        }
        let (frame, frame_text) = match (&spec.window_frame, fixed_frame(name)) {
            (Some(frame), None) => self.frame(&inner, frame, &order_types)?,
            (Some(frame), Some(fixed)) if matches!(name, "lag" | "lead") || written(frame) != fixed => {
                return Err(Error::invalid(match name {
                    "lag" | "lead" => format!("Cannot specify window frame for {name} function."),
                    _ => format!("Window frame `{}` must match the required frame `{fixed}` of {name}.", written(frame)),
                }));
            }
            (_, Some(fixed)) => (default_frame(true, !order_by.is_empty())?, fixed.to_string()),
            (None, None) => (default_frame(false, !order_by.is_empty())?, default_text(!order_by.is_empty()).to_string()),
        };
        let offset_text = self.offset_frame(name, &args);
        texts.push(offset_text.unwrap_or(frame_text));
        let (order_by, frame) = self.in_days(order_by, frame, &order_types)?;
        let mut args = args;
        let full_name = super::names::window_call(&args);
        let default = match (name, args.args.get(2)) {
            ("lag" | "lead", Some(default)) if args.args.len() == 3 && default.t.as_literal().is_none() && !args.ignore_nulls => {
                args.args.pop()
            }
            _ => None,
        };
        let offset = args.args.get(1).map(|o| o.t.clone());
        let (fun, bound, call_name) = self.window_function(&inner, f, def, args)?;
        let call_name = if default.is_some() { full_name } else { call_name };
        let filter = match &f.filter {
            Some(filter) => Some(Box::new(self.condition(&inner, filter)?.t.expr)),
            None => None,
        };
        let ignore_nulls = bound.ignore_nulls;
        let params = WindowFunctionParams {
            args: bound.args.into_iter().map(|a| a.expr).collect(),
            partition_by,
            order_by,
            window_frame: frame,
            filter,
            null_treatment: ignore_nulls.then_some(datafusion::logical_expr::expr::NullTreatment::IgnoreNulls),
            distinct: false,
        };
        let t = match default {
            Some(default) => {
                let distance = offset.unwrap_or_else(|| Typed::literal(ScalarValue::Int32(Some(1))));
                self.or_computed((fun, params), def, distance, default.t, (&bound.ret, bound.args_nullable), windows)?
            }
            None => {
                let call = Expr::WindowFunction(Box::new(WindowFunction { fun, params }));
                let column = windows.column(self, call);
                Typed::new(Expr::Column(column), bound.plan_type, bound.nullable)
            }
        };
        let t = self.coerce_window(t, &bound.ret)?;
        Ok(Bound::new(t, format!("{call_name} OVER ({})", texts.join(" "))))
    }

    /// `lag(x, n, default)` with a default that engines take no expression for: the same distance over TRUE
    /// tells where there is no row.
    fn or_computed(
        &mut self,
        (fun, params): (WindowFunctionDefinition, WindowFunctionParams),
        def: &'static FunctionDef,
        distance: Typed,
        default: Typed,
        (ty, value_nullable): (&DataType, bool),
        windows: &Windows<'_>,
    ) -> Result<Typed> {
        let FunctionDef::Window(window) = def else { return Err(Error::internal("an offset that isn't a window function")) };
        if default.ty != *ty {
            return Err(Error::not_eligible("a computed default of another type than the value's isn't supported in lag and lead"));
        }
        let marks = vec![Typed::literal(ScalarValue::Boolean(Some(true))), distance];
        let (mark_fun, mark_args, ..) = (window.bind)(&self.ctx, marks, false)?;
        let mark = WindowFunctionParams { args: mark_args.into_iter().map(|a| a.expr).collect(), ..params.clone() };
        let mark = windows.column(self, Expr::WindowFunction(Box::new(WindowFunction { fun: mark_fun, params: mark })));
        let value = windows.column(self, Expr::WindowFunction(Box::new(WindowFunction { fun, params })));
        let missing = Expr::IsNull(Box::new(Expr::Column(mark)));
        let nullable = value_nullable || default.nullable;
        let expr = flightpath_functions::lazy::case(vec![(missing, default.expr)], Some(Expr::Column(value)), ty);
        Ok(Typed::new(expr, ty.clone(), nullable))
    }

    fn coerce_window(&mut self, t: Typed, to: &DataType) -> Result<Typed> {
        if t.ty == *to {
            return Ok(t);
        }
        // DataFusion counts ranks in UInt64, which Databricks hasn't: a plain cast, as `def` says.
        let nullable = t.nullable;
        let field = std::sync::Arc::new(arrow::datatypes::Field::new("", to.clone(), nullable));
        let cast = datafusion::logical_expr::expr::Cast { expr: Box::new(t.expr), field };
        Ok(Typed::new(Expr::Cast(cast), to.clone(), nullable))
    }

    fn window_function(
        &mut self,
        inner: &Place<'_>,
        f: &ast::Function,
        def: &'static FunctionDef,
        args: Arguments,
    ) -> Result<(WindowFunctionDefinition, BoundWindow, String)> {
        match def {
            FunctionDef::Window(window) => {
                let ignore_nulls = args.ignore_nulls;
                let name = super::names::window_call(&args);
                let (fun, args, plan_type, ret, nullable) = (window.bind)(&self.ctx, args.typed(), ignore_nulls)?;
                let args_nullable = args.first().is_none_or(|a| a.nullable);
                Ok((fun, BoundWindow { args, args_nullable, plan_type, ret, nullable, ignore_nulls }, name))
            }
            FunctionDef::Aggregate(aggregate) => {
                let (bound, mut name) = self.bind_aggregate(inner, f, aggregate, args, Vec::new())?;
                if let Some(filter) = &f.filter {
                    name.push_str(&format!(" FILTER (WHERE {})", self.expr(inner, filter)?.name));
                }
                if !bound.order_by.is_empty() {
                    return Err(Error::not_eligible(format!("ORDER BY inside the window call `{}` isn't supported", f.name)));
                }
                let window = BoundWindow {
                    args_nullable: bound.args.first().is_none_or(|a| a.nullable),
                    args: bound.args,
                    plan_type: bound.ret.clone(),
                    ret: bound.ret,
                    nullable: bound.nullable,
                    ignore_nulls: bound.ignore_nulls,
                };
                Ok((WindowFunctionDefinition::AggregateUDF(bound.udf), window, name))
            }
            FunctionDef::Scalar(_) | FunctionDef::Rewrite(_) | FunctionDef::Higher(_) => Err(error::classed(
                "UNSUPPORTED_EXPR_FOR_WINDOW",
                "42P20",
                format!("Expression `{}` not supported within a window function.", f.name),
            )),
        }
    }

    /// Window nodes over `plan` for the calls, sharing a sort where they can.
    pub fn window_plan(&mut self, plan: LogicalPlan, calls: Vec<(Expr, Column)>) -> Result<LogicalPlan> {
        if calls.is_empty() {
            return Ok(plan);
        }
        // Calls over the same partitions and order share a node.
        let mut groups: Vec<(SortKeys, Vec<Expr>)> = Vec::new();
        for (call, column) in calls {
            let keys = sort_keys(&call)?;
            let call = call.alias(column.name);
            match groups.iter_mut().find(|(known, _)| *known == keys) {
                Some((_, exprs)) => exprs.push(call),
                None => groups.push((keys, vec![call])),
            }
        }
        // The finest order first: what is sorted by more is sorted by its prefix too.
        groups.sort_by_key(|(keys, _)| std::cmp::Reverse(keys.0.len() + keys.1.len()));
        groups.into_iter().try_fold(plan, |plan, (_, exprs)| Ok(LogicalPlan::Window(built(Window::try_new(exprs, Arc::new(plan)))?)))
    }
}

type SortKeys = (Vec<Expr>, Vec<Sort>);

fn sort_keys(call: &Expr) -> Result<SortKeys> {
    match call {
        Expr::WindowFunction(f) => Ok((f.params.partition_by.clone(), f.params.order_by.clone())),
        other => Err(Error::internal(format!("{other} isn't a window call"))),
    }
}

struct BoundWindow {
    args: Vec<Typed>,
    /// Whether the first one may be NULL.
    args_nullable: bool,
    /// What DataFusion's function gives.
    plan_type: DataType,
    /// What Databricks' gives.
    ret: DataType,
    nullable: bool,
    ignore_nulls: bool,
}
