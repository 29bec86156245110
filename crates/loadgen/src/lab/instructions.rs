//! Instructions that processes execute, counted by the CPU (perf_event_open(2)).
//!
//! CPU time depends on the clock of a core, on what else shares its caches, and on how deep it
//! slept; the number of instructions of a call does not. Each process has two counters, for
//! user mode and for the kernel. They are opened while it waits in the
//! [`guard`](super::guard), with one thread, and are inherited by every thread and every
//! process that comes of it: by the workers of a proxy, and by those that take their place
//! when it reads another configuration. A process that runs already (`--bill pid:`) is counted
//! thread by thread, and what comes of each.
//!
//! Most virtual machines have no such counters, and most machines let only root count in the
//! kernel. Then nothing is counted rather than half of it, and [`missing`] says why. What is
//! tested where there are none is all but the kind of the counter: opening, inheriting and
//! reading, by a counter of the kernel's own.

use std::{fs, io};

use measure::record::Instructions;
use nix::errno::Errno;
use perf_event::{
    Builder, Counter,
    events::{Event, Hardware},
};

use super::cost::descendants;

/// The counters of a process.
#[derive(Debug)]
pub(super) struct Counters {
    user: Vec<Counter>,
    kernel: Vec<Counter>,
}

/// What comes of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Children {
    Counted,
    LeftOut,
}

/// Why no instructions can be counted here; `None` where they can.
pub(crate) fn missing() -> Option<String> {
    let own = std::process::id();
    Counters::open(Hardware::INSTRUCTIONS, [own], Children::LeftOut).err().map(|error| why(&error))
}

impl Counters {
    /// Of a child that has not begun yet. `None` where nothing can be counted.
    pub(super) fn of_child(pid: u32) -> Option<Self> {
        Self::open(Hardware::INSTRUCTIONS, threads_of(pid), Children::Counted).ok()
    }

    /// Of a process that runs, and its descendants.
    pub(super) fn of_tree(pid: u32) -> Option<Self> {
        let all = descendants(pid).into_iter().chain([pid]).flat_map(threads_of);
        Self::open(Hardware::INSTRUCTIONS, all, Children::Counted).ok()
    }

    /// Of this process's threads that live, but of the calling one, which watches the trial
    /// and makes no load. Its children are backends and proxies.
    pub(super) fn of_self() -> Option<Self> {
        let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let others = threads_of(std::process::id()).filter(|&thread| thread != own);
        Self::open(Hardware::INSTRUCTIONS, others, Children::LeftOut).ok()
    }

    fn open(
        event: impl Event + Copy,
        threads: impl IntoIterator<Item = u32>,
        children: Children,
    ) -> io::Result<Self> {
        let mut counters = Self { user: Vec::new(), kernel: Vec::new() };
        for thread in threads {
            let thread = i32::try_from(thread).map_err(io::Error::other)?;
            let open = |is_user: bool| {
                Builder::new(event)
                    .observe_pid(thread)
                    .any_cpu()
                    .exclude_user(!is_user)
                    .exclude_kernel(is_user)
                    .inherit(children == Children::Counted)
                    .enabled(true)
                    .build()
            };
            match (open(true), open(false)) {
                (Ok(user), Ok(kernel)) => {
                    counters.user.push(user);
                    counters.kernel.push(kernel);
                }
                // It ended since it was listed.
                (Err(error), _) | (_, Err(error)) if is(&error, &[Errno::ESRCH]) => {}
                (Err(error), _) | (_, Err(error)) => return Err(error),
            }
        }
        Ok(counters)
    }

    /// What was executed so far, with what has ended by now; `None` where a counter says
    /// nothing.
    pub(super) fn read(&mut self) -> Option<Instructions> {
        let sum = |counters: &mut [Counter]| counters.iter_mut().map(count).sum::<Option<u64>>();
        Some(Instructions { user: sum(&mut self.user)?, kernel: sum(&mut self.kernel)? })
    }
}

/// Where a CPU has fewer counters than are wanted of it they take turns, and what one has
/// missed is estimated from the time that it had, as perf-stat(1) does.
fn count(counter: &mut Counter) -> Option<u64> {
    let read = counter.read_count_and_time().ok()?;
    match (read.time_enabled, read.time_running) {
        (enabled, running) if enabled == running => Some(read.count),
        (_, 0) => None,
        (enabled, running) => {
            let all = u128::from(read.count) * u128::from(enabled) / u128::from(running);
            u64::try_from(all).ok()
        }
    }
}

/// The threads of a process; none where it is gone.
fn threads_of(pid: u32) -> impl Iterator<Item = u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok())
}

fn is(error: &io::Error, kinds: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|raw| kinds.contains(&Errno::from_raw(raw)))
}

