//! The table itself: every family's definitions, by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::def::FunctionDef;
use crate::{aggregates, conditional, datetime, from_json, hash, json, lambda, math, misc, nested, regexp, strings, windows};

macro_rules! families {
    ($($module:ident::$slice:ident),* $(,)?) => {
        &[$((stringify!($module), $module::$slice)),*]
    };
}

/// Each family file exports its rows as one static slice; this is the one list of families.
static FAMILIES: &[(&str, &[FunctionDef])] = families![
    aggregates::FAMILY,
    windows::FAMILY,
    math::REAL,
    math::ROUND,
    math::BITS,
    math::CHOOSE,
    math::OPERATORS,
    conditional::FAMILY,
    strings::FIND,
    strings::BUILD,
    strings::FORMAT,
    strings::UTF8,
    regexp::REGEXP,
    nested::SEARCH,
    nested::SORT,
    nested::INSERT,
    nested::ARRAYS,
    nested::COMBINE,
    nested::ACCESS,
    nested::MAPS,
    nested::SEQUENCE,
    lambda::ARRAYS,
    lambda::MAPS,
    lambda::SORT,
    datetime::PARTS,
    datetime::SHIFT,
    datetime::TEXT,
    datetime::NOW,
    datetime::MAKE,
    datetime::ZONES,
    datetime::WINDOWS,
    json::JSON,
    from_json::FROM_JSON,
    hash::HASH,
    misc::MISC,
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static FunctionDef>> = LazyLock::new(|| {
    let mut map = HashMap::new();
    for def in all() {
        for name in std::iter::once(def.name()).chain(def.aliases().iter().copied()) {
            let previous = map.insert(name, def);
            assert!(previous.is_none(), "function `{name}` is defined twice");
        }
    }
    map
});

/// The definition of a function by its name or alias, in any case.
pub fn lookup(name: &str) -> Option<&'static FunctionDef> {
    match BY_NAME.get(name) {
        Some(def) => Some(def),
        None => BY_NAME.get(name.to_ascii_lowercase().as_str()).copied(),
    }
}

/// Every definition, by family and in the families' order.
pub fn all() -> impl Iterator<Item = &'static FunctionDef> {
    FAMILIES.iter().flat_map(|(_, rows)| *rows)
}

/// Families by name and with their rows; a name may come more than once in a row.
pub fn families() -> impl Iterator<Item = (&'static str, &'static [FunctionDef])> {
    FAMILIES.iter().copied()
}

/// Names of up to three functions that a misspelt name may have meant.
pub fn nearest(name: &str) -> Vec<&'static str> {
    let name = name.to_ascii_lowercase();
    let mut scored: Vec<(usize, &'static str)> =
        BY_NAME.keys().map(|known| (distance(&name, known), *known)).filter(|(d, known)| *d <= 2.max(known.len() / 4)).collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, known)| known).collect()
}

/// Levenshtein distance in bytes; function names are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
