//! The guard: a child that can't outlive the lab.
//!
//! The lab starts every peer and backend as `loadgen guard PARENT_PID COMMAND...`.
//! The guard asks the kernel to kill it when its parent dies, then becomes the
//! command (`exec` keeps both the process id and the request). That holds for
//! `kill -9` of the lab and for programs that know nothing of us, with no
//! watcher process that would itself need watching. The layerlab servers also
//! exit when their control pipe closes. A proxy that forks has only its first
//! process guarded: one that needs workers gets a [`reaper`](super::reaper) as well.
//! Until that is there, and what counts the instructions of the command
//! ([`instructions`](super::instructions)), the guard waits.
//!
//! On its way to the command the guard also goes where the command is to run: to
//! CPUs, and into a network namespace or a control group. It has a single thread and no sockets, so
//! nothing of it stays behind.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use nix::{
    sched::{CloneFlags, setns},
    unistd::read,
};
use rustix::{
    process::{Signal, getppid, set_parent_process_death_signal},
    thread::{CpuSet, sched_setaffinity},
};

/// Arguments of the hidden `guard` subcommand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Process id of the lab.
    parent: i32,
    /// CPUs the command may run on; all, when not given.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// The network namespace it runs in; the lab's own, when not given.
    #[arg(long)]
    namespace: Option<PathBuf>,
    /// The file of a control group that the command joins.
    #[arg(long)]
    group: Option<PathBuf>,
    /// Wait for a byte on standard input before becoming the command.
    #[arg(long)]
    wait: bool,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// The guard, as a child of this process; its flags and a command are to follow.
pub(crate) fn command() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("guard").arg(std::process::id().to_string());
    Ok(command)
}

/// Becomes the command, bound to the lab's life. Returns only on failure.
pub(crate) fn main(args: Args) -> ExitCode {
    let cannot = |what: &str, error: &dyn std::fmt::Display| {
        eprintln!("error: {what}: {error}");
        ExitCode::from(3)
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return cannot("cannot tie this process to its parent", &error);
    }
    // The parent may have died between its fork and the request above; then no
    // signal will ever come.
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if parent != args.parent {
        return cannot("the lab is gone", &format!("parent is now {parent}"));
    }
    if let Some(path) = &args.namespace {
        let entered =
            File::open(path).and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?));
        if let Err(error) = entered {
            return cannot("cannot enter the network namespace", &error);
        }
    }
    if let Some(path) = &args.group
        && let Err(error) = fs::write(path, std::process::id().to_string())
    {
        return cannot("cannot join the control group", &error);
    }
    if !args.cpus.is_empty() {
        let mut set = CpuSet::new();
        for &cpu in args.cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
            set.set(cpu);
        }
        if let Err(error) = sched_setaffinity(None, &set) {
            return cannot(&format!("cannot pin to CPUs {:?}", args.cpus), &error);
        }
    }
    // One byte, unbuffered: what may follow it is the command's.
    if args.wait && read(std::io::stdin(), &mut [0]) != Ok(1) {
        return cannot("the lab is gone", &"it did not say that all is ready for the command");
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return cannot("nothing to run", &"the command is empty");
    };
    let error = Command::new(program).args(arguments).exec();
    cannot(&format!("cannot start {}", program.to_string_lossy()), &error)
}
