//! One SELECT under construction. Plan nodes fill its clauses from the bottom up; a node that
//! doesn't fit the clauses already filled makes a derived table of it and starts a new one.

use std::rc::Rc;

/// What SQL evaluates in this order; a node may only add a clause behind those that are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    From,
    Where,
    Aggregated,
    Windowed,
    Distinct,
    Ordered,
    Limited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellKind {
    /// A plain reference `relation.column`: may be repeated anywhere.
    Column,
    /// A constant: may be repeated, but not as a key of GROUP BY or ORDER BY, where a number is an ordinal.
    Literal,
    /// Anything else: may be printed once, in a select list.
    Computed,
    /// Left out of a derived table because nothing refers to it.
    Absent,
}

/// One output column: its text in the SELECT's own scope.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub text: String,
    pub kind: CellKind,
}

impl Cell {
    pub fn column(text: String) -> Self {
        Self { text, kind: CellKind::Column }
    }

    pub fn absent() -> Self {
        Self { text: String::new(), kind: CellKind::Absent }
    }
}

/// What stands behind FROM.
#[derive(Debug, Clone)]
pub(crate) struct FromItem {
    pub text: String,
    /// More than one relation: needs parentheses on the right of a join.
    pub joined: bool,
    /// For one derived table, its alias, text and column count: `SELECT t.c0, t.c1 FROM (q) AS t` is `q`.
    pub derived: Option<Derived>,
}

#[derive(Debug, Clone)]
pub(crate) struct Derived {
    pub alias: String,
    pub sql: String,
    pub columns: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct SortKey {
    pub text: String,
    /// ` ASC NULLS FIRST` and so on.
    pub direction: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub stage: Stage,
    pub from: Option<FromItem>,
    pub cells: Rc<Vec<Cell>>,
    pub filters: Vec<String>,
    /// Text behind GROUP BY.
    pub group: Option<String>,
    pub distinct: bool,
    pub order: Vec<SortKey>,
    pub limit: Option<u64>,
    pub offset: u64,
}

impl Block {
    pub fn new(from: Option<FromItem>, cells: Vec<Cell>) -> Self {
        Self {
            stage: Stage::From,
            from,
            cells: Rc::new(cells),
            filters: Vec::new(),
            group: None,
            distinct: false,
            order: Vec::new(),
            limit: None,
            offset: 0,
        }
    }

    /// One derived table over `sql`, whose columns are `c0..`.
    pub fn over(sql: String, alias: String, columns: usize) -> Self {
        let cells = (0..columns).map(|i| Cell::column(format!("{alias}.c{i}"))).collect();
        let text = format!("({sql}) AS {alias}");
        let derived = Some(Derived { alias, sql, columns });
        Self::new(Some(FromItem { text, joined: false, derived }), cells)
    }

    pub fn has_only_columns(&self) -> bool {
        self.cells.iter().all(|c| matches!(c.kind, CellKind::Column | CellKind::Absent))
    }

    pub fn has_computed(&self) -> bool {
        self.cells.iter().any(|c| c.kind == CellKind::Computed)
    }

    /// The SELECT's text; its columns are `c0..` in the order of `cells`, then `k0..` for the sort
    /// keys when `expose_keys` is set.
    pub fn render(&self, expose_keys: bool) -> String {
        if let Some(sql) = self.as_derived_text()
            && (!expose_keys || self.order.is_empty())
        {
            return sql;
        }
        let mut sql = String::with_capacity(256);
        sql.push_str(if self.distinct { "SELECT DISTINCT " } else { "SELECT " });
        let mut first = true;
        for (i, cell) in self.cells.iter().enumerate() {
            if cell.kind == CellKind::Absent {
                continue;
            }
            push_separator(&mut sql, &mut first, ", ");
            sql.push_str(&cell.text);
            sql.push_str(&format!(" AS c{i}"));
        }
        if expose_keys {
            for (i, key) in self.order.iter().enumerate() {
                push_separator(&mut sql, &mut first, ", ");
                sql.push_str(&format!("{} AS k{i}", key.text));
            }
        }
        if first {
            // A relation without columns still has rows.
            sql.push_str("1 AS c0");
        }
        if let Some(from) = &self.from {
            sql.push_str(" FROM ");
            sql.push_str(&from.text);
        }
        if !self.filters.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&self.filters.join(" AND "));
        }
        if let Some(group) = &self.group {
            sql.push_str(" GROUP BY ");
            sql.push_str(group);
        }
        if !self.order.is_empty() {
            sql.push_str(" ORDER BY ");
            let keys: Vec<String> = self.order.iter().map(|k| format!("{}{}", k.text, k.direction)).collect();
            sql.push_str(&keys.join(", "));
        }
        if let Some(limit) = self.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        if self.offset > 0 {
            sql.push_str(&format!(" OFFSET {}", self.offset));
        }
        sql
    }

    /// The inner text, when this SELECT only repeats one derived table.
    fn as_derived_text(&self) -> Option<String> {
        let derived = self.from.as_ref()?.derived.as_ref()?;
        let plain = self.stage == Stage::From && self.cells.len() == derived.columns;
        let repeats = plain && self.cells.iter().enumerate().all(|(i, c)| c.text == format!("{}.c{i}", derived.alias));
        repeats.then(|| derived.sql.clone())
    }
}

fn push_separator(sql: &mut String, first: &mut bool, separator: &str) {
    if !*first {
        sql.push_str(separator);
    }
    *first = false;
}
