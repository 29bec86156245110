//! `loadgen simulate`: what would come of a scenario, in sizes that can't be run here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use measure::folder::Run;
use scenario::{Library, Scenario, ScenarioSource, Trace};
use simulate::LoadView;

use super::settings::SettingArgs;
use crate::{
    exit::Failure,
    root::Root,
    run::{
        self,
        simulated::{Calibrated, Conditions, Request},
        summary::Summary,
    },
    ui::{Progress, Terminal, print, print_result},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario to simulate: a name from --list, or the path of a file. Without it the
    /// one of the run of --like, with its arrivals and its clients.
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "like")]
    scenario: Option<String>,

    #[command(flatten)]
    settings: SettingArgs,

    #[command(flatten)]
    conditions: ConditionArgs,
}

/// What a simulation knows beside the scenario.
#[derive(Debug, clap::Args)]
struct ConditionArgs {
    /// Connections of each client: `load.connections` divided by it are the clients.
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections_per_client: u32,

    /// Zones of a scenario that has none itself: its clients are spread over as many, and its
    /// backends and balancers are in one after the other. Calls stay in their zone as far as
    /// that leaves all backends with the same load, as Envoy computes it, from six backends on.
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    zones: u32,

    /// What it takes more to a backend of another zone, one way.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = units::duration::parse)]
    zone_delay: Duration,

    /// Balancers know of load only what all backends report from time to time: 100ms.
    /// Without it each counts what it has handed out itself.
    #[arg(long, value_name = "TIME", value_parser = positive)]
    load_reported_every: Option<Duration>,

    /// Backends tell one balancer, drawn by chance, when they become idle, and balancers know
    /// nothing else of load; for the policy join_idle_queue.
    #[arg(long, conflicts_with = "load_reported_every")]
    idle_reported: bool,

    /// Backends that join or leave are known to each balancer within this time.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = units::duration::parse)]
    told_within: Duration,

    /// One way between client and balancer, and as much between balancer and backend;
    /// without a balancer, between client and backend.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = units::duration::parse,
          conflicts_with = "like")]
    delay: Duration,

    /// Take service times, and what calls spend on the way, from this measured run; or the
    /// calls, and what they took, from an access log of Envoy (JSON) or of our L7 proxy, or
    /// from a trace (loadgen trace). A log needs a scenario beside it.
    #[arg(long, value_name = "FOLDER|FILE")]
    like: Option<PathBuf>,
}

fn positive(text: &str) -> Result<Duration, String> {
    match units::duration::parse(text)? {
        Duration::ZERO => Err(format!("`{text}` is no time; leave the flag out")),
        time => Ok(time),
    }
}

/// What a simulation is to be like.
enum Like {
    /// A measured run, in its folder.
    Run(PathBuf, Box<Run>),
    /// Calls that were recorded.
    Trace(Trace),
}

impl Like {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            Ok(Self::Run(path.to_owned(), Box::new(Run::open(path)?)))
        } else {
            super::trace::open(path).map(Self::Trace)
        }
    }

    fn calibrated(&self) -> Result<Calibrated, Failure> {
        match self {
            Self::Trace(trace) => Ok(Calibrated::of_trace(trace)),
            Self::Run(folder, run) => {
                Calibrated::of(run, &run_name(folder), |_| true).map_err(|reason| {
                    Failure::bad_input(format!("--like {}: {reason}", folder.display()))
                })
            }
        }
    }
}

/// A run by its scenario's folder and its own.
pub(super) fn run_name(folder: &Path) -> String {
    let names = folder.components().rev().take(2);
    let mut names: Vec<_> = names.map(|name| name.as_os_str().to_string_lossy()).collect();
    names.reverse();
    names.join("/")
}

impl ConditionArgs {
    /// Whether the scenario is simulated as it stands.
    fn changes_nothing(&self, like: Option<&Like>) -> bool {
        let is_load = matches!(like, Some(Like::Trace(_)));
        !is_load && self.written().iter().all(|flag| flag.starts_with("--like"))
    }

    fn conditions(&self, like: Option<&Like>) -> Result<Conditions, Failure> {
        Ok(Conditions {
            connections_per_client: self.connections_per_client,
            zones: self.zones,
            zone_delay: self.zone_delay,
            view: self.view(),
            told_within: self.told_within,
            delay: self.delay,
            calibrated: like.map(Like::calibrated).transpose()?,
        })
    }

