//! The catalog that statements are planned over. A table with a filter, a mask or a view behind it
//! is never readable by its own name: only the rewriter, which puts the rules around it, knows the
//! name under which the plain contents stand. A reference that the rewriter missed is refused.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use flightpath_catalog::{AsOf, Catalog, CommitInfo, LocalCatalog, TableName, TableSnapshot, TableSummary};
use flightpath_types::{Error, ErrorKind, Principal, Result};

use crate::auth::Accounts;
use crate::config::{CatalogConfig, Settings};
use crate::rules::{RuleBook, SELECT};
use crate::state::Shared;

/// Begins the schemas that the plain contents stand in; no client's statement may hold it.
pub(crate) const RAW_MARK: &str = "__simulated_plain_";

/// The folders' catalogs by name, without any rule.
pub(crate) struct Catalogs {
    list: Vec<(String, LocalCatalog)>,
    configs: Vec<CatalogConfig>,
}

impl Catalogs {
    pub async fn open(configs: &[CatalogConfig]) -> Result<Self> {
        let mut list = Vec::with_capacity(configs.len());
        for config in configs {
            let local = flightpath_catalog::Config { catalog: config.name.clone(), ..flightpath_catalog::Config::new(config.data.clone()) };
            list.push((config.name.clone(), LocalCatalog::open(local).await?));
        }
        if list.is_empty() {
            return Err(Error::invalid("the simulation needs at least one catalog with a data folder"));
        }
        Ok(Self { list, configs: configs.to_vec() })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, _)| name.as_str())
    }

    /// The catalog of that name; an unknown one is refused by the first in its own words.
    pub fn get(&self, name: &str) -> &LocalCatalog {
        let found = self.list.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        &found.unwrap_or(&self.list[0]).1
    }

    /// Where a new table of that name goes: into the catalog's first data folder that isn't a table itself.
    pub fn folder_for(&self, name: &TableName) -> Result<PathBuf> {
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !part.starts_with('_');
        if !plain(&name.table) || !plain(&name.schema) {
            return Err(Error::invalid(format!(
                "simulated Databricks makes tables with names of letters, digits and underscores only, not {name}"
            )));
        }
        let config = self.configs.iter().find(|c| c.name.eq_ignore_ascii_case(&name.catalog));
        let config = config.ok_or_else(|| Error::not_found(format!("catalog {} doesn't exist", name.catalog)))?;
        let root = config.data.iter().find(|dir| dir.is_dir() && !dir.join("_delta_log").exists());
        let root =
            root.ok_or_else(|| Error::invalid(format!("catalog {} has no data folder that new tables may be made in", name.catalog)))?;
        match name.schema.eq_ignore_ascii_case("default") {
            true => Ok(root.join(&*name.table)),
            false => Ok(root.join(&*name.schema).join(&*name.table)),
        }
    }

    /// The table as it is now on disk, not as it was at the last look.
    pub async fn newest(&self, principal: &Principal, name: &TableName) -> Result<Arc<TableSnapshot>> {
        let catalog = self.get(&name.catalog);
        if catalog.cached_snapshot(principal, name).is_some() {
            catalog.refresh(principal, name).await?;
        }
        catalog.snapshot(principal, name, &AsOf::Latest).await
    }
}

/// What a guarded catalog shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Contents: only what may be read as it is.
    Reading,
    /// Names and types, for DESCRIBE and SHOW; what is planned over it is never run.
    Describing,
}

pub(crate) struct Guarded {
    pub catalogs: Arc<Catalogs>,
    pub rules: Arc<RuleBook>,
    pub accounts: Arc<Accounts>,
    pub settings: Shared<Settings>,
    pub raw_prefix: Arc<str>,
    pub purpose: Purpose,
}

impl Guarded {
    /// The name that the folders know, when a statement may read it as it is.
    fn admit(&self, principal: &Principal, name: &TableName) -> Result<TableName> {
        if let Some(schema) = name.schema.strip_prefix(&*self.raw_prefix) {
            return Ok(TableName::new(&name.catalog, schema, &name.table));
        }
        let rules = self.rules.of(name);
        let user = self.accounts.user(principal);
        if !rules.allows(&user, &self.settings.read().default_privileges, SELECT) {
            return Err(no_right(SELECT, name));
        }
        if self.purpose == Purpose::Reading && rules.governed() {
            let message =
                format!("{name} has row filters or masks that the simulation can't put around it where it stands in this statement");
            return Err(Error::classed(ErrorKind::PermissionDenied, "INSUFFICIENT_PERMISSIONS", "42501", message));
        }
        Ok(name.clone())
    }
}

pub(crate) fn no_right(privilege: &str, name: &TableName) -> Error {
    let message = format!("Insufficient privileges:\nUser does not have {privilege} on Table '{name}'.");
    Error::classed(ErrorKind::PermissionDenied, "INSUFFICIENT_PERMISSIONS", "42501", message)
}

#[async_trait]
impl Catalog for Guarded {
    async fn snapshot(&self, principal: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        let name = self.admit(principal, name)?;
        match as_of {
            AsOf::Latest => self.catalogs.newest(principal, &name).await,
            as_of => self.catalogs.get(&name.catalog).snapshot(principal, &name, as_of).await,
        }
    }

    /// Nothing is answered from memory: plans made under older rules or versions never come back.
    fn cached_snapshot(&self, _: &Principal, _: &TableName) -> Option<Arc<TableSnapshot>> {
        None
    }

    async fn catalogs(&self, _: &Principal) -> Result<Vec<String>> {
        Ok(self.catalogs.names().map(String::from).collect())
    }

    async fn schemas(&self, principal: &Principal, catalog: &str) -> Result<Vec<String>> {
        self.catalogs.get(catalog).schemas(principal, catalog).await
    }

    async fn tables(&self, principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>> {
        self.catalogs.get(catalog).tables(principal, catalog, schema).await
    }

    async fn history(&self, principal: &Principal, name: &TableName, limit: usize) -> Result<Vec<CommitInfo>> {
        let name = self.admit(principal, name)?;
        self.catalogs.get(&name.catalog).history(principal, &name, limit).await
    }

    async fn refresh(&self, principal: &Principal, name: &TableName) -> Result<()> {
        let name = self.admit(principal, name)?;
        self.catalogs.get(&name.catalog).refresh(principal, &name).await
    }
}
