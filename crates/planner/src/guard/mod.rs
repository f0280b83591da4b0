//! The gate in front of the binder: an exhaustive match over every node and field that can occur
//! under a query. A field that isn't understood refuses the statement, so that nothing is ever
//! planned as if it weren't there. No `..` and no wildcard arm over syntax nodes: a new version of the
//! parser must force a decision here.

mod expr;
mod relation;

#[cfg(test)]
mod tests;

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Cte, CteAsMaterialized, Distinct, ExprWithAliasAndOrderBy, GroupByExpr, GroupByWithModifier, Ident,
    LateralView, LimitClause, NamedWindowDefinition, NamedWindowExpr, Offset, OffsetRows, OrderBy, OrderByExpr, OrderByKind,
    OrderByOptions, Parens, PipeOperator, Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement,
    TableAlias, TableAliasColumnDef, Values, WildcardAdditionalOptions, With,
};
use flightpath_types::{Error, ErrorKind, Result};

use expr::check_expr;

/// Checks a whole query.
pub(crate) fn check_query(query: &Query) -> Result<()> {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } = query;
    if let Some(With { with_token: _, recursive: _, cte_tables }) = with {
        cte_tables.iter().try_for_each(check_cte)?;
    }
    check_body(body)?;
    if let Some(order_by) = order_by {
        check_order_by(order_by)?;
    }
    if let Some(limit) = limit_clause {
        check_limit(limit)?;
    }
    none(fetch.as_ref(), "FETCH; use LIMIT")?;
    empty(locks, "FOR UPDATE and FOR SHARE")?;
    none(for_clause.as_ref(), "FOR XML, FOR JSON and FOR BROWSE")?;
    none(settings.as_ref(), "SETTINGS")?;
    none(format_clause.as_ref(), "FORMAT")?;
    pipe_operators.iter().try_for_each(check_pipe)
}

/// Why a statement that isn't a query is refused.
pub(crate) fn refuse_statement(statement: &Statement) -> Error {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    Error::not_eligible(format!("flightpath is read-only and answers queries: `{} ...` isn't one", words.join(" ")))
}

/// A clause that Databricks doesn't have, or that isn't supported.
fn refuse(clause: &str) -> Error {
    Error::not_eligible(format!("{clause} isn't supported"))
}

fn none<T>(value: Option<&T>, clause: &str) -> Result<()> {
    if value.is_some() { Err(refuse(clause)) } else { Ok(()) }
}

fn empty<T>(values: &[T], clause: &str) -> Result<()> {
    if values.is_empty() { Ok(()) } else { Err(refuse(clause)) }
}

fn not(flag: bool, clause: &str) -> Result<()> {
    if flag { Err(refuse(clause)) } else { Ok(()) }
}

fn check_cte(cte: &Cte) -> Result<()> {
    let Cte { alias, query, from, materialized, closing_paren_token: _ } = cte;
    check_alias(alias)?;
    none(from.as_ref(), "FROM behind a common table expression")?;
    // Only how it is computed, never what.
    match materialized {
        None | Some(CteAsMaterialized::Materialized | CteAsMaterialized::NotMaterialized) => {}
    }
    check_query(query)
}

fn check_body(body: &SetExpr) -> Result<()> {
    match body {
        SetExpr::Select(select) => check_select(select),
        SetExpr::Query(query) => check_query(query),
        SetExpr::SetOperation { left, op: _, set_quantifier: _, right } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Values(Values { explicit_row, value_keyword, rows }) => {
            not(*explicit_row, "VALUES ROW(...)")?;
            not(*value_keyword, "VALUE; use VALUES")?;
            rows.iter().try_for_each(|Parens { opening_token: _, content, closing_token: _ }| content.iter().try_for_each(check_expr))
        }
        SetExpr::Table(_) => Ok(()),
        SetExpr::Insert(statement) | SetExpr::Update(statement) | SetExpr::Delete(statement) | SetExpr::Merge(statement) => {
            Err(refuse_statement(statement))
        }
    }
}

