//! `loadgen decide`: which balancer is right when, from many runs.

use std::path::{Path, PathBuf};

use analysis::decide::{Decision, PAGE};
use measure::{calculator::Calculator, folder::Run};
use report::terminal::Style;

use crate::{
    exit::{self, Failure},
    root::Root,
    run::simulated,
    ui::{Progress, Terminal, WIDEST_TEXT, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Results folders, or single run folders [default: results].
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Simulate, with the times of this measured run, what the page's calculator answers
    /// from: other rates, clients and numbers of backends. Takes about a minute.
    #[arg(long, value_name = "RUN")]
    calculator: Option<PathBuf>,
    /// Print the decision as JSON.
    #[arg(long)]
    json: bool,
    /// Where to write the page [default: decision.html in the first results folder].
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let folders =
        if args.folders.is_empty() { vec![Root::find().results()] } else { args.folders.clone() };
    // A page goes beside the runs it links to; never into a run's own folder.
    let results = folders.iter().find(|folder| !folder.join("run.json").is_file());
    let page = args.html.clone().or_else(|| results.map(|folder| folder.join(PAGE)));
    let beside = page.clone().unwrap_or_else(|| PathBuf::from(PAGE));
    let mut decision = Decision::of(&folders, &beside)?;
    decision.calculator =
        args.calculator.as_deref().map(|run| calculator(run, &decision)).transpose()?;
    tell(&decision, page.as_deref(), results.map(PathBuf::as_path), args.json)
}

/// Writes the page and prints the decision.
fn tell(
    decision: &Decision,
    page: Option<&Path>,
    results: Option<&Path>,
    as_json: bool,
) -> Result<u8, Failure> {
    let written = page.map_or(Ok(()), |page| write_decision(decision, page, results));
    if as_json {
        print(&format!("{:#}\n", serde_json::json!(decision)))?;
        return written.map(|()| exit::FINE);
    }
    let style = Terminal::stdout().style;
    let mut text =
        report::decide::text(decision, Style { width: style.width.min(WIDEST_TEXT), ..style });
    match page.filter(|_| written.is_ok()) {
        Some(page) => text.push_str(&format!("\npage     {}\n", page.display())),
        None if page.is_some() => {}
        None => text.push_str("\nNo page was written: give --html FILE, or a results folder.\n"),
    }
    print(&text)?;
    written.map(|()| exit::FINE)
}

/// The scenario whose run has the times that the calculator is best simulated with.
const TIMES: &str = "connection-sweep";

/// The decision from the runs of one folder, with the calculator where one of them allows it.
pub(super) fn of_folder(folder: &Path) -> Result<u8, Failure> {
    let page = folder.join(PAGE);
    let mut decision = Decision::of(&[folder.to_owned()], &page)?;
    let times = decision.folders().into_iter().find(|run| run.evidence.scenario == TIMES);
    if let Some(run) = times.map(|run| run.path.clone()) {
        match calculator(&run, &decision) {
            Ok(made) => decision.calculator = Some(made),
            // The decision itself does not need it.
            Err(failure) => Progress::new(Terminal::stderr()).note(&failure.message),
        }
    }
    tell(&decision, Some(&page), Some(folder), false)
}

/// The scenario that tells what a call costs by its payload.
const COSTS: &str = "payload-sweep";

/// What the page's calculator answers from.
fn calculator(folder: &Path, decision: &Decision) -> Result<Calculator, Failure> {
    let run = Run::open(folder).map_err(Failure::bad_input)?;
    let costs = decision.folders().into_iter().find(|run| run.evidence.scenario == COSTS);
    let costs = costs.map(|run| Run::open(&run.path)).transpose().map_err(Failure::bad_input)?;
    let name = super::simulate::run_name(folder);
    let mut progress = Progress::new(Terminal::stderr());
    simulated::calculator(&run, &name, costs.as_ref(), &mut progress).map_err(|reason| {
        Failure::bad_input(format!("--calculator {}: {reason}", folder.display()))
    })
}

fn write_decision(decision: &Decision, page: &Path, results: Option<&Path>) -> Result<(), Failure> {
    report::decide::write(decision, page)?;
    // The list of all runs links to the page where it stands beside it.
    if let Some(folder) = results.filter(|folder| folder.join(PAGE) == *page) {
        report::index(folder)?;
    }
    Ok(())
}
