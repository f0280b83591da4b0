//! How many rows and distinct values a node of the plan is expected to give, from the bounds that files'
//! statistics tell: no value is looked at. Rough on purpose, as everything that rests on independence of columns
//! and even spread is; the router learns what such numbers are worth.

use std::collections::{BTreeMap, HashMap, HashSet};

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, JoinType, ScalarValue, TableReference};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, split_conjunction};
use datafusion::logical_expr::{Aggregate, Between, Expr, GroupingSet, Join, Operator};
use flightpath_catalog::DataFile;
use flightpath_plan::{ScanBinding, ScanId};

/// Share of rows that a filter leaves where bounds don't tell, by its kind.
const EQUALITY_SHARE: f64 = 0.1;
const RANGE_SHARE: f64 = 0.4;
const NULL_SHARE: f64 = 0.05;
/// Groups and distinct rows per row, where not even the table is known that their keys come from.
const GROUP_SHARE: f64 = 0.1;
/// A search that finds nothing isn't foreseen: of rows that aren't there nothing can be learned.
const LEAST_SHARE: f64 = 1e-9;
/// Files whose bounds are looked at, evenly over the table: enough for its bounds, and no table is so large that
/// planning waits.
const FILES_LOOKED_AT: usize = 16;
/// And for the values of a partition column, which stand there whole.
const PARTITIONS_LOOKED_AT: usize = 1_000;
/// Texts of one length, and at least of this one, that hold digits are ids: few rows share one.
const ID_CHARS_MIN: usize = 16;
const MICROS_PER_DAY: f64 = 86_400e6;
/// Parts of dates and times that can't have more values than this.
const PARTS: [(&str, f64); 10] = [
    ("month", 12.0),
    ("quarter", 4.0),
    ("day", 31.0),
    ("dayofmonth", 31.0),
    ("dayofweek", 7.0),
    ("weekday", 7.0),
    ("hour", 24.0),
    ("minute", 60.0),
    ("second", 60.0),
    ("weekofyear", 53.0),
];
/// What dates and times are cut to, in days.
const UNITS: [(&str, f64); 9] = [
    ("year", 365.25),
    ("quarter", 365.25 / 4.0),
    ("month", 365.25 / 12.0),
    ("week", 7.0),
    ("day", 1.0),
    ("dd", 1.0),
    ("hour", 1.0 / 24.0),
    ("minute", 1.0 / 1_440.0),
    ("second", 1.0 / 86_400.0),
];

/// What is expected of a node's output.
#[derive(Debug, Clone, Default)]
pub(crate) struct Estimate {
    /// `None` where it can't be told.
    pub rows: Option<f64>,
    /// Parallel to the node's schema; shorter where the rest isn't known.
    pub columns: Vec<ColumnEstimate>,
}

/// What is expected of a column.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ColumnEstimate {
    /// Distinct values of its table's column, or of those that a filter on it leaves, where bounds tell.
    pub domain: Option<f64>,
    /// Least and greatest value, where it's a number, a date or an instant.
    pub bounds: Option<Bounds>,
    /// There's room for more values between the bounds than the table has rows: which of them it has isn't known.
    pub sparse: bool,
    pub origin: Option<Origin>,
}

/// Where a column comes from: columns of one table have no more distinct combinations than it has rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Origin {
    scan: ScanId,
    rows: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    low: f64,
    high: f64,
    unit: Unit,
}

/// Values of different units can't be compared as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Number,
    Days,
    Micros,
}

impl Estimate {
    /// So many rows, of which nothing more is known.
    pub fn of_rows(rows: Option<f64>) -> Self {
        Self { rows, columns: Vec::new() }
    }

    pub fn with_rows(self, rows: Option<f64>) -> Self {
        Self { rows, ..self }
    }
}

/// How many different values come out of drawing so many times among so many (Cardenas, 1975).
fn drawn(distinct: f64, rows: f64) -> f64 {
    let distinct = distinct.max(1.0);
    (distinct * -(-rows / distinct).exp_m1()).min(rows).max(rows.min(1.0))
}

