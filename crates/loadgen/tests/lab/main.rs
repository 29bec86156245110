//! The lab from outside: its command, run as a user would. One program, since each test program
//! links all of the lab once more.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod circles;
mod command;
mod common;
mod endings;
mod fleets;
mod format;
mod generated;
mod generator;
mod killed;
mod layering;
mod namespaces;
mod nodes;
mod own_servers;
mod own_service;
mod real_clients;
mod sweep;
mod target;
mod tls;
mod trace;
mod zones;
