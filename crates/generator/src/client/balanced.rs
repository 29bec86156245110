//! Client-side balancing: a connection to every backend, and a choice for each
//! call by the same policies as the proxies'.
//!
//! Each client connection of a scenario stands for one client, which sees its
//! own calls and nobody else's; so each has a balancer of its own. As in gRPC's own
//! clients, a backend without a connection is not picked while another has one, and is
//! connected to again in the background, with pauses that grow (gRPC, `round_robin` and
//! `doc/connection-backoff.md`). How it learns which backends there are is up to
//! [`Discovery`].

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use balance::{
    Backend, BalanceError, Balancer, Chooser, LoadReport, PickInput, PolicyKind, Subset, Tried,
    Tuning, Zones,
};
use measure::calllog::FailureKind;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use super::{
    At, Call, ConnectError, ConnectOptions, Connection, Discovery, Ended, OnWire, Resolver, Shape,
    Sink, discovery::Name,
};
use crate::clock::monotonic_ns;

/// The backends a client balances over.
#[derive(Clone, Debug, PartialEq)]
pub struct Balanced {
    /// How one of them is picked.
    pub policy: PolicyKind,
    /// The backends there may be.
    pub backends: Vec<BackendAt>,
    /// Indices of those there are from the start.
    pub members: Vec<usize>,
    /// How it learns of others.
    pub discovery: Discovery,
    /// To how many of them it is limited, and which client it is.
    pub subset: Option<(Subset, Chooser)>,
    /// Where it and the other clients are; `None` where it knows of no zones.
    pub zones: Option<Zones>,
    /// The policy's settings.
    pub tuning: Tuning,
    /// Of what the policy leaves to chance.
    pub seed: u64,
}

/// A backend as such a client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendAt {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its id, which is its name for the policies.
    pub id: String,
    /// Its weight in policies that know weights.
    pub weight: u32,
    /// Its zone, of those of [`Balanced::zones`].
    pub zone: usize,
}

impl Balanced {
    /// The backends that the client uses of those there are.
    fn known(&self, backends: &[Arc<Backend>], members: &[usize]) -> Vec<usize> {
        let Some((subset, own)) = self.subset else { return members.to_vec() };
        let names: Vec<&str> = members.iter().map(|&index| &*self.backends[index].id).collect();
        let known = |one: balance::Chosen| {
            let index = members[one.index];
            let weight = self.backends[index].weight;
            backends[index].set_weight(weight.saturating_mul(one.weight));
            index
        };
        subset.choose(&names, own).into_iter().map(known).collect()
    }
}

/// One client with its connections.
pub(super) struct BalancedConnection(Rc<Balancing>);

struct Balancing {
    /// One for each backend, whether it is known or not.
    connections: Vec<Box<dyn Connection>>,
    name: RefCell<Name>,
    balanced: Balanced,
    choice: RefCell<Choice>,
    chance: RefCell<SplitMix64>,
    picks: Rc<Picks>,
    sink: Rc<dyn Sink>,
}

/// The backends that are known, and how one of them is picked.
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
        let Balanced { policy, tuning, seed, .. } = *balanced;
        let balancer = Balancer::zoned(policy, tuning, balanced.zones.clone(), of_members, seed)?;
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
    /// Whose they are; nobody's while the connections are being made.
    owner: RefCell<Weak<Balancing>>,
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
            .map(|one| Arc::new(Backend::new(&*one.id, one.weight).in_zone(one.zone)))
            .collect();
        let known = balanced.known(&backends, &balanced.members);
        let choice = Choice::new(balanced, &backends, &known)
            .map_err(|error| ConnectError::own(error.to_string()))?;
        let picks = Rc::new(Picks {
            owner: RefCell::default(),
            backends,
            by_slot: RefCell::default(),
            sink: Rc::clone(&sink),
        });
        let mut connections = Vec::with_capacity(balanced.backends.len());
        for (index, &BackendAt { address, .. }) in balanced.backends.iter().enumerate() {
            let is_member = known.contains(&index);
            let at = if is_member { At::Once } else { At::FirstCall };
            let (resolver, shape) = (Resolver::one(address), Rc::clone(&shape));
            let sink = Rc::clone(&picks) as Rc<dyn Sink>;
            let options = options.of_number(index as u64);
            connections.push(super::connect_to(options, resolver, at, shape, sink).await?);
        }
        let name = Name::new(balanced.discovery, balanced.members.clone(), monotonic_ns());
        let client = Rc::new(Balancing {
            connections,
            name: RefCell::new(name),
            balanced: balanced.clone(),
            choice: RefCell::new(choice),
            chance: RefCell::new(SplitMix64::seed_from_u64(balanced.seed)),
            picks,
            sink,
        });
        *client.picks.owner.borrow_mut() = Rc::downgrade(&client);
        Ok(Self(client))
    }
}