/// A table's files, before any filter.
pub(crate) fn scan(scan: ScanId, binding: &ScanBinding, rows: Option<f64>, schema: &DFSchema) -> Estimate {
    let Some(rows) = rows else { return Estimate::default() };
    let files = &binding.files;
    let step = files.len().div_ceil(FILES_LOOKED_AT).max(1);
    let looked_at: Vec<&DataFile> = files.iter().step_by(step).chain(files.last()).map(|file| file.as_ref()).collect();
    let names = binding.snapshot.schema.fields().iter().enumerate();
    let indices: HashMap<&str, usize> = names.map(|(index, field)| (field.name().as_str(), index)).collect();
    let columns = schema.fields().iter().map(|field| {
        let known = indices.get(field.name().as_str()).copied();
        let bounds = known.and_then(|index| bounds(binding, index, &looked_at));
        let domain = known.and_then(|index| partitions(binding, index)).or_else(|| match field.data_type() {
            DataType::Boolean => Some(2.0),
            ty => bounds
                .and_then(|bounds| values_between(ty, &bounds))
                .or_else(|| known.and_then(|index| letters(&looked_at, index)))
                .or_else(|| known.filter(|index| are_ids(&looked_at, *index)).map(|_| rows)),
        });
        ColumnEstimate {
            domain: domain.map(|distinct| distinct.min(rows)),
            bounds: bounds.map(|(bounds, _)| bounds),
            sparse: domain.is_some_and(|distinct| distinct > rows),
            origin: Some(Origin { scan, rows }),
        }
    });
    Estimate { rows: Some(rows), columns: columns.collect() }
}

/// Different values of a partition column, each of which every file of it tells.
fn partitions(binding: &ScanBinding, index: usize) -> Option<f64> {
    let position = binding.snapshot.partition_columns.iter().position(|column| *column == index)?;
    let files = &binding.files;
    // Of more files than this only some would be seen.
    if files.len() > PARTITIONS_LOOKED_AT {
        return None;
    }
    let value = |file: &Arc<DataFile>| ScalarValue::try_from_array(file.partition_values.get(position)?, 0).ok();
    let values = files.iter().map(value).collect::<Option<HashSet<ScalarValue>>>()?;
    Some(values.len() as f64)
}

/// Least and greatest value over the files, and the digits behind a decimal's point; `None` where not every file
/// tells.
fn bounds(binding: &ScanBinding, index: usize, files: &[&DataFile]) -> Option<(Bounds, i32)> {
    let partition = binding.snapshot.partition_columns.iter().position(|column| *column == index);
    let mut all: Option<(Bounds, i32)> = None;
    for file in files {
        let (min, max, is_null) = match partition {
            Some(position) => {
                let value = file.partition_values.get(position);
                (value, value, value.is_some_and(|value| value.len() == 1 && value.is_null(0)))
            }
            None => {
                let stats = file.stats.get(index)?;
                (stats.min.as_ref(), stats.max.as_ref(), stats.nulls.is_some() && stats.nulls == file.rows)
            }
        };
        // A file of NULLs alone has no bounds, and widens none.
        if is_null {
            continue;
        }
        let (min, max) = (min.filter(|min| min.len() == 1 && !min.is_null(0))?, max.filter(|max| max.len() == 1 && !max.is_null(0))?);
        let (low, unit, digits) = number(&ScalarValue::try_from_array(min, 0).ok()?)?;
        let (high, _, _) = number(&ScalarValue::try_from_array(max, 0).ok()?)?;
        all = Some(match all {
            Some((bounds, digits)) => (Bounds { low: bounds.low.min(low), high: bounds.high.max(high), unit }, digits),
            None => (Bounds { low, high, unit }, digits),
        });
    }
    all
}

