//! A file that a plan names may be gone by the time it is read: VACUUM removes what newer versions of
//! a table don't need. Then the statement is planned once more, on the versions of now.

use std::sync::Arc;

use flightpath_plan::{PlannedQuery, Statement};
use flightpath_router::Policy;
use flightpath_types::{Decision, Error, ErrorKind, QueryId};

use crate::port::Request;
use crate::service::Pipeline;
use crate::submitted::SubmittedQuery;

impl Pipeline {
    /// The same query on newer versions of its tables, decided anew; `None` where that would change
    /// nothing, as for damaged files, or would break the schema that was promised.
    pub(crate) async fn replanned(
        &self,
        query_id: QueryId,
        query: &SubmittedQuery,
        planned: &PlannedQuery,
        error: &Error,
    ) -> Option<(Arc<PlannedQuery>, Decision)> {
        if error.kind() != ErrorKind::DataLoss || !matches!(query.statement, Statement::Query(_)) {
            return None;
        }
        for table in &planned.tables {
            self.catalog.refresh(&query.settings.principal, &table.snapshot.name).await.ok()?;
        }
        let request = Request {
            text: query.text.clone(),
            params: query.params.clone(),
            session: query.session.clone(),
            settings: query.settings.clone(),
            token: query.caller_token.clone(),
            deadline: None,
            traceparent: query.traceparent.clone(),
        };
        let Statement::Query(renewed) = self.plan(&request).await.ok()?.statement else { return None };
        if versions(&renewed) == versions(planned) || renewed.schema != planned.schema {
            return None;
        }
        let profile = self.policies.named(query.decision.as_ref()?.profile.as_deref()?)?;
        // What is set aside for it already pays for this one: it holds as it did.
        let policy = Policy { profile, pinned: query.settings.engine.clone(), restriction: None, handed_down: None };
        let decision = self.decide(query_id, &renewed, &request, &policy).await;
        decision.chosen()?;
        tracing::warn!(%query_id, %error, "files of an older version are gone; the query is planned again");
        Some((renewed, decision))
    }
}

fn versions(query: &PlannedQuery) -> Vec<(String, u64)> {
    query.tables.iter().map(|table| (table.snapshot.name.to_string(), table.snapshot.version)).collect()
}
