//! What takes the machine from the lab while a trial runs, looked at every ten
//! milliseconds or so: over a whole trial a phase of a second disappears in the mean, and
//! a tail latency is made of it all the same.

use std::{path::PathBuf, time::Instant};

use measure::record::Disturbance;
use nix::{sys::time::TimeValLike, time::clock_getcpuclockid, unistd::Pid};

use super::{
    cost::descendants,
    machine::{BusyFile, Ticks, read_throttled_ns, throttle_files},
};

/// Samples between two searches for processes of the lab: proxies start workers, and faults
/// start backends.
const SAMPLES_A_SEARCH: u32 = 100;

/// The samples of one trial.
pub(crate) struct Watch {
    /// Where the CPU time of the machine is read; `None` where it is known by ticks only,
    /// which can't be told apart from the lab's own, and where the lab drives what it did
    /// not start.
    busy: Option<BusyFile>,
    throttle_files: Vec<PathBuf>,
    own: Vec<Process>,
    own_ns: u64,
    samples: u32,
    last: Option<Sample>,
    seen: Disturbance,
}

/// One process of the lab, and the CPU time it had when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: Pid,
    cpu_ns: u64,
}

/// What was spent until a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    cpus: u64,
    steal_ns: u64,
    throttled_ns: u64,
    busy_ns: u64,
    own_ns: u64,
}

impl Process {
    fn find(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().ok()?);
        Some(Self { pid, cpu_ns: cpu_ns(pid)? })
    }

    /// What it spent since it was last looked at; of a process that has ended, nothing is known.
    fn spent_ns(&mut self) -> u64 {
        let before = self.cpu_ns;
        self.cpu_ns = cpu_ns(self.pid).unwrap_or(before);
        self.cpu_ns.saturating_sub(before)
    }
}

impl Watch {
    /// `is_alone` says whether all that is measured was started by the lab.
    pub(crate) fn new(is_alone: bool) -> Self {
        Self {
            busy: BusyFile::find().filter(|_| is_alone),
            throttle_files: throttle_files(),
            own: Vec::new(),
            own_ns: 0,
            samples: 0,
            last: None,
            seen: Disturbance::default(),
        }
    }

    /// Takes one more sample.
    pub(crate) fn sample(&mut self) {
        if self.busy.is_some() && self.samples.is_multiple_of(SAMPLES_A_SEARCH) {
            let own = std::process::id();
            let all = descendants(own).into_iter().chain([own]);
            self.own = all.filter_map(Process::find).collect();
            // What those had spent before they were known is nobody's.
            self.last = None;
        }
        self.samples = self.samples.wrapping_add(1);
        self.own_ns += self.own.iter_mut().map(Process::spent_ns).sum::<u64>();
        let ticks = Ticks::read();
        let sample = Sample {
            at: Instant::now(),
            cpus: ticks.cpus,
            steal_ns: ticks.steal,
            throttled_ns: read_throttled_ns(&self.throttle_files),
            busy_ns: self.busy.as_ref().and_then(BusyFile::read).unwrap_or(0),
            own_ns: self.own_ns,
        };
        if let Some(before) = self.last.replace(sample) {
            add(&mut self.seen, before, sample);
        }
    }

    /// What was seen; `None` without two samples in a row.
    pub(crate) fn recorded(&self) -> Option<Disturbance> {
        (self.seen.samples > 0).then(|| self.seen.clone())
    }
}

fn cpu_ns(pid: Pid) -> Option<u64> {
    let spent = clock_getcpuclockid(pid).ok()?.now().ok()?;
    u64::try_from(spent.num_nanoseconds()).ok()
}

fn add(seen: &mut Disturbance, before: Sample, after: Sample) {
    let all_ns = after.at.saturating_duration_since(before.at).as_nanos() as u64 * after.cpus;
    let steal_ns = after.steal_ns.saturating_sub(before.steal_ns);
    let throttled_ns = after.throttled_ns.saturating_sub(before.throttled_ns);
    let own_ns = after.own_ns.saturating_sub(before.own_ns);
    let busy_ns = after.busy_ns.saturating_sub(before.busy_ns);
    // The readings are made one after the other.
    let neighbours_ns = busy_ns.saturating_sub(own_ns).min(all_ns);
    seen.add(all_ns, steal_ns, throttled_ns, neighbours_ns);
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    #[test]
    fn what_the_lab_spends_is_no_disturbance() {
        let at = Instant::now();
        let sample = |ms: u64, busy_ms: u64, own_ms: u64| Sample {
            at: at + Duration::from_millis(ms),
            cpus: 2,
            steal_ns: 0,
            throttled_ns: 0,
            busy_ns: busy_ms * 1_000_000,
            own_ns: own_ms * 1_000_000,
        };
        let mut seen = Disturbance::default();
        add(&mut seen, sample(0, 100, 40), sample(10, 120, 59));
        assert_eq!((seen.samples, seen.disturbed, seen.neighbours_ns), (1, 0, 1_000_000));
        add(&mut seen, sample(10, 120, 59), sample(20, 140, 70));
        assert_eq!((seen.samples, seen.disturbed, seen.neighbours_ns), (2, 1, 10_000_000));
    }

    /// Work is the lab's own, also while one of its processes ends.
    #[test]
    fn own_work_is_known_as_such() {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut watch = Watch::new(true);
        while cpu_ns(Pid::from_raw(child.id() as i32)).unwrap() < 20_000_000 {
            std::thread::yield_now();
        }
        watch.sample();
        child.kill().unwrap();
        child.wait().unwrap();
        let before = cpu_ns(Pid::this()).unwrap();
        let mut sum = 0_u64;
        while cpu_ns(Pid::this()).unwrap() < before + 20_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let own = watch.last.unwrap().own_ns;
        watch.sample();
        assert_eq!(watch.recorded().unwrap().samples, 1);
        if watch.busy.is_some() {
            assert!(watch.last.unwrap().own_ns >= own + 20_000_000);
        }
    }
}
