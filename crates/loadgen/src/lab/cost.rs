//! What processes and the machine spend, read before and after.
//!
//! CPU time comes from each process's own clock (`clock_getcpuclockid`), in
//! nanoseconds and over all its threads. The kernel splits it into user and
//! system time by sampling (`/proc/<pid>/stat`, in ticks), so the split is
//! coarse where the sum is exact: the sampled ratio is applied to the sum.
//! What children spent that have ended and were waited for, as a proxy's workers do
//! when it reads its configuration again, is in ticks as well (`cutime`, `cstime`).
//! Context switches are summed over threads; those of a thread that ended in
//! between are lost, which is why they are counted but nothing is judged by them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use measure::record::{BusySource, MachineCost, ProcessCost, ProcessRole};
use nix::{sys::time::TimeValLike, time::clock_getcpuclockid, unistd::Pid};

/// One reading of one process tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    cpu_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
    waited_ns: u64,
    rss_bytes: u64,
    rss_peak_bytes: u64,
}

/// Reads a process and all its descendants; `None` when it is gone.
pub(crate) fn read_tree(pid: u32) -> Option<Reading> {
    let mut sum = read_process(pid, Ended::Counted)?;
    for child in descendants(pid) {
        if let Some(reading) = read_process(child, Ended::Counted) {
            sum.add(reading);
        }
    }
    Some(sum)
}

/// Reads the calling process alone, without its children: those are backends and
/// proxies, whoever of them has ended.
pub(crate) fn read_self() -> Option<Reading> {
    read_process(std::process::id(), Ended::LeftOut)
}

/// What becomes of the children that have ended and were waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Counted,
    LeftOut,
}

impl Reading {
    /// One that was taken elsewhere: CPU time, how it divides between user and system in
    /// any unit, and memory.
    pub(super) fn of_cpu(cpu_ns: u64, (user, system): (u64, u64), rss_bytes: u64) -> Self {
        Self {
            cpu_ns,
            user_ticks: user,
            system_ticks: system,
            rss_bytes,
            rss_peak_bytes: rss_bytes,
            ..Self::default()
        }
    }

    fn add(&mut self, other: Self) {
        self.cpu_ns += other.cpu_ns;
        self.user_ticks += other.user_ticks;
        self.system_ticks += other.system_ticks;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.waited_ns += other.waited_ns;
        self.rss_bytes += other.rss_bytes;
        self.rss_peak_bytes += other.rss_peak_bytes;
    }

    /// What was spent from `before` to `self`.
    pub(crate) fn since(&self, before: &Self, role: ProcessRole, name: &str) -> ProcessCost {
        let cpu_ns = self.cpu_ns.saturating_sub(before.cpu_ns);
        let (user_ns, system_ns) = split_by_ticks(
            cpu_ns,
            (self.user_ticks.saturating_sub(before.user_ticks), self.user_ticks),
            (self.system_ticks.saturating_sub(before.system_ticks), self.system_ticks),
        );
        ProcessCost {
            role,
            name: name.to_owned(),
            user_ns,
            system_ns,
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(before.involuntary_switches),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
            rss_bytes: self.rss_bytes,
            rss_peak_bytes: self.rss_peak_bytes,
        }
    }
}

/// Splits `cpu_ns` as the ticks of the window say, or, when the window was too
/// short for a single tick, as the ticks of the whole life so far.
fn split_by_ticks(cpu_ns: u64, user: (u64, u64), system: (u64, u64)) -> (u64, u64) {
    let (user_ticks, ticks) = match (user.0 + system.0, user.1 + system.1) {
        (0, 0) => return (cpu_ns, 0),
        (0, life) => (user.1, life),
        (window, _) => (user.0, window),
    };
    let user_ns = u128::from(cpu_ns) * u128::from(user_ticks) / u128::from(ticks);
    let user_ns = u64::try_from(user_ns).unwrap_or(cpu_ns);
    (user_ns, cpu_ns - user_ns)
}

