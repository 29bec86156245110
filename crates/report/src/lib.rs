//! What `analysis` found in a run folder, as HTML, PNG and text. Starts nothing.
//!
//! A report is made from the folder alone ([`measure::folder`]), so any report
//! can be made again, on another machine, by a later version:
//!
//! | module | job |
//! |---|---|
//! | [`charts`] | the charts, one file each |
//! | [`drawing`], [`render`] | what a chart is made of, and how it becomes SVG and PNG |
//! | [`terminal`] | the comparison as text |
//! | [`mod@compare`] | two runs against each other |
//! | [`decide`] | many runs, for somebody who has to choose |
//! | [`fn@index`] | the page that lists all runs |
//!
//! The page is one file that makes no request: its charts are SVG in the page,
//! its style and script stand in it, and a content security policy forbids the
//! browser to load anything.
#![forbid(unsafe_code)]

pub mod charts;
pub mod ci;
pub mod compare;
mod comparison;
pub mod decide;
pub mod drawing;
mod escape;
mod fonts;
mod html;
mod page;
pub mod palette;
mod pictures;
mod predicted;
pub mod render;
mod scale;
pub mod summary;
pub mod terminal;
mod verdicts;
mod words;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use analysis::{
    decide::{PAGE, beside_run},
    model::Model,
    prediction,
};
use measure::folder::{FolderError, Run, write_whole};

use crate::{charts::Frame, drawing::Drawing, render::PngError};

/// Where a report was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The page.
    pub html: PathBuf,
    /// A PNG a chart, in the page's order, and the summary.
    pub pngs: Vec<PathBuf>,
}

/// A report that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run folder can't be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file can't be written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// A chart can't be drawn.
    #[error(transparent)]
    Png(#[from] PngError),
}

/// Reads a run folder and writes `report.html`, `charts/<name>.png` for each
/// chart, and `charts/summary.png`, which says the answer alone, in place of
/// what an earlier report left there.
///
/// # Errors
/// When the folder can't be read or written.
pub fn write(run_dir: &Path) -> Result<Written, Error> {
    let run = Run::open(run_dir)?;
    let model = Model::new(&run.record, &run.trials);
    let html = run_dir.join("report.html");
    let decision = beside_run(run_dir);
    let predicted = prediction::outcomes(&run.record, &run.trials);
    write_whole(&html, page::render(&model, &predicted, decision).as_bytes())
        .map_err(|error| io_error(&html, error))?;
    let folder = run_dir.join("charts");
    fs::create_dir_all(&folder).map_err(|error| io_error(&folder, error))?;
    let kinds = charts::of(&model);
    let mut pngs = Vec::with_capacity(kinds.len() + 1);
    for kind in kinds {
        let path = folder.join(format!("{}.png", kind.name));
        let poster = kind.of(&model, Frame::wide()).poster(&model);
        write_png(&poster, render::DENSITY, &path)?;
        pngs.push(path);
    }
    let path = folder.join("summary.png");
    write_png(&summary::draw(&model), summary::DENSITY, &path)?;
    pngs.push(path);
    Ok(Written { html, pngs })
}

/// Writes `index.html` into a results folder: all its runs, each with a link to its
/// report, in place of what an earlier call left there.
///
/// # Errors
/// When the page can't be written. Runs that can't be read are listed as such.
pub fn index(results: &Path) -> Result<PathBuf, Error> {
    let path = results.join("index.html");
    let decision = results.join(PAGE).is_file().then_some(PAGE);
    let text = page::index::render(&analysis::index::gather(results), decision);
    // Whole, since two runs may end at once.
    write_whole(&path, text.as_bytes()).map_err(|error| io_error(&path, error))?;
    Ok(path)
}

/// The page of a run, for those who keep records elsewhere than in a folder.
pub fn html(run: &Run) -> String {
    page_of(run, None)
}

/// The page of a run, with a link to the decision where there is one.
fn page_of(run: &Run, decision: Option<&str>) -> String {
    let predicted = prediction::outcomes(&run.record, &run.trials);
    page::render(&Model::new(&run.record, &run.trials), &predicted, decision)
}

fn write_png(drawing: &Drawing, density: f64, path: &Path) -> Result<(), Error> {
    let bytes = render::png(drawing, density)?;
    write_whole(path, &bytes).map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, error: io::Error) -> Error {
    Error::Io { path: path.to_owned(), error }
}
