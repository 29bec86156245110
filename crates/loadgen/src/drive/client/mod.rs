//! Clients: how a call gets onto a connection and comes back.
//!
//! A client owns one connection. The worker hands it a call with
//! [`Connection::start`]; when the call has ended the client tells the worker's
//! [`Sink`] what came of it. Pacing, slots and recording know nothing of gRPC,
//! and a client knows nothing of schedules.

mod answer;
mod balanced;
mod tonic_client;
mod wire;

use std::{net::SocketAddr, rc::Rc, time::Duration};

use measure::calllog::FailureKind;

pub(crate) use balanced::Balanced;
use balanced::BalancedConnection;
use tonic_client::TonicConnection;
use wire::WireConnection;

use super::slots::Call;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Status OK, the right payload, from a backend the lab knows.
    Served {
        /// Index of the backend.
        backend: u16,
        /// Time queued there, as it reported; summed over a stream's messages.
        queued_ns: u64,
        /// Time in service there, as it reported; summed likewise.
        service_ns: u64,
    },
    /// Anything else.
    Failed(FailureKind),
}

/// Told when a call has ended.
pub(crate) trait Sink {
    fn ended(&self, call: Call, ended: Ended);
}

/// One client connection.
pub(crate) trait Connection {
    /// Sends a call. The sink hears of its end exactly once, also when the
    /// connection breaks.
    fn start(&self, call: Call, sequence: u64);
}

/// The kinds of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
}

/// What every call of a trial looks like, and how its answer is checked.
#[derive(Debug)]
pub(crate) struct CallShape {
    pub(crate) kind: CallKind,
    /// Messages of a streaming call, in each direction that streams.
    pub(crate) messages: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) response_bytes: u32,
    /// Ids of the backends, in the order of their indices.
    pub(crate) backend_ids: Vec<String>,
}

impl CallShape {
    /// Index of the backend with this id.
    pub(crate) fn backend(&self, id: &[u8]) -> Option<u16> {
        let index = self.backend_ids.iter().position(|known| known.as_bytes() == id)?;
        u16::try_from(index).ok()
    }

    /// Whether `payload` is what the service owes: `response_bytes` bytes of the
    /// request's payload, repeated from its start as needed.
    pub(crate) fn is_echo(&self, payload: &[u8]) -> bool {
        if payload.len() != self.response_bytes as usize {
            return false;
        }
        match self.payload.len() {
            0 => payload.iter().all(|&byte| byte == 0),
            length => payload.chunks(length).all(|chunk| *chunk == self.payload[..chunk.len()]),
        }
    }
}

/// Which client makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKind {
    /// Our own, on `h2-wire`: cheap enough never to be what is measured.
    Wire,
    /// tonic: what most Rust services call with.
    Tonic,
}

/// How long a connection may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client connection of a scenario leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A backend, or a proxy: one TCP connection.
    One(SocketAddr),
    /// Every backend: the client balances its calls itself.
    Balanced(Balanced),
}

/// Opens a connection of the wanted kind. Must run inside a `LocalSet`.
pub(crate) async fn connect(
    kind: ClientKind,
    destination: &Destination,
    shape: Rc<CallShape>,
    sink: Rc<dyn Sink>,
) -> Result<Box<dyn Connection>, String> {
    match destination {
        Destination::One(address) => connect_to(kind, *address, shape, sink).await,
        Destination::Balanced(balanced) => {
            let connection = BalancedConnection::connect(kind, balanced, shape, sink).await?;
            Ok(Box::new(connection))
        }
    }
}

async fn connect_to(
    kind: ClientKind,
    address: SocketAddr,
    shape: Rc<CallShape>,
    sink: Rc<dyn Sink>,
) -> Result<Box<dyn Connection>, String> {
    match kind {
        ClientKind::Wire => {
            let connection = WireConnection::connect(address, shape, sink).await?;
            Ok(Box::new(connection))
        }
        ClientKind::Tonic => {
            let connection = TonicConnection::connect(address, shape, sink).await?;
            Ok(Box::new(connection))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(payload: &[u8], response_bytes: u32) -> CallShape {
        CallShape {
            kind: CallKind::Unary,
            messages: 1,
            payload: payload.to_vec(),
            response_bytes,
            backend_ids: vec!["b0".into(), "b1".into()],
        }
    }

    #[test]
    fn only_the_payload_that_was_asked_for_is_an_echo() {
        assert!(shape(b"abc", 3).is_echo(b"abc"));
        assert!(shape(b"abc", 7).is_echo(b"abcabca"));
        assert!(shape(b"abc", 2).is_echo(b"ab"));
        assert!(shape(b"", 2).is_echo(&[0, 0]));
        assert!(shape(b"abc", 0).is_echo(b""));
        assert!(!shape(b"abc", 3).is_echo(b"abd"));
        assert!(!shape(b"abc", 3).is_echo(b"ab"));
        assert!(!shape(b"abc", 7).is_echo(b"abcabcb"));
        assert!(!shape(b"", 2).is_echo(&[0, 1]));
    }

    #[test]
    fn backends_are_known_by_their_ids() {
        assert_eq!(shape(b"", 0).backend(b"b1"), Some(1));
        assert_eq!(shape(b"", 0).backend(b"b9"), None);
    }
}
