//! How the proxy's shutdown, a future, wakes a thread that sleeps in
//! `epoll_wait`: the future's waker writes to an eventfd.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};
use serve::Shutdown;

/// Where the shutdown stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    Draining,
    Terminated,
}

/// Rings when the shutdown moves on.
pub(super) struct Bell {
    rope: Arc<Rope>,
    waker: Waker,
    draining: Option<Wait>,
    terminated: Option<Wait>,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Rope(OwnedFd);

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        // It can only fail when the counter is full, and then it rings anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Bell {
    pub(super) fn new(shutdown: Shutdown) -> io::Result<Self> {
        let rope = Arc::new(Rope(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let (mut first, mut second) = (shutdown.clone(), shutdown);
        Ok(Self {
            waker: Waker::from(Arc::clone(&rope)),
            rope,
            draining: Some(Box::pin(async move { first.draining().await })),
            terminated: Some(Box::pin(async move { second.terminated().await })),
        })
    }

    /// Asks where the shutdown stands; the bell rings when that changes.
    pub(super) fn answer(&mut self) -> Stage {
        // Before the futures are asked, so that no ring is lost in between.
        let _ = rustix::io::read(&self.rope.0, &mut [0_u8; 8]);
        let mut context = Context::from_waker(&self.waker);
        let mut is_over = |wait: &mut Option<Wait>| {
            if wait.as_mut().is_some_and(|wait| wait.as_mut().poll(&mut context).is_ready()) {
                *wait = None;
            }
            wait.is_none()
        };
        match (is_over(&mut self.draining), is_over(&mut self.terminated)) {
            (_, true) => Stage::Terminated,
            (true, false) => Stage::Draining,
            (false, false) => Stage::Running,
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rope.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn it_rings_when_the_shutdown_moves_on() {
        let (trigger, shutdown) = Shutdown::channel();
        let mut bell = Bell::new(shutdown).unwrap();
        assert_eq!(bell.answer(), Stage::Running);
        let rings = |bell: &Bell| {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&now)) == Ok(1)
        };
        assert!(!rings(&bell));
        trigger.drain();
        assert!(rings(&bell));
        assert_eq!(bell.answer(), Stage::Draining);
        assert!(!rings(&bell));
        trigger.terminate();
        assert!(rings(&bell));
        assert_eq!(bell.answer(), Stage::Terminated);
    }
}
