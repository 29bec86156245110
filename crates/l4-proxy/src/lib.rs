//! Per-connection balancing of TCP.
//!
//! A connection is given to a backend when it is accepted, and its bytes are
//! passed on unseen until it ends. The crate knows nothing of HTTP: that it
//! can't spread the calls inside a connection is what the lab measures it for.
//!
//! | module | what it does |
//! |---|---|
//! | `run` | starts and ends the threads |
//! | `worker` | one thread's event loop |
//! | `accept` | the door, also when descriptors run out |
//! | `connection` | one connection, from accept to end |
//! | `flow`, `side`, `io` | moving bytes: a direction, a socket, what a thread shares |
//! | `gear`, `pipes` | when to splice, and through what |
//! | `upstreams` | backends and the balancer over them |
//! | `shared`, `mailbox` | what threads know of each other |
//! | `slots`, `timers` | where a thread keeps its connections and deadlines |
//! | `counts`, `connection_log` | metrics, and a line of JSON a connection |
//! | [`cli`], [`config`] | flags, and what they become |
#![forbid(unsafe_code)]

mod accept;
pub mod cli;
pub mod config;
mod connection;
mod connection_log;
mod counts;
mod error;
mod flow;
mod gear;
mod io;
mod mailbox;
mod pipes;
mod run;
mod shared;
mod side;
mod slots;
mod timers;
mod upstreams;
mod worker;

pub use config::{BackendConfig, Config, DataPlane};
pub use error::Error;
pub use run::run;