fn read_process(pid: u32, ended: Ended) -> Option<Reading> {
    let raw = i32::try_from(pid).ok()?;
    let clock = clock_getcpuclockid(Pid::from_raw(raw)).ok()?;
    let cpu_ns = u64::try_from(clock.now().ok()?.num_nanoseconds()).ok()?;
    let stat = Stat::read(pid)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (voluntary_switches, involuntary_switches) = context_switches(pid);
    let (ended_user, ended_system) = match ended {
        Ended::Counted => (stat.ended_user_ticks, stat.ended_system_ticks),
        Ended::LeftOut => (0, 0),
    };
    Some(Reading {
        cpu_ns: cpu_ns + (ended_user + ended_system) * tick_ns(),
        user_ticks: stat.user_ticks + ended_user,
        system_ticks: stat.system_ticks + ended_system,
        voluntary_switches,
        involuntary_switches,
        waited_ns: waited_ns(pid),
        rss_bytes: status_number(&status, "VmRSS:") * 1024,
        rss_peak_bytes: status_number(&status, "VmHWM:") * 1024,
    })
}

fn context_switches(pid: u32) -> (u64, u64) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return (0, 0) };
    tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).fold(
        (0, 0),
        |(voluntary, involuntary), status| {
            (
                voluntary + status_number(&status, "voluntary_ctxt_switches:"),
                involuntary + status_number(&status, "nonvoluntary_ctxt_switches:"),
            )
        },
    )
}

/// Time the threads that live were ready to run and had no CPU: the second number
/// of `schedstat` (the kernel's sched-stats.rst). Zero where the kernel keeps none.
fn waited_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// The number behind `key` in the format of `/proc/<pid>/status`; zero without.
fn status_number(status: &str, key: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// All processes below `pid`. The whole table is walked, since the kernel's
/// list of children is a build option that many kernels leave out.
fn descendants(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = Stat::read(id) {
            children.entry(stat.parent).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        open.extend(&below);
        found.extend(below);
    }
    found
}

struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
    /// Those of its children that ended and were waited for, and of theirs.
    ended_user_ticks: u64,
    ended_system_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// See proc_pid_stat(5). The second field is a name in parentheses that may
    /// itself hold spaces and parentheses, so fields are counted from its end.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.get(line.rfind(')')? + 2..)?.split(' ').collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: fields.get(11)?.parse().ok()?,
            system_ticks: fields.get(12)?.parse().ok()?,
            ended_user_ticks: fields.get(13)?.parse().ok()?,
            ended_system_ticks: fields.get(14)?.parse().ok()?,
        })
    }
}

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
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    MachineReading {
        ticks: Ticks::parse(&stat),
        throttled_ns: read_throttled_ns().unwrap_or(0),
        busy: read_busy(),
        at: Instant::now(),
    }
}

/// What all tasks of the machine have run for. `/proc/schedstat` is a build option of
/// the kernel; cgroup v1 charges every task to its root group at the same places. The
/// root group of cgroup v2 has only the ticks of `/proc/stat`.
fn read_busy() -> Option<(BusySource, u64)> {
    let schedstat = || parse_schedstat(&fs::read_to_string("/proc/schedstat").ok()?);
    let cpuacct = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        // A container may see a group of its own there, which is not the machine.
        let mount = mounts.lines().filter_map(Mount::parse).find(|mount| {
            let is_cpuacct = mount.options.split(',').any(|name| name == "cpuacct");
            mount.kind == "cgroup" && is_cpuacct && mount.root == "/"
        })?;
        let usage = fs::read_to_string(Path::new(mount.point).join("cpuacct.usage")).ok()?;
        usage.trim().parse().ok()
    };
    schedstat()
        .map(|ns| (BusySource::Schedstat, ns))
        .or_else(|| cpuacct().map(|ns| (BusySource::Cpuacct, ns)))
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
fn read_throttled_ns() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let files = cpu_stat_files(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
    files.iter().filter_map(|file| parse_throttled_ns(&fs::read_to_string(file).ok()?)).max()
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

fn tick_ns() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// What `/proc/stat` says of all CPUs, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
    steal: u64,
    /// How many CPUs there are.
    cpus: u64,
}

