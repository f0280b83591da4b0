//! Function calls: arguments, the function table's definitions, aggregates, and calls with a syntax
//! of their own.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident};
use datafusion::sql::sqlparser::tokenizer::Span;
use flightpath_functions::fold::constant;
use flightpath_functions::lambda::{self, Lambda};
use flightpath_functions::{AggregateCall, AggregateDef, BoundAggregate, FunctionDef, Typed, cast, lazy, lookup, nearest};
use flightpath_types::{Error, Result};

use super::error;
use super::expr::Bound;
use super::from::identifiers;
use super::literal::literal;
use super::names;
use super::order;
use super::place::Place;
use super::query::State;
use super::star::Starred;
use super::typename;

/// A call's arguments, typed.
pub(super) struct Arguments {
    /// As written, in lower case.
    pub name: String,
    pub args: Vec<Bound>,
    pub distinct: bool,
    pub ignore_nulls: bool,
    pub null_treatment_written: bool,
}

impl Arguments {
    pub fn typed(&self) -> Vec<Typed> {
        self.args.iter().map(|a| a.t.clone()).collect()
    }
}

impl State<'_> {
    pub fn call(&mut self, place: &Place<'_>, f: &ast::Function) -> Result<Bound> {
        let (name, span) = function_name(f)?;
        if let Some(bound) = self.special(place, f, &name)? {
            return Ok(bound);
        }
        if let Some(def) = Self::sorted_by(f, &name) {
            return self.higher_call(place, f, &name, def);
        }
        let Some(def) = lookup(&name) else {
            if names::cast_type(&name).is_some() && f.over.is_none() && f.filter.is_none() && f.within_group.is_empty() {
                let args = self.arguments(place, f)?;
                return self.call_bound(&name, args.args, span);
            }
            if super::generator::is_generator(&name) {
                let (class, why) = match place.clause {
                    "SELECT" | "an aggregate function" | "a window function" | "a generator's arguments" => {
                        ("NESTED_IN_EXPRESSIONS", "must be a whole item of the select list")
                    }
                    _ => ("OUTSIDE_SELECT", "is not supported outside the SELECT clause"),
                };
                return Err(error::classed(
                    format!("UNSUPPORTED_GENERATOR.{class}"),
                    "42K0E",
                    format!("The generator `{name}` {why}{}.", error::place(span)),
                ));
            }
            return Err(unknown(&name, span));
        };
        if let Some(over) = &f.over {
            return self.window_call(place, f, over, def);
        }
        match def {
            FunctionDef::Aggregate(aggregate) => self.aggregate_call(place, f, aggregate),
            FunctionDef::Higher(higher) => self.higher_call(place, f, &name, higher),
            FunctionDef::Window(_) => Err(error::classed(
                "WINDOW_FUNCTION_WITHOUT_OVER_CLAUSE",
                "42601",
                format!("Window function `{name}()` requires an OVER clause{}.", error::place(span)),
            )),
            FunctionDef::Scalar(_) | FunctionDef::Rewrite(_) => {
                if f.filter.is_some() || !f.within_group.is_empty() {
                    return Err(Error::invalid(format!(
                        "`{name}` isn't an aggregate function: FILTER and WITHIN GROUP don't apply{}",
                        error::place(span)
                    )));
                }
                let args = self.arguments(place, f)?;
                if args.distinct {
                    return Err(error::classed(
                        "INVALID_SQL_SYNTAX.FUNCTION_WITH_UNSUPPORTED_SYNTAX",
                        "42000",
                        format!("The function `{name}` does not support DISTINCT."),
                    ));
                }
                if args.null_treatment_written {
                    return Err(error::classed(
                        "INVALID_SQL_SYNTAX.FUNCTION_WITH_UNSUPPORTED_SYNTAX",
                        "42000",
                        format!("The function `{name}` does not support IGNORE NULLS."),
                    ));
                }
                let asked = args.args.first().filter(|_| name == "typeof").map(|a| a.t.expr.clone());
                let bound = self.call_bound(&name, args.args, span)?;
                if let (Some(asked), Some(aggregates)) = (asked, place.aggregates) {
                    aggregates.asked(asked, bound.t.expr.clone());
                }
                Ok(bound)
            }
        }
    }

    /// A scalar call of typed arguments.
    pub fn call_bound(&mut self, name: &str, args: Vec<Bound>, span: Span) -> Result<Bound> {
        let lower = name.to_lowercase();
        let text = names::call(&lower, &args);
        let typed: Vec<Typed> = args.into_iter().map(|a| a.t).collect();
        match lookup(&lower) {
            None => match (names::cast_type(&lower), <[Typed; 1]>::try_from(typed)) {
                // `double(x)` is a cast.
                (Some(ty), Ok([arg])) => Ok(Bound::new(cast::cast(&self.ctx, arg, &ty)?, text)),
                _ => Err(unknown(&lower, span)),
            },
            Some(_) => Ok(Bound::new(self.function(&lower, typed)?, text)),
        }
    }

    /// A call with a grammar of its own, as the plain function it is.
    pub fn call_with(&mut self, place: &Place<'_>, name: &str, args: &[&ast::Expr], span: Span) -> Result<Bound> {
        let bound: Result<Vec<Bound>> = args.iter().map(|a| self.expr(place, a)).collect();
        self.call_bound(name, bound?, span)
    }

    /// Calls whose arguments aren't all expressions.
    fn special(&mut self, place: &Place<'_>, f: &ast::Function, name: &str) -> Result<Option<Bound>> {
        if f.over.is_some() {
            return Ok(None);
        }
        match name {
            "timestampadd" | "dateadd" | "date_add" | "timestampdiff" | "datediff" | "date_diff" => {
                let FunctionArguments::List(list) = &f.args else { return Ok(None) };
                let [FunctionArg::Unnamed(FunctionArgExpr::Expr(unit)), rest @ ..] = list.args.as_slice() else { return Ok(None) };
                if rest.len() != 2 {
                    return Ok(None);
                }
                let unit = match unit {
                    ast::Expr::Identifier(ident) => ident.value.to_uppercase(),
                    ast::Expr::Value(v) => match &v.value {
                        ast::Value::SingleQuotedString(_) => {
                            return Err(error::classed(
                                "INVALID_PARAMETER_VALUE.DATETIME_UNIT",
                                "22023",
                                format!("The first argument of `{name}` must be a unit without quotes."),
                            ));
                        }
                        _ => return Ok(None),
                    },
                    _ => return Ok(None),
                };
                let mut args = vec![literal(ScalarValue::Utf8(Some(unit.clone())), unit)];
                for arg in rest {
                    args.push(self.argument(place, arg)?);
                }
                let text = names::call(name, &args);
                let function = if name.ends_with("add") { "timestampadd" } else { "timestampdiff" };
                let bound = self.call_bound(function, args, Span::empty())?;
                Ok(Some(Bound::new(bound.t, text)))
            }
            "from_json" => self.from_json(place, f).map(Some),
            // Its fields take the columns' names.
            "struct" => {
                let FunctionArguments::List(list) = &f.args else { return Ok(None) };
                let mut columns: Vec<Starred> = Vec::with_capacity(list.args.len());
                for (i, arg) in list.args.iter().enumerate() {
                    match arg {
                        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => columns.extend(self.star_columns(place, None)?),
                        FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                            columns
                                .extend(self.star_columns(place, Some(&ast::SelectItemQualifiedWildcardKind::ObjectName(name.clone())))?);
                        }
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => {
                            let bound = self.expr(place, e)?;
                            columns.push(Starred { name: Arc::from(field_name(e, i)), t: bound.t, shown: bound.name });
                        }
                        other => return Err(Error::not_eligible(format!("the argument `{other}` isn't supported"))),
                    }
                }
                self.structure_of_columns(columns).map(Some)
            }
            // So do these, where there are some.
            "arrays_zip" => {
                let FunctionArguments::List(list) = &f.args else { return Ok(None) };
                let mut bound = self.arguments(place, f)?.args;
                for (i, (arg, written)) in bound.iter_mut().zip(&list.args).enumerate() {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = written
                        && matches!(e, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_))
                    {
                        arg.t.expr = std::mem::take(&mut arg.t.expr).alias(field_name(e, i));
                    }
                }
                self.call_bound(name, bound, Span::empty()).map(Some)
            }
            "grouping" | "grouping_id" => {
                let Some(aggregates) = place.aggregates else {
                    return Err(error::classed(
                        "UNSUPPORTED_GROUPING_EXPRESSION",
                        "42K0E",
                        format!("`{name}` is not allowed in {}.", place.clause),
                    ));
                };
                let args = self.arguments(&place.inside_aggregate(), f)?;
                let names: Vec<&str> = args.args.iter().map(|a| a.name.as_str()).collect();
                let text = format!("{name}({})", names.join(", "));
                let typed = args.typed();
                let t = match (name, typed.as_slice()) {
                    ("grouping", [x]) => aggregates.grouping(x)?,
                    ("grouping", _) => return Err(Error::invalid("grouping() takes one column")),
                    (_, typed) => aggregates.grouping_id(typed)?,
                };
                Ok(Some(Bound::new(t, text)))
            }
            _ => Ok(None),
        }
    }

    /// `from_json(text, schema)`: the schema is a text that is known while planning.
    fn from_json(&mut self, place: &Place<'_>, f: &ast::Function) -> Result<Bound> {
        let mut args = self.arguments(place, f)?.args;
        if args.len() == 3 {
            return Err(Error::not_eligible("`from_json` with options isn't known"));
        }
        if args.len() == 2 {
            let schema = match constant(&args[1].t.expr) {
                Ok(ScalarValue::Utf8(Some(text))) => typename::of_schema(&text)?,
                _ => {
                    return Err(error::mismatch("NON_STRING_LIT", "the schema of `from_json` must be a string literal"));
                }
            };
            args[1].t = Typed::null(&schema)?;
            // Of a map, Databricks shows what it reads as.
            if matches!(schema, DataType::Map(..)) {
                let bound = self.call_bound("from_json", args, Span::empty())?;
                return Ok(Bound::new(bound.t, "entries"));
            }
        }
        self.call_bound("from_json", args, Span::empty())
    }

    /// The arguments of a call, stars expanded.
    pub fn arguments(&mut self, place: &Place<'_>, f: &ast::Function) -> Result<Arguments> {
        let (name, _) = function_name(f)?;
        let mut out = Arguments { name, args: Vec::new(), distinct: false, ignore_nulls: false, null_treatment_written: false };
        let treat = |t: &ast::NullTreatment| matches!(t, ast::NullTreatment::IgnoreNulls);
        if let Some(treatment) = &f.null_treatment {
            out.null_treatment_written = true;
            out.ignore_nulls = treat(treatment);
        }
        let list = match &f.args {
            FunctionArguments::None => return Ok(out),
            FunctionArguments::Subquery(_) => {
                return Err(Error::invalid(format!("a subquery as the argument of `{}` needs parentheses of its own", out.name)));
            }
            FunctionArguments::List(list) => list,
        };
        out.distinct = matches!(list.duplicate_treatment, Some(ast::DuplicateTreatment::Distinct));
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(t) => {
                    out.null_treatment_written = true;
                    out.ignore_nulls = treat(t);
                }
                other => return Err(Error::not_eligible(format!("`{other}` inside a call isn't part of Databricks SQL"))),
            }
        }
        let count = matches!(out.name.as_str(), "count");
        for arg in &list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if count && list.args.len() == 1 && !out.distinct => {
                    out.args.push(literal(ScalarValue::Int32(Some(1)), "1"));
                }
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => {
                    let columns = self.star_columns(place, None)?;
                    out.args.extend(columns.into_iter().map(|c| Bound::new(c.t, c.shown)));
                }
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                    let qualifier: Vec<String> = identifiers(name)?.iter().map(|p| p.value.to_lowercase()).collect();
                    if count && list.args.len() == 1 && !place.scope.of_relation(&qualifier).is_empty() {
                        return Err(error::classed(
                            "INVALID_USAGE_OF_STAR_WITH_TABLE_IDENTIFIER_IN_COUNT",
                            "42000",
                            format!("count({name}.*) is not allowed. Please use count(*) or expand the columns manually."),
                        ));
                    }
                    let columns = self.star_columns(place, Some(&ast::SelectItemQualifiedWildcardKind::ObjectName(name.clone())))?;
                    out.args.extend(columns.into_iter().map(|c| Bound::new(c.t, c.shown)));
                }
                arg => {
                    let bound = self.argument(place, arg)?;
                    out.args.push(bound);
                }
            }
        }
        Ok(out)
    }

    fn argument(&mut self, place: &Place<'_>, arg: &FunctionArg) -> Result<Bound> {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => self.expr(place, e),
            FunctionArg::Named { name, .. } => {
                Err(Error::not_eligible(format!("the named argument `{name}` isn't supported; give arguments by position")))
            }
            other => Err(Error::not_eligible(format!("the argument `{other}` isn't supported"))),
        }
    }

    fn aggregate_call(&mut self, place: &Place<'_>, f: &ast::Function, def: &'static AggregateDef) -> Result<Bound> {
        let Some(aggregates) = place.aggregates else {
            if place.clause == names::LAMBDA {
                return Err(Error::not_eligible("an aggregate function inside a lambda isn't supported"));
            }
            let (class, state) = match place.clause {
                "an aggregate function" => ("NESTED_AGGREGATE_FUNCTION", "42607"),
                "WHERE" => ("INVALID_WHERE_CONDITION", "42903"),
                "GROUP BY" => ("GROUP_BY_AGGREGATE", "42903"),
                _ => ("UNSUPPORTED_EXPR_FOR_OPERATOR", "42K0E"),
            };
            return Err(error::classed(class, state, format!("The aggregate function `{}` is not allowed in {}.", f.name, place.clause)));
        };
        let inner = place.inside_aggregate();
        let args = self.arguments(&inner, f)?;
        let (bound, mut name) = self.bind_aggregate(&inner, f, def, args, aggregates.order())?;
        let filter = match &f.filter {
            None => None,
            Some(filter) => {
                let filter = self.condition(&inner, filter)?;
                name.push_str(&format!(" FILTER (WHERE {})", filter.name));
                Some(Box::new(filter.t.expr))
            }
        };
        let parts: Vec<&Expr> =
            bound.args.iter().map(|a| &a.expr).chain(filter.as_deref()).chain(bound.order_by.iter().map(|s| &s.expr)).collect();
        if parts.iter().any(|e| e.contains_outer()) && parts.iter().any(|e| e.any_column_refs()) {
            return Err(error::classed(
                "AGGREGATE_FUNCTION_MIXED_OUTER_LOCAL_REFERENCES",
                "0A000",
                format!("The aggregate function `{name}` reads columns of its own query and of the outer one, which is not allowed."),
            ));
        }
        // What the filter leaves out never raises.
        let guarded = |a: Typed| match &filter {
            Some(filter) if lazy::may_raise(&a.expr) => lazy::case(vec![((**filter).clone(), a.expr)], None, &a.ty),
            _ => a.expr,
        };
        let params = AggregateFunctionParams {
            args: bound.args.into_iter().map(guarded).collect(),
            distinct: bound.distinct,
            filter,
            order_by: bound.order_by,
            null_treatment: bound.ignore_nulls.then_some(NullTreatment::IgnoreNulls),
        };
        let call = Expr::AggregateFunction(AggregateFunction { func: bound.udf, params });
        let column = aggregates.column(self, call);
        Ok(Bound::new(Typed::new(Expr::Column(column), bound.ret, bound.nullable), name))
    }

    /// An aggregate's arguments typed by its definition, and its text without FILTER.
    pub fn bind_aggregate(
        &mut self,
        inner: &Place<'_>,
        f: &ast::Function,
        def: &'static AggregateDef,
        args: Arguments,
        input_order: Vec<(Typed, datafusion::logical_expr::expr::Sort)>,
    ) -> Result<(BoundAggregate, String)> {
        let mut order_by = Vec::with_capacity(f.within_group.len());
        let mut order_names = Vec::with_capacity(f.within_group.len());
        for key in &f.within_group {
            let bound = self.expr(inner, &key.expr)?;
            let (asc, nulls_first) = order::direction(&key.options);
            order::check_sortable(&bound.t.ty)?;
            order_names.push(within_group_text(&args.name, &bound.name, key, asc, nulls_first));
            order_by.push((bound.t.clone(), datafusion::logical_expr::expr::Sort { expr: bound.t.expr, asc, nulls_first }));
        }
        let name = names::aggregate_call(&args, &order_names);
        let within_group = !order_by.is_empty();
        if !within_group && !args.distinct && matches!(def.name, "collect_list" | "listagg") {
            order_by = input_order;
        }
        let call = AggregateCall { args: args.typed(), distinct: args.distinct, within_group, order_by, ignore_nulls: args.ignore_nulls };
        Ok(((def.bind)(&self.ctx, call)?, name))
    }

    /// `.field` of a struct, or of each struct of an array; `.key` of a map.
    pub fn field(&mut self, base: Bound, field: &Ident) -> Result<Bound> {
        let name = format!("{}.{}", base.name, field.value);
        match base.t.ty.clone() {
            DataType::Struct(fields) => {
                let matching: Vec<&Arc<arrow::datatypes::Field>> =
                    fields.iter().filter(|f| f.name().eq_ignore_ascii_case(&field.value)).collect();
                match matching.as_slice() {
                    [only] => {
                        let exact = Typed::literal(ScalarValue::Utf8(Some(only.name().clone())));
                        Ok(Bound::new(self.function("get_field", vec![base.t, exact])?, name))
                    }
                    [] => {
                        let known: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
                        Err(error::classed(
                            "FIELD_NOT_FOUND",
                            "42704",
                            format!("No such struct field `{}` in {}{}.", field.value, known.join(", "), error::place(field.span)),
                        ))
                    }
                    _ => Err(error::classed(
                        "AMBIGUOUS_REFERENCE_TO_FIELDS",
                        "42000",
                        format!("Ambiguous reference to the field `{}`.", field.value),
                    )),
                }
            }
            DataType::Map(..) => {
                let key = literal(ScalarValue::Utf8(Some(field.value.clone())), field.value.clone());
                self.subscript(base, key)
            }
            // That field of each element.
            DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => {
                let parameter = Expr::Column(lambda::parameter_column(0));
                let element = Typed::new(parameter, item.data_type().clone(), item.is_nullable());
                let body = self.field(Bound::new(element, ""), field)?.t;
                let parameters = vec![(item.data_type().clone(), item.is_nullable())];
                let lambda = Lambda { parameters, body: body.expr, ty: body.ty, nullable: body.nullable };
                let Some(FunctionDef::Higher(transform)) = lookup("transform") else {
                    return Err(Error::internal("`transform` isn't in the table"));
                };
                Ok(Bound::new(transform.call(&self.ctx, vec![base.t], Vec::new(), vec![lambda])?, name))
            }
            ty => Err(error::classed(
                "INVALID_EXTRACT_BASE_FIELD_TYPE",
                "42000",
                format!(
                    "Can't extract a value from \"{}\"{}: need a complex type [STRUCT, ARRAY, MAP] but got {}.",
                    base.name,
                    error::place(field.span),
                    flightpath_functions::types::sql_name(&ty)
                ),
            )),
        }
    }

    /// `base[index]`.
    pub fn subscript(&mut self, base: Bound, index: Bound) -> Result<Bound> {
        if let (DataType::Struct(_), Some(ScalarValue::Utf8(Some(field)))) = (&base.t.ty, index.t.as_literal()) {
            let ident = Ident::new(field.clone());
            return self.field(base, &ident);
        }
        let name = format!("{}[{}]", base.name, index.name);
        Ok(Bound::new(self.function("subscript", vec![base.t, index.t])?, name))
    }

    /// `(a, b)`: a struct, shown with its fields' names.
    pub fn tuple(&mut self, place: &Place<'_>, values: &[ast::Expr]) -> Result<Bound> {
        let bound = self.structure(place, values)?;
        let DataType::Struct(fields) = &bound.t.ty else { return Ok(bound) };
        let mut parts = Vec::with_capacity(values.len());
        for (value, field) in values.iter().zip(fields) {
            parts.push(format!("{}, {}", field.name(), self.expr(place, value)?.name));
        }
        Ok(Bound::new(bound.t, format!("named_struct({})", parts.join(", "))))
    }

    /// `struct(a, b AS c)` and `(a, b)`.
    pub fn structure(&mut self, place: &Place<'_>, values: &[ast::Expr]) -> Result<Bound> {
        let mut args = Vec::with_capacity(values.len() * 2);
        let mut texts = Vec::with_capacity(values.len());
        for (i, value) in values.iter().enumerate() {
            let (field, bound, text) = match value {
                ast::Expr::Named { expr, name } => {
                    let bound = self.expr(place, expr)?;
                    let text = format!("{} AS {}", bound.name, name.value);
                    (name.value.clone(), bound, text)
                }
                e => {
                    let bound = self.expr(place, e)?;
                    let text = bound.name.clone();
                    (field_name(e, i), bound, text)
                }
            };
            args.push(Typed::literal(ScalarValue::Utf8(Some(field))));
            args.push(bound.t);
            texts.push(text);
        }
        Ok(Bound::new(self.function("named_struct", args)?, format!("struct({})", texts.join(", "))))
    }

    /// `struct(*)`.
    fn structure_of_columns(&mut self, columns: Vec<Starred>) -> Result<Bound> {
        let text: Vec<String> = columns.iter().map(|c| c.shown.clone()).collect();
        let args = columns.into_iter().flat_map(|c| [Typed::literal(ScalarValue::Utf8(Some(c.name.to_string()))), c.t]).collect();
        Ok(Bound::new(self.function("named_struct", args)?, format!("struct({})", text.join(", "))))
    }

    pub fn extract(&mut self, place: &Place<'_>, field: &str, x: &ast::Expr) -> Result<Bound> {
        let x = self.expr(place, x)?;
        let field = field.trim_matches('\'').to_string();
        let name = format!("extract({field} FROM {})", x.name);
        let t = self.function("date_part", vec![Typed::literal(ScalarValue::Utf8(Some(field))), x.t])?;
        Ok(Bound::new(t, name))
    }

    pub fn trim(
        &mut self,
        place: &Place<'_>,
        side: Option<&ast::TrimWhereField>,
        what: Option<&ast::Expr>,
        x: &ast::Expr,
        characters: Option<&[ast::Expr]>,
    ) -> Result<Bound> {
        let x = self.expr(place, x)?;
        let what = match (what, characters) {
            (Some(what), None) => Some(self.expr(place, what)?),
            (None, None) => None,
            _ => return Err(Error::not_eligible("TRIM(x, characters) isn't part of Databricks SQL; use btrim")),
        };
        let (word, function) = match side {
            None | Some(ast::TrimWhereField::Both) => ("BOTH", "btrim"),
            Some(ast::TrimWhereField::Leading) => ("LEADING", "ltrim"),
            Some(ast::TrimWhereField::Trailing) => ("TRAILING", "rtrim"),
        };
        let Some(what) = what else {
            let plain = match (side, function) {
                (None, _) | (_, "btrim") => "trim",
                (_, f) => f,
            };
            let name = format!("{plain}({})", x.name);
            return Ok(Bound::new(self.function(plain, vec![x.t])?, name));
        };
        let name = format!("TRIM({word} {} FROM {})", what.name, x.name);
        // `ltrim(what, x)`, but `btrim(x, what)`.
        let args = if function == "btrim" { vec![x.t, what.t] } else { vec![what.t, x.t] };
        Ok(Bound::new(self.function(function, args)?, name))
    }
}

