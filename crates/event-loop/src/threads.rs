//! Which thread of a proxy has which connections, and how one comes from the thread that
//! accepted it to the thread that serves it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Mailbox;

/// The threads of a proxy, by index, and what others may know of each. `T` is what a thread
/// is told.
#[derive(Debug)]
pub struct Threads<T> {
    all: Vec<Thread<T>>,
    /// Those that may still accept.
    listening: AtomicUsize,
}

#[derive(Debug)]
struct Thread<T> {
    mailbox: Mailbox<T>,
    open: AtomicUsize,
}

impl<T> Threads<T> {
    /// So many, all of which listen.
    ///
    /// # Errors
    /// When descriptors are missing.
    pub fn new(count: usize) -> io::Result<Self> {
        let thread = || Ok(Thread { mailbox: Mailbox::new()?, open: AtomicUsize::new(0) });
        let all = (0..count).map(|_| thread()).collect::<io::Result<_>>()?;
        Ok(Self { all, listening: AtomicUsize::new(count) })
    }

    /// What wakes a thread, and what it is woken for.
    pub fn mailbox(&self, thread: usize) -> &Mailbox<T> {
        &self.all[thread].mailbox
    }

    /// All of them, by index.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Mailbox<T>> {
        self.all.iter().map(|thread| &thread.mailbox)
    }

    /// Connections that are open on a thread, or on their way to it.
    pub fn open_on(&self, thread: usize) -> usize {
        self.all[thread].open.load(Ordering::Relaxed)
    }

    /// Whether any thread may still accept connections, for itself or for others.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire) > 0
    }

    /// A thread has closed its listener. The last one wakes the others, which waited for what
    /// it might pass on.
    pub fn stopped_listening(&self) {
        if self.listening.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.mailboxes().for_each(Mailbox::wake);
        }
    }

    /// Which thread should have a connection that thread `me` accepted.
    ///
    /// The kernel spreads connections over listeners by a hash of their addresses, which is
    /// even for thousands and a lottery for eight. So a thread passes a connection on when
    /// another one has clearly fewer: fewer at all while there are few, an eighth fewer when
    /// there are many and the wake-up of the other thread would be paid for nothing. Envoy's
    /// `connection_balance_config` does the same for each connection.
    pub fn deal(&self, me: usize) -> usize {
        let fewest = (0..self.all.len()).min_by_key(|thread| self.open_on(*thread)).unwrap_or(me);
        let (mine, theirs) = (self.open_on(me), self.open_on(fewest));
        if mine.saturating_sub(theirs) > mine / 8 { fewest } else { me }
    }

    /// Counts a connection on a thread, until the seat is dropped.
    pub fn seat(self: &Arc<Self>, thread: usize) -> Seat<T> {
        self.all[thread].open.fetch_add(1, Ordering::Relaxed);
        Seat { threads: Arc::clone(self), thread }
    }
}

/// A connection's place in the count of its thread.
#[derive(Debug)]
pub struct Seat<T> {
    threads: Arc<Threads<T>>,
    thread: usize,
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        self.threads.all[self.thread].open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> Arc<Threads<()>> {
        Arc::new(Threads::new(count).expect("descriptors"))
    }

    #[test]
    fn few_connections_are_dealt_evenly_whoever_accepts_them() {
        let threads = threads(4);
        let seats: Vec<_> = (0..10).map(|_| threads.seat(threads.deal(3))).collect();
        let mut counts: Vec<_> = (0..4).map(|thread| threads.open_on(thread)).collect();
        counts.sort_unstable();
        assert_eq!((seats.len(), counts), (10, vec![2, 2, 3, 3]));
        drop(seats);
        assert_eq!(threads.open_on(3), 0);
    }

    #[test]
    fn many_connections_stay_where_they_were_accepted_while_about_even() {
        let threads = threads(2);
        let _mine: Vec<_> = (0..100).map(|_| threads.seat(0)).collect();
        let mut theirs: Vec<_> = (0..90).map(|_| threads.seat(1)).collect();
        assert_eq!(threads.deal(0), 0);
        theirs.truncate(80);
        assert_eq!(threads.deal(0), 1);
        assert_eq!(threads.deal(1), 1);
    }

    #[test]
    fn the_last_that_stops_listening_wakes_all() {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let threads = threads(2);
        let is_awake = |thread| {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(threads.mailbox(thread), PollFlags::IN)], Some(&now)) == Ok(1)
        };
        threads.stopped_listening();
        assert!(threads.is_listening() && !is_awake(0));
        threads.stopped_listening();
        assert!(!threads.is_listening() && is_awake(0) && is_awake(1));
    }
}
