//! Text and binary functions. Counting is in code points, never bytes or UTF-16 units.

mod build;
mod case;
pub(crate) mod duck;
mod duck_format;
mod duck_url;
pub(crate) mod encode;
mod find;
mod format;
mod number_format;
mod number_pattern;
mod printf;
mod search;
mod utf8;

#[cfg(test)]
mod tests;

pub(crate) use build::{BUILD, joined_bytes};
pub(crate) use find::{FIND, index_of_zero, string_array};
pub(crate) use format::FORMAT;
pub(crate) use utf8::UTF8;
