//! Client-side balancing: a connection to every backend, and a choice for each
//! call by the same policies as the proxies'.
//!
//! Each client connection of a scenario stands for one client, which sees its
//! own calls and nobody else's; so each has a balancer of its own.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use balance::{Backend, Balancer, PickInput, PolicyKind, SplitMix64, Tried};
use measure::calllog::FailureKind;

use super::{Call, CallShape, ClientKind, Connection, Ended, Sink};
use crate::drive::clock::monotonic_ns;

/// The backends a client balances over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Balanced {
    pub(crate) policy: PolicyKind,
    /// Address, id and weight of each.
    pub(crate) backends: Vec<(SocketAddr, String, u32)>,
    pub(crate) seed: u64,
}

/// One client with its connections.
pub(crate) struct BalancedConnection {
    connections: Vec<Box<dyn Connection>>,
    balancer: Rc<Balancer>,
    chance: RefCell<SplitMix64>,
    picks: Rc<Picks>,
    sink: Rc<dyn Sink>,
}

/// Where the calls under way went, by slot; also the sink of the connections.
struct Picks {
    balancer: Rc<Balancer>,
    by_slot: RefCell<Vec<Option<Pick>>>,
    sink: Rc<dyn Sink>,
}

#[derive(Clone, Copy)]
struct Pick {
    backend: usize,
    begun_ns: u64,
}

impl BalancedConnection {
    pub(crate) async fn connect(
        kind: ClientKind,
        balanced: &Balanced,
        shape: Rc<CallShape>,
        sink: Rc<dyn Sink>,
    ) -> Result<Self, String> {
        let backends = balanced
            .backends
            .iter()
            .map(|(_, id, weight)| Arc::new(Backend::new(id.clone(), *weight)))
            .collect();
        let balancer = Balancer::new(balanced.policy, backends).map_err(|e| e.to_string())?;
        let balancer = Rc::new(balancer);
        let picks = Rc::new(Picks {
            balancer: Rc::clone(&balancer),
            by_slot: RefCell::default(),
            sink: Rc::clone(&sink),
        });
        let mut connections = Vec::with_capacity(balanced.backends.len());
        for &(address, ..) in &balanced.backends {
            let sink = Rc::clone(&picks) as Rc<dyn Sink>;
            connections.push(super::connect_to(kind, address, Rc::clone(&shape), sink).await?);
        }
        let chance = RefCell::new(SplitMix64::new(balanced.seed));
        Ok(Self { connections, balancer, chance, picks, sink })
    }
}

impl Connection for BalancedConnection {
    fn start(&self, call: Call, sequence: u64) {
        let begun_ns = monotonic_ns();
        let random = self.chance.borrow_mut().next_u64();
        let input = PickInput { random, now_ns: begun_ns, key: None };
        let Some(backend) = self.balancer.pick(&input, &Tried::default()) else {
            // Backends of a scenario are never marked unavailable.
            return self.sink.ended(call, Ended::Failed(FailureKind::from_status(14)));
        };
        self.balancer.backends()[backend].begin();
        self.picks.put(call, Pick { backend, begun_ns });
        self.connections[backend].start(call, sequence);
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
    fn ended(&self, call: Call, ended: Ended) {
        let pick = self.by_slot.borrow_mut().get_mut(call.slot as usize).and_then(Option::take);
        if let Some(pick) = pick {
            let now_ns = monotonic_ns();
            let served = matches!(ended, Ended::Served { .. });
            let latency_ns = served.then(|| now_ns.saturating_sub(pick.begun_ns));
            self.balancer.backends()[pick.backend].finish(now_ns, latency_ns);
        }
        self.sink.ended(call, ended);
    }
}
