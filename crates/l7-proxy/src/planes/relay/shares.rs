//! What one client may hold of the places at the backends.
//!
//! The connections and streams that clients may open are far more than the
//! places that backends have for calls, so that one client with idle streams on
//! many connections could hold all of them. Once more than half of the places
//! are taken, a client's address may hold no more than a multiple of those that
//! are free, and each of its connections no more than that multiple of what is
//! then left to the address; a connection that holds none may have one. The
//! bound moves with the load: whoever comes next finds places, a client that is
//! alone gets nearly all, and those of many get equal parts without anybody
//! counting them. These are the dynamic thresholds of Choudhury and Hahne
//! ("Dynamic queue length thresholds for shared-memory packet switches",
//! IEEE/ACM Transactions on Networking, 1998), in two levels.
//!
//! Counts are each thread's own, as the connections to backends are.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use super::keys::CallKey;

/// The counts of one thread.
#[derive(Default)]
pub(super) struct Shares {
    /// Places that the backends have.
    places: u32,
    /// Places that are taken.
    taken: Rc<Cell<u32>>,
    addresses: HashMap<IpAddr, Rc<Cell<u32>>>,
    /// Calls that wait until their clients hold fewer places, and how many
    /// places were taken when they were looked at last.
    held_back: VecDeque<CallKey>,
    looked_at: u32,
}

/// What one connection of a client holds, and its address.
pub(super) struct Share {
    held: Cell<u32>,
    of_address: Rc<Cell<u32>>,
    taken: Rc<Cell<u32>>,
}

/// One place that is taken, until this is dropped.
pub(super) struct Held(Rc<Share>);

impl Shares {
    /// The share of a new connection from this address.
    pub(super) fn join(&mut self, address: IpAddr) -> Rc<Share> {
        let of_address = Rc::clone(self.addresses.entry(network(address)).or_default());
        Rc::new(Share { held: Cell::new(0), of_address, taken: Rc::clone(&self.taken) })
    }

    /// The number of places has changed: those who are held back are looked at
    /// again.
    pub(super) fn set_places(&mut self, places: u32) {
        self.places = places;
        self.looked_at = u32::MAX;
    }

    /// Lets a call wait, unless as many as may wait do.
    pub(super) fn hold_back(&mut self, call: CallKey, most: usize) -> bool {
        let has_room = self.held_back.len() < most;
        if has_room {
            self.held_back.push_back(call);
        }
        has_room
    }

    /// Those who wait, if places have become free since they were looked at.
    pub(super) fn take_held_back(&mut self) -> VecDeque<CallKey> {
        if self.held_back.is_empty() {
            return VecDeque::new();
        }
        let taken = self.taken.get();
        let has_free = taken < std::mem::replace(&mut self.looked_at, taken);
        if has_free { std::mem::take(&mut self.held_back) } else { VecDeque::new() }
    }

    /// Whether there are so many places that nobody is bounded.
    #[inline]
    pub(super) fn has_plenty(&self) -> bool {
        self.taken.get() <= self.places / 2
    }

    /// Whether the connection may take one more place.
    pub(super) fn may_take(&self, share: &Share, factor: u32) -> bool {
        let (address, connection) = (share.of_address.get(), share.held.get());
        self.has_plenty() || is_within(factor, self.places, self.taken.get(), address, connection)
    }

    /// Forgets addresses without a connection.
    pub(super) fn prune(&mut self) {
        self.addresses.retain(|_, held| Rc::strong_count(held) > 1);
    }
}

impl Held {
    pub(super) fn new(share: &Rc<Share>) -> Self {
        for count in [&share.held, &*share.of_address, &*share.taken] {
            count.set(count.get() + 1);
        }
        Self(Rc::clone(share))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for count in [&self.0.held, &*self.0.of_address, &*self.0.taken] {
            count.set(count.get() - 1);
        }
    }
}

/// One of so many places is not for a connection whose address holds its part.
const RESERVED_PART: u64 = 16;

