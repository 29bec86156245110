//! What everything in a lab has spent.

use measure::record::{MachineCost, ProcessCost, ProcessRole};

use super::{Lab, cost, instructions::Counters, machine, process::Process, tap::Tap};

/// One reading of everything.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    generator: Option<cost::Reading>,
    fleet: Vec<Option<cost::Reading>>,
    backends: Vec<Option<cost::Reading>>,
    taps: Vec<Option<cost::Reading>>,
    links: Option<cost::Reading>,
    metered: Vec<Option<cost::Reading>>,
    machine: machine::MachineReading,
}

impl Lab {
    /// Reads what everything has spent so far.
    pub(crate) fn read_costs(&mut self) -> Costs {
        let generator = self.read_generator();
        let meters = self.outside.iter().flat_map(|outside| &outside.meters);
        let metered = meters.zip(&mut self.metered_counters).map(|(meter, counters)| {
            let instructions = counters.as_mut().and_then(Counters::read);
            Some(meter.read().ok()?.with_instructions(instructions))
        });
        let taps = self.taps.iter_mut().zip(&self.part.backends);
        let taps = taps.filter(|(_, is_here)| **is_here);
        Costs {
            metered: metered.collect(),
            generator,
            fleet: self.fleet.read_costs(),
            backends: self.backends.iter_mut().flatten().map(Process::read_cost).collect(),
            taps: taps.map(|(tap, _)| tap.process_mut()?.read_cost()).collect(),
            links: self.network.relay_mut().and_then(Process::read_cost),
            machine: machine::read_machine(),
        }
    }

    /// Reads what the generator has spent. Its threads are there when it is read first.
    fn read_generator(&mut self) -> Option<cost::Reading> {
        if !self.part.generator {
            return None;
        }
        if self.generator_counters.is_none() {
            self.generator_counters = Counters::of_self();
        }
        let instructions = self.generator_counters.as_mut().and_then(Counters::read);
        Some(cost::read_self()?.with_instructions(instructions))
    }

    /// What everything spent between two readings.
    pub(crate) fn costs_between(
        &self,
        before: &Costs,
        after: &Costs,
    ) -> (Vec<ProcessCost>, MachineCost) {
        let mut costs = Vec::new();
        let mut add = |role, name: &str, before: Option<_>, after: Option<cost::Reading>| {
            if let (Some(before), Some(after)) = (before, after) {
                costs.push(after.since(&before, role, name));
            }
        };
        add(ProcessRole::Generator, "generator", before.generator, after.generator);
        add(ProcessRole::Links, "links", before.links, after.links);
        // A part of what it cost is not its cost.
        let all = before.metered.iter().chain(&after.metered).all(Option::is_some);
        if let Some(outside) = self.outside.as_ref().filter(|_| all) {
            for (before, after) in before.metered.iter().zip(&after.metered) {
                add(ProcessRole::Proxy, &outside.name, *before, *after);
            }
        }
        // What some of them cost is not what the balancers or the backends cost: where one
        // can't be told, because it ended or was another process before, none is.
        let names = self.fleet.processes().map(Process::name);
        let fleet = (ProcessRole::Proxy, names.collect(), &before.fleet, &after.fleet);
        let names = self.backends.iter().flatten().map(Process::name);
        let backends = (ProcessRole::Backend, names.collect(), &before.backends, &after.backends);
        let names = self.taps_here().map(Tap::name);
        let taps = (ProcessRole::Tap, names.collect(), &before.taps, &after.taps);
        let parts: [(_, Vec<&str>, _, _); 3] = [fleet, backends, taps];
        for (role, names, before, after) in parts {
            let all = before.iter().chain(after).all(Option::is_some);
            let is_restarted = role != ProcessRole::Proxy && self.restarted.contains(&true);
            if !all || is_restarted {
                continue;
            }
            for ((name, before), after) in names.into_iter().zip(before).zip(after) {
                add(role, name, *before, *after);
            }
        }
        let own_ns = costs.iter().map(|cost| cost.user_ns + cost.system_ns).sum();
        let machine = machine::machine_since(&after.machine, &before.machine, own_ns);
        (costs, machine)
    }

    /// The taps of this machine's backends.
    fn taps_here(&self) -> impl Iterator<Item = &Tap> {
        let taps = self.taps.iter().zip(&self.part.backends);
        taps.filter(|(_, is_here)| **is_here).map(|(tap, _)| tap)
    }
}
