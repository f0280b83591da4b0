//! What each profile has spent, by day: summed up as records are written and their costs are noted, so that
//! reading it costs the same however many queries there were.

use std::collections::{BTreeMap, HashSet};

use crate::insert::NewQuery;

const DAY_MS: i64 = 86_400_000;

/// US dollars to add, by day (since the Unix epoch, UTC) and profile. Sorted: whoever adds several locks them
/// in the same order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Spending(pub BTreeMap<(i64, String), f64>);

impl Spending {
    pub fn add(&mut self, started_unix_ms: i64, profile: String, usd: f64) {
        if usd.is_finite() && usd != 0.0 {
            *self.0.entry((started_unix_ms.div_euclid(DAY_MS), profile)).or_default() += usd;
        }
    }
}

/// What a query counts for: what it cost or, until that's known, was predicted to. Nothing where no engine ran it.
pub(crate) struct Spent {
    query_id: String,
    started_unix_ms: i64,
    profile: String,
    usd: f64,
}

impl Spent {
    pub fn of(query: &NewQuery) -> Option<Self> {
        query.engine.as_ref()?;
        Some(Self {
            query_id: query.query_id.clone(),
            started_unix_ms: query.started_unix_ms,
            profile: query.profile.clone()?,
            usd: query.usd_actual.or(query.predicted_usd)?,
        })
    }
}

/// Of those that were written, which the others had been before.
pub(crate) fn of_written(spent: Vec<Spent>, mut written: HashSet<String>) -> Spending {
    let mut spending = Spending::default();
    for Spent { query_id, started_unix_ms, profile, usd } in spent {
        if written.remove(&query_id) {
            spending.add(started_unix_ms, profile, usd);
        }
    }
    spending
}

/// The last statement of its transaction: other routers wait for its rows.
macro_rules! add_spending {
    ($database:ty, $transaction:expr, $spending:expr) => {{
        let crate::spending::Spending(amounts) = $spending;
        if !amounts.is_empty() {
            let mut insert = sqlx::QueryBuilder::<$database>::new("INSERT INTO spending (day, profile, usd) ");
            insert.push_values(amounts, |mut row, ((day, profile), usd)| {
                row.push_bind(day).push_bind(profile).push_bind(usd);
            });
            insert.push(" ON CONFLICT (day, profile) DO UPDATE SET usd = spending.usd + excluded.usd");
            insert.build().execute(&mut *$transaction).await?;
        }
    }};
}
