//! What theory says of a scenario: models of queues whose answers are formulas
//! or exact computations, to hold measurements to.
//!
//! | module | model |
//! |---|---|
//! | [`mmc`] | M/M/1 and M/M/c: Poisson arrivals, exponential service, c servers |
//! | [`gim`] | E_k/M/c, D/M/c: what round robin makes of a stream |
//! | [`mdc`] | M/D/1, M/D/c and, for round robin, E_k/D/c: constant service |
//! | [`mg1`] | M/G/1: any service time, lognormal and bimodal among them |
//! | [`choices`] | the fewest in flight of d chosen backends, of infinitely many |
//! | [`shortest`] | the same of a few backends, exactly; bounds for many |
//! | [`bins`] | connections dealt to backends by chance or in turn |
//! | [`measured`] | a distribution of service times as it was measured |
//! | [`mixture`] | backends with unequal load, seen as one |
//! | [`fit`] | which of these fits a scenario, if any |
//!
//! Symbols: λ is the rate of arrivals and μ that of one server (both per
//! second), c the number of servers of a backend, ρ = λ / (c μ) its utilisation,
//! n the number of backends. A *sojourn* is waiting and service together: what a
//! client would see as latency if network, proxy and kernel cost nothing. All
//! queues are unbounded and first come, first served; all times are seconds.
//!
//! Left out: anything about the network and the proxy, whose cost is what the
//! lab is there to measure, and simulation, which lives in the tests as their
//! judge.
#![forbid(unsafe_code)]

pub mod bins;
mod chain;
pub mod choices;
pub mod fit;
pub mod gim;
pub mod mdc;
pub mod measured;
pub mod mg1;
pub mod mixture;
pub mod mmc;
mod model;
mod service;
pub mod shortest;
mod special;
mod wait;

pub use model::{Error, Model};
pub use service::Service;
