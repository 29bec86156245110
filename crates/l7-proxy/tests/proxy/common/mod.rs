//! What several test files need besides testkit.

pub(crate) mod load;

use std::sync::Arc;

use echo_proto::v1::EchoRequest;
use l7_proxy::{Config, DataPlane};
use serve::admin::Backends;
use testkit::{
    lab::{Server, l7_config, start_l7_fleet},
    peer::{Fields, Peer, RawServer},
    wire::{self, block, grpc_fields},
};

/// A raw client and a raw backend with a proxy between them.
pub(crate) struct Wires {
    pub(crate) client: Peer,
    pub(crate) server: RawServer,
    pub(crate) l7: Server,
    pub(crate) fleet: Arc<dyn Backends>,
}

impl Wires {
    pub(crate) async fn start(plane: DataPlane) -> Self {
        Self::start_with(plane, |_| {}).await
    }

    pub(crate) async fn start_with(plane: DataPlane, change: impl FnOnce(&mut Config)) -> Self {
        let server = RawServer::start().await;
        let mut config = l7_config(plane, &[server.addr()]);
        change(&mut config);
        let (l7, fleet) = start_l7_fleet(config);
        let client = Peer::client(l7.addr(), &[]).await;
        Self { client, server, l7, fleet }
    }

    /// Opens a unary call on stream 1 and takes it at the backend: its
    /// connection, its stream there, and its fields.
    pub(crate) async fn begin(&mut self) -> (Peer, u32, Fields) {
        self.begin_with(&[]).await
    }

    /// The same with further request fields.
    pub(crate) async fn begin_with(&mut self, more: &[(&str, &str)]) -> (Peer, u32, Fields) {
        self.client.send(&call(1, more)).await.unwrap();
        let mut backend = self.server.accept(&[]).await;
        let (stream, fields, _) = backend.next_headers().await;
        (backend, stream, fields)
    }
}

/// A unary call with further request fields, its message included.
pub(crate) fn call(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = open(stream, more);
    bytes.extend(wire::data(stream, &wire::message(&[]), true));
    bytes
}

/// The headers of a unary call, whose request goes on.
pub(crate) fn open(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = grpc_fields(wire::UNARY);
    fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    wire::headers(stream, &block(&fields), false)
}

/// A request that is answered with as many bytes as it has.
pub(crate) fn echo(sequence: u64, payload: Vec<u8>) -> EchoRequest {
    let response_bytes = payload.len() as u32;
    EchoRequest { sequence, payload, response_bytes, response_count: 1 }
}
