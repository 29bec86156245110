//! Taps: our own relay before each server of the user's, which adds to every answer the
//! server's id and what it took.
//!
//! A tap is part of its backend. It listens where the backend is called, runs where the
//! server runs, and what is done to the one is done to the other: clients and balancers see
//! a connection end, and not a relay that has lost its server. What it costs is billed
//! apart.

use std::{io, net::SocketAddr, path::Path};

use rustix::process::Signal;

use super::{
    network::Namespace,
    process::{Launch, Process},
};

/// How the tap of a backend is started: for the server at a place, to listen at an address.
pub(crate) type TapSetup<'a> =
    dyn Fn(&super::BackendPlace<'_>, SocketAddr) -> Result<Launch, super::LaunchError> + 'a;

/// The tap before one server.
#[derive(Debug)]
pub(super) struct Tap {
    launch: Launch,
    /// `None` while the server that it stands before is yet to listen.
    process: Option<Process>,
}

impl Tap {
    pub(super) fn new(launch: Launch) -> Self {
        Self { launch, process: None }
    }

    pub(super) fn start(&mut self, namespace: Option<&Namespace>, dir: &Path) -> io::Result<()> {
        self.process = Some(Process::start(&self.launch, namespace, None, dir)?);
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.launch.name
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Whether it is to be started once its server listens.
    pub(super) fn is_awaited(&self) -> bool {
        self.process.is_none()
    }

    /// Ends and reaps what is left of it.
    pub(super) fn end(&mut self) {
        self.process = None;
    }

    /// Does to it what is done to its server, if it is there.
    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(signal))
    }
}
