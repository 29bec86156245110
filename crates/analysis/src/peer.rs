//! One peer of a run: its trials, and what its figures come to over them.

use std::ops::Range;

use measure::{
    figure::{Figure, Figures},
    record::{Layer, PeerSetup, TrialOutcome, TrialRecord},
};

use crate::{
    estimate::{Beside, Estimate},
    overload::{self, Overload},
};

/// One peer.
#[derive(Clone, Debug)]
pub struct PeerView<'a> {
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// How it was set up; `None` for a peer that only trials name.
    pub setup: Option<&'a PeerSetup>,
    /// What tells it from the others.
    pub mark: Mark,
    /// Which of its figures warnings put in doubt.
    pub affected: Vec<Affected>,
    /// How it fell behind; `None` where it kept up.
    pub overload: Option<Overload>,
    /// Its trials in the order run, failed ones too.
    pub trials: Vec<TrialView<'a>>,
    /// Whether the latencies it is compared by are those on the wire.
    pub is_on_wire: bool,
}

/// The layers, and how many marks each has before they repeat. A layer has its hue, and
/// its peers have shades of that.
const SHADES: [(Layer, u8); 5] =
    [(Layer::L7, 14), (Layer::L4, 8), (Layer::Client, 8), (Layer::External, 4), (Layer::None, 2)];

/// How many marks there are.
pub const MARKS: u8 = 36;

/// What tells a peer from the others of its run, for whoever draws it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Which of the [`MARKS`].
    pub series: u8,
    /// Whether another peer has the same, because all of its layer were used up.
    pub again: bool,
}

/// The marks of a layer.
pub fn marks_of(layer: Layer) -> Range<u8> {
    let before = SHADES.iter().take_while(|(other, _)| *other != layer);
    let start = before.map(|(_, shades)| shades).sum();
    let own = SHADES.iter().find(|(other, _)| *other == layer);
    start..start + own.map_or(1, |(_, shades)| *shades)
}

/// One trial.
#[derive(Clone, Debug)]
pub struct TrialView<'a> {
    /// Its record.
    pub record: &'a TrialRecord,
    /// Its figures; `None` when it failed, was cut short, or no call was scheduled.
    pub figures: Option<Figures>,
}

/// Which figures a warning puts in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affected {
    /// Latencies.
    Latency,
    /// What anything costs.
    Cost,
    /// All.
    All,
}

impl Affected {
    /// Whether a figure is one of them.
    pub fn holds(self, figure: Figure) -> bool {
        let is_time = figure.is_latency()
            || matches!(figure, Figure::QueuedP99 | Figure::ServiceP99 | Figure::SaturationRate);
        let is_cost = figure.is_cost();
        match self {
            Self::Latency => is_time,
            Self::Cost => is_cost,
            Self::All => true,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Latency => "Latencies",
            Self::Cost => "Costs",
            Self::All => "All figures",
        }
    }
}

impl<'a> PeerView<'a> {
    pub(crate) fn new(name: &str, title: &str, setup: Option<&'a PeerSetup>) -> Self {
        Self {
            name: name.to_owned(),
            title: if title.is_empty() { name.to_owned() } else { title.to_owned() },
            setup,
            mark: Mark::default(),
            overload: None,
            affected: Vec::new(),
            trials: Vec::new(),
            is_on_wire: false,
        }
    }

    /// The figure by which it is compared: of a latency, where calls are short, the one on
    /// the wire.
    pub fn compared_by(&self, figure: Figure) -> Figure {
        figure.on_wire().filter(|_| self.is_on_wire).unwrap_or(figure)
    }

    /// Its layer; `None` for a peer that only trials name.
    pub fn layer(&self) -> Option<Layer> {
        self.setup.map(|setup| setup.layer)
    }

    /// Calls that failed or had no answer, and their share of those scheduled.
    pub fn lost(&self) -> (u64, f64) {
        let lost = self.sum(|figures| figures.failed) + self.sum(|figures| figures.unfinished);
        let scheduled = self.sum(|figures| figures.scheduled);
        (lost, if scheduled == 0 { 0.0 } else { lost as f64 / scheduled as f64 })
    }

    /// Whether warnings put a figure of it in doubt.
    pub fn is_in_doubt(&self, figure: Figure) -> bool {
        self.affected.iter().any(|affected| affected.holds(figure))
    }

    /// Whether the kernel is the balancer, so that no process shows its cost.
    pub fn in_kernel(&self) -> bool {
        self.setup.is_some_and(|setup| setup.in_kernel)
    }

    /// Figures of the trials that have some.
    pub fn figures(&self) -> impl Iterator<Item = &Figures> {
        self.trials.iter().filter_map(|trial| trial.figures.as_ref())
    }

