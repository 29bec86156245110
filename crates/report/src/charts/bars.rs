//! A figure of every peer as bars, the lowest first: who is ahead, and by how much.
//!
//! Bars begin at zero, so that their lengths compare. A dot is a repeat, the whisker the
//! interval. Where a setting that is no number differs, there is a group of bars a value.

use analysis::model::{Estimate, LEVEL_TEXT, Model, PeerView};
use measure::figure::Figure;

use super::{Chart, Frame, fit, tipped, whisker};
use crate::{
    comparison::COLUMNS,
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::Paint,
    scale::{Linear, ticks},
};

const ROW: f64 = 30.0;
/// Room for the axis below the bars.
const FOOT: f64 = 26.0;
/// Room for the value at the end of a bar.
const VALUE: f64 = 84.0;

/// One bar.
struct Row<'m, 'a> {
    peer: &'m PeerView<'a>,
    estimate: Option<Estimate>,
    repeats: Vec<f64>,
}

/// The bars of one value of the setting that differs, or of the run.
struct Rows<'m, 'a> {
    heading: Option<String>,
    rows: Vec<Row<'m, 'a>>,
}

/// Draws `figure`.
pub(super) fn draw(model: &Model<'_>, frame: Frame, figure: Figure) -> Chart {
    let groups = groups(model, figure);
    let lines: usize = groups.iter().map(|group| group.rows.len() + group.lines()).sum();
    let height = frame.height.unwrap_or(lines as f64 * ROW + FOOT + 8.0);
    // Room that is given is used, up to bars that are wider than anybody needs.
    let row_max = if frame.height.is_some() { 2.0 * ROW } else { ROW };
    let row = ((height - FOOT - 8.0) / lines.max(1) as f64).min(row_max);
    let font = font_of(row);
    let names = groups.iter().flat_map(|group| &group.rows).map(|row| font.width(&row.peer.name));
    let left = names.fold(40.0, f64::max).min(frame.width * 0.36) + 12.0;
    let width = frame.width - left - VALUE;
    let plot = Bounds { x: left, y: 4.0, width, height: lines as f64 * row };
    let mut drawing = Drawing::new(frame.width, height);
    let all = || groups.iter().flat_map(|group| &group.rows);
    let most = all().filter_map(|row| row.estimate).map(|one| one.highest).fold(0.0, f64::max);
    let x =
        Linear { domain: (0.0, if most > 0.0 { most } else { 1.0 }), range: (left, left + width) };
    axis(&mut drawing, plot, &x, figure);
    let mut top = plot.y;
    for group in &groups {
        if let Some(heading) = &group.heading {
            let soft = font.paint(Paint::Soft);
            drawing.ground().text((0.0, top + row * 0.72), fit(heading, soft, frame.width), soft);
            top += row;
        }
        for one in &group.rows {
            bar(&mut drawing, one, figure, &x, Bounds { y: top, height: row, ..plot });
            top += row;
        }
    }
    let title = title(model, figure);
    let alternative = alternative(&title, &groups, figure);
    Chart { title, note: note(model, figure), alternative, drawing }
}

impl Rows<'_, '_> {
    /// Lines that its heading takes.
    fn lines(&self) -> usize {
        usize::from(self.heading.is_some())
    }
}

fn groups<'m, 'a>(model: &'m Model<'a>, figure: Figure) -> Vec<Rows<'m, 'a>> {
    match &model.sweep {
        None => vec![Rows { heading: None, rows: rows(model, figure) }],
        Some(sweep) => sweep
            .points
            .iter()
            .map(|point| Rows {
                heading: Some(format!("{} = {}", sweep.key, point.value)),
                rows: rows(&point.model, figure),
            })
            .collect(),
    }
}

/// The peers by their figure, the lowest first; those without it last.
fn rows<'m, 'a>(model: &'m Model<'a>, figure: Figure) -> Vec<Row<'m, 'a>> {
    let row = |peer: &'m PeerView<'a>| {
        let estimate = peer.estimate(figure);
        let own = peer.compared_by(figure);
        let repeats = peer.figures().filter_map(|figures| figures.get(own));
        let repeats = estimate.map_or(Vec::new(), |_| repeats.collect());
        Row { peer, estimate, repeats }
    };
    let is_proxys = figure.name().starts_with("proxy_");
    let has_it =
        |row: &Row<'_, '_>| row.estimate.is_some() || !is_proxys || row.peer.overload.is_some();
    let mut rows: Vec<Row<'_, '_>> = model.peers.iter().map(row).filter(has_it).collect();
    let key = |row: &Row<'_, '_>| row.estimate.map_or(f64::INFINITY, |estimate| estimate.value);
    rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    rows
}

