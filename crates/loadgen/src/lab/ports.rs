//! Free ports for processes that take their address on the command line.
//!
//! All ports of a trial are held open together, so that no two of them are the
//! same, and closed just before the processes start. From then until the trial is over no
//! other lab takes one of them: see [`Claim`]. Another program may: then the process fails to
//! bind and ends, the lab finds the port taken and tries again with others (see
//! [`super::Lab`]).
//!
//! They lie below the range from which the kernel takes the ports of outgoing
//! connections. A port out of that range may be taken by any client of the machine
//! meanwhile, and a probe that connects to it before anybody listens may be given
//! that very port as its own and so meet itself.

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram},
    },
};

/// The lowest port that is taken: below are those that services are known by.
const LOWEST: u16 = 10_000;
/// Fewer ports than this are not worth choosing from.
const FEWEST: u16 = 1_000;
/// Ports tried for each that is wanted.
const TRIES: usize = 200;

/// Ports that no other lab takes while this lives, whether anybody listens there or not.
///
/// Without it a server that starts while another lab's, which was given the same port, listens
/// already would fail to bind, and its readiness probe be answered by the other one.
///
/// What holds a port is an abstract Unix socket named after it. Such a name is, like the port,
/// one network namespace's, and the kernel frees it however its holder ends. A TCP socket
/// that is bound there would hold the port as well, but only let those servers listen that
/// set `SO_REUSEADDR`.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    _names: Vec<UnixDatagram>,
}

impl Claim {
    fn of(addresses: &[SocketAddr]) -> io::Result<Self> {
        let ports: HashSet<u16> = addresses.iter().map(SocketAddr::port).collect();
        let name = |port: u16| {
            UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(format!("layerlab {port}"))?)
        };
        Ok(Self { _names: ports.into_iter().map(name).collect::<io::Result<_>>()? })
    }
}

/// Has addresses chosen until no other lab has one of their ports, which then none takes.
pub(crate) fn claimed<T>(
    choose: impl Fn() -> io::Result<T>,
    addresses: impl Fn(&T) -> Vec<SocketAddr>,
) -> io::Result<(T, Claim)> {
    for _ in 0..TRIES {
        let chosen = choose()?;
        match Claim::of(&addresses(&chosen)) {
            Ok(claim) => return Ok((chosen, claim)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "other labs have all that were chosen"))
}

/// Returns `count` different loopback addresses that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    free_addresses_at(Ipv4Addr::LOCALHOST.into(), count)
}

/// Returns `count` ports of an address of this machine that were free a moment ago.
pub(crate) fn free_addresses_at(address: IpAddr, count: usize) -> io::Result<Vec<SocketAddr>> {
    let range = quiet_range();
    let listen = |_| match range.clone().and_then(|range| listen_within(address, range)) {
        Some(listener) => Ok(listener),
        None => TcpListener::bind((address, 0)),
    };
    let held = (0..count).map(listen).collect::<io::Result<Vec<_>>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

/// Returns addresses of `count` loopback hosts with one port that was free on all of them a
/// moment ago: a name of DNS stands for hosts, and not for ports.
pub(crate) fn free_hosts(count: usize) -> io::Result<Vec<SocketAddr>> {
    let host = |index: usize| {
        // Of 127.0.1.0/24 and on, below the hosts that a system may use by itself.
        let [high, low] = u16::try_from(index + 1).unwrap_or(u16::MAX).to_be_bytes();
        Ipv4Addr::new(127, 0, high + 1, low)
    };
    for _ in 0..TRIES {
        let first = match quiet_range()
            .and_then(|range| listen_within(Ipv4Addr::LOCALHOST.into(), range))
        {
            Some(listener) => listener,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        };
        let port = first.local_addr()?.port();
        let held: io::Result<Vec<TcpListener>> =
            (0..count).map(|index| TcpListener::bind((host(index), port))).collect();
        if let Ok(held) = held {
            return held.iter().map(TcpListener::local_addr).collect();
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free on all hosts of the loopback"))
}

/// Whether somebody listens there.
pub(crate) fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Ports that the kernel gives to nobody by itself; `None` where it leaves too few.
fn quiet_range() -> Option<Range<u16>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let low = range.split_whitespace().next()?.parse().ok()?;
    (low >= LOWEST + FEWEST).then_some(LOWEST..low)
}

fn listen_within(address: IpAddr, range: Range<u16>) -> Option<TcpListener> {
    let span = u64::from(range.end - range.start);
    (0..TRIES).find_map(|_| {
        // Each state hashes nothing to another number: chance enough for labs that
        // run side by side not to meet.
        let chance = RandomState::new().build_hasher().finish();
        let port = range.start + u16::try_from(chance % span).ok()?;
        let address = SocketAddr::from((address, port));
        // Of another lab there may be a claim and no listener yet.
        Claim::of(&[address]).ok()?;
        TcpListener::bind(address).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn labs_side_by_side_have_ports_of_their_own() {
        let [first, second] = [1, 2].map(|_| free_addresses(1).unwrap()[0]);
        let here = |address: &SocketAddr| vec![*address];
        let (_, claim) = claimed(|| Ok(first), here).unwrap();
        assert!(TcpListener::bind(first).is_ok(), "it is the servers' of this lab");
        // Another lab chooses the same one first, where nobody listens yet.
        let tries = Cell::new([second, first].to_vec());
        let next = || {
            let mut left = tries.take();
            let chosen = left.pop().unwrap();
            tries.set(left);
            Ok(chosen)
        };
        assert_eq!(claimed(next, here).unwrap().0, second);
        let range = first.port()..first.port() + 1;
        assert!(listen_within(first.ip(), range.clone()).is_none(), "it chose a port with a claim");
        drop(claim);
        assert_eq!(claimed(|| Ok(first), here).unwrap().0, first);
        assert!(listen_within(first.ip(), range).is_some());
    }

    #[test]
    fn a_port_is_taken_while_somebody_listens_there() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_taken(address));
        let elsewhere = SocketAddr::from(([198, 18, 255, 1], 1));
        assert!(!is_taken(elsewhere), "an address of another machine is nobody's here");
    }

    #[test]
    fn hosts_differ_and_share_a_port() {
        let hosts = free_hosts(3).unwrap();
        assert_eq!(hosts.iter().map(SocketAddr::ip).collect::<HashSet<_>>().len(), 3);
        assert!(hosts.iter().all(|host| host.port() == hosts[0].port() && host.ip().is_loopback()));
    }

    /// Other tests of this process take ports meanwhile, and may take one of these:
    /// that happens to one try in a hundred, and not to five in a row.
    #[test]
    fn addresses_differ_and_can_be_bound() {
        let can_all_be_bound = (0..5).any(|_| {
            let addresses = free_addresses(16).unwrap();
            assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 16);
            for address in &addresses {
                if let Some(range) = quiet_range() {
                    assert!(range.contains(&address.port()), "{address} is outside {range:?}");
                }
            }
            addresses.into_iter().all(|address| TcpListener::bind(address).is_ok())
        });
        assert!(can_all_be_bound);
    }
}
