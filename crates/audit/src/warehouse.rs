//! What is known of the warehouses, which the query history doesn't tell: from the answer of
//! `GET /api/2.0/sql/warehouses`, from the command line, or assumed.

use std::collections::HashMap;
use std::io::Read;

use flightpath_types::{Error, Result, WarehouseKind as Kind, WarehouseSize};
use serde::Deserialize;

use crate::lenient::without_mark;

/// One warehouse; what is `None` is assumed.
#[derive(Debug, Clone, PartialEq)]
pub struct Warehouse {
    pub id: String,
    pub name: Option<String>,
    /// `2X-Small` to `5X-Large`.
    pub size: Option<String>,
    /// 0 means that it never stops by itself, as in the API.
    pub auto_stop_minutes: Option<f64>,
    pub kind: Option<Kind>,
    pub clusters_min: u32,
    pub clusters_max: u32,
}

impl Warehouse {
    /// One of which nothing is known but its id.
    pub fn assumed(id: impl Into<String>) -> Self {
        Self { id: id.into(), name: None, size: None, auto_stop_minutes: None, kind: None, clusters_min: 1, clusters_max: 1 }
    }
}

/// Those that are known, by id.
#[derive(Debug, Clone, Default)]
pub struct Warehouses(HashMap<String, Warehouse>);

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    warehouses: Vec<ListedWarehouse>,
}

#[derive(Deserialize)]
struct ListedWarehouse {
    id: String,
    name: Option<String>,
    cluster_size: Option<String>,
    auto_stop_mins: Option<f64>,
    enable_serverless_compute: Option<bool>,
    warehouse_type: Option<String>,
    min_num_clusters: Option<u32>,
    max_num_clusters: Option<u32>,
}

impl Warehouses {
    /// Reads the answer of `GET /api/2.0/sql/warehouses`.
    pub fn read(&mut self, input: impl Read) -> Result<()> {
        let input = without_mark(input).map_err(|e| Error::unavailable(format!("can't be read on: {e}")))?;
        let listed: Listed = serde_json::from_reader(std::io::BufReader::new(input))
            .map_err(|e| Error::invalid(format!("isn't the answer of GET /api/2.0/sql/warehouses: {e}")))?;
        if listed.warehouses.is_empty() {
            return Err(Error::invalid("lists no warehouses: expected the answer of GET /api/2.0/sql/warehouses"));
        }
        for one in listed.warehouses {
            let kind = match (one.enable_serverless_compute, one.warehouse_type.as_deref()) {
                (Some(true), _) => Some(Kind::Serverless),
                (_, Some(kind)) => Kind::parse(kind),
                (_, None) => None,
            };
            let clusters_min = one.min_num_clusters.unwrap_or(1).max(1);
            let known = Warehouse {
                name: one.name,
                size: one.cluster_size.filter(|size| WarehouseSize::is_known(size)),
                auto_stop_minutes: one.auto_stop_mins.map(|m| m.max(0.0)),
                kind,
                clusters_min,
                clusters_max: one.max_num_clusters.unwrap_or(clusters_min).max(clusters_min),
                id: one.id.clone(),
            };
            self.0.insert(one.id, known);
        }
        Ok(())
    }

    /// `ID=SIZE[,AUTO_STOP_MINUTES[,KIND[,CLUSTERS_MAX]]]`
    pub fn add(&mut self, text: &str) -> Result<()> {
        let usage = |what: &str| {
            Error::invalid(format!(
                "{what} in '{text}': write ID=SIZE[,AUTO_STOP_MINUTES[,KIND[,CLUSTERS_MAX]]], as abc123=Small,10,serverless,4"
            ))
        };
        let (id, rest) = text.split_once('=').ok_or_else(|| usage("no `=`"))?;
        let mut parts = rest.split(',').map(str::trim);
        let size = parts.next().unwrap_or_default();
        if id.is_empty() || !WarehouseSize::is_known(size) {
            return Err(usage("no id, or no size such as Small or 2X-Large,"));
        }
        let mut warehouse = Warehouse { size: Some(size.into()), ..Warehouse::assumed(id) };
        if let Some(minutes) = parts.next() {
            let minutes = minutes.parse().ok().filter(|m: &f64| (0.0..=100_000.0).contains(m)).ok_or_else(|| usage("no minutes"))?;
            warehouse.auto_stop_minutes = Some(minutes);
        }
        if let Some(kind) = parts.next() {
            warehouse.kind = Some(Kind::parse(kind).ok_or_else(|| usage("no kind (serverless, pro, classic)"))?);
        }
        if let Some(clusters) = parts.next() {
            warehouse.clusters_max =
                clusters.parse().ok().filter(|n| (1..=1_000).contains(n)).ok_or_else(|| usage("no number of clusters"))?;
        }
        if parts.next().is_some() {
            return Err(usage("too much"));
        }
        self.0.insert(id.to_string(), warehouse);
        Ok(())
    }

    /// What is known of this one.
    pub fn get(&self, id: &str) -> Warehouse {
        self.0.get(id).cloned().unwrap_or_else(|| Warehouse::assumed(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warehouses_are_read_from_the_api_and_from_arguments() {
        let mut warehouses = Warehouses::default();
        let listed = r#"{"warehouses": [
            {"id": "a", "name": "BI", "cluster_size": "Medium", "auto_stop_mins": 0, "enable_serverless_compute": true,
             "warehouse_type": "PRO", "min_num_clusters": 2, "max_num_clusters": 5, "state": "RUNNING"},
            {"id": "b", "cluster_size": "Odd", "warehouse_type": "CLASSIC"}]}"#;
        warehouses.read(listed.as_bytes()).unwrap();
        let a = warehouses.get("a");
        assert_eq!((a.size.as_deref(), a.kind, a.clusters_min, a.clusters_max), (Some("Medium"), Some(Kind::Serverless), 2, 5));
        assert_eq!(a.auto_stop_minutes, Some(0.0));
        assert_eq!(warehouses.get("b"), Warehouse { kind: Some(Kind::Classic), ..Warehouse::assumed("b") });
        warehouses.add("a=X-Small, 5, classic").unwrap();
        assert_eq!((warehouses.get("a").auto_stop_minutes, warehouses.get("a").kind), (Some(5.0), Some(Kind::Classic)));
        for bad in ["a", "=Small", "a=Huge", "a=Small,x", "a=Small,1,free", "a=Small,1,pro,0", "a=Small,1,pro,1,1"] {
            assert!(warehouses.add(bad).unwrap_err().message().contains("ID=SIZE"), "{bad}");
        }
        // As an editor saves it.
        warehouses.read("\u{feff}{\"warehouses\": [{\"id\": \"c\", \"cluster_size\": \"Large\"}]}".as_bytes()).unwrap();
        assert_eq!(warehouses.get("c").size.as_deref(), Some("Large"));
        assert!(warehouses.read(b"{}".as_slice()).is_err());
        assert!(warehouses.read(b"[1".as_slice()).is_err());
    }
}
