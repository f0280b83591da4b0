//! Generates Rust from `proto/` with a compiler written in Rust: no `protoc` needed.

use std::path::Path;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked for now, not when this was compiled: checkouts may share a target folder.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed=../../proto");
    let files = ["flightpath/v1/worker.proto", "flightpath/v1/fleet.proto", "flightpath/v1/query_api.proto"];
    let descriptors = protox::compile(files, [&root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    // What reflection tells clients: the public API alone.
    let public = protox::compile(["flightpath/v1/query_api.proto"], [&root])?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("query_api.bin"), public.encode_to_vec())?;
    Ok(())
}
