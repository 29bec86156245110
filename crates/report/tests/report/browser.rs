//! The report in a real browser, where one is installed: no error on the console,
//! no request, peers that can be hidden in every chart, tables that sort, values
//! for the pointer and for the keyboard.
//!
//! A script is put into a copy of the page that does what a reader would and writes
//! what it saw into the page, which the browser then prints.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use analysis::decide::Decision;
use report::charts::CHARTS;

const BROWSERS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// A browser that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const READER: &str = include_str!("../reader.js");
const DECISION_READER: &str = include_str!("../decision.js");

/// What a browser made of a page: its document, and what it logged.
///
/// One browser at a time: of two, one may be given no focus, and then nothing that
/// answers to the keyboard does.
fn open(browser: &str, page: &Path) -> Option<(String, String)> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let profile = tempfile::tempdir().unwrap();
    let (out, log) = (profile.path().join("out"), profile.path().join("log"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--enable-logging=stderr", "--window-size=1280,900", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .ok()?;
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Some((read(&out), read(&log)))
}

/// A browser that can open an empty page here; many are installed that can't.
fn usable(folder: &Path) -> Option<&'static str> {
    let empty = folder.join("empty.html");
    fs::write(&empty, "<!DOCTYPE html><title>x</title><p>here</p>").unwrap();
    BROWSERS
        .into_iter()
        .find(|browser| open(browser, &empty).is_some_and(|(page, _)| page.contains("here")))
}

#[test]
fn the_page_works_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = usable(folder.path()) else {
        eprintln!("skipped: no usable browser of {}", BROWSERS.join(", "));
        return;
    };
    for run in [crate::common::run(), crate::common::faulted()] {
        let page = report::html(&run);
        let (before, after) = page.rsplit_once("</body>").unwrap();
        let read = folder.path().join("report.html");
        let script = format!("<script>{READER}</script>");
        fs::write(&read, format!("{before}{script}</body>{after}")).unwrap();
        let (document, log) = open(browser, &read).unwrap();
        assert!(!log.contains("CONSOLE"), "{log}");
        let seen = document.rsplit_once("<pre id=\"seen\">").unwrap().1;
        let seen: Vec<&str> = seen.split("</pre>").next().unwrap().lines().collect();
        assert!(seen.iter().all(|line| !line.starts_with("WRONG")), "{seen:#?}");
        for kind in CHARTS {
            let line = seen.iter().find(|line| line.starts_with(kind.name)).unwrap();
            let (_, shown) = line.split_once(": values ").unwrap();
            let (values, shown) = shown.split_once(" shown ").unwrap();
            assert!(values == shown && values != "0", "{line}");
        }
        for expected in ["hidden and shown: 3 peers", "requests: 0", "escape hides: true"] {
            assert!(seen.contains(&expected), "{expected}: {seen:#?}");
        }
    }
}

/// The same of the page that decides from many runs.
#[test]
fn the_decision_works_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let Some(browser) = usable(folder.path()) else {
        eprintln!("skipped: no usable browser of {}", BROWSERS.join(", "));
        return;
    };
    let mut flood = crate::common::run();
    crate::common::keep_up(&mut flood);
    crate::common::add_client(&mut flood);
    for run in [flood, crate::common::faulted()] {
        crate::common::write(&run, folder.path()).unwrap();
    }
    let page = folder.path().join("decision.html");
    let mut decision = Decision::of(&[folder.path().to_owned()], &page).unwrap();
    decision.calculator = Some(crate::common::calculator());
    let (before, after) = {
        let html = report::decide::html(&decision);
        let (before, after) = html.rsplit_once("</body>").unwrap();
        (before.to_owned(), after.to_owned())
    };
    let script = format!("<script>{DECISION_READER}</script>");
    fs::write(&page, format!("{before}{script}</body>{after}")).unwrap();
    let (document, log) = open(browser, &page).unwrap();
    assert!(!log.contains("CONSOLE"), "{log}");
    let seen = document.rsplit_once("<pre id=\"seen\">").unwrap().1;
    let seen: Vec<&str> = seen.split("</pre>").next().unwrap().lines().collect();
    assert!(seen.iter().all(|line| !line.starts_with("WRONG")), "{seen:#?}");
    for expected in ["charts: 2", "answers: 2", "requests: 0", "escape hides: true"] {
        assert!(seen.contains(&expected), "{expected}: {seen:#?}");
    }
}
