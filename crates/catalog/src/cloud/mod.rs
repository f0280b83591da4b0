//! Tables in cloud storage: where one lies, and a store that reads what lies there and nothing else,
//! with credentials that were vended for it. A store belongs to one table and one principal; what
//! stores share is connections, which hold no credentials. Nothing here is ever written, and no
//! error repeats what a storage service answered: such answers quote the request, secrets included.

mod confined;
mod location;
mod stores;

pub use location::CloudLocation;
pub(crate) use location::outside;
pub(crate) use stores::own_error;
pub use stores::{CloudConfig, CloudStores, TableStore, store_error};
