//! How the rest of the process talks to a thread that sleeps in `epoll_wait`:
//! a short locked list and an eventfd that wakes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// Messages for one thread.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    messages: Mutex<Vec<T>>,
    wake: OwnedFd,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { messages: Mutex::new(Vec::new()), wake })
    }

    /// Leaves a message and wakes the thread.
    pub(crate) fn send(&self, message: T) {
        self.lock().push(message);
        // It can only fail when the counter is full, and then the thread is
        // woken anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Takes all messages, oldest first.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut count = [0; 8];
        // Before the list is emptied, so that a message left in between wakes
        // the thread again.
        let _ = rustix::io::read(&self.wake, &mut count);
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn a_message_wakes_until_it_is_taken() {
        let mailbox = Mailbox::new().unwrap();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_awake = || poll(&mut [PollFd::new(&mailbox, PollFlags::IN)], Some(&now)) == Ok(1);
        assert!(!is_awake());
        mailbox.send(1);
        mailbox.send(2);
        assert!(is_awake());
        assert_eq!(mailbox.take(), [1, 2]);
        assert!(!is_awake());
    }
}
