//! `loadgen calibrate`: measures what the generator can do on this machine, for later runs to
//! say when they ask too much of it.

use measure::format;
use scenario::ScenarioSource;

use super::{
    run::{before_threads, write_report},
    settings::SettingArgs,
};
use crate::{
    exit::{self, Failure},
    root::Root,
    run::{self, Request, calibration::Calibration},
    ui::{Progress, Terminal, print},
};

const SCENARIO: &str = include_str!("calibrate.toml");

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: SettingArgs,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let root = Root::find();
    let library = super::library(&root)?;
    let source = ScenarioSource::parse("calibrate", "", SCENARIO, library.peer_names());
    let source = source.map_err(Failure::bad_input)?;
    let (scenario, overrides) = args.settings.resolve(&source, &library)?;
    let results = args.settings.results(&root);
    let request = Request::new(source, scenario, overrides, results.clone());
    before_threads(&request.scenario)?;
    let mut progress = Progress::new(Terminal::stderr());
    let finished = run::run(&request, &library, &root, &mut progress)?;
    write_report(&finished, &results)?;
    let calibration = Calibration::of(&finished);
    if let Some(failure) = finished.failure {
        return Err(failure);
    }
    let Some(calibration) = calibration else {
        return Err(Failure::lab("nothing was measured, so nothing is known of the generator"));
    };
    let path = calibration.write(&results)?;
    print(&format!(
        "A core of the generator makes {} small calls here, as fast as it goes.\nRuns whose open \
         loop asks for more than {} of a core say so from now on: {}\n",
        format::rate(calibration.calls_per_core),
        format::rate(calibration.usable(1)),
        path.display()
    ))?;
    Ok(exit::FINE)
}
