//! What must hold of any report, whatever the run: it makes no request, shows
//! every peer in every chart, lets no text become markup, and survives trials
//! that went wrong.

use std::fs;

use analysis::{findings::Findings, model::Model};
use measure::{
    figure::{Figure, Figures},
    folder::Run,
    histogram::HistogramRecord,
    nodes::{Cluster, NodeRole, NodeSetup, NodeTrial},
    record::{
        Counts, Environment, Instructions, LinkEngine, LinkRecord, LinkSetup, LinksRecord,
        LoopMode, Network, ProcessRole, RunOutcome, Side, TrialOutcome, Twin,
    },
    simulation::Simulation,
    warning::Warning,
};
use report::{
    charts::{CHARTS, Frame},
    render::svg,
    terminal::{self, Style},
};

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&<!--";

/// The parts of the page that the browser reads as markup: everything between
/// `<` and `>` outside of the style and the script.
fn tags(page: &str) -> Vec<&str> {
    let body = page.split("</style>").last().unwrap();
    let body = &body[..body.find("<script>").unwrap()];
    body.split('<').skip(1).map(|rest| &rest[..rest.find('>').unwrap()]).collect()
}

fn drawn(run: &Run) -> Vec<(&'static str, String)> {
    let model = Model::new(&run.record, &run.trials);
    let mut all = Vec::new();
    for kind in CHARTS {
        for (frame, class) in [(Frame::wide(), "wide"), (Frame::narrow(), "narrow")] {
            let chart = (kind.draw)(&model, frame);
            assert_eq!(chart.drawing.width, frame.width, "{}", kind.name);
            let picture = svg(&chart.drawing, &chart.alternative, class);
            all.push((kind.name, picture.as_str().to_owned()));
        }
    }
    all
}

/// The page, in which a number and its unit may be looked for as they are typed.
fn page_of(run: &Run) -> String {
    report::html(run).replace('\u{a0}', " ")
}

