//! Probes of a policy that asks backends for their load ahead of calls.

use balance::{PickInput, Probe};

use crate::{calls::Asked, events::Kind, run::Simulation, station::State};

impl Simulation<'_> {
    /// Sends the probes that go with a pick.
    pub(crate) fn probe(&mut self, view: usize, input: &PickInput) {
        let mut asked = std::mem::take(&mut self.asked);
        self.views[view].to_probe(input, &mut asked);
        for listed in asked.drain(..) {
            let Some(backend) = self.views[view].backend_at(listed) else { continue };
            let probe = Asked { view: view as u32, backend, listed, answer: None };
            let key = self.probes.insert(probe) as u32;
            self.send_probe(key);
        }
        self.asked = asked;
    }

    /// On its way, there or back, which takes what a call takes between a balancer and a
    /// backend.
    fn send_probe(&mut self, key: u32) {
        let Asked { view, backend, .. } = self.probes[key as usize];
        let (luck, more) = (self.word(), self.word());
        let path = &self.setup.path;
        let mut leg_ns = if self.is_instant { 0 } else { path.to_backend.draw_ns(luck) as u64 };
        leg_ns += self.border_from(self.zone_of(view as usize), backend).draw_ns(more) as u64;
        if leg_ns == 0 {
            self.on_probe(key);
        } else {
            self.events.push(self.now_ns + leg_ns, Kind::Probe, key, 0);
        }
    }

    /// A probe comes to its backend, or its answer comes back.
    pub(crate) fn on_probe(&mut self, key: u32) {
        let Asked { view, backend, listed, answer } = self.probes[key as usize];
        match answer {
            None => match self.answer_to_probe(backend) {
                Some(answer) => {
                    self.probes[key as usize].answer = Some(answer);
                    self.send_probe(key);
                }
                None => drop(self.probes.remove(key as usize)),
            },
            Some(answer) => {
                self.probes.remove(key as usize);
                let input = PickInput { random: self.word(), now_ns: self.now_ns, key: None };
                self.views[view as usize].probed(listed, backend, answer, &input);
            }
        }
    }

    /// None of one that is gone or is stopped; a balancer does not wait for it.
    fn answer_to_probe(&self, backend: u32) -> Option<Probe> {
        let station = &self.stations[backend as usize];
        let answers = matches!(station.state, State::Running | State::Draining);
        answers.then(|| station.latency.probe(station.calls() as u32))
    }
}
