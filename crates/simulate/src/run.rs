//! The simulation: takes the next event and does what follows from it.
//!
//! Nothing here decides for a balancer: who is picked is asked of [`balance`], as the
//! proxies ask it.

use balance::Zones;
use measure::calllog::Entry;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use slab::Slab;

use crate::{
    calls::{Asked, Call, Connection, Link},
    events::{Event, Events, Kind},
    setup::{Layer, LoadView, Pace, Setup, SetupError},
    station::Station,
    view::{Names, View},
};

/// A call of an open loop that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Nanoseconds since the start.
    pub due_ns: u64,
    /// The connection it goes out on.
    pub connection: u32,
}

/// How a simulation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Calls that were due.
    pub calls: u64,
    /// When the last thing happened, in nanoseconds since the start.
    pub ended_ns: u64,
    /// Most calls that were under way or waiting at a time.
    pub most_calls: usize,
}

/// What there is in a simulation.
pub(crate) struct Simulation<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) seed: u64,
    pub(crate) now_ns: u64,
    pub(crate) events: Events,
    pub(crate) calls: Slab<Call>,
    pub(crate) connections: Vec<Connection>,
    /// Probes under way, and those that are sent now; kept for its memory.
    pub(crate) probes: Slab<Asked>,
    pub(crate) asked: Vec<usize>,
    pub(crate) links: Slab<Link>,
    pub(crate) stations: Vec<Station>,
    pub(crate) views: Vec<View>,
    pub(crate) names: Names,
    /// Indices of the backends that balancers are told of, in order.
    pub(crate) members: Vec<u32>,
    /// Decides over calls: what they take is the same for all ways to send them.
    pub(crate) fate: SplitMix64,
    /// Decides over picks and all else.
    pub(crate) chance: SplitMix64,
    pub(crate) stamp: u16,
    /// Whether a call spends no time outside of the backends.
    pub(crate) is_instant: bool,
    /// Whether balancers count for themselves.
    pub(crate) counts_own: bool,
    /// Whether backends tell a balancer when they are idle.
    pub(crate) hears_of_idle: bool,
    /// Closed loop: slots that think, and measured calls so far.
    pub(crate) thinking: u64,
    pub(crate) begun: u64,
    pub(crate) ended: Ended,
    pub(crate) sink: &'a mut dyn FnMut(&Entry, u32),
}

/// Simulates a setup. `arrivals` are the calls of an open loop in order of time; a closed
/// loop makes its own. Every call is handed to `sink` when it ends, with the number of its
/// connection. All chance follows from `seed`.
///
/// Memory grows with the backends that balancers and clients know and with the calls
/// under way, and not with the calls that were made.
///
/// # Errors
/// When the setup is none that can be simulated; [`Setup::check`] tells more.
pub fn run(
    setup: &Setup,
    arrivals: &mut dyn Iterator<Item = Arrival>,
    seed: u64,
    sink: &mut dyn FnMut(&Entry, u32),
) -> Result<Ended, SetupError> {
    setup.check(u64::MAX)?;
    let mut simulation = Simulation::new(setup, seed, sink)?;
    simulation.begin();
    simulation.go_on(arrivals)?;
    simulation.give_up();
    Ok(Ended { ended_ns: simulation.now_ns, ..simulation.ended })
}

impl<'a> Simulation<'a> {
    fn new(
        setup: &'a Setup,
        seed: u64,
        sink: &'a mut dyn FnMut(&Entry, u32),
    ) -> Result<Self, SetupError> {
        let mut seeds = SplitMix64::seed_from_u64(seed);
        let (fate, chance) = (seeds.next_u64(), seeds.next_u64());
        let count = setup.backends.len();
        let hears_of_idle = setup.fleet.view == LoadView::IdleReported;
        let names = Names {
            names: (0..count).map(|index| format!("b{index}")).collect(),
            weights: setup.backends.iter().map(|backend| backend.weight).collect(),
            zones: setup.backends.iter().map(|backend| backend.zone).collect(),
        };
        let members = (0..).zip(&setup.backends).filter(|(_, backend)| backend.is_member);
        let mut simulation = Self {
            setup,
            seed,
            now_ns: 0,
            events: Events::default(),
            calls: Slab::new(),
            connections: (0..setup.load.connections).map(Connection::new).collect(),
            probes: Slab::new(),
            asked: Vec::new(),
            links: Slab::new(),
            stations: setup.backends.iter().map(Station::of).collect(),
            views: (0..setup.views()).map(|_| View::new(hears_of_idle)).collect(),
            names,
            members: members.map(|(index, _)| index).collect(),
            fate: SplitMix64::seed_from_u64(fate),
            chance: SplitMix64::seed_from_u64(chance),
            stamp: 0,
            is_instant: setup.path.is_none(),
            counts_own: setup.fleet.view == LoadView::Own,
            hears_of_idle,
            thinking: 0,
            begun: 0,
            ended: Ended::default(),
            sink,
        };
        for view in 0..simulation.views.len() {
            simulation.tell(view)?;
        }
        Ok(simulation)
    }

