//! `loadgen --scenario NAME`: runs a scenario and says what came of it.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use scenario::{Library, Scenario, ScenarioSource, Setting};
use serve::http1::host::HostArgs;

use super::{
    child,
    nodes::NodesArgs,
    own_service::ServiceArgs,
    report::CiFormat,
    settings::{SettingArgs, origins},
    target::{AS_SCENARIO, TargetArgs, gentle},
};
use crate::{
    exit::Failure,
    interrupt, lab,
    root::Root,
    run::{self, Request, summary::Summary},
    service::OwnService,
    ui::{Live, Progress, Terminal, print, print_result},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario to run: a name from --list, or the path of a file.
    #[arg(long, value_name = "NAME|FILE", required_unless_present_any = ["list", "method"])]
    scenario: Option<String>,

    /// List the scenarios and what they ask.
    #[arg(long)]
    pub(super) list: bool,

    #[command(flatten)]
    targets: TargetArgs,

    /// Calls a second: 5000/s. Against a --target also `scenario`, for as many as the
    /// scenario makes.
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,

    #[command(flatten)]
    nodes: NodesArgs,

    #[command(flatten)]
    service: ServiceArgs,

    #[command(flatten)]
    settings: SettingArgs,

    /// Serve the run's own Prometheus metrics over HTTP at this address, under
    /// /metrics, while it is under way.
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,

    #[command(flatten)]
    hosts: HostArgs,

    /// Print the result as a CI reads it.
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<CiFormat>,

    /// Exit with 1 also when a claim of the scenario could not be judged, as one about a
    /// peer that was left out. For a team's CI.
    #[arg(long)]
    require_all: bool,

    /// Run again, up to so many times, where all claims that failed are about how fast
    /// something was, which other work on the machine can spoil. For tests.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let root = Root::find();
    let library = super::library(&root)?;
    let request = request(args, &library, &root)?;
    before_threads(&request.scenario)?;
    let (live, address) = live_metrics(args)?.unzip();
    let mut progress = Progress::new(Terminal::stderr()).with_live(live);
    args.targets.consent(&request, &mut progress)?;
    if let Some(address) = address {
        progress.note(&format!("metrics of the run at http://{address}/metrics"));
    }
    let as_said =
        Said { format: args.format, json: args.settings.json, require_all: args.require_all };
    for retry in 1..=args.retries {
        let done = carry_out(&request, &library, &root, &mut progress, as_said)?;
        if !done.is_for_speed {
            return Ok(done.code);
        }
        progress.note(&format!("RETRY {retry}: only claims about how fast something was failed"));
    }
    carry_out(&request, &library, &root, &mut progress, as_said).map(|done| done.code)
}

/// What has to be done while there is one thread.
pub(super) fn before_threads(scenario: &Scenario) -> Result<(), Failure> {
    if scenario.network == scenario::Network::Namespaces {
        lab::network::prepare().map_err(Failure::lab)?;
        if !scenario.links.is_empty() {
            lab::network::engine().map_err(Failure::lab)?;
        }
    }
    interrupt::listen().map_err(|error| Failure::lab(format!("cannot wait for signals: {error}")))
}

/// How the result is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) format: Option<CiFormat>,
    pub(super) json: bool,
    pub(super) require_all: bool,
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// The exit code.
    pub(super) code: u8,
    /// Whether it is not zero for claims about how fast something was, and for nothing else.
    pub(super) is_for_speed: bool,
}

/// Runs what was asked for, and says what came of it.
pub(super) fn carry_out(
    request: &Request,
    library: &Library,
    root: &Root,
    progress: &mut Progress,
    said: Said,
) -> Result<Done, Failure> {
    progress.note(&format!("{}: {}", request.scenario.name, request.scenario.question));
    let mut finished = run::run(request, library, root, progress)?;
    let has_figures = finished.has_figures();
    if let Some(failure) = finished.failure.take_if(|_| !has_figures) {
        return Err(failure);
    }
    for sentence in finished.unmeasured() {
        progress.note(&format!("not measured: {sentence}"));
    }
    let (report, unwritten) = match write_report(&finished, &request.results) {
        Ok(report) => (report, None),
        Err(failure) => (None, Some(failure)),
    };
    let code = finished.exit_code(said.require_all);
    let is_for_speed = finished.fails_for_speed();
    let last = not_judged(&finished, said.require_all);
    let data = match said.format {
        Some(format) => Some(format.text(&finished.record, &finished.trials)),
        None => said.json.then(|| format!("{:#}\n", serde_json::json!(Summary::of(&finished)))),
    };
    let printed = match data {
        Some(data) => {
            last.iter().for_each(|line| progress.note(line));
            print(&data)
        }
        None => print_result(&finished, report.as_deref(), last.as_deref()),
    };
    // Said after the table: what was measured is worth more than where it is kept.
    match finished.failure.or(unwritten).or(printed.err()) {
        Some(failure) => Err(failure),
        None => Ok(Done { code, is_for_speed }),
    }
}

