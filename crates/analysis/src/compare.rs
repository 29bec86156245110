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
//! A change counts only when its whole interval lies beyond the tolerance. The interval
//! is taken at a level that shares the 5 % of error among all figures looked at
//! (Bonferroni), since otherwise a run of many peers would be accused the more often the
//! more it shows. It is the one that is printed, too.
//!
//! Of runs that search, what is compared is the rate they found: the rates that one of
//! them tried are not those of the other. What a search knows are the ends of what was
//! seen, which stand in for an interval of trials ([`measure::summary::saturation`]).

use measure::{
    figure::{Figure, Figures},
    folder::Run,
    record::{LoopMode, RunRecord, SearchLimit, SearchRecord},
    statistics::{
        interval::{over_trials, ratio_of_runs, ratio_paired},
        median,
    },
    summary::{Saturation, is_measured, saturation},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{model::Model, verdict::Verdict};

/// Level of all intervals of a comparison together.
pub const LEVEL: f64 = 0.95;
/// Level of all intervals of interleaved repeats together. Whoever repeats until the
/// answer is known asks for much and can have it: of a hundred comparisons of equal sides
/// one at most is to find a difference.
pub const INTERLEAVED_LEVEL: f64 = 0.995;
/// Trials that each run needs before anything is told.
const LEAST_TRIALS: usize = 3;
/// Searches of a peer that each run needs: each is of many trials, and knows two ends.
const LEAST_SEARCHES: usize = 2;

/// What equal runs on one machine move by, as a standard deviation. Two runs can't
/// show it; it is known from many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug)]
struct Compared {
    figure: Figure,
    title: &'static str,
    kind: Kind,
    lower_is_better: bool,
}

const COMPARED: &[Compared] = &[
    Compared::latency(Figure::LatencyP50, "latency p50"),
    Compared::latency(Figure::LatencyP90, "latency p90"),
    Compared::latency(Figure::LatencyP99, "latency p99"),
    Compared::cpu(Figure::ProxyCpuPerCall, "proxy CPU per call"),
    Compared::cpu(Figure::BackendCpuPerCall, "backend CPU per call"),
    Compared {
        figure: Figure::Throughput,
        title: "calls per second",
        kind: Kind::Count,
        lower_is_better: false,
    },
    Compared {
        figure: Figure::MaxShare,
        title: "busiest backend",
        kind: Kind::Count,
        lower_is_better: true,
    },
];

impl Compared {
    const fn latency(figure: Figure, title: &'static str) -> Self {
        Self { figure, title, kind: Kind::Latency, lower_is_better: true }
    }

    const fn cpu(figure: Figure, title: &'static str) -> Self {
        Self { figure, title, kind: Kind::Cpu, lower_is_better: true }
    }
}

/// What two runs say about each other.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "layerlab comparison")]
pub struct Comparison {
    /// The run compared with: its scenario and start.
    pub before: String,
    /// The run that is judged.
    pub after: String,
    /// Changes within this fraction are none.
    pub tolerance: f64,
    /// What runs are taken to move by without any reason.
    pub moves: Moves,
    /// Level of all intervals together: the chance that each of them holds.
    pub level: f64,
    /// Level of each interval by itself, so that they come to that.
    pub level_of_each: f64,
    /// Every figure of every peer that both runs have.
    pub rows: Vec<Row>,
    /// What makes the two hard to compare.
    pub warnings: Vec<String>,
    /// How many repeats were interleaved; none for two runs made at different times.
    pub interleaved: Option<usize>,
}

/// One figure of one peer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Row {
    /// The peer.
    pub peer: String,
    /// The figure, in words.
    pub figure: String,
    /// Its centre before; times in nanoseconds, shares as fractions. It is the geometric
    /// mean over the trials wherever none is zero, so that the change is that of the two
    /// numbers shown.
    pub before: f64,
    /// Its centre after.
    pub after: f64,
    /// After over before.
    pub ratio: f64,
    /// The interval of that ratio, which the verdict goes by; none with too few trials.
    pub interval: Option<(f64, f64)>,
    /// What is told of it.
    pub verdict: Verdict,
    /// Whether warnings of one of the runs put the figure in doubt, so that it is no
    /// reason to fail.
    pub in_doubt: bool,
    /// The change for the worse that would have been told nine times of ten, as a fraction
    /// of what was before; none without an interval.
    pub would_see: Option<f64>,
    /// The figure it is printed as.
    #[serde(skip)]
    pub shown: Figure,
}

