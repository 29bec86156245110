//! Our own client, on `h2-wire`: no task, no allocation and no lock a call, and
//! one read and one write for all that is ready.
//!
//! Calls beyond the streams that the server allows (`SETTINGS_MAX_CONCURRENT_STREAMS`) wait
//! for one to end, as in every gRPC library, or have another connection made to the same
//! address, up to a bound (gRFC A105). A call goes out on the oldest connection with a stream
//! left.
//!
//! [`link`] is a connection without its socket, [`socket`] the bytes with or without
//! TLS, [`input`] what has come, [`keepalive`] how long nothing has; here are the sockets'
//! tasks, and what happens when a connection has to be made again. [`stamped`] knows when the
//! kernel took in what was read.

mod input;
mod keepalive;
mod link;
mod message;
mod socket;
mod stamped;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use measure::calllog::FailureKind;
use scenario::Keepalive;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::timeout,
};

use super::{
    At, Backoff, CONNECT_TIMEOUT, Call, ConnectError, ConnectOptions, Connection, Ended, OnWire,
    Resolver, Shape, Sink, Trust, connect_failure,
};
use crate::clock::monotonic_ns;
use input::{Input, READ_BYTES, SINGLE_READS, Taken};
use keepalive::{Next, Silence};
use link::{Happened, Link, Origin};
use socket::Socket;

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

    /// Connects, and waits for the server's SETTINGS.
    async fn shake_hands(&self) -> io::Result<(Socket, Link)> {
        let socket = self.connect(self.resolver.next(monotonic_ns())).await?;
        let socket = Socket::over(socket, self.trust.as_deref()).await?;
        let mut link = Link::new(&self.shape);
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        loop {
            while !write_some(&socket, &mut link, &self.shape)? {
                socket.writable().await?;
            }
            if link.http.has_settings() {
                // Nothing else has been asked for, so nothing else has come but
                // what belongs to the greeting.
                return Ok((socket, link));
            }
            socket.readable().await?;
            match socket.try_read(&mut buffer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let mut start = 0;
            loop {
                let read =
                    link.read(&buffer[start..filled], &self.shape).map_err(io::Error::other)?;
                start += read.consumed;
                if read.happened.is_none() {
                    break;
                }
            }
            buffer.copy_within(start..filled, 0);
            filled -= start;
        }
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        socket.connect(to).await
    }

    /// Moves bytes until the connection ends or is of no more use.
    async fn serve(self: &Rc<Self>, socket: &Socket, wired: &Rc<Wired>) -> io::Result<()> {
        let mut input = Input::new();
        let mut silence = self.keepalive.map(Silence::new);
        loop {
            let is_blocked = {
                let mut link = wired.link.borrow_mut();
                link.pump(&self.shape);
                !write_some(socket, &mut link, &self.shape)?
            };
            let is_done = wired.link.borrow().is_leaving() && wired.link.borrow().is_idle();
            if self.is_closed.get() || is_done {
                return Ok(());
            }
            let timer_ns = wired.link.borrow().next_timer_ns();
            let is_idle = wired.link.borrow().is_idle();
            let silence_ns =
                silence.as_mut().and_then(|silence| silence.due_ns(is_idle, monotonic_ns()));
            tokio::select! {
                ready = socket.readable() => ready?,
                ready = socket.writable(), if is_blocked => {
                    ready?;
                    continue;
                }
                () = wired.wake.notified() => continue,
                () = until(timer_ns), if timer_ns.is_some() => {
                    self.tick(wired);
                    continue;
                }
                () = until(silence_ns), if silence_ns.is_some() => {
                    match silence.as_mut().map(|one| one.check(is_idle, monotonic_ns())) {
                        Some(Next::Ping) => wired.link.borrow_mut().http.ping(),
                        Some(Next::GiveUp) => return Err(io::ErrorKind::TimedOut.into()),
                        Some(Next::Wait) | None => {}
                    }
                    continue;
                }
            }
            self.read(socket, wired, &mut input, silence.as_mut())?;
        }
    }

    /// Reads what has come, a bounded number of times.
    fn read(
        self: &Rc<Self>,
        socket: &Socket,
        wired: &Rc<Wired>,
        input: &mut Input,
        mut silence: Option<&mut Silence>,
    ) -> io::Result<()> {
        for turn in 0..=SINGLE_READS {
            let room = input.room(turn);
            let read = match socket.try_read(room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let may_be_more = read == room.len();
            if let Some(silence) = &mut silence {
                silence.heard(monotonic_ns());
            }
            wired.is_busy.set(true);
            let taken = self.take_frames(wired, input.with(read), socket.arrived_ns());
            wired.is_busy.set(false);
            input.took(taken?);
            if !may_be_more {
                break;
            }
        }
        Ok(())
    }

    /// Deals with every whole frame of `input`. The link is not borrowed while the sink is
    /// told, since the sink starts the next call.
    fn take_frames(
        self: &Rc<Self>,
        wired: &Rc<Wired>,
        input: &[u8],
        arrived_ns: Option<u64>,
    ) -> io::Result<Taken> {
        let mut taken = Taken::default();
        loop {
            let read = wired
                .link
                .borrow_mut()
                .read(&input[taken.bytes..], &self.shape)
                .map_err(io::Error::other)?;
            taken.bytes += read.consumed;
            let Some(happened) = read.happened else { return Ok(taken) };
            match happened {
                Happened::Ended(call, ended, written_ns) => {
                    taken.calls += 1;
                    let on_wire = written_ns.zip(arrived_ns);
                    let on_wire =
                        on_wire.map(|(written_ns, arrived_ns)| OnWire { written_ns, arrived_ns });
                    let report = wired.link.borrow_mut().take_report();
                    if let Some(report) = report {
                        self.sink.report(call, &report);
                    }
                    self.sink.ended(call, ended, on_wire);
                    self.start_waiting();
                }
                Happened::Unprocessed(call, sequence) => {
                    if !self.sink.take_back(call, sequence) {
                        self.waiting.borrow_mut().push_back((call, sequence));
                        self.start_waiting();
                    }
                }
                Happened::Leaving => {
                    if self.retire(wired) {
                        self.lost();
                    }
                    self.redial_if_alone();
                }
                Happened::Settings => self.start_waiting(),
                Happened::Nothing => {}
            }
        }
    }

    /// Sends requests whose pause is over, and gives up calls whose time is.
    fn tick(self: &Rc<Self>, wired: &Rc<Wired>) {
        loop {
            let happened = wired.link.borrow_mut().tick(monotonic_ns(), &self.shape);
            let Some(happened) = happened else { return };
            if let Happened::Ended(call, ended, _) = happened {
                self.sink.ended(call, ended, None);
                self.start_waiting();
            }
        }
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

/// Waits until a time of the monotonic clock.
async fn until(time_ns: Option<u64>) {
    let left_ns = time_ns.unwrap_or(0).saturating_sub(monotonic_ns());
    tokio::time::sleep(Duration::from_nanos(left_ns)).await;
}

/// Writes what the kernel takes; says whether that was all.
fn write_some(socket: &Socket, link: &mut Link, shape: &Shape) -> io::Result<bool> {
    while !link.http.output().is_empty() {
        let now_ns = monotonic_ns();
        match socket.try_write(link.http.output()) {
            Ok(written) => {
                link.wrote(written, now_ns);
                link.pump(shape);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    match socket.try_flush() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
