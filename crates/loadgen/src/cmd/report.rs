//! `loadgen report FOLDER`: makes the report of a run again, from its folder alone, or
//! prints what a CI reads.

use std::path::PathBuf;

use clap::ValueEnum;
use measure::{
    figure::Figure,
    folder::Run,
    record::{RunRecord, TrialRecord},
};

use crate::{
    exit::{self, Failure},
    ui::{Terminal, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run folder, as the run printed it.
    folder: PathBuf,
    /// Print the result for a CI instead, and write no file.
    #[arg(long, value_name = "FORMAT", conflicts_with = "beside")]
    format: Option<CiFormat>,
    /// Print a peer's ratio to each other peer instead, and write no file.
    #[arg(long, value_name = "PEER")]
    beside: Option<String>,
    /// With --beside: the figures, with commas.
    #[arg(
        long,
        value_name = "FIGURE,...",
        value_delimiter = ',',
        requires = "beside",
        default_value = "proxy_cpu_per_call"
    )]
    figures: Vec<Figure>,
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
    if let Some(peer) = &args.beside {
        let run = Run::open(&args.folder).map_err(Failure::bad_input)?;
        let style = Terminal::stdout().style;
        let text = report::terminal::beside(&run.record, &run.trials, peer, &args.figures, style);
        if text.is_empty() {
            let names: Vec<&str> = run.record.peers.iter().map(|one| one.name.as_str()).collect();
            return Err(Failure::bad_input(format!(
                "--beside {peer}: no such peer was measured; there are {}",
                names.join(", ")
            )));
        }
        print(&text)?;
        return Ok(exit::FINE);
    }
    let written = report::write(&args.folder)?;
    let files = std::iter::once(&written.html).chain(&written.pngs);
    print(&files.map(|file| format!("{}\n", file.display())).collect::<String>())?;
    Ok(exit::FINE)
}