/// Two runs whose figures mean different things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotComparable {
    /// They ask different questions.
    #[error(
        "the runs are of different scenarios, `{before}` and `{after}`, which ask different \
         questions; give two runs of one scenario"
    )]
    Scenario {
        /// That of the first run.
        before: String,
        /// That of the second.
        after: String,
    },
    /// Latency counts from the schedule in one, and from the sending in the other.
    #[error(
        "one run is of an open loop and the other of a closed one, whose latencies count from \
         different moments; run both with the same `load.loop`"
    )]
    Loop,
    /// They searched for different things.
    #[error(
        "the runs searched for different objectives, `{before}` and `{after}`; run both with the \
         same `load.search.slo`"
    )]
    Objective {
        /// That of the first run.
        before: String,
        /// That of the second.
        after: String,
    },
    /// No peer has figures in both.
    #[error("the two runs have no measured peer in common")]
    NothingInCommon,
}

impl Comparison {
    /// Compares two runs. `tolerance` is a fraction: 0.05 for 5 %.
    ///
    /// # Errors
    /// When their figures mean different things, or there are none in both.
    pub fn of(
        before: &Run,
        after: &Run,
        tolerance: f64,
        moves: Moves,
    ) -> Result<Self, NotComparable> {
        check(&before.record, &after.record)?;
        let searches = before.record.search.as_ref().zip(after.record.search.as_ref());
        let peers = before.record.peers.len().max(1);
        let looks = match searches {
            Some(_) => peers,
            None => peers * points_of(before).len().max(1) * COMPARED.len(),
        };
        let level = 1.0 - (1.0 - LEVEL) / looks as f64;
        let asked = Asked { tolerance, how: How::Apart(moves), level };
        let rows = match searches {
            Some(searches) => {
                let peers = before.record.peers.iter();
                peers.filter_map(|peer| row_of_search(&peer.name, searches, asked)).collect()
            }
            None => of_trials(before, after, COMPARED, asked),
        };
        if rows.is_empty() {
            return Err(NotComparable::NothingInCommon);
        }
        let name = |run: &RunRecord| format!("{} of {}", run.scenario, run.started_utc);
        let mut warnings = warnings(&before.record, &after.record);
        warnings.extend(too_few(&before.record, &rows));
        Ok(Self {
            before: name(&before.record),
            after: name(&after.record),
            tolerance,
            moves,
            level: LEVEL,
            level_of_each: asked.level,
            warnings,
            rows,
            interleaved: None,
        })
    }

