//! The code generated from `proto/` is committed, so that nobody has to build the generators
//! first; here it is held against what they make of the same files.
//!
//! `UPDATE_GENERATED=1 cargo test --test lab generated` writes what they make.

use std::{fs, path::Path};

use prost::Message as _;

/// What `proto/<name>.proto` is compiled to, by the crate that holds it.
fn check(name: &str, package: &str, crate_name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let descriptors = protox::compile([format!("{name}.proto")], [root.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let encoded = descriptors.encode_to_vec();
    fs::write(out.path().join(format!("{name}.descriptors")), encoded).unwrap();
    tonic_prost_build::configure().out_dir(out.path()).compile_fds(descriptors).unwrap();

    let committed = root.join("crates").join(crate_name).join("generated");
    let files = [format!("{package}.rs"), format!("{name}.descriptors")];
    for file in files.iter().filter(|file| committed.join(file).exists()) {
        let made = fs::read(out.path().join(file)).unwrap();
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(committed.join(file), made).unwrap();
        } else {
            let is_same = fs::read(committed.join(file)).unwrap() == made;
            assert!(is_same, "{file} is not what proto/{name}.proto gives; see {}", file!());
        }
    }
    assert!(committed.join(&files[0]).exists());
}

#[test]
fn the_code_of_the_echo_service_is_that_of_its_proto_file() {
    check("echo", "layerlab.echo.v1", "echo-proto");
}

#[test]
fn the_code_of_the_agents_protocol_is_that_of_its_proto_file() {
    check("agents", "layerlab.agents.v1", "agents");
}
