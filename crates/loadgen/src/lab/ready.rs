//! Waiting until what was started answers.

use measure::record::Side;

use super::{
    LabError, Network,
    error::ExitReport,
    probe::{self, NotReady, Port},
    process::Process,
};

pub(super) fn wait_ready(
    process: &mut Process,
    port: Port<'_>,
    side: Side,
    network: &Network,
) -> Result<(), LabError> {
    let name = process.name().to_owned();
    let exit_report = || process.exited().map(|_| process.exit_report());
    wait_until(&name, exit_report, port, side, network)
}

/// Waits until a call to `port` succeeds. `exit_report` says how what should answer there
/// ended, if it has.
pub(super) fn wait_until(
    name: &str,
    mut exit_report: impl FnMut() -> Option<ExitReport> + Send,
    port: Port<'_>,
    side: Side,
    network: &Network,
) -> Result<(), LabError> {
    // Time for a second call, where the first one drew a long service time.
    let waited = port.start_timeout + 2 * port.call_timeout;
    let mut ended = None;
    let probe = || {
        let gone = || {
            ended = exit_report();
            ended.is_some()
        };
        probe::until_ready(port, waited, gone)
    };
    let ready = network
        .as_client(probe)
        .map_err(|error| LabError::CannotCall { name: name.to_owned(), error })?;
    match (ready, ended) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(exit_report)) => Err(LabError::Ended { side, exit_report }),
        (Err(NotReady::Refused(error)), None) => {
            Err(LabError::Refused { side, name: name.to_owned(), address: port.address, error })
        }
        (Err(NotReady::TimedOut(last)), None) => Err(LabError::NoAnswer {
            side,
            name: name.to_owned(),
            address: port.address,
            waited,
            last,
        }),
        (Err(NotReady::Interrupted | NotReady::Gone), None) => Err(LabError::Interrupted),
    }
}
