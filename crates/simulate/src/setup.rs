//! What is simulated: backends, who balances over them, the load, and what
//! happens on the way. One file, since it is the parts of one [`Setup`].

use balance::{PolicyKind, Spread, Subset, Tuning, ZoneLayout, ZoneRouting};

use crate::distribution::Distribution;

/// A service, its clients and what stands between them. Times are nanoseconds.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The backends.
    pub backends: Vec<Backend>,
    /// Who balances.
    pub layer: Layer,
    /// How a backend is picked.
    pub policy: PolicyKind,
    /// Settings of single policies.
    pub tuning: Tuning,
    /// The balancers.
    pub fleet: Fleet,
    /// Where clients and balancers are; `None` where all are together.
    pub zones: Option<Zones>,
    /// The connections and the calls on them.
    pub load: Load,
    /// At what age a backend closes a connection; each one's age differs by up to a
    /// tenth, as it does in gRPC.
    pub connection_age_ns: Option<u64>,
    /// What a call spends outside of the backends.
    pub path: Path,
    /// What happens to backends, in order of time.
    pub faults: Vec<Fault>,
}

/// One backend: a queue in order of arrival, and servers.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Calls it works on at once; at least one.
    pub servers: u32,
    /// How long a server works on a call, at speed 1.
    pub service: Distribution,
    /// 0.2 serves five times slower; above zero.
    pub speed: f64,
    /// Its weight in policies that know weights; at least one.
    pub weight: u32,
    /// Whether the balancers know it from the start.
    pub is_member: bool,
    /// Its zone, one of those of [`Setup::zones`]; 0 where there are none.
    pub zone: u32,
}

/// Where a backend is picked, and so how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Nowhere: each connection goes to the next backend in turn.
    None,
    /// In a balancer, for each connection.
    L4,
    /// In a balancer, for each call.
    L7,
    /// In the client, for each call, by what this client has seen; under
    /// [`PolicyKind::PickFirst`] for each of its connections, as at layer [`Layer::None`].
    Client,
}

/// The balancers of a layer that has any, and what they know. At layer `client` each
/// client is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// How many share the connections; at least one.
    pub balancers: u32,
    /// Which connection comes to which of them.
    pub spread: Spread,
    /// To which backends each balancer or client is limited.
    pub subset: Option<Subset>,
    /// Where what it knows of load comes from.
    pub view: LoadView,
    /// A change of membership reaches a balancer within this time: each one at a time
    /// of its own, evenly distributed.
    pub told_within_ns: u64,
    /// Nobody tells clients that balance: each resolves a name, at the start and again once a
    /// connection was lost, sent away or closed for its age, and waits for this time between
    /// two resolutions. `None` where they are told like balancers.
    pub resolve_interval_ns: Option<u64>,
    /// Another one makes another draw of all random subsets.
    pub salt: u64,
}

impl Fleet {
    /// One balancer that knows all backends and hears of changes at once.
    pub const ONE: Self = Self {
        balancers: 1,
        spread: Spread::RoundRobin,
        subset: None,
        view: LoadView::Own,
        told_within_ns: 0,
        resolve_interval_ns: None,
        salt: 0,
    };
}

/// Where clients and balancers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// The zones of connections, and of the balancers that these come to. With several
    /// connections of a client, the client is where the first of them is.
    pub layout: ZoneLayout,
    /// How far balancers, or clients that balance, keep to their own zone; `None` where they
    /// know of none.
    pub routing: Option<ZoneRouting>,
}

/// Where what a balancer knows of a backend's load comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadView {
    /// It counts the calls, or connections, that it has handed out itself.
    Own,
    /// All backends report how many calls they hold, all at a time, and between two
    /// reports nothing is added: the periodic update of Mitzenmacher 2000.
    Reported {
        /// The time between two reports; above zero.
        every_ns: u64,
    },
    /// A backend that becomes idle tells one balancer, drawn by chance, and is busy for all
    /// of them from the next call on: join-idle-queue with an idle queue in each balancer
    /// (Lu et al. 2011).
    IdleReported,
}

/// The connections and the calls on them.
#[derive(Clone, Debug)]
pub struct Load {
    /// What makes calls due.
    pub pace: Pace,
    /// Connections, over all clients; at least one.
    pub connections: u32,
    /// Connections of each client; what divides them into clients. At least one.
    pub connections_per_client: u32,
    /// Most calls in flight on a connection; others wait for one to end.
    pub streams: u32,
    /// Calls after which a connection is replaced by another.
    pub connection_calls: Option<u32>,
    /// How often a call goes through the backend's queue, once for each message of a
    /// stream; at least one.
    pub passes: u32,
    /// When calls that have not ended are given up.
    pub give_up_ns: u64,
}

