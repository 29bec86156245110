//! Runs that are processes of their own: those of a set, and those of a comparison.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::interrupt;

/// Set in the environment of a run whose report nobody reads: it writes its records alone, in half
/// of the time that a short trial takes with a report. A program that doesn't know it
/// draws one all the same.
pub(super) const RECORDS_ONLY: &str = "LAYERLAB_RECORDS_ONLY";
/// How often it is looked whether one has ended.
const POLL: Duration = Duration::from_millis(50);

/// Runs a command of the guard to its end. The process ends with this one, whatever ends it;
/// the first signal to this one is passed on, so that the trial under way ends and what was
/// measured is kept.
pub(super) fn run(command: &mut Command) -> io::Result<ExitStatus> {
    // Out of the terminal's foreground group: Ctrl-C would reach it a second time.
    let mut child = command.process_group(0).spawn()?;
    let mut is_asked_to_end = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::interrupted() && !is_asked_to_end {
            is_asked_to_end = true;
            end(&child);
        }
        thread::sleep(POLL);
    }
}

fn end(child: &Child) {
    // It may have ended by itself in this moment; it has not been waited for, so the id is
    // still its own.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
}