    /// Whether something got worse that no warning puts in doubt.
    pub fn has_regressed(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Worse && !row.in_doubt)
    }

    /// Compares two sides whose trials were made in turn, repeat by repeat: what slowed
    /// the machine in a repeat slowed both. Repeats are looked at `looks` times while they
    /// are added, and the error is shared among the looks as well. `figures` are those
    /// compared; all unless given. A difference of `detect` is what is looked for: figures
    /// that are known to differ by less are the same.
    ///
    /// # Errors
    /// When their figures mean different things, or there are none in both.
    pub fn interleaved(
        (before, after): (&Run, &Run),
        figures: &[Figure],
        detect: f64,
        looks: usize,
    ) -> Result<Self, NotComparable> {
        check(&before.record, &after.record)?;
        let chosen = |one: &&Compared| figures.is_empty() || figures.contains(&one.figure);
        let compared: Vec<Compared> = COMPARED.iter().filter(chosen).copied().collect();
        let peers = before.record.peers.len().max(1) * points_of(before).len().max(1);
        let shared = (peers * compared.len() * looks).max(1);
        let level = 1.0 - (1.0 - INTERLEAVED_LEVEL) / shared as f64;
        let asked = Asked { tolerance: detect, how: How::Interleaved, level };
        let rows = of_trials(before, after, &compared, asked);
        if rows.is_empty() {
            return Err(NotComparable::NothingInCommon);
        }
        let repeats = before.trials.iter().map(|trial| trial.repeat).max();
        Ok(Self {
            before: before.record.scenario.clone(),
            after: after.record.scenario.clone(),
            tolerance: detect,
            moves: Moves { cpu: 0.0, latency_ns: 0.0 },
            level: INTERLEAVED_LEVEL,
            level_of_each: level,
            warnings: warnings(&before.record, &after.record),
            rows,
            interleaved: repeats.map(|repeat| repeat as usize + 1),
        })
    }

    /// The figures that can be compared.
    pub fn figures() -> impl Iterator<Item = Figure> {
        COMPARED.iter().map(|one| one.figure)
    }

    /// Whether of some figure it can't be told if it got worse.
    pub fn is_inconclusive(&self) -> bool {
        self.count(Verdict::CannotTell) > 0
    }

    /// How many rows have a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}

/// Whether the figures of two runs mean the same.
fn check(before: &RunRecord, after: &RunRecord) -> Result<(), NotComparable> {
    if before.scenario != after.scenario {
        let (before, after) = (before.scenario.clone(), after.scenario.clone());
        return Err(NotComparable::Scenario { before, after });
    }
    let is_open = |run: &RunRecord| run.load.mode == LoopMode::Open;
    if is_open(before) != is_open(after) {
        return Err(NotComparable::Loop);
    }
    if let (Some(before), Some(after)) = (&before.search, &after.search)
        && before.slo != after.slo
    {
        let (before, after) = (before.slo.join(" and "), after.slo.join(" and "));
        return Err(NotComparable::Objective { before, after });
    }
    Ok(())
}

/// The rows of runs that measured the same points.
fn of_trials(before: &Run, after: &Run, compared: &[Compared], asked: Asked) -> Vec<Row> {
    let models = [before, after].map(|run| Model::new(&run.record, &run.trials));
    let mut rows = Vec::new();
    for peer in &before.record.peers {
        // Trials at different points of a sweep are different questions.
        for point in points_of(before) {
            let figures = [before, after].map(|run| figures_of(run, &peer.name, point.as_deref()));
            if figures.iter().any(Vec::is_empty) {
                continue;
            }
            let name = match &point {
                Some(point) => format!("{} at {point}", peer.name),
                None => peer.name.clone(),
            };
            // What disturbs the machine disturbs both sides of a repeat.
            let is_apart = matches!(asked.how, How::Apart(_));
            let is_in_doubt = |figure| {
                is_apart
                    && models
                        .iter()
                        .any(|model| is_in_doubt(model, &peer.name, point.as_deref(), figure))
            };
            for compared in compared {
                let values = |figures: &Vec<Figures>| -> Vec<f64> {
                    figures.iter().filter_map(|one| one.get(compared.figure)).collect()
                };
                let row = row(&name, compared, &figures.each_ref().map(values), asked);
                rows.extend(row.map(|row| Row { in_doubt: is_in_doubt(compared.figure), ..row }));
            }
            rows.extend(failures(&name, &figures));
        }
    }
    rows
}