/// What makes calls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The arrivals that the simulation is given.
    Open,
    /// The end of the call before, in each stream of each connection.
    Closed {
        /// Pause between the end of a call and the next one.
        think_ns: u64,
        /// No call is due at or after this time.
        end_ns: u64,
        /// Nor after this many that were due from `counted_from_ns` on.
        calls: u64,
        /// Where those begin.
        counted_from_ns: u64,
    },
}

/// What a call spends outside of the backends, in each direction. It is drawn once for a
/// call: what is slow for it on the way there is as slow on the way back.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// Between client and balancer, one way; of no effect where there is no balancer.
    pub to_balancer: Distribution,
    /// Between balancer, or client, and backend, one way.
    pub to_backend: Distribution,
    /// What comes to that where the two are in different zones.
    pub between_zones: ZoneDelays,
}

/// How long it takes from one zone to another, one way.
#[derive(Clone, Debug, PartialEq)]
pub enum ZoneDelays {
    /// The same between any two.
    Any(Distribution),
    /// By their numbers, of all that there are.
    Each(Vec<Vec<Distribution>>),
}

impl ZoneDelays {
    /// Between these two, which may be the same one.
    pub(crate) fn between(&self, one: u32, other: u32) -> &Distribution {
        match self {
            _ if one == other => &Distribution::Zero,
            Self::Any(delay) => delay,
            Self::Each(all) => &all[one as usize][other as usize],
        }
    }

    fn are_of(&self, zones: usize) -> bool {
        let is_whole = |all: &Vec<Distribution>| all.len() == zones;
        match self {
            Self::Any(_) => true,
            Self::Each(all) => all.len() == zones && all.iter().all(is_whole),
        }
    }
}

impl Path {
    /// A path that takes no time.
    pub const NONE: Self = Self {
        to_balancer: Distribution::Zero,
        to_backend: Distribution::Zero,
        between_zones: ZoneDelays::Any(Distribution::Zero),
    };

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Something that happens to a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// When.
    pub at_ns: u64,
    /// Index of the backend.
    pub backend: u32,
    /// What.
    pub action: Action,
}

/// What can happen to a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// It is stopped: connections stay open and nothing is answered. Time goes on in
    /// it, as it does for a process that is stopped, so that all that is over by then is
    /// answered when it goes on.
    Stop,
    /// It goes on.
    Continue,
    /// It is gone, and with it all connections and calls.
    Kill,
    /// It takes no more calls and finishes those it has.
    Drain,
    /// It is there again, empty and at its first speed.
    Start,
    /// It works at this speed from now on, as a multiple of its first.
    Speed(f64),
    /// Balancers get to know it.
    Add,
    /// Balancers forget it. Connections to it stay.
    Remove,
}

/// Why a setup can't be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Something that must be there is not, or a number is out of bounds.
    #[error("cannot simulate {0}")]
    Invalid(&'static str),
    /// More than 65,535 backends, which is what a call log can name.
    #[error("cannot simulate {0} backends; {max} is the most", max = u16::MAX)]
    TooManyBackends(usize),
    /// It would not fit into the memory that it may take.
    #[error(
        "a simulation of {backends} backends and {views} balancers or clients with views of their \
         own would need {needed} MiB of memory, and may take {limit} MiB; fewer clients, or a \
         subset of the backends for each, need less"
    )]
    Memory {
        /// Backends.
        backends: usize,
        /// Balancers, or clients at layer `client`.
        views: u64,
        /// Estimated need in MiB.
        needed: u64,
        /// The limit in MiB.
        limit: u64,
    },
    /// The policy refuses the backends.
    #[error(transparent)]
    Balance(#[from] balance::BalanceError),
}

/// What a backend costs in a view: its load and latency as the balancer sees them, its
/// name, and its places in lists.
const BYTES_PER_VIEWED: u64 = 224;
/// What a client connection costs.
const BYTES_PER_CONNECTION: u64 = 160;
/// What a histogram of latency costs: one for each backend is kept by who folds the calls.
const BYTES_PER_HISTOGRAM: u64 = 270_000;

impl Setup {
    /// Whether each connection leads to one backend.
    pub(crate) fn has_links(&self) -> bool {
        matches!(self.layer, Layer::None | Layer::L4) || self.keeps_to_one()
    }

