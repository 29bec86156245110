//! The readiness probe: a real call through whatever was just started.
//!
//! A port that accepts says little: a proxy may listen before it knows its
//! backends. So the probe makes unary calls until one comes back well. It looks
//! the same to every peer, and it is over before anything is measured.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use echo_proto::v1::{EchoRequest, echo_client::EchoClient};

use crate::{
    drive::client::{self, Trust, describe},
    interrupt,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// Where to call, and whom to trust there under TLS; `None` for plain text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) trust: Option<&'a Trust>,
    /// How long one call may take there.
    pub(crate) call_timeout: Duration,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// A call came back well.
    Yes,
    /// The process ended.
    Gone,
    /// No call came back well in time.
    TimedOut,
    /// The user asked to stop.
    Interrupted,
}

/// Calls until it works. `last` holds the last failure, for the error message.
pub(crate) fn until_ready(
    port: Port<'_>,
    timeout: Duration,
    mut gone: impl FnMut() -> bool,
    last: &mut String,
) -> Ready {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            *last = error.to_string();
            return Ready::TimedOut;
        }
    };
    let deadline = Instant::now() + timeout;
    runtime.block_on(async {
        loop {
            match call(port).await {
                Ok(()) => return Ready::Yes,
                Err(error) => *last = error,
            }
            if gone() {
                return Ready::Gone;
            }
            if interrupt::interrupted() {
                return Ready::Interrupted;
            }
            if Instant::now() >= deadline {
                return Ready::TimedOut;
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    })
}

async fn call(port: Port<'_>) -> Result<(), String> {
    let channel = client::endpoint(&port.address.to_string(), port.trust)
        .map_err(|error| describe(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(port.call_timeout)
        .connect()
        .await
        .map_err(|error| describe(&error))?;
    let response = EchoClient::new(channel)
        .unary(EchoRequest::default())
        .await
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    if response.get_ref().backend.is_empty() {
        return Err("the answer names no backend; is this the echo service?".into());
    }
    Ok(())
}