/// What the searches of two runs found for a peer, side by side.
fn row_of_search(
    peer: &str,
    (before, after): (&SearchRecord, &SearchRecord),
    asked: Asked,
) -> Option<Row> {
    let repeats = [before, after].map(|search| {
        search.results.iter().filter(|one| one.peer == peer).map(|one| one.held).collect::<Vec<_>>()
    });
    let enough = repeats.iter().all(|held| held.len() >= LEAST_SEARCHES);
    let nowhere = repeats.each_ref().map(|held| held.iter().all(Option::is_none));
    let found = [before, after].map(|search| saturation(search, peer));
    let (interval, verdict) = match (&found, nowhere) {
        ([None, None], _) => return None,
        ([Some(before), Some(after)], _) => {
            let interval = enough.then(|| ratio_of_rates(before, after, asked));
            (interval, judge(interval, asked.tolerance, false))
        }
        // No rate that was tried holds any more, or the first one does.
        ([Some(before), None], [_, true]) if enough && before.low > 0.0 => (None, Verdict::Worse),
        ([None, Some(after)], [true, _]) if enough && after.low > 0.0 => (None, Verdict::Better),
        _ => (None, Verdict::CannotTell),
    };
    let rate = |found: &Option<Saturation>| found.as_ref().map_or(0.0, |found| found.rate);
    let [before, after] = found.each_ref().map(rate);
    Some(Row {
        peer: peer.to_owned(),
        figure: "rate that holds".to_owned(),
        before,
        after,
        ratio: after / before,
        interval,
        verdict,
        in_doubt: false,
        would_see: None,
        shown: Figure::SaturationRate,
    })
}

/// The ends of what the rates that held may be to each other: those that were seen, and
/// beyond them what runs move by. Where calls wait for a CPU a rate moves as the cost of
/// calls does; where they wait for the service it moves less, which is not known here.
fn ratio_of_rates(before: &Saturation, after: &Saturation, asked: Asked) -> (f64, f64) {
    let still = [1.0, 1.0];
    let moves = match asked.how {
        How::Apart(moves) => moves.cpu,
        How::Interleaved => 0.0,
    };
    let moved = ratio_of_runs(&still, &still, moves, asked.level);
    let widening = moved.and_then(|one| one.interval).map_or(f64::INFINITY, |one| one.high);
    // Where the generator or the list of rates came to its end, the peer's is not known.
    let highest = |found: &Saturation| {
        let ended_early =
            |limit: &SearchLimit| matches!(limit, SearchLimit::Generator | SearchLimit::Ceiling);
        let known = !found.limits.iter().any(ended_early);
        found.high.filter(|_| known).unwrap_or(f64::INFINITY)
    };
    (after.low / highest(before) / widening, highest(after) / before.low * widening)
}

