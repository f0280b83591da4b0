//! The table of `ARCHITECTURE.md`, enforced: which crate may depend on which, and who owns the
//! heavy dependency trees.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Crate and what it may depend on, without the prefix `flightpath-`.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &[]),
    ("grpc", &["types"]),
    ("catalog", &["types"]),
    ("querylog", &["types"]),
    ("functions", &["types"]),
    ("plan", &["types", "catalog"]),
    ("printer", &["types", "catalog", "functions", "plan"]),
    ("planner", &["types", "catalog", "functions", "plan", "printer"]),
    ("router", &["types"]),
    ("engine", &["types", "catalog", "plan"]),
    ("pipeline", &["types", "catalog", "plan", "planner", "router", "engine", "querylog"]),
    ("engine-duckdb", &["types", "proto", "catalog", "functions", "plan", "engine"]),
    ("engine-datafusion", &["types", "catalog", "functions", "plan", "engine"]),
    ("worker", &["types", "proto"]),
    ("fleet", &["types", "proto"]),
    ("log-store", &["types", "querylog"]),
    ("flight", &["types", "grpc", "catalog", "plan", "pipeline"]),
    ("api", &["types", "proto", "grpc", "functions", "querylog", "pipeline"]),
    ("datagen", &["types"]),
    ("databricks", &["types"]),
    ("audit", &["types"]),
    ("telemetry", &["types"]),
    ("engine-databricks", &["types", "catalog", "plan", "engine", "databricks"]),
    ("catalog-unity", &["types", "catalog", "databricks"]),
    ("emulator", &["types", "catalog", "plan", "planner", "engine", "engine-datafusion"]),
    (
        "server",
        &[
            "types",
            "catalog",
            "functions",
            "plan",
            "printer",
            "planner",
            "querylog",
            "router",
            "engine",
            "pipeline",
            "engine-duckdb",
            "engine-datafusion",
            "worker",
            "fleet",
            "proto",
            "log-store",
            "flight",
            "api",
            "databricks",
            "engine-databricks",
            "catalog-unity",
            "telemetry",
        ],
    ),
    ("flightpath", &["types", "server", "datagen", "worker", "emulator", "audit"]),
    ("integration-tests", &[]),
];

/// Outside crates whose trees have one owner (and, in tests, whoever needs the real thing).
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["log-store"]),
    ("libduckdb-sys", &["worker"]),
    ("deltalake", &["datagen"]),
    ("delta_kernel", &["catalog"]),
    ("toml_edit", &["server"]),
    ("clap", &["flightpath"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry-appender-tracing", &["telemetry"]),
    ("tracing-opentelemetry", &["telemetry"]),
    ("prometheus", &["telemetry"]),
];

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata")
}

fn short(name: &str) -> &str {
    name.strip_prefix("flightpath-").unwrap_or(name)
}

/// Workspace crate to the names of what it depends on, tests' dependencies left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let members: BTreeSet<_> = metadata.workspace_members.iter().collect();
    metadata
        .packages
        .iter()
        .filter(|p| members.contains(&p.id) && p.name.starts_with("flightpath"))
        .map(|package| {
            let names = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
            let names = names.map(|d| d.rename.clone().unwrap_or_else(|| d.name.to_string())).collect();
            (short(&package.name).to_string(), names)
        })
        .collect()
}

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = MAY_DEPEND_ON.iter().map(|(c, d)| (*c, d.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in dependencies() {
        let Some(allowed) = allowed.get(name.as_str()) else {
            wrong.push(format!("crate `{name}` isn't in the table: decide its level and add it here and in ARCHITECTURE.md"));
            continue;
        };
        for dependency in dependencies.iter().filter(|d| d.starts_with("flightpath")) {
            if !allowed.contains(short(dependency)) {
                wrong.push(format!("`{name}` may not depend on `{}`", short(dependency)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_rows_for_crates_that_are_gone_and_no_cycles() {
    let existing = dependencies();
    for (position, (name, allowed)) in MAY_DEPEND_ON.iter().enumerate() {
        assert!(existing.contains_key(*name), "`{name}` is in the table but not in the workspace");
        for dependency in *allowed {
            let at = MAY_DEPEND_ON.iter().position(|(n, _)| n == dependency);
            // `engine` and the like stand below their users: the table's order is a topological one.
            let at = at.unwrap_or_else(|| panic!("`{dependency}` isn't in the table"));
            assert!(at < position || levels_allow(name, dependency), "`{name}` comes before `{dependency}`, which it may use");
        }
    }
}

/// The table is ordered by level, not strictly; only real cycles are forbidden.
fn levels_allow(name: &str, dependency: &str) -> bool {
    let row = |n: &str| MAY_DEPEND_ON.iter().find(|(c, _)| *c == n).map_or(&[][..], |(_, d)| *d);
    !row(dependency).contains(&name)
}

#[test]
fn heavy_dependency_trees_have_one_owner() {
    let mut wrong = Vec::new();
    for (name, dependencies) in dependencies() {
        for (outside, owners) in OWNERS {
            if dependencies.contains(*outside) && !owners.contains(&name.as_str()) {
                wrong.push(format!("`{name}` uses `{outside}`, which belongs to {}", owners.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn versions_stand_in_the_workspace_alone() {
    let mut wrong = Vec::new();
    for package in metadata().packages.iter().filter(|p| p.name.starts_with("flightpath")) {
        let text = std::fs::read_to_string(&package.manifest_path).expect("manifest");
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.contains("dependencies") && line.contains('=') && !line.contains("workspace = true") {
                wrong.push(format!("{}: {line}", package.manifest_path));
            }
        }
    }
    assert!(wrong.is_empty(), "versions belong into [workspace.dependencies]:\n{}", wrong.join("\n"));
}
