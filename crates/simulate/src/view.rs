//! What one balancer, or one client, sees of the backends.

use std::{collections::HashMap, sync::Arc};

use balance::{
    BalanceError, Balancer, Chooser, PickInput, PolicyKind, Probe, Subset, Tried, Tuning, Zones,
};

/// A balancer of `balance` over the backends that it knows, with what it has counted of
/// each. A backend that it forgets keeps its place, for calls that are under way.
#[derive(Debug)]
pub(crate) struct View {
    balancer: Option<Balancer>,
    /// By the indices of the balancer: places in `known`.
    listed: Vec<u32>,
    known: Vec<Known>,
    /// Whether a backend that it meets is taken for busy until it says otherwise.
    starts_busy: bool,
    /// When it resolved a name last, and whether it will again.
    resolved_ns: u64,
    will_resolve: bool,
}

#[derive(Debug)]
struct Known {
    /// Index of the backend in the setup.
    backend: u32,
    seen: Arc<balance::Backend>,
}

/// A pick: the backend, and its place in the view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked {
    pub(crate) backend: u32,
    pub(crate) place: u32,
    listed: usize,
}

/// Who the backends are, for all views.
pub(crate) struct Names {
    pub(crate) names: Vec<String>,
    pub(crate) weights: Vec<u32>,
    pub(crate) zones: Vec<u32>,
}

impl View {
    pub(crate) fn new(starts_busy: bool) -> Self {
        Self {
            balancer: None,
            listed: Vec::new(),
            known: Vec::new(),
            starts_busy,
            resolved_ns: 0,
            will_resolve: false,
        }
    }

    /// How many backends it balances over.
    pub(crate) fn listed(&self) -> usize {
        self.listed.len()
    }

    /// When a name that is to be resolved again will be, if that is not planned already: at
    /// once, or so long after the last time.
    pub(crate) fn resolve_at(&mut self, now_ns: u64, interval_ns: u64) -> Option<u64> {
        let is_new = !std::mem::replace(&mut self.will_resolve, true);
        is_new.then(|| now_ns.max(self.resolved_ns + interval_ns))
    }

    /// It has just resolved its name.
    pub(crate) fn resolved(&mut self, now_ns: u64) {
        (self.resolved_ns, self.will_resolve) = (now_ns, false);
    }

    /// It hears who the backends are: `members`, of which it takes its subset, where it is
    /// limited to one.
    pub(crate) fn tell(
        &mut self,
        (policy, tuning, zones): (PolicyKind, Tuning, Option<Zones>),
        names: &Names,
        members: &[u32],
        limit: Option<(Subset, Chooser)>,
        random: u64,
    ) -> Result<(), BalanceError> {
        let chosen: Vec<(u32, u32)> = match limit {
            Some((subset, own)) => {
                let all: Vec<&str> =
                    members.iter().map(|&member| names.names[member as usize].as_str()).collect();
                let chosen = subset.choose(&all, own).into_iter();
                chosen.map(|one| (members[one.index], one.weight)).collect()
            }
            None => members.iter().map(|&member| (member, 1)).collect(),
        };
        let places: HashMap<u32, u32> =
            (0..).zip(&self.known).map(|(place, known)| (known.backend, place)).collect();
        self.listed = chosen
            .into_iter()
            .map(|(backend, weight)| {
                let place = match places.get(&backend) {
                    Some(&place) => place,
                    None => self.add(backend, names),
                };
                let whole = names.weights[backend as usize];
                self.known[place as usize].seen.set_weight(whole.saturating_mul(weight));
                place
            })
            .collect();
        let backends: Vec<_> =
            self.listed.iter().map(|&place| Arc::clone(&self.known[place as usize].seen)).collect();
        self.balancer = match &self.balancer {
            _ if backends.is_empty() => None,
            Some(before) => Some(before.over(backends)?),
            None => Some(Balancer::zoned(policy, tuning, zones, backends, random)?),
        };
        Ok(())
    }

    fn add(&mut self, backend: u32, names: &Names) -> u32 {
        let index = backend as usize;
        let seen = balance::Backend::new(names.names[index].as_str(), names.weights[index]);
        let seen = seen.in_zone(names.zones[index] as usize);
        if self.starts_busy {
            seen.begin();
        }
        self.known.push(Known { backend, seen: Arc::new(seen) });
        (self.known.len() - 1) as u32
    }

    /// Picks a backend by the policy.
    #[inline]
    pub(crate) fn pick(&self, input: &PickInput, tried: &Tried) -> Option<Picked> {
        let listed = self.balancer.as_ref()?.pick(input, tried)?;
        let place = self.listed[listed];
        Some(Picked { backend: self.known[place as usize].backend, place, listed })
    }

    /// Puts those in `asked` that are to be probed now: by their places in the list.
    pub(crate) fn to_probe(&self, input: &PickInput, asked: &mut Vec<usize>) {
        if let Some(balancer) = &self.balancer {
            balancer.to_probe(input, asked);
        }
    }

    /// The backend at a place of the list.
    pub(crate) fn backend_at(&self, listed: usize) -> Option<u32> {
        let place = *self.listed.get(listed)?;
        Some(self.known[place as usize].backend)
    }

    /// A backend answered that was asked at this place of the list, which may be another
    /// one's by now.
    pub(crate) fn probed(&self, listed: usize, backend: u32, probe: Probe, input: &PickInput) {
        if self.backend_at(listed) == Some(backend)
            && let Some(balancer) = &self.balancer
        {
            balancer.probed(listed, probe, input);
        }
    }

    /// What it has counted of the backend at a place.
    #[inline]
    pub(crate) fn seen(&self, place: u32) -> &balance::Backend {
        &self.known[place as usize].seen
    }

    /// What it has counted of a backend, if it ever knew it.
    pub(crate) fn seen_of(&self, backend: u32) -> Option<&balance::Backend> {
        let is_it = |known: &&Known| known.backend == backend;
        // Who knows all from the start has them at their own places.
        let at_its_place = self.known.get(backend as usize).filter(is_it);
        at_its_place.or_else(|| self.known.iter().find(is_it)).map(|known| &*known.seen)
    }

    /// What it believes of the load of each backend from now on.
    pub(crate) fn report(&self, calls: impl Fn(u32) -> usize) {
        for known in &self.known {
            let reported = calls(known.backend);
            let believed = known.seen.in_flight() as usize;
            (believed..reported).for_each(|_| known.seen.begin());
            (reported..believed).for_each(|_| known.seen.finish());
        }
    }
}

impl Picked {
    /// Its place in the balancer's list, by which a retry leaves it out.
    pub(crate) fn listed(&self) -> usize {
        self.listed
    }
}