impl Balancing {
    fn start(&self, call: Call, sequence: u64) {
        let begun_ns = monotonic_ns();
        let Some(backend) = self.pick(begun_ns) else {
            return self.sink.ended(call, Ended::Failed(FailureKind::from_status(14)), None);
        };
        self.picks.backends[backend].begin();
        self.picks.put(call, Pick { backend, begun_ns });
        self.connections[backend].start(call, sequence);
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
                if is_ready {
                    backend.reconnected();
                }
            }
        }
        let picked =
            choice.balancer.pick(&input, &Tried::default()).map(|index| choice.members[index]);
        // Where none is ready, the call waits for one that is being connected to.
        picked.or_else(|| choice.members.get(random as usize % choice.members.len()).copied())
    }

    /// Has the name resolved, as soon as that may be.
    fn request_resolution(self: &Rc<Self>) {
        let now_ns = monotonic_ns();
        let Some(due_ns) = self.name.borrow_mut().request(now_ns) else { return };
        let client = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns))).await;
            let Some(client) = client.upgrade() else { return };
            // The timer may be early by less than its tick.
            let has_changed = client.name.borrow_mut().resolve(monotonic_ns().max(due_ns));
            if has_changed {
                client.take_up();
            }
        });
    }

    /// Goes by the backends that are known now. Those that were known before keep their
    /// connections and counts.
    fn take_up(&self) {
        let members = self.balanced.known(&self.picks.backends, self.name.borrow().known());
        // Fewer backends make a balancer whenever more did.
        let choice = self.choice.borrow().over(&self.picks.backends, &members);
        let Ok(choice) = choice else { return };
        let before = self.choice.replace(choice);
        for &index in &members {
            self.connections[index].make_ready();
        }
        for gone in before.members.iter().filter(|index| !members.contains(index)) {
            self.connections[*gone].release();
        }
    }
}

impl Connection for BalancedConnection {
    fn start(&self, call: Call, sequence: u64) {
        self.0.start(call, sequence);
    }

    fn set_members(&self, members: &[usize]) {
        let has_heard = self.0.name.borrow_mut().change(members);
        if has_heard {
            self.0.take_up();
        }
    }

    fn release(&self) {
        self.0.connections.iter().for_each(|connection| connection.release());
    }

    fn is_ready(&self) -> bool {
        let choice = self.0.choice.borrow();
        choice.members.iter().any(|&index| self.0.connections[index].is_ready())
    }

    fn make_ready(&self) {
        for &index in &self.0.choice.borrow().members {
            self.0.connections[index].make_ready();
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

    fn take(&self, call: Call) -> Option<Pick> {
        self.by_slot.borrow_mut().get_mut(call.slot as usize).and_then(Option::take)
    }
}

impl Sink for Picks {
    fn ended(&self, call: Call, ended: Ended, on_wire: Option<OnWire>) {
        if let Some(pick) = self.take(call) {
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

    fn report(&self, call: Call, report: &LoadReport) {
        let pick = self.by_slot.borrow().get(call.slot as usize).copied().flatten();
        if let Some(pick) = pick {
            self.backends[pick.backend].report(monotonic_ns(), report);
        }
    }

    fn lost(&self) {
        if let Some(owner) = self.owner.borrow().upgrade() {
            owner.request_resolution();
        }
    }

    /// It is picked for again (gRFC A6, transparent retries).
    fn take_back(&self, call: Call, sequence: u64) -> bool {
        let Some(owner) = self.owner.borrow().upgrade() else { return false };
        if let Some(pick) = self.take(call) {
            self.backends[pick.backend].finish();
        }
        owner.start(call, sequence);
        true
    }
}

/// Whether a failure is its backend's, as the L7 proxy judges it: UNKNOWN,
/// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS, or no answer.
fn is_backends(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Status(2 | 4 | 13..=15) | FailureKind::ConnectionLost)
}
