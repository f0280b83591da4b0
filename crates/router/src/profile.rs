//! Profiles: a strategy with its weights, SLO, engines, limits and budget under one name, and which
//! of them a query gets. Pure: what was spent is told by the caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flightpath_types::{EngineId, Principal};

use crate::{Policy, Restriction, Strategy};

/// The profile of whoever has none.
pub const DEFAULT_PROFILE: &str = "default";
/// How many budgets a query may be handed down through.
const DOWNGRADES_MAX: usize = 8;

/// How a kind of work is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    pub name: String,
    pub strategy: Strategy,
    /// What a second beyond the SLO is worth, in US dollars: the lambda of strategy `cost`.
    pub usd_per_second_late: f64,
    pub slo_ms: f64,
    /// Engines that it may use; all when not set.
    pub engines: Option<Vec<EngineId>>,
    pub limits: ProfileLimits,
    pub budget: Option<Budget>,
    /// Whether statements that change something may be sent to Databricks; as the server says where
    /// it isn't set.
    pub writes: Option<bool>,
    /// Users that it is assigned to can't choose another one.
    pub binding: bool,
}

/// What one query may take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProfileLimits {
    /// From the start to the last row; kept by whoever runs the query.
    pub timeout: Option<Duration>,
    /// Rows of the result; kept by whoever streams it.
    pub rows_max: Option<u64>,
    /// Bytes to be read by the plan's estimate; kept by the router.
    pub scan_bytes_max: Option<u64>,
}

/// Dollars per day (UTC) for all queries of a profile together.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    pub usd_per_day: f64,
    pub over: OverBudget,
}

/// What happens beyond it.
#[derive(Debug, Clone, PartialEq)]
pub enum OverBudget {
    /// On with another profile, and its budget.
    Profile(String),
    /// On with these engines alone.
    Engines(Vec<EngineId>),
    Refuse,
}

impl Profile {
    /// Rules, no limits, no budget.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::Rules,
            usd_per_second_late: 0.01,
            slo_ms: 2_000.0,
            engines: None,
            limits: ProfileLimits::default(),
            budget: None,
            writes: None,
            binding: false,
        }
    }

    /// The profiles that are there without any settings.
    pub fn shipped() -> Vec<Self> {
        vec![
            Self::named(DEFAULT_PROFILE),
            // A person waits: an hour of theirs at 36 dollars.
            Self {
                strategy: Strategy::Cost { usd_per_second_late: None, slo_ms: None },
                limits: ProfileLimits { timeout: Some(Duration::from_secs(600)), ..Default::default() },
                ..Self::named("interactive")
            },
            Self {
                strategy: Strategy::CheapestWithinSlo { slo_ms: None },
                slo_ms: 3_000.0,
                limits: ProfileLimits { timeout: Some(Duration::from_secs(120)), ..Default::default() },
                ..Self::named("dashboard")
            },
            // Nobody waits, but it has to be through by the morning: about a dollar an hour.
            Self {
                strategy: Strategy::Cost { usd_per_second_late: None, slo_ms: None },
                usd_per_second_late: 0.0003,
                slo_ms: 300_000.0,
                ..Self::named("batch")
            },
            Self {
                strategy: Strategy::Cost { usd_per_second_late: None, slo_ms: None },
                usd_per_second_late: 0.0,
                slo_ms: 3_600_000.0,
                ..Self::named("frugal")
            },
        ]
    }
}

/// Who gets which profile when the session names none. A tag comes before its user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProfileAssignments {
    pub default: Option<String>,
    pub by_principal: BTreeMap<String, String>,
    pub by_tag: BTreeMap<String, String>,
}

/// All profiles, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiles {
    by_name: BTreeMap<String, Arc<Profile>>,
    assignments: ProfileAssignments,
}

impl Default for Profiles {
    fn default() -> Self {
        let by_name = Profile::shipped().into_iter().map(|profile| (profile.name.clone(), Arc::new(profile))).collect();
        Self { by_name, assignments: ProfileAssignments::default() }
    }
}

