//! A scenario simulated in place of run: the same record, and nothing in it measured.
//!
//! [`convert`] makes of a checked scenario what [`simulate`] takes. It stands here and
//! not in `scenario`, which would otherwise know of simulations, and not in `simulate`,
//! which would then know of files.

mod calculate;
mod calibrate;
mod convert;
mod forecast;
mod recorded;
mod trial;

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Instant,
};

pub(crate) use calculate::calculator;
pub(crate) use calibrate::Calibrated;
pub(crate) use convert::Conditions;
pub(crate) use forecast::Forecast;
use jiff::Timestamp;
use measure::{
    folder::RunFolder,
    record::{RunOutcome, TrialRecord, Verdict},
    simulation::Simulation,
};
use scenario::{Library, Scenario, ScenarioSource};

use super::{
    Event, Finished, Observer, create_folder, describe, expect, order, order::Turn, points,
    points::Point,
};
use crate::{
    exit::Failure,
    lab::{environment, placement::Cpus},
    peers::ReadyPeer,
};

/// What the user asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) source: ScenarioSource,
    pub(crate) scenario: Scenario,
    /// Flags that changed the scenario or the simulation, as they were written.
    pub(crate) overrides: Vec<String>,
    /// Where runs are kept.
    pub(crate) results: PathBuf,
    /// What the simulation knows beside the scenario.
    pub(crate) conditions: Conditions,
    /// Whether the scenario's claims are judged: they are about the scenario as it stands.
    pub(crate) judges: bool,
}

/// Simulates a scenario: every peer at every point in every repeat, with the arrivals that
/// the lab would send.
///
/// # Errors
/// When the scenario can't be simulated, or the run can't be kept.
pub(crate) fn run(
    request: &Request,
    library: &Library,
    observer: &mut dyn Observer,
) -> Result<Finished, Failure> {
    let scenario = &request.scenario;
    if scenario.load.search.is_some() {
        return Err(Failure::bad_input(format!(
            "scenario {} searches for the highest rate, which CPU time decides, and a simulation \
             has none; simulate a rate, with a scenario that has no [load.search]",
            scenario.name
        )));
    }
    check_own(scenario, request.conditions.calibrated.as_ref()).map_err(Failure::bad_input)?;
    // Of a measured run, what connections took is in the calls that it is calibrated by.
    let is_calibrated = request.conditions.calibrated.is_some();
    if !scenario.links.is_empty() && scenario.load.connection_calls.is_some() && !is_calibrated {
        return Err(Failure::bad_input(format!(
            "scenario {} makes connections anew over links that take time, and a simulation knows \
             nothing of their round trips; take `load.connection_calls` out, or `[[link]]`",
            scenario.name
        )));
    }
    let peers = peers(scenario, library)?;
    let points = points::planned(scenario);
    let threads = threads();
    check(request, &points, &peers, threads)?;
    let (started, began) = (Timestamp::now(), Instant::now());
    let folder = create_folder(&request.results, &request.source, started)?;
    let trials = all_trials(request, &points, &peers, observer)?;
    let mut record = record(request, &points, &peers, started);
    let written = write_trials(&folder, &trials);
    record.trials = u32::try_from(trials.len()).ok();
    record.elapsed_s = Some(began.elapsed().as_secs_f64());
    record.outcome = RunOutcome::Complete;
    judge(request, &mut record, &trials);
    let kept = written.and_then(|()| folder.write_run(&record).map_err(Failure::from));
    let (claims, failure) = (scenario.claims.clone(), kept.err());
    Ok(Finished { folder: folder.path().to_owned(), record, trials, claims, failure })
}

