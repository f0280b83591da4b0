//! Aggregations, grouping sets and windows. Which text computes an aggregate or a window function
//! is for its definition in the compile table to say; one that isn't there is refused.

use std::collections::BTreeSet;
use std::rc::Rc;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment, WindowFunction};
use datafusion::logical_expr::logical_plan::{Aggregate, Window};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Expr, GroupingSet, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use flightpath_functions::{AggregateDef, DuckAggregate, DuckCall, FunctionDef, duckdb, lookup};

use crate::block::{Block, Cell, CellKind, Stage};
use crate::expr::by_rule;
use crate::relation::{Env, Printer, contains_map, strip_alias, type_name};
use crate::uses::Uses;
use crate::{Printed, refuse};

/// Aggregates that are a question to GROUP BY rather than a computation.
const GROUPING: &str = "grouping";

impl Printer {
    pub fn aggregate(&mut self, aggregate: &Aggregate) -> Printed<Block> {
        let keys = grouping_set_to_exprlist(&aggregate.group_expr).map_err(|e| refuse(format!("this GROUP BY ({e})")))?;
        let block = self.relation(&aggregate.input)?;
        let (mut block, key_cells) = self.with_plain_keys(block, aggregate, &keys)?;
        let env = Env::of(aggregate.input.schema(), &block);

        let fields = aggregate.schema.fields();
        let mut cells: Vec<Cell> = key_cells.clone();
        let key_of = |expr: &Expr| keys.iter().position(|k| strip_alias(k) == strip_alias(expr)).map(|i| key_cells[i].text.clone());
        let group = match aggregate.group_expr.as_slice() {
            [Expr::GroupingSet(set)] => {
                let ty = fields.get(cells.len()).map(|f| f.data_type().clone()).unwrap_or(DataType::Int64);
                let id = grouping_text(&key_cells.iter().map(|c| c.text.clone()).collect::<Vec<_>>(), &ty)?;
                cells.push(Cell { text: id, kind: CellKind::Computed });
                Some(grouping_set_text(set, &key_of)?)
            }
            // Written even so: whatever reads none of the aggregates leaves nothing else of them in the SELECT,
            // which would be one of the input's rows.
            _ if key_cells.is_empty() => Some("()".to_string()),
            _ => Some(key_cells.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(", ")),
        };
        for (i, expr) in aggregate.aggr_expr.iter().enumerate() {
            let Expr::AggregateFunction(call) = strip_alias(expr) else {
                return Err(refuse("an aggregation of something that isn't an aggregate"));
            };
            let ret = fields.get(keys_and_id(&aggregate.group_expr, key_cells.len()) + i).map(|f| f.data_type().clone());
            let ret = ret.ok_or_else(|| refuse("an aggregation without a type"))?;
            let text = if call.func.name() == GROUPING {
                let asked: Option<Vec<String>> = call.params.args.iter().map(key_of).collect();
                let asked = asked.ok_or_else(|| refuse("GROUPING of something that isn't grouped by"))?;
                // Without grouping sets every key is grouped by.
                if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
                    grouping_text(&asked, &ret)?
                } else {
                    format!("CAST(0 AS {})", type_name(&ret)?)
                }
            } else {
                self.aggregate_call(call, &ret, &env)?
            };
            cells.push(Cell { text, kind: CellKind::Computed });
        }
        block.cells = Rc::new(cells);
        block.group = group;
        block.stage = Stage::Aggregated;
        if aggregate.aggr_expr.is_empty() && aggregate.group_expr.is_empty() {
            return Err(refuse("an aggregation of nothing"));
        }
        Ok(block)
    }

    /// Sees to it that every grouping key is a plain column of the SELECT: an expression as a key would have to be
    /// repeated, and a number there is an ordinal.
    fn with_plain_keys(&mut self, block: Block, aggregate: &Aggregate, keys: &[&Expr]) -> Printed<(Block, Vec<Cell>)> {
        let schema = aggregate.input.schema();
        let uses = Uses::of(&aggregate.aggr_expr, schema);
        let repeated = block.cells.iter().zip(&uses.counts).any(|(c, n)| c.kind == CellKind::Computed && *n > 1);
        let blocked = uses.has_subquery && block.has_computed();
        let mut block = if block.stage > Stage::Where || repeated || blocked { self.wrap(block)? } else { block };
        let mut plain = Vec::with_capacity(keys.len());
        let env = Env::of(schema, &block);
        for key in keys {
            plain.push(self.key_cell(key, &env)?);
        }
        if plain.iter().all(|(cell, _)| cell.kind == CellKind::Column) {
            return Ok((block, plain.into_iter().map(|(cell, _)| cell).collect()));
        }
        // Below: what the aggregates read, then the keys.
        let mut needed: BTreeSet<usize> = uses.indices();
        if uses.has_subquery {
            needed.extend(0..schema.fields().len());
        }
        let width = block.cells.len();
        let own = block.cells.iter().enumerate().map(|(i, c)| if needed.contains(&i) { c.clone() } else { Cell::absent() });
        block.cells = Rc::new(own.chain(plain.into_iter().map(|(cell, _)| cell)).collect());
        let mut wrapped = self.wrap(block)?;
        let key_cells = wrapped.cells[width..].to_vec();
        wrapped.cells = Rc::new(wrapped.cells[..width].to_vec());
        Ok((wrapped, key_cells))
    }

    fn key_cell(&mut self, key: &Expr, env: &Env) -> Printed<(Cell, DataType)> {
        let bare = strip_alias(key);
        let (cell, ty) = if let Expr::Column(column) = bare {
            let (cell, ty) = self.column_cell(column, env)?;
            (cell.clone(), ty.clone())
        } else {
            let printed = self.expr(bare, env)?;
            (Cell { text: printed.text, kind: CellKind::Computed }, printed.ty)
        };
        if contains_map(&ty) {
            return Err(refuse("GROUP BY of a map"));
        }
        Ok((cell, ty))
    }

    fn aggregate_call(&mut self, call: &AggregateFunction, ret: &DataType, env: &Env) -> Printed<String> {
        let def = aggregate_def(call.func.name())?;
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = &call.params;
        let filter = filter.as_deref();
        self.aggregate_text(
            def,
            AggregateUse { args, distinct: *distinct, filter, order_by, null_treatment: *null_treatment, over: None },
            ret,
            env,
        )
    }

    fn aggregate_text(&mut self, def: &AggregateDef, call: AggregateUse<'_>, ret: &DataType, env: &Env) -> Printed<String> {
        let args = self.arguments(call.args, env)?;
        let order_by: Vec<String> = self.sort_keys(call.order_by, env)?.into_iter().map(|k| format!("{}{}", k.text, k.direction)).collect();
        let duck = DuckAggregate {
            args: &args.texts,
            types: &args.types,
            literals: &args.literals,
            distinct: call.distinct,
            ignore_nulls: matches!(call.null_treatment, Some(NullTreatment::IgnoreNulls)),
            order_by: &order_by,
            ret,
            windowed: call.over.is_some(),
        };
        let sql = (def.duckdb)(&duck).map_err(|reason| by_rule(def.name, &args.types, reason))?;
        let mut suffix = String::new();
        if let Some(filter) = call.filter {
            suffix.push_str(&format!(" FILTER (WHERE {})", self.expr(filter, env)?.text));
        }
        if let Some(over) = call.over {
            suffix.push_str(&over);
        }
        let first = format!("{}{suffix}", sql.call);
        let text = match (sql.wrap, sql.second) {
            (Some(wrap), None) => wrap.replace("{}", &first),
            // Split at the marks first: the calls' own text may hold a mark in a literal.
            (Some(wrap), Some(second)) => {
                let second = format!("{second}{suffix}");
                wrap.split("{second}").map(|part| part.replace("{}", &first)).collect::<Vec<_>>().join(&second)
            }
            (None, _) => first,
        };
        crate::check_size(&text)?;
        Ok(text)
    }

    pub fn window(&mut self, window: &Window) -> Printed<Block> {
        let mut block = self.relation(&window.input)?;
        let schema = window.input.schema();
        let uses = Uses::of(&window.window_expr, schema);
        let touches_computed = block.cells.iter().zip(&uses.counts).any(|(c, n)| c.kind == CellKind::Computed && *n > 0);
        let fits = block.stage <= Stage::Where || (block.stage == Stage::Windowed && !touches_computed);
        if !fits || touches_computed || uses.has_subquery {
            block = self.wrap(block)?;
        }
        let env = Env::of(schema, &block);
        let mut cells = (*block.cells).clone();
        for (i, expr) in window.window_expr.iter().enumerate() {
            let Expr::WindowFunction(call) = strip_alias(expr) else {
                return Err(refuse("a window of something that isn't a window function"));
            };
            let ret = window.schema.field(schema.fields().len() + i).data_type().clone();
            let text = self.window_call(call, &ret, &env)?;
            cells.push(Cell { text, kind: CellKind::Computed });
        }
        block.cells = Rc::new(cells);
        block.stage = Stage::Windowed;
        Ok(block)
    }

    fn window_call(&mut self, call: &WindowFunction, ret: &DataType, env: &Env) -> Printed<String> {
        let params = &call.params;
        let name = call.fun.name().to_string();
        let framed = match &call.fun {
            WindowFunctionDefinition::AggregateUDF(_) => true,
            WindowFunctionDefinition::WindowUDF(_) => is_framed(&name)?,
        };
        let over = self.over(call, framed, env)?;
        match lookup(&name) {
            Some(FunctionDef::Aggregate(def)) => {
                let call = AggregateUse {
                    args: &params.args,
                    distinct: params.distinct,
                    filter: params.filter.as_deref(),
                    order_by: &[],
                    null_treatment: params.null_treatment,
                    over: Some(over),
                };
                self.aggregate_text(def, call, ret, env)
            }
            Some(FunctionDef::Window(def)) => {
                if params.distinct || params.filter.is_some() {
                    return Err(refuse(format!("window function `{name}` with DISTINCT or FILTER")));
                }
                let args = self.arguments(&params.args, env)?;
                let ignore_nulls = matches!(params.null_treatment, Some(NullTreatment::IgnoreNulls));
                // Window functions have no zone of their own.
                let duck = DuckCall { args: &args.texts, types: &args.types, literals: &args.literals, ret, time_zone: "UTC" };
                let text = (def.duckdb)(&duck, ignore_nulls).map_err(|reason| by_rule(def.name, &args.types, reason))?;
                Ok(format!("{text}{over}"))
            }
            Some(FunctionDef::Scalar(_) | FunctionDef::Rewrite(_) | FunctionDef::Higher(_)) | None => {
                Err(refuse(format!("window function `{name}`")))
            }
        }
    }

    /// ` OVER (...)`, the frame always written out for functions that look at it.
    fn over(&mut self, call: &WindowFunction, framed: bool, env: &Env) -> Printed<String> {
        let params = &call.params;
        let mut parts = Vec::new();
        let mut partition = Vec::with_capacity(params.partition_by.len());
        for expr in &params.partition_by {
            let printed = self.expr(expr, env)?;
            if contains_map(&printed.ty) {
                return Err(refuse("PARTITION BY of a map"));
            }
            partition.push(printed.operand());
        }
        if !partition.is_empty() {
            parts.push(format!("PARTITION BY {}", partition.join(", ")));
        }
        let keys = self.sort_keys(&params.order_by, env)?;
        if !keys.is_empty() {
            let keys: Vec<String> = keys.into_iter().map(|k| format!("{}{}", k.text, k.direction)).collect();
            parts.push(format!("ORDER BY {}", keys.join(", ")));
        }
        if framed {
            let key_type = match params.order_by.as_slice() {
                [only] => Some(self.expr(&only.expr, env)?.ty),
                _ => None,
            };
            parts.push(frame_text(&params.window_frame, key_type.as_ref())?);
        }
        Ok(format!(" OVER ({})", parts.join(" ")))
    }
}