fn check_select(select: &Select) -> Result<()> {
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    match distinct {
        None | Some(Distinct::All | Distinct::Distinct) => {}
        Some(Distinct::On(_)) => return Err(refuse("DISTINCT ON")),
    }
    none(select_modifiers.as_ref(), "a SELECT modifier")?;
    none(top.as_ref(), "TOP; use LIMIT")?;
    projection.iter().try_for_each(check_select_item)?;
    none(exclude.as_ref(), "EXCLUDE; use EXCEPT")?;
    none(into.as_ref(), "SELECT INTO")?;
    from.iter().try_for_each(relation::check_joins)?;
    lateral_views.iter().try_for_each(check_lateral_view)?;
    none(prewhere.as_ref(), "PREWHERE")?;
    selection.iter().try_for_each(check_expr)?;
    empty(connect_by, "CONNECT BY")?;
    check_group_by(group_by)?;
    cluster_by.iter().try_for_each(check_expr)?;
    // Which rows meet where changes no answer.
    distribute_by.iter().try_for_each(check_expr)?;
    sort_by.iter().try_for_each(check_order_by_expr)?;
    having.iter().try_for_each(check_expr)?;
    named_window.iter().try_for_each(check_named_window)?;
    qualify.iter().try_for_each(check_expr)?;
    none(value_table_mode.as_ref(), "SELECT AS STRUCT and AS VALUE")?;
    match flavor {
        SelectFlavor::Standard | SelectFlavor::FromFirst | SelectFlavor::FromFirstNoSelect => Ok(()),
    }
}

fn check_select_item(item: &SelectItem) -> Result<()> {
    match item {
        SelectItem::UnnamedExpr(e) => check_expr(e),
        SelectItem::ExprWithAlias { expr, alias } => {
            check_name(alias)?;
            check_expr(expr)
        }
        SelectItem::ExprWithAliases { expr, aliases } => {
            aliases.iter().try_for_each(check_name)?;
            check_expr(expr)
        }
        SelectItem::QualifiedWildcard(kind, options) => {
            match kind {
                SelectItemQualifiedWildcardKind::ObjectName(name) => relation::check_object_name(name)?,
                SelectItemQualifiedWildcardKind::Expr(e) => check_expr(e)?,
            }
            check_wildcard(options)
        }
        SelectItem::Wildcard(options) => check_wildcard(options),
    }
}

fn check_wildcard(options: &WildcardAdditionalOptions) -> Result<()> {
    let WildcardAdditionalOptions { wildcard_token: _, opt_ilike, opt_exclude, opt_except: _, opt_replace, opt_rename, opt_alias } =
        options;
    none(opt_ilike.as_ref(), "* ILIKE")?;
    none(opt_exclude.as_ref(), "* EXCLUDE; use EXCEPT")?;
    none(opt_replace.as_ref(), "* REPLACE")?;
    none(opt_rename.as_ref(), "* RENAME")?;
    none(opt_alias.as_ref(), "an alias for *")
}

/// A quoted string isn't a name.
fn check_name(name: &Ident) -> Result<()> {
    let Ident { value: _, quote_style, span } = name;
    match quote_style {
        None | Some('`') => Ok(()),
        Some(_) => Err(crate::parse::syntax_error("a name can't be a string literal; use backticks", span.start)),
    }
}

fn check_alias(alias: &TableAlias) -> Result<()> {
    let TableAlias { explicit: _, name, columns, at } = alias;
    check_name(name)?;
    none(at.as_ref(), "AT in an alias")?;
    columns.iter().try_for_each(|TableAliasColumnDef { name, data_type }| {
        none(data_type.as_ref(), "a type in a column alias")?;
        check_name(name)
    })
}

fn check_lateral_view(view: &LateralView) -> Result<()> {
    let LateralView { lateral_view, lateral_view_name, lateral_col_alias, outer: _ } = view;
    lateral_col_alias.iter().try_for_each(check_name)?;
    relation::check_object_name(lateral_view_name)?;
    check_expr(lateral_view)
}

fn check_group_by(group_by: &GroupByExpr) -> Result<()> {
    let (exprs, modifiers) = match group_by {
        GroupByExpr::All(modifiers) => (None, modifiers),
        GroupByExpr::Expressions(exprs, modifiers) => (Some(exprs), modifiers),
    };
    for modifier in modifiers {
        match modifier {
            GroupByWithModifier::Rollup | GroupByWithModifier::Cube => {}
            GroupByWithModifier::GroupingSets(e) => check_expr(e)?,
            GroupByWithModifier::Totals => return Err(refuse("WITH TOTALS")),
        }
    }
    exprs.into_iter().flatten().try_for_each(check_expr)
}

