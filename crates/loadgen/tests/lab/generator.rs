//! What the generator says of itself: that it was late, what callers that wait
//! leave out, and how far the run is.

use std::{
    fs,
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use measure::warning::Warning;

use crate::common::{Home, SMALL};

#[test]
fn callers_that_wait_leave_a_standstill_out() {
    let home = Home::new();
    let text = SMALL
        .replace("duration = \"300ms\"", "duration = \"2s\"\nclosed_twin = true")
        .replace("streams = 16", "streams = 500")
        .replace("count = 2", "count = 1")
        .split("[expect]")
        .next()
        .unwrap()
        .to_owned();
    let freeze = "[[fault]]\nat = \"40%\"\naction = \"stop\"\nbackend = 0\n\
                  [[fault]]\nat = \"65%\"\naction = \"continue\"\nbackend = 0\n";
    home.scenario("frozen", &format!("{text}{freeze}"));
    let ran = home.run(&["--scenario", "frozen", "--peers", "direct"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = measure::folder::Run::open(&home.runs("frozen")[0]).unwrap();
    assert_eq!((run.trials.len(), run.record.twins.len()), (1, 1));
    let above = |record: &measure::histogram::HistogramRecord| {
        let histogram = record.to_histogram().unwrap();
        histogram.count_between(250_000_000, u64::MAX)
    };
    // A quarter of 800 calls waits up to half a second; of those, half waits longer
    // than half of that. Of two callers, two calls do.
    let open = above(&run.trials[0].latency);
    let closed = above(&run.record.twins[0].latency);
    assert!(open >= 80 && closed <= 10, "{open} of the schedule's, {closed} of the callers'");
    let page = fs::read_to_string(home.runs("frozen")[0].join("report.html")).unwrap();
    assert!(page.contains("What waiting callers would have reported"));
    assert!(home.left_behind().is_empty());
}

#[test]
fn a_generator_that_is_starved_says_so_itself() {
    let home = Home::new();
    // One core for the generator and four loops that do nothing, and calls enough
    // to need more than a fifth of it.
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let cores: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    let (first, last) = (cores[0], *cores.last().unwrap());
    let text = SMALL
        .replace("rate = \"400/s\"", "rate = \"12000/s\"\nclient = \"tonic\"")
        .replace("duration = \"300ms\"", "duration = \"1s\"")
        .split("[expect]")
        .next()
        .unwrap()
        .to_owned();
    let placement =
        format!("[placement]\ngenerator = [{last}]\nproxy = [{first}]\nbackends = [{first}]\n");
    home.scenario("starved", &format!("{text}{placement}"));
    let busy = Arc::new(AtomicBool::new(true));
    let loops: Vec<_> = (0..4)
        .map(|_| {
            let busy = Arc::clone(&busy);
            std::thread::spawn(move || {
                let mut one = rustix::thread::CpuSet::new();
                one.set(last);
                rustix::thread::sched_setaffinity(None, &one).unwrap();
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let ran = home.run(&["--scenario", "starved", "--peers", "direct"]);
    busy.store(false, Ordering::Relaxed);
    loops.into_iter().for_each(|one| one.join().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = measure::folder::Run::open(&home.runs("starved")[0]).unwrap();
    // Late to send, or late to read answers and so without a free stream: by chance.
    let limited = |warning: &Warning| {
        matches!(warning, Warning::GeneratorLimited { .. } | Warning::GeneratorStarved { .. })
    };
    assert!(run.trials[0].warnings.iter().any(limited), "{:?}", run.trials[0].warnings);
    let page = fs::read_to_string(home.runs("starved")[0].join("report.html")).unwrap();
    assert!(page.contains("The generator was") || page.contains("The generator waited"));
}

#[test]
fn the_run_itself_can_be_watched() {
    let home = Home::new();
    let text = SMALL.replace("duration = \"300ms\"", "duration = \"5s\"");
    home.scenario("small", &text);
    let mut started = home.start(&["--scenario", "small", "--metrics-listen", "127.0.0.1:0"]);
    let line = started.wait_for("metrics of the run at http://");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    started.wait_for("3 trials");
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("layerlab_trials_planned 3"), "{text}");
    assert!(text.contains("layerlab_trials_done 0"), "{text}");
    started.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(started.end().code, Some(130));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = home.run(&["--scenario", "small", "--metrics-listen", &address]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("--metrics-listen") && ran.stderr.contains(&address));
}
