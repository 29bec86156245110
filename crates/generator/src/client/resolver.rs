//! Where a client connects to, asked anew for each TCP connection that is made.
//!
//! A service's client resolves a name and takes one of the addresses. What the
//! name stands for may change while the client runs; connections that are open
//! notice nothing of that, and only the next one goes elsewhere.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
};

use super::discovery::{Discovery, Name};

/// The addresses that a client may connect to.
#[derive(Debug)]
pub enum Resolver {
    /// Always the same: a proxy, or one backend that the client has chosen.
    One(SocketAddr),
    /// In turn: each connection goes to the next of those there are.
    Turns(Turns),
    /// The first that takes the connection.
    First(First),
}

/// Addresses in turn: of backends, or of a name.
#[derive(Debug)]
pub struct Turns {
    /// What calls name the service by.
    authority: String,
    addresses: Vec<SocketAddr>,
    /// Indices of the backends that the name stands for now; never empty.
    members: RefCell<Vec<usize>>,
    next: Cell<usize>,
}

/// Addresses of which the first that takes a connection has all calls: gRPC's `pick_first`.
/// When the connection is lost, the name is resolved and the channel is idle until the next
/// call (`PickFirst::GoIdle` of grpc-core), which looks for a connection from the first address
/// of the answer on. A DNS server gives the addresses in another order each time, here from the
/// next one on.
#[derive(Debug)]
pub struct First {
    /// What calls name the service by.
    authority: String,
    addresses: Vec<SocketAddr>,
    name: RefCell<Name>,
    /// Where the order of the first answer begins.
    turn: usize,
    /// The backend that comes first in the last answer.
    first: Cell<usize>,
    /// How many were tried for the connection that is being made.
    tried: Cell<usize>,
    /// The backend that was tried last.
    last: Cell<usize>,
}

impl First {
    /// Has the name resolved, if that was requested and its time has come. A search for a
    /// connection begins anew with the answer.
    fn resolve(&self, now_ns: u64) {
        let mut name = self.name.borrow_mut();
        let before = name.resolutions();
        name.resolve(now_ns);
        if name.resolutions() != before {
            let known = name.known();
            self.first.set(known[(self.turn + name.resolutions()) % known.len()]);
            self.tried.set(0);
        }
    }
}

impl Resolver {
    /// One address, under its own name.
    pub fn one(address: SocketAddr) -> Self {
        Self::One(address)
    }

    /// The members of `addresses` in turn, from the one whose turn is `first`.
    /// Neither list is empty.
    pub fn turns(addresses: Vec<SocketAddr>, members: Vec<usize>, first: usize) -> Self {
        let authority = addresses[0].to_string();
        let members = RefCell::new(members);
        Self::Turns(Turns { authority, addresses, members, next: Cell::new(first) })
    }

    /// All that a name stands for, in turn from the one whose turn is `first`. There is
    /// one at least.
    pub fn named(authority: String, addresses: Vec<SocketAddr>, first: usize) -> Self {
        let members = RefCell::new((0..addresses.len()).collect());
        Self::Turns(Turns { authority, addresses, members, next: Cell::new(first) })
    }

    /// The first of `addresses` that takes the connection, in the order of the members from
    /// number `first` on, as the client knows them. Neither list is empty.
    pub fn first(
        addresses: Vec<SocketAddr>,
        members: Vec<usize>,
        discovery: Discovery,
        first: usize,
        now_ns: u64,
    ) -> Self {
        let authority = addresses[0].to_string();
        let (turn, first) = (first, Cell::new(members[first % members.len()]));
        let name = RefCell::new(Name::new(discovery, members, now_ns));
        let (tried, last) = (Cell::new(0), Cell::new(usize::MAX));
        Self::First(First { authority, addresses, name, turn, first, tried, last })
    }

    /// Where the next attempt to connect goes.
    pub fn next(&self, now_ns: u64) -> SocketAddr {
        match self {
            Self::One(address) => *address,
            Self::Turns(turns) => {
                let turn = turns.next.get();
                turns.next.set(turn.wrapping_add(1));
                let members = turns.members.borrow();
                turns.addresses[members[turn % members.len()]]
            }
            Self::First(first) => {
                first.resolve(now_ns);
                let name = first.name.borrow();
                let members = name.known();
                let own = members.iter().position(|&member| member == first.first.get());
                let at = (own.unwrap_or(0) + first.tried.get()) % members.len();
                first.tried.set(first.tried.get() + 1);
                first.last.set(members[at]);
                first.addresses[members[at]]
            }
        }
    }