fn check_named_window(window: &NamedWindowDefinition) -> Result<()> {
    let NamedWindowDefinition(_, definition) = window;
    match definition {
        NamedWindowExpr::NamedWindow(_) => Ok(()),
        NamedWindowExpr::WindowSpec(spec) => expr::check_window_spec(spec),
    }
}

fn check_order_by(order_by: &OrderBy) -> Result<()> {
    let OrderBy { kind, interpolate } = order_by;
    none(interpolate.as_ref(), "INTERPOLATE")?;
    match kind {
        OrderByKind::All(OrderByOptions { asc: _, nulls_first: _ }) => Ok(()),
        OrderByKind::Expressions(exprs) => exprs.iter().try_for_each(check_order_by_expr),
    }
}

fn check_order_by_expr(key: &OrderByExpr) -> Result<()> {
    let OrderByExpr { expr, options: OrderByOptions { asc: _, nulls_first: _ }, with_fill } = key;
    none(with_fill.as_ref(), "WITH FILL")?;
    check_expr(expr)
}

fn check_limit(limit: &LimitClause) -> Result<()> {
    match limit {
        LimitClause::LimitOffset { limit, offset, limit_by } => {
            empty(limit_by, "LIMIT BY")?;
            limit.iter().try_for_each(check_expr)?;
            match offset {
                None => Ok(()),
                Some(Offset { value, rows }) => match rows {
                    OffsetRows::None => check_expr(value),
                    OffsetRows::Row | OffsetRows::Rows => Err(refuse("OFFSET ... ROWS")),
                },
            }
        }
        LimitClause::OffsetCommaLimit { offset: _, limit: _ } => Err(refuse("LIMIT a, b; use LIMIT ... OFFSET")),
    }
}

fn check_pipe(pipe: &PipeOperator) -> Result<()> {
    match pipe {
        PipeOperator::Limit { expr, offset } => {
            offset.iter().try_for_each(check_expr)?;
            check_expr(expr)
        }
        PipeOperator::Where { expr } => check_expr(expr),
        PipeOperator::OrderBy { exprs } => exprs.iter().try_for_each(check_order_by_expr),
        PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => exprs.iter().try_for_each(check_select_item),
        PipeOperator::As { alias } => check_name(alias),
        PipeOperator::Drop { columns } => columns.iter().try_for_each(check_name),
        PipeOperator::Set { assignments } => assignments.iter().try_for_each(|Assignment { target, value }| {
            match target {
                AssignmentTarget::ColumnName(name) => relation::check_object_name(name)?,
                AssignmentTarget::Tuple(_) => return Err(refuse("|> SET of several columns at once")),
            }
            check_expr(value)
        }),
        PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
            full_table_exprs.iter().chain(group_by_expr).try_for_each(|ExprWithAliasAndOrderBy { expr, order_by }| {
                let OrderByOptions { asc, nulls_first } = order_by;
                not(asc.is_some() || nulls_first.is_some(), "an order in |> AGGREGATE")?;
                relation::check_named(expr)
            })
        }
        PipeOperator::TableSample { sample: _ } => Err(refuse("|> TABLESAMPLE")),
        PipeOperator::Rename { mappings: _ } => Err(refuse("|> RENAME")),
        PipeOperator::Union { set_quantifier: _, queries }
        | PipeOperator::Intersect { set_quantifier: _, queries }
        | PipeOperator::Except { set_quantifier: _, queries } => queries.iter().try_for_each(check_query),
        PipeOperator::Call { function, alias } => match crate::parse::steps::own_step(function) {
            Some((_, argument)) if alias.is_none() => argument.into_iter().try_for_each(check_expr),
            _ => Err(refuse("|> CALL")),
        },
        PipeOperator::Pivot { aggregate_functions, value_column, value_source, alias } => {
            alias.iter().chain(value_column).try_for_each(check_name)?;
            relation::check_pivot(aggregate_functions, value_source)
        }
        PipeOperator::Unpivot { value_column, name_column, unpivot_columns, alias } => {
            [value_column, name_column].into_iter().chain(unpivot_columns).chain(alias).try_for_each(check_name)
        }
        PipeOperator::Join(join) => relation::check_join_of(join),
    }
}

/// A relation that names storage itself would read past the catalog and its rules.
fn forbidden_path(what: &str) -> Error {
    Error::new(
        ErrorKind::PermissionDenied,
        format!("not eligible: {what} reads files directly, past the catalog's permissions; query a table of the catalog instead"),
    )
}
