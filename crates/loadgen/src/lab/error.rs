//! Why a trial can't be run, and whose side that is.

use std::{fmt, io, net::SocketAddr, path::PathBuf, process::ExitStatus, time::Duration};

use generator::{WorkerError, client::ConnectError};
use measure::record::Side;
use scenario::RenderError;

use super::{network::NetworkError, probe::CallError, quota::NoQuota};

/// Why a trial could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Quota(#[from] NoQuota),
    #[error("no free ports: {0}")]
    Ports(io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("cannot start {name}: {error}")]
    Start { name: String, error: io::Error },
    /// It would change the rules of the whole machine.
    #[error("{0} runs in a network namespace only")]
    NeedsNamespace(String),
    #[error("{name} was not set up within {} s", waited.as_secs())]
    NotSetUp { name: String, waited: Duration },
    /// A process ended that should not have.
    #[error("{exit_report}")]
    Ended { side: Side, exit_report: ExitReport },
    #[error("{name} at {address} was not ready within {} s: {last}", waited.as_secs())]
    NoAnswer { side: Side, name: String, address: SocketAddr, waited: Duration, last: CallError },
    /// It is there, and a call was not answered as it has to be.
    #[error("{name} at {address}: {error}")]
    Refused { side: Side, name: String, address: SocketAddr, error: CallError },
    #[error("cannot call {name}: {error}")]
    CannotCall { name: String, error: io::Error },
    #[error("no name server for the backends: {0}")]
    Names(io::Error),
    #[error("{authority} can't be resolved: {error}")]
    Resolve { authority: String, error: io::Error },
    #[error("interrupted while it started")]
    Interrupted,
    /// The generator's connections could not be made.
    #[error("{error}")]
    Connect { side: Side, error: ConnectError },
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// What the coordinator sends can't be done.
    #[error("{0}")]
    Coordinator(String),
    /// Something went wrong on a node, which says on whose side.
    #[error("{message}")]
    OnNode { side: Side, message: String },
    #[error("{0}")]
    NodeLost(String),
}

impl LabError {
    /// Whose side it is.
    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Ended { side, .. }
            | Self::NoAnswer { side, .. }
            | Self::Refused { side, .. }
            | Self::Connect { side, .. }
            | Self::OnNode { side, .. } => *side,
            Self::NotSetUp { .. } => Side::Proxy,
            _ => Side::Lab,
        }
    }
}

/// Why it is not known how to start a process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("cannot find this program itself: {0}")]
    NoProgram(io::Error),
    /// TLS was asked for, and nobody has made certificates.
    #[error("there are no certificates to speak TLS with")]
    NoCertificates,
    #[error("{0} has no process")]
    NoProcess(String),
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// How a process ended, and what it wrote last.
#[derive(Clone, Debug)]
pub(crate) struct ExitReport {
    pub(crate) name: String,
    /// `None` for one that still runs.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) last_lines: Option<String>,
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt as _;
        f.write_str(&self.name)?;
        match self.status.map(|status| (status.code(), status.signal())) {
            None => f.write_str(" is still running")?,
            Some((Some(code), _)) => write!(f, " exited with code {code}")?,
            Some((None, Some(signal))) => write!(f, " was ended by signal {signal}")?,
            Some((None, None)) => f.write_str(" ended")?,
        }
        match &self.last_lines {
            Some(words) => write!(f, "; its last words: {words}"),
            None => f.write_str(" without a word"),
        }
    }
}
