//! What is wrong with the settings, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// `FILE:LINE`, or the environment variable; the setting's name where neither is to blame.
    pub place: String,
    pub message: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "mistake" } else { "mistakes" };
        write!(f, "{} {plural} in the settings:", self.0.len())?;
        for mistake in &self.0 {
            write!(f, "\n  {}: {}", mistake.place, mistake.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A mistake, and the setting that it's about.
pub(super) type About = (String, String);

/// Gathers mistakes while settings are read, and remembers where each setting was given, for what
/// is found wrong only when all have been read.
#[derive(Default)]
pub(super) struct Report {
    mistakes: Vec<Mistake>,
    /// By the setting's path.
    places: BTreeMap<String, String>,
    /// Settings whose values couldn't be taken.
    broken: BTreeSet<String>,
}

impl Report {
    pub fn given(&mut self, path: &str, place: String) {
        self.places.insert(path.to_string(), place);
    }

    /// The setting's value comes from neither the file nor the environment after all.
    pub fn replaced(&mut self, path: &str) {
        self.places.remove(path);
    }

    /// A value that can't be taken; `path` is as much as is known of the setting. Without a message
    /// it's known already why.
    pub fn broken(&mut self, path: &str, place: String, message: Option<String>) {
        self.broken.insert(path.to_string());
        self.mistakes.extend(message.map(|message| Mistake { place, message }));
    }

    /// Something about a setting that was read. Not reported where the value itself is wrong: what
    /// follows from that is no mistake of its own.
    pub fn about(&mut self, path: &str, message: impl Into<String>) {
        if !self.is_broken(path) {
            let place = self.place_of(path);
            self.mistakes.push(Mistake { place, message: message.into() });
        }
    }

    /// Whether the setting, or one inside of this section, couldn't be read.
    pub fn is_broken(&self, path: &str) -> bool {
        self.broken.iter().any(|broken| broken == path || broken.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Where the setting stands, or the section that it would stand in.
    fn place_of(&self, path: &str) -> String {
        let mut at = path;
        loop {
            match (self.places.get(at), at.rfind('.')) {
                (Some(place), _) => return place.clone(),
                (None, Some(dot)) => at = &at[..dot],
                (None, None) => return path.to_string(),
            }
        }
    }

    pub fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }
}

/// The known name most like `name`, if any is alike.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name that was cut short means the one it begins.
    let likeness = |k: &str| strsim::jaro_winkler(name, k) + f64::from(u8::from(k.starts_with(name)));
    known.map(|k| (likeness(k), k)).filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
}
