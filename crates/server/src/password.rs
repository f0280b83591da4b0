//! Making the hashes that `[[auth.users]]` holds.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use flightpath_types::{Error, Result};

/// The argon2id hash of a password in PHC text, with a new random salt and the library's
/// recommended cost.
pub fn hash_password(password: &str) -> Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|e| Error::internal(format!("hashing the password: {e}")))?;
    Ok(hash.to_string())
}
