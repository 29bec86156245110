//! `loadgen check SCENARIO`: checks a scenario and everything it names.

use measure::format::counted;

use crate::{
    exit::{self, Failure},
    root::Root,
    service::OwnService,
    ui::print,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A name from --list, or the path of a file.
    scenario: String,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let library = super::library(&Root::find())?;
    let source = library.find(&args.scenario).map_err(Failure::bad_input)?;
    let checked = source.resolve(false, &[]).map_err(Failure::bad_input)?;
    // What a scenario calls and compares has to be right as well.
    OwnService::of(&checked, &source, &[], 1, None)?;
    for peer in &checked.peers {
        library.peer(peer).map_err(Failure::bad_input)?;
    }
    let planned = checked.trial_duration().map_or_else(
        || "of unknown length".to_owned(),
        |trial| format!("of {:.1} s", trial.as_secs_f64()),
    );
    let points = match (&checked.sweep, &checked.load.search) {
        (Some(sweep), _) => {
            let values: Vec<&str> = sweep.points.iter().map(|point| point.value.as_str()).collect();
            format!("{} points ({} = {}), ", values.len(), sweep.key, values.join(", "))
        }
        (None, Some(search)) => {
            let slo: Vec<String> = search.slo.iter().map(ToString::to_string).collect();
            format!("a search for the highest rate with {}, ", slo.join(" and "))
        }
        (None, None) => String::new(),
    };
    print(&format!(
        "{} is right: {}\n{points}{} ({}), {} each {planned}; {}\n",
        source.file(),
        checked.question,
        counted(checked.peers.len(), "peer"),
        checked.peers.join(", "),
        counted(checked.repeats as usize, "trial"),
        counted(checked.claims.len(), "claim"),
    ))?;
    Ok(exit::FINE)
}
