//! How a server ends: it drains, and what is left after the deadline is cut
//! off.
//!
//! The two stages are one value that many tasks watch, on any number of
//! runtimes. A process moves it by signals ([`process_shutdown`]), a test by
//! the [`ShutdownTrigger`]. What draining means (which connections close when)
//! is each server's own business and not here.

use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::exit::note;

/// Bytes of the longest line that is taken from a control pipe.
const CONTROL_LINE_BYTES_MAX: usize = 256;

/// Where a server stands between running and gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Draining,
    Terminated,
}

/// A server's view of its end. Clones watch the same end.
///
/// When every [`ShutdownTrigger`] is dropped, nobody is left who could say
/// when to stop, so both stages count as reached: a forgotten server ends
/// instead of living on unowned.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: watch::Receiver<Stage>,
}

/// The other end of a [`Shutdown`]: it starts the drain and ends it. Clones
/// move the same value, and a stage that was reached is never left again.
#[derive(Clone, Debug)]
pub struct ShutdownTrigger {
    stage: Arc<watch::Sender<Stage>>,
}

impl Shutdown {
    /// A new pair, at the stage before draining.
    pub fn channel() -> (ShutdownTrigger, Shutdown) {
        let (sender, stage) = watch::channel(Stage::Running);
        (ShutdownTrigger { stage: Arc::new(sender) }, Shutdown { stage })
    }

    /// Whether the drain has begun (or is over).
    pub fn is_draining(&self) -> bool {
        self.reached(Stage::Draining)
    }

    /// Whether what is left must be cut off.
    pub fn is_terminated(&self) -> bool {
        self.reached(Stage::Terminated)
    }

    /// Resolves when the drain begins: take no more, finish what runs. Cancel
    /// safe, and resolves at once when the drain began earlier.
    pub async fn draining(&mut self) {
        // An error means that the trigger is gone, which counts as reached.
        let _ = self.stage.wait_for(|stage| *stage >= Stage::Draining).await;
    }

    /// Resolves when what is left must be cut off. Cancel safe.
    pub async fn terminated(&mut self) {
        let _ = self.stage.wait_for(|stage| *stage >= Stage::Terminated).await;
    }

    fn reached(&self, wanted: Stage) -> bool {
        *self.stage.borrow() >= wanted || self.stage.has_changed().is_err()
    }
}

impl ShutdownTrigger {
    /// Begins the drain. Does nothing when it began earlier.
    pub fn drain(&self) {
        self.raise(Stage::Draining);
    }

    /// Ends the drain: whatever still runs is cut off.
    pub fn terminate(&self) {
        self.raise(Stage::Terminated);
    }

    fn raise(&self, wanted: Stage) {
        self.stage.send_if_modified(|stage| {
            let higher = wanted > *stage;
            if higher {
                *stage = wanted;
            }
            higher
        });
    }
}

/// What ends a server process. See [`process_shutdown`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessShutdown {
    /// How long calls may run on after the first signal.
    pub drain_timeout: Duration,
    /// Whether standard input is a control pipe: the process exits at once
    /// when it closes, which is how a role learns that its lab died, however
    /// it died.
    pub control_pipe: bool,
}

/// Turns the process's signals into a [`Shutdown`].
///
/// SIGTERM or SIGINT begins the drain; a second signal, or
/// [`ProcessShutdown::drain_timeout`] after the first, ends it. Must be called
/// inside a tokio runtime with its I/O and time drivers enabled; the watching
/// task lives as long as that runtime.
///
/// # Errors
/// When the signal handlers or the control pipe's thread can't be set up.
pub async fn process_shutdown(options: ProcessShutdown) -> io::Result<Shutdown> {
    process_shutdown_with(options, |_| {}).await
}