fn axis(drawing: &mut Drawing, plot: Bounds, x: &Linear, figure: Figure) {
    let ground = drawing.ground();
    let font = Font::new(11.5).paint(Paint::Soft);
    let count = if plot.width < 300.0 { 2 } else { 4 };
    // Times have their own steps in seconds, and are shown with their unit.
    for tick in ticks(x.domain.1, count).into_iter().filter(|tick| *tick <= x.domain.1) {
        let at = x.at(tick);
        let paint = if tick == 0.0 { Paint::Axis } else { Paint::Grid };
        ground.line((at, plot.y), (at, plot.bottom() + 4.0), Stroke::new(paint, 1.0));
        let text = if tick == 0.0 { "0".to_owned() } else { figure.unit().show(tick) };
        ground.text((at, plot.bottom() + 18.0), text, font.middle());
    }
}

fn bar(drawing: &mut Drawing, row: &Row<'_, '_>, figure: Figure, x: &Linear, line: Bounds) {
    let Row { peer, estimate, repeats } = row;
    let paint = Paint::of(peer.mark);
    let middle = line.y + line.height / 2.0;
    let plain = font_of(line.height);
    let font = plain.paint(paint);
    // From the middle of small letters to where they stand.
    let base = middle + plain.size * 0.35;
    drawing.group(Group::of(&peer.name), |group| {
        let name = fit(&peer.name, font, line.x - 10.0);
        group.text((line.x - 12.0, base), name, font.end());
    });
    let Some(estimate) = estimate else {
        let reason = match (&peer.overload, peer.missing()) {
            (Some(_), _) => "overloaded".to_owned(),
            (None, Some(reason)) => reason,
            (None, None) => "unknown".to_owned(),
        };
        let soft = Font { bold: false, ..plain }.paint(Paint::Soft);
        let text = fit(&reason, soft, line.width);
        return drawing.ground().text((line.x + 8.0, base), text, soft);
    };
    let show = |value| figure.unit().show(value);
    let range = estimate.interval.map_or(String::new(), |(low, high)| {
        format!(", {LEVEL_TEXT} interval {} to {}", show(low), show(high))
    });
    let tip = format!("{}: {}{range}", peer.name, show(estimate.value));
    drawing.group(tipped(&peer.name, tip), |group| {
        let thick = (line.height * 0.56).min(24.0);
        let to = x.at(estimate.value);
        let bar =
            Bounds { x: x.at(0.0), y: middle - thick / 2.0, width: to - x.at(0.0), height: thick };
        // No grid line shows through.
        group.rect(bar, Fill::new(Paint::Paper));
        group.rect(bar, Fill::new(paint).alpha(0.55));
        let end = |value: f64| x.at(value.clamp(0.0, x.domain.1));
        if let Some((low, high)) = estimate.interval {
            whisker(group, (end(low), end(high)), middle, Stroke::new(Paint::Ink, 1.2));
        }
        for repeat in repeats {
            group.dot((end(*repeat), middle), 2.2, Fill::new(paint));
        }
        let high = estimate.interval.map_or(estimate.value, |(_, high)| high);
        let at = end(high.max(estimate.highest)) + 8.0;
        group.text((at, base), show(estimate.value), plain);
    });
}

/// Letters that a row has room for.
fn font_of(row: f64) -> Font {
    Font::new((row / 1.15).min(13.0)).bold()
}

fn title(model: &Model<'_>, figure: Figure) -> String {
    let column = COLUMNS.iter().find(|column| column.figure == figure);
    let mut title =
        column.map_or_else(|| figure.name().replace('_', " "), |column| column.head(model));
    if !title.starts_with("p9") && !title.starts_with("p5") {
        title[..1].make_ascii_uppercase();
    }
    title
}

fn note(model: &Model<'_>, figure: Figure) -> String {
    let mut text = format!("{} Lowest first.", figure.meaning());
    if model.repeats() > 1 {
        text.push_str(" Bar: median of the repeats; dots: the repeats");
        if model.has_intervals() {
            text.push_str(&format!("; whisker: {LEVEL_TEXT} interval"));
        }
        text.push('.');
    }
    text
}

fn alternative(title: &str, groups: &[Rows<'_, '_>], figure: Figure) -> String {
    let mut text = format!("{title}.");
    for group in groups {
        if let Some(heading) = &group.heading {
            text.push_str(&format!(" {heading}:"));
        }
        let said: Vec<String> = group
            .rows
            .iter()
            .map(|row| match row.estimate {
                Some(estimate) => {
                    format!("{} {}", row.peer.name, figure.unit().show(estimate.value))
                }
                None if row.peer.overload.is_some() => format!("{} overloaded", row.peer.name),
                None => format!("{} not known", row.peer.name),
            })
            .collect();
        text.push_str(&format!(" {}.", said.join(", ")));
    }
    text
}
