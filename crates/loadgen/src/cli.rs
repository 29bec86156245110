//! Flags and subcommands.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use measure::folder::{Run, write_whole};
use report::terminal::Style;
use scenario::{Library, Setting};
use serve::http1::host::HostArgs;

use crate::{
    exit::{self, Failure},
    export, external, interrupt, lab, peers,
    root::Root,
    run::{self, Request, summary::Summary},
    ui::{Live, Progress, Terminal, WIDEST_TEXT, counted, print, print_result},
};

/// Measures what an L4 and an L7 load balancer do to a gRPC service: which
/// backend serves each call, how long calls take, and what the balancer costs.
///
/// A scenario asks one question. The lab starts its backends and, one after the
/// other, each way to them (its peers: no balancer, an L4 proxy, an L7 proxy,
/// ...), makes the identical calls through each, and writes a report.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
struct Program {
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  The question it all starts with:      loadgen --scenario single-conn-flood
  All questions there are:              loadgen --list
  A quick look, two peers only:         loadgen --scenario few-conns --short --peers l4,l7
  Another policy, twice the load:       loadgen --scenario few-conns \\
                                          --set balance.policy=p2c --set load.rate=6600/s
  Over real links, the kernel as peer:  loadgen --scenario many-conns \\
                                          --set network=namespaces --peers l4,kernel-l4
  A balancer that is there already:     loadgen --scenario few-conns --target 10.0.0.7:80
  A scenario of your own:               loadgen check my.toml && loadgen --scenario my.toml

Exit codes: 0 all expectations held; 1 one did not (with --require-all also: could not be
judged); 2 bad usage or input; 3 the lab itself failed, its results can't be kept, or no call of
a trial succeeded and no claim expects that; 130 interrupted (what was measured is kept).";

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The scenario to run: a name from --list, or the path of a file.
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "list")]
    scenario: Option<String>,

    /// List the scenarios and what they ask.
    #[arg(long)]
    list: bool,

    /// The peers to compare, with commas, instead of the scenario's; `all` for
    /// every peer there is (see `loadgen peers`).
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    peers: Vec<String>,

    /// Drive a balancer that is there already, a cluster's say, instead of the
    /// scenario's peers. The lab starts nothing; layerlab's echo-backend has to run
    /// behind it, and is told apart by the id in its answers.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "peers",
          value_parser = external::parse)]
    target: Option<String>,

    /// Length of the measured part of each trial: 2s, 500ms, 1m.
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,

    /// Trials of each peer.
    #[arg(long, value_name = "N")]
    repeats: Option<String>,

    /// Seed of all chance: arrivals, service times, payloads.
    #[arg(long, value_name = "N")]
    seed: Option<String>,

    /// Any other setting of the scenario, by its key: `load.rate=5000/s`,
    /// `backends.count=8`, `balance.policy=p2c`, `network=namespaces`,
    /// `tls=both`. May be given again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,

    /// Run the scenario's short form: a few seconds, for a check and not for
    /// figures.
    #[arg(long)]
    short: bool,

    /// Folder to keep runs in [default: results].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Serve the run's own Prometheus metrics over HTTP at this address, under
    /// /metrics, while it is under way.
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,

    #[command(flatten)]
    hosts: HostArgs,

    /// Print the result as one JSON object (progress stays on standard error).
    #[arg(long)]
    json: bool,

    /// Exit with 1 also when a claim of the scenario could not be judged, as one about a
    /// peer that was left out. For a team's CI.
    #[arg(long)]
    require_all: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a scenario without running it.
    Check {
        /// A name from --list, or the path of a file.
        scenario: String,
    },
    /// Make the report of a run again, from its folder alone.
    Report {
        /// The run folder, as the run printed it.
        folder: PathBuf,
    },
    /// Say what changed from one run to another; exit code 1 if something got
    /// worse. For a team's CI.
    Compare(CompareArgs),
    /// Say from many runs which balancer is right when, and what it costs; writes the
    /// decision page.
    Decide(DecideArgs),
    /// Write a run's data for other tools: HdrHistogram logs and percentiles,
    /// series as CSV, a summary in Prometheus' text format.
    Export {
        /// The run folder.
        folder: PathBuf,
        /// Where to write [default: `export` in the run folder].
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
    /// List the peers: what is there, in which version, and how to get the rest.
    Peers,
    /// Print the JSON Schema of a file format.
    Schema {
        /// Which format.
        format: Format,
    },
    /// Start a process that ends when the lab does.
    #[command(hide = true)]
    Guard(lab::guard::Args),
    /// End what is left of a process group when its first process has ended.
    #[command(hide = true)]
    Leash(lab::leash::Args),
    /// The lab's backend.
    #[command(hide = true)]
    EchoBackend(Box<echo_backend::cli::Args>),
    /// The lab's L4 proxy.
    #[command(hide = true)]
    L4Proxy(Box<l4_proxy::cli::Args>),
    /// The lab's L7 proxy.
    #[command(hide = true)]
    L7Proxy(Box<l7_proxy::Args>),
}

