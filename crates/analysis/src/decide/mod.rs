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
//! | `record` | what a decision holds |
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
mod record;
mod run_view;
mod situations;
mod sweeps;
mod tail;
mod wording;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use measure::{figure::Figure, folder::FolderError, record::Verdict};

pub use self::{
    change::{Change, FaultSettled, until},
    cost::{CostRow, Costs},
    even::BreakEven,
    record::{Claims, Decision, Evidence, Finding, LeftFolder, PeerRow, RunUsed, Status, Value},
    situations::{Choice, Situation, scenarios},
    tail::TailRow,
    wording::micros,
};
use crate::{
    estimate::LEVEL,
    index::{REPORT_FILE, escape_path},
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