/// Whether servers of the user's own can be simulated: what they do is known from a measured
/// run, and from what the scenario says.
///
/// # Errors
/// In a sentence, what is not known.
fn check_own(scenario: &Scenario, calibrated: Option<&Calibrated>) -> Result<(), String> {
    let name = &scenario.name;
    if !scenario.servers.are_own() {
        if scenario.service.is_none() {
            return Ok(());
        }
        return Err(format!(
            "scenario {name} calls a service that runs at a target, and of the servers there \
             nothing is known; name their `addresses` in [backends], or start them by `command`, \
             and run that"
        ));
    }
    let is_unsaid = |backend: &scenario::Backend| backend.concurrency.is_none();
    if scenario.all_points().iter().any(|point| point.backends.iter().any(is_unsaid)) {
        return Err(format!(
            "scenario {name} does not say how many calls its servers work on at once, which \
             decides who waits; add `backends.concurrency`, or --set backends.concurrency=N"
        ));
    }
    if calibrated.is_none_or(|one| !one.knows_own()) {
        return Err(format!(
            "scenario {name} has servers of your own, and what a call takes there is not known; \
             run it first, and name the run with --like FOLDER"
        ));
    }
    Ok(())
}

/// How many simulations are made at a time.
fn threads() -> usize {
    usize::try_from(environment::cpus()).unwrap_or(1).max(1)
}

/// Simulates each item, on all CPUs, and tells whoever watches how many are done.
fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    observer: &mut dyn Observer,
    simulate: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    let (of, watched) = (items.len(), Mutex::new((0, observer)));
    simulate::in_parallel(items, threads(), |item| {
        let simulated = simulate(item);
        // Poisoned only where another thread panicked, which is passed on.
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.0 += 1;
        let done = watched.0;
        watched.1.on(Event::Simulated { done, of });
        simulated
    })
}

/// The peers by their files: where they balance, and by which policy, is all that counts.
fn peers(scenario: &Scenario, library: &Library) -> Result<Vec<ReadyPeer>, Failure> {
    let ready = |name: &String| {
        let peer = library.peer(name).map_err(Failure::bad_input)?;
        Ok(ReadyPeer { peer, program: None, version: None, external: None })
    };
    scenario.peers.iter().map(ready).collect()
}

/// Whether all of it fits into half of the memory there is, as many at a time as there are
/// threads.
fn check(
    request: &Request,
    points: &[Point],
    peers: &[ReadyPeer],
    threads: usize,
) -> Result<(), Failure> {
    let limit = environment::memory_bytes() / 2 / threads as u64;
    for point in points {
        for peer in peers {
            let setup = convert::setup(&point.scenario, peer, &request.conditions);
            setup.check(limit).map_err(|error| {
                let name = format!("{}{}", peer.peer.name, point.suffix);
                Failure::bad_input(format!("scenario {}, {name}: {error}", point.scenario.name))
            })?;
        }
    }
    Ok(())
}

fn all_trials(
    request: &Request,
    points: &[Point],
    peers: &[ReadyPeer],
    observer: &mut dyn Observer,
) -> Result<Vec<TrialRecord>, Failure> {
    let turns = order::interleave(points.len(), peers.len(), request.scenario.repeats);
    let numbered: Vec<(u32, Turn)> = (0..).zip(turns).collect();
    let trials = in_parallel(&numbered, observer, |(order, turn)| {
        let (point, peer) = (&points[turn.point], &peers[turn.peer]);
        trial::simulate(point, peer, &request.conditions, *turn, *order)
    });
    trials.into_iter().collect::<Result<_, _>>().map_err(Failure::bad_input)
}

fn record(
    request: &Request,
    points: &[Point],
    peers: &[ReadyPeer],
    started: Timestamp,
) -> measure::record::RunRecord {
    let asked = super::Request::new(
        request.source.clone(),
        request.scenario.clone(),
        request.overrides.clone(),
        request.results.clone(),
    );
    let cpus = Cpus::default();
    let record = describe::run_record(&asked, points, peers, Vec::new(), started, &cpus);
    let mut leaves_out = convert::leaves_out(&request.scenario, &request.conditions);
    let calibrated = request.conditions.calibrated.as_ref();
    leaves_out.extend(calibrated.into_iter().flat_map(Calibrated::notes).cloned());
    let calibration = calibrated.map(|calibrated| calibrated.record(points, peers));
    let simulation = Simulation { leaves_out, calibration };
    // What is doubtful about the machine is of no consequence here.
    measure::record::RunRecord { simulation: Some(simulation), warnings: Vec::new(), ..record }
}

