//! `[[auth.users]]` and `[[auth.tokens]]`: who may connect, and who of them sees what everybody did.
//! Secrets stand there hashed only.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::DeValue;

use super::file::SettingsFile;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSetting {
    pub name: String,
    /// PHC text of an argon2 hash: `$argon2id$v=19$...`
    pub password_hash: String,
    /// Sees what everybody did.
    pub admin: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSetting {
    pub principal: String,
    /// SHA-256 of the token, in hex.
    pub token_sha256: String,
    /// The principal, however it logs in, sees what everybody did.
    pub admin: bool,
}

/// What may stand beside the two texts of an entry.
const ADMIN: &str = "admin";

pub(super) fn users(value: &Spanned<DeValue<'_>>, file: &mut SettingsFile<'_>) -> Vec<UserSetting> {
    let check = |name: &str, hash: &str| match hash.starts_with("$argon2") {
        true => Ok(()),
        false => Err(format!(
            "auth.users: the password_hash of `{name}` must be an argon2 hash (`flightpath hash-password` makes one), never the password"
        )),
    };
    let entries = entries(value, "auth.users", ["name", "password_hash"], check, file);
    entries.into_iter().map(|([name, password_hash], admin)| UserSetting { name, password_hash, admin }).collect()
}

pub(super) fn tokens(value: &Spanned<DeValue<'_>>, file: &mut SettingsFile<'_>) -> Vec<TokenSetting> {
    let check = |principal: &str, hash: &str| match hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(()),
        false => Err(format!("auth.tokens: the token_sha256 of `{principal}` must be 64 hex digits (`printf %s TOKEN | sha256sum`)")),
    };
    let entries = entries(value, "auth.tokens", ["principal", "token_sha256"], check, file);
    let mut owners: HashMap<String, &str> = HashMap::new();
    for ([principal, hash], _) in &entries {
        if let Some(other) = owners.insert(hash.to_ascii_lowercase(), principal).filter(|other| other != principal) {
            let message = format!("auth.tokens: `{other}` and `{principal}` have the same token_sha256; whose token is it?");
            file.wrong("auth.tokens", value.span(), message);
        }
    }
    let token =
        |([principal, hash], admin): ([String; 2], bool)| TokenSetting { principal, token_sha256: hash.to_ascii_lowercase(), admin };
    entries.into_iter().map(token).collect()
}

/// A list of tables that hold exactly these two texts, of which `check` says whether the second is
/// sound, and perhaps `admin`. Every mistake is reported; entries with one are left out.
fn entries(
    value: &Spanned<DeValue<'_>>,
    path: &str,
    keys: [&str; 2],
    check: impl Fn(&str, &str) -> Result<(), String>,
    file: &mut SettingsFile<'_>,
) -> Vec<([String; 2], bool)> {
    let DeValue::Array(items) = value.get_ref() else {
        file.wrong(path, value.span(), format!("{path} is a list of tables, not a {}: write [[{path}]]", value.get_ref().type_str()));
        return Vec::new();
    };
    let mut entries = Vec::new();
    for item in items {
        let DeValue::Table(table) = item.get_ref() else {
            file.wrong(path, item.span(), format!("{path} is a list of tables: write [[{path}]]"));
            continue;
        };
        let mut sound = true;
        let mut wrong = |span, message: String| {
            sound = false;
            file.wrong(path, span, message);
        };
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref()) && key.get_ref() != ADMIN) {
            let unknown = key.get_ref();
            wrong(key.span(), format!("{path} has no `{unknown}`; it takes {}, {} and {ADMIN}", keys[0], keys[1]));
        }
        let texts = keys.map(|key| {
            let text = table.get(key).and_then(|value| value.get_ref().as_str()).filter(|text| !text.is_empty());
            if text.is_none() {
                let span = table.get(key).map_or(item.span(), Spanned::span);
                wrong(span, format!("{path}: `{key}` is missing or isn't text"));
            }
            text
        });
        let admin = table.get(ADMIN).map(|value| (value.get_ref().as_bool(), value.span()));
        if let Some((None, span)) = &admin {
            wrong(span.clone(), format!("{path}: `{ADMIN}` is true or false"));
        }
        let [Some(name), Some(hash)] = texts else { continue };
        if let Err(message) = check(name, hash) {
            let span = table.get(keys[1]).map_or(item.span(), Spanned::span);
            wrong(span, message);
        }
        if sound {
            entries.push(([name.to_string(), hash.to_string()], admin.is_some_and(|(admin, _)| admin == Some(true))));
        }
    }
    entries
}
