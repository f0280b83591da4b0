//! `[profiles.<name>]`: how a kind of work is served. A profile with a shipped one's name starts
//! from what is shipped; any other from `base`, or from the plain default.

use std::ops::Range;
use std::time::Duration;

use flightpath_router::{Budget, OverBudget, Profile, ProfileAssignments, Strategy};
use flightpath_types::EngineId;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::SettingsFile;
use super::mistake::{About, nearest};
use super::value::Given;

/// One section as it is written.
#[derive(Debug, Clone)]
pub struct ProfileSetting {
    pub profile: Profile,
    /// It says by itself, or by its base, how it decides.
    pub decides: bool,
    /// What it names for beyond its budget, also where no budget comes of it.
    pub over_budget_profile: Option<String>,
    pub over_budget_engines: Vec<EngineId>,
    /// Who gets it when the session names none.
    pub users: Vec<String>,
    pub tags: Vec<String>,
}

const DAY_SECONDS: f64 = 86_400.0;
const KEYS: [&str; 16] = [
    "base",
    "strategy",
    "engines",
    "slo_seconds",
    "usd_per_second_late",
    "timeout_seconds",
    "rows_max",
    "scan_max",
    "budget_usd_per_day",
    "over_budget",
    "over_budget_profile",
    "over_budget_engines",
    "writes",
    "binding",
    "users",
    "tags",
];

/// Reads every section and reports every mistake. A section with mistakes stays, as far as it can be
/// read: other settings may name it.
pub(super) fn read(value: &Spanned<DeValue<'_>>, file: &mut SettingsFile<'_>) -> Vec<ProfileSetting> {
    let DeValue::Table(sections) = value.get_ref() else {
        file.wrong("profiles", value.span(), "`profiles` holds sections: write [profiles.NAME]");
        return Vec::new();
    };
    let mut profiles = Vec::new();
    for (name, section) in sections {
        let path = format!("profiles.{}", name.get_ref());
        file.given(&path, &name.span());
        match section.get_ref() {
            DeValue::Table(table) => profiles.push(Section { path: &path, at: name.span(), table, file }.read(name.get_ref())),
            _ => file.wrong(&path, name.span(), format!("`{path}` is a section: write [{path}]")),
        }
    }
    profiles
}

/// One section while it's read.
struct Section<'a, 'f> {
    /// `profiles.NAME`
    path: &'a str,
    at: Range<usize>,
    table: &'a DeTable<'a>,
    file: &'a mut SettingsFile<'f>,
}