/// Makes the report of a run, and the list of all; none where nothing was measured, and where
/// only records are wanted.
pub(super) fn write_report(
    finished: &run::Finished,
    results: &Path,
) -> Result<Option<PathBuf>, Failure> {
    if finished.trials.is_empty() || env::var_os(child::RECORDS_ONLY).is_some() {
        return Ok(None);
    }
    let written = report::write(&finished.folder)?;
    report::index(results)?;
    Ok(Some(written.html))
}

/// What is said last of claims that could not be judged, if there are any.
fn not_judged(finished: &run::Finished, require_all: bool) -> Option<String> {
    let count = finished.not_judged();
    let of = finished.record.expectations.len();
    let flag = if require_all { "as --require-all asks" } else { "see --require-all" };
    (count > 0).then(|| format!("claims   {count} of {of} could not be judged ({flag})"))
}

fn live_metrics(args: &Args) -> Result<Option<(Live, SocketAddr)>, Failure> {
    let Some(address) = args.metrics_listen else { return Ok(None) };
    let listening = Live::listen(address, args.hosts.allowed());
    listening.map(Some).map_err(|error| {
        Failure::bad_input(format!(
            "--metrics-listen: cannot listen at {address}: {error}; name a free address, or port 0 \
             for any"
        ))
    })
}

fn request(args: &Args, library: &Library, root: &Root) -> Result<Request, Failure> {
    let source = match &args.scenario {
        Some(name) => library.find(name).map_err(Failure::bad_input)?,
        None => ServiceArgs::quick(library)?,
    };
    let rate = args.rate.as_ref().filter(|rate| *rate != AS_SCENARIO);
    let mut others: Vec<Setting> = rate
        .map(|rate| Setting::new("load.rate", rate, format!("--rate {rate}")))
        .into_iter()
        .collect();
    others.extend(args.service.settings()?);
    let mut settings = args.settings.settings(library, others)?;
    let mut scenario = args.settings.scenario(&source, &settings)?;
    let targets = args.targets.all()?;
    if let Some(gentle) =
        targets.as_ref().filter(|_| args.rate.is_none()).map(|_| gentle(&scenario))
        && let Some(gentle) = gentle?
    {
        settings.push(gentle);
        scenario = args.settings.scenario(&source, &settings)?;
    }
    let service = own_service(&scenario, &source, &settings, targets.is_some())?;
    let short = args.settings.short();
    let target = args.targets.words();
    let nodes = args.nodes.wanted(library, short.is_some(), &settings)?;
    let written = origins(&settings);
    let overrides = short.into_iter().chain(target).chain(args.nodes.words()).chain(written);
    Ok(Request {
        nodes,
        service,
        every_peer: args.settings.every_peer(),
        targets,
        max_errors: args.targets.max_errors()?,
        ..Request::new(source, scenario, overrides.collect(), args.settings.results(root))
    })
}

/// The service that the scenario calls, if it is not the lab's.
pub(super) fn own_service(
    scenario: &Scenario,
    source: &ScenarioSource,
    settings: &[Setting],
    is_there: bool,
) -> Result<Option<OwnService>, Failure> {
    let count = run::load::expected_calls(scenario, 1);
    let service = OwnService::of(scenario, source, settings, count, None)?;
    if service.is_some() && !is_there && !scenario.servers.are_own() {
        return Err(Failure::bad_input(format!(
            "scenario {} calls a service of your own, and nothing says where it runs; add \
             --target HOST:PORT, or name its `addresses` in [backends], or start it by `command`",
            scenario.name
        )));
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{cmd::Program, exit};

    #[test]
    fn flags_become_settings_that_keep_their_words() {
        let arguments = "loadgen --scenario few-conns --peers l4,l7 --duration 2s --repeats 5 \
                         --seed 9 --set load.rate=900/s --set balance.policy=p2c";
        let program = Program::try_parse_from(arguments.split_whitespace()).unwrap();
        let root = Root::find();
        let library = Library::open(root.scenarios()).unwrap();
        let request = request(&program.run, &library, &root).unwrap();
        assert_eq!(request.scenario.peers, ["l4", "l7"]);
        assert_eq!((request.scenario.repeats, request.scenario.seed), (5, 9));
        assert_eq!(request.overrides[0], "--peers l4,l7");
        assert_eq!(request.overrides[4], "--set load.rate=900/s");
    }

    #[test]
    fn a_wrong_flag_is_blamed_by_name() {
        let root = Root::find();
        let library = Library::open(root.scenarios()).unwrap();
        for (flags, expected) in [
            (vec!["--duration", "2"], "--duration 2"),
            (vec!["--repeats", "0"], "--repeats 0"),
            (vec!["--peers", "l4,l8"], "--peers l4,l8"),
            (vec!["--set", "load.rat=5/s"], "--set load.rat=5/s"),
            (vec!["--set", "load.rate"], "expected KEY=VALUE"),
        ] {
            let arguments = [vec!["loadgen", "--scenario", "few-conns"], flags].concat();
            let program = Program::try_parse_from(arguments).unwrap();
            let failure = request(&program.run, &library, &root).unwrap_err();
            assert_eq!(failure.code, exit::BAD_INPUT);
            assert!(failure.message.contains(expected), "{}", failure.message);
        }
    }
}
