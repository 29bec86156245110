//! What the tests of servers share: a lab in this process, and HTTP/2 peers
//! whose every byte the test decides. A dev-dependency only; nothing that ships
//! may import it.
//!
//! | module | what it gives |
//! |---|---|
//! | [`lab`] | backends and proxies on port 0, each with its end |
//! | [`certs`] | an authority, and certificates that it signs |
//! | [`process`] | a server as a process of its own, whose memory can be read, and which can be killed |
//! | [`peer`] | one side of a raw HTTP/2 connection |
//! | [`negative`] | a backend that misbehaves in one of gRPC's interop ways |
//! | [`script`] | a backend that is told what to do for each attempt, and keeps what it was sent |
//! | [`replay`] | a client that plays recorded bytes, and keeps what comes back |
//! | [`wire`] | frames and header blocks, right and wrong ones |
//!
//! The frames and header blocks are written and read here once more and not
//! with `h2-wire`: a mistake in that crate must not be shared by its tests.
//!
//! Nothing waits for ever: every wait ends after [`PATIENCE`] with a panic that
//! names what was waited for. That is a bound and no measure; it is far above
//! what anything takes, since the machine may be busy.
#![allow(clippy::unwrap_used, reason = "it is used by tests, which fail by panicking")]

pub mod certs;
pub mod lab;
pub mod negative;
pub mod peer;
pub mod process;
pub mod replay;
pub mod script;
pub mod wire;

use std::{future::Future, time::Duration};

use clap::ValueEnum as _;
use l7_proxy::DataPlane;

/// The bound on every wait.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The future's output, or a panic that says what did not come.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits for a condition that something else brings about.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub async fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Runs a test over every data plane there is, each on a runtime of its own, so
/// that a data plane is covered from the moment it is in the list. When the
/// test fails, the name of the data plane is on standard error.
///
/// # Panics
/// When the test does, or the runtime can't be built.
pub fn on_each_data_plane(test: impl AsyncFn(DataPlane)) {
    for &plane in DataPlane::value_variants() {
        let named = Named(plane);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(plane));
        drop(named);
    }
}

/// Says which data plane it was when a test unwinds.
struct Named(DataPlane);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the test failed over data plane {:?}", self.0);
        }
    }
}
