//! What the traffic of a trial crosses: the loopback, or links of its own.
//!
//! On the loopback everyone shares one address, ports are chosen so that they
//! don't collide, and a second hop costs next to nothing. In namespaces the
//! client, the balancer and each backend have a network stack of their own, and
//! packets between them cross veth links, as between the pods of a node
//! ([`star`]), or links that take time ([`distance`]). Whatever the network,
//! every process is started, probed and billed in the same way; only where it is
//! differs.

mod distance;
mod layout;
mod namespace;
mod ping;
mod privilege;
mod star;

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use distance::NoDistance;
pub(crate) use distance::engine;
use measure::record::LinksRecord;
pub(crate) use namespace::Namespace;
pub(crate) use privilege::prepare;
use scenario::{Links, Zones};
use star::Star;

use super::{Process, ports};

/// What network a trial has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) kind: scenario::Network,
    pub(crate) backends: usize,
    /// Links that take time, in namespaces.
    pub(crate) links: &'a Links,
    /// Where everyone is, which counts where there are links between zones.
    pub(crate) zones: Option<&'a Zones>,
    /// What their loss and jitter is by.
    pub(crate) seed: u64,
    /// Where processes write.
    pub(crate) dir: &'a Path,
}

/// Whose place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where balancer number so-and-so runs, or the kernel balances in its place.
    Balancer(usize),
    /// Where backend number so-and-so runs.
    Backend(usize),
}

/// The network of one trial. Namespaces are gone when it is dropped and the
/// processes in them have ended.
#[derive(Debug)]
pub(crate) enum Network {
    Loopback,
    Namespaces(Box<Star>),
}

/// Why there is no network of the lab's own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("no network namespace: {0}")]
    Namespace(io::Error),
    #[error("cannot join network namespaces: {0}")]
    Join(io::Error),
    #[error(transparent)]
    NoDistance(#[from] NoDistance),
    #[error("no relay for links that take time: {0}")]
    Relay(String),
    #[error("cannot ping through links that take time: {0}")]
    Ping(io::Error),
}

/// Where one balancer listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BalancerAddress {
    pub(crate) listen: SocketAddr,
    /// Where it answers questions about itself, if it does.
    pub(crate) admin: SocketAddr,
}

/// Where everyone listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) balancers: Vec<BalancerAddress>,
    pub(crate) backends: Vec<SocketAddr>,
    /// Of servers that have a tap before them, which listens at the backend's address.
    pub(crate) tapped: Vec<SocketAddr>,
    /// Where servers listen for each other, if they do.
    pub(crate) cluster: Vec<SocketAddr>,
}

impl Addresses {
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = SocketAddr> {
        let of_backends = [&self.backends, &self.tapped, &self.cluster].into_iter().flatten();
        let of_balancers = self.balancers.iter().flat_map(|one| [one.listen, one.admin]);
        of_balancers.chain(of_backends.copied())
    }
}

impl Network {
    /// Makes it. What relays packets is a child of the calling thread's.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn make(plan: &Plan<'_>) -> Result<Self, NetworkError> {
        match plan.kind {
            scenario::Network::Loopback => Ok(Self::Loopback),
            scenario::Network::Namespaces => {
                Star::make(plan).map(|star| Self::Namespaces(Box::new(star)))
            }
        }
    }

    /// The process that relays packets of links that take time, where one does.
    pub(crate) fn relay_mut(&mut self) -> Option<&mut Process> {
        match self {
            Self::Loopback => None,
            Self::Namespaces(star) => star.relay_mut(),
        }
    }

    /// Has it say what it did since it was last asked.
    pub(crate) fn ask(&mut self) {
        if let Self::Namespaces(star) = self {
            star.ask();
        }
    }

    /// What came out of links that take time, where there are any.
    pub(crate) fn record(&self) -> Option<LinksRecord> {
        match self {
            Self::Loopback => None,
            Self::Namespaces(star) => star.record(),
        }
    }

    /// Addresses for everyone. Ports of the loopback were free a moment ago; in a
    /// namespace there is nobody else.
    /// There are so many backends, and so many balancers. Where backends go by a name they
    /// share one port.
    pub(crate) fn addresses(
        &self,
        (backends, balancers): (usize, usize),
        have_name: bool,
    ) -> io::Result<Addresses> {
        match self {
            Self::Loopback => {
                let count = 3 * backends + 2 * balancers;
                let mut all = ports::free_addresses(count)?.into_iter();
                let mut take = || all.next().ok_or_else(|| io::Error::other("no free port"));
                let mut balancer = || Ok(BalancerAddress { listen: take()?, admin: take()? });
                let balancers =
                    (0..balancers).map(|_| balancer()).collect::<io::Result<Vec<_>>>()?;
                let mut each = || (0..backends).map(|_| take()).collect::<io::Result<Vec<_>>>();
                let (alone, tapped, cluster) = (each()?, each()?, each()?);
                let backends = if have_name { ports::free_hosts(backends)? } else { alone };
                Ok(Addresses { balancers, backends, tapped, cluster })
            }
            Self::Namespaces(star) => Ok(star.addresses(balancers)),
        }
    }

    /// The namespace of a place; `None` for the lab's own.
    pub(crate) fn at(&self, place: Place) -> Option<&Namespace> {
        match (self, place) {
            (Self::Loopback, _) => None,
            (Self::Namespaces(star), Place::Balancer(number)) => Some(star.balancer(number)),
            (Self::Namespaces(star), Place::Backend(index)) => star.backend(index),
        }
    }

    /// The namespace of the client, for the generator's threads; `None` for the
    /// lab's own.
    pub(crate) fn client(&self) -> Option<&Arc<Namespace>> {
        match self {
            Self::Loopback => None,
            Self::Namespaces(star) => Some(star.client()),
        }
    }

    /// The network devices that clients' connections leave by, by the zones of clients; none
    /// where they may leave by any.
    pub(crate) fn client_devices(&self) -> Vec<String> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Namespaces(star) => star.client_devices(),
        }
    }

    /// Does `work` at a place, from where the way to what runs there is never far.
    pub(crate) fn run_at<T: Send>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        match self.at(place) {
            None => Ok(work()),
            Some(namespace) => namespace.run(work),
        }
    }

    /// Does `work` where the client is, as the generator will.
    pub(crate) fn as_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        match self.client() {
            None => Ok(work()),
            Some(namespace) => namespace.run(work),
        }
    }
}
