//! Call timing, statistics and the run record: what was measured, and how sure
//! one can be of it.
//!
//! | module | job |
//! |---|---|
//! | [`calllog`] | the hot path: every call of a worker, as it happened |
//! | [`exchange`] | a trial in formats that other tools read |
//! | [`fold`] | logs to the figures of a trial |
//! | [`histogram`] | HdrHistograms in the record, readable by the standard tools |
//! | [`record`] | what a run folder holds, as types |
//! | [`folder`] | a run folder on disk |
//! | [`statistics`] | intervals, and tests of what they rest on |
//! | [`steadiness`] | when a trial had settled, and whether it sent what was asked |
//! | [`summary`] | figures by name, for reports and expectations |
//! | [`warning`] | doubts, typed, each with advice |
//!
//! Nothing here opens a socket, reads a clock or starts anything; only
//! [`folder`] touches the file system.
#![forbid(unsafe_code)]

pub mod calllog;
pub mod exchange;
pub mod fold;
pub mod folder;
pub mod histogram;
pub mod record;
pub mod statistics;
pub mod steadiness;
pub mod summary;
pub mod warning;