    /// Trials that have figures.
    pub fn measured(&self) -> impl Iterator<Item = (&'a TrialRecord, &Figures)> {
        self.trials
            .iter()
            .filter_map(|trial| trial.figures.as_ref().map(|figures| (trial.record, figures)))
    }

    /// A figure over the trials; `None` where no trial has it, and of an overloaded peer
    /// where it would say nothing but how long the trial was.
    pub fn estimate(&self, figure: Figure) -> Option<Estimate> {
        if self.overload.is_some() && !overload::is_meaningful(figure) {
            return None;
        }
        let figure = self.compared_by(figure);
        let values = self.figures().filter_map(|figures| figures.get(figure));
        Estimate::of(figure, &values.collect::<Vec<_>>())
    }

    /// A figure beside another peer's, repeat by repeat.
    pub fn beside(&self, other: &Self, figure: Figure) -> Beside {
        let overloaded = self.overload.is_some() || other.overload.is_some();
        if overloaded && !overload::is_meaningful(figure) {
            return Beside::of(&[], &[]);
        }
        let figure = self.compared_by(figure);
        let (own, others) = self.paired(other, |figures| figures.get(figure));
        Beside::of(&own, &others)
    }

    /// A figure of one's own of both peers, of the repeats in which both have it.
    pub fn paired(
        &self,
        other: &Self,
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> (Vec<f64>, Vec<f64>) {
        let value = |figures: &Figures| figure(figures).filter(|value| value.is_finite());
        self.measured()
            .filter_map(|(record, figures)| {
                let own = value(figures)?;
                let mut theirs = other.measured();
                let (_, same) = theirs.find(|(theirs, _)| theirs.repeat == record.repeat)?;
                Some((own, value(same)?))
            })
            .unzip()
    }

    /// A figure of one's own over the trials.
    pub fn estimate_by(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<Estimate> {
        let values: Vec<f64> =
            self.figures().filter_map(figure).filter(|value| value.is_finite()).collect();
        Estimate::over(&values)
    }

    /// A count summed over the trials.
    pub fn sum(&self, count: impl Fn(&Figures) -> u64) -> u64 {
        self.figures().map(count).sum()
    }

    /// Why it has no figures; `None` when it has some.
    pub fn missing(&self) -> Option<String> {
        if self.figures().next().is_some() {
            return None;
        }
        let failure = self.trials.iter().find_map(|trial| match &trial.record.outcome {
            TrialOutcome::Failed { message, .. } => Some(message.clone()),
            TrialOutcome::Complete | TrialOutcome::Interrupted => None,
        });
        let is_cut = |trial: &TrialView<'_>| trial.record.outcome == TrialOutcome::Interrupted;
        Some(match failure {
            Some(message) => format!("no trial succeeded: {message}"),
            None if self.trials.is_empty() => "no trial was run".to_owned(),
            None if self.trials.iter().any(is_cut) => "its trial was cut short".to_owned(),
            None => "no call was scheduled in its trials".to_owned(),
        })
    }
}

/// Peers that are known by name, each at the place of its shade among those of its layer, so
/// that it has one colour on every page.
const KNOWN: [&[&str]; 4] = [
    &["l7", "envoy-l7", "haproxy-l7", "nginx-l7", "l7-hyper", "caddy-l7", "nghttpx-l7", "l7-floor"],
    &["l4", "kernel-l4", "haproxy-l4", "nginx-l4", "envoy-l4", "l4-floor"],
    &["client-dns", "client-lookaside"],
    &["direct"],
];
/// Likewise for the policies that peers of one kind differ in.
const POLICIES: [&str; 14] = [
    "round_robin",
    "least_loaded",
    "p2c",
    "peak_ewma",
    "least_request",
    "random",
    "weighted_round_robin",
    "join_idle_queue",
    "prequal",
    "bounded_ring_hash",
    "ring_hash",
    "maglev",
    "p3c",
    "pick_first",
];

/// A mark for each of some peers, given by name and layer. Who is known has the same one on
/// every page, unless somebody who is better known has it there; the others begin to look for
/// a free one at a place that their name decides, so that they mostly have.
pub(crate) fn marks(peers: &[(&str, Option<Layer>)]) -> Vec<Mark> {
    let mut marks = vec![Mark::default(); peers.len()];
    let mut taken = [false; MARKS as usize];
    let mut used_up = [false; MARKS as usize];
    let turn = |(index, (name, _)): (usize, &(&str, _))| {
        let (rank, shade) = preferred(name);
        (rank, index, shade)
    };
    let mut order: Vec<(usize, usize, u8)> = peers.iter().enumerate().map(turn).collect();
    order.sort_unstable();
    for (_, index, shade) in order {
        let all = marks_of(peers[index].1.unwrap_or(Layer::External));
        let shades = all.end - all.start;
        let mut from_there = (0..shades).map(|step| all.start + (shade % shades + step) % shades);
        let free = from_there.find(|&mark| !taken[usize::from(mark)]);
        let series = free.unwrap_or_else(|| {
            for mark in all.clone() {
                taken[usize::from(mark)] = false;
                used_up[usize::from(mark)] = true;
            }
            all.start + shade % shades
        });
        taken[usize::from(series)] = true;
        marks[index] = Mark { series, again: used_up[usize::from(series)] };
    }
    marks
}

/// Whose turn it is to choose a shade, and which one is the first choice. A name is a kind of
/// peer, and may have settings and a policy after it: `l7@retries:p2c`.
fn preferred(name: &str) -> (usize, u8) {
    let (kind, policy) = name.split_once(':').unwrap_or((name, ""));
    let (kind, settings) = kind.split_once('@').unwrap_or((kind, ""));
    let by_letters = |text: &str| text.bytes().fold(0_u8, u8::wrapping_add);
    let place = |names: &[&str], wanted| names.iter().position(|name| *name == wanted);
    let own = KNOWN.iter().find_map(|names| place(names, kind));
    let of_policy = if policy.is_empty() { Some(0) } else { place(&POLICIES, policy) };
    let rank = match (own, of_policy) {
        (Some(_), Some(_)) if settings.is_empty() => usize::from(!policy.is_empty()),
        _ => 2,
    };
    let shade = |known: Option<usize>, text| known.map_or(by_letters(text), |place| place as u8);
    let parts = [shade(own, kind), shade(of_policy, policy), by_letters(settings)];
    (rank, parts.into_iter().fold(0, u8::wrapping_add))
}

/// All trials of some peers in the order run.
pub(crate) fn in_order<'p, 'a>(
    peers: &'p [PeerView<'a>],
) -> Vec<(&'p PeerView<'a>, &'p TrialView<'a>)> {
    let of_peer = |peer: &'p PeerView<'a>| peer.trials.iter().map(move |trial| (peer, trial));
    let mut trials: Vec<_> = peers.iter().flat_map(of_peer).collect();
    trials.sort_by_key(|(_, trial)| trial.record.order);
    trials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_names_the_figures_it_is_about() {
        assert!(Affected::Latency.holds(Figure::LatencyP99));
        assert!(!Affected::Latency.holds(Figure::MaxShare));
        assert!(Affected::Cost.holds(Figure::ProxyCpuPerCall));
        assert!(!Affected::Cost.holds(Figure::LatencyP50));
        assert!(Affected::All.holds(Figure::MaxShare));
    }

    #[test]
    fn each_layer_has_marks_of_its_own() {
        let all: Vec<u8> = SHADES.iter().flat_map(|(layer, _)| marks_of(*layer)).collect();
        assert_eq!(all, (0..MARKS).collect::<Vec<_>>());
    }

    #[test]
    fn known_peers_have_one_colour_on_every_page() {
        let layers = [Layer::L7, Layer::L4, Layer::Client, Layer::None];
        let everyone: Vec<(&str, Option<Layer>)> = KNOWN
            .iter()
            .zip(layers)
            .flat_map(|(names, layer)| names.iter().map(move |name| (*name, Some(layer))))
            .collect();
        let alone = |one| marks(&[one])[0];
        assert_eq!(marks(&everyone), everyone.iter().map(|one| alone(*one)).collect::<Vec<_>>());
        let policies = POLICIES.map(|policy| format!("l7:{policy}"));
        let policies = policies.each_ref().map(|name| (&**name, Some(Layer::L7)));
        assert_eq!(marks(&policies).to_vec(), policies.map(alone).to_vec());
        // Who is less known gives way, wherever it stands.
        let both = marks(&[("l7:round_robin", Some(Layer::L7)), ("l7", Some(Layer::L7))]);
        assert_eq!(both[1], alone(("l7", Some(Layer::L7))));
        assert_ne!(both[0], both[1]);
    }

    #[test]
    fn marks_differ_while_there_are_enough() {
        let names: Vec<String> = (0..20).map(|index| format!("l7@{index}")).collect();
        let peers: Vec<_> = names.iter().map(|name| (&**name, Some(Layer::L7))).collect();
        let marks = marks(&peers);
        let known: std::collections::BTreeSet<(u8, bool)> =
            marks.iter().map(|mark| (mark.series, mark.again)).collect();
        assert_eq!(known.len(), names.len());
        assert_eq!(marks.iter().filter(|mark| !mark.again).count(), 14);
    }
}
