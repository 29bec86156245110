//! What the whole machine spends, and what it takes from the lab.
//!
//! CPU time is known in nanoseconds where the kernel keeps it so, and else by ticks, which
//! miss work in short pieces. What the hypervisor gave to other guests is known by ticks
//! only.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use measure::record::{BusySource, MachineCost};

use super::cost::{split_by_ticks, tick_ns};

/// One reading of the whole machine, since it was started and over all CPUs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachineReading {
    /// By ticks, and how long the lab was stopped by a quota.
    ticks: Ticks,
    throttled_ns: u64,
    /// The sum of user and kernel mode in nanoseconds, where the kernel keeps one.
    busy: Option<(BusySource, u64)>,
    at: Instant,
}

pub(crate) fn read_machine() -> MachineReading {
    MachineReading {
        ticks: Ticks::read(),
        throttled_ns: read_throttled_ns(&throttle_files()),
        busy: BusyFile::find().and_then(|file| Some((file.source, file.read()?))),
        at: Instant::now(),
    }
}

/// What all tasks of the machine have run for. `/proc/schedstat` is a build option of
/// the kernel; cgroup v1 charges every task to its root group at the same places. The
/// root group of cgroup v2 has only the ticks of `/proc/stat`.
#[derive(Clone, Debug)]
pub(super) struct BusyFile {
    source: BusySource,
    path: PathBuf,
}

impl BusyFile {
    /// The best that there is.
    pub(super) fn find() -> Option<Self> {
        let schedstat =
            Self { source: BusySource::Schedstat, path: PathBuf::from("/proc/schedstat") };
        if schedstat.read().is_some() {
            return Some(schedstat);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        // A container may see a group of its own there, which is not the machine.
        let mount = mounts.lines().filter_map(Mount::parse).find(|mount| {
            let is_cpuacct = mount.options.split(',').any(|name| name == "cpuacct");
            mount.kind == "cgroup" && is_cpuacct && mount.root == "/"
        })?;
        let path = Path::new(mount.point).join("cpuacct.usage");
        let cpuacct = Self { source: BusySource::Cpuacct, path };
        cpuacct.read().is_some().then_some(cpuacct)
    }

    /// Nanoseconds since the machine was started, over all CPUs.
    pub(super) fn read(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.path).ok()?;
        match self.source {
            BusySource::Schedstat => parse_schedstat(&text),
            BusySource::Cpuacct => text.trim().parse().ok(),
            BusySource::Ticks => None,
        }
    }
}

/// Sums the seventh number of each CPU's line, the nanoseconds that tasks ran there
/// (the kernel's sched-stats.rst).
fn parse_schedstat(text: &str) -> Option<u64> {
    let cpus = text.lines().filter(|line| line.starts_with("cpu"));
    let ran: Option<Vec<u64>> =
        cpus.map(|line| line.split_whitespace().nth(7)?.parse().ok()).collect();
    ran.filter(|ran| !ran.is_empty()).map(|ran| ran.iter().sum())
}

/// How long this process's control group, or one around it, was stopped by its CPU
/// quota. Groups count what was lost to their own quota only, which may be set further
/// up than where the process is; the largest is taken, since they wait at the same time.
pub(super) fn read_throttled_ns(files: &[PathBuf]) -> u64 {
    let read = |file: &PathBuf| parse_throttled_ns(&fs::read_to_string(file).ok()?);
    files.iter().filter_map(read).max().unwrap_or(0)
}

/// The files that tell how long this process was stopped by a quota.
pub(super) fn throttle_files() -> Vec<PathBuf> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let files = cpu_stat_files(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    files.into_iter().filter(|file| file.exists()).collect()
}

/// Where the control groups of a process keep `cpu.stat`: its own, and those around it as
/// far as they are mounted. In version 2 (the kernel's `cgroup-v2.rst`) there is one tree;
/// in version 1 (`cgroup-v1/cgroups.rst`, `sched-bwc.rst`) the `cpu` controller has its
/// own. The arguments are `/proc/<pid>/cgroup` (cgroups(7)) and `/proc/<pid>/mountinfo`.
fn cpu_stat_files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for group in groups.lines() {
        let mut fields = group.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let is_cpu = |names: &str| names.split(',').any(|name| name == "cpu");
        if !controllers.is_empty() && !is_cpu(controllers) {
            continue;
        }
        let mount = mounts.lines().filter_map(Mount::parse).find(|mount| {
            if controllers.is_empty() {
                mount.kind == "cgroup2"
            } else {
                mount.kind == "cgroup" && is_cpu(mount.options)
            }
        });
        let Some(mount) = mount else { continue };
        // A container sees a part of the tree, and may be told of the whole path.
        let path = Path::new(path);
        let below = path.strip_prefix(mount.root).or_else(|_| path.strip_prefix("/"));
        let own = Path::new(mount.point).join(below.unwrap_or(Path::new("")));
        let around = own.ancestors().take_while(|folder| folder.starts_with(mount.point));
        files.extend(around.map(|folder| folder.join("cpu.stat")));
    }
    files
}