/// Whether one more place is within the bounds, of so many places of which so
/// many are taken, for an address and a connection that hold so many of them.
/// Where none is free, all wait alike.
fn is_within(factor: u32, places: u32, taken: u32, address: u32, connection: u32) -> bool {
    let (factor, free) = (u64::from(factor), u64::from(places.saturating_sub(taken)));
    let for_address = factor * free;
    let left = for_address.saturating_sub(u64::from(address));
    // Who holds none is served beside neighbours that hold many, one call at a
    // time, and no number of such connections takes the last places.
    let is_first = connection == 0 && free > u64::from(places) / RESERVED_PART;
    free == 0 || is_first || u64::from(connection) < factor.saturating_mul(left)
}

/// What one client can't have many of: an IPv4 address, or 64 bits of an IPv6
/// address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(prefix).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes places on these connections in turn, one each, until none may take
    /// one more; gives what each then holds.
    fn fill(shares: &Shares, factor: u32, connections: &[Rc<Share>]) -> Vec<Held> {
        let mut held = Vec::new();
        loop {
            let before = held.len();
            for share in connections {
                if shares.taken.get() < shares.places && shares.may_take(share, factor) {
                    held.push(Held::new(share));
                }
            }
            if held.len() == before {
                return held;
            }
        }
    }

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[test]
    fn one_that_is_alone_gets_nearly_all() {
        let mut shares = Shares { places: 1_000, ..Shares::default() };
        let one = shares.join(address(1));
        let held = fill(&shares, 8, std::slice::from_ref(&one));
        assert!((870..890).contains(&held.len()), "{}", held.len());
        drop(held);
        assert_eq!((shares.taken.get(), one.held.get(), one.of_address.get()), (0, 0, 0));
    }

    #[test]
    fn many_connections_leave_places_to_others_of_their_address_and_of_another() {
        for (places, connections) in [(16_384, 72), (1_000, 72), (200, 5), (200, 1_000)] {
            let mut shares = Shares { places, ..Shares::default() };
            let many: Vec<_> = (0..connections).map(|_| shares.join(address(2))).collect();
            let other = shares.join(address(1));
            // One after the other takes all that it may have.
            let one = |share| fill(&shares, 4, std::slice::from_ref(share));
            let mut held: Vec<_> = many.iter().flat_map(one).collect();
            held.extend(fill(&shares, 4, &many));
            let part = held.len() as f64 / f64::from(places);
            assert!((0.75..0.95).contains(&part), "{part} of {places}");
            assert!(shares.may_take(&other, 4));
            let more = fill(&shares, 4, std::slice::from_ref(&other));
            assert!(more.len() as u32 > places / 50, "{} of {places}", more.len());
            drop(more);
            let is_crowded = connections > places / 10;
            let neighbour = shares.join(address(2));
            assert!(is_crowded || shares.may_take(&neighbour, 4), "of {places}");
        }
    }

    #[test]
    fn nobody_is_bounded_while_half_of_the_places_are_free_or_none_is() {
        let mut shares = Shares { places: 10, ..Shares::default() };
        let one = shares.join(address(1));
        let held: Vec<_> = (0..5).map(|_| Held::new(&one)).collect();
        assert!(shares.may_take(&one, 0), "half are free");
        let more = Held::new(&one);
        assert!(!shares.may_take(&one, 0));
        shares.places = 6;
        assert!(shares.may_take(&one, 0), "none is free");
        drop((held, more));
    }

    #[test]
    fn calls_are_held_back_until_places_become_free_or_their_number_changes() {
        let mut shares = Shares::default();
        let one = shares.join(address(1));
        let held = [Held::new(&one), Held::new(&one)];
        let call = CallKey::from_token(2);
        assert!(shares.hold_back(call, 1) && !shares.hold_back(call, 1));
        assert!(shares.take_held_back().is_empty(), "nothing has become free");
        shares.set_places(3);
        assert_eq!(shares.take_held_back(), [call]);
        assert!(shares.hold_back(call, 1) && shares.take_held_back().is_empty());
        drop(held);
        assert_eq!(shares.take_held_back(), [call]);
        assert!(shares.take_held_back().is_empty());
    }

    #[test]
    fn an_address_is_forgotten_with_its_last_connection() {
        let mut shares = Shares::default();
        let one = shares.join(address(1));
        let held = Held::new(&one);
        drop(one);
        shares.prune();
        assert_eq!(shares.addresses.len(), 1);
        drop(held);
        shares.prune();
        assert!(shares.addresses.is_empty());
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