/// Whether warnings put a figure of a peer in doubt, at a point or in all of a run.
fn is_in_doubt(model: &Model<'_>, peer: &str, point: Option<&str>, figure: Figure) -> bool {
    let at_point = model.sweep.iter().flat_map(|sweep| &sweep.points);
    let mut at_point = at_point.filter(|one| Some(one.value) == point);
    let model = at_point.next().map_or(model, |point| &point.model);
    model.peers.iter().any(|view| view.name == peer && view.is_in_doubt(figure))
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

/// How the trials of the two sides stand to each other.
#[derive(Clone, Copy, Debug)]
enum How {
    /// They were made at different times, and moved as said.
    Apart(Moves),
    /// They were made in turn, and those of a repeat are compared with each other.
    Interleaved,
}

/// What a change has to be beyond, and how surely.
#[derive(Clone, Copy, Debug)]
struct Asked {
    tolerance: f64,
    how: How,
    /// Level of the interval that has to lie beyond it.
    level: f64,
}

/// A figure of one peer; `values` are those of its trials, before and after.
fn row(peer: &str, compared: &Compared, values: &[Vec<f64>; 2], asked: Asked) -> Option<Row> {
    let [before, after] = values;
    let centre = |values: &[f64]| over_trials(values, asked.level).map(|one| one.centre);
    let (centre_before, centre_after) = (centre(before)?, centre(after)?);
    let enough = before.len().min(after.len()) >= LEAST_TRIALS;
    let estimate = match asked.how {
        How::Apart(moves) => {
            let moves = moves.of(compared.kind, f64::min(centre_before, centre_after));
            ratio_of_runs(after, before, moves, asked.level)
        }
        How::Interleaved => ratio_paired(after, before, asked.level),
    };
    let interval = estimate.filter(|_| enough).and_then(|one| one.interval);
    let ends = interval.map(|one| (one.low, one.high));
    let verdict = match asked.how {
        How::Apart(_) => judge(ends, asked.tolerance, compared.lower_is_better),
        How::Interleaved => judge_interleaved(ends, asked.tolerance, compared.lower_is_better),
    };
    // What is asked of a figure of runs made apart is to be beyond the tolerance.
    let beyond = match asked.how {
        How::Apart(_) => 1.0 + asked.tolerance,
        How::Interleaved => 1.0,
    };
    Some(Row {
        peer: peer.to_owned(),
        figure: compared.title.to_owned(),
        before: centre_before,
        after: centre_after,
        ratio: estimate.map_or(centre_after / centre_before, |one| one.centre),
        interval: ends,
        verdict,
        in_doubt: false,
        would_see: interval.map(|one| {
            let seen = beyond * one.factor_seen_nine_times_of_ten();
            if compared.lower_is_better { seen - 1.0 } else { 1.0 - 1.0 / seen }
        }),
        shown: compared.figure,
    })
}

/// What an interval of interleaved repeats says: they are the same where all of it is
/// closer to 1 than what is to be found, and differ where none of it is 1.
fn judge_interleaved(interval: Option<(f64, f64)>, detect: f64, lower_is_better: bool) -> Verdict {
    match judge(interval, detect, lower_is_better) {
        Verdict::CannotTell => judge(interval, 0.0, lower_is_better),
        verdict => verdict,
    }
}

/// What an interval of a ratio says.
fn judge(interval: Option<(f64, f64)>, tolerance: f64, lower_is_better: bool) -> Verdict {
    let Some((low, high)) = interval else { return Verdict::CannotTell };
    // A tolerance of 5 % is a factor of 1.05 in either direction.
    let verdict = Verdict::by((low, high), (1.0 / (1.0 + tolerance), 1.0 + tolerance));
    if lower_is_better { verdict } else { verdict.reversed() }
}

/// Failures are counted, and any that were not there before are worse: a ratio to
/// nothing says nothing.
fn failures(peer: &str, figures: &[Vec<Figures>; 2]) -> Option<Row> {
    let rates = |figures: &[Figures]| -> Vec<f64> {
        figures.iter().filter_map(|one| one.get(Figure::ErrorRate)).collect()
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
        in_doubt: false,
        would_see: None,
        shown: Figure::ErrorRate,
    })
}

fn warnings(a: &RunRecord, b: &RunRecord) -> Vec<String> {
    let (machine_a, machine_b) = (&a.environment, &b.environment);
    let mut warnings = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str, advice: &str| {
        if a != b {
            warnings.push(format!("{what} differs: `{a}` before, `{b}` after. {advice}"));
        }
    };
    differ(
        "The machine",
        &format!("{}, {} CPUs", machine_a.cpu_model, machine_a.cpus),
        &format!("{}, {} CPUs", machine_b.cpu_model, machine_b.cpus),
        "What differs may be the machine's doing; compare runs of one machine.",
    );
    let made = |run: &RunRecord| if run.simulation.is_some() { "simulated" } else { "measured" };
    let simulated = "A simulation leaves much out; compare measured runs with measured ones.";
    differ("How figures were made", made(a), made(b), simulated);
    let network = "Every hop costs something else; compare runs on one kind of network.";
    differ("The network", a.network.name(), b.network.name(), network);
    let nodes = "What is on a machine of its own waits for nobody; compare runs on alike nodes.";
    differ("The layout of nodes", &nodes_of(a), &nodes_of(b), nodes);
    let tls = "Encryption costs CPU; compare runs that encrypt the same sides.";
    differ("The side that speaks TLS", a.load.tls.name(), b.load.tls.name(), tls);
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
    warnings
}

