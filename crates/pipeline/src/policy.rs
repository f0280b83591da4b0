//! Which profile a query gets, and what its profile has spent today.
//!
//! Budgets are kept by the day, in UTC. A query's predicted price is set aside when it's decided on, so that
//! many at once can't all slip under the limit; when it ends, that becomes what it cost, or nothing when no
//! engine was given it. The log's sums, by all routers, come in every now and then and take the place of this
//! router's own that are in them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use flightpath_router::{Policy, Profile, Profiles};
use flightpath_types::{EngineId, Error, ErrorKind, Principal, Result, Session};
use parking_lot::Mutex;

const DAY_SECONDS: u64 = 86_400;
/// Charges that have ended and that the log may not have yet, of one profile, before they become one.
const ENDED_MAX: usize = 4_096;
/// Older ones become one. What was recorded so long ago the log has, or it's away.
const FOLDED_AFTER: Duration = Duration::from_secs(60);

pub(crate) struct Policies {
    profiles: ArcSwap<Profiles>,
    spending: Arc<Mutex<Spending>>,
}

#[derive(Debug, Default)]
struct Spending {
    /// Days since the epoch.
    day: u64,
    by_profile: HashMap<String, Spent>,
    charges: u64,
}

/// What one profile has spent on the day, in US dollars.
#[derive(Debug, Default)]
struct Spent {
    /// By the log.
    logged: f64,
    /// By queries of this router that the log may not have yet, by the number of their charge.
    own: HashMap<u64, Own>,
    /// Their sum.
    own_usd: f64,
    /// How many of them have ended.
    ended: usize,
    /// With so many more is it worth going through all of them again.
    fold_at: usize,
    /// By what has no record in any log. This router alone knows of it, for as long as it runs.
    unrecorded: f64,
    /// Of that, what was spent on questions about a query that hasn't come yet.
    asked: HashMap<Principal, f64>,
}

#[derive(Debug)]
struct Own {
    usd: f64,
    /// When the query had ended and its record was made.
    ended: Option<Instant>,
}

/// What is set aside for one query, until it's settled. Dropped before, nothing was spent.
#[derive(Debug)]
pub(crate) struct Charge {
    spending: Arc<Mutex<Spending>>,
    day: u64,
    profile: String,
    number: u64,
}