/// A value on a line, with its unit and the digits behind its point.
fn number(value: &ScalarValue) -> Option<(f64, Unit, i32)> {
    let (value, unit, digits) = match value {
        ScalarValue::Int8(v) => (f64::from((*v)?), Unit::Number, 0),
        ScalarValue::Int16(v) => (f64::from((*v)?), Unit::Number, 0),
        ScalarValue::Int32(v) => (f64::from((*v)?), Unit::Number, 0),
        ScalarValue::Int64(v) => ((*v)? as f64, Unit::Number, 0),
        ScalarValue::Float32(v) => (f64::from((*v)?), Unit::Number, 0),
        ScalarValue::Float64(v) => ((*v)?, Unit::Number, 0),
        ScalarValue::Decimal128(v, _, scale) => ((*v)? as f64 / 10f64.powi(i32::from(*scale)), Unit::Number, i32::from(*scale)),
        ScalarValue::Date32(v) => (f64::from((*v)?), Unit::Days, 0),
        ScalarValue::TimestampMicrosecond(v, _) => ((*v)? as f64, Unit::Micros, 0),
        _ => return None,
    };
    value.is_finite().then_some((value, unit, digits))
}

/// No more than these lie between the bounds; a float's are as many as there are rows, for all that is known.
fn values_between(ty: &DataType, (bounds, digits): &(Bounds, i32)) -> Option<f64> {
    let step = match ty {
        DataType::Float32 | DataType::Float64 => return Some(f64::INFINITY),
        _ => 10f64.powi(-digits),
    };
    Some((bounds.high - bounds.low) / step + 1.0)
}

/// A bound that is a text.
fn text(bound: Option<&ArrayRef>) -> Option<String> {
    match ScalarValue::try_from_array(bound.filter(|b| b.len() == 1)?, 0).ok()? {
        ScalarValue::Utf8(text) => text,
        _ => None,
    }
}

/// UUIDs, hashes, numbers with zeros in front.
fn are_ids(files: &[&DataFile], index: usize) -> bool {
    let id =
        |bound: Option<&ArrayRef>| text(bound).filter(|text| text.contains(|c: char| c.is_ascii_digit())).map(|text| text.chars().count());
    let of_file = |file: &&DataFile| {
        let stats = file.stats.get(index)?;
        id(stats.min.as_ref()).zip(id(stats.max.as_ref())).filter(|(min, max)| min == max && *min >= ID_CHARS_MIN)
    };
    !files.is_empty() && files.iter().all(|file| of_file(file).is_some())
}

/// Texts of one letter, flags for the most part, are as few as the letters between their bounds.
fn letters(files: &[&DataFile], index: usize) -> Option<f64> {
    let letter = |bound: Option<&ArrayRef>| {
        let text = text(bound)?;
        let mut chars = text.chars();
        chars.next().filter(|_| chars.next().is_none()).map(|c| f64::from(u32::from(c)))
    };
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for file in files {
        let stats = file.stats.get(index)?;
        low = low.min(letter(stats.min.as_ref())?);
        high = high.max(letter(stats.max.as_ref())?);
    }
    (low <= high).then_some(high - low + 1.0)
}

/// Columns by name.
struct Scope<'a> {
    indices: HashMap<(Option<&'a TableReference>, &'a str), usize>,
    columns: Vec<ColumnEstimate>,
}

