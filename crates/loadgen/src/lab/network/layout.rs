//! Who is joined to whom by which link, and where packets go from there: as data, from which
//! [`star`](super::star) makes namespaces.
//!
//! Addresses are from the range that is set aside for benchmarks (RFC 2544, 198.18.0.0/15), four
//! to a link; devices are numbered by what they lead to, since an index is given when a device is
//! made rather than asked for afterwards.

use std::net::Ipv4Addr;

use balance::ZoneLayout;
use scenario::{Ends, LinkSettings, Links};

use super::Plan;

/// The first address of the first link's network.
const BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Likewise of links between client and backends, or between zones: there are never both.
const SIDE_BASE: u32 = u32::from_be_bytes([198, 19, 0, 0]);
/// Bits of a link's network: two hosts.
pub(super) const PREFIX: u8 = 30;
/// A namespace's loopback is always its first interface.
pub(super) const LOOPBACK_INDEX: u32 = 1;
/// Index of the link to the middle of a namespace at an end, and of the first in the
/// middle.
const LINK_INDEX: u32 = 2;
/// Index of a backend's own link to the client, and of the client's to the first backend.
const DIRECT_INDEX: u32 = 3;

/// Who is joined to which middle.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The names of the zones that the middles are; none where there is one for all.
    pub(super) zones: Vec<String>,
    /// The middle of each backend.
    backends: Vec<usize>,
    /// The middles that have balancers, in the order of these.
    balancers: ZoneLayout,
}

/// Whose namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Client,
    Middle(usize),
    Backend(usize),
}

/// A link with its two ends. The first is in the middle, or else the client's.
#[derive(Clone, Debug)]
pub(super) struct Cable {
    pub(super) ends: [Station; 2],
    pub(super) between: Ends,
    pub(super) settings: Option<LinkSettings>,
}

/// One end of a link.
#[derive(Clone, Debug)]
pub(super) struct Station {
    pub(super) at: At,
    pub(super) device: String,
    pub(super) index: u32,
    pub(super) address: Ipv4Addr,
}

/// A link's network: its number, beside others of its kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arm {
    base: u32,
    number: u32,
}

impl Arm {
    /// From the client to a backend.
    fn direct(index: usize) -> Self {
        Self { base: SIDE_BASE, number: number(index) }
    }

    /// Its address in the middle, or at the client.
    pub(super) fn inner(self) -> Ipv4Addr {
        self.host(1)
    }

    /// Its address at the end.
    pub(super) fn outer(self) -> Ipv4Addr {
        self.host(2)
    }

    /// What all of its addresses begin with.
    fn network(self) -> Ipv4Addr {
        self.host(0)
    }

    fn host(self, host: u32) -> Ipv4Addr {
        let network = self.base.saturating_add(self.number.saturating_mul(4));
        Ipv4Addr::from(network.saturating_add(host))
    }

    /// The link between two places, whose devices are called and numbered like this.
    fn cable(self, at: [At; 2], devices: [String; 2], indices: [u32; 2]) -> [Station; 2] {
        let [first, second] = devices;
        let station = |at, device, index, address| Station { at, device, index, address };
        [
            station(at[0], first, indices[0], self.inner()),
            station(at[1], second, indices[1], self.outer()),
        ]
    }
}

