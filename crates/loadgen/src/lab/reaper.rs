//! The process-group reaper: ends the workers of a proxy whose first process was killed.
//!
//! The guard ties a proxy's first process to the lab. Where that one is a master over
//! workers, nobody tells them when it is killed, and nginx's go on for ever. So one
//! more process waits beside such a proxy, in its process group, until the master has
//! ended, and then kills the group. It is the lab's child and not the master's, so
//! that what it holds is not billed to the proxy, and it outlives the lab for as long
//! as there is something to end. What it can't survive is a `kill -9` of its own.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// Arguments of the hidden `reaper` subcommand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Process id of the master, which leads the process group.
    master: i32,
}

/// What it says once it can miss nothing.
const READY: &str = "ready";

/// Starts the reaper of a process that leads its process group; it waits for that
/// process when this returns.
///
/// # Errors
/// When it can't be started or does not come to wait.
pub(super) fn start(master: &Child) -> io::Result<Child> {
    let group = i32::try_from(master.id()).map_err(io::Error::other)?;
    let mut reaper = Command::new(std::env::current_exe()?)
        .args(["reaper", &group.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(group)
        .spawn()?;
    let mut said = String::new();
    if let Some(output) = reaper.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    if said.trim_end() != READY {
        let status = reaper.wait()?;
        return Err(io::Error::other(format!("the reaper of its workers ended with {status}")));
    }
    Ok(reaper)
}

/// Waits for the master's end, and ends what is left of its group.
pub(crate) fn main(args: &Args) -> ExitCode {
    match wait_and_kill(args.master) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot wait for process {}: {error}", args.master);
            ExitCode::from(3)
        }
    }
}

fn wait_and_kill(master: i32) -> io::Result<()> {
    let master = Pid::from_raw(master).ok_or(io::ErrorKind::InvalidInput)?;
    let handle = pidfd_open(master, PidfdFlags::empty())?;
    // Whoever asked may be gone; then there is all the more to wait for.
    let _ = writeln!(io::stdout(), "{READY}");
    let mut waited_for = [PollFd::new(&handle, PollFlags::IN)];
    while let Err(error) = poll(&mut waited_for, None) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    // This process is one of the group, so the number still means it.
    Ok(kill_process_group(master, Signal::KILL)?)
}
