//! This crate's tests start a real worker, which needs DuckDB's shared library: they find it where
//! it was linked from.

fn main() {
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    if let Ok(folder) = std::env::var("DUCKDB_LIB_DIR") {
        let folder = std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.into());
        println!("cargo:rustc-link-arg-tests=-Wl,-rpath,{}", folder.display());
    }
}
