//! Epoll.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::{EventFlags, Readiness};

/// The token of the listener; no key's token is as large.
pub const ACCEPTOR: u64 = u64::MAX;
/// The token of a waker, or of what has one.
pub const WAKER: u64 = u64::MAX - 1;

/// Events as the kernel gives them. As many are taken at once as there is room
/// for.
pub type Events = Vec<epoll::Event>;

/// One thread's epoll instance.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An instance that watches nothing.
    ///
    /// # Errors
    /// When descriptors are missing.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches a connection's socket, edge-triggered and for all that
    /// [`Readiness`] takes note of, until it is closed.
    ///
    /// # Errors
    /// When the kernel can't watch any more.
    pub fn add(&self, socket: impl AsFd, token: u64) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token), Readiness::INTEREST)
    }

    /// Watches something for as long as it can be read: who does not read all is
    /// told again.
    ///
    /// # Errors
    /// As [`Poller::add`].
    pub fn add_level(&self, source: impl AsFd, token: u64) -> Result<(), Errno> {
        epoll::add(&self.epoll, source, epoll::EventData::new_u64(token), EventFlags::IN)
    }

    /// Begins or ceases to report what was added with [`Poller::add_level`].
    ///
    /// # Errors
    /// When it was not added.
    pub(crate) fn set_reported(
        &self,
        source: impl AsFd,
        token: u64,
        is: bool,
    ) -> Result<(), Errno> {
        let flags = if is { EventFlags::IN } else { EventFlags::empty() };
        epoll::modify(&self.epoll, source, epoll::EventData::new_u64(token), flags)
    }

    /// Puts what has happened into `events`; waits for it, for `timeout` at most.
    ///
    /// # Errors
    /// When epoll breaks, which no connection can cause.
    #[inline]
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Longer sleeps than a day are cut into days.
    let capped = duration.min(Duration::from_secs(86_400));
    Timespec { tv_sec: capped.as_secs() as i64, tv_nsec: i64::from(capped.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_become_what_the_kernel_takes() {
        assert_eq!(timespec(Duration::from_millis(1_500)).tv_nsec, 500_000_000);
        assert_eq!(timespec(Duration::MAX).tv_sec, 86_400);
    }
}
