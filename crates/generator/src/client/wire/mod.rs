//! Our own client, on `h2-wire`: no task, no allocation and no lock a call, and
//! one read and one write for all that is ready.
//!
//! Calls beyond the streams that the server allows (`SETTINGS_MAX_CONCURRENT_STREAMS`) wait
//! for one to end, as in every gRPC library, or have another connection made to the same
//! address, up to a bound (gRFC A105). A call goes out on the oldest connection with a stream
//! left.
//!
//! [`link`] is a connection without its socket, [`socket`] the bytes with or without
//! TLS, [`input`] what has come, [`keepalive`] how long nothing has, and [`task`] moves bytes
//! between socket and link; here is which connection a call goes out on, and what happens when one
//! has to be made again. [`stamped`] knows when the kernel took in what was read.

mod input;
mod keepalive;
mod link;
mod message;
mod socket;
mod stamped;
mod task;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use measure::calllog::FailureKind;
use scenario::Keepalive;
use tokio::{sync::Notify, time::timeout};

use super::{
    At, Backoff, CONNECT_TIMEOUT, Call, ConnectError, ConnectOptions, Connection, Ended, Resolver,
    Shape, Sink, Trust, connect_failure,
};
use crate::clock::monotonic_ns;
use link::{Link, Origin};

/// Between an attempt to connect that failed and the end of the calls that waited for it.
const REDIAL_PAUSE: Duration = Duration::from_millis(10);

/// One connection of a scenario. The TCP connection behind it is made again when
/// it ends, as a service's channel does.
pub(super) struct WireConnection(Rc<Channel>);

struct Channel {
    resolver: Resolver,
    /// Whom to trust under TLS; `None` for plain text.
    trust: Option<Arc<Trust>>,
    /// The network device that connections leave by; `None` for any.
    device: Option<Arc<str>>,
    /// Calls that one TCP connection carries.
    connection_calls: Option<u32>,
    /// TCP connections that it may have at a time.
    max_connections: usize,
    backoff: Option<Backoff>,
    keepalive: Option<Keepalive>,
    shape: Rc<Shape>,
    sink: Rc<dyn Sink>,
    origin: Origin,
    /// Where new calls go, the oldest first.
    open: RefCell<Vec<Rc<Wired>>>,
    /// Calls that no connection takes at the moment, in order.
    waiting: RefCell<VecDeque<(Call, u64)>>,
    /// A connection is being made, or a pause kept after one could not be.
    is_connecting: Cell<bool>,
    /// Attempts to connect that failed, one after the other.
    failures: Cell<u32>,
    /// Notified when a call waits for a connection.
    has_waiting: Notify,
    is_closed: Cell<bool>,
}

/// A link, and what wakes the task that owns its socket.
struct Wired {
    link: RefCell<Link>,
    /// Calls that it was given.
    calls: Cell<u32>,
    /// Notified when there is something to write.
    wake: Notify,
    /// The task is at work and will write by itself.
    is_busy: Cell<bool>,
}

impl WireConnection {
    /// At once means: with the other side having shown that it speaks HTTP/2.
    pub(super) async fn new(
        options: ConnectOptions,
        resolver: Resolver,
        at: At,
        shape: Rc<Shape>,
        sink: Rc<dyn Sink>,
    ) -> Result<Self, ConnectError> {
        let authority = resolver.authority();
        let channel = Rc::new(Channel {
            origin: Origin::new(&shape, authority.clone(), options.trust.is_some()),
            resolver,
            trust: options.trust,
            device: options.device,
            connection_calls: options.connection_calls,
            max_connections: options.max_connections as usize,
            backoff: options.backoff,
            keepalive: options.keepalive,
            shape,
            sink,
            open: RefCell::default(),
            waiting: RefCell::default(),
            is_connecting: Cell::new(false),
            failures: Cell::new(0),
            has_waiting: Notify::new(),
            is_closed: Cell::new(false),
        });
        if at == At::Once {
            let dialled = channel.dial().await;
            dialled.map_err(|error| ConnectError::new(&authority, &error))?;
        }
        Ok(Self(channel))
    }
}

impl Connection for WireConnection {
    fn start(&self, call: Call, sequence: u64) {
        self.0.start(call, sequence);
    }

    fn set_members(&self, members: &[usize]) {
        if self.0.resolver.set_members(members, monotonic_ns()) {
            self.0.release();
        }
    }

    fn release(&self) {
        self.0.release();
    }

    fn is_ready(&self) -> bool {
        !self.0.open.borrow().is_empty()
    }

    fn make_ready(&self) {
        self.0.redial_if_alone();
    }
}

impl Drop for WireConnection {
    fn drop(&mut self) {
        self.0.is_closed.set(true);
        self.0.open.take().iter().for_each(|wired| wired.wake.notify_one());
    }
}

impl Channel {
    fn start(self: &Rc<Self>, call: Call, sequence: u64) {
        if !self.waiting.borrow().is_empty() || !self.start_on_any(call, sequence) {
            self.waiting.borrow_mut().push_back((call, sequence));
            self.has_waiting.notify_one();
            self.redial_if_short();
        }
    }

