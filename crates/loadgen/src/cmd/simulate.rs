//! `loadgen simulate`: what would come of a scenario, in sizes that can't be run here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use measure::folder::Run;
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
    /// Balancers that share the connections, each with its own view of the load.
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    balancers: u32,

    /// Connections of each client: `load.connections` divided by it are the clients.
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections_per_client: u32,

    /// Limit each balancer, or each client that balances itself, to so many of the
    /// backends, chosen by its name (rendezvous hashing).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    subset: Option<u32>,

    /// Balancers know of load only what all backends report from time to time: 100ms.
    /// Without it each counts what it has handed out itself.
    #[arg(long, value_name = "TIME", value_parser = positive)]
    load_reported_every: Option<Duration>,

    /// Backends tell one balancer, drawn by chance, when they become idle, and balancers know
    /// nothing else of load; for the policy join_idle_queue.
    #[arg(long, conflicts_with = "load_reported_every")]
    idle_reported: bool,

    /// Backends that join or leave are known to each balancer within this time.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = scenario::units::parse_duration)]
    told_within: Duration,

    /// One way between client and balancer, and as much between balancer and backend;
    /// without a balancer, between client and backend.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = scenario::units::parse_duration,
          conflicts_with = "like")]
    delay: Duration,

    /// Take service times, and what calls spend on the way, from this measured run.
    #[arg(long, value_name = "FOLDER")]
    like: Option<PathBuf>,
}

fn positive(text: &str) -> Result<Duration, String> {
    match scenario::units::parse_duration(text)? {
        Duration::ZERO => Err(format!("`{text}` is no time; leave the flag out")),
        time => Ok(time),
    }
}

/// What was measured in a run folder.
fn calibrated(folder: &Path, run: &Run) -> Result<Calibrated, Failure> {
    Calibrated::of(run, &run_name(folder), |_| true)
        .map_err(|reason| Failure::bad_input(format!("--like {}: {reason}", folder.display())))
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
    fn changes_nothing(&self) -> bool {
        self.written().iter().all(|flag| flag.starts_with("--like"))
    }

    fn conditions(&self, like: Option<&(&Path, Run)>) -> Result<Conditions, Failure> {
        Ok(Conditions {
            balancers: self.balancers,
            connections_per_client: self.connections_per_client,
            subset: self.subset,
            view: self.view(),
            told_within: self.told_within,
            delay: self.delay,
            calibrated: like.map(|(folder, run)| calibrated(folder, run)).transpose()?,
        })
    }

    fn view(&self) -> LoadView {
        match self.load_reported_every {
            _ if self.idle_reported => LoadView::IdleReported,
            Some(every) => {
                let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
                LoadView::Reported { every_ns }
            }
            None => LoadView::Own,
        }
    }

    /// The flags that were given, for the record.
    fn written(&self) -> Vec<String> {
        let time = |flag: &str, time: Duration| {
            (!time.is_zero()).then(|| format!("{flag} {}", scenario::units::format_duration(time)))
        };
        let count = |flag: &str, count: u32| (count > 1).then(|| format!("{flag} {count}"));
        [
            count("--balancers", self.balancers),
            count("--connections-per-client", self.connections_per_client),
            self.subset.map(|size| format!("--subset {size}")),
            time("--load-reported-every", self.load_reported_every.unwrap_or_default()),
            self.idle_reported.then(|| "--idle-reported".to_owned()),
            time("--told-within", self.told_within),
            time("--delay", self.delay),
            self.like.as_deref().map(|folder| format!("--like {}", run_name(folder))),
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
    let like = like.map(|folder| Ok::<_, Failure>((folder, Run::open(folder)?))).transpose()?;
    let (source, (scenario, mut overrides)) = match (&args.scenario, &like) {
        (None, Some((folder, run))) => {
            let source = library.read(&run.record.scenario, &folder.join("scenario.toml"));
            let source = source.map_err(Failure::bad_input)?;
            let resolved = args.settings.resolve_again(&source, &library, &run.record)?;
            (source, resolved)
        }
        (name, _) => {
            let name = name.as_deref().unwrap_or_default();
            let source = library.find(name).map_err(Failure::bad_input)?;
            let resolved = args.settings.resolve(&source, &library)?;
            (source, resolved)
        }
    };
    overrides.extend(args.conditions.written());
    let request = Request {
        source,
        scenario,
        judges: !args.settings.changes_scenario() && args.conditions.changes_nothing(),
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
