//! The clients people use, against the fake, where their packages are installed: the interpreter in
//! FLIGHTPATH_PYTHON, or the project's `.venv`.

use std::path::PathBuf;

use flightpath_flight::Config;

use crate::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn adbc_and_pyarrow_work() {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("FLIGHTPATH_PYTHON").map_or_else(|| here.join("../../.venv/bin/python"), PathBuf::from);
    if !python.exists() {
        eprintln!("skipped: no Python with Flight clients at {}", python.display());
        return;
    }
    let server = TestServer::start(Config::default()).await;
    let output = tokio::process::Command::new(python)
        .arg(here.join("tests/protocol/clients.py"))
        .arg(format!("grpc://{}", server.address))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{}", String::from_utf8_lossy(&output.stdout));
}
