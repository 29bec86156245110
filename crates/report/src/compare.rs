//! Two runs of one scenario: what changed, and is it worse?
//!
//! Trials of two runs were not interleaved, so they are compared unpaired: the
//! ratio of the two runs' figures with its interval ([`measure::statistics`]).
//!
//! The trials of a run share the machine as it was in those minutes. Where its cores
//! come out of sleep dearer than an hour before, every trial of the run pays for it,
//! and their agreement says nothing of that. What a run moves by as a whole is
//! therefore part of each interval: [`Moves`].
//!
//! A change counts only when its whole interval lies beyond the tolerance, and for
//! that the interval is taken at a level that shares the 5 % of error among all
//! figures looked at (Bonferroni). Otherwise a run of many peers would be accused
//! the more often the more it shows. What is printed is the interval of the figure
//! by itself, at 95 %.

use measure::{
    folder::Run,
    record::{Network, RunRecord, Tls},
    statistics::interval::{Estimate, ratio_of_runs},
    summary::{Figures, is_measured, median},
};
use serde::Serialize;

use crate::{format, page, terminal::Style};

/// Level of the intervals.
pub const LEVEL: f64 = 0.95;
/// Trials that each run needs before anything is told.
const LEAST_TRIALS: usize = 3;

/// What equal runs on one machine move by, as a standard deviation. Two runs can't
/// show it; it is known from many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moves {
    /// Of CPU per call, as a fraction of it.
    pub cpu: f64,
    /// Of a latency, in nanoseconds: what moves are the wake-ups and the work on a
    /// call's way, and they cost the same whether the service takes long or not.
    pub latency_ns: f64,
}

impl Default for Moves {
    /// What was seen on a shared virtual machine of 2 cores at 500 calls a second, over
    /// six equal runs within two minutes: CPU per call of the proxy 82 to 128 µs, of
    /// the backends 103 to 138 µs, and p50 of a service of 5 ms from 5.21 to 5.26 ms.
    fn default() -> Self {
        Self { cpu: 0.15, latency_ns: 25_000.0 }
    }
}

impl Moves {
    /// As a fraction of a figure whose median is `middle`.
    fn of(self, kind: Kind, middle: f64) -> f64 {
        match kind {
            Kind::Latency if middle > 0.0 => self.latency_ns / middle,
            Kind::Cpu => self.cpu,
            Kind::Latency | Kind::Count => 0.0,
        }
    }
}

/// What a figure is of, which decides how it moves between runs.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Latency,
    Cpu,
    /// Counted calls: the machine has no part in them until it is too slow.
    Count,
}

/// A figure that runs are compared by.
struct Compared {
    name: &'static str,
    title: &'static str,
    kind: Kind,
    lower_is_better: bool,
    show: fn(f64) -> String,
}

const COMPARED: &[Compared] = &[
    Compared::latency("latency_p50", "latency p50"),
    Compared::latency("latency_p90", "latency p90"),
    Compared::latency("latency_p99", "latency p99"),
    Compared::cpu("proxy_cpu_per_call", "proxy CPU per call"),
    Compared::cpu("backend_cpu_per_call", "backend CPU per call"),
    Compared {
        name: "throughput",
        title: "calls per second",
        kind: Kind::Count,
        lower_is_better: false,
        show: format::rate,
    },
    Compared {
        name: "max_share",
        title: "busiest backend",
        kind: Kind::Count,
        lower_is_better: true,
        show: format::share,
    },
];

impl Compared {
    const fn latency(name: &'static str, title: &'static str) -> Self {
        Self { name, title, kind: Kind::Latency, lower_is_better: true, show: format::duration }
    }

    const fn cpu(name: &'static str, title: &'static str) -> Self {
        Self { name, title, kind: Kind::Cpu, lower_is_better: true, show: format::duration }
    }
}

/// What two runs say about each other.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The run compared with: its scenario and start.
    pub before: String,
    /// The run that is judged.
    pub after: String,
    /// Changes within this fraction are none.
    pub tolerance: f64,
    /// What runs are taken to move by without any reason.
    pub moves: Moves,
    /// Level of the intervals.
    pub level: f64,
    /// Every figure of every peer that both runs have.
    pub rows: Vec<Row>,
    /// What makes the two hard to compare.
    pub warnings: Vec<String>,
}

/// One figure of one peer.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The peer.
    pub peer: String,
    /// The figure, in words.
    pub figure: String,
    /// Its median before; times in nanoseconds, shares as fractions.
    pub before: f64,
    /// Its median after.
    pub after: f64,
    /// After over before.
    pub ratio: f64,
    /// The interval of that ratio; none with too few trials.
    pub interval: Option<(f64, f64)>,
    /// What is told of it.
    pub verdict: Verdict,
    #[serde(skip)]
    show: fn(f64) -> String,
}