/// What is wrong with a profile, or, without one, with who is assigned which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileMistake {
    pub profile: Option<String>,
    /// The profile's setting that is to blame, by its name in the settings.
    pub setting: Option<&'static str>,
    pub message: String,
}

impl ProfileMistake {
    fn of(profile: &str, message: String) -> Self {
        Self { profile: Some(profile.to_string()), setting: None, message }
    }
}

impl Profiles {
    /// The shipped ones, with `own` instead of or beside them. Every mistake is reported.
    pub fn new(own: Vec<Profile>, assignments: ProfileAssignments) -> Result<Self, Vec<ProfileMistake>> {
        let mut by_name = Self::default().by_name;
        let mut mistakes = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for profile in own {
            if !seen.insert(profile.name.clone()) {
                let message = format!("profile `{}` is defined twice", profile.name);
                mistakes.push(ProfileMistake::of(&profile.name, message));
            }
            by_name.insert(profile.name.clone(), Arc::new(profile));
        }
        let profiles = Self { by_name, assignments };
        profiles.check(&mut mistakes);
        if mistakes.is_empty() { Ok(profiles) } else { Err(mistakes) }
    }

    fn check(&self, mistakes: &mut Vec<ProfileMistake>) {
        for profile in self.by_name.values() {
            let name = &profile.name;
            let mut wrong = |setting, message| mistakes.push(ProfileMistake { setting, ..ProfileMistake::of(name, message) });
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                wrong(None, format!("profile name `{name}` must be 1 to 64 letters, digits, `_` or `-`"));
            }
            if !(0.0..=1e6).contains(&profile.usd_per_second_late) {
                wrong(Some("usd_per_second_late"), format!("profile `{name}`: a second late is worth between 0 and 1,000,000 dollars"));
            }
            if !(profile.slo_ms > 0.0 && profile.slo_ms <= 86_400_000.0) {
                wrong(Some("slo_seconds"), format!("profile `{name}`: the SLO lies between 0 and 24 hours"));
            }
            if profile.engines.as_ref().is_some_and(Vec::is_empty) {
                wrong(Some("engines"), format!("profile `{name}` allows no engine; leave `engines` out to allow all"));
            }
            if let Some(budget) = &profile.budget {
                if !(0.0..=1e9).contains(&budget.usd_per_day) {
                    let message = format!("profile `{name}`: a budget lies between 0 and 1,000,000,000 dollars a day");
                    wrong(Some("budget_usd_per_day"), message);
                }
                if let Some(message) = self.downgrade_mistake(profile) {
                    wrong(Some("over_budget_profile"), message);
                }
            }
        }
        let assigned = &self.assignments;
        let names = assigned.default.iter().chain(assigned.by_principal.values()).chain(assigned.by_tag.values());
        for name in names.filter(|name| !self.by_name.contains_key(*name)) {
            mistakes.push(ProfileMistake { profile: None, setting: None, message: self.unknown(name) });
        }
    }

    /// What is wrong with where a profile's queries go when it is over its budget.
    fn downgrade_mistake(&self, profile: &Profile) -> Option<String> {
        let mut at = profile;
        for _ in 0..DOWNGRADES_MAX {
            let Some(OverBudget::Profile(next)) = at.budget.as_ref().map(|budget| &budget.over) else { return None };
            match self.by_name.get(next) {
                Some(next) => at = next,
                // Said of the profile that names it.
                None if at.name != profile.name => return None,
                None => return Some(format!("profile `{}`: over its budget, {}", at.name, self.unknown(next))),
            }
        }
        Some(format!("profile `{}` is handed down in a circle when over budget", profile.name))
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.names().collect();
        format!("there is no profile `{name}`; profiles are {}", known.join(", "))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.by_name.get(name)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.by_name.values()
    }

    /// The session's own profile, or the tag's, or the user's, or the default. An error for a name
    /// that isn't known.
    pub fn choose(&self, session: Option<&str>, principal: &Principal, tag: Option<&str>) -> Result<Arc<Profile>, String> {
        let assigned = &self.assignments;
        let own = assigned.by_principal.get(principal.as_str());
        if let Some(held) = own.and_then(|name| self.by_name.get(name)).filter(|profile| profile.binding) {
            return match session {
                Some(other) if other != held.name => Err(format!(
                    "profile `{}` is assigned to you and can't be left for `{other}`; ask who administers this server",
                    held.name
                )),
                _ => Ok(held.clone()),
            };
        }
        let name = session
            .or_else(|| tag.and_then(|tag| assigned.by_tag.get(tag)).map(String::as_str))
            .or_else(|| own.map(String::as_str))
            .or(assigned.default.as_deref())
            .unwrap_or(DEFAULT_PROFILE);
        self.by_name.get(name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// What holds for a query of this profile now, given what each profile has spent today.
    pub fn policy(&self, profile: &Arc<Profile>, pinned: Option<EngineId>, spent_usd: impl Fn(&str) -> f64) -> Policy {
        let mut policy = Policy { profile: profile.clone(), pinned, restriction: None, handed_down: None };
        for _ in 0..DOWNGRADES_MAX {
            let Some(budget) = &policy.profile.budget else { return policy };
            let spent = spent_usd(&policy.profile.name);
            // What can't be told is over budget: money is never spent by mistake.
            if spent < budget.usd_per_day {
                return policy;
            }
            let why = format!("profile `{}` has spent its {:.2} dollars of today", policy.profile.name, budget.usd_per_day);
            let engines = match &budget.over {
                OverBudget::Profile(next) => match self.by_name.get(next) {
                    Some(next) => {
                        let why = format!("{why}, so profile `{}` holds", next.name);
                        policy.handed_down = Some(match policy.handed_down {
                            Some(before) => format!("{before}; {why}"),
                            None => why,
                        });
                        policy.profile = Arc::new(narrowed(next, &policy.profile));
                        continue;
                    }
                    None => Vec::new(),
                },
                OverBudget::Engines(engines) => engines.clone(),
                OverBudget::Refuse => Vec::new(),
            };
            policy.restriction = Some(Restriction { engines, why });
            return policy;
        }
        policy
    }
}

/// A profile for the queries of one that has spent its budget: what that one forbids stays forbidden, but
/// for engines that the next one names itself.
fn narrowed(next: &Profile, from: &Profile) -> Profile {
    let mut narrowed = next.clone();
    narrowed.engines = next.engines.clone().or_else(|| from.engines.clone());
    narrowed.limits.scan_bytes_max = [next.limits.scan_bytes_max, from.limits.scan_bytes_max].into_iter().flatten().min();
    narrowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_budget(name: &str, over: OverBudget) -> Profile {
        Profile { budget: Some(Budget { usd_per_day: 5.0, over }), ..Profile::named(name) }
    }

    #[test]
    fn the_session_comes_before_tag_user_and_default() {
        let assignments = ProfileAssignments {
            default: Some("batch".into()),
            by_principal: [("ana".to_string(), "interactive".to_string())].into(),
            by_tag: [("tiles".to_string(), "dashboard".to_string())].into(),
        };
        let profiles = Profiles::new(Vec::new(), assignments).unwrap();
        let name = |session, who: &str, tag| profiles.choose(session, &Principal::new(who), tag).map(|p| p.name.clone());
        assert_eq!(name(Some("frugal"), "ana", Some("tiles")), Ok("frugal".into()));
        assert_eq!(name(None, "ana", Some("tiles")), Ok("dashboard".into()));
        assert_eq!(name(None, "ana", Some("other")), Ok("interactive".into()));
        assert_eq!(name(None, "bob", None), Ok("batch".into()));
        assert!(name(Some("fast"), "bob", None).unwrap_err().contains("batch, dashboard, default, frugal, interactive"));
    }

    #[test]
    fn a_binding_profile_is_not_left() {
        let held = Profile { binding: true, ..Profile::named("small") };
        let assignments = ProfileAssignments {
            default: None,
            by_principal: [("ana".to_string(), "small".to_string())].into(),
            by_tag: [("tiles".to_string(), "dashboard".to_string())].into(),
        };
        let profiles = Profiles::new(vec![held], assignments).unwrap();
        let name = |session, who: &str, tag| profiles.choose(session, &Principal::new(who), tag).map(|p| p.name.clone());
        assert_eq!(name(None, "ana", Some("tiles")), Ok("small".into()));
        assert_eq!(name(Some("small"), "ana", None), Ok("small".into()));
        assert!(name(Some("batch"), "ana", None).unwrap_err().contains("can't be left"));
        assert_eq!(name(Some("batch"), "bob", None), Ok("batch".into()));
    }

    #[test]
    fn over_budget_a_query_goes_where_the_profile_says() {
        let local = vec![EngineId::new("duckdb")];
        let own = vec![
            with_budget("rich", OverBudget::Profile("poor".into())),
            with_budget("poor", OverBudget::Engines(local.clone())),
            with_budget("strict", OverBudget::Refuse),
        ];
        let profiles = Profiles::new(own, ProfileAssignments::default()).unwrap();
        let policy = |name: &str, spent: f64| profiles.policy(profiles.get(name).unwrap(), None, |of| if of == name { spent } else { 0.0 });
        assert_eq!((policy("rich", 4.99).profile.name.as_str(), policy("rich", 5.0).profile.name.as_str()), ("rich", "poor"));
        assert!(policy("rich", 5.0).handed_down.unwrap().contains("so profile `poor` holds") && policy("rich", 4.99).handed_down.is_none());
        assert_eq!(policy("poor", 6.0).restriction.map(|r| r.engines), Some(local));
        let refused = policy("strict", f64::NAN).restriction.unwrap();
        assert!(refused.engines.is_empty() && refused.why.contains("5.00 dollars"), "{}", refused.why);
    }

    #[test]
    fn what_a_profile_forbids_stays_forbidden_when_its_money_is_spent() {
        let local = Some(vec![EngineId::new("duckdb")]);
        let mut small = with_budget("small", OverBudget::Profile("frugal".into()));
        small.engines = local.clone();
        small.limits.scan_bytes_max = Some(10);
        let mut moved = with_budget("moved", OverBudget::Profile("elsewhere".into()));
        moved.engines = local;
        let elsewhere = Profile { engines: Some(vec![EngineId::new("datafusion")]), ..Profile::named("elsewhere") };
        let profiles = Profiles::new(vec![small, moved, elsewhere], ProfileAssignments::default()).unwrap();
        let holds = |name: &str| profiles.policy(profiles.get(name).unwrap(), None, |_| 9.0).profile;
        let frugal = holds("small");
        assert_eq!((frugal.name.as_str(), frugal.limits.scan_bytes_max), ("frugal", Some(10)));
        assert_eq!(frugal.engines, Some(vec![EngineId::new("duckdb")]));
        assert_eq!(holds("moved").engines, Some(vec![EngineId::new("datafusion")]));
    }

    #[test]
    fn every_mistake_is_reported() {
        let own = vec![
            with_budget("a", OverBudget::Profile("b".into())),
            with_budget("b", OverBudget::Profile("a".into())),
            with_budget("c", OverBudget::Profile("nowhere".into())),
            Profile { slo_ms: f64::NAN, usd_per_second_late: -1.0, engines: Some(Vec::new()), ..Profile::named("d e") },
        ];
        let assignments = ProfileAssignments { default: Some("none".into()), ..Default::default() };
        let mistakes: Vec<String> = Profiles::new(own, assignments).unwrap_err().into_iter().map(|mistake| mistake.message).collect();
        let mistakes = mistakes.join("\n");
        for said in ["circle", "`nowhere`", "SLO", "a second late", "allows no engine", "letters", "`none`"] {
            assert!(mistakes.contains(said), "{said} isn't in\n{mistakes}");
        }
    }

    #[test]
    fn the_shipped_profiles_hold_together() {
        let profiles = Profiles::new(Vec::new(), ProfileAssignments::default()).unwrap();
        assert_eq!(profiles.names().collect::<Vec<_>>(), ["batch", "dashboard", "default", "frugal", "interactive"]);
        assert_eq!(profiles.get(DEFAULT_PROFILE).unwrap().strategy, Strategy::Rules);
    }
}
