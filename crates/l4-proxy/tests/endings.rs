//! Every order in which the two sides of a connection can send, end and reset:
//! the other side must see the same, in the same order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    num::NonZeroUsize,
};

use common::{Backend, Proxy, Seen, bounded, config, end, expect_bytes, fill, pass, reset, see};
use l4_proxy::{Config, DataPlane};
use serve::BindOptions;

common::on_every_plane! {
    every_order_of_sending_ending_and_resetting_is_passed_on,
    bytes_sent_before_the_end_arrive_before_it,
    a_reset_is_passed_on_while_the_other_side_does_not_read,
    bytes_sent_before_a_reset_by_closing_are_delivered,
    urgent_bytes_do_not_stall_those_behind_them,
    a_client_that_goes_before_a_backend_is_found_leaves_nothing_behind,
    writing_to_a_side_that_has_gone_resets_the_other,
    connections_that_wait_to_be_accepted_are_served_in_a_drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Client,
    Backend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Send(Who),
    End(Who),
    Reset(Who),
}

const MOVES: [Move; 6] = [
    Move::Send(Who::Client),
    Move::Send(Who::Backend),
    Move::End(Who::Client),
    Move::End(Who::Backend),
    Move::Reset(Who::Client),
    Move::Reset(Who::Backend),
];

/// All sequences of moves up to this length that two sockets can make.
const LONGEST: usize = 6;

fn sequences() -> Vec<Vec<Move>> {
    let mut all = Vec::new();
    let mut longer = vec![Vec::new()];
    for _ in 0..LONGEST {
        longer = longer.iter().flat_map(extensions).collect();
        all.extend(longer.iter().cloned());
    }
    all
}

fn extensions(begun: &Vec<Move>) -> Vec<Vec<Move>> {
    let ended = |who| begun.contains(&Move::End(who));
    let is_over = begun.iter().any(|made| matches!(made, Move::Reset(_)))
        || ended(Who::Client) && ended(Who::Backend);
    let can = |next: &Move| match *next {
        Move::Send(who) | Move::End(who) => !is_over && !ended(who),
        Move::Reset(_) => !is_over,
    };
    MOVES.into_iter().filter(can).map(|next| [begun.as_slice(), &[next]].concat()).collect()
}

/// Makes a move and sees its effect on the other side.
fn make(made: Move, client: &mut Option<TcpStream>, backend: &mut Option<TcpStream>) {
    let (Move::Send(who) | Move::End(who) | Move::Reset(who)) = made;
    let (actor, other) = match who {
        Who::Client => (client, backend),
        Who::Backend => (backend, client),
    };
    let other = other.as_mut().unwrap();
    match made {
        Move::Send(_) => pass(actor.as_mut().unwrap(), other, b"some bytes"),
        Move::End(_) => {
            end(actor.as_ref().unwrap());
            assert_eq!(see(other, 64), Seen::End);
        }
        Move::Reset(_) => {
            reset(actor.take().unwrap());
            // A socket that has read the end is not told of a later reset by
            // reading, but by writing.
            let mut seen = see(other, 64);
            common::await_that("the reset", || {
                if seen == Seen::End && other.write(b"x").is_err() {
                    seen = Seen::Reset;
                }
                seen != Seen::End
            });
            assert_eq!(seen, Seen::Reset);
        }
    }
}

fn every_order_of_sending_ending_and_resetting_is_passed_on(plane: DataPlane) {
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let sequences = sequences();
    assert!(sequences.len() > 500, "{}", sequences.len());
    for (sequence, connected) in sequences.iter().zip(1..) {
        let mut client = Some(proxy.connect());
        let mut backend = Some(target.accept());
        if sequence[0] == Move::Reset(Who::Backend) {
            // Before the proxy has seen it accept, it is one that did not.
            proxy.await_metric("l4_backend_connections_total", f64::from(connected));
        }
        for made in sequence {
            make(*made, &mut client, &mut backend);
        }
    }
    proxy.await_metric("l4_connections_open", 0.0);
    let ended = |last| sequences.iter().filter(|moves| moves.last() == Some(&last)).count() as f64;
    let closed = sequences.iter().filter(|moves| {
        moves.contains(&Move::End(Who::Client)) && moves.contains(&Move::End(Who::Backend))
    });
    // What a test leaves half open is closed by both sides at once, in either
    // order, so only the counts of the complete sequences are exact.
    assert!(proxy.metric("l4_connections_ended_total{end=\"closed\"}") >= closed.count() as f64);
    let resets = ended(Move::Reset(Who::Client)) + ended(Move::Reset(Who::Backend));
    let counted = proxy.metric("l4_connections_ended_total{end=\"client_reset\"}")
        + proxy.metric("l4_connections_ended_total{end=\"backend_reset\"}");
    assert!(counted >= resets, "{counted} of {resets}");
}

