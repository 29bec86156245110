//! The run as a report looks at it: peers with their trials and figures.
//!
//! A figure of a peer is made of its trials' ([`crate::estimate`]), which are never
//! pooled before that: two trials in which one backend each got every call are not
//! one trial in which two shared them.

use std::{borrow::Cow, cell::RefCell, rc::Rc};

use measure::{
    figure::{Figure, Figures},
    format,
    record::{Layer, LoopMode, Network, PeerSetup, RunRecord, TrialOutcome, TrialRecord},
    summary::is_measured,
};

pub use crate::estimate::{Beside, Difference, Estimate, FEWEST_REPEATS, LEVEL, LEVEL_TEXT};
use crate::{
    doubts::{self, Affected},
    on_wire,
    overload::{self, Overload},
    sweep::Sweep,
    theory::{self, Theory},
};

/// A run and what its trials come down to.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// What the trials have in common.
    pub run: Cow<'a, RunRecord>,
    /// The peers in the run's order.
    pub peers: Vec<PeerView<'a>>,
    /// The ids of the backends.
    pub backends: Vec<String>,
    /// The share each backend would have if calls followed the weights.
    pub fair_shares: Vec<f64>,
    /// The points of a run in which a setting differs between trials; figures over
    /// all of [`Model::peers`]' trials mean nothing then.
    pub sweep: Option<Sweep<'a>>,
    /// What the generator adds to a call, in nanoseconds, where calls are so short that
    /// peers are compared by latencies on the wire instead.
    pub own_part_ns: Option<f64>,
    /// What theory says of settings asked for so far: working it out can take
    /// seconds, and peers often share a setting.
    theories: theory::Known,
}

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

impl<'a> Model<'a> {
    /// Looks at a run.
    pub fn new(run: &'a RunRecord, trials: &'a [TrialRecord]) -> Self {
        let whole = Self::of(Cow::Borrowed(run), &run.peers, trials.iter());
        let mut model = Self { sweep: Sweep::of(run, trials), ..whole };
        let own_part_ns = on_wire::own_part_ns(&model.peers);
        model.compare_on_wire(own_part_ns);
        model
    }

    /// All points of a run are compared by the same latencies.
    fn compare_on_wire(&mut self, own_part_ns: Option<f64>) {
        self.own_part_ns = own_part_ns;
        for peer in &mut self.peers {
            peer.is_on_wire = own_part_ns.is_some();
        }
        for point in self.sweep.iter_mut().flat_map(|sweep| &mut sweep.points) {
            point.model.compare_on_wire(own_part_ns);
        }
    }

    /// Looks at some trials of a run, without regard to points.
    pub fn of(
        run: Cow<'a, RunRecord>,
        setups: &'a [PeerSetup],
        trials: impl Iterator<Item = &'a TrialRecord>,
    ) -> Self {
        let mut peers: Vec<PeerView<'a>> = Vec::new();
        for setup in setups {
            peers.push(PeerView::new(&setup.name, &setup.title, Some(setup)));
        }
        for trial in trials {
            let index =
                peers.iter().position(|peer| peer.name == trial.peer).unwrap_or_else(|| {
                    peers.push(PeerView::new(&trial.peer, &trial.peer, None));
                    peers.len() - 1
                });
            peers[index].trials.push(TrialView {
                record: trial,
                figures: is_measured(trial).then(|| Figures::of_trial(trial)),
            });
        }
        let layers: Vec<Option<Layer>> = peers.iter().map(PeerView::layer).collect();
        for (peer, mark) in peers.iter_mut().zip(marks(&layers)) {
            peer.mark = mark;
            peer.overload = overload::of(peer, run.load.mode == LoopMode::Open);
            peer.affected = doubts::of_peer(peer, &run);
        }
        let weights: f64 = run.backends.iter().map(|backend| f64::from(backend.weight)).sum();
        let fair = |weight: u32| if weights > 0.0 { f64::from(weight) / weights } else { 0.0 };
        let backends = run.backends.iter().map(|backend| backend.id.clone()).collect();
        let fair_shares = run.backends.iter().map(|backend| fair(backend.weight)).collect();
        Self {
            run,
            peers,
            backends,
            fair_shares,
            sweep: None,
            own_part_ns: None,
            theories: RefCell::default(),
        }
    }

    /// What theory says of a peer's latency, or why it says nothing.
    pub fn theory(&self, peer: &PeerView<'_>) -> Rc<Result<Theory, String>> {
        theory::of(self, peer, &self.theories)
    }

    /// Whether there are enough repeats of some peer for intervals.
    pub fn has_intervals(&self) -> bool {
        self.repeats() >= FEWEST_REPEATS
    }

    /// Whether latency counts from the schedule.
    pub fn open_loop(&self) -> bool {
        self.run.load.mode == LoopMode::Open
    }

    /// Whether CPU time of the whole lab and machine is shown beside the proxy's.
    ///
    /// In namespaces every packet is routed in the kernel, on whichever CPU it
    /// comes by, and a balancer in the kernel has no process at all; only the
    /// machine's figure has that in it. On the loopback it would add nothing but
    /// what other programs spent.
    pub fn shows_machine(&self) -> bool {
        self.run.network == Network::Namespaces
    }

