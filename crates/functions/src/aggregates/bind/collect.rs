//! `collect_list`, `collect_set` and `listagg`: a group's values in one array or text.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Sort;
use flightpath_types::{Error, ErrorKind, Result};

use super::{no_ignore_nulls, own, plain, unexpected, wrong_arity};
use crate::aggregates::collected::{self, Collect, Key};
use crate::aggregates::udaf::Kind;
use crate::cast::implicit_cast;
use crate::def::{AggregateCall, BindContext, BoundAggregate, Typed};
use crate::ops::{canonical_float, comparable_float};
use crate::types;

pub(in crate::aggregates) fn list(
    mut call: AggregateCall,
    name: &'static str,
    distinct: bool,
    canonical: Option<&BindContext>,
) -> Result<BoundAggregate> {
    no_ignore_nulls(name, &call)?;
    // Of an input that is sorted: its keys.
    let order = match distinct || call.distinct || call.within_group {
        true => Vec::new(),
        false => std::mem::take(&mut call.order_by),
    };
    let [arg] = plain(name, &mut call)?;
    if distinct && types::holds_map(&arg.ty) {
        return Err(types::mismatch(
            "UNSUPPORTED_INPUT_TYPE",
            format!("`{name}` doesn't take values of the type {}", types::sql_name(&arg.ty)),
        ));
    }
    let arg = match canonical {
        Some(ctx) => canonical_float(ctx, arg),
        None => arg,
    };
    let ret = collected::list_type(&arg.ty);
    let (keys, mut args) = ordered(order);
    args.insert(0, arg);
    let mut made = own(name, Kind::Collected(Collect::List { distinct, keys }), args, &call, ret, false);
    made.distinct &= !distinct;
    Ok(made)
}

/// `listagg(x [, separator]) [WITHIN GROUP (ORDER BY ...)]`. Its keys become arguments, each
/// followed by its direction, so that both engines see them.
pub(in crate::aggregates) fn listagg(ctx: &BindContext, mut call: AggregateCall) -> Result<BoundAggregate> {
    no_ignore_nulls("listagg", &call)?;
    let mut args = std::mem::take(&mut call.args).into_iter();
    let got = args.len();
    let (Some(text), separator, None) = (args.next(), args.next(), args.next()) else { return Err(wrong_arity("listagg", "[1, 2]", got)) };
    let separator = match separator.as_ref().map(|s| (s.as_literal(), &s.ty)) {
        None => String::new(),
        Some((Some(value), ty)) if types::is_numeric(ty) && !value.is_null() => {
            match crate::cast::cast_literal(value, &DataType::Utf8, &ctx.time_zone) {
                Some(ScalarValue::Utf8(Some(s))) => s,
                _ => return Err(unexpected("listagg", 2, "a foldable \"STRING\"", ty)),
            }
        }
        Some((Some(ScalarValue::Utf8(Some(s))), _)) => s.clone(),
        Some((Some(value), _)) if value.is_null() => String::new(),
        Some((_, ty)) => return Err(unexpected("listagg", 2, "a foldable \"STRING\"", ty)),
    };
    if text.ty == DataType::Binary {
        return Err(Error::not_eligible("listagg of BINARY isn't known"));
    }
    let order = std::mem::take(&mut call.order_by);
    if call.distinct && order.iter().any(|(key, _)| key.expr != text.expr) {
        return Err(Error::classed(
            ErrorKind::InvalidArgument,
            "INVALID_WITHIN_GROUP_EXPRESSION.MISMATCH_WITH_DISTINCT_INPUT",
            "42K0K",
            "listagg(DISTINCT x) can be ordered by x only",
        ));
    }
    if !types::can_implicitly_cast(&text.ty, &DataType::Utf8) {
        return Err(unexpected("listagg", 1, "\"STRING\"", &text.ty));
    }
    let text = implicit_cast(ctx, text, &DataType::Utf8)?;
    let order = order.into_iter().map(|(key, sort)| (comparable_float(ctx, key), sort)).collect();
    let (keys, by) = ordered(order);
    let mut args = vec![text, Typed::literal(ScalarValue::Utf8(Some(separator.clone())))];
    args.extend(by);
    Ok(own("listagg", Kind::Collected(Collect::Text { separator, keys }), args, &call, DataType::Utf8, true))
}

/// Keys as arguments, and then the direction of each, so that both engines see them.
fn ordered(order: Vec<(Typed, Sort)>) -> (Vec<Key>, Vec<Typed>) {
    let keys: Vec<Key> = order.iter().map(|(_, sort)| Key { descending: !sort.asc, nulls_first: sort.nulls_first }).collect();
    let direction = keys.iter().map(|k| {
        let text = format!("{} NULLS {}", if k.descending { "DESC" } else { "ASC" }, if k.nulls_first { "FIRST" } else { "LAST" });
        Typed::literal(ScalarValue::Utf8(Some(text)))
    });
    let args = order.iter().map(|(key, _)| key.clone()).chain(direction).collect();
    (keys, args)
}
