//! `loadgen report FOLDER`: makes the report of a run again, from its folder alone.

use std::path::PathBuf;

use crate::{
    exit::{self, Failure},
    ui::print,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run folder, as the run printed it.
    folder: PathBuf,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let written = report::write(&args.folder)?;
    let files = std::iter::once(&written.html).chain(&written.pngs);
    print(&files.map(|file| format!("{}\n", file.display())).collect::<String>())?;
    Ok(exit::FINE)
}
