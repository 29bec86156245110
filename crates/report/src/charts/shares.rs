//! Who served the calls: the share of each backend, per peer and repeat.
//!
//! Repeats stand side by side and are not added up: a peer that sends all calls
//! to one backend, another one each time, would else look fair.

use analysis::{
    model::{Model, PeerView},
    theory::placement,
};
use measure::{figure::Figure, format};

use super::{Chart, Frame, fit, panels, tipped};
use crate::{
    drawing::{Bounds, Drawing, Fill, Font, Group, Stroke},
    palette::Paint,
    scale::{Linear, ticks},
};

/// Least room between two numbers above bars.
const GAP: f64 = 6.0;
/// Size of the numbers above bars.
const VALUE_SIZE: f64 = 11.5;

pub(crate) fn draw(model: &Model<'_>, frame: Frame) -> Chart {
    let panels = panels::Panels::new(model.peers.len(), frame, 150.0);
    let mut drawing = panels.drawing();
    let ticks = axis_ticks(model);
    for (index, peer) in model.peers.iter().enumerate() {
        let plot = panels.plot(index);
        let top = ticks.last().copied().unwrap_or(1.0);
        let scale = Linear { domain: (0.0, top), range: (plot.bottom(), plot.y) };
        let axis =
            panels::Axis { scale, ticks: &ticks, label: |share| format!("{:.0} %", share * 100.0) };
        panels.frame(&mut drawing, index, peer, &subtitle(model, peer, plot.width), &axis);
        match peer.missing() {
            Some(reason) => panels.missing(&mut drawing, index, &reason),
            None => bars(&mut drawing, model, peer, plot, &scale),
        }
    }
    Chart {
        title: "Share of calls per backend".to_owned(),
        note: note(model),
        alternative: alternative(model),
        drawing,
    }
}

fn axis_ticks(model: &Model<'_>) -> Vec<f64> {
    let largest = model
        .peers
        .iter()
        .flat_map(PeerView::figures)
        .flat_map(measure::figure::Figures::shares)
        .chain(model.fair_shares.iter().copied())
        .fold(0.0, f64::max);
    // A number stands above the highest bar.
    if largest > 0.7 { vec![0.0, 0.25, 0.5, 0.75, 1.0] } else { ticks(largest * 1.15, 4) }
}

/// The largest share in words, in fewer of them where there is little room.
fn subtitle(model: &Model<'_>, peer: &PeerView<'_>, room: f64) -> String {
    let Some(largest) = peer.estimate(Figure::MaxShare) else {
        return "no call was answered".to_owned();
    };
    let share = format::share(largest.value);
    let whole = format!("busiest backend: {share}");
    let short = format!("busiest: {share}");
    let fits = |text: &String| Font::new(12.0).width(text) <= room;
    let theory = placement::of(model, peer)
        .map(|placement| format!(", theory {}", format::share(placement.max_share())));
    let candidates = [
        theory.as_ref().map(|theory| format!("{whole}{theory}")),
        theory.as_ref().map(|theory| format!("{short}{theory}")),
        Some(whole),
    ];
    candidates.into_iter().flatten().find(fits).unwrap_or(short)
}

/// A share above its bar; a bare number of percent where slots are narrow.
fn above_bar(share: f64, slot: f64) -> String {
    let whole = format::share(share);
    if Font::new(VALUE_SIZE).width(&whole) + GAP <= slot {
        whole
    } else {
        format!("{:.0}", share * 100.0)
    }
}

