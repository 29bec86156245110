//! One peer of a run: its trials, and what its figures come to over them.

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

/// How many marks there are before they repeat.
pub const MARKS: u8 = 7;

/// What tells a peer from the others of its run, for whoever draws it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Which of the [`MARKS`].
    pub series: u8,
    /// Whether another peer has the same, because all were used up.
    pub again: bool,
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

/// The lab's own peers, which have the usual mark of their layer on every page.
const OWN: [&str; 4] = ["l7", "l4", "client-dns", "direct"];

/// A mark for each of some peers, given by name and layer. The lab's own have the same one
/// on every page, and so has the first of a layer of which there is no own; the others begin
/// to look for a free one at a place that their name decides, so that they mostly have.
pub(crate) fn marks(peers: &[(&str, Option<Layer>)]) -> Vec<Mark> {
    let usual = |layer: Layer| match layer {
        Layer::L7 => 0,
        Layer::L4 => 1,
        Layer::Client => 2,
        Layer::External => 3,
        Layer::None => 6,
    };
    let mut taken = [false; MARKS as usize];
    let mut series: Vec<Option<u8>> = vec![None; peers.len()];
    for is_own in [true, false] {
        for ((name, layer), series) in peers.iter().zip(&mut series) {
            let index = layer.map(usual).filter(|_| OWN.contains(name) == is_own);
            if let Some(index) = index.filter(|&index| !taken[usize::from(index)]) {
                taken[usize::from(index)] = true;
                *series = Some(index);
            }
        }
    }
    let mut again = false;
    let give = |((name, _), series): (&(&str, _), &Option<u8>)| {
        if let Some(series) = *series {
            return Mark { series, again: false };
        }
        let from = name.bytes().fold(0_u8, u8::wrapping_add) % MARKS;
        let mut from_there = (0..MARKS).map(|step| (from + step) % MARKS);
        // The slate of a peer without a balancer is left to it at first.
        let free = from_there.find(|&index| !taken[usize::from(index)] && index != 6);
        let index = free.unwrap_or_else(|| {
            again = true;
            taken = [false; MARKS as usize];
            from
        });
        taken[usize::from(index)] = true;
        Mark { series: index, again }
    };
    peers.iter().zip(&series).map(give).collect()
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
    fn the_labs_own_peers_have_one_colour_on_every_page() {
        let l4 = |name| (name, Some(Layer::L4));
        let pages = [
            vec![l4("l4"), ("l7", Some(Layer::L7))],
            vec![l4("kernel-l4"), l4("l4"), ("l7@both", Some(Layer::L7)), ("l7", Some(Layer::L7))],
        ];
        for page in pages {
            let marks = marks(&page);
            let of = |wanted| marks[page.iter().position(|(name, _)| *name == wanted).unwrap()];
            assert_eq!((of("l7").series, of("l4").series), (0, 1), "{page:?}");
        }
    }

    #[test]
    fn marks_differ_while_there_are_enough() {
        let names = ["l7:a", "l7:b", "l7:c", "l7:d", "l7:e", "l7:f", "l7:g", "l7:h"];
        let marks = marks(&names.map(|name| (name, Some(Layer::L7))));
        let known: std::collections::BTreeSet<(u8, bool)> =
            marks.iter().map(|mark| (mark.series, mark.again)).collect();
        assert_eq!(known.len(), names.len());
        assert!(marks[..6].iter().all(|mark| !mark.again));
    }
}
