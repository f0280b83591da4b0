//! `[profiles.<name>]`: how a kind of work is served. A profile with a shipped one's name starts
//! from what is shipped; any other from `base`, or from the plain default.

use std::time::Duration;

use flightpath_router::{Budget, OverBudget, Profile, ProfileAssignments, Strategy};
use flightpath_types::EngineId;
use toml_edit::{Item, TableLike, Value};

use super::value::Given;

/// One section as it is written.
#[derive(Debug, Clone)]
pub struct ProfileSetting {
    pub profile: Profile,
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

/// Reads every section; a mistake names its section and key.
pub(crate) fn read(item: &Item) -> Result<Vec<ProfileSetting>, String> {
    let sections = item.as_table_like().ok_or("`profiles` holds sections: write [profiles.NAME]")?;
    sections
        .iter()
        .map(|(name, section)| {
            let section = section.as_table_like().ok_or_else(|| format!("`profiles.{name}` is a section: write [profiles.{name}]"))?;
            read_one(name, section).map_err(|message| format!("profiles.{name}: {message}"))
        })
        .collect()
}

fn read_one(name: &str, section: &dyn TableLike) -> Result<ProfileSetting, String> {
    if let Some((unknown, _)) = section.iter().find(|(key, _)| !KEYS.contains(key)) {
        return Err(format!("unknown setting `{unknown}`; there are {}", KEYS.join(", ")));
    }
    let base = text(section, "base")?.unwrap_or_else(|| name.to_string());
    let shipped = Profile::shipped().into_iter().find(|profile| profile.name == base);
    let mut profile = match (shipped, base == name) {
        (Some(shipped), _) => Profile { name: name.to_string(), ..shipped },
        (None, true) => Profile::named(name),
        (None, false) => return Err(format!("there is no shipped profile `{base}` to start from")),
    };
    if let Some(strategy) = text(section, "strategy")? {
        profile.strategy = Strategy::parse(&strategy)?;
    }
    if let Some(engines) = list(section, "engines")? {
        profile.engines = Some(engines.into_iter().map(EngineId::new).collect());
    }
    if let Some(slo) = number(section, "slo_seconds", 0.001, DAY_SECONDS)? {
        profile.slo_ms = slo * 1000.0;
    }
    if let Some(usd) = number(section, "usd_per_second_late", 0.0, 1e6)? {
        profile.usd_per_second_late = usd;
    }
    if let Some(seconds) = number(section, "timeout_seconds", 0.001, 30.0 * DAY_SECONDS)? {
        profile.limits.timeout = Some(Duration::from_secs_f64(seconds));
    }
    profile.limits.rows_max = given(section, "rows_max", |v| v.whole(1, i64::MAX as u64))?.or(profile.limits.rows_max);
    profile.limits.scan_bytes_max = given(section, "scan_max", |v| v.bytes(1))?.or(profile.limits.scan_bytes_max);
    profile.budget = budget(section)?.or(profile.budget);
    profile.writes = given(section, "writes", |v| v.boolean())?.or(profile.writes);
    profile.binding = given(section, "binding", |v| v.boolean())?.unwrap_or(profile.binding);
    Ok(ProfileSetting { profile, users: list(section, "users")?.unwrap_or_default(), tags: list(section, "tags")?.unwrap_or_default() })
}

fn budget(section: &dyn TableLike) -> Result<Option<Budget>, String> {
    let over = text(section, "over_budget")?;
    let (to_profile, to_engines) = (text(section, "over_budget_profile")?, list(section, "over_budget_engines")?);
    let Some(usd_per_day) = number(section, "budget_usd_per_day", 0.0, 1e9)? else {
        return match (over, to_profile, to_engines) {
            (None, None, None) => Ok(None),
            _ => Err("what happens over budget needs a budget: set `budget_usd_per_day`".into()),
        };
    };
    let over = match (over.as_deref(), to_profile, to_engines) {
        (None | Some("refuse"), None, None) => OverBudget::Refuse,
        (None | Some("downgrade"), Some(profile), None) => OverBudget::Profile(profile),
        (None | Some("downgrade"), None, Some(engines)) => OverBudget::Engines(engines.into_iter().map(EngineId::new).collect()),
        (Some("downgrade"), None, None) => {
            return Err("`over_budget = \"downgrade\"` needs `over_budget_profile` or `over_budget_engines`".into());
        }
        (Some("refuse"), _, _) => return Err("`over_budget = \"refuse\"` leaves nothing to downgrade to".into()),
        (None | Some("downgrade"), Some(_), Some(_)) => {
            return Err("set `over_budget_profile` or `over_budget_engines`, not both".into());
        }
        (Some(other), _, _) => return Err(format!("`over_budget` must be \"refuse\" or \"downgrade\", not \"{other}\"")),
    };
    Ok(Some(Budget { usd_per_day, over }))
}

/// Who gets which profile. A user or tag with two profiles is a mistake.
pub(crate) fn assignments(settings: &[ProfileSetting], default: Option<String>) -> Result<ProfileAssignments, String> {
    let mut assignments = ProfileAssignments { default, ..Default::default() };
    for ProfileSetting { profile, users, tags } in settings {
        let lists = [("user", users, &mut assignments.by_principal), ("tag", tags, &mut assignments.by_tag)];
        for (what, names, known) in lists {
            for name in names {
                if let Some(other) = known.insert(name.clone(), profile.name.clone()) {
                    return Err(format!("profiles: {what} `{name}` stands in both `{other}` and `{}`", profile.name));
                }
            }
        }
    }
    Ok(assignments)
}

fn given<'a, T>(section: &'a dyn TableLike, key: &str, read: impl Fn(Given<'a>) -> Result<T, String>) -> Result<Option<T>, String> {
    let Some(item) = section.get(key) else { return Ok(None) };
    let value: &Value = item.as_value().ok_or_else(|| format!("`{key}` is a value, not a section"))?;
    read(Given::Toml(value)).map(Some).map_err(|message| format!("`{key}` {message}"))
}

fn text(section: &dyn TableLike, key: &str) -> Result<Option<String>, String> {
    given(section, key, |value| value.text())
}

fn list(section: &dyn TableLike, key: &str) -> Result<Option<Vec<String>>, String> {
    given(section, key, |value| value.list())
}

fn number(section: &dyn TableLike, key: &str, min: f64, max: f64) -> Result<Option<f64>, String> {
    given(section, key, |v| v.number(min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(toml: &str) -> Result<Vec<ProfileSetting>, String> {
        let document = toml.parse::<toml_edit::DocumentMut>().unwrap();
        read(document.get("profiles").unwrap())
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
        let assigned = assignments(&all, None).unwrap();
        assert_eq!((assigned.by_principal["etl"].as_str(), assigned.by_tag["night"].as_str()), ("nightly", "nightly"));
    }

    #[test]
    fn mistakes_name_their_section_and_key() {
        for (toml, says) in [
            ("[profiles.a]\nspeed = 1", "profiles.a: unknown setting `speed`"),
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
        assert!(assignments(&twice, None).unwrap_err().contains("both `a` and `b`"));
    }
}
