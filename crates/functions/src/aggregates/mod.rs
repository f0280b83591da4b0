//! Aggregates: how each call is typed, what DataFusion computes, and DuckDB's text. An aggregate's
//! udf carries the definition's name, by which the printer finds its rule.

mod bind;
mod bitmaps;
mod choice;
mod collected;
mod exact;
mod extremes;
mod moments;
mod rules;
mod table;
mod udaf;

#[cfg(test)]
mod tests;

pub(crate) use table::FAMILY;
