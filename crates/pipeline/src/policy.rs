//! Which profile a query gets, and what its profile has spent today.
//!
//! Budgets are kept by the day, in UTC. A query is charged its predicted price when it starts, so
//! that many at once can't all slip under the limit, and nothing when it never ran. What other
//! routers spend is learned from the log every now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use flightpath_router::{Policy, Profile, Profiles};
use flightpath_types::{Error, Result, Session};
use parking_lot::Mutex;

const DAY_SECONDS: u64 = 86_400;

pub(crate) struct Policies {
    profiles: ArcSwap<Profiles>,
    spending: Mutex<Spending>,
}

#[derive(Default)]
struct Spending {
    /// Days since the epoch.
    day: u64,
    by_profile: HashMap<String, f64>,
}

impl Policies {
    pub fn new(profiles: Profiles) -> Self {
        Self { profiles: ArcSwap::from_pointee(profiles), spending: Mutex::default() }
    }

    /// For whoever comes from now on.
    pub fn replace(&self, profiles: Profiles) {
        self.profiles.store(Arc::new(profiles));
    }

    pub fn check(&self, name: &str) -> Result<()> {
        let profiles = self.profiles.load();
        match profiles.get(name) {
            Some(_) => Ok(()),
            None => {
                let known: Vec<&str> = profiles.names().collect();
                Err(Error::invalid(format!("there is no profile `{name}`; profiles are {}", known.join(", "))))
            }
        }
    }

    /// The profile that these settings ask for, before its budget is looked at: its limits hold in
    /// any case.
    pub fn profile(&self, settings: &Session) -> Result<Arc<Profile>> {
        let chosen = self.profiles.load().choose(settings.profile.as_deref(), &settings.principal, settings.tag.as_deref());
        chosen.map_err(Error::invalid)
    }

    /// What holds for a query of this profile now.
    pub fn policy(&self, profile: &Arc<Profile>, settings: &Session) -> Policy {
        let spending = self.spending.lock();
        let today = today();
        let spent = |name: &str| if spending.day == today { spending.by_profile.get(name).copied().unwrap_or(0.0) } else { 0.0 };
        self.profiles.load().policy(profile, settings.engine.clone(), spent)
    }

    /// A query of this profile starts.
    pub fn charge(&self, profile: &str, usd: f64) {
        if usd.is_finite() && usd > 0.0 {
            *self.spending.lock().of_day(today()).entry(profile.to_string()).or_default() += usd;
        }
    }

    /// What the log says was spent on `day`, by all routers. Charges that it hasn't yet stay.
    pub fn learn(&self, day: u64, spent: impl IntoIterator<Item = (String, f64)>) {
        if day != today() {
            return;
        }
        let mut spending = self.spending.lock();
        let own = spending.of_day(day);
        for (profile, usd) in spent {
            let known = own.entry(profile).or_default();
            *known = known.max(usd);
        }
    }
}

impl Spending {
    fn of_day(&mut self, day: u64) -> &mut HashMap<String, f64> {
        if self.day != day {
            self.day = day;
            self.by_profile.clear();
        }
        &mut self.by_profile
    }
}

/// Days since the epoch.
pub(crate) fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY_SECONDS)
}

#[cfg(test)]
mod tests {
    use flightpath_router::{Budget, OverBudget, ProfileAssignments};
    use flightpath_types::Principal;

    use super::*;

    fn policies() -> Policies {
        let budget = Budget { usd_per_day: 1.0, over: OverBudget::Refuse };
        let own = vec![Profile { budget: Some(budget), ..Profile::named("small") }];
        Policies::new(Profiles::new(own, ProfileAssignments::default()).unwrap())
    }

    fn restricted(policies: &Policies) -> bool {
        let settings = Session { profile: Some("small".into()), ..Session::new(Principal::new("ann")) };
        policies.policy(&policies.profile(&settings).unwrap(), &settings).restriction.is_some()
    }

    #[test]
    fn charges_add_up_to_the_budget_and_are_forgotten_the_next_day() {
        let policies = policies();
        policies.charge("small", 0.6);
        policies.charge("small", f64::NAN);
        policies.charge("other", 7.0);
        assert!(!restricted(&policies));
        policies.charge("small", 0.4);
        assert!(restricted(&policies));
        policies.spending.lock().day -= 1;
        assert!(!restricted(&policies));
        policies.charge("small", 0.1);
        assert_eq!(policies.spending.lock().by_profile.len(), 1);
    }

    #[test]
    fn other_routers_spending_counts_and_is_never_added_twice() {
        let policies = policies();
        policies.charge("small", 0.3);
        policies.learn(today(), [("small".to_string(), 0.2)]);
        policies.learn(today() - 1, [("small".to_string(), 9.0)]);
        assert!(!restricted(&policies));
        policies.learn(today(), [("small".to_string(), 1.5)]);
        assert!(restricted(&policies));
    }

    #[test]
    fn an_unknown_profile_is_an_error_that_lists_the_known_ones() {
        let error = policies().check("fast").unwrap_err().to_string();
        assert!(error.contains("small") && error.contains("interactive"), "{error}");
    }
}