impl<'a> Section<'a, '_> {
    fn wrong(&mut self, span: Range<usize>, message: &str) {
        self.file.wrong(self.path, span, format!("{}: {message}", self.path));
    }

    fn read(&mut self, name: &str) -> ProfileSetting {
        for (unknown, _) in self.table.iter().filter(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
            let message = match nearest(unknown.get_ref(), KEYS.into_iter()) {
                Some(near) => format!("unknown setting `{}`; did you mean `{near}`?", unknown.get_ref()),
                None => format!("unknown setting `{}`; there are {}", unknown.get_ref(), KEYS.join(", ")),
            };
            self.wrong(unknown.span(), &message);
        }
        for (key, _) in self.table {
            self.file.given(&format!("{}.{}", self.path, key.get_ref()), &key.span());
        }
        let base = self.text("base");
        let shipped = |name: &str| Profile::shipped().into_iter().find(|profile| profile.name == name);
        if let Some(base) = base.as_ref().filter(|base| *base != name && shipped(base).is_none()) {
            let names: Vec<String> = Profile::shipped().into_iter().map(|profile| profile.name).collect();
            let span = self.table.get("base").map_or(self.at.clone(), Spanned::span);
            self.wrong(span, &format!("there is no shipped profile `{base}` to start from; there are {}", names.join(", ")));
        }
        let start = shipped(base.as_deref().unwrap_or(name));
        let mut profile = start.map_or_else(|| Profile::named(name), |shipped| Profile { name: name.to_string(), ..shipped });
        if let Some(strategy) = self.given("strategy", |v| Strategy::parse(&v.text()?)) {
            profile.strategy = strategy;
        }
        if let Some(engines) = self.list("engines") {
            profile.engines = Some(engines.into_iter().map(EngineId::new).collect());
        }
        if let Some(slo) = self.number("slo_seconds", 0.001, DAY_SECONDS) {
            profile.slo_ms = slo * 1000.0;
        }
        if let Some(usd) = self.number("usd_per_second_late", 0.0, 1e6) {
            profile.usd_per_second_late = usd;
        }
        if let Some(seconds) = self.number("timeout_seconds", 0.001, 30.0 * DAY_SECONDS) {
            profile.limits.timeout = Some(Duration::from_secs_f64(seconds));
        }
        profile.limits.rows_max = self.given("rows_max", |v| v.whole(1, i64::MAX as u64)).or(profile.limits.rows_max);
        profile.limits.scan_bytes_max = self.given("scan_max", |v| v.bytes(1)).or(profile.limits.scan_bytes_max);
        let (over_budget_profile, over_budget_engines) = (self.text("over_budget_profile"), self.list("over_budget_engines"));
        profile.budget = self.budget(over_budget_profile.clone(), over_budget_engines.clone()).or(profile.budget);
        profile.writes = self.given("writes", |v| v.boolean()).or(profile.writes);
        profile.binding = self.given("binding", |v| v.boolean()).unwrap_or(profile.binding);
        let decides = base.is_some() || self.table.contains_key("strategy");
        ProfileSetting {
            profile,
            decides,
            over_budget_profile,
            over_budget_engines: over_budget_engines.into_iter().flatten().map(EngineId::new).collect(),
            users: self.list("users").unwrap_or_default(),
            tags: self.list("tags").unwrap_or_default(),
        }
    }

    fn budget(&mut self, to_profile: Option<String>, to_engines: Option<Vec<String>>) -> Option<Budget> {
        let over = self.text("over_budget");
        let usd_per_day = self.number("budget_usd_per_day", 0.0, 1e9);
        let outcome = over_budget(over.as_deref(), to_profile, to_engines);
        let keys = ["over_budget", "over_budget_profile", "over_budget_engines"];
        let span = keys.iter().find_map(|key| self.table.get(*key)).map_or(self.at.clone(), Spanned::span);
        match outcome {
            Err(message) => self.wrong(span, &message),
            Ok(Some(_)) if self.table.get("budget_usd_per_day").is_none() => {
                self.wrong(span, "what happens over budget needs a budget: set `budget_usd_per_day`");
            }
            Ok(over) => return Some(Budget { usd_per_day: usd_per_day?, over: over.unwrap_or(OverBudget::Refuse) }),
        }
        None
    }

    fn given<T>(&mut self, key: &str, read: impl Fn(Given<'a>) -> Result<T, String>) -> Option<T> {
        let value = self.table.get(key)?;
        let outcome = match value.get_ref() {
            DeValue::Table(_) => Err("is a value, not a section".to_string()),
            plain => read(Given::Toml(plain)),
        };
        // Of this setting alone: what else is wrong with the section is told all the same.
        let path = format!("{}.{key}", self.path);
        outcome.map_err(|message| self.file.wrong(&path, value.span(), format!("{}: `{key}` {message}", self.path))).ok()
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.given(key, |value| value.text())
    }

    fn list(&mut self, key: &str) -> Option<Vec<String>> {
        self.given(key, |value| value.list())
    }

    fn number(&mut self, key: &str, min: f64, max: f64) -> Option<f64> {
        self.given(key, |value| value.number(min, max))
    }
}

/// What the three settings mean together; `None` where none is set.
fn over_budget(over: Option<&str>, to_profile: Option<String>, to_engines: Option<Vec<String>>) -> Result<Option<OverBudget>, String> {
    match (over, to_profile, to_engines) {
        (None, None, None) => Ok(None),
        (Some("refuse"), None, None) => Ok(Some(OverBudget::Refuse)),
        (None | Some("downgrade"), Some(profile), None) => Ok(Some(OverBudget::Profile(profile))),
        (None | Some("downgrade"), None, Some(engines)) => Ok(Some(OverBudget::Engines(engines.into_iter().map(EngineId::new).collect()))),
        (Some("downgrade"), None, None) => Err("`over_budget = \"downgrade\"` needs `over_budget_profile` or `over_budget_engines`".into()),
        (Some("refuse"), _, _) => Err("`over_budget = \"refuse\"` leaves nothing to downgrade to".into()),
        (None | Some("downgrade"), Some(_), Some(_)) => Err("set `over_budget_profile` or `over_budget_engines`, not both".into()),
        (Some(other), _, _) => Err(format!("`over_budget` must be \"refuse\" or \"downgrade\", not \"{other}\"")),
    }
}

/// Who gets which profile. A user or tag with two profiles is a mistake.
pub(super) fn assignments(settings: &[ProfileSetting], default: Option<String>) -> (ProfileAssignments, Vec<About>) {
    let mut assignments = ProfileAssignments { default, ..Default::default() };
    let mut mistakes = Vec::new();
    for ProfileSetting { profile, users, tags, .. } in settings {
        let lists = [("user", users, &mut assignments.by_principal), ("tag", tags, &mut assignments.by_tag)];
        for (what, names, known) in lists {
            for name in names {
                if let Some(other) = known.insert(name.clone(), profile.name.clone()) {
                    let message = format!("profiles: {what} `{name}` stands in both `{other}` and `{}`", profile.name);
                    mistakes.push((format!("profiles.{}.{what}s", profile.name), message));
                }
            }
        }
    }
    (assignments, mistakes)
}