struct AggregateUse<'a> {
    args: &'a [Expr],
    distinct: bool,
    filter: Option<&'a Expr>,
    order_by: &'a [datafusion::logical_expr::SortExpr],
    null_treatment: Option<NullTreatment>,
    over: Option<String>,
}

fn aggregate_def(name: &str) -> Printed<&'static AggregateDef> {
    match lookup(name) {
        Some(FunctionDef::Aggregate(def)) => Ok(def),
        Some(FunctionDef::Scalar(_) | FunctionDef::Rewrite(_) | FunctionDef::Higher(_) | FunctionDef::Window(_)) | None => {
            Err(refuse(format!("aggregate `{name}`")))
        }
    }
}

fn keys_and_id(group: &[Expr], keys: usize) -> usize {
    if matches!(group, [Expr::GroupingSet(_)]) { keys + 1 } else { keys }
}

/// Bits in the keys' order, the last key lowest, 1 where a key isn't in the row's grouping set: the
/// same in both engines.
fn grouping_text(keys: &[String], ty: &DataType) -> Printed<String> {
    let ty = match ty {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => "BIGINT".to_string(),
        other => type_name(other)?,
    };
    if keys.is_empty() {
        return Ok(format!("CAST(0 AS {ty})"));
    }
    Ok(format!("CAST(GROUPING({}) AS {ty})", keys.join(", ")))
}

