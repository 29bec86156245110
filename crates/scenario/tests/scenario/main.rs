//! Scenario and peer files. One program, since each test program is linked by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engines;
mod library;
mod peers;
mod reference;
mod scenarios;
mod service;
mod sweeps;
