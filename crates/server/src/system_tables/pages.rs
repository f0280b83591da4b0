//! What the log's database keeps, read a page after the other. Whose rows are shown is decided here, by the
//! database's filter alone; a query's own conditions only narrow it.

use std::sync::Arc;

use async_trait::async_trait;
use flightpath_types::{Error, ErrorKind, Principal, Result};
use futures::Stream;

use super::{CATCH_UP_MAX, LogSource};

/// Rows of the first page, which is all that a small LIMIT needs.
const FIRST_PAGE: usize = 100;

/// Rows in an order, and how a page of them is asked for.
#[async_trait]
pub(super) trait Paged: Send + Sync + 'static {
    type Row: Send + 'static;
    /// Where a page ended.
    type Key: Clone + Send + 'static;

    /// Columns whose conditions the database applies.
    const NARROWED_BY: &str;

    /// Leaves the rows of this principal alone.
    fn only(&mut self, principal: String);

    /// Of a page that isn't the first.
    fn rows(&self) -> usize;

    /// At most `limit` rows behind `after`.
    async fn page(&self, log: &LogSource, after: Option<Self::Key>, limit: usize) -> Result<Vec<Self::Row>>;

    fn key(row: &Self::Row) -> Self::Key;
}

struct Progress<P: Paged> {
    log: Arc<LogSource>,
    paged: P,
    after: Option<P::Key>,
    read: usize,
    state: State,
}

enum State {
    Fresh,
    Reading,
    /// More rows match than may be gone through.
    TooMany,
    Ended,
}

/// All pages of what `principal` may see; an error where more rows would have to be gone through than
/// `log.read_rows_max` allows.
pub(super) fn pages<P: Paged>(
    log: Arc<LogSource>,
    principal: &Principal,
    mut paged: P,
) -> impl Stream<Item = Result<Vec<P::Row>>> + Send + use<P> {
    if let Some(own) = log.administrators.scope(principal) {
        // Should the query ask for somebody else's, its own condition drops these.
        paged.only(own.to_string());
    }
    futures::stream::unfold(Progress { log, paged, after: None, read: 0, state: State::Fresh }, next)
}

async fn next<P: Paged>(mut progress: Progress<P>) -> Option<(Result<Vec<P::Row>>, Progress<P>)> {
    let rows_max = progress.log.rows_max;
    let limit = match progress.state {
        State::Ended => return None,
        State::TooMany => {
            progress.state = State::Ended;
            let narrowed_by = P::NARROWED_BY;
            let message = format!(
                "more than {rows_max} records would have to be gone through: narrow them down by {narrowed_by}, or raise log.read_rows_max"
            );
            // With a class: it isn't memory that ran out.
            return Some((Err(Error::classed(ErrorKind::ResourceExhausted, "TOO_MANY_RECORDS", "53400", message)), progress));
        }
        State::Fresh => {
            progress.log.recorder.flush(CATCH_UP_MAX).await;
            progress.state = State::Reading;
            FIRST_PAGE
        }
        State::Reading => progress.paged.rows(),
    };
    // One more than may be shown tells that there is one.
    let limit = limit.min((rows_max - progress.read).saturating_add(1));
    let page = progress.paged.page(&progress.log, progress.after.clone(), limit).await;
    let page = page.map(|mut page| {
        if page.len() < limit {
            progress.state = State::Ended;
        } else if page.len() > rows_max - progress.read {
            page.truncate(rows_max - progress.read);
            progress.state = State::TooMany;
        }
        progress.read += page.len();
        progress.after = page.last().map(P::key);
        page
    });
    if page.is_err() {
        progress.state = State::Ended;
    }
    Some((page, progress))
}