fn grouping_set_text(set: &GroupingSet, key_of: &dyn Fn(&Expr) -> Option<String>) -> Printed<String> {
    let list = |exprs: &[Expr]| -> Printed<String> {
        let texts: Option<Vec<String>> = exprs.iter().map(key_of).collect();
        texts.map(|t| t.join(", ")).ok_or_else(|| refuse("a grouping set over something that isn't a key"))
    };
    Ok(match set {
        GroupingSet::Rollup(exprs) => format!("ROLLUP ({})", list(exprs)?),
        GroupingSet::Cube(exprs) => format!("CUBE ({})", list(exprs)?),
        GroupingSet::GroupingSets(sets) => {
            let sets: Printed<Vec<String>> = sets.iter().map(|s| Ok(format!("({})", list(s)?))).collect();
            format!("GROUPING SETS ({})", sets?.join(", "))
        }
    })
}

/// Whether a window function proper looks at its frame.
fn is_framed(name: &str) -> Printed<bool> {
    match name {
        "first_value" | "last_value" | "nth_value" => Ok(true),
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" | "lead" | "lag" => Ok(false),
        other => Err(refuse(format!("window function `{other}`"))),
    }
}

fn frame_text(frame: &WindowFrame, key_type: Option<&DataType>) -> Printed<String> {
    let units = match frame.units {
        WindowFrameUnits::Rows => "ROWS",
        WindowFrameUnits::Range => "RANGE",
        WindowFrameUnits::Groups => return Err(refuse("a window frame in GROUPS")),
    };
    let bound = |bound: &WindowFrameBound| -> Printed<String> {
        let (value, side) = match bound {
            WindowFrameBound::CurrentRow => return Ok("CURRENT ROW".into()),
            WindowFrameBound::Preceding(value) => (value, "PRECEDING"),
            WindowFrameBound::Following(value) => (value, "FOLLOWING"),
        };
        if value.is_null() {
            return Ok(format!("UNBOUNDED {side}"));
        }
        let offset = match frame.units {
            WindowFrameUnits::Rows => rows_offset(value)?,
            WindowFrameUnits::Range | WindowFrameUnits::Groups => range_offset(value, key_type)?,
        };
        Ok(format!("{offset} {side}"))
    };
    Ok(format!("{units} BETWEEN {} AND {}", bound(&frame.start_bound)?, bound(&frame.end_bound)?))
}

