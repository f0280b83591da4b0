//! Everything the endpoints share.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::auth::Accounts;
use crate::config::Settings;
use crate::faults::Faults;
use crate::lakehouse::Lakehouse;
use crate::objects::Grants;
use crate::rules::RuleBook;
use crate::simulation::Counters;
use crate::spool::Spool;
use crate::statements::Statements;
use crate::storage::Links;
use crate::warehouses::Warehouses;

pub(crate) type Shared<T> = Arc<RwLock<T>>;

pub(crate) struct Workspace {
    pub lake: Arc<Lakehouse>,
    pub rules: Arc<RuleBook>,
    pub accounts: Arc<Accounts>,
    pub settings: Shared<Settings>,
    pub warehouses: Warehouses,
    pub statements: Statements,
    pub links: Links,
    pub grants: Grants,
    pub faults: Faults,
    pub counters: Counters,
    pub spool: Spool,
    /// `http://host:port`, where the simulation itself is reached.
    pub url: String,
    /// Ends running statements with the simulation.
    pub ending: CancellationToken,
}

pub(crate) type App = Arc<Workspace>;

impl Workspace {
    pub fn settings(&self) -> Settings {
        self.settings.read().clone()
    }
}
