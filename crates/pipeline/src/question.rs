//! What it costs to ask a warehouse about a statement that it alone understands. There's neither a query yet
//! that could pay nor a record of it: the profile of whoever asks pays, by the same rules.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use flightpath_engine::Findings;
use flightpath_router::marginal_usd;
use flightpath_types::{EngineFacts, EngineId, EngineState, Error, ErrorKind, Principal, Result, Session};

use crate::decide::{CHARGE_ROUNDS_MAX, uses};
use crate::learn::Bill;
use crate::lifecycle::micros;
use crate::policy::Charge;
use crate::service::Pipeline;

/// A question on its way to a warehouse. It costs nothing until the warehouse has taken it; from then on what its
/// time costs, and what was set aside at least, whatever comes of it: whoever no longer waits for the answer has
/// woken the warehouse all the same.
pub struct Question {
    /// `None` once it is settled.
    charge: Option<Charge>,
    principal: Principal,
    /// What was set aside, in US dollars.
    usd: f64,
    bill: Bill,
    begun: Instant,
}

impl Question {
    /// `charge` sets dollars aside; `None` where there aren't so many left.
    fn new(principal: Principal, facts: EngineFacts, charge: impl FnOnce(f64) -> Option<Charge>) -> Option<Self> {
        let usd = marginal_usd(facts.overhead_ms, 0, 0, &facts);
        let findings = Arc::<Findings>::default();
        findings.taken().store(false, Ordering::Relaxed);
        let bill = Bill { facts, scan_bytes: 0, findings };
        Some(Self { charge: Some(charge(usd)?), principal, usd, bill, begun: Instant::now() })
    }

    /// Where the engine tells whether it has taken the question.
    pub fn findings(&self) -> Arc<Findings> {
        self.bill.findings.clone()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let Some(charge) = self.charge.take() else { return };
        let usd = match self.bill.findings.taken().load(Ordering::Relaxed) {
            true => self.usd.max(self.bill.settle(micros(self.begun.elapsed()), 0).0),
            false => 0.0,
        };
        charge.settle_question(&self.principal, usd);
    }
}

impl Pipeline {
    /// Sets aside what asking this engine about a statement costs now. To be called right before it's asked: who
    /// comes later finds a warehouse that is up. An error where the engine can't be asked, or the profile of these
    /// settings, with what it has left of its budget, doesn't allow it.
    pub fn question(&self, settings: &Session, engine: &EngineId) -> Result<Question> {
        let asked = self.runner.engines.iter().find(|known| known.id() == engine);
        let asked = asked.ok_or_else(|| Error::internal(format!("there is no engine `{engine}` to be asked")))?;
        let profile = self.policies.profile(settings)?;
        for _ in 0..CHARGE_ROUNDS_MAX {
            let policy = self.policies.policy_of_question(&profile, settings);
            uses(&policy, engine)?;
            let facts = self.runner.facts(asked.as_ref());
            match &facts.state {
                EngineState::Ready => {}
                EngineState::Draining => return Err(Error::unavailable(format!("engine `{engine}` is shutting down"))),
                EngineState::Down(why) => return Err(Error::unavailable(why.clone())),
            }
            // None: others have used the budget up since, so that another policy holds.
            if let Some(question) = Question::new(settings.principal.clone(), facts, |usd| self.policies.charge_question(&policy, usd)) {
                return Ok(question);
            }
        }
        Err(Error::new(ErrorKind::ResourceExhausted, format!("profile `{}` has spent its dollars of today", profile.name)))
    }
}

#[cfg(test)]
mod tests {
    use flightpath_router::{Budget, OverBudget, Profile, ProfileAssignments, Profiles};
    use flightpath_types::{ComputePrice, Pricing, WarehouseActivity};

    use super::*;
    use crate::fixtures;
    use crate::policy::Policies;

    /// At six dollars an hour its start and its idle tail cost two.
    fn asleep() -> EngineFacts {
        warehouse(WarehouseActivity::Asleep)
    }

    fn warehouse(activity: WarehouseActivity) -> EngineFacts {
        let compute = ComputePrice::Warehouse { usd_per_hour: 6.0, activity, start_ms: 120_000.0, auto_stop_ms: Some(1_080_000.0) };
        EngineFacts { pricing: Pricing { compute, ..Pricing::default() }, ..fixtures::facts(&EngineId::new("databricks")) }
    }

    /// Whether a profile with a dollar a day has something left after a question that goes on like that.
    fn is_affordable(facts: EngineFacts, goes_on: impl FnOnce(Question)) -> bool {
        let small = Profile { budget: Some(Budget { usd_per_day: 1.0, over: OverBudget::Refuse }), ..Profile::named("small") };
        let policies = Policies::new(Profiles::new(vec![small], ProfileAssignments::default()).unwrap());
        let settings = Session { profile: Some("small".into()), ..Session::new(Principal::new("ann")) };
        let policy = || policies.policy_of_question(&policies.profile(&settings).unwrap(), &settings);
        let asker = settings.principal.clone();
        goes_on(Question::new(asker, facts, |usd| policies.charge_question(&policy(), usd)).expect("nothing was spent before"));
        policy().restriction.is_none()
    }

    #[test]
    fn who_wakes_a_warehouse_by_a_question_pays_for_it() {
        let take = |question: Question| question.findings().taken().store(true, Ordering::Relaxed);
        assert!(!is_affordable(asleep(), take), "whatever came of it");
        assert!(is_affordable(asleep(), drop), "it never came there, or was turned away");
        // One that is up for others costs nearly nothing.
        assert!(is_affordable(warehouse(WarehouseActivity::Busy), take));
    }
}
