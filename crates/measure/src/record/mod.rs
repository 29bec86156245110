//! The run record: what a run folder holds, as types.
//!
//! Everything a report shows is read from these records, so that a report can
//! be made again from the folder alone, on another machine, years later. The
//! format carries a version ([`FORMAT_VERSION`]); `results/README.md` documents
//! it for people. Times are nanoseconds unless the name says otherwise.
//!
//! A run folder:
//!
//! ```text
//! scenario.toml            the scenario file as run, byte for byte
//! run.json                 RunRecord: what was asked, on what, which peers
//! predictions.json         Predictions, where the run was predicted before it was measured
//! trials/000-direct-r0.json  TrialRecord: one file a trial, in the order run
//! logs/                    what the processes of each trial wrote to stderr
//! report.html, charts/     made from the files above
//! ```

mod links;
mod run;
mod setup;
mod trial;

pub use self::{
    links::{LinkEngine, LinkRecord, LinkSetup, LinksRecord},
    run::{
        Expectation, LeftOut, PointSetup, RunOutcome, RunRecord, SearchLimit, SearchRecord,
        SearchResult, SweepSetup, Twin, Verdict,
    },
    setup::{
        BackendSetup, Discovery, FleetSetup, Layer, LoadSetup, LoopMode, MethodSetup, Network,
        PeerSetup, RateProfile, ServiceSetup, SubsetSetup, Tls,
    },
    trial::{
        BackendRecord, BalancerRecord, Counts, FailureCount, FaultRecord, SecondRecord, Side,
        TenthRecord, TrialOutcome, TrialRecord, ZoneRecord,
    },
};
pub use crate::machine::{
    BusySource, Disturbance, Environment, Instructions, MachineCost, ProcessCost, ProcessRole,
};

/// Version of the record format. A reader refuses a version it doesn't know.
pub const FORMAT_VERSION: u32 = 1;
