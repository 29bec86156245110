//! Writes the run that the tests use, and its report, into a new folder under
//! the one given, for those who work on the report's looks:
//!
//! `cargo run -p report --example fixture -- /tmp/looks`

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::args().nth(1).ok_or("usage: fixture FOLDER")?);
    let run = common::run();
    let folder = common::write(&run, &root)?;
    let written = report::write(&folder)?;
    println!("{}", written.html.display());
    Ok(())
}
