//! What happens to backends, and what balancers hear of it.

use balance::Chooser;
use measure::calllog::FailureKind;

use crate::{
    events::Kind,
    run::Simulation,
    setup::{Action, Fault, Layer, LoadView, SetupError},
    station::State,
};

impl Simulation<'_> {
    pub(crate) fn fault(&mut self, fault: Fault) -> Result<(), SetupError> {
        let index = fault.backend as usize;
        match fault.action {
            Action::Stop => self.stations[index].state = State::Stopped,
            Action::Continue => self.go_on_serving(index),
            Action::Kill => self.kill(fault.backend),
            Action::Drain => {
                self.stations[index].state = State::Draining;
                self.set_available(fault.backend, false);
                self.has_lost(fault.backend);
                self.reconnect_all(fault.backend);
            }
            Action::Start => {
                self.stations[index].state = State::Running;
                self.stations[index].speed = self.setup.backends[index].speed;
                self.set_available(fault.backend, true);
                if self.hears_of_idle && self.stations[index].idle_at.is_none() {
                    self.is_idle(index);
                }
            }
            Action::Speed(factor) => {
                self.stations[index].speed = self.setup.backends[index].speed * factor;
            }
            Action::Add => {
                let at = self.members.partition_point(|member| *member < fault.backend);
                self.members.insert(at, fault.backend);
                self.announce()?;
            }
            Action::Remove => {
                self.members.retain(|member| *member != fault.backend);
                self.announce()?;
            }
        }
        Ok(())
    }

    fn go_on_serving(&mut self, index: usize) {
        let station = &mut self.stations[index];
        station.state = State::Running;
        let over = std::mem::take(&mut station.over);
        let held = std::mem::take(&mut station.held);
        self.answer_all(over);
        self.arrive_all(held);
    }

    /// A backend is gone. Who has a connection to it sees it break.
    fn kill(&mut self, backend: u32) {
        let station = &mut self.stations[backend as usize];
        station.state = State::Killed;
        station.clear();
        self.set_available(backend, false);
        let lost = self.calls.iter().filter(|(_, call)| call.backend == backend);
        let lost: Vec<u32> =
            lost.filter(|(_, call)| call.is_in_backend).map(|(key, _)| key as u32).collect();
        let kind = match self.setup.layer {
            Layer::L7 => FailureKind::from_status(14),
            Layer::None | Layer::L4 | Layer::Client => FailureKind::ConnectionLost,
        };
        self.has_lost(backend);
        self.reconnect_all(backend);
        lost.into_iter().for_each(|key| self.fail(key, kind));
    }

    fn set_available(&self, backend: u32, is_available: bool) {
        for seen in self.views.iter().filter_map(|view| view.seen_of(backend)) {
            seen.set_available(is_available);
        }
    }

    /// Who balances and has a connection to a backend loses it.
    fn has_lost(&mut self, backend: u32) {
        for view in 0..self.views.len() {
            if self.views[view].seen_of(backend).is_some() {
                self.request_resolution(view);
            }
        }
    }

    /// A client that resolves a name does so again, as soon as it may.
    pub(crate) fn request_resolution(&mut self, view: usize) {
        let Some(interval_ns) = self.setup.resolves_every_ns() else { return };
        if let Some(at_ns) = self.views[view].resolve_at(self.now_ns, interval_ns) {
            self.events.push(at_ns, Kind::Told, view as u32, 0);
        }
    }

    /// Balancers hear of a change of membership, each in its own time. Clients that resolve a
    /// name do not.
    fn announce(&mut self) -> Result<(), SetupError> {
        if self.setup.resolves_every_ns().is_some() {
            return Ok(());
        }
        let within_ns = self.setup.fleet.told_within_ns;
        for view in 0..self.views.len() {
            if within_ns == 0 {
                self.tell(view)?;
            } else {
                let at_ns = self.now_ns + self.word() % within_ns;
                self.events.push(at_ns, Kind::Told, view as u32, 0);
            }
        }
        Ok(())
    }

    /// A balancer hears who the backends are.
    pub(crate) fn tell(&mut self, view: usize) -> Result<(), SetupError> {
        let of = self.views.len() as u32;
        let own = Chooser { number: view as u32, of, salt: self.setup.fleet.salt };
        let limit = self.setup.fleet.subset.map(|subset| (subset, own));
        let random = self.word();
        let (names, members) = (&self.names, &self.members);
        let policy = (self.setup.policy, self.setup.tuning, self.zones(view));
        self.views[view].tell(policy, names, members, limit, random)?;
        self.views[view].resolved(self.now_ns);
        // One that it has just met may be down; it finds out when it connects.
        for (backend, station) in (0..).zip(&self.stations) {
            if !station.is_up()
                && let Some(seen) = self.views[view].seen_of(backend)
            {
                seen.set_available(false);
            }
        }
        Ok(())
    }

    /// All backends report how many calls they hold.
    pub(crate) fn report(&mut self) {
        for view in &self.views {
            view.report(|backend| self.stations[backend as usize].calls());
        }
        if let LoadView::Reported { every_ns } = self.setup.fleet.view {
            self.events.push(self.now_ns + every_ns, Kind::Report, 0, 0);
        }
    }
}