/// A scenario has few backends; an index beyond the range is refused when its link is made.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Layout {
    /// Zones count where there are links between them.
    pub(super) fn new(plan: &Plan<'_>) -> Self {
        match plan.zones.filter(|_| plan.links.are_zoned()) {
            None => Self {
                zones: Vec::new(),
                backends: vec![0; plan.backends],
                balancers: ZoneLayout::new(vec![1]),
            },
            Some(zones) => Self {
                zones: zones.names().to_vec(),
                backends: zones.backends().to_vec(),
                balancers: zones.layout().clone(),
            },
        }
    }

    pub(super) fn middles(&self) -> usize {
        self.zones.len().max(1)
    }

    /// From a middle to the client.
    pub(super) fn to_client(&self, middle: usize) -> Arm {
        Arm { base: BASE, number: number(middle) }
    }

    /// From its middle to a backend.
    pub(super) fn to_backend(&self, index: usize) -> Arm {
        Arm { base: BASE, number: number(self.middles() + index) }
    }

    /// Between two middles, the first of which has the lower number.
    fn between(&self, [one, other]: [usize; 2]) -> Arm {
        Arm { base: SIDE_BASE, number: number(one * self.middles() + other) }
    }

    /// All pairs of middles.
    fn pairs(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let count = self.middles();
        (0..count).flat_map(move |one| (one + 1..count).map(move |other| [one, other]))
    }

    /// The middle that a balancer is in.
    pub(super) fn of_balancer(&self, number: usize) -> usize {
        self.balancers.of_balancer(self::number(number))
    }

    /// The address of a middle where another finds it.
    fn of_other(&self, middle: usize, from: usize) -> Ipv4Addr {
        let arm = self.between([middle.min(from), middle.max(from)]);
        if middle < from { arm.inner() } else { arm.outer() }
    }

    /// The client's device that leads to a middle.
    pub(super) fn client_device(middle: usize) -> String {
        format!("up{middle}")
    }

    pub(super) fn cables(&self, links: &Links) -> Vec<Cable> {
        let client = (0..self.middles()).map(|middle| {
            let (arm, at) = (self.to_client(middle), [At::Middle(middle), At::Client]);
            let devices = [format!("down{}", arm.number), Self::client_device(middle)];
            let index = LINK_INDEX.saturating_add(arm.number);
            (arm.cable(at, devices, [index, index]), Ends::ClientBalancer)
        });
        let backends = self.backends.iter().enumerate().map(|(index, &middle)| {
            let (arm, at) = (self.to_backend(index), [At::Middle(middle), At::Backend(index)]);
            let devices = [format!("down{}", arm.number), "up".to_owned()];
            let indices = [LINK_INDEX.saturating_add(arm.number), LINK_INDEX];
            (arm.cable(at, devices, indices), Ends::BalancerBackend(Some(index)))
        });
        let first = LINK_INDEX.saturating_add(number(self.middles() + self.backends.len()));
        let zones = self.pairs().map(|two| {
            let [one, other] = two;
            let at = two.map(At::Middle);
            let devices = [format!("zone{other}"), format!("zone{one}")];
            let indices = [other, one].map(|middle| first.saturating_add(number(middle)));
            let between = Ends::zones(&self.zones[one], &self.zones[other]);
            (self.between(two).cable(at, devices, indices), between)
        });
        let direct = (0..self.backends.len()).filter(|_| links.are_direct()).map(|index| {
            let (arm, at) = (Arm::direct(index), [At::Client, At::Backend(index)]);
            let devices = [format!("b{index}"), "client".to_owned()];
            let indices = [DIRECT_INDEX.saturating_add(arm.number), DIRECT_INDEX];
            (arm.cable(at, devices, indices), Ends::ClientBackend(Some(index)))
        });
        let cable = |(ends, between)| {
            let settings = links.of(&between).filter(|settings| !settings.is_plain());
            Cable { ends, settings: settings.copied(), between }
        };
        client.chain(backends).chain(zones).chain(direct).map(cable).collect()
    }

    /// The ways that packets take from a place beside the links that it has.
    pub(super) fn ways(&self, at: At, is_direct: bool) -> Vec<Way> {
        let via = |network, gateway| Way { network, gateway, priority: None };
        match at {
            At::Client => {
                // One that may leave by any takes the first.
                let to_middle = |middle| Way {
                    network: (Ipv4Addr::UNSPECIFIED, 0),
                    gateway: self.to_client(middle).inner(),
                    priority: Some(number(middle)).filter(|priority| *priority > 0),
                };
                let direct =
                    |index| via((self.to_backend(index).outer(), 32), Arm::direct(index).outer());
                let direct = (0..self.backends.len()).filter(|_| is_direct).map(direct);
                (0..self.middles()).map(to_middle).chain(direct).collect()
            }
            At::Backend(index) => {
                vec![via((Ipv4Addr::UNSPECIFIED, 0), self.to_backend(index).inner())]
            }
            At::Middle(own) => {
                let clients = (0..self.middles()).map(|middle| (middle, self.to_client(middle)));
                let backends = self.backends.iter().enumerate();
                let backends = backends.map(|(index, &middle)| (middle, self.to_backend(index)));
                let others = clients.chain(backends).filter(|(middle, _)| *middle != own);
                let way = |(middle, arm): (usize, Arm)| {
                    via((arm.network(), PREFIX), self.of_other(middle, own))
                };
                others.map(way).collect()
            }
        }
    }
}