impl<'a> Scope<'a> {
    fn of(inputs: &[(&'a DFSchema, &Estimate)]) -> Self {
        let known = || inputs.iter().flat_map(|(schema, estimate)| schema.iter().zip(&estimate.columns));
        let names = known().enumerate().map(|(index, ((table, field), _))| ((table, field.name().as_str()), index));
        Self { indices: names.collect(), columns: known().map(|(_, column)| *column).collect() }
    }

    fn index(&self, column: &Column) -> Option<usize> {
        self.indices.get(&(column.relation.as_ref(), column.name.as_str())).copied()
    }

    fn column(&self, column: &Column) -> ColumnEstimate {
        self.index(column).map_or_else(ColumnEstimate::default, |index| self.columns[index])
    }

    fn expr(&self, expr: &Expr) -> ColumnEstimate {
        match expr {
            Expr::Column(column) => self.column(column),
            Expr::Alias(alias) => self.expr(&alias.expr),
            // Its bounds may be another unit's now.
            Expr::Cast(cast) => ColumnEstimate { bounds: None, ..self.expr(&cast.expr) },
            Expr::TryCast(cast) => ColumnEstimate { bounds: None, ..self.expr(&cast.expr) },
            _ => ColumnEstimate { domain: self.distinct(expr), ..ColumnEstimate::default() },
        }
    }

    /// Different values that an expression can have: no more than its arguments have combinations.
    fn distinct(&self, expr: &Expr) -> Option<f64> {
        match expr {
            Expr::Literal(..) => Some(1.0),
            Expr::Column(_) | Expr::Alias(_) | Expr::Cast(_) | Expr::TryCast(_) => self.expr(expr).domain,
            Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::Not(_)
            | Expr::Between(_)
            | Expr::InList(_) => Some(2.0),
            Expr::BinaryExpr(binary) if binary.op.supports_propagation() || matches!(binary.op, Operator::And | Operator::Or) => Some(2.0),
            Expr::BinaryExpr(binary) => Some(self.distinct(&binary.left)? * self.distinct(&binary.right)?),
            Expr::Case(case) => {
                let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
                results.map(|result| self.distinct(result)).sum()
            }
            Expr::ScalarFunction(call) => self.cut(call).or_else(|| self.part(call)).or_else(|| {
                let combinations = call.args.iter().map(|arg| self.distinct(arg)).product::<Option<f64>>();
                combinations.filter(|_| !call.args.is_empty())
            }),
            _ => None,
        }
    }

    /// Of a part of dates or times.
    fn part(&self, call: &ScalarFunction) -> Option<f64> {
        let [date] = call.args.as_slice() else { return None };
        match call.func.name() {
            "year" => self.steps(date, unit_days("year")?),
            part => PARTS.iter().find(|(name, _)| *name == part).map(|(_, most)| *most),
        }
    }

    /// Of dates and times that are cut to a unit.
    fn cut(&self, call: &ScalarFunction) -> Option<f64> {
        match (call.func.name(), call.args.as_slice()) {
            ("cast" | "try_cast", [of]) if matches!(call.func.return_type(&[]), Ok(DataType::Date32)) => self.steps(of, 1.0),
            ("date_trunc", [Expr::Literal(ScalarValue::Utf8(Some(unit)), _), of])
            | ("trunc", [of, Expr::Literal(ScalarValue::Utf8(Some(unit)), _)]) => self.steps(of, unit_days(&unit.to_lowercase())?),
            _ => None,
        }
    }

    /// How many steps of so many days lie between the bounds.
    fn steps(&self, of: &Expr, days: f64) -> Option<f64> {
        let bounds = self.bounds(of)?;
        let per_step = match bounds.unit {
            Unit::Days => days,
            Unit::Micros => days * MICROS_PER_DAY,
            Unit::Number => return None,
        };
        Some(((bounds.high - bounds.low) / per_step).ceil() + 1.0)
    }

    /// Of a column, under casts between dates and times too.
    fn bounds(&self, expr: &Expr) -> Option<Bounds> {
        match expr {
            Expr::Column(column) => self.column(column).bounds,
            Expr::Alias(alias) => self.bounds(&alias.expr),
            Expr::Cast(cast) => self.bounds(&cast.expr),
            Expr::ScalarFunction(call) if matches!(call.func.name(), "cast" | "try_cast") => {
                self.bounds(call.args.first()?).filter(|bounds| bounds.unit != Unit::Number)
            }
            _ => None,
        }
    }
}

fn unit_days(unit: &str) -> Option<f64> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, days)| *days)
}

/// What a filter leaves.
pub(crate) fn filter(predicate: &Expr, schema: &DFSchema, input: Estimate) -> Estimate {
    let Some(rows) = input.rows else { return input };
    let scope = Scope::of(&[(schema, &input)]);
    let conjuncts = split_conjunction(predicate);
    let share = share(&scope, &conjuncts);
    let mut columns = scope.columns.clone();
    for (index, range) in ranges(&scope, &conjuncts) {
        let column = &mut columns[index];
        column.domain = column.domain.map(|domain| (domain * range.share()).max(1.0));
        column.bounds = Some(Bounds { low: range.low, high: range.high.max(range.low), unit: range.bounds.unit });
    }
    for index in conjuncts.iter().filter_map(|conjunct| fixed(&scope, conjunct)) {
        columns[index].domain = Some(1.0);
    }
    Estimate { rows: Some(rows * share), columns }
}

/// What comparisons leave of a column.
struct Range {
    bounds: Bounds,
    domain: Option<f64>,
    low: f64,
    high: f64,
}

