//! `loadgen predict`: says what a scenario will come to, measures it, and shows both.

use std::path::PathBuf;

use measure::folder::Run;

use super::{
    run::{Said, before_threads, carry_out, own_service},
    settings::SettingArgs,
    simulate::run_name,
};
use crate::{
    exit::Failure,
    root::Root,
    run::{Request, simulated::Forecast},
    ui::{Progress, Terminal},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario to predict and to run: a name from --list, or the path of a file.
    #[arg(long, value_name = "NAME|FILE")]
    scenario: String,

    /// Take service times, and what calls spend on the way, from this measured run. It needs
    /// two repeats or more: how far they differ decides how wide the intervals are.
    #[arg(long, value_name = "FOLDER")]
    like: PathBuf,

    /// Simulations of each peer and point with the times of each of its repeats.
    #[arg(long, value_name = "N", default_value = "20",
          value_parser = clap::value_parser!(u32).range(2..=10_000))]
    seeds: u32,

    #[command(flatten)]
    settings: SettingArgs,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let root = Root::find();
    let library = super::library(&root)?;
    let source = library.find(&args.scenario).map_err(Failure::bad_input)?;
    let (scenario, mut overrides) = args.settings.resolve(&source, &library)?;
    let settings = args.settings.settings(&library, Vec::new())?;
    let service = own_service(&scenario, &source, &settings, false)?;
    let name = run_name(&args.like);
    let run = Run::open(&args.like).map_err(Failure::bad_input)?;
    let forecast = Forecast::of(&run, &name, args.seeds).map_err(|reason| {
        Failure::bad_input(format!("--like {}: {reason}", args.like.display()))
    })?;
    overrides.push(format!("predict --like {name}"));
    let request = Request {
        every_peer: args.settings.every_peer(),
        service,
        forecast: Some(forecast),
        ..Request::new(source, scenario, overrides, args.settings.results(&root))
    };
    before_threads(&request.scenario)?;
    let mut progress = Progress::new(Terminal::stderr());
    let said = Said { format: None, json: args.settings.json, require_all: false };
    carry_out(&request, &library, &root, &mut progress, said).map(|done| done.code)
}
