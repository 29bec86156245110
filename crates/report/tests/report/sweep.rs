//! The report of a run in which a setting differs between trials.

use analysis::{findings::Findings, model::Model};
use measure::{folder::Run, record::LoopMode};
use report::{
    charts::{self, Frame},
    render::svg,
    terminal::{self, Style},
};

const STYLE: Style = Style { colour: false, width: 100 };

fn answer(run: &Run) -> String {
    let model = Model::new(&run.record, &run.trials);
    let said: Vec<String> = Findings::of(&model).answer.iter().map(|one| one.plain()).collect();
    said.join("\n")
}

#[test]
fn the_answer_says_from_which_point_on_peers_are_alike() {
    let run = crate::common::swept();
    let said = answer(&run);
    // 29 % at 256 connections against 25 %: more than a tenth above.
    assert!(said.contains("Even at 256 connections, l4's busiest backend gets 29.4 %"), "{said}");
    assert!(said.contains("In theory (balls in bins), it takes about"), "{said}");
    let mut nearer = run.clone();
    for trial in nearer
        .trials
        .iter_mut()
        .filter(|trial| trial.peer == "l4" && trial.point.as_deref() != Some("1"))
    {
        for backend in &mut trial.backends {
            backend.calls = 2_400;
        }
    }
    let said = answer(&nearer);
    assert!(
        said.contains("From 16 connections on, l4's busiest backend gets at most 10 %"),
        "{said}"
    );
    assert!(said.contains("at 1 connection it is more"), "{said}");
    // At the last point around a tenth more, in one repeat less and in another more than that.
    let mut open = run;
    for trial in open
        .trials
        .iter_mut()
        .filter(|trial| trial.peer == "l4" && trial.point.as_deref() == Some("256"))
    {
        let busiest = [2_600, 2_800, 2_640][trial.repeat as usize];
        for (index, backend) in trial.backends.iter_mut().enumerate() {
            backend.calls = if index == 0 { busiest } else { (9_600 - busiest) / 3 };
        }
    }
    let said = answer(&open);
    let expected = "the repeats leave open whether that is within 10 %. Up to 16 connections it is \
                    more.";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_sweep_is_a_table_in_a_terminal_of_80_columns() {
    let mut run = crate::common::swept();
    run.record.load.mode = LoopMode::Closed;
    let text = terminal::table(&run.record, &run.trials, Style { colour: false, width: 80 });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 6 + 1, "a head, a row a peer and point, and a note:\n{text}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    assert!(lines[0].contains("p99") && lines[0].contains("proxy CPU"), "{text}");
}

#[test]
fn figures_of_different_points_are_never_pooled() {
    let run = crate::common::swept();
    let table = terminal::table(&run.record, &run.trials, STYLE);
    for row in ["l4 at 1 ", "l4 at 16 ", "l4 at 256 ", "l7 at 256 "] {
        assert!(table.contains(row), "{row}:\n{table}");
    }
    assert!(table.lines().any(|line| line.starts_with("l4 at 1 ") && line.contains("100 %")));
    assert!(table.lines().any(|line| line.starts_with("l4 at 256 ") && line.contains("29.4 %")));
    let model = Model::new(&run.record, &run.trials);
    assert_eq!(model.repeats(), 3, "nine trials of a peer are three repeats of three points");
}

#[test]
fn the_page_has_curves_and_a_row_a_point() {
    for run in [crate::common::swept(), crate::common::searched()] {
        let page = report::html(&run);
        for id in ["sweep-shares", "sweep-p99", "sweep-cpu-per-call", "comparison", "trials"] {
            assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
        }
        assert!(!page.contains("id=\"latency-percentiles\""), "it would pool the points");
        assert_eq!(page.matches("sweep-shares").count(), 1);
    }
}

#[test]
fn curves_say_each_value_to_pointer_and_reader() {
    let run = crate::common::swept();
    let model = Model::new(&run.record, &run.trials);
    let kinds = charts::of(&model);
    assert_eq!(kinds[0].name, "sweep-shares");
    for frame in [Frame::wide(), Frame::narrow()] {
        let chart = (kinds[0].draw)(&model, frame);
        assert!(chart.alternative.contains("l4: 100 % at 1, 40.4 % at 16, 29.4 % at 256."));
        let drawn = svg(&chart.drawing, &chart.alternative, "wide");
        assert!(drawn.as_str().contains("l4 · 16 connections: 40.4 % (median of 3 repeats"));
        assert!(drawn.as_str().contains("theory 100 %"), "one connection is one ball");
        assert!(!drawn.as_str().contains("NaN"));
    }
    for kind in [charts::OVER_CONNECTIONS, charts::OVER_PAYLOAD, charts::OVER_RATE].concat() {
        let chart = (kind.draw)(&model, Frame::narrow());
        assert!(chart.alternative.contains("l7:"), "{}: {}", kind.name, chart.alternative);
        let drawn = svg(&chart.drawing, &chart.alternative, "narrow");
        assert!(!drawn.as_str().contains("NaN"), "{}", kind.name);
    }
}

#[test]
fn a_search_says_how_far_the_objective_held_and_what_limited_it() {
    let run = crate::common::searched();
    let said = answer(&run);
    let expected = "The highest rate with p99 < 40ms and error_rate < 0.1% was 2,000/s \
                    (2,000–2,100/s in 3 repeats) behind l4 and 3,000/s (3,000–3,150/s in 3 \
                    repeats) or more (the generator was late) behind l7: 50 % higher;";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("can serve 8,000/s."), "{said}");
    let model = Model::new(&run.record, &run.trials);
    assert_eq!(model.repeats(), 3, "of the search, and not of one of its rates");
    let peers: Vec<String> = Findings::of(&model).peers.iter().map(|one| one.plain()).collect();
    assert!(peers[1].contains("the generator was late: the peer may do better"), "{peers:?}");
    let p99 = (charts::of(&model)[0].draw)(&model, Frame::wide());
    assert!(p99.note.contains("objective"), "{}", p99.note);
    assert!(report::html(&run).contains("The highest rate that met the objective"));
}

#[test]
fn a_report_of_a_sweep_is_written_with_a_png_a_curve() {
    let root = tempfile::tempdir().unwrap();
    let folder = crate::common::write(&crate::common::swept(), root.path()).unwrap();
    let written = report::write(&folder).unwrap();
    let names: Vec<String> = written
        .pngs
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains(&"sweep-shares.png".to_owned()), "{names:?}");
    assert!(names.contains(&"summary.png".to_owned()));
}