/// Profiles that are named for beyond a budget where no budget came of it, so that nobody has looked whether they
/// are there.
pub(super) fn unresolved(settings: &[ProfileSetting]) -> Vec<About> {
    let mut known: Vec<String> = Profile::shipped().into_iter().map(|profile| profile.name).collect();
    known.extend(settings.iter().map(|setting| setting.profile.name.clone()));
    known.sort();
    known.dedup();
    let mut mistakes = Vec::new();
    for ProfileSetting { profile, over_budget_profile, .. } in settings {
        let Some(next) = over_budget_profile.as_ref().filter(|next| !known.contains(next)) else { continue };
        let looked_at = profile.budget.as_ref().is_some_and(|budget| budget.over == OverBudget::Profile(next.clone()));
        if !looked_at {
            let names = known.join(", ");
            let message = format!("profile `{}`: over its budget, there is no profile `{next}`; profiles are {names}", profile.name);
            mistakes.push((format!("profiles.{}.over_budget_profile", profile.name), message));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::super::mistake::{Mistakes, Report};
    use super::*;

    fn parse(toml: &str) -> Result<Vec<ProfileSetting>, String> {
        let document = DeTable::parse(toml).unwrap();
        let mut report = Report::default();
        let found = read(&document.get_ref()["profiles"], &mut SettingsFile::new("f", toml, &mut report));
        let mistakes = report.into_mistakes();
        if mistakes.is_empty() { Ok(found) } else { Err(Mistakes(mistakes).to_string()) }
    }

    #[test]
    fn a_section_is_read_whole() {
        let toml = r#"
[profiles.nightly]
base = "batch"
strategy = "cost(late=0.001,slo=60s)"
engines = ["duckdb", "databricks"]
timeout_seconds = 3600
rows_max = 10
scan_max = "10GB"
budget_usd_per_day = 5
over_budget_engines = ["duckdb"]
users = ["etl"]
tags = ["night"]
[profiles.dashboard]
slo_seconds = 1.5
"#;
        let all = parse(toml).unwrap();
        let nightly = &all[0];
        assert_eq!(nightly.profile.strategy.to_string(), "cost(late=0.001,slo=60000ms)");
        assert_eq!(nightly.profile.limits.scan_bytes_max, Some(10_000_000_000));
        assert_eq!(nightly.profile.limits.timeout, Some(Duration::from_secs(3600)));
        assert_eq!(nightly.profile.budget.as_ref().map(|b| &b.over), Some(&OverBudget::Engines(vec![EngineId::new("duckdb")])));
        let shipped = Profile::shipped().into_iter().find(|p| p.name == "dashboard").unwrap();
        assert_eq!(all[1].profile, Profile { slo_ms: 1_500.0, ..shipped });
        let (assigned, mistakes) = assignments(&all, None);
        assert_eq!(mistakes, []);
        assert_eq!((assigned.by_principal["etl"].as_str(), assigned.by_tag["night"].as_str()), ("nightly", "nightly"));
    }

    #[test]
    fn mistakes_name_their_section_and_key() {
        for (toml, says) in [
            ("[profiles.a]\nspeed = 1", "f:2: profiles.a: unknown setting `speed`"),
            ("[profiles.a]\nslo_second = 1\nrows_max = 0\nstrategy = \"x\"", "3 mistakes"),
            ("[profiles.a]\nslo_second = 1", "did you mean `slo_seconds`?"),
            ("[profiles.a]\nbase = \"x\"", "no shipped profile `x`"),
            ("[profiles.a]\nstrategy = \"x\"", "strategy must be one of"),
            ("[profiles.a]\nslo_seconds = 0", "`slo_seconds` must be a number"),
            ("[profiles.a]\nover_budget = \"refuse\"", "needs a budget"),
            ("[profiles.a]\nbudget_usd_per_day = 1\nover_budget = \"downgrade\"", "over_budget_profile"),
            ("profiles = 1", "sections"),
            ("[profiles]\na = 1", "`profiles.a` is a section"),
        ] {
            let error = parse(toml).unwrap_err();
            assert!(error.contains(says), "{toml}: {error}");
        }
        let twice = parse("[profiles.a]\nusers = [\"u\"]\n[profiles.b]\nusers = [\"u\"]").unwrap();
        assert!(assignments(&twice, None).1[0].1.contains("both `a` and `b`"));
    }
}