impl Ticks {
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
    use super::*;

    #[test]
    fn stat_survives_a_hostile_name() {
        let line = "42 (a b) c) S 7 42 42 0 -1 4194560 100 0 0 0 13 5 3 2 20 0 1 0 100 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.user_ticks, stat.system_ticks), (7, 13, 5));
        assert_eq!((stat.ended_user_ticks, stat.ended_system_ticks), (3, 2));
        assert!(Stat::parse("nonsense").is_none());
    }

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
    fn the_split_keeps_the_sum() {
        assert_eq!(split_by_ticks(1_000, (3, 30), (1, 10)), (750, 250));
        assert_eq!(split_by_ticks(1_000, (0, 30), (0, 10)), (750, 250));
        assert_eq!(split_by_ticks(1_000, (0, 0), (0, 0)), (1_000, 0));
    }

    #[test]
    fn own_work_shows_in_the_reading() {
        let before = read_self().unwrap();
        let mut sum = 0_u64;
        while read_self().unwrap().cpu_ns < before.cpu_ns + 5_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let cost = read_self().unwrap().since(&before, ProcessRole::Generator, "generator");
        assert!(cost.user_ns + cost.system_ns >= 5_000_000);
        assert!(cost.rss_bytes > 0 && cost.rss_peak_bytes >= cost.rss_bytes / 2);
    }

    #[test]
    fn a_child_is_billed_to_its_tree() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "cat; true"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    /// A master starts a worker that works and ends, and another one: nothing of
    /// what the first one spent may be lost, however short the second one has lived.
    #[test]
    fn a_worker_that_ended_stays_on_the_bill_of_its_master() {
        let worker = "i=0; while [ $i -lt 600000 ]; do i=$((i+1)); done";
        let script = format!("sh -c '{worker}; echo worked; read x <&3'; echo ended; cat");
        let mut master = std::process::Command::new("sh")
            .args(["-c", &format!("{{ {script}; }} 3<&0")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(master.stdout.take().unwrap()));
        let mut says = |word| assert_eq!(lines.next().unwrap().unwrap(), word);
        says("worked");
        let before = read_tree(master.id()).unwrap();
        assert!(before.cpu_ns > 5 * tick_ns(), "{} ns", before.cpu_ns);
        std::io::Write::write_all(&mut master.stdin.as_ref().unwrap(), b"\n").unwrap();
        says("ended");
        let after = read_tree(master.id()).unwrap();
        assert!(after.cpu_ns + 2 * tick_ns() >= before.cpu_ns, "{after:?} after {before:?}");
        drop(master.stdin.take());
        master.wait().unwrap();
    }

    /// A backend that dies and is started again in the middle of a trial is waited for
    /// by the lab, whose process is the generator's too.
    #[test]
    fn a_child_that_ended_is_not_billed_to_the_lab() {
        let ended = |reading: Ended| {
            let reading = read_process(std::process::id(), reading).unwrap();
            reading.user_ticks + reading.system_ticks
        };
        let worker = "i=0; while [ $i -lt 600000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", worker]).status().unwrap().success());
        // Read in this order, so that what the test itself spends can't make it pass.
        let alone = ended(Ended::LeftOut);
        assert!(ended(Ended::Counted) >= alone + 5, "{alone} ticks without it");
        let own = read_self().unwrap();
        assert!(own.user_ticks + own.system_ticks + 5 <= ended(Ended::Counted));
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
        let (before, own) = (read_machine(), read_self().unwrap());
        let mut sum = 0_u64;
        while read_self().unwrap().cpu_ns < own.cpu_ns + 50_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let spent_ns = read_self().unwrap().cpu_ns - own.cpu_ns;
        let cost = machine_since(&read_machine(), &before, 0);
        if cost.busy_source != BusySource::Ticks {
            assert!(cost.user_ns + cost.system_ns >= spent_ns, "{cost:?}, {spent_ns} ns");
        }
    }
}
