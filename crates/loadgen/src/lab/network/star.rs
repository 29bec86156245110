//! Namespaces in a star: the balancer's in the middle, the client's and each
//! backend's joined to it by a veth link.
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
//! Links are made by netlink rather than with `ip`, which many machines don't
//! have and whose messages are for people. Addresses are from the range that is
//! set aside for benchmarks (RFC 2544, 198.18.0.0/15), four to a link; ports are
//! the same everywhere, since nobody else is there.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::RawFd,
    sync::Arc,
};

use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::link::{InfoData, InfoKind, InfoVeth},
};

use super::{Addresses, BalancerAddress, Namespace, NetworkError};

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
/// Bits of a link's network: two hosts.
const PREFIX: u8 = 30;
/// A namespace's loopback is always its first interface.
const LOOPBACK_INDEX: u32 = 1;
/// Index of the only link of a namespace at an end, and of the first in the
/// middle. An index is given rather than asked for afterwards.
const LINK_INDEX: u32 = 2;

/// The namespaces of a trial.
#[derive(Debug)]
pub(crate) struct Star {
    client: Arc<Namespace>,
    balancer: Namespace,
    backends: Vec<Namespace>,
}

/// A link from the middle to one end: 0 is the client's, the others the
/// backends' in their order.
#[derive(Clone, Copy, Debug)]
struct Arm(u32);

impl Arm {
    fn of_backend(index: usize) -> Self {
        // A scenario has few backends; an index beyond the range is refused when
        // its link is made.
        Self(u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1)))
    }

    /// Its address in the middle.
    fn inner(self) -> Ipv4Addr {
        Ipv4Addr::from(BASE.saturating_add(self.0.saturating_mul(4)).saturating_add(1))
    }

    /// Its address at the end.
    fn outer(self) -> Ipv4Addr {
        Ipv4Addr::from(BASE.saturating_add(self.0.saturating_mul(4)).saturating_add(2))
    }
}

impl Star {
    /// Makes the namespaces, their links and routes.
    pub(super) fn make(backends: usize) -> Result<Self, NetworkError> {
        let new = || Namespace::new().map_err(NetworkError::Namespace);
        let star = Self {
            client: Arc::new(new()?),
            balancer: new()?,
            backends: (0..backends).map(|_| new()).collect::<Result<_, _>>()?,
        };
        star.lay().map_err(NetworkError::Join)?;
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

    /// All balancers stand in the middle, each at ports of its own.
    pub(super) fn addresses(&self, balancers: usize) -> Addresses {
        let at = |port| SocketAddr::from((Arm(0).inner(), port));
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

    fn ends(&self) -> impl Iterator<Item = (Arm, &Namespace)> {
        let backends = self.backends.iter().enumerate();
        let backends = backends.map(|(index, namespace)| (Arm::of_backend(index), namespace));
        std::iter::once((Arm(0), &*self.client)).chain(backends)
    }

    fn lay(&self) -> io::Result<()> {
        let ends: Vec<(Arm, RawFd)> =
            self.ends().map(|(arm, namespace)| (arm, namespace.descriptor())).collect();
        self.balancer.run(|| {
            talk(async |handle| {
                raise(&handle, LOOPBACK_INDEX).await?;
                for (arm, end) in ends {
                    add_link(&handle, arm, end).await?;
                    raise(&handle, arm.0 + LINK_INDEX).await?;
                    let inner = IpAddr::V4(arm.inner());
                    handle.address().add(arm.0 + LINK_INDEX, inner, PREFIX).execute().await?;
                }
                Ok(())
            })?;
            set("ip_forward", "1")?;
            allow_many_connections()
        })??;
        for (arm, namespace) in self.ends() {
            namespace.run(|| {
                talk(async |handle| {
                    raise(&handle, LOOPBACK_INDEX).await?;
                    raise(&handle, LINK_INDEX).await?;
                    let outer = IpAddr::V4(arm.outer());
                    handle.address().add(LINK_INDEX, outer, PREFIX).execute().await?;
                    let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(arm.inner());
                    handle.route().add(default.build()).execute().await
                })?;
                allow_many_connections()
            })??;
        }
        Ok(())
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

/// Sets a switch of the namespace that the calling thread is in.
fn set(switch: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{switch}"), value).map_err(|error| {
        let text = format!("cannot set net.ipv4.{switch} to {value}: {error}");
        io::Error::new(error.kind(), text)
    })
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

async fn raise(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
}

/// Makes a veth pair with one end here and the other in the namespace `end`,
/// where it is made at once: moving it there later would wait for every CPU to
/// let go of it.
async fn add_link(handle: &Handle, arm: Arm, end: RawFd) -> Result<(), rtnetlink::Error> {
    let outer = LinkUnspec::new_with_name("up").index(LINK_INDEX).setns_by_fd(end).build();
    let inner = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(format!("down{}", arm.0))
        .index(arm.0 + LINK_INDEX)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(outer)))
        .build();
    handle.link().add(inner).execute().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_has_a_network_of_its_own() {
        let network = |address: Ipv4Addr| u32::from(address) >> (32 - PREFIX);
        let arms: Vec<Arm> = std::iter::once(Arm(0)).chain((0..70).map(Arm::of_backend)).collect();
        for (index, arm) in arms.iter().enumerate() {
            assert_eq!(network(arm.inner()), network(arm.outer()));
            for other in &arms[..index] {
                assert_ne!(network(arm.inner()), network(other.inner()));
            }
            assert_eq!(arm.outer().octets()[..2], [198, 18]);
        }
        assert_eq!(arms[0].inner(), Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(arms[2].outer(), Ipv4Addr::new(198, 18, 0, 10));
    }
}
