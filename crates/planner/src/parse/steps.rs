//! Steps of pipe syntax that sqlparser has no operator for, as calls under names that nobody writes.

use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart};

pub(crate) const OFFSET: &str = "\u{1}offset";
pub(crate) const DISTINCT: &str = "\u{1}distinct";
pub(crate) const EXCEPT_ALL: &str = "\u{1}except all";
pub(crate) const INTERSECT_ALL: &str = "\u{1}intersect all";

/// The step that a call stands for, and its argument.
pub(crate) fn own_step(call: &Function) -> Option<(&'static str, Option<&Expr>)> {
    let [ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return None };
    let step = [OFFSET, DISTINCT, EXCEPT_ALL, INTERSECT_ALL].into_iter().find(|step| *step == name.value)?;
    let FunctionArguments::List(list) = &call.args else { return None };
    match list.args.as_slice() {
        [] => Some((step, None)),
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => Some((step, Some(argument))),
        _ => None,
    }
}
