//! The search for the highest rate at which an objective holds: which rate is
//! tried next, and what a trial says. Decisions without a clock.
//!
//! Rates lie on a grid of equal ratios, so that the same rates are tried for every
//! peer and in every repeat, and curves over the rate share their points. A search
//! gallops from where it starts until the answer turns, and halves the bracket from
//! there. The first repeat starts at the scenario's rate; those after it at the edge
//! that was found, where they need a few trials: repeats are spent where the answer is
//! in doubt. A trial that breaks the objective is made again, and again if the second
//! one keeps it: what else goes on on a machine makes calls slower and never faster, so
//! that a rate which breaks once may have met nothing but a bad second, and a search
//! that believed it would end far below the edge. Left out: a model of how latency depends on rate, by which
//! fewer trials would do; a search must not believe what the lab is there to measure.

use measure::{
    figure::Figures,
    record::{SearchLimit, SearchResult, TrialOutcome, TrialRecord},
    warning::Warning,
};
use scenario::{Search, bounds};

/// How far below the rate it starts at a search goes, as a ratio.
const DEEPEST: f64 = 1_000.0;
/// The first stride of a search that knows nothing, as a ratio.
const FIRST_STRIDE: f64 = 2.0;

/// Rates at equal ratios; the scenario's own is number 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    start: f64,
    ratio: f64,
}

impl Grid {
    pub(crate) fn new(start: f64, resolution: f64) -> Self {
        Self { start, ratio: 1.0 + resolution }
    }

    /// The rate of a number, in calls per second; to three digits or whole, so that
    /// it reads well.
    pub(crate) fn rate(&self, step: i32) -> f64 {
        let exact = self.start * self.ratio.powi(step);
        let unit = 10_f64.powf(exact.log10().floor() - 3.0);
        // Rounded by a division where that is exact, so that 1100 is no 1100.0000001.
        if unit >= 1.0 {
            (exact / unit).round() * unit
        } else {
            let parts = (1.0 / unit).round();
            (exact * parts).round() / parts
        }
    }

    /// Steps that a ratio comes to.
    fn steps(&self, ratio: f64) -> i32 {
        (ratio.ln() / self.ratio.ln()).round().max(1.0) as i32
    }

    fn floor(&self) -> i32 {
        -self.steps(DEEPEST.min(self.start / bounds::RATE.min))
    }

    fn ceiling(&self) -> i32 {
        // Rounded down, so that no rate is above what a scenario may ask for.
        ((bounds::RATE.max / self.start).ln() / self.ratio.ln()).floor() as i32
    }
}

/// One peer's search in one repeat.
#[derive(Clone, Debug)]
pub(crate) struct Seeker {
    floor: i32,
    ceiling: i32,
    start: i32,
    stride: i32,
    longest: i32,
    /// The highest step that held.
    held: Option<i32>,
    /// The lowest step that did not, and why.
    failed: Option<(i32, SearchLimit)>,
    /// Trials at a step that broke the objective and is tried again: which one, how
    /// many broke it and how many kept it.
    again: Option<(i32, u32, u32)>,
    /// Nothing more can be tried.
    broken: bool,
}

/// Trials at one step that say the same, after the first one broke the objective.
const AGREE: u32 = 2;

impl Seeker {
    /// A search that starts at the edge an earlier repeat found, or with none at the
    /// scenario's own rate.
    pub(crate) fn new(grid: &Grid, edge: Option<i32>) -> Self {
        let longest = grid.steps(FIRST_STRIDE);
        Self {
            floor: grid.floor(),
            ceiling: grid.ceiling(),
            start: edge.unwrap_or(0),
            stride: if edge.is_some() { 1 } else { longest },
            longest,
            held: None,
            failed: None,
            again: None,
            broken: false,
        }
    }

    /// The step to try next; `None` when the edge is found or there is nothing to
    /// try.
    pub(crate) fn next(&self) -> Option<i32> {
        if self.broken {
            return None;
        }
        if let Some((step, ..)) = self.again {
            return Some(step);
        }
        match (self.held, self.failed) {
            (None, None) => Some(self.start),
            (Some(held), None) => {
                (held < self.ceiling).then(|| (held + self.stride).min(self.ceiling))
            }
            (None, Some((failed, _))) => {
                (failed > self.floor).then(|| (failed - self.stride).max(self.floor))
            }
            (Some(held), Some((failed, _))) => {
                (failed - held > 1).then(|| held + (failed - held) / 2)
            }
        }
    }

    /// Takes what a trial at a step said.
    pub(crate) fn record(&mut self, step: i32, verdict: Verdict) {
        let first = self.held.is_none() && self.failed.is_none();
        let (broke, kept) = self.again.take().map_or((0, 0), |(_, broke, kept)| (broke, kept));
        match verdict {
            Verdict::Held if broke == 0 || kept + 1 == AGREE => self.held = Some(step),
            Verdict::Held => return self.again = Some((step, broke, kept + 1)),
            Verdict::Failed(limit) if broke + 1 == AGREE => self.failed = Some((step, limit)),
            Verdict::Failed(_) => return self.again = Some((step, broke + 1, kept)),
            Verdict::Nothing => self.broken = true,
        }
        if !first {
            self.stride = (self.stride * 2).min(self.longest);
        }
    }

