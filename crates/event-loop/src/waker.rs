//! Waking a thread that sleeps in `epoll_wait`: an eventfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread whose poller it is registered with. As a waker of the
/// standard library it lets a future wake a thread that is no runtime's.
#[derive(Debug)]
pub struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    /// A waker that has not been used.
    ///
    /// # Errors
    /// When descriptors are missing.
    pub fn new() -> io::Result<Self> {
        Ok(Self { eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Wakes the thread, or keeps it from falling asleep.
    pub fn wake(&self) {
        // It can only fail when the counter is full, and then it wakes anyway.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    /// Lets the thread sleep again; to be called before it looks at what it was
    /// woken for, so that nothing is lost in between.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.eventfd, &mut [0_u8; 8]);
    }
}

impl Wake for Waker {
    fn wake(self: Arc<Self>) {
        Self::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Self::wake(self);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Poller, WAKER};
    use std::time::Duration;

    #[test]
    fn it_wakes_until_it_is_cleared() {
        let (waker, poller) = (Waker::new().expect("descriptors"), Poller::new().expect("epoll"));
        poller.add_level(&waker, WAKER).expect("room");
        let wakes = || {
            let mut events = Vec::with_capacity(1);
            poller.wait(&mut events, Some(Duration::ZERO)).expect("epoll");
            events.iter().map(|event| event.data.u64()).collect::<Vec<_>>()
        };
        assert!(wakes().is_empty());
        waker.wake();
        waker.wake();
        assert_eq!(wakes(), [WAKER]);
        waker.clear();
        assert!(wakes().is_empty());
    }
}