impl Range {
    /// At least one value is left: a range includes its ends, and that it meets nothing isn't foreseen.
    fn share(&self) -> f64 {
        let width = self.bounds.high - self.bounds.low;
        let least = self.domain.filter(|domain| domain.is_finite()).map_or(0.0, |domain| 1.0 / domain.max(1.0));
        if width > 0.0 { ((self.high - self.low) / width).clamp(least, 1.0) } else { 1.0 }
    }
}

/// Of the rows for which all of these hold.
fn share(scope: &Scope<'_>, conjuncts: &[&Expr]) -> f64 {
    let compared: f64 = ranges(scope, conjuncts).values().map(Range::share).product();
    let others = conjuncts.iter().filter(|conjunct| range(scope, conjunct).is_none());
    (compared * others.map(|conjunct| one_share(scope, conjunct)).product::<f64>()).max(LEAST_SHARE)
}

/// Comparisons of one column are taken together: two of them that make a narrow range aren't two wide ones that
/// happen to meet.
fn ranges(scope: &Scope<'_>, conjuncts: &[&Expr]) -> BTreeMap<usize, Range> {
    let mut ranges: BTreeMap<usize, Range> = BTreeMap::new();
    for (index, range) in conjuncts.iter().filter_map(|conjunct| range(scope, conjunct)) {
        let all = ranges.entry(index).or_insert(Range { low: range.bounds.low, high: range.bounds.high, ..range });
        (all.low, all.high) = (all.low.max(range.low), all.high.min(range.high));
    }
    ranges
}

/// A column that is kept between two values, in the unit of its bounds.
fn range(scope: &Scope<'_>, conjunct: &Expr) -> Option<(usize, Range)> {
    let column = |expr: &Expr| match strip(expr) {
        Expr::Column(column) => {
            let index = scope.index(column)?;
            Some((index, scope.columns[index].bounds?, scope.columns[index].domain))
        }
        _ => None,
    };
    let value = |expr: &Expr, unit: Unit| match strip(expr) {
        Expr::Literal(value, _) => number(value).filter(|(_, of, _)| *of == unit).map(|(value, _, _)| value),
        _ => None,
    };
    match conjunct {
        Expr::BinaryExpr(binary) => {
            let (compared, literal, op) = match strip(&binary.left) {
                Expr::Column(_) => (&binary.left, &binary.right, binary.op),
                _ => (&binary.right, &binary.left, binary.op.swap()?),
            };
            let (index, bounds, domain) = column(compared)?;
            let value = value(literal, bounds.unit)?;
            match op {
                Operator::Lt | Operator::LtEq => Some((index, Range { bounds, domain, low: bounds.low, high: value })),
                Operator::Gt | Operator::GtEq => Some((index, Range { bounds, domain, low: value, high: bounds.high })),
                _ => None,
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let (index, bounds, domain) = column(expr)?;
            Some((index, Range { bounds, domain, low: value(low, bounds.unit)?, high: value(high, bounds.unit)? }))
        }
        _ => None,
    }
}

/// A column that has one value left.
fn fixed(scope: &Scope<'_>, conjunct: &Expr) -> Option<usize> {
    let Expr::BinaryExpr(binary) = conjunct else { return None };
    match (binary.op, strip(&binary.left), strip(&binary.right)) {
        (Operator::Eq, Expr::Column(column), Expr::Literal(..)) | (Operator::Eq, Expr::Literal(..), Expr::Column(column)) => {
            scope.index(column)
        }
        _ => None,
    }
}

fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => strip(&cast.expr),
        Expr::Alias(alias) => strip(&alias.expr),
        _ => expr,
    }
}

