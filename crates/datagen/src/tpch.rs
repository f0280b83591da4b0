//! The eight tables of TPC-H; `orders` and `lineitem` partitioned by year.

use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};
use tpchgen_arrow::{CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow};

use crate::table::{Table, YearPartition};

/// Rows at scale 1; `lineitem`'s is an average.
const SUPPLIERS: f64 = 10_000.0;
const PARTS: f64 = 200_000.0;
const PARTSUPPS: f64 = 800_000.0;
const CUSTOMERS: f64 = 150_000.0;
const ORDERS: f64 = 1_500_000.0;
const LINEITEMS: f64 = 6_000_000.0;
/// 1992 to 1998.
const YEARS: u64 = 7;

macro_rules! table {
    ($name:literal, $arrow:ident, $generator:ident, $scale:expr, $rows:expr) => {{
        let scale = $scale;
        let open = move |part: u32, parts: u32| -> crate::table::Batches {
            Box::new($arrow::new($generator::new(scale, part.cast_signed(), parts.cast_signed())))
        };
        Table::new($name, &$arrow::schema_ref(), $rows as u64, Box::new(open))
    }};
}

pub(crate) fn tables(scale: f64) -> Vec<Table> {
    vec![
        table!("region", RegionArrow, RegionGenerator, scale, 5.0),
        table!("nation", NationArrow, NationGenerator, scale, 25.0),
        table!("supplier", SupplierArrow, SupplierGenerator, scale, SUPPLIERS * scale).splitting(),
        table!("part", PartArrow, PartGenerator, scale, PARTS * scale).splitting(),
        table!("partsupp", PartSuppArrow, PartSuppGenerator, scale, PARTSUPPS * scale).splitting(),
        table!("customer", CustomerArrow, CustomerGenerator, scale, CUSTOMERS * scale).splitting(),
        table!("orders", OrderArrow, OrderGenerator, scale, ORDERS * scale).splitting().partitioned(YearPartition {
            column: "o_orderyear",
            date: "o_orderdate",
            years: YEARS,
        }),
        table!("lineitem", LineItemArrow, LineItemGenerator, scale, LINEITEMS * scale).splitting().partitioned(YearPartition {
            column: "l_shipyear",
            date: "l_shipdate",
            years: YEARS,
        }),
    ]
}
