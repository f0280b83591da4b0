//! Rules about the text of the sources that no compiler checks.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files that git tracks, relative to the root.
fn tracked(ending: &str) -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git ls-files");
    assert!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).expect("UTF-8 names");
    names.split('\0').filter(|n| n.ends_with(ending)).map(str::to_string).collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_default()
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let with_unsafe: Vec<String> = tracked(".rs")
        .into_iter()
        .filter(|name| !name.starts_with("integration-tests/"))
        .filter(|name| {
            read(name)
                .lines()
                .map(|l| l.split("//").next().unwrap_or_default())
                .any(|l| l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"))
        })
        .collect();
    assert!(with_unsafe.len() <= 1 && with_unsafe.iter().all(|n| n.starts_with("crates/worker/src/duck")), "{with_unsafe:?}");
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<String> = tracked(".rs")
        .into_iter()
        .filter(|name| !name.ends_with("tests.rs") && !name.contains("/tests/"))
        .filter(|name| !read(name).trim_start().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no module doc: {silent:?}");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TODO", "FIXME", "todo!(", "unimplemented!("];
    let mut found = Vec::new();
    for name in tracked(".rs").into_iter().filter(|n| !n.ends_with("tests/tidy.rs")) {
        for (number, line) in read(&name).lines().enumerate() {
            if marks.iter().any(|m| line.contains(m)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn modules_are_named_for_what_they_hold() {
    let vague: Vec<String> = tracked(".rs")
        .into_iter()
        .filter(|n| {
            ["utils.rs", "util.rs", "helpers.rs", "common.rs", "misc_utils.rs", "manager.rs"].iter().any(|v| n.ends_with(&format!("/{v}")))
        })
        .collect();
    assert!(vague.is_empty(), "{vague:?}");
}