    fn view(&self) -> LoadView {
        match self.load_reported_every {
            _ if self.idle_reported => LoadView::IdleReported,
            Some(every) => {
                let every_ns = units::duration::nanos(every);
                LoadView::Reported { every_ns }
            }
            None => LoadView::Own,
        }
    }

    /// The flags that were given, for the record.
    fn written(&self) -> Vec<String> {
        let time = |flag: &str, time: Duration| {
            (!time.is_zero()).then(|| format!("{flag} {}", units::duration::format(time)))
        };
        let count = |flag: &str, count: u32| (count > 1).then(|| format!("{flag} {count}"));
        [
            count("--connections-per-client", self.connections_per_client),
            count("--zones", self.zones),
            time("--zone-delay", self.zone_delay),
            time("--load-reported-every", self.load_reported_every.unwrap_or_default()),
            self.idle_reported.then(|| "--idle-reported".to_owned()),
            time("--told-within", self.told_within),
            time("--delay", self.delay),
            self.like.as_deref().map(|path| format!("--like {}", run_name(path))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let root = Root::find();
    let library = super::library(&root)?;
    let like = args.conditions.like.as_deref();
    let like = like.map(Like::open).transpose()?;
    let (source, scenario, overrides) = chosen(args, &library, like.as_ref())?;
    let request = Request {
        source,
        scenario,
        judges: !args.settings.changes_scenario() && args.conditions.changes_nothing(like.as_ref()),
        overrides,
        results: args.settings.results(&root),
        conditions: args.conditions.conditions(like.as_ref())?,
    };
    let mut progress = Progress::new(Terminal::stderr());
    let (name, question) = (&request.scenario.name, &request.scenario.question);
    progress.note(&format!("{name}, simulated: {question}"));
    let finished = run::simulated::run(&request, &library, &mut progress)?;
    let simulation = finished.record.simulation.iter();
    simulation.flat_map(|one| &one.leaves_out).for_each(|sentence| {
        progress.note(&format!("left out: {sentence}"));
    });
    let report = super::run::write_report(&finished, &request.results)?;
    if args.settings.json {
        print(&format!("{:#}\n", serde_json::json!(Summary::of(&finished))))?;
    } else {
        print_result(&finished, report.as_deref(), None)?;
    }
    let code = finished.exit_code(false);
    match finished.failure {
        Some(failure) => Err(failure),
        None => Ok(code),
    }
}

/// The scenario that is simulated, and the flags that changed it.
fn chosen(
    args: &Args,
    library: &Library,
    like: Option<&Like>,
) -> Result<(ScenarioSource, Scenario, Vec<String>), Failure> {
    let (source, (mut scenario, mut overrides)) = match (&args.scenario, like) {
        (None, Some(Like::Trace(trace))) => {
            let message = "says what calls there were, and not to whom; name a scenario, with \
                           its backends and peers: --scenario NAME";
            return Err(Failure::bad_input(format!("--like {}: it {message}", trace.file())));
        }
        (None, Some(Like::Run(folder, run))) => {
            let source = library.read(&run.record.scenario, &folder.join("scenario.toml"));
            let source = source.map_err(Failure::bad_input)?;
            let resolved = args.settings.resolve_again(&source, library, &run.record)?;
            (source, resolved)
        }
        (name, _) => {
            let name = name.as_deref().unwrap_or_default();
            let source = library.find(name).map_err(Failure::bad_input)?;
            let resolved = args.settings.resolve(&source, library)?;
            (source, resolved)
        }
    };
    if let Some(Like::Trace(trace)) = like {
        scenario = scenario.replaying(trace).map_err(Failure::bad_input)?;
    }
    if scenario.zones.is_some() && args.conditions.zones > 1 {
        let message = "has `[zones]` of its own; leave the flag out, or change them with \
                       --set zones.connections.NAME=PART";
        return Err(Failure::bad_input(format!("--zones: scenario {} {message}", scenario.name)));
    }
    overrides.extend(args.conditions.written());
    Ok((source, scenario, overrides))
}