fn why(error: &io::Error) -> String {
    if is(error, &[Errno::ENOENT, Errno::EOPNOTSUPP, Errno::ENODEV]) {
        return "the CPU has no counters here, as in most virtual machines".to_owned();
    }
    if is(error, &[Errno::EACCES, Errno::EPERM]) {
        let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        let paranoid =
            paranoid.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
        return format!(
            "not allowed: kernel.perf_event_paranoid is {paranoid}; `sysctl \
             kernel.perf_event_paranoid=1` allows it, or the capability CAP_PERFMON, and in a \
             container its seccomp profile has to as well"
        );
    }
    format!("perf_event_open: {error}")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Lines, Write as _},
        process::{Child, ChildStdout, Command, Stdio},
        sync::mpsc,
        thread,
    };

    use perf_event::events::Software;
    use rustix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::lab::cost::{read_tree, tick_ns};

    /// A shell that does each line it is told, and says when it has.
    struct Shell {
        child: Child,
        said: Lines<BufReader<ChildStdout>>,
    }

    impl Shell {
        fn start() -> Self {
            let script = "while read line; do eval \"$line\"; echo done; done";
            let mut child = Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let said = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut shell = Self { child, said };
            // It has become the shell, so that nothing of this process is counted as its own.
            shell.does("true");
            shell
        }

        fn does(&mut self, line: &str) {
            writeln!(self.child.stdin.as_ref().unwrap(), "{line}").unwrap();
            assert_eq!(self.said.next().unwrap().unwrap(), "done");
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            drop(self.child.stdin.take());
            let _ = self.child.wait();
        }
    }

    const WORK: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";

    /// The task clock knows no modes: both counters have all of it. What a worker spent that
    /// has ended is in it, what one spends that still runs, and what comes of a worker.
    #[test]
    fn all_that_comes_of_a_child_is_counted_as_proc_counts_it() {
        let mut shell = Shell::start();
        let mut counters =
            Counters::open(Software::TASK_CLOCK, threads_of(shell.child.id()), Children::Counted)
                .unwrap();
        let before = read_tree(shell.child.id()).unwrap();
        let counted_before = counters.read().unwrap();
        shell.does(WORK);
        shell.does(&format!("sh -c '{WORK}; sh -c \"{WORK}; true\"; true'"));
        shell
            .does(&format!("{{ {WORK}; echo worked >&3; sleep 60; }} 3>&1 & read none </dev/null"));
        assert_eq!(shell.said.next().unwrap().unwrap(), "worked");
        let after = read_tree(shell.child.id()).unwrap();
        let counted = counters.read().unwrap();
        let spent = after.since(&before, measure::record::ProcessRole::Proxy, "sh");
        let spent_ns = spent.user_ns + spent.system_ns;
        assert!(spent_ns > 10 * tick_ns(), "{spent_ns} ns");
        // What has ended is in ticks there: of two processes, two numbers each.
        for (counted, before) in
            [(counted.user, counted_before.user), (counted.kernel, counted_before.kernel)]
        {
            let off_ns = (counted - before).abs_diff(spent_ns);
            assert!(off_ns < 5 * tick_ns(), "{} of {spent_ns} ns", counted - before);
        }
        shell.does("kill $!");
    }

    /// Each has its own: most faults of a shell are its own, and those of the kernel on its
    /// behalf are few.
    #[test]
    fn user_and_kernel_are_counted_apart() {
        let mut shell = Shell::start();
        let threads = || threads_of(shell.child.id());
        let mut counters =
            Counters::open(Software::PAGE_FAULTS, threads(), Children::Counted).unwrap();
        let mut alone =
            Counters::open(Software::PAGE_FAULTS, threads(), Children::LeftOut).unwrap();
        let before = counters.read().unwrap();
        shell.does("sh -c 'true; true'");
        let counted = counters.read().unwrap();
        let (user, kernel) = (counted.user - before.user, counted.kernel - before.kernel);
        assert!(user > 50 && kernel < user, "{user} and {kernel}");
        let alone = alone.read().unwrap();
        assert!(alone.user < user, "{} of {user} without the child", alone.user);
    }

    /// What a thread has done stands after it has ended, and what it has started is not its.
    #[test]
    fn a_thread_is_counted_without_its_children() {
        let (tell, spawned) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let worker = thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
            begun.recv().unwrap();
            Command::new("sh").args(["-c", WORK]).status().unwrap();
            let spent = || clock_gettime(ClockId::ThreadCPUTime).tv_nsec;
            let before = spent();
            while spent() < before + 5_000_000 {}
            spent()
        });
        let thread = spawned.recv().unwrap();
        assert!(threads_of(std::process::id()).any(|one| one == thread));
        let mut counters =
            Counters::open(Software::TASK_CLOCK, [thread], Children::LeftOut).unwrap();
        begin.send(()).unwrap();
        let spent_ns = worker.join().unwrap().unsigned_abs();
        let counted = counters.read().unwrap().user;
        // To end takes a moment, and to begin took one.
        assert!(counted > 5_000_000 && counted < spent_ns + 20_000_000, "{counted} {spent_ns}");
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let why = |errno: Errno| why(&io::Error::from(errno));
        assert!(why(Errno::ENOENT).contains("virtual machines"));
        assert!(why(Errno::EACCES).contains("sysctl kernel.perf_event_paranoid=1"));
        assert!(why(Errno::EMFILE).contains("perf_event_open: "));
        // Where there is nothing to count with, nothing is counted, and else something is.
        let own = Counters::of_tree(std::process::id()).and_then(|mut counters| counters.read());
        assert_eq!(own.is_none(), missing().is_some(), "{own:?}, {:?}", missing());
    }
}
