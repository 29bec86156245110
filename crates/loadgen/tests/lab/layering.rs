//! Who may import whom. `crates/README.md` draws the arrows; here they are held.

use std::{collections::BTreeMap, fs, path::Path};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate may import of the workspace. What is not here is forbidden;
/// a crate that is not here is unknown.
const ALLOWED: &[(&str, &[&str])] = &[
    ("agents", &["measure"]),
    ("balance", &[]),
    ("echo-proto", &[]),
    ("event-loop", &[]),
    ("grpc-call", &[]),
    ("h2-wire", &[]),
    ("link-relay", &[]),
    ("measure", &["units"]),
    ("queueing", &[]),
    ("units", &[]),
    ("serve", &["event-loop", "units"]),
    ("scenario", &["balance", "measure", "units"]),
    ("simulate", &["balance", "measure", "queueing"]),
    ("analysis", &["measure", "queueing"]),
    ("report", &["analysis", "measure"]),
    ("echo-backend", &["balance", "echo-proto", "h2-wire", "serve"]),
    ("l4-proxy", &["balance", "event-loop", "serve"]),
    ("l7-proxy", &["balance", "event-loop", "h2-wire", "serve", "units"]),
    (
        "generator",
        &["balance", "echo-proto", "grpc-call", "h2-wire", "measure", "scenario", "serve"],
    ),
    (
        "loadgen",
        &[
            "agents",
            "analysis",
            "balance",
            "echo-backend",
            "echo-proto",
            "generator",
            "grpc-call",
            "l4-proxy",
            "l7-proxy",
            "link-relay",
            "measure",
            "queueing",
            "report",
            "scenario",
            "serve",
            "simulate",
            "units",
        ],
    ),
    (
        "testkit",
        &["balance", "echo-backend", "echo-proto", "h2-wire", "l4-proxy", "l7-proxy", "serve"],
    ),
];

/// What `l4-proxy` must never link, however deep: it knows nothing of HTTP.
const FORBIDDEN_TO_L4: &[&str] = &["http", "hyper", "h2", "tonic", "prost", "h2-wire"];

/// Imports within the workspace; without those of tests.
fn imports() -> BTreeMap<String, Vec<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let members: Vec<String> =
        metadata.packages.iter().map(|package| package.name.to_string()).collect();
    metadata
        .packages
        .iter()
        .map(|package| {
            let imports = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.clone())
                .filter(|name| members.contains(name))
                .collect();
            (package.name.to_string(), imports)
        })
        .collect()
}

#[test]
fn every_arrow_is_allowed_and_every_crate_is_on_the_map() {
    let map = include_str!("../../../README.md");
    for (name, imports) in imports() {
        let allowed = ALLOWED.iter().find(|(known, _)| *known == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} is not on the list"));
        for import in imports {
            assert!(allowed.contains(&import.as_str()), "{name} must not import {import}");
        }
        assert!(map.contains(&format!("`{name}`")), "{name} is missing in crates/README.md");
    }
}

/// Whether a source below a folder names a crate.
fn is_named_in(folder: &Path, name: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return is_named_in(&path, name);
        }
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        let text = if is_source { fs::read_to_string(&path).unwrap() } else { String::new() };
        text.match_indices(name).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + name.len()..]);
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            !before.ends_with(is_word)
                && (after.starts_with("::") || after.starts_with(';') && before.ends_with("use "))
        })
    })
}

#[test]
fn every_dependency_is_used() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let mut unused = Vec::new();
    for package in &metadata.packages {
        let folder = package.manifest_path.parent().unwrap().as_std_path();
        for dependency in &package.dependencies {
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
            let folders: &[&str] = match dependency.kind {
                DependencyKind::Build => &["."],
                DependencyKind::Development => &["src", "tests", "benches", "examples"],
                _ => &["src", "generated"],
            };
            let used = folders.iter().any(|part| is_named_in(&folder.join(part), &name));
            if !used {
                unused.push(format!("{} {}", package.name, dependency.name));
            }
        }
    }
    assert!(unused.is_empty(), "not used, take them out of the crates' Cargo.toml: {unused:?}");
}

#[test]
fn testkit_is_for_tests_only() {
    for (name, imports) in imports() {
        assert!(!imports.contains(&"testkit".to_owned()), "{name} ships testkit");
    }
}

#[test]
fn the_l4_proxy_does_not_link_http() {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "l4-proxy", "-e", "normal", "--prefix", "none"])
        .args(["--format", "{p}"])
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"tokio"), "no tree: {}", String::from_utf8_lossy(&tree.stderr));
    for forbidden in FORBIDDEN_TO_L4 {
        assert!(!names.contains(forbidden), "l4-proxy links {forbidden}");
    }
}
