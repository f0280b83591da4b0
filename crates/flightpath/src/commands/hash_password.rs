//! `flightpath hash-password`: a password from standard input, its argon2 hash to standard output.

use std::io::{BufRead, Write};

use crate::Failure;

pub fn run() -> Result<(), Failure> {
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password)?;
    let password = password.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(Failure::usage("pipe the password into standard input"));
    }
    writeln!(std::io::stdout(), "{}", flightpath_server::hash_password(password).map_err(Failure::failed)?)?;
    Ok(())
}