    /// A connection was made: the search for the next one begins anew.
    pub fn connected(&self) {
        if let Self::First(first) = self {
            first.tried.set(0);
        }
    }

    /// A connection was lost or sent away, or could not be made.
    pub fn lost(&self, now_ns: u64) {
        if let Self::First(first) = self {
            first.resolve(now_ns);
            first.name.borrow_mut().request(now_ns);
        }
    }

    /// How many addresses there are to try.
    pub fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Turns(turns) => turns.members.borrow().len(),
            Self::First(first) => first.name.borrow().known().len(),
        }
    }

    /// What calls name the service by; it does not change with the backends.
    pub fn authority(&self) -> String {
        match self {
            Self::One(address) => address.to_string(),
            Self::Turns(Turns { authority, .. }) | Self::First(First { authority, .. }) => {
                authority.clone()
            }
        }
    }

    /// The name stands for these backends from now on. Says whether the client has heard of
    /// it, and that the backend it is connected to is none of them.
    pub(crate) fn set_members(&self, members: &[usize], now_ns: u64) -> bool {
        match self {
            Self::Turns(turns) if !members.is_empty() => {
                *turns.members.borrow_mut() = members.to_vec();
                false
            }
            Self::First(first) => {
                // What was resolved before knows nothing of it.
                first.resolve(now_ns);
                first.name.borrow_mut().change(members) && !members.contains(&first.last.get())
            }
            Self::One(_) | Self::Turns(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses() -> Vec<SocketAddr> {
        (0..3).map(|port| SocketAddr::from(([127, 0, 0, 1], 5000 + port))).collect()
    }

    fn next(resolver: &Resolver, count: usize) -> Vec<u16> {
        (0..count).map(|_| resolver.next(0).port()).collect()
    }

    #[test]
    fn connections_go_to_the_members_of_now_in_turn() {
        let resolver = Resolver::turns(addresses(), vec![0, 1], 1);
        assert_eq!(next(&resolver, 3), [5001, 5000, 5001]);
        resolver.set_members(&[1, 2], 0);
        assert_eq!(next(&resolver, 2), [5001, 5002]);
        assert_eq!(resolver.authority(), "127.0.0.1:5000");
        resolver.set_members(&[], 0);
        assert_eq!(next(&resolver, 1), [5001], "a name that stands for nothing is not believed");
    }

    #[test]
    fn the_first_is_looked_for_from_the_same_address_until_the_name_was_resolved() {
        const SECOND: u64 = 1_000_000_000;
        let dns = Discovery::Dns { interval: Duration::from_secs(30) };
        let resolver = Resolver::first(addresses(), vec![0, 1], dns, 1, 0);
        assert_eq!(next(&resolver, 2), [5001, 5000]);
        resolver.connected();
        resolver.set_members(&[0, 1, 2], 0);
        assert_eq!(next(&resolver, 2), [5001, 5000], "the name was not resolved");
        resolver.connected();
        // Within the interval it is not, and after it from the next address on.
        resolver.lost(SECOND);
        assert_eq!((resolver.next(2 * SECOND).port(), resolver.count()), (5001, 2));
        assert_eq!((resolver.next(30 * SECOND).port(), resolver.count()), (5002, 3));
        resolver.connected();
        // Once for connections that are lost within an interval.
        resolver.lost(40 * SECOND);
        resolver.lost(50 * SECOND);
        let ports = [50, 60, 60, 60].map(|second| resolver.next(second * SECOND).port());
        assert_eq!(ports, [5002, 5000, 5001, 5002]);
    }

    #[test]
    fn who_is_told_leaves_a_backend_that_is_none_any_more() {
        let resolver = Resolver::first(addresses(), vec![0, 1], Discovery::Lookaside, 1, 0);
        assert_eq!(next(&resolver, 1), [5001]);
        assert!(!resolver.set_members(&[0, 1, 2], 0) && resolver.set_members(&[0, 2], 0));
    }
}