/// The bars of one peer: a cluster a backend, a bar a repeat.
fn bars(
    drawing: &mut Drawing,
    model: &Model<'_>,
    peer: &PeerView<'_>,
    plot: Bounds,
    scale: &Linear,
) {
    let shares: Vec<(u32, Vec<u64>, Vec<f64>)> = peer
        .measured()
        .map(|(record, figures)| {
            (record.repeat, figures.calls_per_backend.clone(), figures.shares())
        })
        .collect();
    let slot = plot.width / model.backends.len().max(1) as f64;
    let cluster = (slot * 0.72).min(96.0);
    let width = cluster / shares.len().max(1) as f64;
    for (backend, id) in model.backends.iter().enumerate() {
        let left = plot.x + slot * (backend as f64 + 0.5) - cluster / 2.0;
        let mut tallest = 0.0_f64;
        for (index, (repeat, calls, share)) in shares.iter().enumerate() {
            let share = share.get(backend).copied().unwrap_or(0.0);
            let calls = calls.get(backend).copied().unwrap_or(0);
            let x = left + index as f64 * width;
            let tip = format!(
                "{} · {id} · repeat {}: {} of calls ({})",
                peer.name,
                repeat + 1,
                format::share(share),
                format::count(calls)
            );
            drawing.group(tipped(&peer.name, tip), |group| {
                bar(group, x, width, share, plot, scale, peer);
            });
            tallest = tallest.max(share);
        }
        let centre = left + cluster / 2.0;
        label(drawing, peer, id, centre, slot, plot);
        // In the middle of its slot, which it fits into, so that it is on no other.
        drawing.group(Group::of(&peer.name), |group| {
            let paint = if tallest > 0.0 { Paint::Ink } else { Paint::Soft };
            let font = Font::new(VALUE_SIZE).middle().paint(paint);
            group.text((centre, scale.at(tallest) - 5.0), above_bar(tallest, slot), font);
        });
        if !model.has_faults() {
            even_mark(drawing, model, backend, plot.x + slot * backend as f64, slot, scale);
        }
    }
}

fn bar(
    group: &mut Group,
    x: f64,
    width: f64,
    share: f64,
    plot: Bounds,
    scale: &Linear,
    peer: &PeerView<'_>,
) {
    // The whole column answers to the pointer, so that a bar of nothing does too.
    let column = Bounds { x, y: plot.y, width, height: plot.height };
    group.rect(column, Fill::new(Paint::Paper).alpha(0.01));
    if share > 0.0 {
        let top = scale.at(share);
        let gap = if width > 6.0 { 1.0 } else { 0.0 };
        let bounds =
            Bounds { x: x + gap / 2.0, y: top, width: width - gap, height: plot.bottom() - top };
        group.rect(bounds, Fill::new(Paint::of(peer.mark)));
    }
}

fn label(
    drawing: &mut Drawing,
    peer: &PeerView<'_>,
    id: &str,
    centre: f64,
    slot: f64,
    plot: Bounds,
) {
    drawing.group(Group::of(&peer.name), |group| {
        let font = Font::new(12.0).middle().paint(Paint::Soft);
        group.text((centre, plot.bottom() + 17.0), fit(id, font, slot), font);
    });
}

/// The share a backend would have if calls followed the weights.
fn even_mark(
    drawing: &mut Drawing,
    model: &Model<'_>,
    backend: usize,
    left: f64,
    slot: f64,
    scale: &Linear,
) {
    let y = scale.at(model.fair_shares.get(backend).copied().unwrap_or(0.0));
    let stroke = Stroke::new(Paint::Ink, 1.2).dashed(4.0, 3.0);
    drawing.ground().line((left, y), (left + slot, y), stroke);
}

fn note(model: &Model<'_>) -> String {
    let fair = match model.even_share() {
        Some(share) => format!("Dashed: the even share, {}.", format::share(share)),
        None if model.has_faults() => {
            "Over the whole trial, while backends came and went.".to_owned()
        }
        None => "Dashed: the share by weight.".to_owned(),
    };
    match model.repeats() {
        0 | 1 => fair,
        _ => format!("{fair} One bar per repeat."),
    }
}

fn alternative(model: &Model<'_>) -> String {
    let mut text = String::from("Share of calls per backend.");
    for peer in &model.peers {
        text.push_str(&format!(" {}: ", peer.name));
        if let Some(reason) = peer.missing() {
            text.push_str(&format!("{reason}."));
            continue;
        }
        let repeats: Vec<String> = peer
            .measured()
            .map(|(record, figures)| {
                let shares: Vec<String> = model
                    .backends
                    .iter()
                    .zip(figures.shares())
                    .map(|(id, share)| format!("{id} {}", format::share(share)))
                    .collect();
                format!("repeat {}: {}", record.repeat + 1, shares.join(", "))
            })
            .collect();
        text.push_str(&format!("{}.", repeats.join("; ")));
    }
    text
}
