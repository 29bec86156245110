//! Real-time scheduling (sched(7)), for which there is no safe call.
#![expect(unsafe_code, reason = "no crate that is here wraps sched_setscheduler(2)")]

use std::{io, mem};

/// The lowest of real-time priorities: above all that is scheduled by the time it had.
const PRIORITY: i32 = 1;

/// Has the calling thread run as soon as it can, before all threads of an ordinary policy.
///
/// # Errors
/// Where the process may not (`CAP_SYS_NICE`, `RLIMIT_RTPRIO`).
pub(crate) fn run_first() -> io::Result<()> {
    // SAFETY: it consists of integers, for all of which zero is a value.
    let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
    parameters.sched_priority = PRIORITY;
    // SAFETY: the call reads the parameters, which outlive it; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