/// A struct field's name when none is given: a column's own.
pub(super) fn field_name(e: &ast::Expr, i: usize) -> String {
    match e {
        ast::Expr::Identifier(ident) => ident.value.clone(),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map_or_else(|| format!("col{}", i + 1), |p| p.value.clone()),
        _ => format!("col{}", i + 1),
    }
}

fn within_group_text(function: &str, key: &str, written: &ast::OrderByExpr, asc: bool, nulls_first: bool) -> String {
    match function {
        "percentile_cont" | "percentile_disc" | "mode" => {
            if asc {
                key.to_string()
            } else {
                format!("{key} DESC")
            }
        }
        _ => {
            let _ = written;
            format!("{key} {} NULLS {}", if asc { "ASC" } else { "DESC" }, if nulls_first { "FIRST" } else { "LAST" })
        }
    }
}

/// A function's name in lower case. Qualified names are those of user-defined functions.
pub(super) fn function_name(f: &ast::Function) -> Result<(String, Span)> {
    let parts = identifiers(&f.name)?;
    match parts.as_slice() {
        [only] => Ok((only.value.to_lowercase(), only.span)),
        _ => Err(Error::not_eligible(format!("user-defined functions (`{}`) aren't supported", f.name))),
    }
}

/// What isn't in the function table isn't guessed.
fn unknown(name: &str, span: Span) -> Error {
    let near = nearest(name);
    let hint = if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(", ")) };
    Error::classed(
        flightpath_types::ErrorKind::NotEligible,
        "UNRESOLVED_ROUTINE",
        "42883",
        format!("not eligible: function `{name}` isn't known here{}.{hint}", error::place(span)),
    )
}
