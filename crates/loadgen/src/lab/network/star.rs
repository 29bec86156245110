//! Namespaces in a star: the balancer's in the middle, the client's and each
//! backend's joined to it by a link.
//!
//! ```text
//!  client 198.18.0.2 ──── 198.18.0.1 balancer 198.18.0.5 ──── 198.18.0.6 b0
//!                                             198.18.0.9 ──── 198.18.0.10 b1
//! ```
//!
//! That is what a node with pods looks like, and where kube-proxy's rules are:
//! the middle routes. So every peer's packets cross the same two links. Without a
//! balancer the middle only forwards; the kernel as balancer rewrites what it
//! forwards; a proxy ends one connection in the middle and begins another. A
//! bridge in the middle would look alike for proxies, and the kernel's rules
//! would not see what comes back.
//!
//! A scenario that says how far client and backends are from each other gives them
//! links of their own (198.19.0.0/16), which the client's packets to backends take in
//! place of the way through the middle, and the backends' answers. Where a balancer
//! stands then costs nothing to those who do without one.
//!
//! Links are made by netlink rather than with `ip`, which many machines don't
//! have and whose messages are for people. They are veth links, and those that take
//! time have netem on them or are TUN devices with a relay in between
//! ([`distance`](super::distance)). Addresses are from the range that is
//! set aside for benchmarks (RFC 2544, 198.18.0.0/15), four to a link; ports are
//! the same everywhere, since nobody else is there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use measure::record::LinksRecord;
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::link::{InfoData, InfoKind, InfoVeth},
};
use scenario::{Ends, LinkSettings};

use super::{
    Addresses, BalancerAddress, Namespace, NetworkError, Plan,
    distance::{Distance, End, Slow},
    namespace::set,
};
use crate::lab::Process;

/// The first balancer's, which is followed by the port of its admin page and by those of
/// the other balancers.
const BALANCER_PORT: u16 = 4_000;
const BACKEND_PORT: u16 = 5_000;
const TAPPED_PORT: u16 = 5_001;
const CLUSTER_PORT: u16 = 5_002;
/// Local ports of connections: all that are not listened at.
const PORTS: &str = "10000 65535";
/// The first address of the first link's network.
const BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Likewise of links between client and backends.
const DIRECT_BASE: u32 = u32::from_be_bytes([198, 19, 0, 0]);
/// Bits of a link's network: two hosts.
const PREFIX: u8 = 30;
/// A namespace's loopback is always its first interface.
const LOOPBACK_INDEX: u32 = 1;
/// Index of the link to the middle of a namespace at an end, and of the first in the
/// middle. An index is given rather than asked for afterwards.
const LINK_INDEX: u32 = 2;
/// Index of a backend's own link to the client, and of the client's to the first backend.
const DIRECT_INDEX: u32 = 3;

/// The namespaces of a trial.
#[derive(Debug)]
pub(crate) struct Star {
    /// Before the namespaces, so that it has ended when they are let go.
    distance: Option<Distance>,
    client: Arc<Namespace>,
    balancer: Namespace,
    backends: Vec<Namespace>,
}

/// Whose namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Client,
    Balancer,
    Backend(usize),
}

/// A link with its two ends, the first of which is in the middle, or else the client's.
#[derive(Clone, Debug)]
struct Cable {
    ends: [Station; 2],
    between: Ends,
    /// Whether it leads by no balancer.
    is_direct: bool,
    settings: Option<LinkSettings>,
}

/// One end of a link.
#[derive(Clone, Debug)]
struct Station {
    at: At,
    device: String,
    index: u32,
    address: Ipv4Addr,
}

/// A link's number, beside others of its kind.
#[derive(Clone, Copy, Debug)]
struct Arm {
    base: u32,
    number: u32,
}

impl Arm {
    /// From the middle to the client.
    const CLIENT: Self = Self { base: BASE, number: 0 };

    /// From the middle to a backend.
    fn of_backend(index: usize) -> Self {
        Self { base: BASE, number: number(index).saturating_add(1) }
    }

    /// From the client to a backend.
    fn direct(index: usize) -> Self {
        Self { base: DIRECT_BASE, number: number(index) }
    }

    /// Its address in the middle, or at the client.
    fn inner(self) -> Ipv4Addr {
        self.host(1)
    }

    /// Its address at the end.
    fn outer(self) -> Ipv4Addr {
        self.host(2)
    }

    fn host(self, host: u32) -> Ipv4Addr {
        let network = self.base.saturating_add(self.number.saturating_mul(4));
        Ipv4Addr::from(network.saturating_add(host))
    }

    /// The link between two places, whose first has devices from an index on.
    fn cable(self, at: [At; 2], devices: [String; 2], indices: [u32; 2]) -> [Station; 2] {
        let [first, second] = devices;
        let station = |at, device, index, address| Station { at, device, index, address };
        [
            station(at[0], first, indices[0].saturating_add(self.number), self.inner()),
            station(at[1], second, indices[1], self.outer()),
        ]
    }
}

