//! The task that owns a socket: it connects, and then moves bytes between socket and link until
//! either is of no more use.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::net::{TcpSocket, TcpStream};

use super::{
    Channel, Wired,
    input::{Input, READ_BYTES, SINGLE_READS, Taken},
    keepalive::{Next, Silence},
    link::{Happened, Link},
    socket::Socket,
};
use crate::{
    client::{OnWire, Shape},
    clock::monotonic_ns,
};

impl Channel {
    /// Connects, and waits for the server's SETTINGS.
    pub(super) async fn shake_hands(&self) -> io::Result<(Socket, Link)> {
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
    pub(super) async fn serve(
        self: &Rc<Self>,
        socket: &Socket,
        wired: &Rc<Wired>,
    ) -> io::Result<()> {
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
