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
//! | `connection` | one connection, from accept to end |
//! | `greeting`, `proxy_protocol`, `client_hello`, `routes` | what is read of a client before it gets a backend |
//! | `flow`, `side`, `io` | moving bytes: a direction, a socket, what a thread shares |
//! | `gear`, `pipes` | when to splice, and through what |
//! | `lifetime` | when a connection ends though both sides would go on |
//! | `upstreams` | one backend: its load, and whether it is given connections |
//! | `table` | the backends in groups, and the balancers over them |
//! | `fleet` | changing the backends while it runs, and what their checks say |
//! | `shared` | what threads know of each other |
//! | `counts`, `connection_log` | metrics, and a line of JSON a connection |
//! | [`cli`], [`config`] | flags, and what they become |
#![forbid(unsafe_code)]

pub mod cli;
mod client_hello;
pub mod config;
mod connection;
mod connection_log;
mod counts;
mod error;
mod fleet;
mod flow;
#[doc(hidden)]
pub mod fuzzing;
mod gear;
mod greeting;
mod io;
mod lifetime;
mod pipes;
mod proxy_protocol;
mod routes;
mod run;
mod shared;
mod side;
mod table;
mod upstreams;
mod worker;

pub use config::{BackendConfig, Config, DataPlane};
pub use error::Error;
pub use run::{Proxy, run};
