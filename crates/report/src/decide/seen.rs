//! A run as the decision looks at it: its model, its peers by what they balance, and
//! where its report lies.

use std::path::Path;

use measure::record::{Layer, LoopMode, RunRecord};

use super::{
    Evidence,
    gather::{Chosen, relative},
    link_to,
};
use crate::{
    estimate::Estimate,
    format,
    model::{Model, PeerView, paints},
};

/// A run, seen.
pub(crate) struct Seen<'a> {
    pub(crate) chosen: &'a Chosen,
    pub(crate) model: Model<'a>,
    folder: String,
    link: String,
}

/// A peer that balances calls, beside one that balances connections.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'m, 'a> {
    pub(crate) calls: &'m PeerView<'a>,
    pub(crate) connections: &'m PeerView<'a>,
}

/// All runs, with each peer in one colour throughout.
pub(crate) fn all<'a>(chosen: &'a [Chosen], beside: &Path) -> Vec<Seen<'a>> {
    let mut names: Vec<(&str, Option<Layer>)> = Vec::new();
    for peer in chosen.iter().flat_map(|one| &one.run.record.peers) {
        if names.iter().all(|(known, _)| *known != peer.name) {
            names.push((&peer.name, Some(peer.layer)));
        }
    }
    // The lab's own come first, so that they have the colours they have in reports.
    names.sort_by_key(|(name, _)| !OWN.contains(name));
    let layers: Vec<Option<Layer>> = names.iter().map(|(_, layer)| *layer).collect();
    let paints = paints(&layers);
    chosen
        .iter()
        .map(|one| {
            let mut model = Model::new(&one.run.record, &one.run.trials);
            for peer in &mut model.peers {
                let at = names.iter().position(|(name, _)| *name == peer.name);
                if let Some(at) = at {
                    (peer.paint, peer.dashed) = paints[at];
                }
            }
            let folder = relative(beside, &one.folder);
            Seen { chosen: one, model, folder, link: link_to(&one.folder, beside) }
        })
        .collect()
}

const OWN: [&str; 4] = ["direct", "l4", "l7", "client-side"];

impl<'a> Seen<'a> {
    /// The scenario's name.
    pub(crate) fn scenario(&self) -> &str {
        &self.chosen.run.record.scenario
    }

    /// Whether it is the scenario as its file has it.
    pub(crate) fn is_plain(&self) -> bool {
        self.chosen.settings.is_empty()
    }

    /// The part of its report that shows something.
    pub(crate) fn cite(&self, anchor: &str) -> Evidence {
        Evidence {
            scenario: self.scenario().to_owned(),
            settings: self.chosen.settings.clone(),
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

    /// The client that balances by itself, if it was measured.
    pub(crate) fn client(&self) -> Option<&PeerView<'a>> {
        self.of_layer(Layer::Client).into_iter().next()
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

/// Part of the calls that failed or had no answer, over the trials.
pub(crate) fn lost_rate(peer: &PeerView<'_>) -> Option<Estimate> {
    let estimate = peer.estimate_by(|figures| {
        Some(figures.by_name("error_rate")? + figures.by_name("unfinished_rate")?)
    })?;
    Some(estimate.within_a_whole())
}

/// The load in a few words.
pub(crate) fn load(run: &RunRecord) -> String {
    let load = &run.load;
    let rate = match (load.mode, load.rate) {
        (LoopMode::Open, Some(rate)) => format::rate(rate),
        _ => "closed loop".to_owned(),
    };
    let connections = match load.connections {
        1 => "1 connection".to_owned(),
        more => format!("{more} connections"),
    };
    let backends = match run.backends.len() {
        1 => "1 backend".to_owned(),
        more => format!("{more} backends"),
    };
    format!("{rate} over {connections} to {backends}, {}", load.policy)
}
