//! The simulation over real HTTP, on small tables.

mod faults;
mod fixture;
mod governance;
mod statements;
mod unity;
mod warehouses;
mod writes;
