//! The 24 tables of TPC-DS.

use flightpath_types::{Error, Result};
use tpcdsgen::config::{Session, SessionBuilder, Table as Source};
use tpcdsgen_arrow::*;

use crate::table::{Batches, Table};

macro_rules! table {
    ($session:expr, $source:ident, $arrow:ident) => {{
        let session = $session.clone();
        let source = Source::$source;
        let source_rows = session.get_scaling().get_row_count(source);
        let open = move |part: u32, parts: u32| -> Batches {
            let (first, last) = range(source_rows, part, parts);
            Box::new($arrow::new(session.clone()).with_source_row_range(first, last))
        };
        let table = Table::new(source.get_name(), &$arrow::schema_ref(), estimate(source, source_rows), Box::new(open));
        if splits(source) { table.splitting() } else { table }
    }};
}

pub(crate) fn tables(scale: f64) -> Result<Vec<Table>> {
    let session: Session = SessionBuilder::new()
        .with_scale_factor(scale)
        .build()
        .map_err(|e| Error::invalid(format!("TPC-DS can't be generated at scale {scale}: {e}")))?;
    Ok(vec![
        table!(session, CallCenter, CallCenterArrow),
        table!(session, CatalogPage, CatalogPageArrow),
        table!(session, CatalogReturns, CatalogReturnsArrow),
        table!(session, CatalogSales, CatalogSalesArrow),
        table!(session, Customer, CustomerArrow),
        table!(session, CustomerAddress, CustomerAddressArrow),
        table!(session, CustomerDemographics, CustomerDemographicsArrow),
        table!(session, DateDim, DateDimArrow),
        table!(session, HouseholdDemographics, HouseholdDemographicsArrow),
        table!(session, IncomeBand, IncomeBandArrow),
        table!(session, Inventory, InventoryArrow),
        table!(session, Item, ItemArrow),
        table!(session, Promotion, PromotionArrow),
        table!(session, Reason, ReasonArrow),
        table!(session, ShipMode, ShipModeArrow),
        table!(session, Store, StoreArrow),
        table!(session, StoreReturns, StoreReturnsArrow),
        table!(session, StoreSales, StoreSalesArrow),
        table!(session, TimeDim, TimeDimArrow),
        table!(session, Warehouse, WarehouseArrow),
        table!(session, WebPage, WebPageArrow),
        table!(session, WebReturns, WebReturnsArrow),
        table!(session, WebSales, WebSalesArrow),
        table!(session, WebSite, WebSiteArrow),
    ])
}

/// Source rows of part `k` of `n`, both ends included, counted from 1.
fn range(rows: u64, part: u32, parts: u32) -> (u64, u64) {
    let bound = |part: u32| u64::try_from(u128::from(rows) * u128::from(part) / u128::from(parts)).unwrap_or(rows);
    (bound(part - 1) + 1, bound(part))
}

/// Tables that grow with the scale and whose rows don't depend on the rows before.
fn splits(source: Source) -> bool {
    matches!(
        source,
        Source::CatalogSales
            | Source::CatalogReturns
            | Source::StoreSales
            | Source::StoreReturns
            | Source::WebSales
            | Source::WebReturns
            | Source::Inventory
            | Source::Customer
            | Source::CustomerAddress
            | Source::CustomerDemographics
    )
}

/// A sale's source row is a ticket of several lines, of which one in ten is returned.
fn estimate(source: Source, rows: u64) -> u64 {
    match source {
        Source::StoreSales | Source::WebSales => rows * 12,
        Source::CatalogSales => rows * 9,
        Source::StoreReturns | Source::WebReturns => rows * 12 / 10,
        Source::CatalogReturns => rows * 9 / 10,
        _ => rows,
    }
}
