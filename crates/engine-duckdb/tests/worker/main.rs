//! The engine against real worker processes: this very binary, started again as a worker.

mod fixture;
mod fleet;
mod lifecycle;
mod reading;
mod security;

use flightpath_worker::run_supervised;

/// Not a test of its own: the worker process that the others start.
#[test]
fn worker_process() {
    if std::env::var_os(fixture::WORKER_VARIABLE).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let code = match runtime.block_on(run_supervised()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    };
    std::process::exit(code);
}