    /// Whether nothing was tried yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.held.is_none() && self.failed.is_none() && self.again.is_none() && !self.broken
    }

    /// The highest step that held.
    pub(crate) fn edge(&self) -> Option<i32> {
        self.held
    }

    /// What was found so far.
    pub(crate) fn result(&self, grid: &Grid, peer: &str, repeat: u32) -> SearchResult {
        let limit = match (self.held, self.failed) {
            _ if self.next().is_some() || self.broken => SearchLimit::Unfinished,
            (None, _) => SearchLimit::Floor,
            (Some(_), None) => SearchLimit::Ceiling,
            (Some(_), Some((_, limit))) => limit,
        };
        SearchResult {
            peer: peer.to_owned(),
            repeat,
            held: self.held.map(|step| grid.rate(step)),
            failed: self.failed.map(|(step, _)| grid.rate(step)),
            limit,
        }
    }
}

/// What a trial says of the objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It held.
    Held,
    /// It did not.
    Failed(SearchLimit),
    /// The trial did not end well, or was interrupted.
    Nothing,
}

/// Judges a trial. A call without an answer breaks every objective: percentiles
/// leave it out, and it took longer than any of them.
pub(crate) fn judge(search: &Search, trial: &TrialRecord) -> Verdict {
    if trial.outcome != TrialOutcome::Complete {
        return Verdict::Nothing;
    }
    let figures = Figures::of_trial(trial);
    let kept = |objective: &scenario::Objective| objective.holds(figures.get(objective.figure));
    if figures.unfinished == 0 && search.slo.iter().all(kept) {
        return Verdict::Held;
    }
    let warned = |is: fn(&Warning) -> bool| trial.warnings.iter().map(Warning::itself).any(is);
    let generator = |warning: &Warning| {
        matches!(warning, Warning::GeneratorLimited { .. } | Warning::ClientExhausted { .. })
    };
    Verdict::Failed(if warned(generator) {
        SearchLimit::Generator
    } else if warned(|warning| matches!(warning, Warning::CpuSaturated { .. })) {
        SearchLimit::Machine
    } else {
        SearchLimit::Peer
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Searches a peer that holds up to and with `edge`; the steps tried.
    fn seek(grid: &Grid, from: Option<i32>, edge: i32) -> (Seeker, Vec<i32>) {
        let mut seeker = Seeker::new(grid, from);
        let mut tried = Vec::new();
        while let Some(step) = seeker.next() {
            if tried.last() != Some(&step) {
                tried.push(step);
            }
            let held = step <= edge;
            let verdict = if held { Verdict::Held } else { Verdict::Failed(SearchLimit::Peer) };
            seeker.record(step, verdict);
        }
        (seeker, tried)
    }

    #[test]
    fn repeats_after_the_first_need_two_trials_where_nothing_changed() {
        let grid = Grid::new(1_000.0, 0.05);
        let (seeker, tried) = seek(&grid, None, 40);
        assert_eq!(tried, [0, 14, 28, 42, 35, 38, 40, 41]);
        let result = seeker.result(&grid, "l7", 0);
        assert_eq!((result.held, result.failed), (Some(7_040.0), Some(7_392.0)));
        assert_eq!(result.limit, SearchLimit::Peer);
        assert_eq!(seek(&grid, seeker.edge(), 40).1, [40, 41]);
        assert_eq!(seek(&grid, seeker.edge(), 38).1, [40, 39, 37, 38]);
    }

    #[test]
    fn one_bad_second_does_not_end_a_search() {
        let grid = Grid::new(1_000.0, 0.05);
        let failed = Verdict::Failed(SearchLimit::Peer);
        let mut seeker = Seeker::new(&grid, None);
        seeker.record(0, failed);
        assert_eq!(seeker.next(), Some(0), "it is made again");
        seeker.record(0, Verdict::Held);
        assert_eq!(seeker.next(), Some(0), "one each: the third decides");
        seeker.record(0, Verdict::Held);
        assert_eq!((seeker.edge(), seeker.next()), (Some(0), Some(14)));
        seeker.record(14, failed);
        seeker.record(14, Verdict::Held);
        seeker.record(14, failed);
        assert_eq!(seeker.next(), Some(7), "two of three broke it");
    }

    #[test]
    fn a_search_ends_where_there_is_nothing_more_to_try() {
        let grid = Grid::new(1_000.0, 0.5);
        let limit = |edge| seek(&grid, None, edge).0.result(&grid, "l7", 0).limit;
        assert_eq!(limit(i32::MAX), SearchLimit::Ceiling);
        assert_eq!(limit(i32::MIN), SearchLimit::Floor);
        let mut broken = Seeker::new(&grid, None);
        broken.record(0, Verdict::Nothing);
        assert_eq!(broken.next(), None);
        assert_eq!(broken.result(&grid, "l7", 0).limit, SearchLimit::Unfinished);
        assert_eq!(Seeker::new(&grid, None).result(&grid, "l7", 0).limit, SearchLimit::Unfinished);
    }

    #[test]
    fn rates_read_well_and_stay_in_bounds() {
        let grid = Grid::new(1_000.0, 0.05);
        assert_eq!((grid.rate(0), grid.rate(1), grid.rate(-1)), (1_000.0, 1_050.0, 952.4));
        assert_eq!(grid.rate(48), 10_400.0);
        assert!(grid.rate(grid.ceiling()) <= bounds::RATE.max);
        assert!(grid.rate(grid.floor()) >= bounds::RATE.min);
    }

    proptest! {
        #[test]
        fn the_edge_is_found_from_anywhere(
            edge in -90_i32..150, from in proptest::option::of(-90_i32..150)
        ) {
            let grid = Grid::new(1_000.0, 0.05);
            let (seeker, tried) = seek(&grid, from, edge);
            prop_assert_eq!(seeker.edge(), Some(edge));
            prop_assert!(tried.len() < 32, "{:?}", tried);
        }
    }
}
