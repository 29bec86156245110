//! The least that a hop costs on this kernel: a proxy that makes the system calls of one and
//! does next to nothing between them. `scripts/bench.sh l4` and `l7` measure it among the others,
//! as the peers `l4-floor` and `l7-floor`.
//!
//! `floor l4 LISTEN BACKEND...` reads from one socket what it writes to another. `floor l7` walks
//! frames, since a call goes to a backend of its own, and shares one connection a backend among
//! all clients. It knows neither header compression nor flow control: each request gets the same
//! header block, and so does each response. So it is good for unary calls of the echo service
//! that fit the windows of its neighbours, and for nothing else.
//!
//! Both take turns as the relay does: what has happened is read first, and what that leaves to
//! be written goes out at the end of the turn, in one write a connection.

#![allow(clippy::unwrap_used, reason = "a bench program fails by panicking")]

mod l4;
mod l7;

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
};

use event_loop::{ACCEPTOR, Accepted, Acceptor, Events, Poller, Readiness};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use slab::Slab;

/// One read takes so much at least, if it is there.
const READ_BYTES: usize = 64 << 10;

/// One connection.
struct Link {
    socket: OwnedFd,
    ready: Readiness,
    input: Vec<u8>,
    output: Vec<u8>,
    is_dirty: bool,
}

/// All connections, and those that have something to write.
struct Links {
    poller: Poller,
    all: Slab<Link>,
    dirty: Vec<usize>,
}

impl Links {
    fn add(&mut self, socket: OwnedFd) -> usize {
        let key = self.all.insert(Link {
            socket,
            ready: Readiness::default(),
            input: Vec::with_capacity(2 * READ_BYTES),
            output: Vec::new(),
            is_dirty: false,
        });
        self.poller.add(self.all[key].socket.as_fd(), key as u64).unwrap();
        key
    }

    fn connect(&mut self, backend: SocketAddr) -> usize {
        let socket = event_loop::connect(backend, None).unwrap();
        self.add(socket)
    }

    /// What is to be written to a connection at the end of the turn.
    fn output(&mut self, key: usize) -> Option<&mut Vec<u8>> {
        let link = self.all.get_mut(key)?;
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(key);
        }
        Some(&mut link.output)
    }

    fn flush(&mut self) {
        while let Some(key) = self.dirty.pop() {
            let Some(link) = self.all.get_mut(key) else { continue };
            link.is_dirty = false;
            if link.output.is_empty() || !link.ready.writable {
                continue;
            }
            match send(&link.socket, &link.output, SendFlags::NOSIGNAL) {
                Ok(sent) if sent == link.output.len() => link.output.clear(),
                Ok(sent) => {
                    link.output.drain(..sent);
                    link.ready.writable = false;
                }
                Err(Errno::AGAIN) => link.ready.writable = false,
                // Its end is read soon.
                Err(_) => link.output.clear(),
            }
        }
    }
}

/// What is done with what was read.
trait Hop {
    fn accepted(&mut self, links: &mut Links, client: usize);
    /// Takes from `input` what is whole.
    fn read(&mut self, links: &mut Links, from: usize, input: &mut Vec<u8>);
    fn closed(&mut self, links: &mut Links, which: usize);
}

fn serve(listen: SocketAddr, mut links: Links, hop: &mut dyn Hop) -> ! {
    let listener = TcpListener::bind(listen).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut acceptor = Acceptor::new(listener, None).unwrap();
    acceptor.watch(&links.poller).unwrap();
    let mut events = Events::with_capacity(256);
    loop {
        links.poller.wait(&mut events, None).unwrap();
        for &event in &events {
            let token = event.data.u64();
            if token == ACCEPTOR {
                while let Accepted::Connection(socket, _) = acceptor.accept() {
                    let client = links.add(socket);
                    hop.accepted(&mut links, client);
                }
                continue;
            }
            let key = token as usize;
            let Some(link) = links.all.get_mut(key) else { continue };
            link.ready.note(event.flags);
            if link.ready.writable && !link.output.is_empty() {
                let _ = links.output(key);
            }
            read_all(&mut links, hop, key);
        }
        links.flush();
    }
}

fn read_all(links: &mut Links, hop: &mut dyn Hop, key: usize) {
    while let Some(link) = links.all.get_mut(key).filter(|link| link.ready.readable) {
        link.input.reserve(READ_BYTES);
        let room = link.input.capacity() - link.input.len();
        match recv(&link.socket, spare_capacity(&mut link.input), RecvFlags::empty()) {
            Ok((0, _)) => return hop.closed(links, key),
            Ok((length, _)) => {
                link.ready.read(length, room);
                let mut input = std::mem::take(&mut link.input);
                hop.read(links, key, &mut input);
                if let Some(link) = links.all.get_mut(key) {
                    link.input = input;
                }
            }
            Err(Errno::AGAIN) => link.ready.emptied(),
            Err(_) => return hop.closed(links, key),
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: floor l4|l7 LISTEN BACKEND...";
    let (layer, addresses) = words.split_first().expect(usage);
    let addresses: Vec<SocketAddr> =
        addresses.iter().map(|address| address.parse().expect(usage)).collect();
    let (&listen, backends) = addresses.split_first().expect(usage);
    let mut links = Links { poller: Poller::new().unwrap(), all: Slab::new(), dirty: Vec::new() };
    match layer.as_str() {
        "l4" => serve(listen, links, &mut l4::Hop::new(backends)),
        "l7" => {
            let mut hop = l7::Hop::new(&mut links, backends);
            serve(listen, links, &mut hop)
        }
        _ => panic!("{usage}"),
    }
}
