//! The comparison as text for a terminal.
//!
//! Plain and aligned; colour only marks what the words already say, and nothing
//! is wider than the terminal.

use analysis::{
    findings::{Findings, Piece, Sentence},
    model::{
        LEVEL_TEXT, Model, PeerView, marks_of,
        sweep::{Sweep, label},
    },
    prediction::Outcome,
};
use measure::{
    figure::Figure,
    format,
    record::{Layer, RunRecord, TrialRecord},
};

use crate::{
    comparison::{Column, lost, shown},
    palette::Paint,
    predicted,
    words::{Word, words},
};

/// How text is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether the terminal shows colour.
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
}

/// Columns that a narrow terminal does without, the first of them first.
const LEAVE_OUT: [&str; 6] = ["in kernel", "p99.9", "lab CPU", "p50", "throughput", "instructions"];
/// Fewer columns than this are no table.
const FEWEST_COLUMNS: usize = 3;

/// The comparison, one row a peer. A narrow terminal does without some columns;
/// where it is too narrow for any row, each figure gets a line of its own.
pub fn table(run: &RunRecord, trials: &[TrialRecord], style: Style) -> String {
    let model = Model::new(run, trials);
    let Table { heads, rows, used: all } = Table::of(&model);
    let used = all.clone();
    let head = if run.simulation.is_some() { "peer (simulated)" } else { "peer" };
    let name_width = rows.iter().map(|row| row.name.chars().count()).max();
    let name_width = name_width.unwrap_or(0).max(head.len());
    let widths: Vec<usize> = used
        .iter()
        .map(|&column| {
            let cells = rows.iter().filter_map(|row| row.cells.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(heads[column].chars().count())
        })
        .collect();
    let room = style.width.saturating_sub(name_width);
    let (used, widths, left_out) = fitting(used, widths, &heads, room);
    if used.len() < FEWEST_COLUMNS.min(all.len()) {
        return blocks(&rows, &all, &heads, style);
    }
    let mut text = pad(head, name_width);
    for (&column, width) in used.iter().zip(&widths) {
        text.push_str(&format!("  {:>width$}", heads[column]));
    }
    text = format!("{}\n", dim(&text, style));
    for row in &rows {
        text.push_str(&coloured(&pad(&row.name, name_width), Paint::of(row.peer.mark), style));
        if let Some(reason) = &row.missing {
            let room = style.width.saturating_sub(name_width + 2);
            text.push_str(&format!("  {}\n", cut(reason, room)));
            continue;
        }
        for (&column, width) in used.iter().zip(&widths) {
            text.push_str(&format!("  {:>width$}", row.cells[column]));
        }
        text.push('\n');
    }
    if !left_out.is_empty() {
        let note = format!("Left out because the terminal is narrow: {}.", left_out.join(", "));
        text.push_str(&format!("{}\n", dim(&cut(&note, style.width), style)));
    }
    text
}

/// The columns that there is room for: what tells least is left out first.
fn fitting(
    mut used: Vec<usize>,
    mut widths: Vec<usize>,
    heads: &[String],
    room: usize,
) -> (Vec<usize>, Vec<usize>, Vec<&str>) {
    let mut left_out = Vec::new();
    for least in LEAVE_OUT {
        if widths.iter().map(|width| width + 2).sum::<usize>() <= room {
            return (used, widths, left_out);
        }
        let at = used.iter().position(|&column| heads[column].ends_with(least));
        if let Some(at) = at {
            left_out.push(heads[used.remove(at)].as_str());
            widths.remove(at);
        }
    }
    match widths.iter().map(|width| width + 2).sum::<usize>() <= room {
        true => (used, widths, left_out),
        false => (Vec::new(), Vec::new(), Vec::new()),
    }
}

/// The answer and what qualifies it, in sentences. Without a pair of peers to
/// compare, the sentence of each peer.
pub fn verdict(run: &RunRecord, trials: &[TrialRecord], style: Style) -> String {
    let model = Model::new(run, trials);
    let findings = Findings::of(&model);
    let one_by_one = |all: Sentence, next: &Sentence| all.start().followed_by(next.clone());
    let joined = findings.said().iter().fold(Sentence::default(), one_by_one);
    let mut text = paragraph(&joined, "", style);
    if model.has_intervals() {
        let note = format!(
            "In brackets: {LEVEL_TEXT} confidence intervals over {} repeats.",
            model.repeats()
        );
        text.push_str(&plain_paragraph(&note, "", style));
    }
    for doubt in &findings.doubts {
        text.push_str(&paragraph(doubt, "! ", style));
    }
    for note in &findings.notes {
        text.push_str(&paragraph(note, "- ", style));
    }
    text
}

/// What was predicted before it was measured, a line each, and how much of it came true;
/// nothing where nothing was.
pub fn predictions(outcomes: &[Outcome], style: Style) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let heads = ["predicted", "figure", "value", "interval", "measured", "error", ""];
    let cells = |one: &Outcome| {
        let (figure, said) = (one.predicted.figure, one.predicted);
        let unknown = || format::UNKNOWN.to_owned();
        [
            predicted::name(one),
            figure.name().to_owned(),
            figure.show(said.value),
            figure.show_range(said.low, said.high),
            one.measured.map_or_else(unknown, |own| figure.show(own)),
            one.error.map_or_else(unknown, format::off_by),
            predicted::inside(one).to_owned(),
        ]
    };
    let text = aligned(heads, outcomes.iter().map(cells), &[0, 1, 6], style);
    text + &plain_paragraph(&predicted::score(outcomes), "", style)
}

