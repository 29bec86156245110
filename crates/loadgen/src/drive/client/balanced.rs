//! Client-side balancing: a connection to every backend, and a choice for each
//! call by the same policies as the proxies'.
//!
//! Each client connection of a scenario stands for one client, which sees its
//! own calls and nobody else's; so each has a balancer of its own. As in gRPC's own
//! clients, a backend without a connection is not picked while another has one,
//! and is connected to again in the background.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use balance::{Backend, BalanceError, Balancer, PickInput, PolicyKind, Tried};
use measure::calllog::FailureKind;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use super::{
    At, Call, ConnectError, ConnectOptions, Connection, Ended, OnWire, Resolver, Shape, Sink,
};
use crate::{drive::clock::monotonic_ns, peers::tuning};

/// The backends a client balances over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Balanced {
    pub(crate) policy: PolicyKind,
    /// Address, id and weight of each.
    pub(crate) backends: Vec<(SocketAddr, String, u32)>,
    /// Indices of those that the client knows from the start.
    pub(crate) members: Vec<usize>,
    pub(crate) seed: u64,
}

/// One client with its connections.
pub(crate) struct BalancedConnection {
    /// One for each backend, whether it is a member or not.
    connections: Vec<Box<dyn Connection>>,
    choice: RefCell<Choice>,
    chance: RefCell<SplitMix64>,
    picks: Rc<Picks>,
    sink: Rc<dyn Sink>,
}

/// The backends there are now, and how one of them is picked.
struct Choice {
    balancer: Balancer,
    /// Which backend each index of the balancer is.
    members: Vec<usize>,
}

impl Choice {
    fn new(
        balanced: &Balanced,
        backends: &[Arc<Backend>],
        members: &[usize],
    ) -> Result<Self, BalanceError> {
        let of_members = members.iter().map(|&index| Arc::clone(&backends[index])).collect();
        let balancer = Balancer::tuned(balanced.policy, tuning(), of_members, balanced.seed)?;
        Ok(Self { balancer, members: members.to_vec() })
    }

    /// The same policy over other members, whose turns go on.
    fn over(&self, backends: &[Arc<Backend>], members: &[usize]) -> Result<Self, BalanceError> {
        let of_members = members.iter().map(|&index| Arc::clone(&backends[index])).collect();
        Ok(Self { balancer: self.balancer.over(of_members)?, members: members.to_vec() })
    }
}

/// Where the calls under way went, by slot; also the sink of the connections.
struct Picks {
    /// All of them: a call may end after its backend has left.
    backends: Vec<Arc<Backend>>,
    by_slot: RefCell<Vec<Option<Pick>>>,
    sink: Rc<dyn Sink>,
}

#[derive(Clone, Copy)]
struct Pick {
    backend: usize,
    begun_ns: u64,
}

impl BalancedConnection {
    pub(super) async fn connect(
        options: ConnectOptions,
        balanced: &Balanced,
        shape: Rc<Shape>,
        sink: Rc<dyn Sink>,
    ) -> Result<Self, ConnectError> {
        let backends: Vec<Arc<Backend>> = balanced
            .backends
            .iter()
            .map(|(_, id, weight)| Arc::new(Backend::new(id.clone(), *weight)))
            .collect();
        let choice = Choice::new(balanced, &backends, &balanced.members)
            .map_err(|error| ConnectError::own(error.to_string()))?;
        let picks =
            Rc::new(Picks { backends, by_slot: RefCell::default(), sink: Rc::clone(&sink) });
        let mut connections = Vec::with_capacity(balanced.backends.len());
        for (index, &(address, ..)) in balanced.backends.iter().enumerate() {
            let is_member = balanced.members.contains(&index);
            let at = if is_member { At::Once } else { At::FirstCall };
            let (resolver, shape) = (Resolver::one(address), Rc::clone(&shape));
            let sink = Rc::clone(&picks) as Rc<dyn Sink>;
            connections.push(super::connect_to(options.clone(), resolver, at, shape, sink).await?);
        }
        Ok(Self {
            connections,
            choice: RefCell::new(choice),
            chance: RefCell::new(SplitMix64::seed_from_u64(balanced.seed)),
            picks,
            sink,
        })
    }

    fn pick(&self, now_ns: u64) -> Option<usize> {
        let random = self.chance.borrow_mut().next_u64();
        let input = PickInput { random, now_ns, key: None };
        let choice = self.choice.borrow();
        for (backend, &index) in choice.balancer.backends().iter().zip(&choice.members) {
            let connection = &self.connections[index];
            let is_ready = connection.is_ready();
            if !is_ready {
                connection.make_ready();
            }
            if backend.is_available() != is_ready {
                backend.set_available(is_ready);
            }
        }
        let picked =
            choice.balancer.pick(&input, &Tried::default()).map(|index| choice.members[index]);
        // Where none is ready, the call waits for one that is being connected to.
        picked.or_else(|| choice.members.get(random as usize % choice.members.len()).copied())
    }
}

impl Connection for BalancedConnection {
    fn start(&self, call: Call, sequence: u64) {
        let begun_ns = monotonic_ns();
        let Some(backend) = self.pick(begun_ns) else {
            return self.sink.ended(call, Ended::Failed(FailureKind::from_status(14)), None);
        };
        self.picks.backends[backend].begin();
        self.picks.put(call, Pick { backend, begun_ns });
        self.connections[backend].start(call, sequence);
    }

    /// Backends in both lists keep their connections and counts.
    fn set_members(&self, members: &[usize]) {
        // Fewer backends make a balancer whenever more did.
        let choice = self.choice.borrow().over(&self.picks.backends, members);
        let Ok(choice) = choice else { return };
        let before = self.choice.replace(choice);
        for index in members {
            self.connections[*index].make_ready();
        }
        for gone in before.members.iter().filter(|index| !members.contains(index)) {
            self.connections[*gone].release();
        }
    }

    fn release(&self) {
        self.connections.iter().for_each(|connection| connection.release());
    }

    fn is_ready(&self) -> bool {
        self.choice.borrow().members.iter().any(|&index| self.connections[index].is_ready())
    }

    fn make_ready(&self) {
        for &index in &self.choice.borrow().members {
            self.connections[index].make_ready();
        }
    }
}

impl Picks {
    fn put(&self, call: Call, pick: Pick) {
        let mut by_slot = self.by_slot.borrow_mut();
        let slot = call.slot as usize;
        if by_slot.len() <= slot {
            by_slot.resize(slot + 1, None);
        }
        by_slot[slot] = Some(pick);
    }
}

impl Sink for Picks {
    fn ended(&self, call: Call, ended: Ended, on_wire: Option<OnWire>) {
        let pick = self.by_slot.borrow_mut().get_mut(call.slot as usize).and_then(Option::take);
        if let Some(pick) = pick {
            let (now_ns, backend) = (monotonic_ns(), &self.backends[pick.backend]);
            backend.finish();
            match ended {
                Ended::Served { .. } => {
                    backend.answered(now_ns, now_ns.saturating_sub(pick.begun_ns));
                }
                Ended::Failed(kind) if is_backends(kind) => backend.failed(now_ns),
                Ended::Failed(_) => {}
            }
        }
        self.sink.ended(call, ended, on_wire);
    }
}

/// Whether a failure is its backend's, as the L7 proxy judges it: UNKNOWN,
/// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS, or no answer.
fn is_backends(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Status(2 | 4 | 13..=15) | FailureKind::ConnectionLost)
}
