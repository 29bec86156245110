//! A run as the decision views it: its model, its peers by what they balance, and
//! where its report lies.

use std::path::Path;

use measure::{
    figure::Figure,
    format,
    record::{Layer, LoopMode, RunRecord, Tls},
};

use super::{
    Choice, Evidence,
    gather::{Chosen, relative},
    link_to,
};
pub(crate) use crate::findings::Pair;
use crate::{
    estimate::Estimate,
    model::{Model, PeerView, sweep::Point},
    peer::marks,
};

/// One run, or one of its points.
pub(crate) struct RunView<'a> {
    pub chosen: &'a Chosen,
    /// At its point, where a setting differs between trials.
    pub model: Model<'a>,
    /// Which point that is.
    pub point: Option<At>,
    folder: String,
    link: String,
}

/// A point of a swept run.
#[derive(Clone, Debug)]
pub(crate) struct At {
    /// The key of the setting that differs.
    key: String,
    /// Its value as the scenario has it.
    pub value: String,
    /// The same for people: `16 connections`.
    shown: String,
    /// The value as a number where it is one.
    pub number: Option<f64>,
}

/// All runs: each that has one setting, each point of one that is swept, and searches,
/// whose trials are not of one load and give no figures but what was found.
#[derive(Default)]
pub(crate) struct RunViews<'a> {
    pub runs: Vec<RunView<'a>>,
    pub searches: Vec<RunView<'a>>,
}

/// All runs, with each peer in one colour throughout.
pub(crate) fn all<'a>(chosen: &'a [Chosen], beside: &Path) -> RunViews<'a> {
    let mut names: Vec<(&str, Option<Layer>)> = Vec::new();
    for peer in chosen.iter().flat_map(|one| &one.run.record.peers) {
        if names.iter().all(|(known, _)| *known != peer.name) {
            names.push((&peer.name, Some(peer.layer)));
        }
    }
    let marks = marks(&names);
    let mut views = RunViews::default();
    for one in chosen {
        let (folder, link) = (relative(beside, &one.folder), link_to(&one.folder, beside));
        let of = |mut model: Model<'a>, point| {
            for peer in &mut model.peers {
                if let Some(at) = names.iter().position(|(name, _)| *name == peer.name) {
                    peer.mark = marks[at];
                }
            }
            RunView { chosen: one, model, point, folder: folder.clone(), link: link.clone() }
        };
        let mut model = Model::new(&one.run.record, &one.run.trials);
        match model.sweep.take() {
            None => views.runs.push(of(model, None)),
            Some(sweep) if sweep.search.is_some() => {
                let (value, shown) = (String::new(), "the highest rate".to_owned());
                let at = At { key: sweep.key.to_owned(), value, shown, number: None };
                views.searches.push(of(model, Some(at)));
            }
            Some(sweep) => {
                let at = |point: &Point<'_>| At {
                    key: sweep.key.to_owned(),
                    value: point.value.to_owned(),
                    shown: sweep.shown(point),
                    number: point.number,
                };
                let ats: Vec<At> = sweep.points.iter().map(at).collect();
                let points = sweep.points.into_iter().zip(ats);
                views.runs.extend(points.map(|(point, at)| of(point.model, Some(at))));
            }
        }
    }
    views
}

impl<'a> RunView<'a> {
    /// The scenario's name.
    pub(crate) fn scenario(&self) -> &str {
        &self.chosen.run.record.scenario
    }

    /// Its point for people; nothing for a run of one setting.
    pub(crate) fn shown(&self) -> String {
        self.point.as_ref().map(|at| at.shown.clone()).unwrap_or_default()
    }

    /// Whether it is a point on the way over a setting.
    fn is_point_of(&self, key: &str) -> bool {
        self.point.as_ref().is_some_and(|at| at.key == key)
    }

    /// Whether it is of one load, or of one of several numbers of connections, which
    /// are loads that a team may have: none that only asks what a proxy with a part of a core
    /// can do.
    pub(crate) fn is_load(&self) -> bool {
        let is_one = self.point.is_none() || self.is_point_of("load.connections");
        is_one && self.model.run.proxy_quota.is_none()
    }

    /// Whether it is the scenario as its file has it.
    pub(crate) fn is_plain(&self) -> bool {
        self.chosen.settings.is_empty()
    }

