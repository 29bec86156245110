//! What the tasks of one thread share, without a lock: they never leave it.

use std::{cell::Cell, future::poll_fn, rc::Rc};

use hyper::rt::Executor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    task::spawn_local,
    time::Instant,
};

/// Runs hyper's tasks on this thread. Whenever one of them has run, which is when
/// hyper may have read something, `ran` is told: hyper itself tells nobody that a
/// backend's SETTINGS or GOAWAY have come.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalExecutor {
    pub(super) ran: Rc<Notify>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        let ran = Rc::clone(&self.ran);
        let mut future = Box::pin(future);
        // Not joined: it ends with its connection, or with the local set.
        spawn_local(poll_fn(move |cx| {
            let polled = future.as_mut().poll(cx);
            ran.notify_one();
            polled
        }));
    }
}

/// What is counted by its clones.
pub(super) type Count = Rc<()>;

/// How many clones there are.
pub(super) fn held(count: &Count) -> u32 {
    Rc::strong_count(count) as u32 - 1
}

/// A connection's bytes, in plain text or under TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A call, until its response is over. All of one connection share when the last of
/// them ended, or the connection or its drain began.
pub(super) struct OpenCall(pub(super) Rc<Cell<Instant>>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.set(Instant::now());
    }
}
