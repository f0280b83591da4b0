//! What statements are printed as for DuckDB, next to each other in `tests/data/printed.sql`, so
//! that a change of any text is seen in review. `UPDATE_GOLDEN=1` writes the file anew.

use std::fmt::Write;
use std::path::PathBuf;

use flightpath_plan::Statement;

use crate::catalog::FakeCatalog;
use crate::{planner, request};

const HEADER: &str = "-- Each statement and what DuckDB is sent for it, or why it isn't.\n";

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/printed.sql")
}

#[tokio::test]
async fn statements_are_printed_as_recorded() {
    let recorded = std::fs::read_to_string(file()).expect("the recorded texts");
    let planner = planner(&FakeCatalog::with_sales());
    let mut printed = String::from(HEADER);
    for block in recorded.strip_prefix(HEADER).expect("the header").split("\n\n").filter(|b| !b.trim().is_empty()) {
        let statement: Vec<&str> = block.trim().lines().take_while(|line| !line.starts_with("--")).collect();
        let statement = statement.join("\n");
        let answer = match planner.plan(&request(&statement)).await.map(|p| p.statement) {
            Ok(Statement::Query(query)) => match &query.duckdb {
                Ok(compiled) => format!("-- DuckDB: {}", compiled.sql),
                Err(refusal) => format!("-- refused: {}", refusal.reason),
            },
            Ok(other) => panic!("{statement} isn't a query: {other:?}"),
            Err(error) => format!("-- error: {error}"),
        };
        write!(printed, "\n{statement}\n{answer}\n").expect("writes to a string");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file(), &printed).expect("writes the texts");
    }
    assert_eq!(printed, recorded, "run with UPDATE_GOLDEN=1 and review the difference");
}