fn nodes_of(run: &RunRecord) -> String {
    match &run.cluster {
        None => "no nodes".to_owned(),
        Some(cluster) => {
            format!("{} nodes, machines: {}", cluster.nodes.len(), cluster.machines())
        }
    }
}

/// What to do where a figure has no interval.
fn too_few(run: &RunRecord, rows: &[Row]) -> Option<String> {
    let is_unknown = |row: &Row| row.interval.is_none() && row.verdict == Verdict::CannotTell;
    rows.iter().any(is_unknown).then(|| {
        let (least, what) = match &run.search {
            Some(_) => (LEAST_SEARCHES, "searches"),
            None => (LEAST_TRIALS, "trials"),
        };
        format!("Under {least} {what} of a peer nothing can be told; repeat with --repeats 5.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_all_of_its_interval_is_beyond_the_tolerance() {
        let judged = |low, high, lower_is_better| judge(Some((low, high)), 0.05, lower_is_better);
        let worse = |low, high| judged(low, high, true);
        assert_eq!(worse(1.06, 1.20), Verdict::Worse);
        assert_eq!(worse(1.04, 1.20), Verdict::CannotTell);
        assert_eq!(worse(0.97, 1.04), Verdict::Same);
        assert_eq!(worse(0.80, 0.90), Verdict::Better);
        assert_eq!(judged(0.80, 0.90, false), Verdict::Worse);
        assert_eq!(judged(0.20, f64::INFINITY, false), Verdict::CannotTell);
        assert_eq!(judge(None, 0.05, true), Verdict::CannotTell);
    }

    /// The row of a search that held up to each rate and not 5 % above.
    fn searched(before: &[f64], after: &[f64], limit: SearchLimit) -> Option<Row> {
        let search = |rates: &[f64]| SearchRecord {
            slo: vec!["p99 < 5ms".to_owned()],
            resolution: 0.05,
            results: (0..)
                .zip(rates)
                .map(|(repeat, &rate)| measure::record::SearchResult {
                    peer: "l7".to_owned(),
                    repeat,
                    held: (rate > 0.0).then_some(rate),
                    failed: Some(1.05 * rate.max(10.0)),
                    limit,
                })
                .collect(),
        };
        let asked = Asked { tolerance: 0.05, how: How::Apart(Moves::default()), level: 0.99 };
        let row = |searches| row_of_search("l7", searches, asked);
        row((&search(before), &search(after)))
    }

    #[test]
    fn the_rates_that_searches_found_are_compared() {
        let verdict = |before: &[f64], after: &[f64]| {
            searched(before, after, SearchLimit::Peer).map(|row| row.verdict)
        };
        let row = searched(&[807.0, 807.0, 769.0], &[210.0, 200.0, 210.0], SearchLimit::Peer);
        let row = row.unwrap();
        assert_eq!((row.before, row.after, row.verdict), (807.0, 210.0, Verdict::Worse));
        let (low, high) = row.interval.unwrap();
        assert!(low < 210.0 / 807.0 && high > 210.0 / 807.0 && high < 0.6, "{low} to {high}");
        assert_eq!(row.shown.show(row.before), "807/s");
        assert_eq!(verdict(&[210.0, 210.0], &[807.0, 807.0]), Some(Verdict::Better));
        assert_eq!(verdict(&[210.0, 210.0], &[200.0, 210.0]), Some(Verdict::CannotTell));
        assert_eq!(verdict(&[807.0], &[210.0, 210.0]), Some(Verdict::CannotTell), "too few");
        assert_eq!(verdict(&[807.0, 807.0], &[0.0, 0.0]), Some(Verdict::Worse), "nowhere now");
        assert_eq!(verdict(&[0.0, 0.0], &[807.0, 807.0]), Some(Verdict::Better));
        assert_eq!(verdict(&[807.0, 807.0], &[0.0, 0.0, 800.0]), Some(Verdict::CannotTell));
        assert_eq!(verdict(&[0.0, 0.0], &[0.0, 0.0]), None, "nothing to compare");
        assert_eq!(verdict(&[807.0, 807.0], &[]), Some(Verdict::CannotTell));
        // The generator gave up: what the peer does is not known.
        let row = searched(&[807.0; 3], &[210.0; 3], SearchLimit::Generator).unwrap();
        assert_eq!(row.verdict, Verdict::CannotTell);
        assert_eq!(row.interval.map(|(_, high)| high), Some(f64::INFINITY));
    }

    /// What is shown is what was judged, however many figures share the error.
    #[test]
    fn the_interval_shown_is_the_one_judged() {
        let compared = COMPARED.iter().find(|one| one.figure == Figure::Throughput).unwrap();
        let values = [vec![100.0, 101.0, 99.0, 100.5], vec![92.0, 91.0, 93.0, 92.4]];
        let at = |level| {
            let asked = Asked { tolerance: 0.05, how: How::Apart(Moves::default()), level };
            row("l7", compared, &values, asked).unwrap()
        };
        let (alone, among_many) = (at(0.95), at(0.9999));
        assert_eq!((alone.verdict, among_many.verdict), (Verdict::Worse, Verdict::CannotTell));
        assert!(alone.interval.unwrap().1 < 1.0 / 1.05, "{:?}", alone.interval);
        assert!(among_many.interval.unwrap().1 >= 1.0 / 1.05, "{:?}", among_many.interval);
    }

    /// A machine that is half as fast in every other repeat, and a side that is 4 % slower.
    #[test]
    fn sides_measured_in_turn_are_told_apart_whatever_the_machine_does() {
        let compared = COMPARED.iter().find(|one| one.figure == Figure::ProxyCpuPerCall).unwrap();
        let machine = [100.0, 200.0, 101.0, 199.0, 102.0, 198.0];
        let noise = [1.0, 1.005, 0.995, 1.002, 0.998, 1.0];
        let judged = |factor: f64, detect: f64| {
            let after =
                machine.iter().zip(noise).map(|(one, noise)| one * noise * factor).collect();
            let asked = Asked { tolerance: detect, how: How::Interleaved, level: 0.999 };
            row("l7", compared, &[machine.to_vec(), after], asked).unwrap()
        };
        assert_eq!(judged(1.0, 0.05).verdict, Verdict::Same);
        assert_eq!(judged(1.04, 0.03).verdict, Verdict::Worse);
        assert_eq!(judged(1.01, 0.05).verdict, Verdict::Same, "less than what is looked for");
        assert_eq!(judged(0.9, 0.05).verdict, Verdict::Better);
        assert_eq!(judged(1.0, 0.001).verdict, Verdict::CannotTell);
        let row = judged(1.1, 0.05);
        assert!((row.after / row.before - row.ratio).abs() < 1e-9, "one statistic");
        assert!(row.would_see.is_some_and(|change| (0.005..0.03).contains(&change)));
    }

    /// Five trials that agree, in each of two runs, and CPU a third dearer in the second.
    #[test]
    fn cpu_that_moves_as_runs_do_is_no_regression_by_itself() {
        let trials = |middle: f64| (0..5).map(|i| middle * (1.0 + 0.01 * f64::from(i))).collect();
        let verdict = |figure: Figure, before: f64, moves: Moves| {
            let compared = COMPARED.iter().find(|one| one.figure == figure).unwrap();
            let asked = Asked { tolerance: 0.05, how: How::Apart(moves), level: 0.995 };
            row("l7", compared, &[trials(before), trials(1.36 * before)], asked).unwrap().verdict
        };
        let still = Moves { cpu: 0.0, latency_ns: 0.0 };
        assert_eq!(verdict(Figure::ProxyCpuPerCall, 100e3, still), Verdict::Worse);
        assert_eq!(verdict(Figure::ProxyCpuPerCall, 100e3, Moves::default()), Verdict::CannotTell);
        // 25 µs are nothing to a latency of 5 ms.
        assert_eq!(verdict(Figure::LatencyP50, 5e6, Moves::default()), Verdict::Worse);
    }
}