/// One peer beside each of the others by some figures, repeat by repeat: a line a ratio. Of a
/// sweep, what belongs to no point alone. Empty where nobody of that name was measured.
pub fn beside(
    run: &RunRecord,
    trials: &[TrialRecord],
    name: &str,
    figures: &[Figure],
    style: Style,
) -> String {
    let model = Model::new(run, trials);
    let Some(one) = model.measured().find(|peer| peer.name == name) else { return String::new() };
    let mut rows = Vec::new();
    for &figure in figures {
        for other in model.measured().filter(|other| other.name != name) {
            let Some(ratio) = one.beside(other, figure).ratio else { continue };
            let value = |peer: &PeerView<'_>| {
                let known = peer.estimate(figure);
                known.map_or(format::UNKNOWN.to_owned(), |known| figure.show(known.value))
            };
            let interval = ratio.interval.map_or(String::new(), |interval| {
                format::range(format::factor(interval.low), format::factor(interval.high))
            });
            let times = format!("{} ×", format::factor(ratio.centre));
            let name = figure.name().to_owned();
            rows.push([name, other.name.to_owned(), value(other), value(one), times, interval]);
        }
    }
    let heads = ["figure", "beside", "its value", name, "ratio", LEVEL_TEXT];
    aligned(heads, rows.into_iter(), &[0, 1], style)
}

/// Columns under their heads: those of names to the left, those of numbers to the right.
fn aligned<const N: usize>(
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    names: &[usize],
    style: Style,
) -> String {
    let rows: Vec<[String; N]> = [heads.map(str::to_owned)].into_iter().chain(rows).collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| widest(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&match names.contains(&column) {
                true => format!("{cell:<width$}  "),
                false => format!("{cell:>width$}  "),
            });
        }
        let line = cut(line.trim_end(), style.width);
        text.push_str(&if number == 0 { dim(&line, style) } else { line });
        text.push('\n');
    }
    text
}

/// The comparison, before it is set for a terminal or a page.
pub(crate) struct Table<'m> {
    /// What the columns after the peer's name are called.
    pub(crate) heads: Vec<String>,
    pub(crate) rows: Vec<Row<'m>>,
    /// The columns that have a figure in any row; the others say nothing.
    pub(crate) used: Vec<usize>,
}

/// One peer's cells.
pub(crate) struct Row<'m> {
    peer: &'m PeerView<'m>,
    /// Its name, with the point in a sweep.
    pub(crate) name: String,
    /// Why there are no cells.
    pub(crate) missing: Option<String>,
    pub(crate) cells: Vec<String>,
}

impl<'m> Table<'m> {
    pub(crate) fn of(model: &'m Model<'m>) -> Self {
        let columns = shown(model);
        let rows: Vec<Row<'_>> = match &model.sweep {
            None => model.peers.iter().map(|peer| Row::of(peer, None, &columns)).collect(),
            Some(sweep) => {
                let rows = |peer| rows_of(sweep, peer, &columns);
                model.peers.iter().flat_map(rows).collect()
            }
        };
        let has_figure = |column: &usize| {
            let cells = rows.iter().filter_map(|row| row.cells.get(*column));
            cells.into_iter().any(|cell| cell != format::UNKNOWN)
        };
        let used = (0..columns.len() + 1).filter(has_figure).collect();
        let heads = columns
            .iter()
            .map(|column| column.short(model))
            .chain(["failed"].map(str::to_owned))
            .collect();
        Self { heads, rows, used }
    }
}

