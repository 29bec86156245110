//! Where a client connects to, asked anew for each TCP connection that is made.
//!
//! A service's client resolves a name and takes one of the addresses. What the
//! name stands for may change while the client runs; connections that are open
//! notice nothing of that, and only the next one goes elsewhere.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
};

/// The addresses that a client may connect to.
#[derive(Debug)]
pub(crate) enum Resolver {
    /// Always the same: a proxy, or one backend that the client has chosen.
    One(SocketAddr),
    /// In turn: each connection goes to the next of those there are.
    Turns(Turns),
}

/// Addresses in turn: of backends, or of a name.
#[derive(Debug)]
pub(crate) struct Turns {
    /// What calls name the service by.
    authority: String,
    addresses: Vec<SocketAddr>,
    /// Indices of the backends that the name stands for now; never empty.
    members: RefCell<Vec<usize>>,
    next: Cell<usize>,
}

impl Resolver {
    /// One address, under its own name.
    pub(crate) fn one(address: SocketAddr) -> Self {
        Self::One(address)
    }

    /// The members of `addresses` in turn, from the one whose turn is `first`.
    /// Neither list is empty.
    pub(crate) fn turns(addresses: Vec<SocketAddr>, members: Vec<usize>, first: usize) -> Self {
        let authority = addresses[0].to_string();
        let members = RefCell::new(members);
        Self::Turns(Turns { authority, addresses, members, next: Cell::new(first) })
    }

    /// All that a name stands for, in turn from the one whose turn is `first`. There is
    /// one at least.
    pub(crate) fn named(authority: String, addresses: Vec<SocketAddr>, first: usize) -> Self {
        let members = RefCell::new((0..addresses.len()).collect());
        Self::Turns(Turns { authority, addresses, members, next: Cell::new(first) })
    }

    /// Where the next connection goes.
    pub(crate) fn next(&self) -> SocketAddr {
        match self {
            Self::One(address) => *address,
            Self::Turns(turns) => {
                let turn = turns.next.get();
                turns.next.set(turn.wrapping_add(1));
                let members = turns.members.borrow();
                turns.addresses[members[turn % members.len()]]
            }
        }
    }

    /// How many addresses there are to try.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Turns(turns) => turns.members.borrow().len(),
        }
    }

    /// What calls name the service by; it does not change with the backends.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::One(address) => address.to_string(),
            Self::Turns(turns) => turns.authority.clone(),
        }
    }

    /// The name stands for these backends from now on.
    pub(crate) fn set_members(&self, members: &[usize]) {
        if let Self::Turns(turns) = self
            && !members.is_empty()
        {
            *turns.members.borrow_mut() = members.to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_members_of_now_in_turn() {
        let addresses: Vec<SocketAddr> =
            (0..3).map(|port| SocketAddr::from(([127, 0, 0, 1], 5000 + port))).collect();
        let resolver = Resolver::turns(addresses, vec![0, 1], 1);
        let next =
            |count: usize| -> Vec<u16> { (0..count).map(|_| resolver.next().port()).collect() };
        assert_eq!(next(3), [5001, 5000, 5001]);
        resolver.set_members(&[1, 2]);
        assert_eq!(next(2), [5001, 5002]);
        assert_eq!(resolver.authority(), "127.0.0.1:5000");
        resolver.set_members(&[]);
        assert_eq!(next(1), [5001], "a name that stands for nothing is not believed");
    }
}
