//! How the proxy's shutdown, which is futures, wakes a thread that sleeps in
//! `epoll_wait`.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context};

use event_loop::Waker;
use serve::Shutdown;

/// Where the shutdown stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    Draining,
    Terminated,
}

/// Wakes the thread when the shutdown moves on.
pub(super) struct ShutdownWatch {
    waker: Arc<Waker>,
    task_waker: task::Waker,
    draining: Option<Wait>,
    terminated: Option<Wait>,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl ShutdownWatch {
    pub(super) fn new(shutdown: Shutdown) -> io::Result<Self> {
        let waker = Arc::new(Waker::new()?);
        let (mut first, mut second) = (shutdown.clone(), shutdown);
        Ok(Self {
            task_waker: task::Waker::from(Arc::clone(&waker)),
            waker,
            draining: Some(Box::pin(async move { first.draining().await })),
            terminated: Some(Box::pin(async move { second.terminated().await })),
        })
    }

    /// Where the shutdown stands; the thread is woken when that changes.
    pub(super) fn stage(&mut self) -> Stage {
        self.waker.clear();
        let mut context = Context::from_waker(&self.task_waker);
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

impl AsFd for ShutdownWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn it_wakes_when_the_shutdown_moves_on() {
        let (trigger, shutdown) = Shutdown::channel();
        let mut watch = ShutdownWatch::new(shutdown).unwrap();
        assert_eq!(watch.stage(), Stage::Running);
        let wakes = |watch: &ShutdownWatch| {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&now)) == Ok(1)
        };
        assert!(!wakes(&watch));
        trigger.drain();
        assert!(wakes(&watch));
        assert_eq!(watch.stage(), Stage::Draining);
        assert!(!wakes(&watch));
        trigger.terminate();
        assert!(wakes(&watch));
        assert_eq!(watch.stage(), Stage::Terminated);
    }
}
