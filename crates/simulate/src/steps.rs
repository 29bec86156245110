//! A call, from when it is due to its end.

use balance::{PickInput, PolicyKind, Tried};
use measure::calllog::{Entry, FailureKind, Outcome};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    calls::{Call, NONE},
    distribution::Distribution,
    events::Kind,
    run::Simulation,
    setup::{Layer, Pace},
    station::{State, Station},
};

/// A caller whose call failed at once makes the next one after this time at the
/// earliest: without any, a closed loop would stand still in time.
const PAUSE_AFTER_FAILURE_NS: u64 = 1_000_000;

impl Simulation<'_> {
    /// What happens to a call next.
    #[inline]
    pub(crate) fn step(&mut self, kind: Kind, key: u32) {
        match kind {
            Kind::Pick => self.pick(key),
            Kind::Arrive => self.arrive(key),
            Kind::Finish => self.finish(key),
            Kind::Pass => self.pass(key),
            _ => self.done(key),
        }
    }

    /// A call is on its way to where `kind` happens to it.
    #[inline]
    fn travel(&mut self, key: u32, kind: Kind) {
        let leg_ns = if self.is_instant { 0 } else { self.leg_ns(key, kind) };
        if leg_ns == 0 {
            self.step(kind, key);
        } else {
            let stamp = self.calls[key as usize].stamp;
            self.events.push(self.now_ns + leg_ns, kind, key, stamp);
        }
    }

    fn leg_ns(&self, key: u32, kind: Kind) -> u64 {
        let path = &self.setup.path;
        let luck = self.calls[key as usize].luck;
        let mut draws = SplitMix64::seed_from_u64(!luck);
        let (near, far) = match (self.setup.layer, kind) {
            (Layer::L7, Kind::Pick | Kind::Done) => (true, false),
            (Layer::L7 | Layer::None | Layer::Client, Kind::Arrive | Kind::Pass) => (false, true),
            (Layer::L4, Kind::Arrive | Kind::Pass) => (true, true),
            _ => (false, false),
        };
        let mut ns = 0.0;
        let call = &self.calls[key as usize];
        // Nobody has picked a backend for a call that is still on its way to the balancer.
        let border = if far { self.border(call) } else { &Distribution::Zero };
        for (is_on_it, leg) in [(near, &path.to_balancer), (far, &path.to_backend), (far, border)] {
            let luck = draws.next_u64();
            if is_on_it {
                ns += leg.draw_ns(luck);
            }
        }
        ns as u64
    }

    /// What a call takes from the zone of who picks its backend, or of its client, where nobody
    /// does, to that of its backend.
    fn border(&self, call: &Call) -> &Distribution {
        let own = match (&self.setup.zones, self.setup.layer) {
            (None, _) => return &Distribution::Zero,
            (Some(zones), Layer::None) => zones.layout.of_client(call.connection) as u32,
            (Some(_), _) => self.zone_of(self.view_of(call.connection)),
        };
        self.border_from(own, call.backend)
    }

    /// The same from a zone.
    pub(crate) fn border_from(&self, own: u32, backend: u32) -> &Distribution {
        let zone = self.setup.backends[backend as usize].zone;
        self.setup.path.between_zones.between(own, zone)
    }

    /// A call is due on a connection.
    pub(crate) fn due(&mut self, connection: u32) {
        let call = Call {
            due_ns: self.now_ns,
            ready_ns: self.now_ns,
            picked_ns: 0,
            arrived_ns: 0,
            queued_ns: 0,
            service_ns: 0,
            found: 0,
            luck: self.fate.next_u64(),
            connection,
            link: NONE,
            backend: NONE,
            place: NONE,
            passes: self.setup.load.passes,
            stamp: self.next_stamp(),
            is_sent: false,
            is_in_backend: false,
        };
        let key = self.calls.insert(call) as u32;
        self.ended.calls += 1;
        self.ended.most_calls = self.ended.most_calls.max(self.calls.len());
        let own = &mut self.connections[connection as usize];
        if own.in_flight < self.setup.load.streams {
            self.send(key);
        } else {
            own.waiting.push_back(key);
        }
    }

    pub(crate) fn slot_is_due(&mut self, connection: u32) {
        self.thinking -= 1;
        let Pace::Closed { end_ns, calls, counted_from_ns, .. } = self.setup.load.pace else {
            return;
        };
        if self.now_ns >= end_ns || self.begun >= calls {
            return;
        }
        self.begun += u64::from(self.now_ns >= counted_from_ns);
        self.due(connection);
    }

    /// A stream was freed: the call that waits for longest gets it.
    pub(crate) fn send_waiting(&mut self, connection: u32) {
        let own = &mut self.connections[connection as usize];
        if own.in_flight < self.setup.load.streams
            && let Some(key) = own.waiting.pop_front()
        {
            self.send(key);
        }
    }

    fn send(&mut self, key: u32) {
        let call = &mut self.calls[key as usize];
        (call.ready_ns, call.is_sent) = (self.now_ns, true);
        let connection = call.connection;
        self.connections[connection as usize].in_flight += 1;
        match self.setup.layer {
            _ if self.setup.has_links() => self.send_on_link(key, connection),
            Layer::L7 => self.travel(key, Kind::Pick),
            Layer::None | Layer::L4 | Layer::Client => self.pick(key),
        }
    }

    fn send_on_link(&mut self, key: u32, connection: u32) {
        let Some((link, backend)) = self.link_for_call(connection) else {
            return self.fail(key, FailureKind::ConnectionLost);
        };
        let call = &mut self.calls[key as usize];
        (call.link, call.backend) = (link, backend);
        self.travel(key, Kind::Arrive);
    }

    /// The view that balances the calls or connections of a client's connection.
    #[inline]
    pub(crate) fn view_of(&self, connection: u32) -> usize {
        let (balancers, spread) = (self.setup.fleet.balancers, self.setup.fleet.spread);
        let view = match (self.setup.layer, &self.setup.zones) {
            (Layer::Client, _) => connection / self.setup.load.connections_per_client,
            (_, None) => spread.balancer(connection, balancers, self.seed),
            (_, Some(zones)) => zones.layout.balancer(connection, balancers, spread, self.seed),
        };
        view as usize
    }

    /// What a policy is given, for the client that a connection belongs to.
    #[inline]
    pub(crate) fn pick_input(&mut self, connection: u32) -> PickInput {
        let key = self.setup.policy.uses_key().then(|| {
            let client = connection / self.setup.load.connections_per_client;
            SplitMix64::seed_from_u64(u64::from(client)).next_u64()
        });
        PickInput { random: self.word(), now_ns: self.now_ns, key }
    }

    fn pick(&mut self, key: u32) {
        let connection = self.calls[key as usize].connection;
        let view = self.view_of(connection);
        let mut tried = Tried::default();
        loop {
            let input = self.pick_input(connection);
            let Some(picked) = self.views[view].pick(&input, &tried) else {
                return self.fail(key, FailureKind::from_status(14));
            };
            let seen = self.views[view].seen(picked.place);
            if self.stations[picked.backend as usize].is_up() {
                if self.counts_own {
                    seen.begin();
                }
                let call = &mut self.calls[key as usize];
                call.picked_ns = self.now_ns;
                (call.backend, call.place) = (picked.backend, picked.place);
                if self.setup.policy.uses_probes() {
                    self.probe(view, &input);
                }
                return self.travel(key, Kind::Arrive);
            }
            // No connection can be made to it; nothing was sent, so that another may try.
            seen.failed(self.now_ns);
            tried.insert(picked.listed());
        }
    }

    fn arrive(&mut self, key: u32) {
        let call = &mut self.calls[key as usize];
        let index = call.backend as usize;
        let station = &mut self.stations[index];
        match station.state {
            State::Killed => return self.fail(key, FailureKind::ConnectionLost),
            State::Stopped => {
                call.is_in_backend = true;
                return station.held.push(key);
            }
            State::Running | State::Draining => {}
        }
        if self.setup.backends[index].service == Distribution::Zero {
            return self.travel(key, Kind::Pass);
        }
        (call.arrived_ns, call.is_in_backend) = (self.now_ns, true);
        call.found = station.calls() as u32;
        let balancer = station.idle_at.take();
        if let Some(seen) =
            balancer.and_then(|view| self.views[view as usize].seen_of(index as u32))
        {
            seen.begin();
        }
        if self.stations[index].arrive(key) {
            self.serve(key);
        }
    }

    /// A backend that has nothing to do tells a balancer, if that is what they do.
    pub(crate) fn is_idle(&mut self, backend: usize) {
        let view = self.word() % self.views.len().max(1) as u64;
        let seen = self.views.get(view as usize).and_then(|view| view.seen_of(backend as u32));
        if let Some(seen) = seen {
            seen.finish();
            self.stations[backend].idle_at = Some(view as u32);
        }
    }

    /// What was held while a backend was stopped comes in now.
    pub(crate) fn arrive_all(&mut self, calls: Vec<u32>) {
        calls.into_iter().for_each(|key| self.arrive(key));
    }

    /// What was over while a backend was stopped is answered now.
    pub(crate) fn answer_all(&mut self, calls: Vec<u32>) {
        calls.into_iter().for_each(|key| self.answer(key));
    }

    /// A server takes a call on.
    fn serve(&mut self, key: u32) {
        let call = &mut self.calls[key as usize];
        let index = call.backend as usize;
        let luck = call.luck.wrapping_add(u64::from(call.passes).rotate_left(40));
        let drawn_ns = self.setup.backends[index].service.draw_ns(mixed(luck));
        let service_ns = (drawn_ns / self.stations[index].speed) as u64;
        call.queued_ns += self.now_ns - call.arrived_ns;
        call.service_ns += service_ns;
        let stamp = call.stamp;
        self.events.push(self.now_ns + service_ns, Kind::Finish, key, stamp);
    }

    fn finish(&mut self, key: u32) {
        let call = &mut self.calls[key as usize];
        let index = call.backend as usize;
        let station = &mut self.stations[index];
        call.passes -= 1;
        let is_over = call.passes == 0;
        if is_over {
            note_end(station, call, self.setup.policy, self.now_ns);
        } else {
            // Behind those that wait already, and before a server is given away.
            call.arrived_ns = self.now_ns;
            station.wait(key);
        }
        let next = station.finish();
        let is_stopped = station.state == State::Stopped;
        if is_over && is_stopped {
            station.over.push(key);
        }
        match next {
            Some(next) => self.serve(next),
            None if self.hears_of_idle && self.stations[index].calls() == 0 => {
                self.is_idle(index);
            }
            None => {}
        }
        if is_over && !is_stopped {
            self.answer(key);
        }
    }

    fn answer(&mut self, key: u32) {
        self.calls[key as usize].is_in_backend = false;
        self.travel(key, Kind::Pass);
    }

    /// The balancer sees the answer.
    fn pass(&mut self, key: u32) {
        let call = &self.calls[key as usize];
        if call.place != NONE {
            let seen = self.views[self.view_of(call.connection)].seen(call.place);
            if self.counts_own {
                seen.finish();
            }
            seen.answered(self.now_ns, self.now_ns - call.picked_ns);
            if self.setup.policy.uses_reports() {
                let load = &mut self.stations[call.backend as usize].load;
                if let Some(report) = load.report(self.now_ns) {
                    seen.report(self.now_ns, &report);
                }
            }
        }
        self.travel(key, Kind::Done);
    }

    fn done(&mut self, key: u32) {
        let call = self.calls.remove(key as usize);
        let backend = call.backend as u16;
        let outcome = Outcome::served(backend, call.queued_ns, call.service_ns);
        self.end(&call, outcome, 0);
    }

    /// A call failed on its way, or its backend did.
    pub(crate) fn fail(&mut self, key: u32, kind: FailureKind) {
        let call = self.calls.remove(key as usize);
        if call.place != NONE {
            let seen = self.views[self.view_of(call.connection)].seen(call.place);
            if self.counts_own {
                seen.finish();
            }
            seen.failed(self.now_ns);
        }
        self.end(&call, Outcome::Failed(kind), PAUSE_AFTER_FAILURE_NS);
    }

    fn end(&mut self, call: &Call, outcome: Outcome, pause_ns: u64) {
        self.log(call, call.ready_ns, outcome);
        if let Pace::Closed { think_ns, .. } = self.setup.load.pace {
            self.thinking += 1;
            self.events.push(self.now_ns + think_ns.max(pause_ns), Kind::Due, call.connection, 0);
        }
        let own = &mut self.connections[call.connection as usize];
        own.in_flight -= 1;
        if !own.waiting.is_empty() {
            self.events.push(self.now_ns, Kind::Free, call.connection, 0);
        }
        if call.link != NONE {
            self.leave(call.link);
        }
    }

    /// What has not ended is without an answer, and what waited for a stream unsent.
    pub(crate) fn give_up(&mut self) {
        self.now_ns =
            self.now_ns.max(if self.calls.is_empty() { 0 } else { self.setup.load.give_up_ns });
        for call in std::mem::take(&mut self.calls).into_iter().map(|(_, call)| call) {
            let (ready_ns, outcome) = match call.is_sent {
                true => (call.ready_ns, Outcome::Unfinished),
                false => (self.now_ns, Outcome::NotSent),
            };
            self.log(&call, ready_ns, outcome);
        }
    }

    /// Writes down a call that ends now, and went out as soon as it could.
    #[inline]
    fn log(&mut self, call: &Call, ready_ns: u64, outcome: Outcome) {
        let (due_ns, sent_ns, done_ns) = (call.due_ns, ready_ns, self.now_ns);
        let entry = Entry { due_ns, ready_ns, sent_ns, done_ns, on_wire: None, outcome };
        (self.sink)(&entry, call.connection);
    }
}

/// A backend takes note of a call that is over, for a policy that asks it for its load.
#[inline]
fn note_end(station: &mut Station, call: &Call, policy: PolicyKind, now_ns: u64) {
    if policy.uses_reports() {
        station.load.served(now_ns, call.service_ns);
    } else if policy.uses_probes() {
        station.latency.ended(call.found, call.queued_ns + call.service_ns);
    }
}

/// A word that differs in all bits from what its neighbours give.
fn mixed(word: u64) -> u64 {
    SplitMix64::seed_from_u64(word).next_u64()
}