/// As [`process_shutdown`]; each line that comes over the control pipe is handed
/// to `command`, on a thread of its own. Lines longer than
/// `CONTROL_LINE_BYTES_MAX` are thrown away.
///
/// # Errors
/// As [`process_shutdown`].
pub async fn process_shutdown_with(
    options: ProcessShutdown,
    command: impl FnMut(&str) + Send + 'static,
) -> io::Result<Shutdown> {
    if options.control_pipe {
        watch_control_pipe(command)?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (trigger, shutdown) = Shutdown::channel();
    // Not joined: it holds nothing but the trigger and ends with the runtime.
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        trigger.drain();
        let second = either(&mut terminate, &mut interrupt);
        let _ = tokio::time::timeout(options.drain_timeout, second).await;
        trigger.terminate();
        // Keeps the trigger alive, and further signals harmless.
        loop {
            either(&mut terminate, &mut interrupt).await;
        }
    });
    Ok(shutdown)
}

/// Goes on after each SIGHUP, which would end the process otherwise, and says
/// `line`. Must be called inside a tokio runtime with its I/O driver enabled; it
/// lasts as long as the process.
///
/// # Errors
/// When the signal handler can't be set up.
pub fn note_hangups(line: &'static str) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    // Not joined: it holds nothing, and ends with the runtime.
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            note(line);
        }
    });
    Ok(())
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Exits the process when standard input ends.
///
/// A thread of its own blocks on the read, and not a task: a role must die
/// with its lab even when its runtime is stuck in a loop.
fn watch_control_pipe(command: impl FnMut(&str) + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("control-pipe".to_owned()).spawn(|| {
        wait_for_end(std::io::stdin(), command);
        std::process::exit(0);
    })?;
    Ok(())
}

/// Returns when `input` reaches its end or fails. Whole lines that arrive until
/// then are handed to `command`.
fn wait_for_end(input: impl AsFd, mut command: impl FnMut(&str)) {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        io::Errno,
    };

    let mut scratch = [0_u8; 256];
    let mut line = Line::default();
    loop {
        match rustix::io::read(&input, &mut scratch) {
            Ok(0) => return,
            Ok(read) => line.take(&scratch[..read], &mut command),
            Err(Errno::INTR) => {}
            // The parent left the pipe's end non-blocking: wait, don't spin.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&input, PollFlags::IN)], None);
            }
            Err(_) => return,
        }
    }
}

/// The line that is being received.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl Line {
    fn take(&mut self, bytes: &[u8], command: &mut impl FnMut(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                self.is_too_long |= self.bytes.len() >= CONTROL_LINE_BYTES_MAX;
                if !self.is_too_long {
                    self.bytes.push(byte);
                }
                continue;
            }
            if !self.is_too_long
                && let Ok(line) = std::str::from_utf8(&self.bytes)
            {
                command(line);
            }
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_are_reached_in_order_and_never_left() {
        let (trigger, mut shutdown) = Shutdown::channel();
        assert!(!shutdown.is_draining());
        trigger.drain();
        shutdown.draining().await;
        assert!(shutdown.is_draining() && !shutdown.is_terminated());
        trigger.terminate();
        trigger.drain();
        shutdown.terminated().await;
        assert!(shutdown.is_draining() && shutdown.is_terminated());
    }

    #[tokio::test]
    async fn a_late_clone_sees_the_stage_at_once() {
        let (trigger, shutdown) = Shutdown::channel();
        trigger.terminate();
        let mut late = shutdown.clone();
        late.draining().await;
        late.terminated().await;
    }

    #[tokio::test]
    async fn a_dropped_trigger_ends_the_server() {
        let (trigger, mut shutdown) = Shutdown::channel();
        drop(trigger);
        shutdown.draining().await;
        shutdown.terminated().await;
        assert!(shutdown.is_draining() && shutdown.is_terminated());
    }

    #[test]
    fn the_control_pipe_ends_when_its_writer_does() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let waiting = std::thread::spawn(move || {
            let mut lines = Vec::new();
            wait_for_end(reader, |line| lines.push(line.to_owned()));
            lines
        });
        let endless = "x".repeat(10 * CONTROL_LINE_BYTES_MAX);
        let text = format!("speed 0.2\n{endless}\nspeed 1\nno end of line");
        std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
        drop(writer);
        assert_eq!(waiting.join().unwrap(), ["speed 0.2", "speed 1"]);
    }
}
