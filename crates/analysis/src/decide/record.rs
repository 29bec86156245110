//! What a decision holds, and what is read out of it.

use std::path::PathBuf;

use measure::{calculator::Calculator, record::Layer, statistics::interval};
use schemars::JsonSchema;
use serde::Serialize;

use super::{BreakEven, Change, Costs, PEERS, Situation, TailRow};
use crate::{
    estimate::{Estimate, FEWEST_REPEATS},
    findings::Sentence,
    model::Mark,
};

/// What many runs say together. Times are nanoseconds, shares and rates are fractions.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "layerlab decision")]
pub struct Decision {
    /// Version of this format.
    pub format: u32,
    /// The machine all runs were made on.
    pub machine: String,
    /// Level of the intervals.
    pub level: f64,
    /// Figures within this part of each other count as alike.
    pub alike_within: f64,
    /// What is said first.
    pub answer: Vec<Finding>,
    /// In which situation each choice is the right one.
    pub situations: Vec<Situation>,
    /// What each peer costs; none when no run has a proxy.
    pub costs: Option<Costs>,
    /// From which service time on L7 costs less than L4's imbalance wastes.
    pub break_even: Vec<BreakEven>,
    /// Tail latency of balancing calls beside balancing connections.
    pub tails: Vec<TailRow>,
    /// What became of calls when backends came and went.
    pub changes: Vec<Change>,
    /// The runs it rests on, with the figures of every peer; one entry a point where
    /// a setting differs between trials, and one without peers for a search.
    pub runs: Vec<RunUsed>,
    /// Folders that are not used, and why.
    pub left_out: Vec<LeftFolder>,
    /// What the reader must know of the runs as a whole.
    pub notes: Vec<String>,
    /// What the page's calculator answers from; none unless it was simulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calculator: Option<Calculator>,
}

/// One sentence with what it rests on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Finding {
    /// What it is about, for scripts.
    pub id: String,
    /// Whether the data supports it.
    pub status: Status,
    /// The sentence.
    #[schemars(with = "String")]
    pub sentence: Sentence,
    /// Where it can be seen.
    pub evidence: Vec<Evidence>,
}

/// Whether the data supports a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The interval leaves no doubt.
    Conclusive,
    /// It was measured, and the interval is too wide, or there is none.
    Inconclusive,
    /// It was not measured.
    NotMeasured,
}

/// Where something can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Evidence {
    /// The scenario.
    pub scenario: String,
    /// What was set with `--set`.
    pub settings: Vec<String>,
    /// The point, where a setting differs between trials.
    pub point: Option<String>,
    /// The run folder, from the folder of the page.
    pub folder: String,
    /// The part of its report.html.
    pub anchor: String,
    /// Whether the whole run is in doubt.
    pub in_doubt: bool,
    /// The report from the page, escaped.
    #[serde(skip)]
    pub link: String,
}

/// A figure over trials with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Value {
    /// The median over the trials; of a ratio or a difference, that of the medians.
    pub value: f64,
    /// Where the true one lies; none with fewer than three trials.
    pub interval: Option<(f64, f64)>,
    /// How many trials it rests on.
    pub trials: usize,
}

/// A run the decision rests on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunUsed {
    /// Where it lies.
    pub evidence: Evidence,
    /// The same for those who open it.
    #[serde(skip)]
    pub path: PathBuf,
    /// What it asks.
    pub question: String,
    /// Start of the run, RFC 3339 in UTC.
    pub started_utc: String,
    /// The load in a few words.
    pub load: String,
    /// Whether latency counts from the schedule.
    pub open_loop: bool,
    /// Claims of the scenario that held, that failed, and that could not be judged.
    pub expectations: Claims,
    /// What puts the whole run in doubt.
    pub doubts: Vec<String>,
    /// Its peers.
    pub peers: Vec<PeerRow>,
}

/// What came of a scenario's claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Claims {
    /// That held.
    pub held: usize,
    /// That failed.
    pub failed: usize,
    /// That could not be judged.
    pub not_judged: usize,
}

/// One peer in one scenario.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PeerRow {
    /// Its name.
    pub peer: String,
    /// Its layer.
    pub layer: Option<Layer>,
    /// Whether the kernel balances, so that no process shows what it costs.
    pub in_kernel: bool,
    /// Its mark.
    #[serde(skip)]
    pub mark: Mark,
    /// Why it has no figures; none when it has some.
    pub missing: Option<String>,
    /// Largest share of calls that one backend got.
    pub max_share: Option<Value>,
    /// Half of the calls were at least this fast.
    pub latency_p50_ns: Option<Value>,
    /// 99 of 100 calls were at least this fast.
    pub latency_p99_ns: Option<Value>,
    /// Part of the calls that failed or had no answer.
    pub lost_rate: Option<Value>,
    /// How many these are.
    pub lost_calls: u64,
    /// CPU time of the proxy per call.
    pub proxy_cpu_ns: Option<Value>,
    /// Kinds of figures that warnings put in doubt.
    pub doubts: usize,
}

