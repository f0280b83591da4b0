//! `[[auth.users]]` and `[[auth.tokens]]`: who may connect, and who of them sees what everybody did.
//! Secrets stand there hashed only.

use toml_edit::{Item, TableLike};

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

pub(crate) fn users(item: &Item) -> Result<Vec<UserSetting>, String> {
    let users = entries(item, "auth.users", ["name", "password_hash"])?;
    users
        .into_iter()
        .map(|([name, password_hash], admin)| match password_hash.starts_with("$argon2") {
            true => Ok(UserSetting { name, password_hash, admin }),
            false => Err(format!("auth.users: the password_hash of `{name}` must be an argon2 hash (`flightpath hash-password` makes one), never the password")),
        })
        .collect()
}

pub(crate) fn tokens(item: &Item) -> Result<Vec<TokenSetting>, String> {
    let tokens = entries(item, "auth.tokens", ["principal", "token_sha256"])?;
    tokens
        .into_iter()
        .map(|([principal, token_sha256], admin)| match token_sha256.len() == 64 && token_sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(TokenSetting { principal, token_sha256: token_sha256.to_ascii_lowercase(), admin }),
            false => Err(format!("auth.tokens: the token_sha256 of `{principal}` must be 64 hex digits (`printf %s TOKEN | sha256sum`)")),
        })
        .collect()
}

/// A list of tables that hold exactly these two texts, and perhaps `admin`.
fn entries(item: &Item, path: &str, keys: [&str; 2]) -> Result<Vec<([String; 2], bool)>, String> {
    let tables: Vec<&dyn TableLike> = match (item.as_array_of_tables(), item.as_array()) {
        (Some(tables), _) => tables.iter().map(|t| t as &dyn TableLike).collect(),
        (None, Some(array)) => array
            .iter()
            .map(|v| {
                v.as_inline_table().map(|t| t as &dyn TableLike).ok_or_else(|| format!("{path} is a list of tables: write [[{path}]]"))
            })
            .collect::<Result<_, _>>()?,
        (None, None) => return Err(format!("{path} is a list of tables, not {}: write [[{path}]]", super::type_of(item))),
    };
    tables
        .into_iter()
        .map(|table| {
            if let Some((unknown, _)) = table.iter().find(|(key, _)| !keys.contains(key) && *key != ADMIN) {
                return Err(format!("{path} has no `{unknown}`; it takes {}, {} and {ADMIN}", keys[0], keys[1]));
            }
            let text = |key: &str| {
                let value = table.get(key).and_then(Item::as_str).map(str::to_string).filter(|v| !v.is_empty());
                value.ok_or_else(|| format!("{path}: `{key}` is missing or isn't text"))
            };
            let admin = match table.get(ADMIN) {
                None => false,
                Some(value) => value.as_bool().ok_or_else(|| format!("{path}: `{ADMIN}` is true or false"))?,
            };
            Ok(([text(keys[0])?, text(keys[1])?], admin))
        })
        .collect()
}
