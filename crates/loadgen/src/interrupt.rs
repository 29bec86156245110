//! Ctrl-C, SIGTERM and SIGHUP: end the trial that runs, keep what was measured.
//!
//! The first signal asks; every loop of the lab looks at the flag. A second one
//! insists and ends the process at once, and the kernel then ends its children
//! (see [`crate::lab::guard`]).

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::exit;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Whether the user asked to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Has the first signal end the process at once: no trial runs from here on, and all that was
/// measured is kept.
pub(crate) fn end_at_once() {
    ENDS_AT_ONCE.store(true, Ordering::Relaxed);
}

/// Starts listening. The thread lives as long as the process.
pub(crate) fn listen() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<_>>>()?
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let [interrupt, terminate, hangup] = signals.as_mut_slice() else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                let insists = INTERRUPTED.swap(true, Ordering::Relaxed);
                if insists || ENDS_AT_ONCE.load(Ordering::Relaxed) {
                    std::process::exit(exit::INTERRUPTED.into());
                }
            }
        });
    })?;
    Ok(())
}