    /// What stands before the name of a figure: nothing unless it is a latency that peers
    /// are compared by.
    pub fn word(&self, figure: Figure) -> &'static str {
        match figure.is_latency() {
            true if self.own_part_ns.is_some() && figure.on_wire().is_none() => "whole ",
            true => self.loop_word(),
            false => "",
        }
    }

    /// What stands before the name of a latency, so that none of a closed loop is
    /// ever taken for one of an open loop, and none on the wire for one from the schedule.
    pub fn loop_word(&self) -> &'static str {
        match (self.open_loop(), self.own_part_ns.is_some()) {
            (true, false) => "",
            (true, true) => "on-wire ",
            (false, false) => "closed-loop ",
            (false, true) => "closed-loop on-wire ",
        }
    }

    /// By which latencies peers are compared and why, where it is not those from the
    /// schedule.
    pub fn on_wire_note(&self) -> Option<String> {
        let own_part = format::duration(self.own_part_ns?);
        Some(format!(
            "Calls are short beside what the generator itself adds to them ({own_part} to half \
             of them). Peers are therefore compared by their latency on the wire: from the \
             request's last byte to the response's, without the generator."
        ))
    }

    /// The share all backends should have, when they should all have the same: not where
    /// some of them come or go.
    pub fn even_share(&self) -> Option<f64> {
        let first = *self.fair_shares.first().filter(|_| !self.has_faults())?;
        self.fair_shares.iter().all(|share| (share - first).abs() < 1e-9).then_some(first)
    }

    /// Whether all peers are targets, of which neither policy nor backends are known.
    pub fn is_of_targets(&self) -> bool {
        let is_target = |peer: &PeerView<'_>| peer.layer() == Some(Layer::External);
        !self.peers.is_empty() && self.peers.iter().all(is_target)
    }

    /// Whether something was done to backends in some trial.
    pub fn has_faults(&self) -> bool {
        self.measured().flat_map(PeerView::measured).any(|(trial, _)| !trial.faults.is_empty())
    }

    /// Peers with at least one trial that gave figures.
    pub fn measured(&self) -> impl Iterator<Item = &PeerView<'a>> {
        self.peers.iter().filter(|peer| peer.figures().next().is_some())
    }

    /// Most repeats that gave figures for any peer, at any one point; of a search, how often
    /// it was made.
    pub fn repeats(&self) -> usize {
        let results = self.run.search.iter().flat_map(|search| &search.results);
        if let Some(last) = results.map(|result| result.repeat).max() {
            return last as usize + 1;
        }
        if let Some(sweep) = &self.sweep {
            return sweep.points.iter().map(|point| point.model.repeats()).max().unwrap_or(0);
        }
        self.peers.iter().map(|peer| peer.figures().count()).max().unwrap_or(0)
    }

    /// The highest power of ten that is at most ten times the rate measured: as far as a
    /// cost per call is carried.
    pub fn carried_rate(&self) -> Option<f64> {
        let served = |peer: &PeerView<'_>| Some(peer.estimate(Figure::Throughput)?.value);
        let measured = self.measured().filter_map(served).reduce(f64::max)?;
        (measured > 0.0).then(|| 10_f64.powf((10.0 * measured).log10().floor()))
    }

    /// All trials in the order run.
    pub fn trials(&self) -> Vec<(&PeerView<'a>, &TrialView<'a>)> {
        let mut trials: Vec<_> = self
            .peers
            .iter()
            .flat_map(|peer| peer.trials.iter().map(move |trial| (peer, trial)))
            .collect();
        trials.sort_by_key(|(_, trial)| trial.record.order);
        trials
    }
}

impl<'a> PeerView<'a> {
    fn new(name: &str, title: &str, setup: Option<&'a PeerSetup>) -> Self {
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
        if self.overload.is_some() && !overload::is_told(figure) {
            return None;
        }
        let figure = self.compared_by(figure);
        let values = self.figures().filter_map(|figures| figures.get(figure));
        Estimate::of(figure, &values.collect::<Vec<_>>())
    }

    /// A figure beside another peer's, repeat by repeat.
    pub fn beside(&self, other: &Self, figure: Figure) -> Beside {
        let overloaded = self.overload.is_some() || other.overload.is_some();
        if overloaded && !overload::is_told(figure) {
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
            Some(message) => format!("no trial ended well: {message}"),
            None if self.trials.is_empty() => "no trial was run".to_owned(),
            None if self.trials.iter().any(is_cut) => "its trial was cut short".to_owned(),
            None => "no call was scheduled in its trials".to_owned(),
        })
    }
}

/// A mark for each of some peers, given by their layers: the first of a layer always has
/// the same one, the others what is left, and then all again.
pub fn marks(layers: &[Option<Layer>]) -> Vec<Mark> {
    let usual = |layer: Layer| match layer {
        Layer::L7 => 0,
        Layer::L4 => 1,
        Layer::Client => 2,
        Layer::External => 3,
        Layer::None => 6,
    };
    let mut taken = [false; MARKS as usize];
    let mut series: Vec<Option<u8>> = vec![None; layers.len()];
    for (layer, series) in layers.iter().zip(&mut series) {
        let index = layer.map(usual);
        if let Some(index) = index.filter(|&index| !taken[usize::from(index)]) {
            taken[usize::from(index)] = true;
            *series = Some(index);
        }
    }
    let mut round = 0;
    let give = |series: &Option<u8>| {
        let mut again = false;
        let index = series.unwrap_or_else(|| {
            again = round > 0;
            // The slate of a peer without a balancer is left to it at first.
            let free = (0..MARKS).find(|&index| !taken[usize::from(index)] && index != 6);
            free.unwrap_or_else(|| {
                round += 1;
                again = true;
                taken = [false; MARKS as usize];
                0
            })
        });
        taken[usize::from(index)] = true;
        Mark { series: index, again }
    };
    series.iter().map(give).collect()
}
