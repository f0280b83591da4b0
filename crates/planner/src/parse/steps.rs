//! Steps of pipe syntax that sqlparser has no operator for, as calls under names that nobody writes.

use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart};

/// Around an expression in PIVOT's list.
pub(crate) const PIVOTED: &str = "\u{1}pivoted";
pub(crate) const OFFSET: &str = "\u{1}offset";
pub(crate) const DISTINCT: &str = "\u{1}distinct";
pub(crate) const EXCEPT_ALL: &str = "\u{1}except all";
pub(crate) const INTERSECT_ALL: &str = "\u{1}intersect all";

/// The expression that a call in PIVOT's list stands for.
pub(crate) fn pivoted(call: &Expr) -> &Expr {
    let Expr::Function(f) = call else { return call };
    match (f.name.0.as_slice(), &f.args) {
        ([ObjectNamePart::Identifier(name)], FunctionArguments::List(list)) if name.value == PIVOTED => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))] => e,
            _ => call,
        },
        _ => call,
    }
}

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
