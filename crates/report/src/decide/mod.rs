//! A decision as text and as a page with its charts.

mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use analysis::{
    decide::{Decision, beside_run, folder_of},
    index::REPORT_FILE,
};
use measure::folder::{Run, write_whole};

use crate::{Error, Written, charts::Frame, io_error, page, pictures, render, terminal::Style};

/// The folder beside the page that its charts are written to.
const CHARTS: &str = "decision";

/// A decision as a page.
pub fn html(decision: &Decision) -> String {
    page::decide::render(decision)
}

/// A decision as text.
pub fn text(decision: &Decision, style: Style) -> String {
    text::write(decision, style)
}

/// Writes the page, a PNG of each of its charts in a folder beside it, and again the
/// report of each run it links to that has none, or none that links back.
///
/// # Errors
/// When a run can't be read, or something can't be written.
pub fn write(decision: &Decision, page: &Path) -> Result<Written, Error> {
    let charts = folder_of(page).join(CHARTS);
    fs::create_dir_all(&charts).map_err(|error| io_error(&charts, error))?;
    write_whole(page, html(decision).as_bytes()).map_err(|error| io_error(page, error))?;
    let mut pngs = Vec::new();
    for picture in pictures::all(decision, Frame::wide()) {
        let path = charts.join(format!("{}.png", picture.name));
        let poster = picture.chart.poster_from(&source(decision));
        crate::write_png(&poster, render::DENSITY, &path)?;
        pngs.push(path);
    }
    link_back(decision)?;
    Ok(Written { html: page.to_owned(), pngs })
}

/// Makes the reports of the runs that have none, or none that links to the page.
fn link_back(decision: &Decision) -> Result<(), Error> {
    for run in decision.folders() {
        let report: PathBuf = run.path.join(REPORT_FILE);
        let back = beside_run(&run.path);
        let text = fs::read_to_string(&report).unwrap_or_default();
        if text.is_empty() || back.is_some_and(|back| !text.contains(back)) {
            let run = Run::open(&run.path)?;
            let text = crate::page_of(&run, back);
            write_whole(&report, text.as_bytes()).map_err(|error| io_error(&report, error))?;
        }
    }
    Ok(())
}

/// On what it was measured, for the foot of a picture.
fn source(decision: &Decision) -> String {
    let runs = decision.folders().len();
    format!("layerlab decide · {runs} runs on {}", decision.machine)
}