impl<'m> Row<'m> {
    fn of(peer: &'m PeerView<'m>, point: Option<String>, columns: &[&Column]) -> Self {
        let missing = peer.missing();
        let mut cells = Vec::new();
        if missing.is_none() {
            cells.extend(columns.iter().map(|column| cell(column, peer)));
            cells.push(lost(peer));
        }
        let name = match point {
            Some(point) => format!("{} at {point}", peer.name),
            None => peer.name.clone(),
        };
        Self { peer, name, missing, cells }
    }
}

/// A figure; with a question mark where warnings put it in doubt.
fn cell(column: &Column, peer: &PeerView<'_>) -> String {
    let Some(estimate) = column.value(peer) else { return column.without(peer).to_owned() };
    let mark = if peer.is_in_doubt(column.figure) { "?" } else { "" };
    format!("{}{mark}", column.figure.show(estimate.value))
}

/// A peer's rows in a sweep, one a point; one that says why where there are none.
fn rows_of<'m>(sweep: &'m Sweep<'m>, peer: &'m PeerView<'m>, columns: &[&Column]) -> Vec<Row<'m>> {
    let at = sweep.of_peer(&peer.name);
    if at.is_empty() {
        return vec![Row::of(peer, None, columns)];
    }
    at.into_iter().map(|(point, peer)| Row::of(peer, Some(label(point)), columns)).collect()
}

/// A figure a line, for narrow terminals.
fn blocks(rows: &[Row<'_>], used: &[usize], heads: &[String], style: Style) -> String {
    let mut text = String::new();
    for row in rows {
        let name = cut(&row.name, style.width);
        text.push_str(&format!("{}\n", coloured(&name, Paint::of(row.peer.mark), style)));
        if let Some(reason) = &row.missing {
            text.push_str(&format!("  {}\n", cut(reason, style.width.saturating_sub(2))));
            continue;
        }
        for &column in used {
            let line = format!("  {:<10} {:>10}", heads[column], row.cells[column]);
            text.push_str(&format!("{}\n", cut(&line, style.width)));
        }
    }
    text
}

/// A sentence broken into lines, the first with a mark in front.
pub(crate) fn paragraph(sentence: &Sentence, mark: &str, style: Style) -> String {
    let indent = mark.chars().count();
    let width = style.width.max(indent + 10);
    let (mut text, mut column) = (mark.to_owned(), indent);
    for (index, (word, paint)) in unbroken(sentence).into_iter().enumerate() {
        if index > 0 && column + 1 + word.chars().count() > width {
            text.push_str(&format!("\n{}", " ".repeat(indent)));
            column = indent;
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        // A word longer than the line is cut rather than let out of it.
        let shown = cut(&word, width - indent);
        column += shown.chars().count();
        text.push_str(&paint.map_or(shown.clone(), |paint| coloured(&shown, paint, style)));
    }
    text.push('\n');
    text
}

/// What stands between the breaks of a sentence, in the colour of a peer that is named in it.
fn unbroken(sentence: &Sentence) -> Vec<(String, Option<Paint>)> {
    let mut all: Vec<(String, Option<Paint>)> = Vec::new();
    for Word { text, piece, spaced } in words(sentence) {
        let paint = match piece {
            Piece::Peer(_, mark) => Some(Paint::of(*mark)),
            Piece::Text(_) | Piece::Figure(_) | Piece::Range(_) => None,
        };
        match all.last_mut() {
            Some((last, colour)) if !spaced => {
                last.push_str(&text);
                *colour = colour.or(paint);
            }
            _ => all.push((text, paint)),
        }
    }
    all
}

/// Text broken into lines, the first with a mark in front.
pub(crate) fn plain_paragraph(text: &str, mark: &str, style: Style) -> String {
    paragraph(&Sentence::default().text(text), mark, style)
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

/// A text cut to a number of characters, without what would move the cursor.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= width {
        return clean;
    }
    let kept: String = clean.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { format!("{kept}…") }
}

pub(crate) fn coloured(text: &str, paint: Paint, style: Style) -> String {
    let clean = cut(text, usize::MAX);
    // The 16 colours, which follow the terminal's own light or dark.
    let code = match paint {
        Paint::Series(mark) if marks_of(Layer::L7).contains(&mark) => 34,
        Paint::Series(mark) if marks_of(Layer::L4).contains(&mark) => 33,
        Paint::Series(mark) if marks_of(Layer::Client).contains(&mark) => 32,
        Paint::Series(mark) if marks_of(Layer::External).contains(&mark) => 35,
        Paint::Bad => 31,
        _ => 39,
    };
    if style.colour { format!("\x1b[1;{code}m{clean}\x1b[0m") } else { clean }
}

pub(crate) fn dim(text: &str, style: Style) -> String {
    if style.colour { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
}
