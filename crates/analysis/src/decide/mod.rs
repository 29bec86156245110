//! The decision: many runs, read by somebody who has to choose a balancer tomorrow.
//!
//! A report answers the question of one scenario. A decision puts the newest run of
//! each beside the others and says what the choice costs, what it saves, what happens
//! when backends come and go, from where on one choice pays, and in which situation
//! each is the right one. No verdict is written down beforehand: a sentence names a
//! choice only where the interval of the measured difference supports it, and says
//! otherwise that the data can't tell, or which scenario has to be run.
//!
//! | module | job |
//! |---|---|
//! | `gather` | which runs count, and why others don't |
//! | `run_view` | a run as the decision looks at it |
//! | `situations` | the situations, each with the scenario that shows it |
//! | `policies`, `sweeps` | which policy, and from where on |
//! | `fleets` | what several balancers make of a policy |
//! | `cost`, `tail`, `change`, `even` | CPU, tail latency, faults, break-even |
//! | `answer` | what is said first |
//!
//! Left out: figures of different runs are never subtracted or divided. Runs were not
//! interleaved, and what differs may be the machine's doing.

mod answer;
mod change;
mod cost;
mod even;
mod fleets;
mod gather;
pub mod policies;
mod run_view;
mod situations;
mod sweeps;
mod tail;
mod wording;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use measure::{
    calculator::Calculator,
    figure::Figure,
    folder::FolderError,
    record::{Layer, Verdict},
    statistics::interval,
};
use schemars::JsonSchema;
use serde::Serialize;

pub use self::{
    change::{Change, FaultSettled, until},
    cost::{CostRow, Costs},
    even::BreakEven,
    situations::{Choice, Situation, scenarios},
    tail::TailRow,
    wording::micros,
};
use crate::{
    estimate::{Estimate, FEWEST_REPEATS, LEVEL},
    findings::Sentence,
    index::{REPORT_FILE, escape_path},
    model::Mark,
};

/// Version of the decision's JSON.
const FORMAT: u32 = 2;
/// The page's name in a results folder.
pub const PAGE: &str = "decision.html";
/// The peers that a comparison of all choices needs, where the backends stay the same: two
/// clients that differ in how they learn of others differ in nothing then.
const PEERS: &str = "direct,l4,l7,client-dns";
/// The page from a run's report.
const FROM_RUN: &str = "../../decision.html";