#[derive(Debug, clap::Args)]
struct CompareArgs {
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
    /// Also write it as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct DecideArgs {
    /// Results folders, or single run folders [default: results].
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Print the decision as JSON.
    #[arg(long)]
    json: bool,
    /// Where to write the page [default: decision.html in the first results folder].
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A file format with a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Scenario files.
    Scenario,
    /// Peer files.
    Peer,
    /// run.json of a run folder.
    Run,
    /// trials/*.json of a run folder.
    Trial,
    /// What --json prints.
    Summary,
    /// What `decide --json` prints.
    Decision,
}

/// The program: does what the command line says and gives the exit code.
pub(crate) fn main() -> ExitCode {
    let program = Program::parse();
    let done = match program.command {
        Some(Command::Guard(args)) => return lab::guard::main(args),
        Some(Command::Leash(args)) => return lab::leash::main(&args),
        Some(Command::EchoBackend(args)) => return echo_backend::main_with(*args),
        Some(Command::L4Proxy(args)) => return l4_proxy::cli::main_with(*args),
        Some(Command::L7Proxy(args)) => return l7_proxy::main_with(*args),
        Some(Command::Check { scenario }) => check(&scenario),
        Some(Command::Report { folder }) => make_report(&folder),
        Some(Command::Compare(args)) => compare(&args),
        Some(Command::Decide(args)) => decide(&args),
        Some(Command::Export { folder, out }) => export(&folder, out.as_deref()),
        Some(Command::Peers) => list_peers(),
        Some(Command::Schema { format }) => print_schema(format),
        None if program.run.list => list(),
        None => run_scenario(&program.run),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Not eprintln!, which panics when standard error is closed.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn library(root: &Root) -> Result<Library, Failure> {
    Library::open(root.scenarios()).map_err(Failure::bad_input)
}

fn run_scenario(args: &RunArgs) -> Result<u8, Failure> {
    let root = Root::find();
    let library = library(&root)?;
    let request = request(args, &library, &root)?;
    if request.scenario.network == scenario::Network::Namespaces {
        // Before there is a second thread.
        lab::network::prepare().map_err(Failure::lab)?;
    }
    interrupt::listen()
        .map_err(|error| Failure::lab(format!("cannot wait for signals: {error}")))?;
    let (live, address) = live_metrics(args)?.unzip();
    let mut progress = Progress::new(Terminal::stderr()).with_live(live);
    if let Some(address) = address {
        progress.note(&format!("metrics of the run at http://{address}/metrics"));
    }
    progress.note(&format!("{}: {}", request.scenario.name, request.scenario.question));
    let mut finished = run::run(&request, &library, &root, &mut progress)?;
    if let Some(failure) = finished.failure.take_if(|_| finished.trials.is_empty()) {
        return Err(failure);
    }
    for sentence in finished.unmeasured() {
        progress.note(&format!("not measured: {sentence}"));
    }
    let (report, unwritten) = match write_report(&finished, &request.results) {
        Ok(report) => (report, None),
        Err(failure) => (None, Some(failure)),
    };
    let code = finished.exit_code(args.require_all);
    let last = not_judged(&finished, args.require_all);
    let printed = if args.json {
        last.iter().for_each(|line| progress.note(line));
        print(&format!("{:#}\n", serde_json::json!(Summary::of(&finished))))
    } else {
        print_result(&finished, report.as_deref(), last.as_deref())
    };
    // Said after the table: what was measured is worth more than where it is kept.
    match finished.failure.or(unwritten).or(printed.err()) {
        Some(failure) => Err(failure),
        None => Ok(code),
    }
}

/// Makes the report of a run, and the list of all; none where nothing was measured.
fn write_report(finished: &run::Finished, results: &Path) -> Result<Option<PathBuf>, Failure> {
    if finished.trials.is_empty() {
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

fn live_metrics(args: &RunArgs) -> Result<Option<(Live, SocketAddr)>, Failure> {
    let Some(address) = args.metrics_listen else { return Ok(None) };
    let listening = Live::listen(address, args.hosts.allowed());
    listening.map(Some).map_err(|error| {
        Failure::bad_input(format!(
            "--metrics-listen: cannot listen at {address}: {error}; name a free address, or port 0 \
             for any"
        ))
    })
}

fn request(args: &RunArgs, library: &Library, root: &Root) -> Result<Request, Failure> {
    let name = args.scenario.as_deref().unwrap_or_default();
    let source = library.find(name).map_err(Failure::bad_input)?;
    let settings = settings(args, library)?;
    let scenario = source.resolve(args.short, &settings).map_err(Failure::bad_input)?;
    let short = args.short.then(|| "--short".to_owned());
    let target = args.target.iter().map(|target| format!("--target {target}"));
    let written = settings.iter().map(|setting| setting.origin().to_owned());
    Ok(Request {
        source,
        scenario,
        overrides: short.into_iter().chain(target).chain(written).collect(),
        every_peer: args.peers == ["all"],
        target: args.target.clone(),
        results: args.out.clone().unwrap_or_else(|| root.results()),
    })
}

/// The flags that change the scenario. They go through the same check as the
/// file, which blames them by name.
fn settings(args: &RunArgs, library: &Library) -> Result<Vec<Setting>, Failure> {
    let flag = |key: &str, flag: &str, value: &Option<String>| {
        value.as_ref().map(|value| Setting::new(key, value, format!("{flag} {value}")))
    };
    let mut settings = Vec::new();
    if !args.peers.is_empty() {
        let origin = format!("--peers {}", args.peers.join(","));
        let names =
            if args.peers == ["all"] { peers::all_names(library) } else { args.peers.clone() };
        settings.push(Setting::list("run.peers", &names, origin));
    }
    settings.extend(flag("load.duration", "--duration", &args.duration));
    settings.extend(flag("run.repeats", "--repeats", &args.repeats));
    settings.extend(flag("run.seed", "--seed", &args.seed));
    for text in &args.settings {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::bad_input(format!(
                "--set {text}: expected KEY=VALUE, as in --set load.rate=5000/s"
            )));
        };
        settings.push(Setting::new(key.trim(), value.trim(), format!("--set {text}")));
    }
    Ok(settings)
}

fn list() -> Result<u8, Failure> {
    let library = library(&Root::find())?;
    let mut text = String::new();
    for summary in library.summaries() {
        match summary {
            Ok(summary) => {
                let planned = summary.planned.map_or_else(
                    || "until done".to_owned(),
                    |planned| format!("{:.0} s of load", planned.as_secs_f64()),
                );
                let peers = summary.peers.join(", ");
                text.push_str(&format!(
                    "{}\n    {}\n    {peers}; {planned}\n",
                    summary.name, summary.question
                ));
            }
            Err(error) => text.push_str(&format!("BROKEN: {error}\n")),
        }
    }
    print(&text)?;
    Ok(exit::FINE)
}

fn check(scenario: &str) -> Result<u8, Failure> {
    let library = library(&Root::find())?;
    let source = library.find(scenario).map_err(Failure::bad_input)?;
    let checked = source.resolve(false, &[]).map_err(Failure::bad_input)?;
    // What a scenario compares has to be right as well.
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

fn make_report(folder: &Path) -> Result<u8, Failure> {
    let written = report::write(folder)?;
    let files = std::iter::once(&written.html).chain(&written.pngs);
    print(&files.map(|file| format!("{}\n", file.display())).collect::<String>())?;
    Ok(exit::FINE)
}

fn compare(args: &CompareArgs) -> Result<u8, Failure> {
    let tolerance = scenario::units::parse_percent(&args.tolerance)
        .map_err(|error| Failure::bad_input(format!("--tolerance: {error}")))?;
    let open = |folder: &Path| Run::open(folder).map_err(Failure::bad_input);
    let (before, after) = (open(&args.before)?, open(&args.after)?);
    let moves = parse_moves(&args.moves)?;
    let comparison = report::compare::Comparison::of(&before, &after, tolerance, moves)
        .map_err(Failure::bad_input)?;
    if args.json {
        print(&format!("{:#}\n", serde_json::json!(comparison)))?;
    } else {
        print(&comparison.text(Terminal::stdout().style))?;
    }
    if let Some(path) = &args.html {
        write_whole(path, comparison.html().as_bytes())
            .map_err(|error| Failure::writing(format!("--html {}", path.display()), &error))?;
    }
    let unknown = args.fail_on_inconclusive && comparison.is_inconclusive();
    let failed = comparison.has_regressed() || unknown;
    Ok(if failed { exit::EXPECTATION_FAILED } else { exit::FINE })
}

/// As `15%,25us`: of CPU per call, and of a latency.
fn parse_moves(text: &str) -> Result<report::compare::Moves, Failure> {
    let failure = |what: String| Failure::bad_input(format!("--moves {text}: {what}"));
    let (cpu, latency) = text
        .split_once(',')
        .ok_or_else(|| failure("expected a percentage and a time, as `15%,25us`".to_owned()))?;
    let cpu = scenario::units::parse_percent(cpu.trim()).map_err(failure)?;
    let latency = scenario::units::parse_duration(latency.trim()).map_err(failure)?;
    Ok(report::compare::Moves { cpu, latency_ns: latency.as_nanos() as f64 })
}

fn decide(args: &DecideArgs) -> Result<u8, Failure> {
    use report::decide::{Decision, PAGE};
    let folders =
        if args.folders.is_empty() { vec![Root::find().results()] } else { args.folders.clone() };
    // A page goes beside the runs it links to; never into a run's own folder.
    let results = folders.iter().find(|folder| !folder.join("run.json").is_file());
    let page = args.html.clone().or_else(|| results.map(|folder| folder.join(PAGE)));
    let beside = page.clone().unwrap_or_else(|| PathBuf::from(PAGE));
    let decision = Decision::of(&folders, &beside)?;
    let written = page.as_deref().map_or(Ok(()), |page| write_decision(&decision, page, results));
    if args.json {
        print(&format!("{:#}\n", serde_json::json!(decision)))?;
        return written.map(|()| exit::FINE);
    }
    let style = Terminal::stdout().style;
    let mut text = decision.text(Style { width: style.width.min(WIDEST_TEXT), ..style });
    match page.as_ref().filter(|_| written.is_ok()) {
        Some(page) => text.push_str(&format!("\npage     {}\n", page.display())),
        None if page.is_some() => {}
        None => text.push_str("\nNo page was written: give --html FILE, or a results folder.\n"),
    }
    print(&text)?;
    written.map(|()| exit::FINE)
}

fn write_decision(
    decision: &report::decide::Decision,
    page: &Path,
    results: Option<&PathBuf>,
) -> Result<(), Failure> {
    decision.write(page)?;
    // The list of all runs links to the page where it stands beside it.
    if let Some(folder) = results.filter(|folder| folder.join(report::decide::PAGE) == *page) {
        report::index(folder)?;
    }
    Ok(())
}

fn export(folder: &Path, out: Option<&Path>) -> Result<u8, Failure> {
    let run = Run::open(folder).map_err(Failure::bad_input)?;
    let out = out.map_or_else(|| folder.join("export"), std::path::Path::to_owned);
    let files = export::write(&run, &out)?;
    print(&files.iter().map(|path| format!("{}\n", path.display())).collect::<String>())?;
    Ok(exit::FINE)
}

fn list_peers() -> Result<u8, Failure> {
    let root = Root::find();
    peers::print_all(&library(&root)?, &root)?;
    Ok(exit::FINE)
}

fn print_schema(format: Format) -> Result<u8, Failure> {
    use measure::record::{RunRecord, TrialRecord};
    let text = |schema: schemars::Schema| format!("{:#}\n", schema.to_value());
    print(&match format {
        Format::Scenario => scenario::scenario_schema(),
        Format::Peer => scenario::peer_schema(),
        Format::Run => text(schemars::schema_for!(RunRecord)),
        Format::Trial => text(schemars::schema_for!(TrialRecord)),
        Format::Summary => text(schemars::schema_for!(Summary)),
        Format::Decision => text(schemars::schema_for!(report::decide::Decision)),
    })?;
    Ok(exit::FINE)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_scenario_is_asked_for_unless_there_is_something_else_to_do() {
        assert!(Program::try_parse_from(["loadgen"]).is_err());
        assert!(Program::try_parse_from(["loadgen", "--list"]).is_ok());
        assert!(Program::try_parse_from(["loadgen", "peers"]).is_ok());
        assert!(Program::try_parse_from(["loadgen", "--scenario", "few-conns"]).is_ok());
    }

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