/// A scenario has few backends; an index beyond the range is refused when its link is made.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Star {
    /// Makes the namespaces, their links and routes.
    pub(super) fn make(plan: &Plan<'_>) -> Result<Self, NetworkError> {
        let new = || Namespace::new().map_err(NetworkError::Namespace);
        let mut star = Self {
            distance: None,
            client: Arc::new(new()?),
            balancer: new()?,
            backends: (0..plan.backends).map(|_| new()).collect::<Result<_, _>>()?,
        };
        let cables = star.cables(plan);
        let slow = star.slow(&cables);
        let distance = (!slow.is_empty()).then(|| Distance::start(&slow, plan));
        let mut distance = distance.transpose()?;
        let has_devices = distance.as_ref().is_some_and(Distance::has_devices);
        star.lay(&cables, has_devices).map_err(NetworkError::Join)?;
        if let Some(distance) = &mut distance {
            distance.begin(&slow)?;
        }
        star.distance = distance;
        Ok(star)
    }

    pub(super) fn client(&self) -> &Arc<Namespace> {
        &self.client
    }

    pub(super) fn balancer(&self) -> &Namespace {
        &self.balancer
    }

    pub(super) fn backend(&self, index: usize) -> Option<&Namespace> {
        self.backends.get(index)
    }

    /// The process that relays packets, where one does.
    pub(super) fn relay(&self) -> Option<&Process> {
        self.distance.as_ref().and_then(Distance::relay)
    }

    pub(super) fn relay_mut(&mut self) -> Option<&mut Process> {
        self.distance.as_mut().and_then(Distance::relay_mut)
    }

    /// Has the relay say what it did since it was last asked.
    pub(super) fn ask(&mut self) {
        if let Some(distance) = &mut self.distance {
            distance.ask();
        }
    }

    /// What came out of links that take time.
    pub(super) fn record(&self) -> Option<LinksRecord> {
        self.distance.as_ref().map(Distance::record)
    }

    /// All balancers stand in the middle, each at ports of its own.
    pub(super) fn addresses(&self, balancers: usize) -> Addresses {
        let at = |port| SocketAddr::from((Arm::CLIENT.inner(), port));
        let ports = (BALANCER_PORT..).step_by(2).take(balancers);
        let backends = |port| {
            let backend = |index| SocketAddr::from((Arm::of_backend(index).outer(), port));
            (0..self.backends.len()).map(backend).collect()
        };
        Addresses {
            balancers: ports
                .map(|port| BalancerAddress { listen: at(port), admin: at(port + 1) })
                .collect(),
            backends: backends(BACKEND_PORT),
            tapped: backends(TAPPED_PORT),
            cluster: backends(CLUSTER_PORT),
        }
    }

    fn at(&self, at: At) -> &Namespace {
        match at {
            At::Client => &self.client,
            At::Balancer => &self.balancer,
            At::Backend(index) => &self.backends[index],
        }
    }

    /// Every namespace.
    fn places(&self) -> impl Iterator<Item = At> + use<> {
        let backends = (0..self.backends.len()).map(At::Backend);
        [At::Balancer, At::Client].into_iter().chain(backends)
    }

    fn cables(&self, plan: &Plan<'_>) -> Vec<Cable> {
        let ends = std::iter::once((Arm::CLIENT, At::Client, Ends::ClientBalancer)).chain(
            (0..self.backends.len()).map(|index| {
                (Arm::of_backend(index), At::Backend(index), Ends::BalancerBackend(Some(index)))
            }),
        );
        let arms = ends.map(|(arm, end, between)| {
            let devices = [format!("down{}", arm.number), "up".to_owned()];
            let ends = arm.cable([At::Balancer, end], devices, [LINK_INDEX, LINK_INDEX]);
            (ends, between, false)
        });
        let is_direct = plan.links.are_direct();
        let direct = (0..self.backends.len()).filter(|_| is_direct).map(|index| {
            let (arm, at) = (Arm::direct(index), [At::Client, At::Backend(index)]);
            let devices = [format!("b{index}"), "client".to_owned()];
            let ends = arm.cable(at, devices, [DIRECT_INDEX, DIRECT_INDEX]);
            (ends, Ends::ClientBackend(Some(index)), true)
        });
        let cable = |(ends, between, is_direct)| {
            let settings = plan.links.of(between).filter(|settings| !settings.is_plain());
            Cable { ends, between, is_direct, settings: settings.copied() }
        };
        arms.chain(direct).map(cable).collect()
    }

    /// Those that take time.
    fn slow<'a>(&'a self, cables: &'a [Cable]) -> Vec<Slow<'a>> {
        let slow = |cable: &'a Cable| {
            let ends = cable.ends.each_ref().map(|station| End {
                namespace: self.at(station.at),
                device: &station.device,
                index: station.index,
            });
            let (between, target) = (cable.between, cable.ends[1].address);
            Some(Slow { between, ends, target, settings: cable.settings? })
        };
        cables.iter().filter_map(slow).collect()
    }

    /// `has_devices`: links that take time have devices already.
    fn lay(&self, cables: &[Cable], has_devices: bool) -> io::Result<()> {
        for cable in cables.iter().filter(|cable| !has_devices || cable.settings.is_none()) {
            let here = self.at(cable.ends[0].at);
            here.run(|| talk(async |handle| self.add_link(&handle, cable).await))??;
        }
        for at in self.places() {
            self.at(at).run(|| self.set_up(at, cables))??;
        }
        Ok(())
    }

    /// Makes a veth pair with one end here and the other in another namespace,
    /// where it is made at once: moving it there later would wait for every CPU to
    /// let go of it.
    async fn add_link(&self, handle: &Handle, cable: &Cable) -> Result<(), rtnetlink::Error> {
        let [here, there] = &cable.ends;
        let outer = LinkUnspec::new_with_name(&there.device)
            .index(there.index)
            .setns_by_fd(self.at(there.at).descriptor())
            .build();
        let inner = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(here.device.clone())
            .index(here.index)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(outer)))
            .build();
        handle.link().add(inner).execute().await
    }

    /// Gives the ends of links that are here their addresses, and packets their ways. The
    /// calling thread is in the namespace.
    fn set_up(&self, at: At, cables: &[Cable]) -> io::Result<()> {
        talk(async |handle| {
            raise(&handle, LOOPBACK_INDEX).await?;
            for station in cables.iter().flat_map(|cable| &cable.ends).filter(|one| one.at == at) {
                raise(&handle, station.index).await?;
                let address = IpAddr::V4(station.address);
                handle.address().add(station.index, address, PREFIX).execute().await?;
            }
            for cable in cables.iter().filter(|cable| at != At::Balancer && !cable.is_direct) {
                if cable.ends[1].at == at {
                    let default = RouteMessageBuilder::<Ipv4Addr>::new();
                    let default = default.gateway(cable.ends[0].address);
                    handle.route().add(default.build()).execute().await?;
                }
            }
            for cable in cables.iter().filter(|cable| at == At::Client && cable.is_direct) {
                let At::Backend(index) = cable.ends[1].at else { continue };
                let backend = Arm::of_backend(index).outer();
                let way = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(backend, 32);
                let way = way.gateway(cable.ends[1].address);
                handle.route().add(way.build()).execute().await?;
            }
            Ok(())
        })?;
        if at == At::Balancer {
            set("ip_forward", "1")?;
        }
        allow_many_connections()
    }
}

