//! Writes the runs that the tests use, and their reports, into new folders under
//! the one given, for those who work on the report's looks:
//!
//! `cargo run -p report --example fixture -- /tmp/looks`

#[path = "../tests/report/common/mod.rs"]
mod common;

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::args().nth(1).ok_or("usage: fixture FOLDER")?);
    for run in [common::run(), common::faulted()] {
        let folder = common::write(&run, &root)?;
        let written = report::write(&folder)?;
        println!("{}", written.html.display());
    }
    println!("{}", report::index(&root)?.display());
    Ok(())
}
