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
//! A scenario with links between zones has a middle for each zone, to which its backends are
//! joined, and its balancers are in it. The client is joined to all of them, and the middles to
//! each other:
//!
//! ```text
//!          ┌── zone a ──── b0        what crosses from one zone to another takes the link
//!  client ─┤     │                   between their middles, and nothing else does
//!          └── zone b ──── b1
//! ```
//!
//! Which zone a client is in is then said by the device that its connections leave by: a
//! namespace for each would need a thread in each to open them.
//!
//! Links are made by netlink rather than with `ip`, which many machines don't
//! have and whose messages are for people. They are veth links, and those that take
//! time have netem on them or are TUN devices with a relay in between
//! ([`distance`](super::distance)). Ports are the same everywhere, since nobody else is there.

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

use super::{
    Addresses, BalancerAddress, Namespace, NetworkError, Plan,
    distance::{Distance, End, Slow},
    layout::{At, Cable, LOOPBACK_INDEX, Layout, PREFIX, Way},
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

/// The namespaces of a trial.
#[derive(Debug)]
pub(crate) struct Star {
    /// Before the namespaces, so that it has ended when they are let go.
    distance: Option<Distance>,
    client: Arc<Namespace>,
    /// One, or one for each zone.
    middles: Vec<Namespace>,
    backends: Vec<Namespace>,
    layout: Layout,
}

impl Star {
    /// Makes the namespaces, their links and routes.
    pub(super) fn make(plan: &Plan<'_>) -> Result<Self, NetworkError> {
        let new = || Namespace::new().map_err(NetworkError::Namespace);
        let layout = Layout::new(plan);
        let mut star = Self {
            distance: None,
            client: Arc::new(new()?),
            middles: (0..layout.middles()).map(|_| new()).collect::<Result<_, _>>()?,
            backends: (0..plan.backends).map(|_| new()).collect::<Result<_, _>>()?,
            layout,
        };
        let cables = star.layout.cables(plan.links);
        let slow = star.slow(&cables);
        let distance = (!slow.is_empty()).then(|| Distance::start(&slow, plan));
        let mut distance = distance.transpose()?;
        let has_devices = distance.as_ref().is_some_and(Distance::has_devices);
        star.lay(&cables, has_devices, plan.links.are_direct()).map_err(NetworkError::Join)?;
        if let Some(distance) = &mut distance {
            distance.begin(&slow)?;
        }
        star.distance = distance;
        Ok(star)
    }

    pub(super) fn client(&self) -> &Arc<Namespace> {
        &self.client
    }

    /// The devices that clients' connections leave by, by the zone that each client is in; none
    /// where zones are not apart.
    pub(super) fn client_devices(&self) -> Vec<String> {
        (0..self.layout.zones.len()).map(Layout::client_device).collect()
    }

    /// Where a balancer is, by its number.
    pub(super) fn balancer(&self, number: usize) -> &Namespace {
        &self.middles[self.layout.of_balancer(number)]
    }

    pub(super) fn backend(&self, index: usize) -> Option<&Namespace> {
        self.backends.get(index)
    }

    /// The process that relays packets, where one does.
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

    /// Balancers stand in the middle, or in those of their zones, each at ports of its own.
    pub(super) fn addresses(&self, balancers: usize) -> Addresses {
        let ports = (BALANCER_PORT..).step_by(2).enumerate().take(balancers);
        let backends = |port| {
            let backend = |index| SocketAddr::from((self.layout.to_backend(index).outer(), port));
            (0..self.backends.len()).map(backend).collect()
        };
        Addresses {
            balancers: ports
                .map(|(number, port)| {
                    let middle = self.layout.of_balancer(number);
                    let at = |port| SocketAddr::from((self.layout.to_client(middle).inner(), port));
                    BalancerAddress { listen: at(port), admin: at(port + 1) }
                })
                .collect(),
            backends: backends(BACKEND_PORT),
            tapped: backends(TAPPED_PORT),
            cluster: backends(CLUSTER_PORT),
        }
    }

    fn at(&self, at: At) -> &Namespace {
        match at {
            At::Client => &self.client,
            At::Middle(index) => &self.middles[index],
            At::Backend(index) => &self.backends[index],
        }
    }

    /// Every namespace.
    fn places(&self) -> impl Iterator<Item = At> + use<> {
        let middles = (0..self.middles.len()).map(At::Middle);
        let backends = (0..self.backends.len()).map(At::Backend);
        middles.chain([At::Client]).chain(backends)
    }

    /// Those that take time.
    fn slow<'a>(&'a self, cables: &'a [Cable]) -> Vec<Slow<'a>> {
        let slow = |cable: &'a Cable| {
            let ends = cable.ends.each_ref().map(|station| End {
                namespace: self.at(station.at),
                device: &station.device,
                index: station.index,
            });
            let (between, target) = (&cable.between, cable.ends[1].address);
            Some(Slow { between, ends, target, settings: cable.settings? })
        };
        cables.iter().filter_map(slow).collect()
    }

    /// `has_devices`: links that take time have devices already.
    fn lay(&self, cables: &[Cable], has_devices: bool, is_direct: bool) -> io::Result<()> {
        for cable in cables.iter().filter(|cable| !has_devices || cable.settings.is_none()) {
            let here = self.at(cable.ends[0].at);
            here.run(|| talk(async |handle| self.add_link(&handle, cable).await))??;
        }
        for at in self.places() {
            let ways = self.layout.ways(at, is_direct);
            self.at(at).run(|| self.set_up(at, cables, &ways))??;
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
    fn set_up(&self, at: At, cables: &[Cable], ways: &[Way]) -> io::Result<()> {
        let stations = || cables.iter().flat_map(|cable| &cable.ends).filter(|one| one.at == at);
        talk(async |handle| {
            raise(&handle, LOOPBACK_INDEX).await?;
            for station in stations() {
                raise(&handle, station.index).await?;
                let address = IpAddr::V4(station.address);
                handle.address().add(station.index, address, PREFIX).execute().await?;
            }
            for Way { network: (network, prefix), gateway, priority } in ways {
                let way = RouteMessageBuilder::<Ipv4Addr>::new().gateway(*gateway);
                let way = way.destination_prefix(*network, *prefix);
                let way = match priority {
                    Some(priority) => way.priority(*priority),
                    None => way,
                };
                handle.route().add(way.build()).execute().await?;
            }
            Ok(())
        })?;
        match at {
            At::Middle(_) => set("ip_forward", "1")?,
            At::Client if self.middles.len() > 1 => {
                // An answer may come by another device than the one that packets to its sender
                // leave by, unless their connection says by which. Of this switch, the larger
                // counts of what all devices have and each.
                set("conf/all/rp_filter", "0")?;
                for station in stations() {
                    set(&format!("conf/{}/rp_filter", station.device), "0")?;
                }
            }
            _ => {}
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
