//! The first of the list that is available, for every call: gRPC's policy where none is
//! configured, and what a proxy does with one server and its standbys.
//!
//! A list in another order is another choice. A client over DNS has the order in which the
//! server gave the addresses (gRPC, `doc/load-balancing.md`), and one that shuffles them
//! does so when it is told (gRFC A62), so neither is chance of a pick.

use crate::{
    PickInput,
    pick::{Candidates, Policy},
};

#[derive(Debug)]
pub(crate) struct PickFirst;

impl Policy for PickFirst {
    fn pick(&self, candidates: &Candidates<'_>, _input: &PickInput) -> Option<usize> {
        candidates.first_eligible(0..candidates.backends.len())
    }
}
