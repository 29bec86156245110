//! The report of a fixed run, compared with what is committed.
//!
//! `UPDATE_GOLDEN=1 cargo test -p report golden` writes what came out over
//! what is committed; look at the difference before committing it.

use std::{fs, path::PathBuf};

use analysis::{
    compare::{Comparison, Moves},
    decide::Decision,
    findings::Findings,
    model::Model,
};
use measure::{
    answer::Answer,
    figure::Figure,
    folder::folder_bytes,
    format,
    record::{Side, TrialOutcome, Verdict},
};
use report::{
    charts::{CHARTS, Frame},
    ci,
    render::svg,
    terminal::{self, Style},
};

fn check(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if let Some(line) = first_difference(&expected, actual) {
        panic!(
            "{name} differs from line {line} on:\nexpected: {}\nactual:   {}\nIf that is meant: \
             UPDATE_GOLDEN=1 cargo test -p report golden",
            expected.lines().nth(line - 1).unwrap_or("(end)"),
            actual.lines().nth(line - 1).unwrap_or("(end)"),
        );
    }
}

fn first_difference(expected: &str, actual: &str) -> Option<usize> {
    if expected == actual {
        return None;
    }
    let same = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}

/// The page without style, script and pictures, which have files of their own.
fn text_of(page: &str) -> String {
    let mut text = page.to_owned();
    for (open, close) in [("<style>", "</style>"), ("<script>", "</script>"), ("<svg", "</svg>")] {
        while let Some(start) = text.find(open) {
            let end = start + text[start..].find(close).unwrap() + close.len();
            let name = close.trim_start_matches("</").trim_end_matches('>');
            text.replace_range(start..end, &format!("({name})"));
        }
    }
    text
}

#[test]
fn the_page() {
    check("report.html", &text_of(&report::html(&crate::common::run())));
}

#[test]
fn what_a_ci_reads() {
    let run = crate::common::run();
    check("summary.md", &ci::markdown(&run.record, &run.trials));
    check("junit.xml", &ci::junit(&run.record, &run.trials));
    check("github.txt", &ci::annotations(&run.record, &run.trials));
}

#[test]
fn what_a_ci_reads_of_two_runs() {
    let before = crate::common::run();
    let mut after = before.clone();
    let of_l7 = after.trials.iter_mut().filter(|trial| trial.peer == "l7");
    for process in of_l7.flat_map(|trial| &mut trial.processes) {
        process.user_ns *= 3;
    }
    let moves = Moves { cpu: 0.0, latency_ns: 0.0 };
    let comparison = Comparison::of(&before, &after, 0.05, moves).unwrap();
    assert!(comparison.has_regressed());
    check("comparison.md", &ci::comparison_markdown(&comparison));
    check("comparison.xml", &ci::comparison_junit(&comparison));
    check("comparison.txt", &ci::comparison_annotations(&comparison));
}

/// Names and messages of a run folder stay text in each format.
#[test]
fn what_a_ci_reads_can_not_be_broken_out_of() {
    let mut run = crate::common::run();
    let hostile = "a\n::error::b <script> \"' & | ]]> 100%";
    run.record.scenario = hostile.to_owned();
    run.record.expectations[0].verdict = Verdict::Failed;
    run.record.expectations[0].claim = hostile.to_owned();
    run.record.expectations[0].detail = hostile.to_owned();
    let failed = TrialOutcome::Failed { side: Side::Lab, message: hostile.to_owned() };
    run.trials[0].outcome = failed;
    let (record, trials) = (&run.record, &run.trials);

    let lines = ci::annotations(record, trials);
    assert!(
        lines.lines().all(|line| line.starts_with("::error title=a%0A")
            || line.starts_with("::warning title=a%0A")),
        "{lines}"
    );
    assert!(lines.contains("100%25"));

    let xml = ci::junit(record, trials);
    assert!(!xml.contains("<script>") && !xml.contains("]]>"), "{xml}");
    assert!(xml.contains("errors=\"1\"") && xml.contains("<error message=\"a\n::error::b &lt;"));

    let page = ci::markdown(record, trials);
    assert!(page.starts_with("## a ::error::b &lt;script> "), "{page}");
    let rows = page.lines().filter(|line| line.starts_with("| `a ::error"));
    assert_eq!(rows.count(), 1, "{page}");
}

