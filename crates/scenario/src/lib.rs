//! Scenario and peer files: wire structs, checked types, JSON Schema.
//!
//! A scenario is one question as a TOML file. It is read into wire structs
//! that know no unknown keys, and then checked once into types that can't be
//! wrong ([`Scenario`]); everything after works from those. An error names
//! file, line and key, what was found, what was expected, and the nearest known
//! name. The crate opens no socket and reads no clock; it reads files only in
//! [`Library`].
//!
//! ```
//! use scenario::{Pace, ScenarioSource, Setting};
//!
//! let text = r#"
//!     question = "Who serves one flooded connection?"
//!     [load]
//!     loop = "open"
//!     connections = 1
//!     rate = "3000/s"
//!     duration = "5s"
//!     [run]
//!     peers = ["l4"]
//! "#;
//! let peers = ["l4".to_owned()];
//! let source = ScenarioSource::parse("flood", "flood.toml", text, &peers)?;
//! let faster = Setting::new("load.rate", "4000", "--rate 4000");
//! let scenario = source.resolve(false, &[faster])?;
//! assert!(matches!(scenario.load.pace, Pace::Open { arrivals, .. } if arrivals.rate() == 4000.0));
//!
//! let wrong = text.replace("connections", "conections");
//! let error = ScenarioSource::parse("flood", "flood.toml", &wrong, &peers).unwrap_err();
//! assert!(error.to_string().contains("did you mean `connections`?"));
//! # Ok::<(), scenario::Error>(())
//! ```
#![forbid(unsafe_code)]

mod backends;
pub mod bounds;
mod channel;
mod check;
mod claim;
mod client;
mod command;
mod document;
mod engine;
mod error;
mod fault;
mod fleet;
mod library;
mod link;
mod load;
mod peer;
mod placement;
mod precision;
mod quantity;
mod scenario;
mod schema;
mod search;
mod service;
mod service_time;
mod settings;
mod sizes;
mod source;
mod sweep;
mod trace;
mod wire;
mod zones;

pub use backends::Backend;
pub use channel::{Channel, ConnectionAge, Keepalive, StreamLimits};
pub use claim::{Claim, ClaimError, ClaimOutcome, MissingValue, Op, PointName, Subject, Term};
pub use client::{Client, ClientProgram};
pub use command::{BackendCommand, Server, ServerText, Servers};
pub use engine::{Engine, EngineInput, OptionError, RenderedEngine, TokenBy};
pub use error::{Error, Invalid, Place, nearest};
pub use fault::{Fault, FaultAction};
pub use fleet::Fleet;
pub use library::{Library, Summary};
pub use link::{Ends, Link, LinkSettings, Links};
pub use load::{Arrivals, Length, Load, Pace, Pacer, Profile, Skew};
pub use measure::record::{Network, Tls};
pub use peer::{
    Candidate, Discovery, EXTERNAL_PEER, Layer, Lookup, NotFound, Peer, PeerName, Process,
    ReloadSignal, RenderError, RenderInput, Rendered, RenderedFile, RenderedHow, RenderedReload,
    StopSignal, Target, TlsFiles, split_name,
};
pub use placement::{NodeRoles, Placement};
pub use precision::Precision;
pub use scenario::{Point, Scenario, Sweep};
pub use schema::{engine_schema, peer_schema, scenario_schema};
pub use search::{Objective, Search};
pub use service::{Identity, InterfaceSource, RequestSource, Service, ServiceCall};
pub use service_time::ServiceTime;
pub use settings::{CLIENT_SETTINGS, ProxySettings};
pub use sizes::Sizes;
pub use source::{ScenarioSource, Setting};
pub use sweep::{is_same, number, short_key};
pub use trace::{Trace, TracedCall};
pub use wire::{CallKind, Ready};
pub use zones::Zones;
