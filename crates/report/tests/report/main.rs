//! Reports of stored runs. One program, since each test program is linked by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod browser;
mod common;
mod decide;
mod decide_sweeps;
mod golden;
mod labels;
mod page;
mod sweep;
mod wording;
