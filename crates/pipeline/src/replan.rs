//! A file that a plan names may be gone by the time it is read: VACUUM removes what newer versions of
//! a table don't need. Then the statement is planned once more, on the versions of now.

use std::sync::Arc;

use flightpath_plan::{PlannedQuery, Statement};
use flightpath_router::{Policy, Restriction};
use flightpath_types::{Candidate, Decision, Error, ErrorKind, QueryId, Refusal, RefusalClass};

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
            prepared_in: None,
        };
        let Statement::Query(renewed) = self.plan(&request).await.ok()?.statement else { return None };
        if versions(&renewed) == versions(planned) || renewed.schema != planned.schema {
            return None;
        }
        let profile = self.policies.named(query.decision.as_ref()?.profile.as_deref()?)?;
        // What is set aside for it already pays for this one: it holds as it did.
        let restriction = query.decision.as_ref().and_then(as_allowed);
        let mut profile = profile.as_ref().clone();
        profile.limits.scan_bytes_max = [profile.limits.scan_bytes_max, query.limits.scan_bytes_max].into_iter().flatten().min();
        let profile = Arc::new(profile);
        let policy = Policy { profile, pinned: query.settings.engine.clone(), restriction, handed_down: None };
        let decision = self.decide(query_id, &renewed, &request, &policy).await;
        decision.chosen()?;
        tracing::warn!(%query_id, %error, "files of an older version are gone; the query is planned again");
        Some((renewed, decision))
    }
}

/// The engines that profile and budget had left to the query, where they had left out any: the profile may be
/// one that it was handed down to, and what the first one forbids stays forbidden.
fn as_allowed(decision: &Decision) -> Option<Restriction> {
    let forbids = |refusal: &Refusal| matches!(refusal.class, RefusalClass::Budget | RefusalClass::Policy);
    let refusal = |c: &Candidate| c.refusal.clone().filter(forbids);
    let why = decision.candidates.iter().find_map(refusal)?.reason;
    let left = decision.candidates.iter().filter(|c| refusal(c).is_none());
    Some(Restriction { engines: left.map(|c| c.engine.clone()).collect(), why })
}

fn versions(query: &PlannedQuery) -> Vec<(String, u64)> {
    query.tables.iter().map(|table| (table.snapshot.name.to_string(), table.snapshot.version)).collect()
}