/// Where packets to some network go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) network: (Ipv4Addr, u8),
    pub(super) gateway: Ipv4Addr,
    /// Of two that lead to the same, the lower one counts.
    pub(super) priority: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(zones: &[&str], backends: Vec<usize>) -> Layout {
        let clients = vec![1; zones.len().max(1)];
        let zones = zones.iter().map(|&name| name.to_owned()).collect();
        Layout { zones, backends, balancers: ZoneLayout::new(clients) }
    }

    fn network(address: Ipv4Addr) -> u32 {
        u32::from(address) >> (32 - PREFIX)
    }

    #[test]
    fn every_link_has_a_network_of_its_own() {
        let one = layout(&[], vec![0; 70]);
        let backends = (0..70).flat_map(|index| [one.to_backend(index), Arm::direct(index)]);
        let of_one: Vec<Arm> = std::iter::once(one.to_client(0)).chain(backends).collect();
        let three = layout(&["a", "b", "c"], vec![0; 70]);
        let clients = (0..3).map(|middle| three.to_client(middle));
        let backends = (0..70).map(|index| three.to_backend(index));
        let between = three.pairs().map(|two| three.between(two));
        let of_three: Vec<Arm> = clients.chain(backends).chain(between).collect();
        assert_eq!(of_three.len(), 76);
        for arms in [&of_one, &of_three] {
            for (index, arm) in arms.iter().enumerate() {
                assert_eq!(network(arm.inner()), network(arm.outer()));
                for other in &arms[..index] {
                    assert_ne!(network(arm.inner()), network(other.inner()));
                }
                // The two halves of 198.18.0.0/15.
                assert_eq!((arm.outer().octets()[0], arm.outer().octets()[1] & !1), (198, 18));
            }
        }
        assert_eq!(one.to_client(0).inner(), Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(one.to_backend(1).outer(), Ipv4Addr::new(198, 18, 0, 10));
        assert_eq!(Arm::direct(1).outer(), Ipv4Addr::new(198, 19, 0, 6));
    }

    /// Follows a packet from place to place, as routers do: by the longest prefix, and then by
    /// the lowest priority.
    fn way_of(layout: &Layout, cables: &[Cable], from: At, to: Ipv4Addr) -> Vec<At> {
        let (mut at, mut way) = (from, vec![from]);
        loop {
            let own = cables.iter().filter(|cable| cable.ends.iter().any(|end| end.at == at));
            let own: Vec<&Cable> = own.collect();
            if own.iter().flat_map(|cable| &cable.ends).any(|end| end.at == at && end.address == to)
            {
                return way;
            }
            let covers = |way: &&Way| {
                let (address, prefix) = way.network;
                let shift = 32 - u32::from(prefix);
                shift == 32 || u32::from(address) >> shift == u32::from(to) >> shift
            };
            let ways = layout.ways(at, false);
            let far = |address: Ipv4Addr| {
                let of = |cable: &&&Cable| network(cable.ends[0].address) == network(address);
                own.iter().find(of).map(|cable| &cable.ends)
            };
            let best = |way: &&Way| (way.network.1, std::cmp::Reverse(way.priority));
            let next = match far(to) {
                Some(_) => to,
                None => ways.iter().filter(covers).max_by_key(best).expect("a way").gateway,
            };
            let ends = far(next).expect("the next hop is at the end of a link");
            at = ends.iter().find(|end| end.address == next).expect("it is an end").at;
            assert!(way.len() < 5, "{way:?}");
            way.push(at);
        }
    }

    #[test]
    fn what_stays_in_a_zone_crosses_no_link_between_zones() {
        let layout = layout(&["a", "b", "c"], vec![0, 0, 1, 2]);
        let cables = layout.cables(&Links::default());
        for (index, &middle) in layout.backends.iter().enumerate() {
            let backend = layout.to_backend(index).outer();
            for from in 0..3 {
                let mut expected = vec![At::Middle(from), At::Middle(middle), At::Backend(index)];
                expected.dedup();
                assert_eq!(way_of(&layout, &cables, At::Middle(from), backend), expected);
                // Its answer to a balancer in that zone, and to a client, goes the same way.
                let mut back: Vec<At> = expected.iter().rev().copied().collect();
                let balancer = layout.to_client(from).inner();
                let answered = way_of(&layout, &cables, At::Backend(index), balancer);
                assert_eq!(answered, back);
                back.push(At::Client);
                let client = layout.to_client(from).outer();
                assert_eq!(way_of(&layout, &cables, At::Backend(index), client), back);
            }
        }
        // One that doesn't say by which device it leaves finds all.
        for middle in 0..3 {
            let balancer = layout.to_client(middle).inner();
            let way = way_of(&layout, &cables, At::Client, balancer);
            assert_eq!(way, [At::Client, At::Middle(middle)]);
        }
    }

    #[test]
    fn devices_have_names_and_numbers_of_their_own() {
        let layout = layout(&["a", "b", "c"], vec![0, 0, 1, 2]);
        let cables = layout.cables(&Links::default());
        let stations: Vec<&Station> = cables.iter().flat_map(|cable| &cable.ends).collect();
        for (index, one) in stations.iter().enumerate() {
            assert!(one.device.len() < 16 && one.index > LOOPBACK_INDEX);
            for other in stations[..index].iter().filter(|other| other.at == one.at) {
                assert!(other.device != one.device && other.index != one.index, "{one:?}");
            }
        }
    }
}