impl Policies {
    pub fn new(profiles: Profiles) -> Self {
        Self { profiles: ArcSwap::from_pointee(profiles), spending: Arc::default() }
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

    pub fn named(&self, profile: &str) -> Option<Arc<Profile>> {
        self.profiles.load().get(profile).cloned()
    }

    /// The profile that these settings ask for, before its budget is looked at: its limits hold in
    /// any case.
    pub fn profile(&self, settings: &Session) -> Result<Arc<Profile>> {
        let chosen = self.profiles.load().choose(settings.profile.as_deref(), &settings.principal, settings.tag.as_deref());
        chosen.map_err(Error::invalid)
    }

    /// What holds for a query of this profile now. What its own principal's questions about it have cost doesn't
    /// stand in its way.
    pub fn policy(&self, profile: &Arc<Profile>, settings: &Session) -> Policy {
        let mut spending = self.spending.lock();
        let today = spending.of_day(today());
        let spent = |name: &str| today.get(name).map_or(0.0, |spent| spent.usd_before(&settings.principal));
        self.profiles.load().policy(profile, settings.engine.clone(), spent)
    }

    /// What holds for a question: whoever only asks spends, too.
    pub fn policy_of_question(&self, profile: &Arc<Profile>, settings: &Session) -> Policy {
        let mut spending = self.spending.lock();
        let today = spending.of_day(today());
        self.profiles.load().policy(profile, settings.engine.clone(), |name| today.get(name).map_or(0.0, Spent::usd))
    }

    /// Sets the predicted price of a query aside that was decided on under `policy`. `None` when the
    /// profile's budget was used up meanwhile: it has to be decided on again. Questions that its principal asked
    /// before were about it, and stand in the way of whatever comes next.
    pub fn charge(&self, policy: &Policy, principal: &Principal, usd: f64) -> Option<Charge> {
        self.set_aside(
            policy,
            usd,
            |spent| spent.usd_before(principal),
            |spent| {
                spent.asked.remove(principal);
            },
        )
    }

    /// The same for a question.
    pub fn charge_question(&self, policy: &Policy, usd: f64) -> Option<Charge> {
        self.set_aside(policy, usd, Spent::usd, |_| {})
    }

    fn set_aside(&self, policy: &Policy, usd: f64, counts: impl FnOnce(&Spent) -> f64, then: impl FnOnce(&mut Spent)) -> Option<Charge> {
        let usd = if usd.is_finite() { usd.max(0.0) } else { 0.0 };
        let profile = &policy.profile;
        // What is restricted already is over budget, and may spend all the same.
        let limit = profile.budget.as_ref().filter(|_| policy.restriction.is_none()).map(|budget| budget.usd_per_day);
        let mut spending = self.spending.lock();
        let day = today();
        let number = spending.charges;
        let spent = spending.of_day(day).entry(profile.name.clone()).or_default();
        if limit.is_some_and(|limit| counts(spent) >= limit) {
            return None;
        }
        then(spent);
        spent.own.insert(number, Own { usd, ended: None });
        spent.own_usd += usd;
        spending.charges += 1;
        Some(Charge { spending: self.spending.clone(), day, profile: profile.name.clone(), number })
    }

    /// The same for a query that is run once more as it was decided on before, by this profile and for this
    /// engine. An error where its budget doesn't allow that any more.
    pub fn charge_again(&self, profile: &str, engine: &EngineId, settings: &Session, usd: f64) -> Result<Option<Charge>> {
        // Settings may have changed since.
        let Some(asked) = self.named(profile) else { return Ok(None) };
        let policy = self.policy(&asked, settings);
        let allowed = policy.profile.name == profile && policy.restriction.as_ref().is_none_or(|r| r.engines.contains(engine));
        let charge = if allowed { self.charge(&policy, &settings.principal, usd) } else { None };
        charge.map(Some).ok_or_else(|| {
            Error::new(
                ErrorKind::ResourceExhausted,
                format!("profile `{profile}` has spent its dollars of today since this query first ran; execute it again to have it decided anew"),
            )
        })
    }

    /// What the log says was spent on `day`, by all routers. It has all that was recorded before `recorded`;
    /// where that isn't known, the log may lag behind.
    pub fn learn(&self, day: u64, spent: impl IntoIterator<Item = (String, f64)>, recorded: Option<Instant>) {
        if day != today() {
            return;
        }
        let mut spending = self.spending.lock();
        let known = spending.of_day(day);
        for (profile, usd) in spent {
            let spent = known.entry(profile).or_default();
            match recorded {
                Some(recorded) => {
                    spent.own.retain(|_, own| own.ended.is_none_or(|ended| ended >= recorded));
                    spent.count();
                    spent.fold_at = 0;
                    spent.logged = usd;
                }
                // Some of this router's may be in it.
                None => spent.logged = spent.logged.max(usd - spent.ended_usd()),
            }
        }
    }
}

impl Charge {
    /// The query has ended and its record is made: this was spent, or nothing.
    pub fn settle(self, usd: Option<f64>) {
        if let Some(usd) = usd.filter(|usd| usd.is_finite()) {
            self.change(|spent, number| {
                if let Some(own) = spent.own.get_mut(&number) {
                    spent.own_usd += usd.max(0.0) - own.usd;
                    *own = Own { usd: usd.max(0.0), ended: Some(Instant::now()) };
                    spent.ended += 1;
                    if spent.ended > spent.fold_at.max(ENDED_MAX) {
                        spent.fold(Instant::now());
                        spent.fold_at = 2 * spent.ended;
                    }
                }
            });
        }
    }

