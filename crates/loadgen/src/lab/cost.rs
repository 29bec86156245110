//! What processes spend, read before and after.
//!
//! CPU time comes from each process's own clock (`clock_getcpuclockid`), in
//! nanoseconds and over all its threads. The kernel splits it into user and
//! system time by sampling (`/proc/<pid>/stat`, in ticks), so the split is
//! coarse where the sum is exact: the sampled ratio is applied to the sum.
//! What children spent that have ended and were waited for, as a proxy's workers do
//! when it reads its configuration again, is in ticks as well (`cutime`, `cstime`).
//! Context switches are summed over threads; those of a thread that ended in
//! between are lost, which is why they are counted but nothing is judged by them.

use std::{collections::BTreeMap, fs};

use generator::clock::nanos;
use measure::record::{Instructions, ProcessCost, ProcessRole};
use nix::{sys::time::TimeValLike, time::clock_getcpuclockid, unistd::Pid};
use rustix::time::{ClockId, clock_gettime};

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
    instructions: Option<Instructions>,
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
/// proxies, whoever of them has ended. Neither is the calling thread in it, which watches
/// the trial and makes no load.
pub(crate) fn read_self() -> Option<Reading> {
    let mut reading = read_process(std::process::id(), Ended::LeftOut)?;
    let watching = clock_gettime(ClockId::ThreadCPUTime);
    reading.cpu_ns = reading.cpu_ns.saturating_sub(nanos(watching));
    Some(reading)
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

    /// With what counters have counted.
    pub(super) fn with_instructions(self, instructions: Option<Instructions>) -> Self {
        Self { instructions, ..self }
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
            instructions: self.instructions.zip(before.instructions).map(|(after, before)| {
                Instructions {
                    user: after.user.saturating_sub(before.user),
                    kernel: after.kernel.saturating_sub(before.kernel),
                }
            }),
        }
    }
}

/// Splits `cpu_ns` as the ticks of the window say, or, when the window was too
/// short for a single tick, as the ticks of the whole life so far.
pub(super) fn split_by_ticks(cpu_ns: u64, user: (u64, u64), system: (u64, u64)) -> (u64, u64) {
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
        instructions: None,
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
pub(super) fn descendants(pid: u32) -> Vec<u32> {
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

pub(super) fn tick_ns() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
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
    fn the_split_keeps_the_sum() {
        assert_eq!(split_by_ticks(1_000, (3, 30), (1, 10)), (750, 250));
        assert_eq!(split_by_ticks(1_000, (0, 30), (0, 10)), (750, 250));
        assert_eq!(split_by_ticks(1_000, (0, 0), (0, 0)), (1_000, 0));
    }

    /// And none of what the thread that watches spends.
    #[test]
    fn the_work_of_other_threads_shows_in_the_reading() {
        let spin = || {
            let begun = nanos(clock_gettime(ClockId::ThreadCPUTime));
            let mut sum = 0_u64;
            while nanos(clock_gettime(ClockId::ThreadCPUTime)) < begun + 5_000_000 {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
        };
        let before = read_self().unwrap();
        std::thread::spawn(spin).join().unwrap();
        let between = read_self().unwrap();
        let cost = between.since(&before, ProcessRole::Generator, "generator");
        assert!(cost.user_ns + cost.system_ns >= 5_000_000);
        assert!(cost.rss_bytes > 0 && cost.rss_peak_bytes >= cost.rss_bytes / 2);
        spin();
        // The whole is read last: threads of other tests work in between.
        let others = read_self().unwrap().cpu_ns;
        let whole = read_process(std::process::id(), Ended::LeftOut).unwrap().cpu_ns;
        assert!(whole >= others + 5_000_000);
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
}
