//! What if: a discrete-event simulation of clients, balancers and backends in sizes that
//! no machine at hand can run.
//!
//! Who is picked is decided by [`balance`], the very code that the proxies and the clients
//! of the lab run; here are clients with connections, balancers that see a part of the
//! load, and backends with real queues. A simulation is a function of its [`Setup`], its
//! arrivals and a seed: it reads no clock and opens nothing. Every call comes out as the
//! entry of a call log, so that what is simulated is folded into the same figures as what
//! is measured.
//!
//! | module | what it does |
//! |---|---|
//! | `setup` | what is simulated, and what is absurd |
//! | `distribution` | times that are drawn |
//! | `arrivals` | the simplest open loop |
//! | `run` | the clock: takes the next event |
//! | `steps` | a call from due to done |
//! | `links` | connections that are balanced, replaced and closed for their age |
//! | `faults` | what happens to backends, and what balancers hear of it |
//! | `probes` | probes of backends ahead of calls |
//! | `view` | what one balancer knows: a [`balance::Balancer`] and its counts |
//! | `station` | a backend's queue and servers |
//! | `events` | what is to happen, in order of time |
//!
//! Left out: bytes and windows of flow control, handshakes, CPU time and what it costs when
//! there is too little of it, retries of calls that were sent, health checks and outlier
//! detection. A call that reaches a backend which is gone fails, and a balancer that can't
//! connect tries another.
//!
#![doc = include_str!("known_answers.md")]
#![forbid(unsafe_code)]

mod arrivals;
mod calls;
mod distribution;
mod events;
mod faults;
mod links;
mod probes;
mod run;
mod seeds;
mod setup;
mod station;
mod steps;
mod view;

pub use arrivals::Poisson;
pub use distribution::{Distribution, Empirical, Seen};
pub use run::{Arrival, Ended, run};
pub use seeds::in_parallel;
pub use setup::{
    Action, Backend, Fault, Fleet, Layer, Load, LoadView, Pace, Path, Setup, SetupError,
    ZoneDelays, Zones,
};
