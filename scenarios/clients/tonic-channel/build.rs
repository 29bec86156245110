//! The version of tonic that Cargo.lock has, for `--version`.

fn main() {
    println!("cargo:rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let tonic = lock.split("[[package]]").find(|one| one.contains("\nname = \"tonic\"\n"));
    let version = tonic.and_then(|one| one.split("\nversion = \"").nth(1)?.split('"').next());
    println!("cargo:rustc-env=TONIC_VERSION={}", version.unwrap_or("unknown"));
}