/// A line of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut system = system.split(' ');
        Some(Self {
            root: place.next()?,
            point: place.next()?,
            kind: system.next()?,
            options: system.nth(1)?,
        })
    }
}

/// What a `cpu.stat` says: version 2 counts in microseconds, version 1 in nanoseconds.
fn parse_throttled_ns(cpu_stat: &str) -> Option<u64> {
    let number = |key: &str| -> Option<u64> {
        cpu_stat.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
    };
    let in_us = number("throttled_usec ").map(|us| us.saturating_mul(1_000));
    in_us.or_else(|| number("throttled_time "))
}

/// What the machine spent between two readings, of which the lab's own processes
/// spent `own_ns`: those are read one after the other, and the machine is never
/// billed for less than their sum.
pub(crate) fn machine_since(
    after: &MachineReading,
    before: &MachineReading,
    own_ns: u64,
) -> MachineCost {
    let ticks = after.ticks.since(&before.ticks);
    let exact = match (after.busy, before.busy) {
        (Some((source, after)), Some((same, before))) if source == same => {
            Some((source, after.saturating_sub(before)))
        }
        _ => None,
    };
    let (busy_source, busy_ns) = exact.unwrap_or((BusySource::Ticks, ticks.user + ticks.system));
    let busy_ns = busy_ns.max(own_ns);
    let (user_ns, system_ns) =
        split_by_ticks(busy_ns, (ticks.user, after.ticks.user), (ticks.system, after.ticks.system));
    // With the sum exact, what is idle is what is left of the time that passed.
    let idle_ns = match busy_source {
        BusySource::Ticks => ticks.idle,
        BusySource::Schedstat | BusySource::Cpuacct => {
            let passed_ns = after.at.saturating_duration_since(before.at).as_nanos() as u64;
            (passed_ns * after.ticks.cpus).saturating_sub(busy_ns + ticks.steal)
        }
    };
    MachineCost {
        user_ns,
        system_ns,
        idle_ns,
        steal_ns: ticks.steal,
        throttled_ns: after.throttled_ns.saturating_sub(before.throttled_ns),
        busy_source,
    }
}

/// What `/proc/stat` says of all CPUs, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
    pub(super) steal: u64,
    /// How many CPUs there are.
    pub(super) cpus: u64,
}

impl Ticks {
    pub(super) fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let mut lines = stat.lines();
        let first = lines.next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<u64> = first.map(|field| field.parse().unwrap_or(0)).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0) * tick_ns();
        Self {
            user: at(0) + at(1),
            system: at(2) + at(5) + at(6),
            idle: at(3) + at(4),
            steal: at(7),
            cpus: lines.take_while(|line| line.starts_with("cpu")).count() as u64,
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            idle: self.idle.saturating_sub(before.idle),
            steal: self.steal.saturating_sub(before.steal),
            cpus: self.cpus,
        }
    }
}

/// Load average over one minute; zero where the kernel doesn't tell.
pub(crate) fn load_average_1m() -> f64 {
    read_number(Path::new("/proc/loadavg")).unwrap_or(0.0)
}

