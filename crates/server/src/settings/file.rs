//! Reads a settings file: all of it, whatever is wrong in between.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Report, nearest};
use super::table::SETTINGS;
use super::value::Given;
use super::{Settings, auth, hash_of, profiles};

/// Sections that are read as one.
const WHOLE: [&str; 3] = ["auth.users", "auth.tokens", "profiles"];

/// One file while it's read.
pub(super) struct SettingsFile<'a> {
    name: &'a str,
    /// Where lines begin, in bytes.
    lines: Vec<usize>,
    /// Lines that aren't TOML.
    unreadable: BTreeSet<usize>,
    pub report: &'a mut Report,
}

impl<'a> SettingsFile<'a> {
    pub fn new(name: &'a str, text: &str, report: &'a mut Report) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, lines, unreadable: BTreeSet::new(), report }
    }

    pub fn read(&mut self, text: &str, settings: &mut Settings) {
        // Beyond a mistake of syntax the parser goes on with the next line.
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            self.wrong("", at.clone(), error.message());
            self.unreadable.insert(self.line_of(&at));
        }
        self.table("", document.get_ref(), settings);
    }

    fn line_of(&self, span: &Range<usize>) -> usize {
        self.lines.partition_point(|start| *start <= span.start)
    }

    /// `FILE:LINE`
    fn place(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.name, self.line_of(span))
    }

    /// The setting `path` has a value here.
    pub fn given(&mut self, path: &str, span: &Range<usize>) {
        let place = self.place(span);
        self.report.given(path, place);
    }

    pub fn wrong(&mut self, path: &str, span: Range<usize>, message: impl Into<String>) {
        // What else is wrong with a line that isn't TOML follows from that.
        let message = (!self.unreadable.contains(&self.line_of(&span))).then(|| message.into());
        let place = self.place(&span);
        self.report.broken(path, place, message);
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, settings: &mut Settings) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
            self.given(&path, &key.span());
            if WHOLE.contains(&path.as_str()) || !value.get_ref().is_table() {
                settings.given.insert(path.clone(), hash_of(&written(value.get_ref())));
            }
            match path.as_str() {
                "auth.users" => settings.users = auth::users(value, self),
                "auth.tokens" => settings.tokens = auth::tokens(value, self),
                "profiles" => settings.profiles = profiles::read(value, self),
                _ => {
                    if let Err(message) = self.setting(&path, value, settings) {
                        self.wrong(&path, key.span(), message);
                    }
                }
            }
        }
    }

    fn setting(&mut self, path: &str, value: &Spanned<DeValue<'_>>, settings: &mut Settings) -> Result<(), String> {
        let inner = value.get_ref().as_table();
        match (SETTINGS.iter().find(|s| s.path == path), inner) {
            (Some(setting), None) => (setting.set)(settings, Given::Toml(value.get_ref())),
            (Some(_), Some(_)) => Err(format!("`{path}` is a value, not a section")),
            (None, Some(inner)) if is_section(path) => {
                self.table(path, inner, settings);
                Ok(())
            }
            (None, None) if is_section(path) => Err(format!("`{path}` is a section: write [{path}]")),
            (None, _) => Err(unknown_key(path)),
        }
    }
}

fn is_section(path: &str) -> bool {
    let inside = format!("{path}.");
    path == "auth" || SETTINGS.iter().any(|s| s.path.starts_with(&inside))
}

fn unknown_key(path: &str) -> String {
    let known = SETTINGS.iter().map(|s| s.path).chain(["auth.users", "auth.tokens", "profiles"]);
    match nearest(path, known) {
        Some(near) => format!("unknown setting `{path}`; did you mean `{near}`?"),
        None => format!("unknown setting `{path}`"),
    }
}

/// A value apart from where and how it's written.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("{number}"),
        DeValue::Float(number) => format!("{number}"),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => items.iter().fold("[".to_string(), |text, item| text + &written(item.get_ref()) + ",") + "]",
        DeValue::Table(table) => {
            let mut text = "{".to_string();
            for (key, value) in table {
                // Writing to a text can't fail.
                let _ = write!(text, "{:?}={},", key.get_ref(), written(value.get_ref()));
            }
            text + "}"
        }
    }
}