    /// Whether clients balance, and by keeping to one backend.
    fn keeps_to_one(&self) -> bool {
        self.layer == Layer::Client && self.policy == PolicyKind::PickFirst
    }

    fn zone_count(&self) -> usize {
        self.zones.as_ref().map_or(1, |zones| zones.layout.clients().len())
    }

    /// The interval at which clients that balance calls resolve a name, if they do.
    pub(crate) fn resolves_every_ns(&self) -> Option<u64> {
        let balances_calls = self.layer == Layer::Client && !self.keeps_to_one();
        self.fleet.resolve_interval_ns.filter(|_| balances_calls)
    }

    /// Balancers with a view of their own.
    pub(crate) fn views(&self) -> u32 {
        match self.layer {
            Layer::None => 0,
            Layer::L4 | Layer::L7 => self.fleet.balancers,
            Layer::Client if self.keeps_to_one() => 0,
            Layer::Client => self.load.connections.div_ceil(self.load.connections_per_client),
        }
    }

    /// About how much memory it takes before the first call, in bytes, the histograms of
    /// a trial record included.
    pub fn memory_bytes(&self) -> u64 {
        let backends = self.backends.len() as u64;
        let viewed = self.fleet.subset.map_or(backends, |of| backends.min(u64::from(of.size)));
        let table = match self.policy {
            PolicyKind::Maglev => 65_537 * 4,
            PolicyKind::RingHash | PolicyKind::BoundedRingHash => viewed * 160 * 16,
            _ => 0,
        };
        let views = u64::from(self.views()) * (viewed * BYTES_PER_VIEWED + table);
        let connections = u64::from(self.load.connections) * BYTES_PER_CONNECTION;
        backends * BYTES_PER_HISTOGRAM + views + connections
    }

    /// Whether a call takes any time, so that a closed loop without pauses gets on.
    fn takes_time(&self) -> bool {
        self.backends.iter().all(|backend| backend.service != Distribution::Zero)
            || self.path.to_backend != Distribution::Zero
    }

    /// Whether it can be simulated within so much memory. One line for each thing that is wrong.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self, memory_limit_bytes: u64) -> Result<(), SetupError> {
        let positive = [
            (self.backends.is_empty(), "no backend"),
            (self.fleet.balancers == 0, "no balancer"),
            (
                self.backends.iter().any(|one| one.zone as usize >= self.zone_count()),
                "a backend in a zone that there is not",
            ),
            (
                self.zones.as_ref().is_some_and(|zones| {
                    zones.layout.clients().iter().sum::<u32>() != self.load.connections
                }),
                "zones of other connections than there are",
            ),
            (
                !self.path.between_zones.are_of(self.zone_count()),
                "delays between other zones than there are",
            ),
            (self.fleet.subset.is_some_and(|subset| subset.size == 0), "an empty subset"),
            (
                self.fleet.view == LoadView::Reported { every_ns: 0 },
                "reports without time in between",
            ),
            (self.load.connections == 0, "no connection"),
            (self.load.connections_per_client == 0, "a client without a connection"),
            (self.load.streams == 0, "connections without a stream"),
            (self.load.connection_calls == Some(0), "connections without a call"),
            (self.load.passes == 0, "calls that no backend sees"),
            (self.backends.iter().any(|one| one.servers == 0), "a backend without a server"),
            (
                self.backends.iter().any(|one| one.speed <= 0.0 || one.speed.is_nan()),
                "a backend that is stopped",
            ),
            (self.backends.iter().all(|one| !one.is_member), "a start without a backend"),
            (
                matches!(self.load.pace, Pace::Closed { think_ns: 0, .. }) && !self.takes_time(),
                "a closed loop in which nothing takes time",
            ),
            (
                self.faults.iter().any(|one| one.backend as usize >= self.backends.len()),
                "a fault of a backend that is not there",
            ),
        ];
        if let Some((_, what)) = positive.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(SetupError::Invalid(what));
        }
        if self.backends.len() > usize::from(u16::MAX) {
            return Err(SetupError::TooManyBackends(self.backends.len()));
        }
        let needed = self.memory_bytes();
        if needed > memory_limit_bytes {
            return Err(SetupError::Memory {
                backends: self.backends.len(),
                views: u64::from(self.views()),
                needed: needed >> 20,
                limit: memory_limit_bytes >> 20,
            });
        }
        Ok(())
    }
}
