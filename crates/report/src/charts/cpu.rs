//! What a call costs in CPU time: proxy, backends and generator, user and
//! system apart.
//!
//! The proxy stands first, on the common base line, because its cost is the one
//! that the choice is about.

use analysis::model::{Estimate, LEVEL_TEXT, Model, PeerView};
use measure::{figure::Figure, format, record::ProcessRole};

use super::{Chart, Frame, fit, tipped, whisker};
use crate::{
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::Paint,
    scale::{Linear, ticks},
};

const ROLES: [(ProcessRole, &str); 5] = [
    (ProcessRole::Proxy, "proxy"),
    (ProcessRole::Tap, "taps"),
    (ProcessRole::Backend, "backends"),
    (ProcessRole::Generator, "generator"),
    (ProcessRole::Links, "links"),
];

/// One role's cost per call in one peer.
struct Part {
    role: ProcessRole,
    name: &'static str,
    user: f64,
    system: Estimate,
    total: Estimate,
}

pub(super) fn draw(model: &Model<'_>, frame: Frame) -> Chart {
    let names = model.peers.iter().map(|peer| Font::new(14.0).bold().width(&peer.name));
    let (left, row) = if frame.is_narrow() {
        (0.0, 66.0)
    } else {
        (names.fold(40.0, f64::max).min(180.0) + 14.0, 54.0)
    };
    let rows: Vec<(&PeerView<'_>, Vec<Part>)> =
        model.peers.iter().map(|peer| (peer, parts(peer))).collect();
    let height = 8.0 + rows.len() as f64 * row + 44.0;
    let mut drawing = Drawing::new(frame.width, height);
    let plot = Bounds {
        x: left,
        y: 4.0,
        width: frame.width - left - 76.0,
        height: rows.len() as f64 * row,
    };
    let largest = rows.iter().map(|(_, parts)| total(parts)).fold(1.0, f64::max);
    let mut ticks = ticks(largest / 1e3, if frame.is_narrow() { 3 } else { 6 });
    ticks.retain(|tick| tick * 1e3 <= largest);
    let x = Linear { domain: (0.0, largest), range: (plot.x, plot.right()) };
    axis(&mut drawing, plot, &x, &ticks, frame);
    for (index, (peer, parts)) in rows.iter().enumerate() {
        let y = plot.y + index as f64 * row;
        draw_row(&mut drawing, peer, parts, &x, y, frame);
    }
    Chart {
        title: "CPU time per call".to_owned(),
        note: note(model),
        alternative: alternative(&rows),
        drawing,
    }
}

fn note(model: &Model<'_>) -> String {
    let mut text = String::from(
        "Per successful call; median of the repeats. Full colour: user mode. Pale: kernel mode.",
    );
    let proxies = model.peers.iter().any(|peer| {
        peer.estimate(Figure::ProxyCpuPerCall).is_some_and(|estimate| estimate.interval.is_some())
    });
    if proxies {
        text.push_str(&format!(" Whisker: {LEVEL_TEXT} interval of the proxy's part."));
    }
    for peer in model.peers.iter().filter(|peer| peer.in_kernel()) {
        text.push_str(&format!(
            " {} has no process: its cost is in the pale parts of whichever process was running when \
             a packet arrived, or in none of them if the kernel accounts for interrupts separately. \
             Compare the sums, and the whole machine's CPU time in the comparison.",
            peer.name
        ));
    }
    text
}

fn parts(peer: &PeerView<'_>) -> Vec<Part> {
    ROLES
        .iter()
        .filter_map(|&(role, name)| {
            let system = peer.estimate_by(|figures| Some(figures.cpu(role)?.system_ns))?;
            let total = peer.estimate_by(|figures| Some(figures.cpu(role)?.total_ns()))?;
            // The median of a sum is not the sum of medians; the total is what
            // the table shows, so the user part is what is left.
            let user = (total.value - system.value).max(0.0);
            Some(Part { role, name, user, system, total })
        })
        .collect()
}

fn total(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.total.value).sum()
}

fn axis(drawing: &mut Drawing, plot: Bounds, x: &Linear, ticks: &[f64], frame: Frame) {
    let ground = drawing.ground();
    let font = Font::new(11.5).paint(Paint::Soft).middle();
    for tick in ticks {
        let at = x.at(tick * 1e3);
        let paint = if *tick == 0.0 { Paint::Axis } else { Paint::Grid };
        // Where room is short, names stand over the bars, and the base line
        // would go through them.
        if !frame.is_narrow() || *tick > 0.0 {
            ground.line((at, plot.y), (at, plot.bottom() + 4.0), Stroke::new(paint, 1.0));
        }
        let anchor = if *tick == 0.0 {
            Font { anchor: crate::drawing::Anchor::Start, ..font }
        } else {
            font
        };
        ground.text((at, plot.bottom() + 18.0), format::tick(*tick), anchor);
    }
    let at = (plot.x + plot.width / 2.0, plot.bottom() + 38.0);
    ground.text(at, "µs of CPU time per call", font);
}

