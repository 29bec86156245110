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

mod compared;
mod pairs;
mod rows;
mod searches;
mod warnings;

use measure::{
    figure::Figure,
    folder::Run,
    record::{LoopMode, RunRecord},
    statistics::signed_rank::fewest_pairs,
};
use schemars::JsonSchema;
use serde::Serialize;

pub use self::compared::Moves;
use self::{
    compared::{COMPARED, Compared},
    rows::{Asked, How, of_trials, points_of},
    searches::row_of_search,
    warnings::{too_few, warnings},
};
use crate::verdict::Verdict;

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
    /// mean over the trials wherever none is zero, and of interleaved repeats the centre of
    /// both sides without half of the change, so that the change is that of the two numbers
    /// shown.
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
    /// the machine in a repeat slowed both. Which of them came first is to have been left to
    /// chance. Repeats are looked at while they are added; `error` is what this look may err
    /// by, shared among the figures, and comes from a
    /// [`Spending`](measure::statistics::stopping::Spending) at [`INTERLEAVED_LEVEL`].
    /// `figures` are those compared; all unless given. A difference of `detect` is what is
    /// looked for: figures that are known to differ by less are the same.
    ///
    /// # Errors
    /// When their figures mean different things, or there are none in both.
    pub fn interleaved(
        (before, after): (&Run, &Run),
        figures: &[Figure],
        detect: f64,
        error: f64,
    ) -> Result<Self, NotComparable> {
        check(&before.record, &after.record)?;
        let chosen = |one: &&Compared| figures.is_empty() || figures.contains(&one.figure);
        let compared: Vec<Compared> = COMPARED.iter().filter(chosen).copied().collect();
        let peers = before.record.peers.len().max(1) * points_of(before).len().max(1);
        let shared = (peers * compared.len()).max(1);
        let level = 1.0 - error / shared as f64;
        let asked = Asked { tolerance: detect, how: How::Interleaved, level };
        let rows = of_trials(before, after, &compared, asked);
        if rows.is_empty() {
            return Err(NotComparable::NothingInCommon);
        }
        let repeats = before.trials.iter().map(|trial| trial.repeat as usize + 1).max();
        let mut warnings = warnings(&before.record, &after.record);
        warnings.extend(pairs::uneven(before, after));
        if repeats.is_none_or(|repeats| repeats < fewest_pairs(level)) {
            warnings.push(format!(
                "Under {} repeats of each nothing can be told at this level; give it more time \
                 (--budget), or shorter trials.",
                fewest_pairs(level)
            ));
        }
        Ok(Self {
            before: before.record.scenario.clone(),
            after: after.record.scenario.clone(),
            tolerance: detect,
            moves: Moves { cpu: 0.0, latency_ns: 0.0 },
            level: INTERLEAVED_LEVEL,
            level_of_each: level,
            warnings,
            rows,
            interleaved: repeats,
        })
    }

    /// The figures that can be compared.
    pub fn figures() -> impl Iterator<Item = Figure> {
        COMPARED.iter().map(|one| one.figure)
    }

    /// Whether of some figure it can't be told if it got worse.
    pub fn is_inconclusive(&self) -> bool {
        self.count(Verdict::Inconclusive) > 0
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
