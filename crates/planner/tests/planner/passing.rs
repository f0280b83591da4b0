use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use flightpath_catalog::{AccessRules, TableSnapshot};
use flightpath_plan::{CompiledSql, ScanBinding, ScanId, Statement};
use flightpath_planner::{PassThroughDescriber, PlanRequest, Planner};
use flightpath_types::{Dialect, ErrorKind, Result, Session};

use crate::catalog::{FakeCatalog, sales};
use crate::{planner, request, session};

struct OneColumn;

#[async_trait]
impl PassThroughDescriber for OneColumn {
    async fn describe(&self, sql: &CompiledSql, scans: &BTreeMap<ScanId, ScanBinding>, _: &Session) -> Result<SchemaRef> {
        assert!(scans.values().all(|scan| sql.sql.contains(scan.snapshot.name.table.as_ref())));
        Ok(Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, true)])))
    }
}

fn in_duckdb(text: &str) -> PlanRequest {
    PlanRequest { session: Session { dialect: Dialect::Duckdb, ..session() }, ..request(text) }
}

fn describing(catalog: &Arc<FakeCatalog>) -> Planner {
    planner(catalog).with_describer(Arc::new(OneColumn))
}

#[tokio::test]
async fn the_users_text_is_kept_and_its_tables_are_pinned() {
    let planner = describing(&FakeCatalog::with_sales());
    let request = in_duckdb("FROM sales SELECT id // 2 AS x");
    let planned = planner.plan(&request).await.expect("is planned");
    let Statement::PassThrough(query) = &planned.statement else { panic!("isn't passed through") };
    assert_eq!(query.duckdb.as_ref().expect("runs on DuckDB").sql, "FROM sales SELECT id // 2 AS x");
    assert!(query.datafusion.is_err());
    assert_eq!(query.scans[&ScanId(0)].files.len(), 4);
    assert_eq!(planned.statement.schema().field(0).name(), "x");
    assert!(planner.plan(&request).await.expect("is planned").cache_hit);
    let route = planner.plan(&in_duckdb("EXPLAIN ROUTE FROM sales SELECT id")).await.expect("is planned");
    assert!(matches!(route.statement, Statement::ExplainRoute(_)));
    let set = planner.plan(&in_duckdb("SET dialect = databricks")).await.expect("is planned");
    assert!(matches!(set.statement, Statement::SetSession { .. }));
}

#[tokio::test]
async fn what_is_not_the_catalogs_is_refused() {
    let catalog = FakeCatalog::with_sales();
    let planner = describing(&catalog);
    let kind = async |text: &str| planner.plan(&in_duckdb(text)).await.expect_err(text).kind();
    assert_eq!(kind("SELECT * FROM nowhere").await, ErrorKind::NotFound);
    assert_eq!(kind("SELECT * FROM 'x.parquet'").await, ErrorKind::NotEligible);
    assert_eq!(kind("SELECT * FROM read_csv('x')").await, ErrorKind::NotEligible);
    assert_eq!(kind("DROP TABLE sales").await, ErrorKind::NotEligible);
    assert_eq!(kind("SELECT FROM WHERE").await, ErrorKind::InvalidArgument);
    catalog.put(TableSnapshot { access: AccessRules::Governed("a mask".into()), ..sales(1) });
    assert_eq!(kind("SELECT * FROM sales").await, ErrorKind::NotEligible);
}

#[tokio::test]
async fn without_a_worker_the_reason_is_told() {
    let planner = planner(&FakeCatalog::with_sales());
    let error = planner.plan(&in_duckdb("SELECT * FROM sales")).await.expect_err("isn't planned");
    assert!(error.to_string().contains("needs a DuckDB worker"), "{error}");
}