fn paint_of(role: ProcessRole, peer: &PeerView<'_>) -> Paint {
    match role {
        ProcessRole::Proxy => Paint::of(peer.mark),
        ProcessRole::Backend => Paint::Soft,
        ProcessRole::Generator | ProcessRole::Tap | ProcessRole::Links => Paint::Axis,
    }
}

fn draw_row(
    drawing: &mut Drawing,
    peer: &PeerView<'_>,
    parts: &[Part],
    x: &Linear,
    top: f64,
    frame: Frame,
) {
    let y = top + if frame.is_narrow() { 36.0 } else { 22.0 };
    let bar = Bounds { x: x.at(0.0), y, width: 0.0, height: 20.0 };
    drawing.group(Group::of(&peer.name), |group| {
        let font = Font::new(14.0).bold().paint(Paint::of(peer.mark));
        if frame.is_narrow() {
            group.text((0.0, top + 15.0), fit(&peer.name, font, frame.width), font);
        } else {
            let name = fit(&peer.name, font, bar.x - 12.0);
            group.text((bar.x - 14.0, bar.y + 15.0), name, font.end());
        }
    });
    if parts.is_empty() {
        let font = Font::new(12.0).paint(Paint::Soft);
        let text = fit(&without_parts(peer), font, frame.width - bar.x - 8.0);
        drawing.ground().text((bar.x + 6.0, bar.y + 14.0), text, font);
        return;
    }
    let mut start = 0.0;
    let mut label_from = bar.x + 4.0;
    for part in parts {
        let (from, middle) = (x.at(start), x.at(start + part.user));
        let to = x.at(start + part.total.value);
        drawing.group(tipped(&peer.name, tip(peer, part)), |group| {
            two_tone(group, bar, [from, middle, to], paint_of(part.role, peer));
            let font = Font::new(11.5).paint(Paint::Soft);
            let text = format!("{} {}", part.name, format::number(part.total.value / 1e3));
            let at = label_from.max(from);
            group.text((at, bar.y - 5.0), text.clone(), font);
            label_from = at + font.width(&text) + 9.0;
        });
        start += part.total.value;
    }
    drawing.group(Group::of(&peer.name), |group| {
        if let Some(proxy) = parts.iter().find(|part| part.role == ProcessRole::Proxy) {
            interval(group, proxy, x, bar);
        }
        let font = Font::new(13.0).bold();
        group.text((x.at(start) + 8.0, bar.y + 15.0), format::duration(start), font);
    });
}

/// The part of a bar between two places: up to the middle one in full colour, then pale.
fn two_tone(group: &mut Group, bar: Bounds, [from, middle, to]: [f64; 3], paint: Paint) {
    // No grid line shows through.
    group.rect(Bounds { x: from, width: to - from, ..bar }, Fill::new(Paint::Paper));
    let user = Bounds { x: from, width: (middle - from).max(0.0), ..bar };
    group.rect(user, Fill::new(paint));
    let system = Bounds { x: middle, width: (to - middle - 1.0).max(0.0), ..bar };
    group.rect(system, Fill::new(paint).alpha(0.45));
}

/// The interval of the proxy's cost, the one on the common base line.
fn interval(group: &mut Group, part: &Part, x: &Linear, bar: Bounds) {
    let Some((low, high)) = part.total.interval else { return };
    let ends = (x.at(low.max(0.0)), x.at(high.min(x.domain.1)));
    // A pale edge keeps it visible on dark bars.
    for stroke in [Stroke::new(Paint::Paper, 3.4).alpha(0.7), Stroke::new(Paint::Ink, 1.2)] {
        whisker(group, ends, bar.y + bar.height / 2.0, stroke);
    }
}

/// Why a peer has no parts.
fn without_parts(peer: &PeerView<'_>) -> String {
    peer.missing().unwrap_or_else(|| "no call succeeded".to_owned())
}

fn tip(peer: &PeerView<'_>, part: &Part) -> String {
    let range = match part.total.interval {
        Some((low, high)) => {
            format!(", {LEVEL_TEXT} interval {}", format::duration_range(low, high))
        }
        None => String::new(),
    };
    format!(
        "{} · {}: {} per call ({} user, {} system{range})",
        peer.name,
        part.name,
        format::duration(part.total.value),
        format::duration(part.user),
        format::duration(part.system.value)
    )
}

fn alternative(rows: &[(&PeerView<'_>, Vec<Part>)]) -> String {
    let mut text = String::from("CPU time per call.");
    for (peer, parts) in rows {
        text.push_str(&format!(" {}: ", peer.name));
        let said = parts.iter().map(|part| {
            format!(
                "{} {} ({} user, {} system)",
                part.name,
                format::duration(part.total.value),
                format::duration(part.user),
                format::duration(part.system.value)
            )
        });
        let said = match parts.is_empty() {
            true => without_parts(peer),
            false => said.collect::<Vec<_>>().join(", "),
        };
        text.push_str(&format!("{said}."));
    }
    text
}
