//! One child process of the lab, ours or not: started, watched, ended, reaped.
//!
//! Every process goes the same way: through the guard, in a process group of
//! its own (so that a Ctrl-C at the terminal reaches the lab alone, which then
//! ends its children in order), with standard input as control pipe and with
//! its output in a log file of the run folder.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use measure::record::Side;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{
    cost::{self, Reading},
    error::{ExitReport, LabError},
    guard,
    instructions::Counters,
    network::Namespace,
    quota::Quota,
    reaper,
};

/// How long a command that only sets something up may take.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process may take to end by itself before it is killed.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How often a process that is ending is looked at.
const STOP_POLL: Duration = Duration::from_millis(2);
/// How much of a log is quoted in an error.
const LOG_QUOTE_BYTES: usize = 600;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Name in messages and of the log file: `b0`, `l7`.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Additions to the environment.
    pub(crate) environment: Vec<(String, String)>,
    /// The folder to run in; `None` for the lab's own.
    pub(crate) folder: Option<PathBuf>,
    /// CPUs to run on; empty for all.
    pub(crate) cpus: Vec<u32>,
    /// Signal that asks it to end.
    pub(crate) stop_signal: Signal,
    /// Whether it starts processes that may outlive it when it is killed.
    pub(crate) has_workers: bool,
}

impl Launch {
    /// A command that is asked to end by SIGTERM.
    pub(crate) fn new(name: impl Into<String>, command: Vec<String>, cpus: &[u32]) -> Self {
        Self {
            name: name.into(),
            command,
            environment: Vec::new(),
            folder: None,
            cpus: cpus.to_vec(),
            stop_signal: Signal::TERM,
            has_workers: false,
        }
    }
}

/// A running child. Dropping it kills and reaps it and its process group.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where in the log its own words begin.
    log_start: u64,
    stop_signal: Signal,
    exited: Option<ExitStatus>,
    /// Lines that it was sent over its control pipe.
    sent_lines: u64,
    /// What ends its workers, where it has some.
    reaper: Option<Child>,
    /// What counts its instructions, where anything does.
    counters: Option<Counters>,
}

