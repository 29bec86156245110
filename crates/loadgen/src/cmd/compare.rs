//! `loadgen compare BEFORE AFTER`: what changed from one run to another.

use std::path::{Path, PathBuf};

use measure::folder::{Run, write_whole};

use super::report::CiFormat;
use crate::{
    exit::{self, Failure},
    ui::{Terminal, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run folder to compare with.
    before: PathBuf,
    /// The run folder that is judged.
    after: PathBuf,
    /// Changes within this part are none.
    #[arg(long, value_name = "PERCENT", default_value = "5%")]
    tolerance: String,
    /// What CPU per call and latency of equal runs move by on this machine, as standard
    /// deviations: the trials of one run can't show it. Run the scenario several times
    /// to find yours; a machine of your own moves less than a shared one.
    #[arg(long, value_name = "PERCENT,TIME", default_value = "15%,25us")]
    moves: String,
    /// Exit with 1 also when of some figure it can't be told whether it got worse.
    #[arg(long)]
    fail_on_inconclusive: bool,
    /// Print the comparison as JSON.
    #[arg(long)]
    json: bool,
    /// Print the comparison as a CI reads it.
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<CiFormat>,
    /// Also write it as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let tolerance = scenario::units::parse_percent(&args.tolerance)
        .map_err(|error| Failure::bad_input(format!("--tolerance: {error}")))?;
    let open = |folder: &Path| Run::open(folder).map_err(Failure::bad_input);
    let (before, after) = (open(&args.before)?, open(&args.after)?);
    let moves = parse_moves(&args.moves)?;
    let comparison = analysis::compare::Comparison::of(&before, &after, tolerance, moves)
        .map_err(Failure::bad_input)?;
    let text = match args.format {
        Some(CiFormat::Markdown) => report::ci::comparison_markdown(&comparison),
        Some(CiFormat::Junit) => report::ci::comparison_junit(&comparison),
        Some(CiFormat::Github) => report::ci::comparison_annotations(&comparison),
        None if args.json => format!("{:#}\n", serde_json::json!(comparison)),
        None => report::compare::text(&comparison, Terminal::stdout().style),
    };
    print(&text)?;
    if let Some(path) = &args.html {
        write_whole(path, report::compare::html(&comparison).as_bytes())
            .map_err(|error| Failure::writing(format!("--html {}", path.display()), &error))?;
    }
    let unknown = args.fail_on_inconclusive && comparison.is_inconclusive();
    let failed = comparison.has_regressed() || unknown;
    Ok(if failed { exit::EXPECTATION_FAILED } else { exit::FINE })
}

/// As `15%,25us`: of CPU per call, and of a latency.
fn parse_moves(text: &str) -> Result<analysis::compare::Moves, Failure> {
    let failure = |what: String| Failure::bad_input(format!("--moves {text}: {what}"));
    let (cpu, latency) = text
        .split_once(',')
        .ok_or_else(|| failure("expected a percentage and a time, as `15%,25us`".to_owned()))?;
    let cpu = scenario::units::parse_percent(cpu.trim()).map_err(failure)?;
    let latency = scenario::units::parse_duration(latency.trim()).map_err(failure)?;
    Ok(analysis::compare::Moves { cpu, latency_ns: latency.as_nanos() as f64 })
}