    /// The same for a question of this principal's, which leaves no record: no sum of the log's will ever take its
    /// place.
    pub fn settle_question(self, principal: &Principal, usd: f64) {
        if usd.is_finite() {
            self.change(|spent, number| {
                if let Some(own) = spent.own.remove(&number) {
                    spent.own_usd -= own.usd;
                    spent.unrecorded += usd.max(0.0);
                    *spent.asked.entry(principal.clone()).or_default() += usd.max(0.0);
                }
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut Spent, u64)) {
        let mut spending = self.spending.lock();
        if spending.day == self.day
            && let Some(spent) = spending.by_profile.get_mut(&self.profile)
        {
            change(spent, self.number);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.change(|spent, number| {
            if spent.own.get(&number).is_some_and(|own| own.ended.is_none())
                && let Some(own) = spent.own.remove(&number)
            {
                spent.own_usd -= own.usd;
            }
        });
    }
}

impl Spent {
    fn usd(&self) -> f64 {
        self.logged + self.own_usd.max(0.0) + self.unrecorded
    }

    /// But for what this principal has spent on questions about its next query.
    fn usd_before(&self, principal: &Principal) -> f64 {
        self.usd() - self.asked.get(principal).copied().unwrap_or_default()
    }

    fn count(&mut self) {
        self.own_usd = self.own.values().map(|own| own.usd).sum();
        self.ended = self.own.values().filter(|own| own.ended.is_some()).count();
    }

    /// Makes one of all that ended a while ago: while the log is away they don't pile up.
    fn fold(&mut self, now: Instant) {
        let old = |own: &Own| own.ended.filter(|ended| now.saturating_duration_since(*ended) >= FOLDED_AFTER);
        let Some((number, latest)) = self.own.iter().filter_map(|(number, own)| Some((*number, old(own)?))).max_by_key(|(_, at)| *at)
        else {
            return;
        };
        let usd = self.own.values().filter(|own| old(own).is_some()).map(|own| own.usd).sum();
        self.own.retain(|_, own| old(own).is_none());
        self.own.insert(number, Own { usd, ended: Some(latest) });
        self.count();
    }

    fn ended_usd(&self) -> f64 {
        self.own.values().filter(|own| own.ended.is_some()).map(|own| own.usd).sum()
    }
}

impl Spending {
    fn of_day(&mut self, day: u64) -> &mut HashMap<String, Spent> {
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

    use super::*;

    fn policies() -> Policies {
        let budget = Budget { usd_per_day: 1.0, over: OverBudget::Refuse };
        let own = vec![Profile { budget: Some(budget), ..Profile::named("small") }];
        Policies::new(Profiles::new(own, ProfileAssignments::default()).unwrap())
    }

    fn policy(policies: &Policies, profile: &str) -> Policy {
        let settings = Session { profile: Some(profile.into()), ..Session::new(Principal::new("ann")) };
        policies.policy(&policies.profile(&settings).unwrap(), &settings)
    }

    fn restricted(policies: &Policies) -> bool {
        policy(policies, "small").restriction.is_some()
    }

    fn charge(policies: &Policies, usd: f64) -> Option<Charge> {
        policies.charge(&policy(policies, "small"), &Principal::new("ann"), usd)
    }

    #[test]
    fn charges_add_up_to_the_budget_and_are_forgotten_the_next_day() {
        let policies = policies();
        let first = charge(&policies, 0.6).unwrap();
        let _nan = charge(&policies, f64::NAN).unwrap();
        let _other = policies.charge(&policy(&policies, "batch"), &Principal::new("ann"), 7.0).unwrap();
        assert!(!restricted(&policies));
        let _second = charge(&policies, 0.4).unwrap();
        assert!(restricted(&policies));
        policies.spending.lock().day -= 1;
        assert!(!restricted(&policies));
        let _today = charge(&policies, 0.1).unwrap();
        // Yesterday's is nobody's any more.
        first.settle(Some(5.0));
        assert!(!restricted(&policies));
        assert_eq!(policies.spending.lock().by_profile.len(), 1);
    }

    /// All were decided on before any of them was charged.
    #[test]
    fn of_many_at_once_only_those_run_that_the_budget_has_room_for() {
        let policies = policies();
        let before = policy(&policies, "small");
        let charges: Vec<Charge> = (0..200).filter_map(|_| policies.charge(&before, &Principal::new("ann"), 0.3)).collect();
        assert_eq!(charges.len(), 4, "the last one may pass the limit");
        // Over its budget, where the profile says on which engines it goes on.
        let over = policy(&policies, "small");
        assert!(over.restriction.is_some() && policies.charge(&over, &Principal::new("ann"), 0.3).is_some());
        // Nothing was spent by those that no engine was given.
        drop(charges);
        assert!(!restricted(&policies));
    }

    #[test]
    fn a_query_is_run_once_more_only_as_far_as_the_budget_goes() {
        let policies = policies();
        let ann = Session::new(Principal::new("ann"));
        let again = |usd| policies.charge_again("small", &EngineId::new("duckdb"), &ann, usd);
        again(1.0).unwrap().expect("a charge").settle(Some(1.0));
        assert_eq!(again(0.1).err().map(|e| e.kind()), Some(ErrorKind::ResourceExhausted));
        // Whoever administers the server may have taken the profile away.
        assert!(policies.charge_again("gone", &EngineId::new("duckdb"), &ann, 0.1).is_ok_and(|charge| charge.is_none()));
    }

    #[test]
    fn what_it_cost_takes_the_place_of_what_was_predicted() {
        let policies = policies();
        for _ in 0..50 {
            charge(&policies, 0.9).expect("none of them cost as much as was thought").settle(Some(0.01));
        }
        charge(&policies, 0.1).unwrap().settle(Some(2.0));
        assert!(restricted(&policies));
    }

    #[test]
    fn the_logs_sums_count_this_routers_own_once() {
        let policies = policies();
        charge(&policies, 0.3).unwrap().settle(Some(0.3));
        let running = charge(&policies, 0.4).unwrap();
        policies.learn(today() - 1, [("small".to_string(), 9.0)], Some(Instant::now()));
        // All of it has been recorded: the log's sum holds the settled one, not the running one.
        policies.learn(today(), [("small".to_string(), 0.5)], Some(Instant::now()));
        assert!((policies.spending.lock().by_profile["small"].usd() - 0.9).abs() < 1e-9);
        running.settle(Some(0.05));
        // It isn't known whether the log has this one: less than that is nothing new.
        policies.learn(today(), [("small".to_string(), 0.55)], None);
        assert!((policies.spending.lock().by_profile["small"].usd() - 0.55).abs() < 1e-9);
        policies.learn(today(), [("small".to_string(), 1.5)], None);
        assert!(restricted(&policies));
    }

    #[test]
    fn what_leaves_no_record_counts_beside_what_the_log_says() {
        let policies = policies();
        let bob = Principal::new("bob");
        charge(&policies, 0.3).unwrap().settle_question(&bob, 0.4);
        for recorded in [Some(Instant::now()), None] {
            policies.learn(today(), [("small".to_string(), 0.5)], recorded);
            assert!((policies.spending.lock().by_profile["small"].usd() - 0.9).abs() < 1e-9);
        }
        charge(&policies, 0.0).unwrap().settle_question(&bob, 0.2);
        assert!(restricted(&policies));
    }

    #[test]
    fn who_asked_for_the_last_dollar_gets_one_query_and_no_other_question() {
        let policies = policies();
        let ann = Session { profile: Some("small".into()), ..Session::new(Principal::new("ann")) };
        let profile = policies.profile(&ann).unwrap();
        let question = policies.charge_question(&policies.policy_of_question(&profile, &ann), 2.0).unwrap();
        question.settle_question(&ann.principal, 2.0);
        assert!(policies.policy_of_question(&profile, &ann).restriction.is_some(), "no other question");
        let bob = Session::new(Principal::new("bob"));
        assert!(policies.policy(&profile, &bob).restriction.is_some(), "nobody else's query");
        let before = policies.policy(&profile, &ann);
        assert!(before.restriction.is_none());
        let charge = policies.charge(&before, &ann.principal, 0.1).expect("it was about this one");
        assert!(policies.charge(&before, &ann.principal, 0.1).is_none(), "and about no other");
        assert!(policies.policy(&profile, &ann).restriction.is_some());
        charge.settle(Some(0.1));
        assert!((policies.spending.lock().by_profile["small"].usd() - 2.1).abs() < 1e-9);
    }

    #[test]
    fn a_log_that_is_away_for_long_takes_no_memory() {
        let policies = policies();
        let count = 3 * ENDED_MAX;
        for _ in 0..count {
            charge(&policies, 0.0).unwrap().settle(Some(1e-6));
        }
        let mut spending = policies.spending.lock();
        let spent = spending.by_profile.get_mut("small").unwrap();
        // The log may have been asked meanwhile: what is new stays apart.
        assert_eq!(spent.own.len(), count);
        let later = Instant::now() + FOLDED_AFTER;
        spent.fold(later);
        assert!(spent.own.len() == 1 && (spent.usd() - 1e-6 * count as f64).abs() < 1e-9, "{}", spent.usd());
    }

    #[test]
    fn an_unknown_profile_is_an_error_that_lists_the_known_ones() {
        let error = policies().check("fast").unwrap_err().to_string();
        assert!(error.contains("small") && error.contains("interactive"), "{error}");
    }
}
