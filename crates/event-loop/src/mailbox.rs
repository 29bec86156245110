//! How the rest of the process talks to a thread that sleeps in `epoll_wait`:
//! a short locked list and its waker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Waker;

/// Messages for one thread.
#[derive(Debug)]
pub struct Mailbox<T> {
    messages: Mutex<Vec<T>>,
    waker: Waker,
}

impl<T> Mailbox<T> {
    /// An empty one.
    ///
    /// # Errors
    /// When descriptors are missing.
    pub fn new() -> io::Result<Self> {
        Ok(Self { messages: Mutex::new(Vec::new()), waker: Waker::new()? })
    }

    /// Leaves a message and wakes the thread.
    pub fn send(&self, message: T) {
        self.lock().push(message);
        self.waker.wake();
    }

    /// Wakes the thread without a message.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Takes all messages, oldest first.
    pub fn take(&self) -> Vec<T> {
        self.waker.clear();
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
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
