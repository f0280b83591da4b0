//! A simulation of the parts of Databricks that Flightpath talks to; never part of the router's process.

#![forbid(unsafe_code)]