    /// Starts a call on the oldest connection that has room for it, if one has.
    fn start_on_any(&self, call: Call, sequence: u64) -> bool {
        for index in 0.. {
            // Connections are few, and one that carries its last call takes itself off.
            let Some(wired) = self.open.borrow().get(index).cloned() else { break };
            if self.start_on(&wired, call, sequence) {
                return true;
            }
        }
        false
    }

    fn start_on(&self, wired: &Rc<Wired>, call: Call, sequence: u64) -> bool {
        let started = wired.link.borrow_mut().start(call, sequence, &self.origin, &self.shape);
        if !started {
            return false;
        }
        wired.calls.set(wired.calls.get() + 1);
        if self.connection_calls == Some(wired.calls.get()) {
            wired.link.borrow_mut().leave();
            self.retire(wired);
        }
        if !wired.is_busy.get() {
            wired.wake.notify_one();
        }
        true
    }

    fn release(self: &Rc<Self>) {
        for wired in self.open.take() {
            wired.link.borrow_mut().leave();
            wired.wake.notify_one();
        }
        self.redial_if_short();
    }

    /// Starts calls that waited, as many as go.
    #[inline]
    fn start_waiting(self: &Rc<Self>) {
        loop {
            let next = self.waiting.borrow().front().copied();
            let Some((call, sequence)) = next else { return };
            if !self.start_on_any(call, sequence) {
                return self.redial_if_short();
            }
            self.waiting.borrow_mut().pop_front();
        }
    }

    /// Makes a connection in the background.
    fn redial(self: &Rc<Self>) {
        if self.is_connecting.replace(true) || self.is_closed.get() {
            return;
        }
        let channel = Rc::clone(self);
        tokio::task::spawn_local(async move {
            match channel.dial_any().await {
                Ok(()) => channel.failures.set(0),
                Err(error) => channel.rest(connect_failure(&error)).await,
            }
            channel.is_connecting.set(false);
            channel.start_waiting();
        });
    }

    /// Keeps the pause after a failed attempt to connect. Calls that wait for a connection
    /// meanwhile fail as it did, where there is no other.
    async fn rest(self: &Rc<Self>, kind: FailureKind) {
        self.lost();
        let failures = self.failures.replace(self.failures.get().saturating_add(1));
        let pause = self.backoff.map_or(REDIAL_PAUSE, |backoff| backoff.pause(failures));
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            // Calls that fail at once call forth the next ones at once.
            tokio::time::sleep(REDIAL_PAUSE.min(pause)).await;
            if self.open.borrow().is_empty() {
                self.fail_waiting(kind);
            }
            tokio::select! {
                biased;
                () = &mut over => return,
                () = self.has_waiting.notified() => {}
            }
        }
    }

    /// A connection was lost or sent away, or could not be made.
    fn lost(&self) {
        self.resolver.lost(monotonic_ns());
        self.sink.lost();
    }

    /// Tries the addresses there are, each once, until one of them takes it.
    async fn dial_any(self: &Rc<Self>) -> io::Result<()> {
        let mut dialled = self.dial().await;
        for _ in 1..self.resolver.count() {
            if dialled.is_ok() {
                break;
            }
            dialled = self.dial().await;
        }
        dialled
    }

    async fn dial(self: &Rc<Self>) -> io::Result<()> {
        let (socket, link) = timeout(CONNECT_TIMEOUT, self.shake_hands())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let wired = Rc::new(Wired {
            link: RefCell::new(link),
            calls: Cell::new(0),
            wake: Notify::new(),
            is_busy: Cell::new(false),
        });
        self.resolver.connected();
        self.open.borrow_mut().push(Rc::clone(&wired));
        let channel = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // How it ended shows in the calls that it carried.
            let _ = channel.serve(&socket, &wired).await;
            channel.ended(&wired);
        });
        Ok(())
    }

    /// New calls go to another connection from now on. Says whether they went to this one
    /// until now.
    fn retire(&self, wired: &Rc<Wired>) -> bool {
        let mut open = self.open.borrow_mut();
        let place = open.iter().position(|one| Rc::ptr_eq(one, wired));
        place.map(|place| open.remove(place)).is_some()
    }

    fn redial_if_alone(self: &Rc<Self>) {
        if self.open.borrow().is_empty() {
            self.redial();
        }
    }

    /// Makes a connection where a call waits for one and another may be had.
    fn redial_if_short(self: &Rc<Self>) {
        if !self.waiting.borrow().is_empty() && self.open.borrow().len() < self.max_connections {
            self.redial();
        }
    }

    /// The connection is over: what it still carried is lost.
    fn ended(self: &Rc<Self>, wired: &Rc<Wired>) {
        let was_in_use = self.retire(wired);
        let lost = wired.link.borrow_mut().take_calls();
        if self.is_closed.get() {
            return;
        }
        if was_in_use {
            self.lost();
        }
        for call in lost {
            self.sink.ended(call, Ended::Failed(FailureKind::ConnectionLost), None);
        }
        self.start_waiting();
    }

    fn fail_waiting(&self, kind: FailureKind) {
        let waiting: Vec<_> = self.waiting.borrow_mut().drain(..).collect();
        for (call, _) in waiting {
            self.sink.ended(call, Ended::Failed(kind), None);
        }
    }
}
