//! A real Postgres for tests and measurements.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Postgres of this test's own, in a temporary folder, on a port of its own.
pub struct Postgres {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("fp-pg").tempdir().unwrap();
        let bin = bin_dir();
        let data = dir.path().join("data");
        let root = nix::unistd::geteuid().is_root();
        // Postgres refuses to run as root: it gets the folder and the user `postgres`.
        let command = |program: &str| {
            let program = bin.join(program);
            if root {
                let mut c = Command::new("setpriv");
                c.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                c
            } else {
                Command::new(program)
            }
        };
        if root {
            let status = Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap();
            assert!(status.success());
        }
        let made = command("initdb").args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F", "-k", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !Command::new(bin.join("pg_isready")).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q"]).status().unwrap().success() {
            assert!(Instant::now() < deadline, "postgres did not start");
            std::thread::yield_now();
        }
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is Postgres' fast shutdown; its children end with it.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let _ = self.child.wait();
    }
}

/// Debian keeps the server's programs outside PATH.
fn bin_dir() -> PathBuf {
    let mut candidates: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin")).collect();
    candidates.sort();
    candidates.reverse();
    candidates.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    candidates
        .into_iter()
        .find(|dir: &PathBuf| Path::new(dir).join("initdb").exists())
        .expect("PostgreSQL's server isn't installed: apt-get install postgresql")
}
