//! From a planned query to a decision: what each engine is now and whether it may, what its profile and
//! budget allow, and what is set aside for it.

use std::sync::Arc;

use flightpath_catalog::{AccessRules, TableContents};
use flightpath_engine::Engine;
use flightpath_plan::{BoundTable, PlannedQuery};
use flightpath_router::{Contender, Policy, Profile, RouteInput, Strategy, route};
use flightpath_types::{Candidate, Decision, EngineId, Error, ErrorKind, QueryId, Refusal, RefusalClass, Result, Session};

use crate::policy::Charge;
use crate::port::Request;
use crate::service::Pipeline;

/// How often a query is decided on anew because its budget was used up meanwhile.
pub(crate) const CHARGE_ROUNDS_MAX: u32 = 16;

impl Pipeline {
    /// Whether the profile that these settings ask for may send what changes something to
    /// Databricks; `None` where the profile leaves it to the server.
    pub fn profile_writes(&self, settings: &Session) -> Option<bool> {
        match self.policies.profile(settings) {
            Ok(profile) => profile.writes,
            // It isn't known what holds.
            Err(_) => Some(false),
        }
    }

    /// Whether these settings and their profile, with what it has spent, let an engine be used at all. For
    /// whoever has to ask the engine before there's a query to decide on.
    pub fn profile_uses(&self, settings: &Session, engine: &EngineId) -> Result<()> {
        uses(&self.policies.policy_of_question(&self.policies.profile(settings)?, settings), engine)
    }

    /// The decision on a query that is going to run, and what is set aside for it.
    pub(crate) async fn decide_and_charge(
        &self,
        query_id: QueryId,
        query: &PlannedQuery,
        request: &Request,
        profile: &Arc<Profile>,
    ) -> (Decision, Option<Charge>) {
        let mut round = 0;
        loop {
            let policy = self.policies.policy(profile, &request.settings);
            let decision = self.decide(query_id, query, request, &policy).await;
            let Some(usd) = decision.chosen().map(|chosen| chosen.numbers.usd) else { return (decision, None) };
            // None: others have used the budget up since, so that another policy holds. Not for ever: settings
            // may change meanwhile, and then the log's sums alone tell.
            let charge = self.policies.charge(&policy, &request.settings.principal, usd);
            round += 1;
            if charge.is_some() || round == CHARGE_ROUNDS_MAX {
                return (decision, charge);
            }
        }
    }

    /// The decision on a query, waiting a little for engines that are being restarted when they
    /// alone could run it.
    pub(crate) async fn decide(&self, query_id: QueryId, query: &PlannedQuery, request: &Request, policy: &Policy) -> Decision {
        let decision = self.candidates(query_id, query, &request.settings, policy);
        let recovering: Vec<EngineId> = decision
            .candidates
            .iter()
            .filter(|c| c.refusal.as_ref().is_some_and(|r| r.class == RefusalClass::Health))
            .map(|c| c.engine.clone())
            .collect();
        if decision.chosen().is_none() && self.runner.wait_for_any(&recovering, self.limit_of(request)).await {
            return self.candidates(query_id, query, &request.settings, policy);
        }
        decision
    }

    pub(crate) fn candidates(&self, query_id: QueryId, query: &PlannedQuery, settings: &Session, policy: &Policy) -> Decision {
        let kept_off = |engine: &Arc<dyn Engine>| {
            let why = self.runner.health.keeps_off(engine.id(), query.fingerprint)?;
            Some(Refusal::new(RefusalClass::Health, why))
        };
        let refusal = |engine: &Arc<dyn Engine>| {
            engine.eligible(query).err().or_else(|| self.shadow.refusal(query, engine.id())).or_else(|| kept_off(engine))
        };
        let contenders: Vec<Contender> = self
            .runner
            .engines
            .iter()
            .map(|engine| Contender { facts: self.runner.facts(engine.as_ref()), refusal: refusal(engine) })
            .collect();
        route(&RouteInput {
            features: &query.features,
            fingerprint: Some(query.fingerprint),
            query_id,
            principal: &settings.principal,
            contenders: &contenders,
            policy,
            predictor: &self.predictor,
        })
    }
}

/// Whether a policy lets an engine be used at all.
pub(crate) fn uses(policy: &Policy, engine: &EngineId) -> Result<()> {
    let profile = &policy.profile;
    let why = if let Some(pinned) = policy.pinned.as_ref().filter(|pinned| *pinned != engine) {
        format!("the session pins engine `{pinned}`")
    } else if let Some(restriction) = policy.restriction.as_ref().filter(|r| !r.engines.contains(engine)) {
        restriction.why.clone()
    } else if profile.engines.as_ref().is_some_and(|allowed| !allowed.contains(engine)) {
        format!("profile `{}` doesn't use engine `{engine}`", profile.name)
    } else if let (Strategy::Always(only), None) = (&profile.strategy, &policy.pinned)
        && only != engine
    {
        format!("strategy {} allows `{only}` only", profile.strategy)
    } else {
        return Ok(());
    };
    Err(Error::not_eligible(why))
}

/// Whether it reads what not everybody may see: tables under rules, tables that only Databricks reads, and
/// whatever a statement reads that only Databricks understands.
pub(crate) fn is_governed(query: &PlannedQuery) -> bool {
    let under_rules =
        |table: &BoundTable| matches!(table.access(), AccessRules::Governed(_)) || matches!(table.snapshot.contents, TableContents::Remote);
    query.tables.iter().any(under_rules) || (query.tables.is_empty() && query.datafusion.is_err() && query.duckdb.is_err())
}

/// The error of a decision that chose nobody; where the session pins an engine, that one's reason counts.
pub(crate) fn refused(decision: &Decision, pinned: Option<&EngineId>) -> Option<Error> {
    if decision.chosen().is_some() {
        return None;
    }
    let counts = |c: &&Candidate| pinned.is_none_or(|pinned| c.engine == *pinned);
    let has = |class| decision.candidates.iter().filter(counts).any(|c| c.refusal.as_ref().is_some_and(|r| r.class == class));
    let message = format!("not eligible: no engine may run this query: {}", decision.refusals_text());
    let kind = if has(RefusalClass::Health) {
        ErrorKind::Unavailable
    } else if has(RefusalClass::Governance) {
        ErrorKind::PermissionDenied
    } else if has(RefusalClass::Budget) {
        ErrorKind::ResourceExhausted
    } else {
        ErrorKind::NotEligible
    };
    Some(Error::new(kind, message))
}