/// Judges the claims about figures that a simulation has, and names the others.
fn judge(request: &Request, record: &mut measure::record::RunRecord, trials: &[TrialRecord]) {
    let claims = &request.scenario.claims;
    let Some(simulation) = &mut record.simulation else { return };
    if !request.judges {
        if !claims.is_empty() {
            let sentence = "The scenario's claims are about its own settings, and were not judged.";
            simulation.leaves_out.push(sentence.to_owned());
        }
        return;
    }
    let judged = expect::judge(claims, None, trials);
    let (unknown, known): (Vec<_>, Vec<_>) =
        judged.into_iter().partition(|one| one.verdict == Verdict::NotJudged);
    let names: Vec<String> = unknown.iter().map(|one| format!("`{}`", one.claim)).collect();
    if !names.is_empty() {
        let list = names.join(", ");
        simulation.leaves_out.push(format!("Claims about figures that are not simulated: {list}."));
    }
    record.expectations = known;
}

fn write_trials(folder: &RunFolder, trials: &[TrialRecord]) -> Result<(), Failure> {
    trials.iter().try_for_each(|trial| folder.write_trial(trial)).map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use measure::{figure::Figures, folder::Run};
    use scenario::Setting;

    use super::*;
    use crate::root::Root;

    /// Watches nothing.
    struct Nobody;

    impl Observer for Nobody {
        fn on(&mut self, _: Event<'_>) {}
    }

    fn request(name: &str, results: PathBuf, settings: &[(&str, &str)]) -> (Request, Library) {
        let library = Library::open(Root::find().scenarios()).unwrap();
        let source = library.find(name).unwrap();
        let settings: Vec<Setting> =
            settings.iter().map(|(key, value)| Setting::new(key, value, *key)).collect();
        let scenario = source.resolve(true, &settings).unwrap();
        let request = Request {
            source,
            scenario,
            overrides: Vec::new(),
            results,
            conditions: Conditions::default(),
            judges: settings.is_empty(),
        };
        (request, library)
    }

    #[test]
    fn a_simulated_run_is_kept_as_a_measured_one_is_and_says_what_it_is() {
        let results = tempfile::tempdir().unwrap();
        let (request, library) = request("single-conn-flood", results.path().to_owned(), &[]);
        let finished = run(&request, &library, &mut Nobody).unwrap();
        assert!(finished.failure.is_none());
        let kept = Run::open(&finished.folder).unwrap();
        assert_eq!(kept.trials.len(), finished.trials.len());
        let simulation = kept.record.simulation.unwrap();
        let leaves_out = simulation.leaves_out.join("\n");
        assert!(leaves_out.contains("CPU time"), "{leaves_out}");
        let share = |peer: &str| {
            let trial = kept.trials.iter().find(|trial| trial.peer == peer).unwrap();
            Figures::of_trial(trial).shares().into_iter().reduce(f64::max).unwrap()
        };
        assert_eq!(share("l4"), 1.0, "one connection, one backend");
        assert!(share("l7") < 0.3);
        assert_eq!(finished.exit_code(false), 0, "{:?}", kept.record.expectations);
    }

    /// 10 ms to the backends, and in another run 3 ms more to the balancer, and a way past it.
    #[test]
    fn calls_take_the_time_of_the_links_they_cross() {
        let p50s = |settings: &[(&str, &str)]| {
            let results = tempfile::tempdir().unwrap();
            let (request, library) = request("far-streams", results.path().to_owned(), settings);
            let finished = run(&request, &library, &mut Nobody).unwrap();
            let p50 = |peer: &str| {
                let trial = finished.trials.iter().find(|trial| trial.peer == peer).unwrap();
                Figures::of_trial(trial).get(measure::figure::Figure::LatencyP50).unwrap() / 1e6
            };
            let simulation = Run::open(&finished.folder).unwrap().record.simulation.unwrap();
            (["direct", "l4", "l7"].map(|peer| p50(peer).round()), simulation.leaves_out.join("\n"))
        };
        let (all, leaves_out) = p50s(&[]);
        assert_eq!(all, [20.0; 3]);
        assert!(leaves_out.contains("What a new connection takes over a distance"), "{leaves_out}");
        assert!(leaves_out.contains("Jitter, loss and rates of links"), "{leaves_out}");
        assert!(!leaves_out.contains("not equally far"), "{leaves_out}");
        let links = "[{ between = [\"client\", \"balancer\"], delay = \"3ms\" }, \
                      { between = [\"balancer\", \"b0\"], delay = \"10ms\" }, \
                      { between = [\"balancer\", \"b1\"], delay = \"10ms\" }, \
                      { between = [\"client\", \"backends\"], delay = \"11ms\" }]";
        let (all, leaves_out) = p50s(&[("link", links)]);
        assert_eq!(all, [22.0, 26.0, 26.0]);
        assert!(leaves_out.contains("not equally far"), "{leaves_out}");
    }

    /// Three zones; from the first to the third it is farther than from any to another.
    #[test]
    fn calls_take_the_links_between_zones_that_they_cross() {
        let links = "[{ between = [\"zones\", \"zones\"], delay = \"10ms\" }, \
                      { between = [\"zones.a\", \"zones.c\"], delay = \"40ms\" }]";
        let settings = [
            ("network", "\"namespaces\""),
            ("link", links),
            ("backends.service_time", "\"constant:1ms\""),
            ("zones.connections", "{ a = 1 }"),
            ("run.peers", "[\"direct\", \"l4\", \"l7\", \"client-dns\"]"),
        ];
        let results = tempfile::tempdir().unwrap();
        let (request, library) = request("zones", results.path().to_owned(), &settings);
        let finished = run(&request, &library, &mut Nobody).unwrap();
        for trial in &finished.trials {
            let fastest = trial.backends.iter().map(|one| one.latency.min as f64 / 1e6);
            let fastest: Vec<f64> = fastest.map(f64::round).collect();
            assert_eq!(fastest, [1.0, 1.0, 21.0, 21.0, 81.0, 81.0], "{}", trial.peer);
        }
    }

    /// A recorded load is simulated call by call, as the lab replays it.
    #[test]
    fn a_trace_is_simulated_as_it_was_recorded() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("calls.csv"), "time_s\n5\n5.1\n5.1\n6.4\n").unwrap();
        let text = "question = \"And those calls?\"\n\
                    [backends]\nservice_time = \"constant:5ms\"\nconcurrency = 1\ncount = 1\n\
                    [load]\nloop = \"open\"\narrivals = \"trace:calls.csv\"\nconnections = 2\n\
                    [run]\npeers = [\"l7\"]\nrepeats = 1\n";
        let file = home.path().join("traced.toml");
        std::fs::write(&file, text).unwrap();
        let library = Library::open(Root::find().scenarios()).unwrap();
        let source = library.find(&file.display().to_string()).unwrap();
        let scenario = source.resolve(false, &[]).unwrap();
        let (results, overrides) = (home.path().to_owned(), Vec::new());
        let conditions = Conditions::default();
        let request = Request { source, scenario, overrides, results, conditions, judges: true };
        let finished = run(&request, &library, &mut Nobody).unwrap();
        let trial = &finished.trials[0];
        assert_eq!(trial.counts.ok, 4);
        // Of the two that came together one waited for the other.
        let waited = Figures::of_trial(trial).get(measure::figure::Figure::LatencyMax).unwrap();
        assert!((9.9e6..10.1e6).contains(&waited), "{waited}");
        let seconds: Vec<u64> = trial.series.iter().map(|one| one.ok).collect();
        assert_eq!(seconds[..2], [3, 1]);
    }

    /// Calls that took 5 ms each, of which two came together.
    #[test]
    fn a_log_gives_its_calls_and_what_they_took_to_a_scenario() {
        let trace = "time_s,method,request_bytes,response_bytes,took_s\n\
                     5,a.B/C,100,7,0.005\n5.1,a.B/C,300,,0.005\n\
                     5.1,a.B/D,100,7,0.005\n6.4,a.B/C,,7,0.005\n7,a.B/C,,7,0.005\n";
        let trace = scenario::Trace::parse("calls.csv", trace).unwrap();
        let results = tempfile::tempdir().unwrap();
        let settings = [("backends.count", "1"), ("backends.concurrency", "1")];
        let (mut request, library) = request("few-conns", results.path().to_owned(), &settings);
        request.scenario = request.scenario.replaying(&trace).unwrap();
        request.conditions.calibrated = Some(Calibrated::of_trace(&trace));
        let finished = run(&request, &library, &mut Nobody).unwrap();
        for trial in &finished.trials {
            assert_eq!(trial.counts.ok, 5);
            let get = |figure| Figures::of_trial(trial).get(figure).unwrap();
            let [p50, most] =
                [measure::figure::Figure::LatencyP50, measure::figure::Figure::LatencyMax].map(get);
            assert!((4.9e6..5.1e6).contains(&p50) && (9.9e6..10.1e6).contains(&most), "{most}");
        }
        let simulation = Run::open(&finished.folder).unwrap().record.simulation.unwrap();
        let leaves_out = simulation.leaves_out.join("\n");
        assert!(leaves_out.contains("the 2 methods of the log"), "{leaves_out}");
        assert!(leaves_out.contains("requests of the log have 167 B"), "{leaves_out}");
        assert!(leaves_out.contains("Time in the network"), "{leaves_out}");
        let calibration = simulation.calibration.unwrap();
        assert!(calibration.is_log && calibration.run == "calls.csv");
        assert!(calibration.extrapolated.iter().all(|one| one.starts_with("a log says nothing")));
        let [arrivals, service] = &calibration.taken[..] else { panic!("{calibration:?}") };
        assert_eq!((arrivals.count, arrivals.mean_ns), (5, 5e8));
        assert_eq!((service.count, service.fit.unwrap().ks), (5, 0.0));
    }

    #[test]
    fn a_load_that_a_log_decides_is_not_swept() {
        let trace = scenario::Trace::parse("calls.csv", "time_s\n0\n1\n").unwrap();
        let reason = |name| {
            let results = tempfile::tempdir().unwrap();
            let (request, _) = request(name, results.path().to_owned(), &[]);
            request.scenario.replaying(&trace).map(|_| ())
        };
        assert_eq!(reason("connection-sweep"), Ok(()));
        assert!(reason("payload-sweep").unwrap_err().contains("calls.csv decides"));
        assert!(reason("saturation").unwrap_err().contains("[load.search]"));
    }

    #[test]
    fn every_scenario_can_be_simulated_or_says_why_not() {
        let library = Library::open(Root::find().scenarios()).unwrap();
        for summary in library.summaries() {
            let name = summary.unwrap().name;
            let results = tempfile::tempdir().unwrap();
            let settings = [
                ("load.duration", "100ms"),
                ("load.warm_up", "0ms"),
                ("run.repeats", "1"),
                ("balance.balancers", "2"),
            ];
            // Where clients are in zones, each zone has its balancer.
            let settings = if name == "zones" { &settings[..3] } else { &settings[..] };
            let (request, library) = request(&name, results.path().to_owned(), settings);
            match run(&request, &library, &mut Nobody) {
                Ok(finished) => assert!(!finished.trials.is_empty(), "{name}"),
                Err(failure) => {
                    let reasons =
                        ["searches for the highest rate", "nothing takes time", "connections anew"];
                    let has = |reason: &&str| failure.message.contains(*reason);
                    assert!(reasons.iter().any(has), "{}", failure.message);
                    let mut left = std::fs::read_dir(results.path()).unwrap();
                    assert!(left.next().is_none(), "{name}: no folder is left");
                }
            }
        }
    }

    #[test]
    fn what_would_not_fit_is_refused_with_the_memory_it_needs() {
        let results = tempfile::tempdir().unwrap();
        let settings =
            [("load.connections", "1000000"), ("load.streams", "1"), ("backends.count", "9000")];
        let (mut request, library) = request("many-conns", results.path().to_owned(), &settings);
        request.scenario.peers = vec!["client-lookaside".to_owned()];
        let failure = run(&request, &library, &mut Nobody).unwrap_err();
        assert!(failure.message.contains("MiB of memory"), "{}", failure.message);
        assert!(std::fs::read_dir(results.path()).unwrap().next().is_none(), "no folder is left");
    }
}
