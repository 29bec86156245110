//! The proxy from outside, over both data planes. One program, since each test program links
//! the proxy, a backend and a client of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod access_log;
mod again;
mod backends;
mod calls;
mod changes;
mod circuit;
mod common;
mod deadlines;
mod differential;
mod endings;
mod failures;
mod flow;
mod health;
mod memory;
mod policies;
mod resets;
mod tls;
