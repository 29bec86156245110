//! Pipes for `splice(2)`: a pool, since making one costs more than a message.
//!
//! A direction borrows a pipe for as long as bytes are in it, which mostly is
//! one turn of the loop: a thread needs one pipe, and one more for each
//! direction whose sink is full. Pipes cost two descriptors and kernel memory,
//! so there is a cap over all threads. Whoever gets none copies instead, which
//! is slower and always works.
//!
//! No `unsafe`: rustix covers `splice` and the pipe's size safely, since the
//! kernel moves references to pages and never touches this process's memory.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use serve::Counter;

/// What is asked for with F_SETPIPE_SZ. A pipe counts slots of a page each, and
/// a slot can hold a whole fragment of a packet, 32 KiB on loopback: this many
/// slots take what a socket has to give at once.
const PIPE_BYTES: usize = 256 << 10;

/// The least that a pipe must hold to be worth it. The kernel gives a user
/// with many pipes smaller ones (`fs.pipe-user-pages-soft`), down to a page or
/// two, and copying is faster than splicing page by page.
const LEAST_BYTES: usize = 64 << 10;

/// Empty pipes that a thread keeps. Beyond these they are closed.
const IDLE_PIPES: usize = 32;

/// How many pipes all threads may have together, and have.
#[derive(Debug)]
pub(crate) struct PipeCap {
    max: usize,
    open: AtomicUsize,
}

/// One thread's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    idle: Vec<Pipe>,
    cap: Arc<PipeCap>,
    /// Moves that had to copy because there was no pipe.
    refused: Counter,
}

/// A pipe and what is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in it.
    pub(crate) held_bytes: usize,
    _permit: Permit,
}

/// A pipe's place under the cap, given back on drop.
#[derive(Debug)]
struct Permit(Arc<PipeCap>);

impl PipeCap {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, open: AtomicUsize::new(0) }
    }

    /// Pipes that exist now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn permit(self: &Arc<Self>) -> Option<Permit> {
        let has_room = |open: usize| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).ok()?;
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pipes {
    pub(crate) fn new(cap: Arc<PipeCap>, refused: Counter) -> Self {
        Self { idle: Vec::new(), cap, refused }
    }

    /// An empty pipe; `None` when the cap is reached, descriptors have run out
    /// or the kernel gives only tiny ones.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        let pipe = self.idle.pop().or_else(|| Pipe::open(&self.cap));
        if pipe.is_none() {
            self.refused.inc();
        }
        pipe
    }

    /// Takes an empty pipe back.
    pub(crate) fn give(&mut self, pipe: Pipe) {
        if pipe.held_bytes == 0 && self.idle.len() < IDLE_PIPES {
            self.idle.push(pipe);
        }
    }

    /// Closes the empty pipes, for their descriptors.
    pub(crate) fn close_idle(&mut self) {
        self.idle.clear();
    }
}

impl Pipe {
    fn open(cap: &Arc<PipeCap>) -> Option<Self> {
        let permit = cap.permit()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Where the size asked for is refused, the one it has may do.
        let size = fcntl_setpipe_size(&write, PIPE_BYTES)
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&write))
            .ok()?;
        (size >= LEAST_BYTES).then_some(Self { read, write, held_bytes: 0, _permit: permit })
    }

    /// The end that bytes come out of.
    pub(crate) fn outlet(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// The end that bytes go into.
    pub(crate) fn inlet(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipes(max: usize) -> Pipes {
        Pipes::new(Arc::new(PipeCap::new(max)), Counter::default())
    }

    #[test]
    fn pipes_come_back_and_the_cap_holds() {
        let mut pipes = pipes(2);
        let (first, second) = (pipes.take().unwrap(), pipes.take().unwrap());
        assert!(pipes.take().is_none());
        assert_eq!((pipes.refused.get(), pipes.cap.open()), (1, 2));
        pipes.give(first);
        assert_eq!(pipes.cap.open(), 2, "an idle pipe is kept");
        let first = pipes.take().unwrap();
        drop(second);
        assert_eq!(pipes.cap.open(), 1);
        pipes.give(first);
        pipes.close_idle();
        assert_eq!(pipes.cap.open(), 0);
    }

    #[test]
    fn a_pipe_with_bytes_left_in_it_is_not_used_again() {
        let mut pipes = pipes(1);
        let mut pipe = pipes.take().unwrap();
        assert_eq!(rustix::io::write(pipe.inlet(), b"left").unwrap(), 4);
        pipe.held_bytes = 4;
        pipes.give(pipe);
        assert_eq!((pipes.idle.len(), pipes.cap.open()), (0, 0));
        let pipe = pipes.take().unwrap();
        assert_eq!(rustix::io::read(pipe.outlet(), &mut [0; 8]), Err(rustix::io::Errno::AGAIN));
    }
}