fn one_share(scope: &Scope<'_>, predicate: &Expr) -> f64 {
    let equal = |expr: &Expr| {
        let domain = scope.expr(expr).domain.filter(|d| d.is_finite());
        let share = domain.map_or(EQUALITY_SHARE, |distinct| 1.0 / distinct.max(1.0));
        // Of what is computed only the most values are known, so the least share.
        if matches!(strip(expr), Expr::Column(_) | Expr::Literal(..)) { share } else { share.max(EQUALITY_SHARE) }
    };
    match predicate {
        Expr::BinaryExpr(b) if matches!(b.op, Operator::Eq | Operator::IsNotDistinctFrom) => equal(&b.left).min(equal(&b.right)),
        Expr::BinaryExpr(b) if b.op == Operator::NotEq => (1.0 - equal(&b.left).min(equal(&b.right))).max(RANGE_SHARE),
        Expr::BinaryExpr(b) if b.op == Operator::And => share(scope, &split_conjunction(predicate)),
        Expr::BinaryExpr(b) if b.op == Operator::Or => {
            let (left, right) = (share(scope, &[b.left.as_ref()]), share(scope, &[b.right.as_ref()]));
            left + right - left * right
        }
        Expr::InList(list) => {
            let kept = (equal(&list.expr) * list.list.len() as f64).min(RANGE_SHARE);
            if list.negated { 1.0 - kept } else { kept }
        }
        Expr::Between(between) if between.negated => 1.0 - RANGE_SHARE,
        Expr::Not(negated) => (1.0 - share(scope, &[negated.as_ref()])).max(EQUALITY_SHARE),
        Expr::IsNull(_) => NULL_SHARE,
        Expr::IsNotNull(_) => 1.0,
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => 1.0,
        _ => RANGE_SHARE,
    }
}

/// Groups of an aggregation, over all its grouping sets; one where it has no keys.
pub(crate) fn group(aggregate: &Aggregate, input: &Estimate) -> Estimate {
    let scope = Scope::of(&[(aggregate.input.schema(), input)]);
    // In the order of its schema.
    let keys = grouping_set_to_exprlist(&aggregate.group_expr).unwrap_or_default();
    let of_set = |set: &[Expr], rows| groups(&set.iter().map(|key| scope.expr(key)).collect::<Vec<_>>(), rows);
    let rows = input.rows.map(|rows| sets(aggregate).into_iter().map(|set| of_set(set, rows)).sum());
    Estimate { rows, columns: keys.into_iter().map(|key| scope.expr(key)).collect() }
}

/// Different values of an aggregate's DISTINCT arguments, over all groups.
pub(crate) fn distinct_arguments(aggregate: &Aggregate, input: &Estimate) -> Option<f64> {
    let scope = Scope::of(&[(aggregate.input.schema(), input)]);
    let rows = input.rows?;
    let of = |expr: &Expr| match strip(expr) {
        Expr::AggregateFunction(call) if call.params.distinct => {
            let of_set = |set: &[Expr]| {
                let values = set.iter().chain(&call.params.args).map(|expr| scope.expr(expr));
                groups(&values.collect::<Vec<_>>(), rows)
            };
            sets(aggregate).into_iter().map(of_set).sum()
        }
        _ => 0.0,
    };
    Some(aggregate.aggr_expr.iter().map(of).sum())
}

/// The lists of keys that an aggregation groups by, one after the other.
pub(crate) fn sets(aggregate: &Aggregate) -> Vec<&[Expr]> {
    match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().map(Vec::as_slice).collect(),
        // All of its keys make the most groups.
        [Expr::GroupingSet(GroupingSet::Rollup(keys) | GroupingSet::Cube(keys))] => vec![keys.as_slice()],
        keys => vec![keys],
    }
}

/// Different combinations of these among so many rows.
pub(crate) fn groups(keys: &[ColumnEstimate], rows: f64) -> f64 {
    if keys.is_empty() {
        return 1.0;
    }
    let mut of_tables: BTreeMap<ScanId, (f64, f64)> = BTreeMap::new();
    let mut combinations = 1.0f64;
    for key in keys {
        match (key.domain, key.origin) {
            (domain, Some(origin)) => {
                let (combined, _) = of_tables.entry(origin.scan).or_insert((1.0, origin.rows));
                // A text's: few in most tables that anybody groups by it, and nearly all of them in some. A second
                // one has fewer values of its own beside the first.
                let distinct = domain.unwrap_or_else(|| (origin.rows / *combined).max(1.0).sqrt());
                *combined *= distinct.max(1.0);
            }
            (Some(domain), None) => combinations *= domain.max(1.0),
            (None, None) => combinations *= (rows * GROUP_SHARE).max(1.0),
        }
    }
    let combinations = of_tables.values().fold(combinations, |all, (distinct, rows)| all * distinct.min(rows.max(1.0)));
    drawn(combinations, rows)
}

