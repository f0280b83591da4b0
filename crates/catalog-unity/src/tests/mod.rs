//! The catalog over injected answers.

mod fake;
mod governance;
mod listing;
mod lookups;
mod races;
mod types;
