//! Statements that only a Databricks warehouse understands, over a fake of it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use flightpath_plan::{DatabricksText, Statement};
use flightpath_planner::{Planner, RemoteDescriber};
use flightpath_types::{Error, ErrorKind, Result, SecretToken, Session};
use parking_lot::Mutex;

use crate::catalog::FakeCatalog;
use crate::{failure, plan, planner};

/// Notes what it is asked, and how.
#[derive(Default)]
struct Warehouse {
    asked: Mutex<Vec<(&'static str, String)>>,
    /// Why it may not be asked.
    closed: Mutex<Option<Error>>,
}

impl Warehouse {
    fn one_column(&self, how: &'static str, text: &DatabricksText) -> Result<SchemaRef> {
        assert!(text.returns_rows);
        self.asked.lock().push((how, text.sql.to_string()));
        Ok(Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, true)])))
    }
}

#[async_trait]
impl RemoteDescriber for Warehouse {
    fn has_catalog(&self, catalog: &str) -> bool {
        catalog == "lake"
    }

    fn writes_allowed(&self, _: &Session) -> bool {
        false
    }

    fn may_ask(&self, _: &Session) -> Result<()> {
        self.closed.lock().clone().map_or(Ok(()), Err)
    }

    async fn describe(&self, text: &DatabricksText, _: &Session, _: Option<&SecretToken>) -> Result<SchemaRef> {
        self.one_column("described", text)
    }

    async fn try_out(&self, text: &DatabricksText, _: &Session, _: Option<&SecretToken>) -> Result<SchemaRef> {
        self.one_column("tried", text)
    }
}

fn remote() -> (Arc<Warehouse>, Planner) {
    let warehouse = Arc::new(Warehouse::default());
    (warehouse.clone(), planner(&FakeCatalog::with_sales()).with_remote(warehouse))
}

#[tokio::test]
async fn listings_that_are_not_ours_are_tried_out_once_and_run_there() {
    let (warehouse, planner) = remote();
    for text in ["SHOW GRANTS ON TABLE sales", "DESCRIBE FUNCTION f", "EXPLAIN COST SELECT 1", "LIST '/Volumes/a/b/c'"] {
        for _ in 0..2 {
            let planned = plan(&planner, text).await;
            let Statement::PassThrough(query) = &planned.statement else { panic!("{text} isn't passed on: {:?}", planned.statement) };
            assert!(query.duckdb.is_err() && query.datafusion.is_err());
            assert_eq!(query.databricks.as_ref().unwrap().catalog.as_deref(), Some("lake"));
            assert_eq!(planned.statement.schema().field(0).name(), "x");
        }
        assert_eq!(std::mem::take(&mut *warehouse.asked.lock()), [("tried", text.to_string())]);
    }
    // What is answered here isn't asked there.
    plan(&planner, "SHOW TABLES").await;
    assert!(warehouse.asked.lock().is_empty());
}

#[tokio::test]
async fn a_warehouse_that_may_not_be_used_is_asked_nothing() {
    let (warehouse, planner) = remote();
    *warehouse.closed.lock() = Some(Error::not_eligible("profile `local` doesn't use it"));
    let sampled = "SELECT * FROM sales TABLESAMPLE (5 PERCENT)";
    for text in [sampled, "SHOW GRANTS ON TABLE sales", &format!("EXPLAIN ROUTE {sampled}")] {
        let refused = failure(&planner, text).await;
        assert_eq!(refused.kind(), ErrorKind::NotEligible);
        let said = refused.to_string();
        assert!(said.starts_with("not eligible: ") && said.ends_with("isn't asked: profile `local` doesn't use it"), "{said}");
    }
    *warehouse.closed.lock() = Some(Error::invalid("there is no profile `x`"));
    assert_eq!(failure(&planner, sampled).await.to_string(), "there is no profile `x`");
    assert!(warehouse.asked.lock().is_empty());
    // What is understood here needs nobody's leave.
    plan(&planner, "SELECT * FROM sales").await;
    *warehouse.closed.lock() = None;
    plan(&planner, sampled).await;
    assert_eq!(warehouse.asked.lock().len(), 1);
}

#[tokio::test]
async fn explain_route_is_ours_whatever_it_explains() {
    let (warehouse, planner) = remote();
    let planned = plan(&planner, "EXPLAIN ROUTE SELECT * FROM sales TABLESAMPLE (5 PERCENT)").await;
    assert!(matches!(planned.statement, Statement::ExplainRoute(_)), "{:?}", planned.statement);
    let asked = std::mem::take(&mut *warehouse.asked.lock());
    assert!(matches!(asked.as_slice(), [("described", text)] if text.trim_start().starts_with("SELECT")), "{asked:?}");
    assert_eq!(failure(&planner, "EXPLAIN ROUTE DROP TABLE sales").await.kind(), ErrorKind::NotEligible);
    assert!(warehouse.asked.lock().is_empty());
}
