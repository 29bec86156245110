//! `loadgen report FOLDER`: makes the report of a run again, from its folder alone, or
//! prints what a CI reads.

use std::path::PathBuf;

use clap::ValueEnum;
use measure::{
    folder::Run,
    record::{RunRecord, TrialRecord},
};

use crate::{
    exit::{self, Failure},
    ui::print,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run folder, as the run printed it.
    folder: PathBuf,
    /// Print the result for a CI instead, and write no file.
    #[arg(long, value_name = "FORMAT")]
    format: Option<CiFormat>,
}

/// What a CI reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CiFormat {
    /// A job summary.
    Markdown,
    /// Test results, one a claim.
    Junit,
    /// GitHub's annotations: claims that failed or could not be judged.
    Github,
}

impl CiFormat {
    pub(crate) fn text(self, run: &RunRecord, trials: &[TrialRecord]) -> String {
        match self {
            Self::Markdown => report::ci::markdown(run, trials),
            Self::Junit => report::ci::junit(run, trials),
            Self::Github => report::ci::annotations(run, trials),
        }
    }
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    if let Some(format) = args.format {
        let run = Run::open(&args.folder).map_err(Failure::bad_input)?;
        print(&format.text(&run.record, &run.trials))?;
        return Ok(exit::FINE);
    }
    let written = report::write(&args.folder)?;
    let files = std::iter::once(&written.html).chain(&written.pngs);
    print(&files.map(|file| format!("{}\n", file.display())).collect::<String>())?;
    Ok(exit::FINE)
}
