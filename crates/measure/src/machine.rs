//! The machine of a run: what it is, and what was spent of it and by whom.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine and the software a run was made on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Kernel name and release.
    pub kernel: String,
    /// CPU model, as the kernel names it.
    pub cpu_model: String,
    /// Logical CPUs available to the lab.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Frequency governor, where there is one.
    pub governor: Option<String>,
    /// Load average over one minute, at the start.
    pub load_average_1m: f64,
    /// Which CPUs each part was pinned to; empty when nothing was.
    pub placement: BTreeMap<String, Vec<u32>>,
    /// Version of layerlab.
    pub layerlab_version: String,
    /// Git revision of the checkout, with `-dirty` when it had changes.
    pub git_revision: Option<String>,
    /// Cargo profile layerlab was built with, and its optimisation level.
    pub build_profile: String,
    /// Version of the Rust compiler.
    pub rustc: String,
    /// Limit on open descriptors in force.
    pub open_files_limit: u64,
    /// Why instructions were not counted; none where they were, and in records from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_instructions: Option<String>,
}

/// What a process is in a trial.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ProcessRole {
    /// The load generator.
    Generator,
    /// The peer's proxy, its whole process tree.
    Proxy,
    /// A backend.
    Backend,
    /// The relay that the lab puts before a server of the user's own, to tell from
    /// which one an answer comes.
    Tap,
    /// The relay of links that take time.
    Links,
}

/// What one process spent during the measured window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessCost {
    /// What it is.
    pub role: ProcessRole,
    /// Its name (`b0`, `l7`, `generator`).
    pub name: String,
    /// CPU time in user mode.
    pub user_ns: u64,
    /// CPU time in the kernel on its behalf.
    pub system_ns: u64,
    /// Times it gave the CPU up to wait.
    pub voluntary_switches: u64,
    /// Times the kernel took the CPU away.
    pub involuntary_switches: u64,
    /// Nanoseconds in which its threads were ready to run and had no CPU. Zero in
    /// records from before it was read.
    #[serde(default)]
    pub waited_ns: u64,
    /// Resident memory at the window's end, in bytes.
    pub rss_bytes: u64,
    /// Largest resident memory so far, in bytes.
    pub rss_peak_bytes: u64,
    /// Instructions that it executed; none where the machine does not count them
    /// ([`Environment::no_instructions`]), and in records from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Instructions>,
}

/// Instructions by the mode that the CPU was in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instructions {
    /// In user mode.
    pub user: u64,
    /// In the kernel on its behalf.
    pub kernel: u64,
}

/// What the whole machine spent during the measured window, over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineCost {
    /// User mode, niced included.
    pub user_ns: u64,
    /// Kernel mode, interrupts included.
    pub system_ns: u64,
    /// Idle, waiting for I/O included.
    pub idle_ns: u64,
    /// Taken by the hypervisor for other guests.
    pub steal_ns: u64,
    /// Time the lab's control group had to pause because its CPU quota was used up;
    /// summed over CPUs. Zero without a quota.
    #[serde(default)]
    pub throttled_ns: u64,
    /// Where the sum of user and kernel mode comes from; its split is always by ticks.
    #[serde(default)]
    pub busy_source: BusySource,
}

/// How the kernel tells the CPU time of a whole machine, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BusySource {
    /// `/proc/schedstat`: nanoseconds that tasks ran, per CPU.
    Schedstat,
    /// `cpuacct.usage` of the root control group (cgroup v1): nanoseconds.
    Cpuacct,
    /// `/proc/stat`: sampled at each tick, which misses work in pieces shorter than
    /// one and is 10 to 40 % low where calls are small.
    #[default]
    Ticks,
}

/// What was taken from the machine during the measured window, looked at about every 10 ms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disturbance {
    /// How often it was looked at.
    pub samples: u32,
    /// Of those, how often more than a quarter of the machine's CPU time had gone elsewhere.
    pub disturbed: u32,
    /// What the hypervisor gave to other guests.
    pub steal_ns: u64,
    /// How long the lab was stopped by a CPU quota.
    pub throttled_ns: u64,
    /// What was spent by others than the lab's processes; zero where the kernel counts the
    /// machine's CPU time in ticks only, and where not all of the processes are the lab's.
    pub neighbours_ns: u64,
    /// Whether the trial was measured again, so that it is in no figure.
    #[serde(default)]
    pub is_replaced: bool,
}

/// The part of the machine's CPU time from which on a sample counts as disturbed: half a
/// core of two.
const DISTURBED_SAMPLE: f64 = 0.25;

/// The part of a trial's samples from which on it counts as disturbed. A tenth is what
/// already makes the whole of a p99.
const DISTURBED_TRIAL: f64 = 0.10;

impl Disturbance {
    /// Adds a look: of `all_ns` of CPU time since the last one, what went elsewhere.
    pub fn add(&mut self, all_ns: u64, steal_ns: u64, throttled_ns: u64, neighbours_ns: u64) {
        let taken_ns = (steal_ns + throttled_ns + neighbours_ns) as f64;
        self.samples += 1;
        self.disturbed += u32::from(taken_ns > DISTURBED_SAMPLE * all_ns as f64);
        self.steal_ns += steal_ns;
        self.throttled_ns += throttled_ns;
        self.neighbours_ns += neighbours_ns;
    }

    /// The part of the samples that was disturbed.
    pub fn share(&self) -> f64 {
        f64::from(self.disturbed) / f64::from(self.samples.max(1))
    }

    /// Whether so much was taken that the trial should be measured again.
    pub fn is_beyond_bound(&self) -> bool {
        self.share() > DISTURBED_TRIAL
    }
}