/// What can be told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Worse, by more than the tolerance.
    Worse,
    /// Better, by more than the tolerance.
    Better,
    /// The interval lies within the tolerance: the same.
    Same,
    /// The interval is too wide, or there is none.
    CannotTell,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Better => "better",
            Self::Same => "same",
            Self::CannotTell => "can't tell",
        }
    }
}

impl Comparison {
    /// Compares two runs. `tolerance` is a fraction: 0.05 for 5 %.
    pub fn of(before: &Run, after: &Run, tolerance: f64, moves: Moves) -> Self {
        let mut rows = Vec::new();
        let points = points_of(before).len().max(1);
        let looks = before.record.peers.len().max(1) * points * COMPARED.len();
        let asked = Asked { tolerance, moves, level: 1.0 - (1.0 - LEVEL) / looks as f64 };
        for peer in &before.record.peers {
            // Trials at different points of a sweep are different questions.
            for point in points_of(before) {
                let figures =
                    [before, after].map(|run| figures_of(run, &peer.name, point.as_deref()));
                if figures.iter().any(Vec::is_empty) {
                    continue;
                }
                let name = match &point {
                    Some(point) => format!("{} at {point}", peer.name),
                    None => peer.name.clone(),
                };
                for compared in COMPARED {
                    let values = |figures: &Vec<Figures>| -> Vec<f64> {
                        figures.iter().filter_map(|one| one.by_name(compared.name)).collect()
                    };
                    rows.extend(row(&name, compared, &figures.each_ref().map(values), asked));
                }
                rows.extend(failures(&name, &figures));
            }
        }
        let name = |run: &RunRecord| format!("{} of {}", run.scenario, run.started_utc);
        Self {
            before: name(&before.record),
            after: name(&after.record),
            tolerance,
            moves,
            level: LEVEL,
            rows,
            warnings: warnings(before, after),
        }
    }

    /// Whether something got worse.
    pub fn has_regressed(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Worse)
    }

    /// The comparison as text.
    pub fn text(&self, style: Style) -> String {
        let mut text = format!("before  {}\nafter   {}\n\n", self.before, self.after);
        let cells: Vec<[String; 6]> = self.rows.iter().map(Row::cells).collect();
        let heads = ["peer", "figure", "before", "after", "change", ""].map(str::to_owned);
        let width = |column: usize| {
            let all = cells.iter().chain([&heads]);
            all.map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..6).map(width).collect();
        for (index, row) in std::iter::once(&heads).chain(&cells).enumerate() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                // Words to the left, numbers to the right.
                line.push_str(&match column {
                    0 | 1 | 5 => format!("{cell:<width$}  "),
                    _ => format!("{cell:>width$}  "),
                });
            }
            let line = line.trim_end();
            let verdict = index.checked_sub(1).map(|index| self.rows[index].verdict);
            let code = match verdict {
                Some(Verdict::Worse) => Some(31),
                Some(Verdict::Better) => Some(32),
                _ => None,
            };
            match code.filter(|_| style.colour) {
                Some(code) => text.push_str(&format!("\x1b[{code}m{line}\x1b[0m\n")),
                None => text.push_str(&format!("{line}\n")),
            }
        }
        text.push_str(&format!("\n{}\n{}\n", self.sentence(), self.allowance()));
        for warning in &self.warnings {
            text.push_str(&format!("! {warning}\n"));
        }
        text
    }

    /// What it comes down to.
    pub fn sentence(&self) -> String {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let tolerance = format::share(self.tolerance);
        match (count(Verdict::Worse), count(Verdict::Better)) {
            (0, 0) => format!("No difference beyond {tolerance} can be told."),
            (0, better) => {
                format!("Nothing got worse by more than {tolerance}; {better} got better.")
            }
            (worse, 0) => format!("{worse} got worse by more than {tolerance}."),
            (worse, better) => {
                format!("{worse} got worse by more than {tolerance}, and {better} got better.")
            }
        }
    }

    /// What the intervals allow for beyond what the trials show.
    pub fn allowance(&self) -> String {
        format!(
            "Intervals allow for what equal runs move by: CPU per call by {}, latency by {} \
             (standard deviation; `--moves`).",
            format::share(self.moves.cpu),
            format::duration(self.moves.latency_ns)
        )
    }

    /// The comparison as one self-contained page.
    pub fn html(&self) -> String {
        page::compare::render(self)
    }
}