/// A decision that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder can't be listed.
    #[error("{}: {error}; give a results folder, or run folders", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// No folder holds a run.
    #[error(
        "no run in {}; `cargo run -p loadgen -- --scenario single-conn-flood` makes the first",
        list(.0)
    )]
    NoRuns(Vec<PathBuf>),
    /// There are runs, and none can be used.
    #[error("none of {} runs can be used; {}: {reason}", .count, folder.display())]
    NothingUsable {
        /// How many there are.
        count: usize,
        /// One of them.
        folder: PathBuf,
        /// Why it can't.
        reason: String,
    },
    /// A run folder can't be read.
    #[error(transparent)]
    Run(#[from] FolderError),
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

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
    fn of(is_conclusive: bool) -> Self {
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
    /// What the runs in some folders say together: run folders, or folders with runs
    /// in them. `page` is where the page will stand, for its links.
    ///
    /// # Errors
    /// When a folder can't be listed, or no run in them can be used.
    pub fn of(folders: &[PathBuf], page: &Path) -> Result<Self, Error> {
        let gathered = gather::gather(folders)?;
        let Some(first) = gathered.chosen.first() else {
            let (count, one) = (gathered.left.len(), gathered.left.into_iter().next());
            let one = one.ok_or_else(|| Error::NoRuns(folders.to_vec()))?;
            return Err(Error::NothingUsable { count, folder: one.folder, reason: one.reason });
        };
        let machine = gather::machine(&first.run.record);
        let beside = folder_of(page);
        let run_view::RunViews { runs: views, searches } = run_view::all(&gathered.chosen, beside);
        let situations = situations::of(&views, &searches);
        let costs = cost::of(&views);
        let break_even = even::of(&views);
        Ok(Self {
            format: FORMAT,
            machine,
            level: LEVEL,
            alike_within: crate::verdict::ALIKE,
            answer: answer::of(&situations, costs.as_ref(), &break_even),
            costs,
            break_even,
            tails: tail::of(&views),
            changes: change::of(&views),
            runs: views.iter().chain(&searches).map(used).collect(),
            left_out: gathered
                .left
                .iter()
                .map(|left| LeftFolder {
                    folder: gather::relative(beside, &left.folder),
                    reason: left.reason.clone(),
                    superseded: left.superseded,
                })
                .collect(),
            notes: notes(&gathered.chosen),
            calculator: None,
            situations,
        })
    }

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

fn used(view: &run_view::RunView<'_>) -> RunUsed {
    let run = &view.model.run;
    let is_search = run.search.is_some();
    let count = |verdict| run.expectations.iter().filter(|one| one.verdict == verdict).count();
    RunUsed {
        evidence: view.cite("answer"),
        path: view.chosen.folder.clone(),
        question: run.question.clone(),
        started_utc: run.started_utc.clone(),
        load: run_view::load(run),
        open_loop: view.model.open_loop(),
        expectations: Claims {
            held: count(Verdict::Held),
            failed: count(Verdict::Failed),
            not_judged: count(Verdict::NotJudged),
        },
        doubts: view.chosen.doubts.clone(),
        peers: view
            .model
            .peers
            .iter()
            .filter(|_| !is_search)
            .map(|peer| {
                let value = |figure: Figure| peer.estimate(figure).map(Value::from);
                PeerRow {
                    peer: peer.name.clone(),
                    layer: peer.setup.map(|setup| setup.layer),
                    in_kernel: peer.setup.is_some_and(|setup| setup.in_kernel),
                    mark: peer.mark,
                    missing: peer.missing(),
                    max_share: value(Figure::MaxShare),
                    latency_p50_ns: value(Figure::LatencyP50),
                    latency_p99_ns: value(Figure::LatencyP99),
                    lost_rate: run_view::lost_rate(peer).map(Value::from),
                    lost_calls: peer.lost().0,
                    proxy_cpu_ns: value(Figure::ProxyCpuPerCall),
                    doubts: peer.affected.len(),
                }
            })
            .collect(),
    }
}

/// What differs between the runs beside what they ask.
fn notes(chosen: &[gather::Chosen]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut differ = |what: &str, of: fn(&gather::Chosen) -> String, advice: &str| {
        let mut all: Vec<String> = chosen.iter().map(of).collect();
        all.sort();
        all.dedup();
        if all.len() > 1 {
            notes.push(format!(
                "The runs were made with different {what}: {}. {advice}",
                all.join("; ")
            ));
        }
    };
    differ(
        "kernels",
        |one| one.run.record.environment.kernel.clone(),
        "Compare peers within a scenario, and less from one scenario to another.",
    );
    differ(
        "build profiles of layerlab",
        |one| one.run.record.environment.build_profile.clone(),
        "The lab's own peers cost differently in them; run all scenarios with one.",
    );
    differ(
        "revisions of layerlab",
        |one| {
            let revision = one.run.record.environment.git_revision.clone();
            revision.unwrap_or_else(|| "an unknown one".to_owned())
        },
        "Its own peers may differ between them.",
    );
    notes
}

/// The way from a run's report to the decision, where there is one: the page lies in
/// the results folder, above the scenario's.
pub fn beside_run(run: &Path) -> Option<&'static str> {
    let run = fs::canonicalize(run).ok()?;
    run.parent()?.parent()?.join(PAGE).is_file().then_some(FROM_RUN)
}

/// The folder a page stands in.
pub fn folder_of(page: &Path) -> &Path {
    page.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where the report of a run lies, from a page in `beside`.
fn link_to(folder: &Path, beside: &Path) -> String {
    escape_path(&gather::relative(beside, &folder.join(REPORT_FILE)))
}
