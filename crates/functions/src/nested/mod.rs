//! Arrays, maps and structs.

mod access;
mod arrays;
mod combine;
pub(crate) mod gather;
mod maps;
mod sequence;

pub(crate) use access::ACCESS;
pub(crate) use arrays::{ARRAYS, reverse_arrays};
pub(crate) use combine::{COMBINE, bind_same_arrays, common, concat_arrays, concat_arrays_duckdb};
pub(crate) use maps::MAPS;
pub(crate) use sequence::SEQUENCE;
