//! Faults: what a scenario does to backends while the load runs.
//!
//! The lab does not believe that a signal was enough: it looks until it has seen
//! the effect, and says so in the record.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use measure::record::FaultRecord;
use rustix::process::Signal;
use scenario::{Fault, FaultAction};

use super::{Lab, network::Place, process::Process};

/// How long one look at a port may take.
const LOOK_TIMEOUT: Duration = Duration::from_millis(5);

/// The faults of a trial, as it goes on.
#[derive(Debug)]
pub(crate) struct Faults {
    planned: Vec<Fault>,
    /// The measured part, in nanoseconds of the trial's clock.
    start_ns: u64,
    length_ns: u64,
    done: Vec<(Fault, FaultRecord)>,
}

impl Faults {
    /// `planned` is in order of time.
    pub(crate) fn new(planned: &[Fault], start_ns: u64, end_ns: u64) -> Self {
        let length_ns = end_ns.saturating_sub(start_ns);
        Self { planned: planned.to_vec(), start_ns, length_ns, done: Vec::new() }
    }

    /// When the next one is due, in nanoseconds of the trial's clock.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.planned.get(self.done.len()).map(|fault| self.due_ns(fault))
    }

    fn due_ns(&self, fault: &Fault) -> u64 {
        self.start_ns + (self.length_ns as f64 * fault.at) as u64
    }

    /// Does what is due, and looks for the effects of what was done.
    pub(crate) fn look(&mut self, lab: &mut Lab, now_ns: u64) {
        while let Some(fault) = self.planned.get(self.done.len()).copied() {
            if self.due_ns(&fault) > now_ns {
                break;
            }
            let index = fault.backend as usize;
            // One that fails has no effect, and that is what is recorded.
            let _ = lab.apply(fault.action, index);
            let seconds = |ns: u64| ns as f64 / 1e9;
            self.done.push((
                fault,
                FaultRecord {
                    action: fault.action.name().to_owned(),
                    backend: lab.launches[index].name.clone(),
                    planned_s: seconds(self.due_ns(&fault) - self.start_ns),
                    done_s: seconds(now_ns.saturating_sub(self.start_ns)),
                    seen: false,
                },
            ));
        }
        for (fault, record) in self.done.iter_mut().filter(|(_, record)| !record.seen) {
            record.seen = lab.is_seen(fault.action, fault.backend as usize);
        }
    }

    /// What was done, and what of it was seen.
    pub(crate) fn records(&self) -> Vec<FaultRecord> {
        self.done.iter().map(|(_, record)| record.clone()).collect()
    }
}

impl Lab {
    fn apply(&mut self, action: FaultAction, backend: usize) -> io::Result<()> {
        let process = &mut self.backends[backend];
        match action {
            FaultAction::Stop => process.signal(Signal::STOP),
            FaultAction::Continue => process.signal(Signal::CONT),
            FaultAction::Kill => {
                self.ended_by_fault[backend] = true;
                process.signal(Signal::KILL)
            }
            FaultAction::Drain => {
                self.ended_by_fault[backend] = true;
                process.signal(Signal::TERM)
            }
            FaultAction::Start => {
                // Dropping what is left of the old one ends and reaps it.
                let namespace = self.network.at(Place::Backend(backend));
                *process = Process::start(&self.launches[backend], namespace, &self.dir)?;
                self.ended_by_fault[backend] = false;
                Ok(())
            }
        }
    }

    /// Whether the effect of a fault shows.
    fn is_seen(&mut self, action: FaultAction, backend: usize) -> bool {
        let address = self.backend_addresses[backend];
        let process = &mut self.backends[backend];
        match action {
            FaultAction::Stop => process.is_stopped(),
            FaultAction::Continue => process.exited().is_none() && !process.is_stopped(),
            FaultAction::Kill | FaultAction::Drain => process.exited().is_some(),
            FaultAction::Start => {
                let accepts = || self.network.as_client(|| accepts(address)).unwrap_or(false);
                process.exited().is_none() && accepts()
            }
        }
    }
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, LOOK_TIMEOUT).is_ok()
}
