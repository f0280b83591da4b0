//! Arrays, maps and structs.

mod access;
mod arrays;
mod combine;
pub(crate) mod gather;
mod insert;
mod maps;
mod search;
mod sequence;
mod sort;

pub(crate) use access::ACCESS;
pub(crate) use arrays::ARRAYS;
pub(crate) use combine::{COMBINE, bind_same_arrays, common, concat_arrays, concat_arrays_duckdb, element};
pub(crate) use gather::{Gather, entries, keys, list_of, map_of, nullable, range, retype};
pub(crate) use insert::INSERT;
pub(crate) use maps::{MAPS, check_key, checked_duckdb, checked_map, plain_entries};
pub(crate) use search::SEARCH;
pub(crate) use sequence::SEQUENCE;
pub(crate) use sort::{SORT, reverse_arrays};
