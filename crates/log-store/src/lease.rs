//! Connections lent by their pool for one call.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Error, Pool};

/// Goes back to its pool only when the call has had its answer; else it is closed. One whose call was cut
/// short would keep the pool waiting for the rest of that answer, with a connection less, and a server
/// that has vanished never gives it. After a failed transaction SQLite may have ended the transaction by
/// itself (its disk was full): a connection that doesn't know would begin the next one inside of it, and
/// what it says is stored would be lost.
pub(crate) struct Lease<DB: Database> {
    connection: PoolConnection<DB>,
    answered: bool,
}

impl<DB: Database> Lease<DB> {
    pub async fn of(pool: &Pool<DB>) -> Result<Self, Error> {
        Ok(Self { connection: pool.acquire().await?, answered: false })
    }

    pub fn give_back(mut self) {
        self.answered = true;
    }
}

impl<DB: Database> Deref for Lease<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Lease<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }
}

impl<DB: Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.close_on_drop();
        }
    }
}

/// One statement on a connection of `$pool`, as the method `$run` (`execute`, `fetch_all`...) runs it.
macro_rules! ask {
    ($pool:expr, $action:literal, $run:ident, $statement:expr) => {{
        let failed = |e: sqlx::Error| crate::database_error($action, &e);
        let mut lease = crate::lease::Lease::of(&$pool).await.map_err(failed)?;
        let answer = $statement.$run(&mut *lease).await.map_err(failed)?;
        lease.give_back();
        answer
    }};
}