#[test]
fn a_run_with_faults() {
    let mut run = crate::common::faulted();
    let always = "The kill cost L4 {l4.lost_over}, and L7 {l7.lost_over}. Calls were in balance \
                  again behind L7 {l7.balance}, and behind L4 {l4.balance}.";
    run.record.answer = Some(Answer {
        figure: Figure::ErrorRate,
        peers: ["l7".into(), "l4".into()],
        at: None,
        less: None,
        greater: None,
        alike: None,
        overloaded: None,
        always: Some(always.parse().unwrap()),
    });
    check("faulted.html", &text_of(&report::html(&run)));
    let model = Model::new(&run.record, &run.trials);
    for name in ["throughput", "latency-over-time", "share-over-time"] {
        let kind = CHARTS.iter().find(|kind| kind.name == name).unwrap();
        let chart = (kind.draw)(&model, Frame::narrow());
        let drawn = svg(&chart.drawing, &chart.alternative, "narrow");
        check(&format!("faulted-{name}.svg"), drawn.as_str());
    }
}

#[test]
fn the_list_of_runs() {
    let root = tempfile::tempdir().unwrap();
    let mut sizes = Vec::new();
    for mut run in [crate::common::run(), crate::common::faulted()] {
        let findings = Findings::of(&Model::new(&run.record, &run.trials));
        run.record.answered = findings.plain_answer();
        run.record.doubts = findings.plain_doubts();
        let folder = crate::common::write(&run, root.path()).unwrap();
        fs::write(folder.join("report.html"), "").unwrap();
        sizes.push(folder_bytes(&folder));
    }
    let path = report::index(root.path()).unwrap();
    let mut page = text_of(&fs::read_to_string(path).unwrap());
    // Records grow with the format, and the list stays the same.
    for bytes in sizes {
        let shown = format::bytes(bytes).replace(' ', "\u{a0}");
        let cell = format!("data-value=\"{bytes}\">{shown}<");
        assert!(page.contains(&cell), "{cell}: {page}");
        page = page.replace(&cell, "data-value=\"(bytes)\">(size)<");
    }
    check("index.html", &page);
}

#[test]
fn the_charts() {
    let run = crate::common::run();
    let model = Model::new(&run.record, &run.trials);
    for kind in CHARTS {
        let chart = (kind.draw)(&model, Frame::wide());
        let drawn = svg(&chart.drawing, &chart.alternative, "wide");
        check(&format!("{}.svg", kind.name), drawn.as_str());
    }
}

#[test]
fn the_decision() {
    let root = tempfile::tempdir().unwrap();
    let mut flood = crate::common::run();
    crate::common::add_client(&mut flood);
    let mut many = crate::common::named(crate::common::run(), "many-conns");
    crate::common::give_calls(&mut many, "l7", "l4");
    for run in [flood, many, crate::common::faulted()] {
        crate::common::write(&run, root.path()).unwrap();
    }
    let page = root.path().join("decision.html");
    let decision = Decision::of(&[root.path().to_owned()], &page).unwrap();
    check("decision.html", &text_of(&report::decide::html(&decision)));
    check("decision.txt", &report::decide::text(&decision, Style { colour: false, width: 100 }));
}

#[test]
fn the_terminal() {
    let run = crate::common::run();
    let style = Style { colour: false, width: 100 };
    let text = format!(
        "{}\n{}",
        terminal::table(&run.record, &run.trials, style),
        terminal::verdict(&run.record, &run.trials, style)
    );
    check("terminal.txt", &text);
}