/// A connection that ends leaves its port taken for a minute, so that a client which
/// makes one for each call, or a proxy that makes as many, would run out of the usual
/// 28,000 at 500 calls a second. Here ports are for one trial only, and one that has been
/// quiet for a second may be used again: its timestamps keep the two connections apart
/// (RFC 6191).
fn allow_many_connections() -> io::Result<()> {
    set("ip_local_port_range", PORTS)?;
    set("tcp_tw_reuse", "1")
}

/// Talks to the kernel about the namespace that the calling thread is in.
fn talk(work: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        // It ends when the last handle is gone, which is when the work is done.
        let connection = tokio::spawn(connection);
        let done = work(handle).await.map_err(io::Error::other);
        connection.await.map_err(io::Error::other)?;
        done
    })
}

/// Packets that wait for the relay to read them: as many as large windows send at a time, which
/// the 500 of the TUN driver are not. A veth link has no such queue.
const WAITING: u32 = 10_000;

async fn raise(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    let link = LinkUnspec::new_with_index(index).up().txqueuelen(WAITING).build();
    handle.link().set(link).execute().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_has_a_network_of_its_own() {
        let network = |address: Ipv4Addr| u32::from(address) >> (32 - PREFIX);
        let backends = (0..70).flat_map(|index| [Arm::of_backend(index), Arm::direct(index)]);
        let arms: Vec<Arm> = std::iter::once(Arm::CLIENT).chain(backends).collect();
        for (index, arm) in arms.iter().enumerate() {
            assert_eq!(network(arm.inner()), network(arm.outer()));
            for other in &arms[..index] {
                assert_ne!(network(arm.inner()), network(other.inner()));
            }
            // The two halves of 198.18.0.0/15.
            assert_eq!((arm.outer().octets()[0], arm.outer().octets()[1] & !1), (198, 18));
        }
        assert_eq!(arms[0].inner(), Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(Arm::of_backend(1).outer(), Ipv4Addr::new(198, 18, 0, 10));
        assert_eq!(Arm::direct(1).outer(), Ipv4Addr::new(198, 19, 0, 6));
    }
}