impl Process {
    /// Starts `launch` with its output in `log_dir/<name>.log`, in a network
    /// namespace and held to a quota if they are given.
    ///
    /// Must be called from a thread that outlives the child: the kernel's
    /// death signal follows the thread that forked.
    pub(crate) fn start(
        launch: &Launch,
        namespace: Option<&Namespace>,
        quota: Option<&Quota>,
        log_dir: &Path,
    ) -> io::Result<Self> {
        let log = log_dir.join(format!("{}.log", launch.name));
        // One that is started again goes on where the one before it ended.
        let output = File::options().create(true).append(true).open(&log)?;
        let log_start = output.metadata()?.len();
        let child = guarded(launch, namespace, quota)?
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let mut process = Self {
            name: launch.name.clone(),
            counters: Counters::of_child(child.id()),
            child,
            log,
            log_start,
            stop_signal: launch.stop_signal,
            exited: None,
            sent_lines: 0,
            reaper: None,
        };
        if launch.has_workers {
            process.reaper = Some(reaper::start(&process.child)?);
        }
        if let Some(pipe) = &mut process.child.stdin {
            // A guard that has ended has said why, and is heard by whoever waits for it.
            let _ = pipe.write_all(b"\n");
        }
        Ok(process)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has spent so far, with all that it started; `None` when it is gone.
    pub(super) fn read_cost(&mut self) -> Option<Reading> {
        let instructions = self.counters.as_mut().and_then(Counters::read);
        Some(cost::read_tree(self.pid())?.with_instructions(instructions))
    }

    /// How the process ended, if it has.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().ok().flatten();
        }
        self.exited
    }

    /// Waits for a command that only sets something up.
    ///
    /// # Errors
    /// When it did not say that all went well, or said nothing in time.
    pub(crate) fn set_up(mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + SET_UP_TIMEOUT;
        while self.exited().is_none() {
            if Instant::now() > deadline {
                return Err(LabError::NotSetUp { name: self.name.clone(), waited: SET_UP_TIMEOUT });
            }
            thread::sleep(STOP_POLL);
        }
        if self.exited().is_some_and(|status| status.success()) {
            Ok(())
        } else {
            Err(LabError::Ended { side: Side::Proxy, exit_report: self.exit_report() })
        }
    }

    /// How it ended and what it last wrote.
    pub(crate) fn exit_report(&mut self) -> ExitReport {
        ExitReport { name: self.name.clone(), status: self.exited(), last_lines: self.last_lines() }
    }

    fn last_lines(&self) -> Option<String> {
        let bytes = self.own_log();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_QUOTE_BYTES)..])
            .into_owned();
        let words: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        (!words.is_empty()).then(|| words.join(" | "))
    }

    /// Sends a signal, if there is still a process to send it to. What is stopped, goes
    /// on or is killed does so with its workers; to end is the first one's to do.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let takes_all = matches!(signal, Signal::STOP | Signal::CONT | Signal::KILL);
        match (self.exited(), self.raw_pid()) {
            (None, Some(pid)) if takes_all && self.reaper.is_some() => {
                Ok(kill_process_group(pid, signal)?)
            }
            (None, Some(pid)) => Ok(kill_process(pid, signal)?),
            _ => Err(io::Error::other(format!("{} is gone", self.name))),
        }
    }

    /// Tells a process of ours something over its control pipe; returns the number
    /// of the line, by which it answers.
    ///
    /// The pipe holds thousands of such lines, so this does not wait, even for a
    /// process that is stopped.
    pub(crate) fn send(&mut self, line: &str) -> io::Result<u64> {
        let Some(pipe) = &mut self.child.stdin else {
            return Err(io::Error::other(format!("{} has no control pipe", self.name)));
        };
        pipe.write_all(format!("{line}\n").as_bytes())?;
        self.sent_lines += 1;
        Ok(self.sent_lines)
    }

    /// What it has written so far.
    fn own_log(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.log_start))?;
            log.read_to_end(&mut bytes)
        });
        // What can't be read says nothing.
        read.map_or_else(|_| Vec::new(), |_| bytes)
    }

    /// Whether it has written this line to its log.
    pub(crate) fn has_said(&self, line: &str) -> bool {
        self.find_said(|said| (said == line.as_bytes()).then_some(())).is_some()
    }

    /// What is found in the first line of its log that has it.
    pub(crate) fn find_said<T>(&self, find: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        self.own_log().split(|&byte| byte == b'\n').find_map(find)
    }

    /// Whether it is stopped (SIGSTOP).
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let state = stat.rfind(')').and_then(|end| stat[end..].split_whitespace().nth(1));
        state == Some("T")
    }

    /// Asks the process to end; [`Process::finish`] waits for it.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.child.stdin.take());
        if self.exited().is_none()
            && let Some(pid) = self.raw_pid()
        {
            // It may have ended since; then there is nothing to signal. One that
            // is stopped has to go on to hear of it.
            let _ = kill_process(pid, self.stop_signal);
            let _ = self.signal(Signal::CONT);
        }
    }

    /// Waits a moment for the process to end, then kills its group and reaps.
    pub(crate) fn finish(&mut self) {
        let deadline = Instant::now() + STOP_GRACE;
        while self.exited().is_none() && Instant::now() < deadline {
            thread::sleep(STOP_POLL);
        }
        self.kill();
    }

    fn kill(&mut self) {
        // The group is killed even when the leader is gone: a proxy that forks
        // may have left workers in it. The leader is not yet reaped by anyone
        // else, and an empty group only makes the call fail.
        if let Some(pid) = self.raw_pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        if self.exited().is_none() {
            self.exited = self.child.wait().ok();
        }
        if let Some(mut reaper) = self.reaper.take() {
            // It was in the group.
            let _ = reaper.wait();
        }
    }

    fn raw_pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

/// The command by way of the guard, which waits for a byte before it becomes that.
fn guarded(
    launch: &Launch,
    namespace: Option<&Namespace>,
    quota: Option<&Quota>,
) -> io::Result<Command> {
    let mut command = guard::command()?;
    if !launch.cpus.is_empty() {
        let list: Vec<String> = launch.cpus.iter().map(u32::to_string).collect();
        command.arg("--cpus").arg(list.join(","));
    }
    if let Some(namespace) = namespace {
        command.arg("--namespace").arg(namespace.path());
    }
    if let Some(quota) = quota {
        command.arg("--group").arg(quota.members());
    }
    if let Some(folder) = &launch.folder {
        command.current_dir(folder);
    }
    command.args(["--wait", "--"]).args(&launch.command);
    command.envs(launch.environment.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited.is_none() || self.reaper.is_some() {
            self.kill();
        }
    }
}
