//! Settings, composition, start and drain: the only crate that names adapters.

#![forbid(unsafe_code)]

pub mod settings;
