//! The balancer: a policy over a fixed list of backends.

use std::{collections::HashSet, sync::Arc};

use crate::{
    Backend, BalanceError, PickInput, PolicyKind, Probe, Tried, Tuning, Zones,
    pick::{Candidates, Policy, Start, Who},
    zones::ZoneAware,
};

/// Picks backends. One balancer serves all threads of a proxy: picking takes
/// `&self`, takes no lock (but for [`PolicyKind::Prequal`]) and allocates nothing. A change of membership builds a
/// new balancer over the same `Arc<Backend>`s, see [`Balancer::over`].
#[derive(Debug)]
pub struct Balancer {
    kind: PolicyKind,
    tuning: Tuning,
    zones: Option<Zones>,
    policy: Box<dyn Policy>,
    backends: Vec<Arc<Backend>>,
    /// The weights and zones that the policy was built with: a backend's own may be
    /// another by now.
    built_with: Vec<(u32, usize)>,
}

impl Balancer {
    /// Builds the policy's tables. A policy that takes turns begins at any of
    /// them, by the bits of `random`: proxies that began with the same backend
    /// would send it their first calls together.
    ///
    /// # Errors
    /// When the list is empty, has duplicates or weights of zero, or weights
    /// that the policy cannot hold in a table of bounded size.
    pub fn new(
        kind: PolicyKind,
        backends: Vec<Arc<Backend>>,
        random: u64,
    ) -> Result<Self, BalanceError> {
        Self::tuned(kind, Tuning::default(), backends, random)
    }

    /// The same with settings of the policy.
    ///
    /// # Errors
    /// As [`Balancer::new`].
    pub fn tuned(
        kind: PolicyKind,
        tuning: Tuning,
        backends: Vec<Arc<Backend>>,
        random: u64,
    ) -> Result<Self, BalanceError> {
        Self::build(kind, tuning, None, backends, Start::Chance(random))
    }

    /// The same with backends in zones, where there are any: those of its own are picked as
    /// far as there is room.
    ///
    /// # Errors
    /// As [`Balancer::new`].
    pub fn zoned(
        kind: PolicyKind,
        tuning: Tuning,
        zones: Option<Zones>,
        backends: Vec<Arc<Backend>>,
        random: u64,
    ) -> Result<Self, BalanceError> {
        Self::build(kind, tuning, zones, backends, Start::Chance(random))
    }

    /// The same policy over another list, or over other weights. Turns go on from
    /// where they are: a list that changes before each pick would else give all
    /// of them to those whose turn is first.
    ///
    /// # Errors
    /// As [`Balancer::new`].
    pub fn over(&self, backends: Vec<Arc<Backend>>) -> Result<Self, BalanceError> {
        // Only a policy without turns has no place, and it needs no start.
        let start = self.policy.place().map_or(Start::Chance(0), Start::At);
        Self::build(self.kind, self.tuning, self.zones.clone(), backends, start)
    }

    fn build(
        kind: PolicyKind,
        tuning: Tuning,
        zones: Option<Zones>,
        backends: Vec<Arc<Backend>>,
        start: Start,
    ) -> Result<Self, BalanceError> {
        if backends.is_empty() {
            return Err(BalanceError::NoBackend);
        }
        let mut names = HashSet::new();
        for backend in &backends {
            if backend.weight() == 0 {
                return Err(BalanceError::ZeroWeight(backend.name().to_owned()));
            }
            if !names.insert(backend.name()) {
                return Err(BalanceError::Duplicate(backend.name().to_owned()));
            }
        }
        let build = |backends: &[Arc<Backend>]| kind.build(&tuning, backends, start);
        let policy: Box<dyn Policy> = match &zones {
            None => build(&backends)?,
            Some(zones) => {
                Box::new(ZoneAware::new(zones.clone(), kind.uses_key(), &backends, build)?)
            }
        };
        let built_with = backends.iter().map(|one| (one.weight(), one.zone())).collect();
        Ok(Self { kind, tuning, zones, policy, backends, built_with })
    }

    /// Whether it is one over this list, with the weights and zones that these have now:
    /// another one would pick no differently.
    pub fn is_over(&self, backends: &[Arc<Backend>]) -> bool {
        let own = self.backends.iter().zip(&self.built_with);
        let is_same = |((own, built_with), other): ((&Arc<Backend>, &(u32, usize)), &_)| {
            Arc::ptr_eq(own, other) && *built_with == (other.weight(), other.zone())
        };
        self.backends.len() == backends.len() && own.zip(backends).all(is_same)
    }

    /// The policy it picks by.
    pub fn policy(&self) -> PolicyKind {
        self.kind
    }

    /// The backends, by the indices that [`Balancer::pick`] returns.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Index of the backend for the next call or connection; `None` when none
    /// is both available and untried.
    #[inline]
    pub fn pick(&self, input: &PickInput, tried: &Tried) -> Option<usize> {
        // Equal keys draw equally, so that a backend that is warming up takes
        // over one key after the other, and not a part of each one's calls.
        let key = input.key.filter(|_| self.kind.uses_key());
        let draw = key.unwrap_or(input.random);
        // Rather one that is warming up than none.
        [Who::Warm(draw), Who::Available].into_iter().find_map(|who| self.find(input, tried, who))
    }

    /// As [`Balancer::pick`], for a caller that finds nobody: any that is
    /// untried, whether it is available or not.
    pub fn pick_anyone(&self, input: &PickInput, tried: &Tried) -> Option<usize> {
        self.find(input, tried, Who::Anyone)
    }

    /// Replaces the indices in `probed` by those of the backends that are to be probed now,
    /// which is asked after each pick. None unless the policy goes by probes.
    pub fn to_probe(&self, input: &PickInput, probed: &mut Vec<usize>) {
        probed.clear();
        let (backends, tried) = (&self.backends, &Tried::default());
        let candidates = Candidates { backends, tried, who: Who::Available };
        self.policy.to_probe(&candidates, input, probed);
    }

    /// The backend at this index has answered a probe, at `input.now_ns`.
    pub fn probed(&self, index: usize, probe: Probe, input: &PickInput) {
        self.policy.probed(index, probe, input);
    }

    #[inline]
    fn find(&self, input: &PickInput, tried: &Tried, who: Who) -> Option<usize> {
        let candidates = Candidates { backends: &self.backends, tried, who };
        self.policy.pick(&candidates, input)
    }
}
