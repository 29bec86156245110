//! Policies: which backend gets the next call or connection.
//!
//! Beside the policies stand the decisions of who may be picked at all:
//! [`Health`] of one backend (drained, unhealthy, ejected, warming up), those
//! over all together ([`outlier`]), which of them a proxy uses ([`subset`]), and which
//! of several proxies a connection comes to ([`Spread`]).
//!
//! Whatever the policy, a balancer can keep to its own zone as far as there is room
//! ([`Zones`]).
//!
//! Whatever the policy, what falls to a backend that is out goes to the others by
//! their weights, and a backend that fails at once does not pass for a fast or an
//! idle one.
//!
//! The crate decides and does nothing else: it has no sockets, no clock and no
//! source of chance. Time, randomness and hash keys are passed in with
//! [`PickInput`], so that every decision can be tested. Both proxies and the
//! client-side peer share it; they differ only in *when* they ask.
//!
//! | policy | looks at | weights | where it makes sense | source |
//! |---|---|---|---|---|
//! | `round_robin` | a shared turn | yes | connections and calls | Waldspurger and Weihl, *Stride Scheduling*, 1995 |
//! | `weighted_round_robin` | what backends report in trailers | until they report | calls | gRPC's gRFC A58 and A51 |
//! | `random` | chance | yes | connections and calls | |
//! | `least_loaded` | in-flight counts of all | yes | connections and calls | join the shortest queue |
//! | `p2c` | in-flight counts of two | yes | connections and calls | Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, 2001 |
//! | `p3c` | in-flight counts of three | yes | connections and calls | the same |
//! | `least_request` | in-flight counts, of two or over turns | yes | connections and calls | Envoy's `least_request` |
//! | `join_idle_queue` | whether a backend has anything in flight | among the idle | calls; of connections, one that has none | Lu et al., *Join-Idle-Queue*, 2011 |
//! | `peak_ewma` | in-flight counts and latency of two | yes | calls; on connections it sees their length | Twitter Finagle's Peak EWMA |
//! | `prequal` | probes: calls that backends hold from everyone, and latency | in its draws | calls | Wydrowski et al., *Load is not what you should balance*, NSDI 2024 |
//! | `ring_hash` | the key | yes | sticky connections or calls | Karger et al., *Consistent Hashing and Random Trees*, 1997 |
//! | `bounded_ring_hash` | the key, and in-flight counts of all | yes | sticky calls; few connections leave little to bound | Mirrokni et al., *Consistent Hashing with Bounded Loads*, SODA 2018 |
//! | `maglev` | the key | yes | sticky connections or calls | Eisenbud et al., *Maglev*, NSDI 2016 |
//! | `pick_first` | the order of the list | no | connections and calls; spreads nothing by itself | gRPC, `doc/load-balancing.md` |
//!
//! | subsets | take | come out | source |
//! |---|---|---|---|
//! | `random` | names | even by chance | rendezvous hashing; gRFC A68 |
//! | `deterministic` | numbers | even; most connections move when a backend comes | *Site Reliability Engineering*, chapter 20 |
//! | `aperture` | numbers | exactly even, by weights at the edges | Twitter Finagle's deterministic aperture |
//! | `rocksteadier` | numbers | nearly even; few connections move | Ward et al., *Reinventing Backend Subsetting at Google*, 2022 |
//!
//! ```
//! use std::sync::Arc;
//! use balance::{Backend, Balancer, PickInput, PolicyKind, Tried};
//!
//! let backends = ["a:1", "b:1"].map(|name| Arc::new(Backend::new(name, 1)));
//! let balancer = Balancer::new(PolicyKind::RoundRobin, backends.to_vec(), 0)?;
//! let input = PickInput { random: 0, now_ns: 0, key: None };
//! let first = balancer.pick(&input, &Tried::default());
//! let second = balancer.pick(&input, &Tried::default());
//! assert_ne!(first, second);
//! # Ok::<(), balance::BalanceError>(())
//! ```
#![forbid(unsafe_code)]

mod backend;
mod balancer;
mod chance;
mod failures;
mod health;
mod join_idle_queue;
mod latency_meter;
mod least_loaded;
mod least_request;
mod load_meter;
mod load_report;
mod maglev;
pub mod outlier;
mod p2c;
mod peak_ewma;
mod pick;
mod pick_first;
mod policy;
mod prequal;
mod random;
mod ring_hash;
mod round_robin;
mod spread;
mod subset;
mod subsetting;
mod tried;
mod tuning;
mod weighted_round_robin;
mod zones;

pub use backend::Backend;
pub use balancer::Balancer;
pub use chance::hash_bytes;
pub use health::{Ejection, Health, SlowStart};
pub use latency_meter::LatencyMeter;
pub use load_meter::LoadMeter;
pub use load_report::{LOAD_REPORT_TRAILER, LoadReport};
pub use pick::{BalanceError, PickInput, Probe};
pub use policy::{PolicyKind, UnknownPolicy};
pub use spread::Spread;
pub use subset::subset;
pub use subsetting::{Chooser, Chosen, Subset, Subsetting};
pub use tried::Tried;
pub use tuning::{ProbeRule, Tuning, WeightRule};
pub use zones::{ZoneLayout, ZoneRouting, Zones};