impl Row {
    /// Its cells: peer, figure, before, after, change with interval, verdict.
    pub(crate) fn cells(&self) -> [String; 6] {
        let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
        let change = match self.interval {
            Some((low, high)) => {
                format!("{} ({} to {})", percent(self.ratio), percent(low), percent(high))
            }
            None if self.ratio.is_finite() => percent(self.ratio),
            None => String::new(),
        };
        [
            self.peer.clone(),
            self.figure.clone(),
            (self.show)(self.before),
            (self.show)(self.after),
            change,
            self.verdict.words().to_owned(),
        ]
    }
}

fn figures_of(run: &Run, peer: &str, point: Option<&str>) -> Vec<Figures> {
    let of_peer = run.trials.iter().filter(|trial| trial.peer == peer && is_measured(trial));
    let at_point = of_peer.filter(|trial| trial.point.as_deref() == point);
    at_point.map(Figures::of_trial).collect()
}

/// The points of a run; one without a value where no setting differs.
fn points_of(run: &Run) -> Vec<Option<String>> {
    match &run.record.sweep {
        Some(sweep) => sweep.points.iter().map(|point| Some(point.value.clone())).collect(),
        None => vec![None],
    }
}

/// What a change has to be beyond, and how surely.
#[derive(Clone, Copy, Debug)]
struct Asked {
    tolerance: f64,
    moves: Moves,
    /// Level of the interval that has to lie beyond it.
    level: f64,
}

/// A figure of one peer; `values` are those of its trials, before and after.
fn row(peer: &str, compared: &Compared, values: &[Vec<f64>; 2], asked: Asked) -> Option<Row> {
    let [before, after] = values;
    let (middle_before, middle_after) = (median(before)?, median(after)?);
    let enough = before.len().min(after.len()) >= LEAST_TRIALS;
    let moves = asked.moves.of(compared.kind, f64::min(middle_before, middle_after));
    let at_level = |level| ratio_of_runs(after, before, moves, level).filter(|_| enough);
    let bounds = |estimate: &Option<Estimate>| {
        estimate.as_ref().and_then(|one| one.interval).map(|one| (one.low, one.high))
    };
    let (estimate, sure) = (at_level(LEVEL), bounds(&at_level(asked.level)));
    let interval = bounds(&estimate);
    Some(Row {
        peer: peer.to_owned(),
        figure: compared.title.to_owned(),
        before: middle_before,
        after: middle_after,
        ratio: estimate.map_or(middle_after / middle_before, |one| one.centre),
        interval,
        verdict: judge(interval, sure, asked.tolerance, compared.lower_is_better),
        show: compared.show,
    })
}

/// `interval` is the figure's own; `sure` the wider one that a change needs.
fn judge(
    interval: Option<(f64, f64)>,
    sure: Option<(f64, f64)>,
    tolerance: f64,
    lower_is_better: bool,
) -> Verdict {
    let (Some((low, high)), Some((sure_low, sure_high))) = (interval, sure) else {
        return Verdict::CannotTell;
    };
    // A tolerance of 5 % is a factor of 1.05 in either direction.
    let (least, most) = (1.0 / (1.0 + tolerance), 1.0 + tolerance);
    let (is_lower, is_higher) = (sure_high < least, sure_low > most);
    match (is_lower, is_higher) {
        (true, _) if lower_is_better => Verdict::Better,
        (_, true) if lower_is_better => Verdict::Worse,
        (true, _) => Verdict::Worse,
        (_, true) => Verdict::Better,
        _ if low >= least && high <= most => Verdict::Same,
        _ => Verdict::CannotTell,
    }
}

/// Failures are counted, and any that were not there before are worse: a ratio to
/// nothing says nothing.
fn failures(peer: &str, figures: &[Vec<Figures>; 2]) -> Option<Row> {
    let rates = |figures: &[Figures]| -> Vec<f64> {
        figures.iter().filter_map(|one| one.by_name("error_rate")).collect()
    };
    let (before, after) = (rates(&figures[0]), rates(&figures[1]));
    let (middle_before, middle_after) = (median(&before)?, median(&after)?);
    let highest_before = before.iter().copied().fold(0.0, f64::max);
    let lowest_after = after.iter().copied().fold(f64::INFINITY, f64::min);
    let verdict = match (middle_before == middle_after, lowest_after > highest_before) {
        (true, _) => Verdict::Same,
        (false, true) => Verdict::Worse,
        (false, false) => Verdict::CannotTell,
    };
    Some(Row {
        peer: peer.to_owned(),
        figure: "failed calls".to_owned(),
        before: middle_before,
        after: middle_after,
        ratio: f64::NAN,
        interval: None,
        verdict,
        show: format::share,
    })
}