/// What joins by keys give. `pairs`: all pairs of rows, where it has no keys.
pub(crate) fn join(join: &Join, left: Estimate, right: Estimate, pairs: Option<f64>) -> Estimate {
    let semi = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
    let right_semi = matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
    let rows = join_rows(join, &left, &right, pairs);
    let columns = match (semi, right_semi) {
        (true, _) => left.columns,
        (_, true) => right.columns,
        // Columns of the right side stand behind all of the left side's.
        (false, false) => {
            let missing = join.left.schema().fields().len().saturating_sub(left.columns.len());
            let unknown = std::iter::repeat_n(ColumnEstimate::default(), missing);
            left.columns.into_iter().chain(unknown).chain(right.columns).collect()
        }
    };
    Estimate { rows, columns }
}

fn join_rows(join: &Join, left: &Estimate, right: &Estimate, pairs: Option<f64>) -> Option<f64> {
    let (left_rows, right_rows) = (left.rows?, right.rows?);
    let scope = Scope::of(&[(join.left.schema(), left), (join.right.schema(), right)]);
    let keys: Vec<(ColumnEstimate, ColumnEstimate)> = join.on.iter().map(|(l, r)| (scope.expr(l), scope.expr(r))).collect();
    let domain = key_domain(&keys);
    let residual = join.filter.as_ref().map_or(1.0, |filter| share(&scope, &split_conjunction(filter)));
    let inner = match (pairs, domain) {
        (Some(pairs), _) => pairs * residual,
        (None, Some(domain)) => left_rows * right_rows / domain * residual,
        (None, None) => left_rows.max(right_rows) * residual,
    };
    // Of one side's rows those that have a partner among the other's.
    let met = |rows: f64| domain.map_or(1.0, |domain| (drawn(domain, rows) / domain).min(1.0)) * residual;
    let unmet = |rows: f64| (1.0 - met(rows)).max(EQUALITY_SHARE);
    Some(match join.join_type {
        JoinType::Inner => inner,
        JoinType::Left => inner.max(left_rows),
        JoinType::Right => inner.max(right_rows),
        JoinType::Full => inner.max(left_rows).max(right_rows),
        JoinType::LeftSemi => left_rows * met(right_rows),
        JoinType::RightSemi => right_rows * met(left_rows),
        JoinType::LeftAnti => left_rows * unmet(right_rows),
        JoinType::RightAnti => right_rows * unmet(left_rows),
        JoinType::LeftMark => left_rows,
        JoinType::RightMark => right_rows,
    })
}

/// Values that a join's keys are drawn from. One key: the wider side's, which holds the other's. Where that is only
/// as wide as its table is long, and with several keys, whose combinations aren't free: the side that has fewer is
/// the one that the other refers to.
fn key_domain(keys: &[(ColumnEstimate, ColumnEstimate)]) -> Option<f64> {
    let side = |of: &dyn Fn(&(ColumnEstimate, ColumnEstimate)) -> ColumnEstimate| {
        let columns: Vec<ColumnEstimate> = keys.iter().map(of).collect();
        let most = columns.iter().filter_map(|column| column.origin).map(|origin| origin.rows).fold(0.0f64, f64::max);
        let combinations = columns.iter().map(|column| column.domain).product::<Option<f64>>()?;
        Some(if most > 0.0 { combinations.min(most) } else { combinations }.max(1.0))
    };
    let (left, right) = (side(&|(left, _)| *left), side(&|(_, right)| *right));
    match (keys, left, right) {
        ([], _, _) => None,
        ([(l, r)], Some(left), Some(right)) if !l.sparse && !r.sparse => Some(left.max(right)),
        (_, Some(left), Some(right)) => Some(left.min(right)),
        _ => None,
    }
}

/// A projection's columns.
pub(crate) fn project(exprs: &[Expr], schema: &DFSchema, input: Estimate) -> Estimate {
    let scope = Scope::of(&[(schema, &input)]);
    let columns = exprs.iter().map(|expr| scope.expr(expr)).collect();
    Estimate { rows: input.rows, columns }
}
