//! Where the binary finds DuckDB's library: beside itself when it was installed so, else where it
//! was when this was built.

fn main() {
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN:$ORIGIN/../lib");
    if let Some(dir) = std::env::var_os("DUCKDB_LIB_DIR") {
        let dir = std::path::Path::new(&dir).canonicalize().unwrap_or_else(|_| dir.into());
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{}", dir.display());
        // Checkouts may share a target folder, and one that is gone takes its library with it.
        println!("cargo:rerun-if-changed={}", dir.join("libduckdb.so").display());
    }
}