    /// The part of its report that shows something.
    pub(crate) fn cite(&self, anchor: &str) -> Evidence {
        // A report over points has curves where others have bars.
        let anchor = match (&self.point, anchor) {
            (None, _) => anchor,
            (Some(_), "shares" | "balance" | "share-over-time") => "sweep-shares",
            (Some(_), "latency-percentiles") => "sweep-p99",
            (Some(_), "cpu-per-call") => "sweep-cpu-per-call",
            (Some(_), "throughput") => "sweep-throughput",
            (Some(_), other) => other,
        };
        Evidence {
            scenario: self.scenario().to_owned(),
            settings: self.chosen.settings.clone(),
            point: self.point.as_ref().map(|at| at.shown.clone()),
            folder: self.folder.clone(),
            anchor: anchor.to_owned(),
            in_doubt: !self.chosen.doubts.is_empty(),
            link: format!("{}#{anchor}", self.link),
        }
    }

    /// The measured peers of a layer, in the run's order.
    pub(crate) fn of_layer(&self, layer: Layer) -> Vec<&PeerView<'a>> {
        let of = |peer: &&PeerView<'a>| peer.setup.is_some_and(|setup| setup.layer == layer);
        self.model.measured().filter(of).collect()
    }

    /// A measured peer by its name.
    pub(crate) fn peer(&self, name: &str) -> Option<&PeerView<'a>> {
        self.model.measured().find(|peer| peer.name == name)
    }

    /// The clients that balance by themselves, of each kind the first that was measured: one
    /// that resolves a name before one that is told of backends.
    pub(crate) fn clients(&self) -> Vec<&PeerView<'a>> {
        let all = self.of_layer(Layer::Client);
        let first = |choice| all.iter().copied().find(|one| Choice::of_client(one) == choice);
        [Choice::ClientDns, Choice::ClientLookaside].into_iter().filter_map(first).collect()
    }

    /// The first of them.
    pub(crate) fn client(&self) -> Option<&PeerView<'a>> {
        self.clients().into_iter().next()
    }

    /// The two peers that sentences are about: the lab's own where both were measured,
    /// since they share everything but the layer; else two of one make; else the first
    /// of each layer.
    pub(crate) fn pair(&self) -> Option<Pair<'_, 'a>> {
        let own = self.peer("l7").zip(self.peer("l4"));
        if let Some((calls, connections)) = own {
            return Some(Pair { calls, connections });
        }
        if let Some(pair) = self.makes().into_iter().next() {
            return Some(pair);
        }
        let first = |layer| self.of_layer(layer).into_iter().next();
        Some(Pair { calls: first(Layer::L7)?, connections: first(Layer::L4)? })
    }

    /// Every program that was measured in both layers: `envoy-l7` beside `envoy-l4`.
    pub(crate) fn makes(&self) -> Vec<Pair<'_, 'a>> {
        let make = |peer: &PeerView<'_>, layer: &str| {
            peer.name.strip_suffix(layer).map(|make| make.trim_end_matches('-').to_owned())
        };
        let connections = self.of_layer(Layer::L4);
        self.of_layer(Layer::L7)
            .into_iter()
            .filter_map(|calls| {
                let own = make(calls, "l7")?;
                let same = connections.iter().find(|peer| make(peer, "l4").as_ref() == Some(&own));
                Some(Pair { calls, connections: same? })
            })
            .collect()
    }

    /// The makes beside the pair that sentences are about.
    pub(crate) fn other_makes(&self) -> Vec<Pair<'_, 'a>> {
        let own = self.pair().map(|pair| pair.calls.name.clone());
        self.makes().into_iter().filter(|pair| Some(&pair.calls.name) != own.as_ref()).collect()
    }
}

/// Part of the calls that failed or had no answer: of all trials together, since the median
/// of a few lost calls is none.
pub(crate) fn lost_rate(peer: &PeerView<'_>) -> Option<Estimate> {
    let estimate = peer.estimate_by(|figures| {
        Some(figures.get(Figure::ErrorRate)? + figures.get(Figure::UnfinishedRate)?)
    })?;
    Some(estimate.around(peer.lost().1).within_a_whole())
}

/// The load in a few words.
pub(crate) fn load(run: &RunRecord) -> String {
    let load = &run.load;
    let rate = match (load.mode, load.rate) {
        (LoopMode::Open, Some(rate)) => format::rate(rate),
        _ => "a closed loop's rate".to_owned(),
    };
    let connections = format::counted(load.connections as usize, "connection");
    let backends = format::counted(run.backends.len(), "backend");
    let tls = if load.tls == Tls::None { "" } else { ", under TLS" };
    let started = run.peers.iter().any(|peer| peer.layer != Layer::External);
    match started {
        true => format!("{rate} over {connections} to {backends}, {}{tls}", load.policy),
        // Behind a target are whatever backends and policy it has.
        false => format!("{rate} over {connections}{tls}"),
    }
}