fn read_number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use generator::clock::nanos;
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn a_quota_shows_where_there_is_one() {
        let v2 = "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 81000\n";
        assert_eq!(parse_throttled_ns(v2), Some(81_000_000));
        let v1 = "nr_periods 90\nnr_throttled 88\nthrottled_time 4412000123\n";
        assert_eq!(parse_throttled_ns(v1), Some(4_412_000_123));
        assert_eq!(parse_throttled_ns("usage_usec 5\n"), None);
    }

    #[test]
    fn the_groups_of_both_versions_are_found() {
        let v1 = "25 24 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                  31 25 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                  34 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct\n";
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        // A container with the part of the tree that is its own.
        let inside = "90 80 0:31 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let found = |groups: &str, mounts: &str| -> Vec<String> {
            let files = cpu_stat_files(groups, mounts);
            files.iter().map(|file| file.display().to_string()).collect()
        };
        let cpu = "/sys/fs/cgroup/cpu,cpuacct";
        assert_eq!(
            found("9:memory:/m\n4:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/u\n", v1),
            [format!("{cpu}/a/b/cpu.stat"), format!("{cpu}/a/cpu.stat"), format!("{cpu}/cpu.stat")]
        );
        assert_eq!(
            found("0::/user.slice/x\n", v2),
            [
                "/sys/fs/cgroup/user.slice/x/cpu.stat",
                "/sys/fs/cgroup/user.slice/cpu.stat",
                "/sys/fs/cgroup/cpu.stat"
            ]
        );
        assert_eq!(found("4:cpu:/docker/abc\n", inside), ["/sys/fs/cgroup/cpu/cpu.stat"]);
        assert_eq!(found("3:cpuset:/\n", v1), [""; 0]);
    }

    #[test]
    fn the_machine_is_read_by_field() {
        let ticks = Ticks::parse("cpu  1 2 3 4 5 6 7 8 0 0\ncpu0 0\ncpu1 0\nintr 5\ncpu9 0");
        let tick = tick_ns();
        let read = (ticks.user, ticks.system, ticks.idle, ticks.steal, ticks.cpus);
        assert_eq!(read, (3 * tick, 16 * tick, 9 * tick, 8 * tick, 2));
        let schedstat = "version 17\ntimestamp 4294892\n\
                         cpu0 0 0 0 0 0 0 1500 20 3\ndomain0 MC 3 9 9\ncpu1 0 0 0 0 0 0 700 1 1\n";
        assert_eq!(parse_schedstat(schedstat), Some(2_200));
        assert_eq!(parse_schedstat("version 17\n"), None);
        assert_eq!(parse_schedstat("version 1\ncpu0 1 2\n"), None);
    }

    /// Ticks saw 30 of 100 ms of work in short pieces: the sum is what was run for, and
    /// the rest of the time was idle.
    #[test]
    fn the_machine_is_billed_in_nanoseconds_and_for_no_less_than_the_lab() {
        let at = Instant::now();
        let ms = 1_000_000;
        let reading = |busy, ticks, passed_ms| MachineReading {
            ticks,
            throttled_ns: 0,
            busy,
            at: at + std::time::Duration::from_millis(passed_ms),
        };
        let before = Ticks { cpus: 2, ..Ticks::default() };
        let after =
            Ticks { user: 20 * ms, system: 10 * ms, idle: 360 * ms, steal: 10 * ms, cpus: 2 };
        let busy = |ns| Some((BusySource::Schedstat, ns));
        let (start, end) = (reading(busy(5), before, 0), reading(busy(5 + 90 * ms), after, 200));
        let cost = machine_since(&end, &start, 0);
        assert_eq!((cost.user_ns, cost.system_ns), (60 * ms, 30 * ms));
        assert_eq!((cost.idle_ns, cost.steal_ns), (300 * ms, 10 * ms));
        assert_eq!(cost.busy_source, BusySource::Schedstat);
        let cost = machine_since(&end, &start, 120 * ms);
        assert_eq!(cost.user_ns + cost.system_ns, 120 * ms);
        let cost = machine_since(&reading(None, after, 200), &reading(None, before, 0), 0);
        assert_eq!((cost.user_ns, cost.system_ns, cost.idle_ns), (20 * ms, 10 * ms, 360 * ms));
        assert_eq!(cost.busy_source, BusySource::Ticks);
    }

    /// What this process works shows on the machine's bill, whatever ticks say.
    #[test]
    fn own_work_shows_on_the_machine() {
        let before = read_machine();
        let thread_ns = || nanos(clock_gettime(ClockId::ThreadCPUTime));
        let begun_ns = thread_ns();
        let mut sum = 0_u64;
        while thread_ns() < begun_ns + 50_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let spent_ns = thread_ns() - begun_ns;
        let cost = machine_since(&read_machine(), &before, 0);
        if cost.busy_source != BusySource::Ticks {
            assert!(cost.user_ns + cost.system_ns >= spent_ns, "{cost:?}, {spent_ns} ns");
        }
    }
}