/// Everything that can be made of a run, made; none of it may fail.
fn all_of(run: &Run) -> String {
    let page = page_of(run);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    let shown = &page[..page.find("<script>").unwrap()];
    assert!(!shown.contains("NaN") && !shown.contains("inf\""), "a number that is none");
    for width in [20, 60, 100] {
        for colour in [false, true] {
            let style = Style { colour, width };
            let text = terminal::table(&run.record, &run.trials, style)
                + &terminal::verdict(&run.record, &run.trials, style);
            for line in text.lines() {
                let plain = without_colour(line);
                assert!(plain.chars().count() <= width, "wider than {width}: {plain:?}");
                assert!(!plain.contains('\x1b'), "{plain:?}");
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = crate::common::write(run, folder.path()).unwrap();
    let written = report::write(&path).unwrap();
    let again = fs::read_to_string(&written.html).unwrap().replace('\u{a0}', " ");
    let differs = page.lines().zip(again.lines()).find(|(a, b)| a != b);
    assert!(again == page, "made from the folder it is another page: {differs:?}");
    assert_eq!(written.pngs.len(), CHARTS.len() + 1);
    for png in &written.pngs {
        assert!(fs::read(png).unwrap().starts_with(b"\x89PNG"), "{}", png.display());
    }
    page
}

fn without_colour(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[test]
fn the_page_makes_no_request() {
    let page = all_of(&crate::common::run());
    // A link to a place in the page itself asks nobody for anything.
    let markup: String = tags(&page).join("\n").replace("href=\"#", "");
    for forbidden in ["src=", "href=", "http:", "https:", "<link", "<iframe", "<object"] {
        assert!(!markup.contains(forbidden), "{forbidden}");
    }
    for forbidden in ["@import", "url(", "fetch(", "XMLHttpRequest", "sendBeacon", "import("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn every_chart_is_there_with_every_peer_and_a_text_alternative() {
    let run = crate::common::run();
    let page = page_of(&run);
    for kind in CHARTS {
        assert!(page.contains(&format!("<figure id=\"{}\">", kind.name)), "{}", kind.name);
    }
    for (name, picture) in drawn(&run) {
        assert!(picture.contains("role=\"img\""), "{name}");
        let label = picture.split("aria-label=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(label.chars().any(|c| c.is_ascii_digit()), "{name} has no number: {label}");
        for peer in &run.record.peers {
            assert!(picture.contains(&format!("data-peer=\"{}\"", peer.name)), "{name}");
            assert!(label.contains(&peer.name), "{name}: {label}");
        }
    }
}

/// Of a simulated run, every chart and every sentence says so, and no page of a measured
/// one has the word.
#[test]
fn what_was_simulated_says_so_everywhere() {
    let mut run = crate::common::run();
    assert!(!page_of(&run).contains("imulated"));
    let leaves_out = vec!["CPU time.".to_owned()];
    run.record.simulation = Some(Simulation { leaves_out, calibration: None });
    let page = page_of(&run);
    assert!(page.contains("Nothing on this page was measured") && page.contains("CPU time."));
    let model = Model::new(&run.record, &run.trials);
    for kind in CHARTS {
        let chart = kind.of(&model, Frame::wide());
        assert!(chart.title.ends_with("(simulated)") && page.contains(&chart.title));
        assert!(chart.alternative.starts_with("Simulated"), "{}", chart.alternative);
    }
    let findings = Findings::of(&model);
    for sentence in findings.answer.iter().chain(&findings.peers) {
        assert!(sentence.plain().starts_with("Simulated: "), "{}", sentence.plain());
    }
    let style = Style { colour: false, width: 160 };
    let table = terminal::table(&run.record, &run.trials, style);
    assert!(table.starts_with("peer (simulated)"), "{table}");
}

#[test]
fn no_two_charts_have_one_name() {
    let names: std::collections::BTreeSet<&str> = CHARTS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), CHARTS.len());
}

#[test]
fn hostile_text_stays_text() {
    let plain = page_of(&crate::common::run());
    let mut run = crate::common::run();
    let hostile = || HOSTILE.to_owned();
    run.record.question = hostile();
    run.record.learned = Some(hostile());
    run.record.scenario = "hostile".into();
    run.record.resolved = serde_json::json!({ HOSTILE: HOSTILE });
    run.record.overrides = vec![hostile()];
    run.record.backends.iter_mut().for_each(|backend| {
        backend.id = format!("{}{HOSTILE}", backend.id);
        backend.service_time = hostile();
    });
    for (index, peer) in run.record.peers.iter_mut().enumerate() {
        peer.name = format!("{HOSTILE}{index}");
        peer.title = hostile();
        peer.version = Some(hostile());
        peer.command = vec![hostile()];
        peer.config_files = [(hostile(), hostile())].into();
    }
    run.record.left_out[0].reason = hostile();
    run.record.left_out[0].peer = hostile();
    run.record.expectations.iter_mut().for_each(|expectation| {
        expectation.claim = hostile();
        expectation.detail = hostile();
    });
    let environment = &mut run.record.environment;
    environment.cpu_model = hostile();
    environment.placement = [(hostile(), vec![1])].into();
    run.record.load.call = hostile();
    run.record.load.policy = hostile();
    run.record.warnings = vec![Warning::UnoptimisedBuild { profile: hostile() }];
    for trial in &mut run.trials {
        let index = ["direct", "l4", "l7"].iter().position(|name| *name == trial.peer).unwrap();
        trial.peer = format!("{HOSTILE}{index}");
        for failure in &mut trial.counts.failed {
            failure.what = hostile();
        }
        trial.outcome = TrialOutcome::Complete;
    }
    run.trials[0].outcome = TrialOutcome::Failed { side: Side::Proxy, message: hostile() };
    let page = page_of(&run);
    let kinds = |page: &str| -> std::collections::BTreeSet<String> {
        tags(page).iter().map(|tag| tag.split([' ', '/']).next().unwrap().to_owned()).collect()
    };
    let new: Vec<String> = kinds(&page).difference(&kinds(&plain)).cloned().collect();
    assert!(new.iter().all(|tag| ["h4"].contains(&tag.as_str())), "{new:?}");
    assert!(!page.contains("<script>alert") && !page.contains("<img"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    let text = terminal::table(&run.record, &run.trials, Style { colour: false, width: 80 });
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut run = crate::common::run();
    run.record.peers[0].name = "a\x1b[2Jb\n\rc".into();
    let style = Style { colour: false, width: 120 };
    let text = terminal::table(&run.record, &run.trials, style)
        + &terminal::verdict(&run.record, &run.trials, style);
    assert!(!text.contains('\x1b') && !text.contains('\r'), "{text:?}");
}

#[test]
fn a_failed_trial_is_left_out_of_the_figures_and_said() {
    let mut run = crate::common::run();
    let trial = run.trials.iter_mut().find(|trial| trial.peer == "l7").unwrap();
    let message = "the proxy did not listen within 5 s; see logs/".to_owned();
    trial.outcome = TrialOutcome::Failed { side: Side::Proxy, message: message.clone() };
    let page = all_of(&run);
    assert!(page.contains(&message) && page.contains("of 9 trials failed"));
}

#[test]
fn a_peer_without_any_good_trial_is_said_and_nothing_breaks() {
    for peer in ["direct", "l4", "l7"] {
        let mut run = crate::common::run();
        for trial in run.trials.iter_mut().filter(|trial| trial.peer == peer) {
            let message = "it would not start".to_owned();
            trial.outcome = TrialOutcome::Failed { side: Side::Proxy, message };
        }
        let page = all_of(&run);
        assert!(page.contains("no trial succeeded: it would not start"), "{peer}");
    }
}

#[test]
fn a_run_without_trials_is_a_page() {
    let mut run = crate::common::run();
    run.trials.clear();
    run.record.outcome = RunOutcome::Interrupted;
    let page = all_of(&run);
    assert!(page.contains("no trial was run") && page.contains("The run was interrupted"));
    run.record.peers.clear();
    run.record.backends.clear();
    run.record.outcome = RunOutcome::Running;
    run.record.elapsed_s = None;
    let page = all_of(&run);
    assert!(page.contains("is still going or was killed"));
}

#[test]
fn an_interrupted_run_shows_what_was_measured() {
    let mut run = crate::common::run();
    run.trials.truncate(2);
    run.trials[1].outcome = TrialOutcome::Interrupted;
    run.record.outcome = RunOutcome::Interrupted;
    let page = all_of(&run);
    assert!(page.contains("The run was interrupted") && page.contains("1 trial is complete"));
    assert!(
        page.contains("its trial was cut short") && page.contains("cut short; not included in")
    );
}

/// Calls of 200 µs on the wire, of which the generator makes 350. Where calls wait for a
/// stream as well, that is theirs.
#[test]
fn short_calls_are_compared_by_their_latency_on_the_wire() {
    let mut run = crate::common::run();
    assert!(!all_of(&run).contains("on-wire"), "calls of milliseconds");
    let mut page = |latency_ns: u64| {
        for trial in &mut run.trials {
            let calls = trial.counts.ok;
            let all = |ns: u64| crate::common::histogram((0..calls).map(move |_| ns));
            trial.latency = all(latency_ns);
            (trial.latency_wire, trial.receipt_delay) = (all(200_000), all(100_000));
            trial.lateness = all(50_000);
        }
        all_of(&run)
    };
    let short = page(350_000);
    assert!(short.contains("on-wire p99") && short.contains("latency on the wire"));
    assert!(short.contains("whole Slowest"));
    assert!(!page(900_000).contains("on-wire"));
}

#[test]
fn instructions_are_shown_where_they_were_counted() {
    let mut run = crate::common::run();
    let page = page_of(&run);
    assert!(!page.contains("instructions per call"), "none were");
    run.record.environment.no_instructions = Some("the CPU has no counters here".to_owned());
    assert!(page_of(&run).contains("not counted: the CPU has no counters here"));
    run.record.environment.no_instructions = None;
    for trial in &mut run.trials {
        let calls = trial.counts.completed_in_window;
        for cost in &mut trial.processes {
            cost.instructions = Some(Instructions { user: 1_500 * calls, kernel: 4_500 * calls });
        }
    }
    let page = all_of(&run);
    assert!(page.contains("Proxy instructions per call") && page.contains("6,000"));
    assert!(page.contains("Of these in the kernel") && page.contains("4,500"));
    let table = terminal::table(&run.record, &run.trials, Style { colour: false, width: 200 });
    assert!(table.contains("instructions") && table.contains("6,000"), "{table}");
    // Those of one process are not those of all.
    run.trials[0].processes.iter_mut().for_each(|cost| cost.instructions = None);
    let missing = Figures::of_trial(&run.trials[0]).get(Figure::BackendInstructionsPerCall);
    assert_eq!(missing, None);
}

#[test]
fn trials_without_an_answered_call_are_no_division_by_zero() {
    let mut run = crate::common::run();
    for trial in &mut run.trials {
        trial.counts = Counts { scheduled: 100, sent: 100, unfinished: 100, ..Counts::default() };
        for histogram in [
            &mut trial.latency,
            &mut trial.latency_sent,
            &mut trial.lateness,
            &mut trial.queued,
            &mut trial.service,
        ] {
            *histogram = HistogramRecord::default();
        }
        trial.backends.iter_mut().for_each(|backend| backend.calls = 0);
        trial.series.clear();
        trial.measured_s = 0.0;
    }
    let page = all_of(&run);
    assert!(page.contains(": none of"));
    for trial in &mut run.trials {
        trial.counts = Counts::default();
        trial.backends.clear();
        trial.processes.clear();
    }
    assert!(all_of(&run).contains("no call was scheduled"));
}

#[test]
fn a_closed_loop_twin_is_shown_for_what_it_leaves_out_and_only_there() {
    let mut run = crate::common::run();
    assert!(!all_of(&run).contains("waiting callers"));
    let l4 = run.trials.iter().find(|trial| trial.peer == "l4").unwrap();
    let mut twin = Twin {
        peer: "l4".into(),
        callers: 4,
        think_time_s: 0.004,
        counts: Counts { ok: 3_210, ..Counts::default() },
        latency: l4.latency.clone(),
    };
    run.record.twins = vec![twin.clone()];
    assert!(all_of(&run).contains("nothing stood still for long enough"));
    let mut quick = measure::histogram::new_histogram();
    quick.record_n(50_000, 3_210).unwrap();
    twin.latency = HistogramRecord::from_histogram(&quick);
    run.record.twins = vec![twin];
    let page = all_of(&run);
    assert!(page.contains("would have reported 50.0 µs"), "no lesson");
    assert!(page.contains("4 callers") && page.contains("3,210"));
}

#[test]
fn what_each_node_did_stands_in_a_table_of_its_own() {
    let mut run = crate::common::run();
    assert!(!page_of(&run).contains("id=\"nodes\""), "of one machine there is nothing to say");
    let node = |index: u32, machine, roles: &[NodeRole]| NodeSetup {
        name: format!("n{index}"),
        host: HOSTILE.to_owned(),
        machine,
        roles: roles.to_vec(),
        environment: Environment { cpus: 8, ..Environment::default() },
    };
    let nodes = vec![
        node(0, 0, &[NodeRole::Balancer, NodeRole::Backends]),
        node(1, 1, &[NodeRole::Generator]),
    ];
    run.record.cluster = Some(Cluster { engine: "slurm".to_owned(), nodes });
    for trial in &mut run.trials {
        let of_node = |name: &str, calls| NodeTrial {
            name: name.to_owned(),
            clock_offset_ns: -86_400_000_000_000,
            clock_uncertainty_ns: 42_000,
            calls,
            machine: trial.machine.clone(),
            ..NodeTrial::default()
        };
        trial.nodes = vec![of_node("n0", 0), of_node("n1", 1_000)];
    }
    run.trials[0].warnings.push(Warning::OnNode {
        node: "n1".to_owned(),
        warning: Box::new(Warning::StealTime { share: 0.25 }),
    });
    let page = page_of(&run);
    assert!(page.contains("2 nodes on 2 machines, with agents started by slurm"));
    assert!(page.contains("balancer, backends") && page.contains("network between the machines"));
    let trials = run.trials.len() as u64;
    assert!(page.contains(&format!(">{}<", measure::format::count(1_000 * trials))));
    assert!(page.contains(">42.0 µs<") && page.contains("On node n1: The hypervisor gave 25.0 %"));
    assert!(!page.contains("<script>alert"));
}

#[test]
fn one_repeat_says_that_chance_is_not_known() {
    let mut run = crate::common::run();
    run.trials.retain(|trial| trial.repeat == 0);
    let page = all_of(&run);
    assert!(page.contains("measured only once"));
}

#[test]
fn two_repeats_are_too_few_for_an_interval() {
    let mut run = crate::common::run();
    run.trials.retain(|trial| trial.repeat < 2);
    let page = all_of(&run);
    assert!(page.contains("measured only twice, so there are no confidence intervals"));
    assert!(page.contains("too few repeats to tell") && !page.contains("95 % interval"));
}

#[test]
fn peers_that_do_not_differ_are_not_told_apart() {
    let mut run = crate::common::run();
    // l4 becomes a copy of l7, a little faster in one repeat and slower in others.
    let of_l7: Vec<_> = run.trials.iter().filter(|trial| trial.peer == "l7").cloned().collect();
    for trial in run.trials.iter_mut().filter(|trial| trial.peer == "l4") {
        let twin = of_l7.iter().find(|twin| twin.repeat == (trial.repeat + 1) % 3).unwrap();
        let (repeat, order) = (trial.repeat, trial.order);
        *trial = measure::record::TrialRecord { peer: "l4".into(), repeat, order, ..twin.clone() };
    }
    let page = all_of(&run);
    assert!(page.contains("There is no significant difference between their p99"));
    assert!(page.contains("There is no significant difference between their proxies"));
    assert!(!page.contains("times lower"));
}

#[test]
fn a_closed_loop_says_so_wherever_there_is_a_latency() {
    let mut run = crate::common::run();
    run.record.load.mode = LoopMode::Closed;
    run.record.load.arrivals = None;
    run.record.load.rate = None;
    let page = all_of(&run);
    for label in [
        ">closed-loop p50<",
        ">closed-loop p99<",
        "In the closed loop, one call in a hundred",
        "with a closed-loop p99 of",
        "Latency over time (closed loop)",
        "from the sending (closed loop)",
        "have no model: in a closed loop calls wait for each other",
        "compare it with that of an open loop",
    ] {
        assert!(page.contains(label), "{label}");
    }
    let text = terminal::table(&run.record, &run.trials, Style { colour: false, width: 200 });
    assert!(text.contains("closed-loop p99"), "{text}");
}

#[test]
fn theory_stands_beside_what_it_fits_and_says_why_not_elsewhere() {
    let page = page_of(&crate::common::run());
    assert!(page.contains("E_4/M/8, 40.0 % busy") && page.contains("theory for l7: E_4/M/8"));
    assert!(page.contains("the offered load is 1.60 times what the servers can do"));
    // The fixture is a simulation of that very queue: none of the figures in the
    // backends may be off by more than their interval. Nor may they be where an old
    // record has the parts only, and they have to come out nearly the same.
    let off_by = |page: &str| -> Vec<f64> {
        let section = &page[page.find("id=\"theory\"").unwrap()..];
        let rows = section.split("<tr").filter(|row| row.contains("E_4/M/8"));
        rows.map(|row| {
            let off = row.split("<td").nth(4).unwrap();
            assert!(off.contains("class=\"num\""), "{off}");
            let value = off.split("data-value=\"").nth(1).unwrap();
            value.split('"').next().unwrap().parse().unwrap()
        })
        .collect()
    };
    let mut old = crate::common::run();
    old.trials.iter_mut().for_each(|trial| trial.in_backend = HistogramRecord::default());
    let (new, old) = (off_by(&page), off_by(&page_of(&old)));
    assert_eq!((new.len(), old.len()), (4, 4));
    for (new, old) in new.iter().zip(&old) {
        assert!((new - old).abs() < 0.02, "{new} {old}");
    }
    let mut run = crate::common::run();
    run.record.load.arrivals = Some("poisson in ramp".into());
    assert!(page_of(&run).contains("the rate changes during the trial"));
    let mut run = crate::common::run();
    run.record.load.policy = "random".into();
    run.record.load.connections = 8;
    let page = page_of(&run);
    let placed = queueing::bins::RandomPlacement::new(8, 4).unwrap();
    assert!(page.contains(&measure::format::share(placed.expected_max_share())));
    assert!(page.contains("at random") && page.contains("in nine cases of ten"));
    assert!(page.contains("connections are placed by chance or by state"));
}

#[test]
fn faults_are_marked_and_what_follows_is_timed() {
    let run = crate::common::faulted();
    let page = all_of(&run);
    assert!(page.contains("kill b1 at 0.90 s of the window") && page.contains("in 9 of 9 trials"));
    assert!(page.contains("in 6 of 9 trials"), "the start was not seen in three");
    assert!(page.contains("there is no steady state"));
    let section = &page[page.find("Time until calls were balanced after a fault").unwrap()..];
    let row = |peer: &str| {
        let start = section.find(&format!("<tr data-peer=\"{peer}\"")).unwrap();
        let row = &section[start..];
        row[..row.find("</tr>").unwrap()].to_owned()
    };
    assert!(row("l7").contains("100 ms, 100 ms, 100 ms"), "{}", row("l7"));
    assert!(row("l4").contains("never, never, never"), "{}", row("l4"));
    let started = &section[section.find("start b1 at 2.00 s").unwrap()..];
    assert!(
        !section.contains("too short to measure") && started.contains("100 ms, 100 ms, 100 ms")
    );
    for (name, picture) in drawn(&run) {
        let over_time = ["throughput", "latency-over-time", "share-over-time"].contains(&name);
        assert_eq!(picture.contains("kill b1 at 0.90 s"), over_time, "{name}");
    }
}

#[test]
fn a_generator_that_was_late_is_named_beside_its_lateness() {
    let mut run = crate::common::run();
    assert!(page_of(&run).contains("on time"));
    let late = Warning::GeneratorLimited { lateness_p99_us: 1_500.0, bound_us: 500.0 };
    run.trials[0].warnings.push(late.clone());
    let page = all_of(&run);
    let section = &page[page.find("id=\"generator\"").unwrap()..];
    assert!(section.contains("generator-limited</b> in 1 of 3 repeats"));
    assert!(section.contains(&late.to_string()[..40]));
}

#[test]
fn the_list_of_runs_links_each_and_names_what_it_can_not_read() {
    let root = tempfile::tempdir().unwrap();
    let empty = report::index(root.path()).unwrap();
    assert!(fs::read_to_string(empty).unwrap().contains("No run was found"));
    let mut run = crate::common::run();
    run.record.question = HOSTILE.into();
    let with_report = crate::common::write(&run, root.path()).unwrap();
    report::write(&with_report).unwrap();
    let without = crate::common::write(&crate::common::run(), root.path()).unwrap();
    let broken = root.path().join("broken/20260101T000000Z-1");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("run.json"), r#"{"format": 99}"#).unwrap();
    let page = fs::read_to_string(report::index(root.path()).unwrap()).unwrap();
    let links: Vec<&str> =
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(links, [format!("./single-conn-flood/{}/report.html", name(&with_report))]);
    assert!(root.path().join(links[0]).is_file());
    assert!(
        page.contains(&format!(
            "create it with loadgen report single-conn-flood/{}",
            name(&without)
        ))
    );
    assert!(page.contains("format version 99") && page.contains("1 of 4 failed"));
    assert!(!page.contains("<img") && page.contains("default-src 'none'"));
    assert_eq!(
        fs::read_dir(root.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_file())
            .count(),
        1
    );
}

#[test]
fn a_peer_that_only_trials_name_is_shown() {
    let mut run = crate::common::run();
    run.trials[0].peer = "stranger".into();
    assert!(all_of(&run).contains("stranger"));
}

#[test]
fn many_peers_all_get_a_colour_and_a_panel() {
    let mut run = crate::common::run();
    let (peers, trials) = (run.record.peers.clone(), run.trials.clone());
    for copy in 0..6 {
        for peer in &peers[1..] {
            let name = format!("{}-{copy}", peer.name);
            run.record.peers.push(measure::record::PeerSetup { name, ..peer.clone() });
        }
        for trial in trials.iter().filter(|trial| trial.peer != "direct") {
            let (order, peer) = (run.trials.len() as u32, format!("{}-{copy}", trial.peer));
            let mut trial = trial.clone();
            (trial.order, trial.peer) = (order, peer);
            run.trials.push(trial);
        }
    }
    all_of(&run);
    let model = Model::new(&run.record, &run.trials);
    let looks: std::collections::HashSet<_> =
        model.peers.iter().map(|peer| (peer.mark.series, peer.mark.again)).collect();
    assert!(looks.len() >= 13, "{} looks for {} peers", looks.len(), model.peers.len());
}

/// The run as it would be with the kernel in the L4 proxy's place.
fn with_the_kernel(run: &Run) -> Run {
    let mut run = run.clone();
    crate::common::keep_up(&mut run);
    run.record.network = Network::Namespaces;
    for peer in run.record.peers.iter_mut().filter(|peer| peer.name == "l4") {
        peer.in_kernel = true;
    }
    for trial in &mut run.trials {
        trial.machine.user_ns = 40_000 * trial.counts.completed_in_window;
        trial.machine.system_ns = 23_000 * trial.counts.completed_in_window;
        if trial.peer == "l4" {
            trial.processes.retain(|process| process.role != ProcessRole::Proxy);
        }
    }
    run
}

/// The run as it would be over links that take time.
fn over_links(run: &Run, engine: LinkEngine) -> Run {
    let between = |one: &str, other: &str| [one.to_owned(), other.to_owned()];
    let setup = |between, delay_ns| LinkSetup {
        between,
        delay_ns,
        jitter_ns: 0,
        loss: 0.0,
        rate_bits: None,
        limit: 20_000,
        reorder: false,
    };
    let record = |between, answered, asked_ns, off_ns: u64| LinkRecord {
        between,
        pings: 100,
        answered,
        asked_ns,
        jitter_ns: 0,
        ping_p50_ns: if answered > 0 { asked_ns + off_ns } else { 0 },
        ping_p99_ns: if answered > 0 { asked_ns + 3 * off_ns } else { 0 },
        packets: (engine == LinkEngine::Relay).then_some(1_000),
        lost: (engine == LinkEngine::Relay).then_some(4),
        dropped: (engine == LinkEngine::Relay).then_some(1),
    };
    let mut run = run.clone();
    run.record.network = Network::Namespaces;
    run.record.links = vec![
        LinkSetup {
            jitter_ns: 200_000,
            reorder: true,
            ..setup(between("balancer", "backends"), 5_000_000)
        },
        LinkSetup {
            loss: 0.005,
            rate_bits: Some(2_500_000),
            ..setup(between("balancer", "b2"), 20_000_000)
        },
        setup(between("client", "backends"), 1_000_000),
        setup(between("zones", "zones"), 2_000_000),
        setup(between("zones.a", "zones.c"), 3_000_000),
    ];
    for trial in &mut run.trials {
        trial.links = Some(LinksRecord {
            engine,
            links: vec![
                record(between("balancer", "b0"), 100, 10_000_000, 50_000),
                record(between("balancer", "b1"), 100, 10_000_000, 60_000),
                record(between("balancer", "b2"), 98, 40_000_000, 70_000),
                record(between("client", "b0"), 0, 2_000_000, 0),
                record(between("zones.a", "zones.b"), 100, 4_000_000, 50_000),
                record(between("zones.a", "zones.c"), 100, 6_000_000, 50_000),
            ],
            late_p50_ns: (engine == LinkEngine::Relay).then_some(31_000),
            late_p99_ns: (engine == LinkEngine::Relay).then_some(92_000),
        });
    }
    run
}

#[test]
fn links_that_take_time_are_told_with_what_came_out() {
    let run = crate::common::run();
    let relay = all_of(&over_links(&run, LinkEngine::Relay));
    for said in [
        "balancer – backends: 5.00 ms one way, ± 200 µs of jitter, which can reorder packets; \
         balancer – b2: 20.0 ms one way, 0.5 % loss, 2.5 Mbit/s with a queue of at most 20,000 \
         packets; client – backends: 1.00 ms one way; any two zones: 2.00 ms one way; zone a – \
         zone c: 3.00 ms one way; in each direction, by a relay between TUN devices.",
        "Client and backends have links of their own that bypass the balancer.",
        "Pings between balancer and backends before the trials should have taken 10.0 ms there and \
         back: they took 10.1 ms in the median, and at most 10.2 ms at the 99th percentile.",
        "Pings between balancer and b2 before the trials should have taken 40.0 ms there and back",
        "No ping between client and backends was answered.",
        "Pings between any two zones before the trials should have taken 4.00 ms there and back: \
         they took 4.05 ms in the median",
        "Pings between zone a and zone c before the trials should have taken 6.00 ms there and back",
        "In the worst trial, the relay forwarded packets 31.0 µs late in the median and 92.0 µs late \
         at the 99th percentile.",
        "were lost at random and",
    ] {
        let links = &relay[relay.find("<dt>Links").unwrap()..];
        assert!(relay.contains(said), "{said}\nin {}", &links[..links.find("</dl>").unwrap()]);
    }
    let netem = all_of(&over_links(&run, LinkEngine::Netem));
    assert!(netem.contains("in each direction, by netem."));
    assert!(!netem.contains("the relay forwarded packets") && !netem.contains("lost at random"));
    let without = all_of(&run);
    assert!(!without.contains("Links as measured"));
}

#[test]
fn a_balancer_in_the_kernel_is_judged_by_the_machine() {
    let page = all_of(&with_the_kernel(&crate::common::run()));
    for said in [
        "Machine CPU per call",
        "Lab CPU per call",
        "in the kernel, whose cost is not billed to any process",
        "l4 has no process",
        "No process balances",
        "joined by veth links",
        "63.0 µs",
    ] {
        assert!(page.contains(said), "no `{said}`");
    }
    // Nobody else's row says so, and on the loopback nobody's does.
    assert_eq!(page.matches("No process balances").count(), 1);
    let page = all_of(&crate::common::run());
    for said in ["Machine CPU", "in the kernel, whose", "No process balances"] {
        assert!(!page.contains(said), "`{said}` on the loopback");
    }
}