    /// Everything that is known to happen, before the first call.
    fn begin(&mut self) {
        for (index, fault) in (0..).zip(&self.setup.faults) {
            self.events.push(fault.at_ns, Kind::Fault, index, 0);
        }
        if let LoadView::Reported { .. } = self.setup.fleet.view {
            self.events.push(0, Kind::Report, 0, 0);
        }
        if self.hears_of_idle {
            (0..self.stations.len()).for_each(|backend| self.is_idle(backend));
        }
        if self.setup.resolves_every_ns().is_some() {
            (0..self.setup.views()).for_each(|view| self.watch_age_of(view));
        }
        if self.setup.has_links() {
            for connection in 0..self.setup.load.connections {
                self.connect(connection);
            }
        }
        if let Pace::Closed { think_ns, .. } = self.setup.load.pace {
            for connection in 0..self.setup.load.connections {
                for _ in 0..self.setup.load.streams {
                    // Spread over one think time: clients that all think equally long
                    // would otherwise call in step for ever.
                    let first_ns = if think_ns == 0 { 0 } else { self.word() % think_ns };
                    self.events.push(first_ns, Kind::Due, connection, 0);
                    self.thinking += 1;
                }
            }
        }
    }

    fn go_on(&mut self, arrivals: &mut dyn Iterator<Item = Arrival>) -> Result<(), SetupError> {
        let mut next = arrivals.next();
        loop {
            let event_ns = self.events.next_ns().unwrap_or(u64::MAX);
            let due_ns = next.map_or(u64::MAX, |arrival| arrival.due_ns);
            let at_ns = event_ns.min(due_ns);
            let is_over = next.is_none() && self.calls.is_empty() && self.thinking == 0;
            if is_over || at_ns >= self.setup.load.give_up_ns {
                return Ok(());
            }
            self.now_ns = at_ns;
            if event_ns <= due_ns {
                if let Some(event) = self.events.pop() {
                    self.happen(event)?;
                }
            } else if let Some(arrival) = next {
                self.due(arrival.connection);
                next = arrivals.next();
            }
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), SetupError> {
        let index = event.index;
        match event.kind {
            Kind::Pick | Kind::Arrive | Kind::Finish | Kind::Pass | Kind::Done => {
                // One of a call that failed in the meantime has another's stamp, or none.
                let call = self.calls.get(index as usize);
                if call.is_some_and(|call| call.stamp == event.stamp) {
                    self.step(event.kind, index);
                }
            }
            Kind::Free => self.send_waiting(index),
            Kind::Due => self.slot_is_due(index),
            Kind::Age => self.age(index, event.stamp),
            Kind::ViewAge => {
                self.request_resolution(index as usize);
                self.watch_age_of(index);
            }
            Kind::Told => self.tell(index as usize)?,
            Kind::Fault => self.fault(self.setup.faults[index as usize])?,
            Kind::Report => self.report(),
            Kind::Probe => self.on_probe(index),
        }
        Ok(())
    }

    /// The zone of a view: of a balancer, or of a client that balances.
    pub(crate) fn zone_of(&self, view: usize) -> u32 {
        let Some(zones) = &self.setup.zones else { return 0 };
        let zone = match self.setup.layer {
            Layer::Client => {
                zones.layout.of_client(view as u32 * self.setup.load.connections_per_client)
            }
            _ => zones.layout.of_balancer(view as u32),
        };
        zone as u32
    }

    /// What a view knows of zones; `None` where it heeds none.
    pub(crate) fn zones(&self, view: usize) -> Option<Zones> {
        let zones = self.setup.zones.as_ref()?;
        let fleet = &self.setup.fleet;
        let balancers = if self.setup.layer == Layer::Client { 0 } else { fleet.balancers };
        Some(Zones {
            own: self.zone_of(view) as usize,
            balancers: zones.layout.asked_in(balancers, fleet.spread, self.seed),
            routing: zones.routing?,
        })
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.chance.next_u64()
    }

    pub(crate) fn next_stamp(&mut self) -> u16 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }
}