fn rows_offset(value: &ScalarValue) -> Printed<String> {
    match value {
        ScalarValue::UInt64(Some(n)) => Ok(n.to_string()),
        ScalarValue::Int64(Some(n)) if *n >= 0 => Ok(n.to_string()),
        ScalarValue::Int32(Some(n)) if *n >= 0 => Ok(n.to_string()),
        other => Err(refuse(format!("a window frame of {other} rows"))),
    }
}

const DAY_US: i64 = 86_400_000_000;

/// How far a RANGE frame reaches, in the unit that DuckDB subtracts from a key of this type.
fn range_offset(value: &ScalarValue, key: Option<&DataType>) -> Printed<String> {
    let unknown = || {
        refuse(format!(
            "a RANGE frame of {value} over a key of type {}",
            key.map_or_else(|| "several columns".to_string(), |k| k.to_string())
        ))
    };
    let Some(key) = key else { return Err(unknown()) };
    let whole = match value {
        ScalarValue::UInt64(Some(n)) => i64::try_from(*n).ok(),
        ScalarValue::Int64(Some(n)) => Some(*n),
        ScalarValue::Int32(Some(n)) => Some(i64::from(*n)),
        ScalarValue::Int16(Some(n)) => Some(i64::from(*n)),
        ScalarValue::Int8(Some(n)) => Some(i64::from(*n)),
        _ => None,
    }
    .filter(|n| *n >= 0);
    match key {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let n = whole.ok_or_else(unknown)?;
            Ok(format!("CAST({n} AS {})", type_name(key)?))
        }
        DataType::Decimal128(..) => match value {
            ScalarValue::Decimal128(Some(v), ..) if *v >= 0 => duckdb::literal(value).map_err(|_| unknown()),
            _ => Ok(format!("{}", whole.ok_or_else(unknown)?)),
        },
        DataType::Float64 => match value {
            ScalarValue::Float64(Some(v)) if *v >= 0.0 && v.is_finite() => duckdb::literal(value).map_err(|_| unknown()),
            _ => Err(unknown()),
        },
        DataType::Date32 => match (whole, value) {
            (Some(days), _) => Ok(format!("INTERVAL {days} DAY")),
            (None, ScalarValue::IntervalYearMonth(Some(months))) if *months >= 0 => Ok(format!("INTERVAL {months} MONTH")),
            (None, ScalarValue::DurationMicrosecond(Some(us))) if *us >= 0 && *us % DAY_US == 0 => {
                Ok(format!("INTERVAL {} DAY", us / DAY_US))
            }
            (None, ScalarValue::IntervalMonthDayNano(Some(i))) if i.months >= 0 && i.days >= 0 && i.nanoseconds == 0 => {
                Ok(format!("(INTERVAL {} MONTH + INTERVAL {} DAY)", i.months, i.days))
            }
            _ => Err(unknown()),
        },
        // A number of microseconds is one in every zone; days and months of an instant aren't.
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => match value {
            ScalarValue::DurationMicrosecond(Some(us)) if *us >= 0 => Ok(format!("to_microseconds({us})")),
            _ => Err(unknown()),
        },
        DataType::Timestamp(TimeUnit::Microsecond, None) => match value {
            ScalarValue::IntervalYearMonth(Some(months)) if *months >= 0 => Ok(format!("INTERVAL {months} MONTH")),
            ScalarValue::DurationMicrosecond(Some(us)) if *us >= 0 => Ok(format!("to_microseconds({us})")),
            ScalarValue::IntervalMonthDayNano(Some(i)) if i.months >= 0 && i.days >= 0 && i.nanoseconds >= 0 => {
                Ok(format!("(INTERVAL {} MONTH + INTERVAL {} DAY + to_microseconds({}))", i.months, i.days, i.nanoseconds / 1000))
            }
            _ => Err(unknown()),
        },
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => Err(unknown()),
        _ => Err(unknown()),
    }
}