fn bytes_sent_before_the_end_arrive_before_it(plane: DataPlane) {
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let mut client = proxy.connect();
    client.write_all(b"all at once").unwrap();
    end(&client);
    let mut backend = target.accept();
    expect_bytes(&mut backend, b"all at once");
    assert_eq!(see(&mut backend, 1), Seen::End);
    pass(&mut backend, &mut client, b"an answer after the end");
    drop(backend);
    assert_eq!(see(&mut client, 1), Seen::End);
    proxy.await_metric("l4_connections_ended_total{end=\"closed\"}", 1.0);
}

fn a_reset_is_passed_on_while_the_other_side_does_not_read(plane: DataPlane) {
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let mut client = proxy.connect();
    let backend = target.accept();
    assert!(fill(&mut client, 64 << 20).unwrap() < 64 << 20);
    reset(client);
    proxy.await_metric("l4_connections_ended_total{end=\"client_reset\"}", 1.0);
    drop(backend);
}

fn bytes_sent_before_a_reset_by_closing_are_delivered(plane: DataPlane) {
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let mut client = proxy.connect();
    let mut backend = target.accept();
    // Closing with unread bytes resets: the client's are never read.
    client.write_all(b"unread").unwrap();
    backend.peek(&mut [0]).unwrap();
    backend.write_all(b"the last word").unwrap();
    drop(backend);
    expect_bytes(&mut client, b"the last word");
    assert_eq!(see(&mut client, 1), Seen::Reset);
}

fn urgent_bytes_do_not_stall_those_behind_them(plane: DataPlane) {
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let mut client = proxy.connect();
    let mut backend = target.accept();
    for _ in 0..50 {
        client.write_all(b"before").unwrap();
        socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
        client.write_all(b"behind").unwrap();
        // The urgent byte itself may be taken out of the stream, as a receiver
        // without SO_OOBINLINE would do it.
        expect_bytes(&mut backend, b"before");
        let mut next = [0];
        backend.read_exact(&mut next).unwrap();
        if next == *b"!" {
            expect_bytes(&mut backend, b"behind");
        } else {
            expect_bytes(&mut backend, b"ehind");
        }
    }
}

fn a_client_that_goes_before_a_backend_is_found_leaves_nothing_behind(plane: DataPlane) {
    let silent = common::SilentAddress::new();
    let proxy = Proxy::start(config(plane, &[silent.address]));
    let client = proxy.connect();
    proxy.await_metric("l4_connections_open", 1.0);
    reset(client);
    proxy.await_metric("l4_connections_ended_total{end=\"client_reset\"}", 1.0);
    proxy.await_metric("l4_connections_open", 0.0);
}

fn writing_to_a_side_that_has_gone_resets_the_other(plane: DataPlane) {
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let mut client = proxy.connect();
    drop(target.accept());
    assert_eq!(see(&mut client, 1), Seen::End);
    // The backend closed both ways; the client finds out when it goes on.
    let mut failure = None;
    common::await_that("writing to fail", || {
        failure = client.write(b"to nobody").err();
        failure.is_some()
    });
    let kind = failure.unwrap().kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
}

/// The kernel has taken these connections and the proxy has not: closing the
/// listener would reset them. With many threads most are passed on to one that
/// has nothing else to do.
fn connections_that_wait_to_be_accepted_are_served_in_a_drain(plane: DataPlane) {
    const CLIENTS: usize = 300;
    serve::limits::raise_open_files().unwrap();
    let bind = |threads: usize| {
        let options = BindOptions { reuse_port: threads > 1, ..BindOptions::default() };
        serve::bind((Ipv4Addr::LOCALHOST, 0).into(), options).unwrap()
    };
    for threads in [1, 3] {
        let target = Backend::on(bind(1));
        let listener = bind(threads);
        let address = listener.local_addr().unwrap();
        let connect = || bounded(TcpStream::connect(address).unwrap());
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect()).collect();
        for (client, name) in clients.iter_mut().zip(0_u32..) {
            client.write_all(&name.to_be_bytes()).unwrap();
        }
        let config = Config {
            threads: NonZeroUsize::new(threads).unwrap(),
            ..config(plane, &[target.address])
        };
        let (trigger, shutdown) = serve::Shutdown::channel();
        trigger.drain();
        let mut proxy = Proxy::start_until(listener, config, (trigger, shutdown));
        for _ in 0..CLIENTS {
            let mut backend = target.accept();
            let mut name = [0; 4];
            backend.read_exact(&mut name).unwrap();
            pass(&mut backend, &mut clients[u32::from_be_bytes(name) as usize], b"served");
        }
        drop(clients);
        proxy.join().unwrap();
    }
}
