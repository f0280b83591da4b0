//! Several catalogs as one, each under the names of the catalogs it holds. Never asks one catalog
//! about a name that belongs to another.

use std::sync::Arc;

use async_trait::async_trait;
use flightpath_types::{Error, ErrorKind, Principal, Result};

use crate::discover::SYSTEM_SCHEMA;
use crate::errors::{self, NEAREST_MAX, NEAREST_SCORE_MIN};
use crate::{AsOf, Catalog, CommitInfo, TableName, TableSnapshot, TableSummary};

/// Catalogs by name. The first one is the default: it answers for `system`, this program's own.
pub struct CatalogSet {
    /// Never empty. Names in lower case.
    members: Vec<(String, Arc<dyn Catalog>)>,
}

impl CatalogSet {
    /// `members`: the name of a catalog and who answers for it; one implementation may stand under
    /// several names. Fails when there's none or two have one name.
    pub fn new(members: Vec<(String, Arc<dyn Catalog>)>) -> Result<Self> {
        let members: Vec<_> = members.into_iter().map(|(name, catalog)| (name.to_lowercase(), catalog)).collect();
        if members.is_empty() {
            return Err(Error::invalid("no catalog is configured"));
        }
        for (index, (name, _)) in members.iter().enumerate() {
            if name.is_empty() || name == SYSTEM_SCHEMA {
                return Err(Error::invalid(format!("a catalog can't be named '{name}'")));
            }
            if members[..index].iter().any(|(other, _)| other == name) {
                return Err(Error::invalid(format!("two catalogs are named '{name}'; rename one of them in the settings")));
            }
        }
        Ok(Self { members })
    }

    fn known(&self, catalog: &str) -> Option<&dyn Catalog> {
        if catalog.eq_ignore_ascii_case(SYSTEM_SCHEMA) {
            return self.members.first().map(|(_, first)| first.as_ref());
        }
        self.members.iter().find(|(name, _)| name.eq_ignore_ascii_case(catalog)).map(|(_, found)| found.as_ref())
    }

    fn find(&self, catalog: &str) -> Result<&dyn Catalog> {
        self.known(catalog).ok_or_else(|| {
            let wanted = catalog.to_lowercase();
            let mut names: Vec<(f64, &String)> = self.members.iter().map(|(name, _)| (strsim::jaro_winkler(&wanted, name), name)).collect();
            names.sort_by(|a, b| b.0.total_cmp(&a.0));
            let near: Vec<&str> = names.iter().filter(|(score, _)| *score >= NEAREST_SCORE_MIN).map(|(_, n)| n.as_str()).collect();
            let shown = if near.is_empty() { self.members.iter().map(|(name, _)| name.as_str()).collect() } else { near };
            errors::catalog_not_in_set(catalog, &shown[..shown.len().min(NEAREST_MAX)])
        })
    }
}

#[async_trait]
impl Catalog for CatalogSet {
    async fn snapshot(&self, principal: &Principal, name: &TableName, as_of: &AsOf) -> Result<Arc<TableSnapshot>> {
        self.find(&name.catalog)?.snapshot(principal, name, as_of).await
    }

    fn cached_snapshot(&self, principal: &Principal, name: &TableName) -> Option<Arc<TableSnapshot>> {
        self.known(&name.catalog)?.cached_snapshot(principal, name)
    }

    async fn catalogs(&self, principal: &Principal) -> Result<Vec<String>> {
        let mut all: Vec<String> = Vec::new();
        for (name, catalog) in &self.members {
            // A catalog that's down or that this principal may not see hides none of the others.
            match catalog.catalogs(principal).await {
                Ok(names) => all.extend(names.into_iter().filter(|n| n.eq_ignore_ascii_case(name))),
                Err(error) => {
                    tracing::warn!(catalog = %name, %error, "a catalog can't be listed");
                    // One that doesn't answer is there by the settings; what lies in it can't be listed either.
                    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) {
                        all.push(name.clone());
                    }
                }
            }
        }
        Ok(all)
    }

    async fn schemas(&self, principal: &Principal, catalog: &str) -> Result<Vec<String>> {
        self.find(catalog)?.schemas(principal, catalog).await
    }

    async fn tables(&self, principal: &Principal, catalog: &str, schema: &str) -> Result<Vec<TableSummary>> {
        self.find(catalog)?.tables(principal, catalog, schema).await
    }

    async fn history(&self, principal: &Principal, name: &TableName, limit: usize) -> Result<Vec<CommitInfo>> {
        self.find(&name.catalog)?.history(principal, name, limit).await
    }

    async fn refresh(&self, principal: &Principal, name: &TableName) -> Result<()> {
        self.find(&name.catalog)?.refresh(principal, name).await
    }

    async fn refresh_all(&self) {
        let mut seen: Vec<usize> = Vec::new();
        for (_, member) in &self.members {
            // One implementation may stand under several names.
            let address = Arc::as_ptr(member).cast::<()>() as usize;
            if !seen.contains(&address) {
                seen.push(address);
                member.refresh_all().await;
            }
        }
    }
}
