//! Records to judgement: what a run, two runs or many runs say, and how surely.
//!
//! Everything here works from the records of run folders ([`measure::record`]). No HTML,
//! no colours and no terminal: how a judgement is presented is `report`'s work.
//!
//! | module | job |
//! |---|---|
//! | [`model`] | a run as it is looked at: peers, trials, figures |
//! | [`estimate`] | a figure over trials with its interval, and beside another peer's |
//! | [`verdict`] | when one side of a comparison is better than the other |
//! | [`findings`] | what came out, in sentences made from the data |
//! | [`overload`] | which peers fell behind, and how fast |
//! | [`model::sweep`] | the points of a run in which a setting differs |
//! | [`prediction`] | what was predicted of a run beside what came of it |
//! | [`theory`] | what queueing theory says of the same peers |
//! | [`due`] | what share of the calls each backend is due |
//! | [`fleet`] | what each of several balancers had of the calls and of the cost |
//! | [`zones`] | how many calls stayed in the zone of their client |
//! | [`settling`] | how long until calls were in balance after a fault |
//! | [`mod@compare`] | two runs against each other |
//! | [`doubts`] | what the warnings of a run mean for its figures |
//! | [`decide`] | many runs, for somebody who has to choose |
//! | [`index`] | all runs of a folder |
#![forbid(unsafe_code)]

mod closed_form;
pub mod compare;
pub mod decide;
pub mod doubts;
pub mod due;
pub mod estimate;
pub mod findings;
pub mod fleet;
pub mod index;
pub mod model;
mod on_wire;
mod once;
pub mod overload;
mod peer;
pub mod prediction;
pub mod settling;
pub mod theory;
pub mod verdict;
pub mod zones;

pub use once::each_once;
