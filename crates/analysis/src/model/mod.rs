//! The run as a report looks at it: peers with their trials and figures.
//!
//! A figure of a peer is made of its trials' ([`crate::estimate`]), which are never
//! pooled before that: two trials in which one backend each got every call are not
//! one trial in which two shared them.

pub mod sweep;

use std::{borrow::Cow, cell::RefCell};

use measure::{
    figure::{Figure, Figures},
    format,
    record::{Layer, LoopMode, Network, PeerSetup, RunRecord, TrialRecord},
    summary::is_measured,
};

use self::sweep::Sweep;
use crate::{
    closed_form::Theories,
    doubts,
    estimate::FEWEST_REPEATS,
    on_wire, overload,
    peer::{in_order, marks},
};
pub use crate::{
    estimate::{Beside, Difference, Estimate, LEVEL, LEVEL_TEXT},
    peer::{Affected, MARKS, Mark, PeerView, TrialView, marks_of},
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
    pub(crate) theories: Theories,
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
        let named = peers.iter().map(|peer| (peer.name.as_str(), peer.layer()));
        let marks = marks(&named.collect::<Vec<_>>());
        for (peer, mark) in peers.iter_mut().zip(marks) {
            peer.mark = mark;
            let is_open = run.load.mode == LoopMode::Open;
            peer.overload = overload::of(&peer.measured().collect::<Vec<_>>(), is_open);
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
    pub(crate) fn loop_word(&self) -> &'static str {
        match (self.open_loop(), self.own_part_ns.is_some()) {
            (true, false) => "",
            (true, true) => "on-wire ",
            (false, false) => "closed-loop ",
            (false, true) => "closed-loop on-wire ",
        }
    }

    /// By which latencies peers are compared and why, where it is not those from the
    /// schedule.
    pub(crate) fn on_wire_note(&self) -> Option<String> {
        let own_part = format::duration(self.own_part_ns?);
        Some(format!(
            "The generator itself adds {own_part} to half of the calls, which is much of so short a \
             latency. Peers are therefore compared by their latency on the wire: from the last \
             byte of the request to the last byte of the response, without the generator."
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
    pub(crate) fn carried_rate(&self) -> Option<f64> {
        let served = |peer: &PeerView<'_>| Some(peer.estimate(Figure::Throughput)?.value);
        let measured = self.measured().filter_map(served).reduce(f64::max)?;
        (measured > 0.0).then(|| 10_f64.powf((10.0 * measured).log10().floor()))
    }

    /// All trials in the order run.
    pub fn trials(&self) -> Vec<(&PeerView<'a>, &TrialView<'a>)> {
        in_order(&self.peers)
    }

    /// A peer as it was at a point of the sweep; as it is where it has none.
    pub fn at_point<'m>(&'m self, peer: &'m PeerView<'a>, point: Option<&str>) -> &'m PeerView<'a> {
        let points = self.sweep.iter().flat_map(|sweep| &sweep.points);
        let mut own = points.filter(|one| Some(one.value) == point);
        own.find_map(|point| sweep::peer_at(point, &peer.name)).unwrap_or(peer)
    }
}
