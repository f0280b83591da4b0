//! What a thread that calls DuckDB may do at most, kept by the kernel (Landlock): read files, write
//! below the worker's temporary folder, speak to nobody. A second line of defence behind the checks of
//! what is run: it also binds threads that DuckDB starts, as they begin with their starter's limits.

use std::path::Path;
use std::sync::Once;

use flightpath_types::{Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

/// The newest rules that are asked for; an older kernel keeps those that it knows.
const RULES: ABI = ABI::V5;

/// Confines the calling thread, and all that it starts from now on, for good.
pub fn enter(temp_dir: &Path) {
    static TOLD: Once = Once::new();
    let told = match confine(temp_dir) {
        Ok(RulesetStatus::FullyEnforced) => return,
        Ok(RulesetStatus::PartiallyEnforced) => "this system's kernel keeps only some of the limits on DuckDB's threads".to_string(),
        Ok(RulesetStatus::NotEnforced) => "this system's kernel has no Landlock: DuckDB's threads aren't confined by it".to_string(),
        Err(error) => format!("DuckDB's threads aren't confined by the kernel: {error}"),
    };
    TOLD.call_once(|| tracing::info!("{told}"));
}

fn confine(temp_dir: &Path) -> std::result::Result<RulesetStatus, RulesetError> {
    let writing = AccessFs::from_write(RULES);
    let mut rules = Ruleset::default().handle_access(writing)?.handle_access(AccessNet::from_all(RULES))?.create()?;
    // A folder that isn't there can't be written to either.
    if let Ok(folder) = PathFd::new(temp_dir) {
        rules = rules.add_rule(PathBeneath::new(folder, writing))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Runs `work` on a confined thread and waits for it.
pub fn within<T: Send>(temp_dir: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let confined = move || {
            enter(temp_dir);
            work()
        };
        let thread = std::thread::Builder::new().name("duckdb-open".into()).spawn_scoped(scope, confined);
        let thread = thread.map_err(|e| Error::unavailable(format!("the worker can't start a thread: {e}")))?;
        thread.join().unwrap_or_else(|_| Err(Error::internal("opening DuckDB panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_thread_reads_but_writes_only_to_its_folder_and_reaches_nobody() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("data"), "x").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let status = std::thread::scope(|scope| {
            let confined = || {
                let status = confine(inside.path()).unwrap();
                assert_eq!(std::fs::read_to_string(outside.path().join("data")).unwrap(), "x");
                std::fs::write(inside.path().join("spill"), "y").unwrap();
                std::fs::remove_file(inside.path().join("spill")).unwrap();
                let refused = [
                    std::fs::write(outside.path().join("data"), "z").err(),
                    std::fs::write(outside.path().join("other"), "z").err(),
                    std::fs::remove_file(outside.path().join("data")).err(),
                    // Threads that it starts are no freer.
                    std::thread::spawn(move || std::net::TcpStream::connect(address).err()).join().unwrap(),
                ];
                if status == RulesetStatus::FullyEnforced {
                    for error in refused {
                        assert_eq!(error.map(|e| e.kind()), Some(std::io::ErrorKind::PermissionDenied));
                    }
                }
                status
            };
            scope.spawn(confined).join().unwrap()
        });
        if status == RulesetStatus::NotEnforced {
            eprintln!("this kernel has no Landlock: nothing was confined");
        }
        let data = std::fs::read_to_string(outside.path().join("data")).unwrap_or_default();
        assert_eq!(data == "x", status == RulesetStatus::FullyEnforced);
        assert!(std::net::TcpStream::connect(address).is_ok(), "other threads are as free as before");
    }
}