/// A folder that is not used.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LeftFolder {
    /// The folder, from the folder of the page.
    pub folder: String,
    /// Why.
    pub reason: String,
    /// Whether only because another run of the same question is used.
    pub superseded: bool,
}

impl From<Estimate> for Value {
    fn from(estimate: Estimate) -> Self {
        Self { value: estimate.value, interval: estimate.interval, trials: estimate.trials }
    }
}

impl Evidence {
    /// The scenario with its settings.
    pub fn name(&self) -> String {
        let name = if self.settings.is_empty() {
            self.scenario.clone()
        } else {
            format!("{} with {}", self.scenario, self.settings.join(", "))
        };
        match &self.point {
            Some(point) => format!("{name} at {point}"),
            None => name,
        }
    }
}

impl Value {
    /// A ratio, or another centre over trials.
    pub(crate) fn of_ratio(ratio: interval::Estimate) -> Self {
        let interval = ratio.ends().filter(|_| ratio.trials >= FEWEST_REPEATS);
        Self { value: ratio.centre, interval, trials: ratio.trials }
    }

    /// The same in another unit.
    pub fn scaled(self, factor: f64) -> Self {
        let interval = self.interval.map(|(low, high)| (low * factor, high * factor));
        Self { value: self.value * factor, interval, ..self }
    }
}

impl Status {
    pub(super) fn of(is_conclusive: bool) -> Self {
        if is_conclusive { Self::Conclusive } else { Self::Inconclusive }
    }
}

impl Finding {
    pub(crate) fn new(
        id: &str,
        status: Status,
        sentence: Sentence,
        evidence: Vec<Evidence>,
    ) -> Self {
        Self { id: id.to_owned(), status, sentence, evidence }
    }
}

impl Decision {
    /// What is not decided yet: what is missing, of which scenarios, and the command that
    /// makes up for it.
    pub fn still_open(&self) -> Vec<(&'static str, Vec<&str>, String)> {
        let run = |more: &str| format!("cargo run -p loadgen -- {more}");
        let of = |is_one: &dyn Fn(&Situation) -> bool| -> Vec<&str> {
            let own = self.situations.iter().filter(|one| is_one(one));
            own.map(|one| one.scenario.as_str()).collect()
        };
        let is_missing = |one: &Situation| one.finding.status == Status::NotMeasured;
        let never = of(&|one| is_missing(one) && one.finding.evidence.is_empty());
        let partly = of(&|one| is_missing(one) && !one.finding.evidence.is_empty());
        let undecided = of(&|one| one.finding.status == Status::Inconclusive);
        let all = [
            (
                "Measured, but no verdict from so few repeats:",
                undecided,
                run("--scenario NAME --repeats 9"),
            ),
            (
                "Measured, but not with both layers:",
                partly,
                run(&format!("--scenario NAME --peers {PEERS}")),
            ),
            ("Not measured:", never, run("all --every")),
        ];
        all.into_iter().filter(|(_, scenarios, _)| !scenarios.is_empty()).collect()
    }

    /// The situations of which the data supports what is said, without the asides.
    pub fn verdicts(&self) -> impl Iterator<Item = &Situation> {
        let is_verdict =
            |one: &&Situation| one.finding.status == Status::Conclusive && !one.is_aside;
        self.situations.iter().filter(is_verdict)
    }

    /// What the costs say, as far as the data supports it.
    pub fn cost_findings(&self) -> impl Iterator<Item = &Finding> {
        let all = self.costs.iter().flat_map(|costs| &costs.findings);
        all.filter(|one| one.status == Status::Conclusive)
    }

    /// Which runs are in doubt, and why they were used all the same.
    pub fn doubt(&self) -> Option<String> {
        let doubtful: Vec<String> = self
            .folders()
            .into_iter()
            .filter(|run| !run.doubts.is_empty())
            .map(|run| Evidence { point: None, ..run.evidence.clone() }.name())
            .collect();
        (!doubtful.is_empty()).then(|| {
            let all = self.folders().len();
            format!(
                "{} of {all} runs are in doubt, since the machine was not quiet or the generator itself \
                 was late, and there is no better run of the same scenario: {}.",
                doubtful.len(),
                doubtful.join(", ")
            )
        })
    }

    /// Runs that were not used, and what differs between those that were.
    pub fn noted(&self) -> Vec<String> {
        let left = self.left_out.iter().filter(|left| !left.superseded);
        let left = left.map(|left| format!("{} is not used: {}.", left.folder, left.reason));
        left.chain(self.notes.clone()).collect()
    }

    /// The runs it rests on, each once.
    pub fn folders(&self) -> Vec<&RunUsed> {
        let mut runs: Vec<&RunUsed> = Vec::new();
        for run in &self.runs {
            if runs.iter().all(|known| known.path != run.path) {
                runs.push(run);
            }
        }
        runs
    }
}
