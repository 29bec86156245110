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
    own: Vec<Pid>,
    samples: u32,
    last: Option<Sample>,
    seen: Disturbance,
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

impl Watch {
    /// `is_alone` says whether all that is measured was started by the lab.
    pub(crate) fn new(is_alone: bool) -> Self {
        Self {
            busy: BusyFile::find().filter(|_| is_alone),
            throttle_files: throttle_files(),
            own: Vec::new(),
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
            self.own = all.filter_map(|pid| Some(Pid::from_raw(pid.try_into().ok()?))).collect();
            // What those had spent before they were known is nobody's.
            self.last = None;
        }
        self.samples = self.samples.wrapping_add(1);
        let ticks = Ticks::read();
        let sample = Sample {
            at: Instant::now(),
            cpus: ticks.cpus,
            steal_ns: ticks.steal,
            throttled_ns: read_throttled_ns(&self.throttle_files),
            busy_ns: self.busy.as_ref().and_then(BusyFile::read).unwrap_or(0),
            own_ns: self.own.iter().filter_map(|&pid| cpu_ns(pid)).sum(),
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
    use std::time::Duration;

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
        // A process that ended takes its bill along.
        add(&mut seen, sample(20, 140, 70), sample(30, 141, 20));
        assert_eq!((seen.samples, seen.disturbed), (3, 1));
    }

    /// The work of this process is its own.
    #[test]
    fn own_work_is_known_as_such() {
        let mut watch = Watch::new(true);
        watch.sample();
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
