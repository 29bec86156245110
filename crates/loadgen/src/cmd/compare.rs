//! `loadgen compare BEFORE AFTER`: what changed from one run to another, or from a baseline, or,
//! with `--rerun`, from one program to another.

use std::path::{Path, PathBuf};

use analysis::compare::Comparison;
use measure::{
    figure::Figure,
    folder::{Run, write_whole},
};

use super::{report::CiFormat, rerun::Rerun};
use crate::{
    exit::{self, Failure},
    interrupt,
    ui::{Progress, Terminal, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run folder to compare with, and the one that is judged. With --baseline the second
    /// alone. With --rerun: programs, as the loadgen of another revision, or folders with
    /// scenarios/peers of their own.
    #[arg(value_names = ["BEFORE", "AFTER"], num_args = 1..=2, required = true)]
    sides: Vec<PathBuf>,
    /// What the run is compared with: a run folder, or a file that `loadgen export --baseline`
    /// wrote.
    #[arg(long, value_name = "FILE|RUN", conflicts_with = "rerun")]
    baseline: Option<PathBuf>,
    /// Measure both now, in turn, with this scenario, and repeat until it is known whether
    /// they differ.
    #[arg(long, value_name = "FILE")]
    rerun: Option<PathBuf>,
    /// With --rerun: the difference that has to be found, if there is one.
    #[arg(long, value_name = "PERCENT", default_value = "5%", requires = "rerun")]
    detect: String,
    /// With --rerun: how long repeats may be added.
    #[arg(long, value_name = "TIME", default_value = "20m", requires = "rerun")]
    budget: String,
    /// With --rerun: the figures that have to be known, with commas; the fewer, the sooner.
    #[arg(long, value_name = "FIGURES", value_delimiter = ',', requires = "rerun")]
    figures: Vec<String>,
    /// With --rerun: what the runs of both are given besides, as `-- --peers l7`.
    #[arg(last = true, requires = "rerun")]
    arguments: Vec<String>,
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
    let comparison = match &args.rerun {
        Some(scenario) => rerun(args, scenario)?,
        None => of_folders(args)?,
    };
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
    if interrupt::interrupted() {
        return Ok(exit::INTERRUPTED);
    }
    let unknown = args.fail_on_inconclusive && comparison.is_inconclusive();
    let failed = comparison.has_regressed() || unknown;
    Ok(if failed { exit::EXPECTATION_FAILED } else { exit::FINE })
}

fn of_folders(args: &Args) -> Result<Comparison, Failure> {
    let tolerance = percent("--tolerance", &args.tolerance)?;
    let open = |folder: &Path| Run::open(folder).map_err(Failure::bad_input);
    let (before, after) = match (&args.baseline, args.sides.as_slice()) {
        (Some(baseline), [after]) => {
            (Run::open_baseline(baseline).map_err(Failure::bad_input)?, open(after)?)
        }
        _ => {
            let [before, after] = both(args)?;
            (open(before)?, open(after)?)
        }
    };
    let moves = parse_moves(&args.moves)?;
    Comparison::of(&before, &after, tolerance, moves).map_err(Failure::bad_input)
}

fn both(args: &Args) -> Result<[&Path; 2], Failure> {
    match (args.sides.as_slice(), &args.baseline) {
        ([before, after], None) => Ok([before, after]),
        ([_, extra], Some(_)) => Err(Failure::bad_input(format!(
            "{}: --baseline says what the run is compared with; name one run besides",
            extra.display()
        ))),
        _ => Err(Failure::bad_input("compare takes two: BEFORE and AFTER, or --baseline and one")),
    }
}

fn rerun(args: &Args, scenario: &Path) -> Result<Comparison, Failure> {
    let budget = units::duration::parse(&args.budget)
        .map_err(|error| Failure::bad_input(format!("--budget: {error}")))?;
    let rerun = Rerun {
        scenario,
        sides: both(args)?,
        arguments: &args.arguments,
        figures: args.figures.iter().map(|name| figure(name)).collect::<Result<_, _>>()?,
        detect: percent("--detect", &args.detect)?,
        budget,
    };
    interrupt::listen()
        .map_err(|error| Failure::lab(format!("cannot wait for signals: {error}")))?;
    let mut progress = Progress::new(Terminal::stderr());
    rerun.run(&mut |line| progress.note(&line))
}

fn percent(flag: &str, text: &str) -> Result<f64, Failure> {
    let part = units::parse_percent(text);
    part.map_err(|error| Failure::bad_input(format!("{flag}: {error}")))
}

/// A figure that can be compared.
fn figure(name: &str) -> Result<Figure, Failure> {
    let known = || Comparison::figures().map(Figure::name).collect::<Vec<_>>().join(", ");
    let found = name.parse().ok().filter(|&found| Comparison::figures().any(|one| one == found));
    found.ok_or_else(|| Failure::bad_input(format!("--figures {name}: compared are {}", known())))
}

/// As `15%,25us`: of CPU per call, and of a latency.
fn parse_moves(text: &str) -> Result<analysis::compare::Moves, Failure> {
    let failure = |what: String| Failure::bad_input(format!("--moves {text}: {what}"));
    let (cpu, latency) = text
        .split_once(',')
        .ok_or_else(|| failure("expected a percentage and a time, as `15%,25us`".to_owned()))?;
    let wrong = |error: units::Error| failure(error.into());
    let cpu = units::parse_percent(cpu.trim()).map_err(wrong)?;
    let latency = units::duration::parse(latency.trim()).map_err(wrong)?;
    Ok(analysis::compare::Moves { cpu, latency_ns: latency.as_nanos() as f64 })
}