fn warnings(before: &Run, after: &Run) -> Vec<String> {
    let (a, b) = (&before.record, &after.record);
    let (machine_a, machine_b) = (&a.environment, &b.environment);
    let mut warnings = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str, advice: &str| {
        if a != b {
            warnings.push(format!("{what} differs: `{a}` before, `{b}` after. {advice}"));
        }
    };
    differ("The scenario", &a.scenario, &b.scenario, "Their figures answer different questions.");
    differ(
        "The machine",
        &format!("{}, {} CPUs", machine_a.cpu_model, machine_a.cpus),
        &format!("{}, {} CPUs", machine_b.cpu_model, machine_b.cpus),
        "What differs may be the machine's doing; compare runs of one machine.",
    );
    let name = |network| match network {
        Network::Loopback => "loopback",
        Network::Namespaces => "namespaces",
    };
    let network = "Every hop costs something else; compare runs on one kind of network.";
    differ("The network", name(a.network), name(b.network), network);
    let name = |tls| match tls {
        Tls::None => "none",
        Tls::Client => "client",
        Tls::Backend => "backend",
        Tls::Both => "both",
    };
    let tls = "Encryption costs CPU; compare runs that encrypt the same sides.";
    differ("The side that speaks TLS", name(a.load.tls), name(b.load.tls), tls);
    let kernel = "Costs in the kernel may differ by themselves.";
    differ("The kernel", &machine_a.kernel, &machine_b.kernel, kernel);
    let build = "Build both alike.";
    differ("The build profile", &machine_a.build_profile, &machine_b.build_profile, build);
    if a.resolved.get("load") != b.resolved.get("load")
        || a.resolved.get("backends") != b.resolved.get("backends")
    {
        warnings.push(
            "Load or backends differ between the runs. That may be what is tried; if not, run \
             the same scenario twice."
                .to_owned(),
        );
    }
    for peer in &a.peers {
        if let Some(other) = b.peers.iter().find(|other| other.name == peer.name)
            && other.version != peer.version
        {
            let version = |version: &Option<String>| version.clone().unwrap_or_default();
            warnings.push(format!(
                "{} was `{}` before and is `{}` after.",
                peer.name,
                version(&peer.version),
                version(&other.version)
            ));
        }
    }
    let few = before.trials.len().min(after.trials.len()) < LEAST_TRIALS;
    if few {
        warnings.push(format!(
            "Under {LEAST_TRIALS} trials of a peer nothing can be told; repeat with --repeats 5."
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_all_of_its_interval_is_beyond_the_tolerance() {
        let both = |low, high, lower_is_better| {
            judge(Some((low, high)), Some((low, high)), 0.05, lower_is_better)
        };
        let worse = |low, high| both(low, high, true);
        assert_eq!(worse(1.06, 1.20), Verdict::Worse);
        assert_eq!(worse(1.04, 1.20), Verdict::CannotTell);
        assert_eq!(worse(0.97, 1.04), Verdict::Same);
        assert_eq!(worse(0.80, 0.90), Verdict::Better);
        assert_eq!(both(0.80, 0.90, false), Verdict::Worse);
        assert_eq!(judge(None, None, 0.05, true), Verdict::CannotTell);
        // By itself it would count; among many figures it is one that chance makes.
        let judged = judge(Some((1.06, 1.20)), Some((1.02, 1.25)), 0.05, true);
        assert_eq!(judged, Verdict::CannotTell);
    }

    /// Five trials that agree, in each of two runs, and CPU a third dearer in the second.
    #[test]
    fn cpu_that_moves_as_runs_do_is_no_regression_by_itself() {
        let trials = |middle: f64| (0..5).map(|i| middle * (1.0 + 0.01 * f64::from(i))).collect();
        let verdict = |name: &str, before: f64, moves: Moves| {
            let compared = COMPARED.iter().find(|one| one.name == name).unwrap();
            let asked = Asked { tolerance: 0.05, moves, level: 0.995 };
            row("l7", compared, &[trials(before), trials(1.36 * before)], asked).unwrap().verdict
        };
        let still = Moves { cpu: 0.0, latency_ns: 0.0 };
        assert_eq!(verdict("proxy_cpu_per_call", 100e3, still), Verdict::Worse);
        assert_eq!(verdict("proxy_cpu_per_call", 100e3, Moves::default()), Verdict::CannotTell);
        // 25 µs are nothing to a latency of 5 ms.
        assert_eq!(verdict("latency_p50", 5e6, Moves::default()), Verdict::Worse);
    }
}
