//! Calls what the lab did not start, to see that it is there.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    thread,
    time::{Duration, Instant},
};

use generator::client::Trust;
use scenario::Ready;

use super::probe::{self, CallError, NotReady, Port};
use crate::service::OwnService;

/// How long somebody else's balancer may take to accept a connection. It should be
/// there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call may take behind it, beside the scenario's service time: nobody knows
/// the one there.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two rounds over its addresses.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// What `HOST:PORT` stands for now; never empty.
///
/// # Errors
/// When that can't be found out, or is nothing.
pub(crate) fn resolve(authority: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = authority.to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it stands for no address"));
    }
    Ok(addresses)
}

/// Calls addresses that somebody else serves, in turn, until a call succeeds, and
/// returns the one that it succeeded at. `slow_call` is what the scenario lets a call
/// take.
///
/// # Errors
/// With the last reason of each, when none does.
pub(crate) fn reach(
    addresses: &[SocketAddr],
    way: Way<'_>,
    slow_call: Duration,
) -> Result<SocketAddr, Unreachable> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let (mut reasons, mut is_final) = (Vec::new(), false);
        for &address in addresses {
            let call_timeout = CALL_TIMEOUT + slow_call;
            let port = Port {
                address,
                authority: Some(way.authority),
                trust: way.trust,
                service: way.service,
                ids: &[],
                ready: Ready::Call,
                start_timeout: Duration::ZERO,
                call_timeout,
            };
            match probe::until_ready(port, Duration::ZERO, || false) {
                Ok(()) => return Ok(address),
                Err(NotReady::TimedOut(reason)) => reasons.push((address, reason)),
                Err(NotReady::Refused(reason)) => {
                    is_final = true;
                    reasons.push((address, reason));
                }
                // Nothing of the lab's is there to end.
                Err(NotReady::Interrupted | NotReady::Gone) => {
                    return Err(Unreachable::Interrupted);
                }
            }
        }
        if is_final || Instant::now() >= deadline {
            return Err(Unreachable::NoAnswer(reasons));
        }
        thread::sleep(RETRY_EVERY);
    }
}

/// How calls are made to what somebody else serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    /// What they name it by.
    pub(crate) authority: &'a str,
    /// Whom to trust there; `None` for plain text.
    pub(crate) trust: Option<&'a Trust>,
    /// The user's own service, where it is that which answers.
    pub(crate) service: Option<&'a OwnService>,
}

/// Why what somebody else serves can't be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("interrupted while it was looked for")]
    Interrupted,
    #[error("{}", reasons(.0))]
    NoAnswer(Vec<(SocketAddr, CallError)>),
}

fn reasons(reasons: &[(SocketAddr, CallError)]) -> String {
    let reasons = reasons.iter().map(|(address, reason)| format!("{address}: {reason}"));
    reasons.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use testkit::lab::EchoBackend;

    use super::*;

    #[test]
    fn all_addresses_of_a_name_are_tried() {
        let backend = EchoBackend::start("b0");
        let closed = super::super::ports::free_addresses(1).unwrap()[0];
        let way = Way { authority: "echo", trust: None, service: None };
        let reached = reach(&[closed, backend.addr()], way, Duration::ZERO);
        assert_eq!(reached.unwrap(), backend.addr());
        let refused = reach(&[closed], way, Duration::ZERO).unwrap_err().to_string();
        assert!(refused.starts_with(&closed.to_string()), "{refused}");
        assert!(refused.contains("Connection refused"), "{refused}");
    }
}
