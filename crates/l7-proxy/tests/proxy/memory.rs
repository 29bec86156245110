//! What strangers can make the proxy hold: its memory as a process of its own,
//! under attacks that ask for far more than they may get.
//!
//! A bound here is what the limits add up to, with room for the allocator; what
//! is asked for is a multiple of it.

use std::net::SocketAddr;

use clap::ValueEnum as _;
use echo_proto::v1::EchoRequest;
use l7_proxy::DataPlane;
use prost::Message as _;
use testkit::{
    await_that,
    lab::{EchoBackend, client},
    negative::{Case, NegativeServer, ok_response, ok_trailers, response_head},
    on_each_data_plane,
    peer::{Peer, RawServer},
    process::Process,
    wire::{self, block, kind, setting},
    within,
};

use crate::common::{call, open};

const MIB: usize = 1 << 20;

/// What each data plane does otherwise.
mod exceptions {
    use l7_proxy::DataPlane;

    /// Neither heads nor trailers count against what its responses may hold.
    pub(crate) fn counts_no_headers(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// Each request may be kept to be sent again, however many there are.
    pub(crate) fn keeps_every_request(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }
}

/// A proxy of one thread in a process of its own.
fn start_proxy(plane: DataPlane, backend: SocketAddr) -> Process {
    let name = plane.to_possible_value().unwrap().get_name().to_owned();
    let args = ["--threads=1", "--data-plane", &name, "--backend", &backend.to_string()]
        .map(str::to_owned);
    Process::start(env!("CARGO_BIN_EXE_l7-proxy"), &args)
}

/// A backend, and a proxy of one thread in a process of its own.
struct Subject {
    proxy: Process,
    backend: EchoBackend,
}

impl Subject {
    fn start(plane: DataPlane) -> Self {
        let backend = EchoBackend::start("b");
        Self { proxy: start_proxy(plane, backend.addr()), backend }
    }

    /// A few calls go through, also so that what is needed once is there.
    async fn serves(&self) {
        let mut client = client(self.proxy.addr()).await;
        for sequence in 0..20 {
            let request = crate::common::echo(sequence, vec![1; 1_000]);
            within("a call", client.unary(request)).await.unwrap();
        }
    }

    /// Calls go through again, after an attack that a backend may have ended
    /// its connection for.
    async fn serves_again(&self) {
        let mut client = client(self.proxy.addr()).await;
        within("a call to go through", async {
            while client.unary(crate::common::echo(0, vec![1])).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// The most that was held above `before`.
    fn grew_by(&self, before: usize) -> usize {
        self.proxy.peak_bytes().saturating_sub(before)
    }
}

#[test]
fn a_continuation_flood_is_not_kept() {
    on_each_data_plane(async |plane| {
        let subject = Subject::start(plane);
        subject.serves().await;
        let before = subject.proxy.resident_bytes();
        let part = wire::frame(kind::CONTINUATION, 0, 1, &block(&[("x", "v".repeat(16_000))]));
        for _ in 0..20 {
            let mut attacker = Peer::client(subject.proxy.addr(), &[]).await;
            let fields = block(&wire::grpc_fields(wire::UNARY));
            attacker.send(&wire::frame(kind::HEADERS, 0, 1, &fields)).await.unwrap();
            // The proxy ends the connection on the way.
            for _ in 0..200 {
                if attacker.send(&part).await.is_err() {
                    break;
                }
            }
        }
        let grown = subject.grew_by(before);
        assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
        subject.serves().await;
    });
}

/// A thousand streams whose headers unfold to far more than was sent, on
/// connections that take no answer.
#[test]
fn header_bombs_are_not_kept() {
    on_each_data_plane(async |plane| {
        let subject = Subject::start(plane);
        subject.serves().await;
        let before = subject.proxy.resident_bytes();
        let fields = block(&wire::grpc_fields(wire::UNARY));
        let value = "v".repeat(1_000);
        let mut attackers = Vec::new();
        for _ in 0..5 {
            let mut attacker =
                Peer::client(subject.proxy.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
            for stream in (1..400).step_by(2) {
                // A field of 1 KiB in the table, and a byte for each further one.
                let first = wire::indexed_literal("x", &value);
                let bomb = [fields.clone(), first, vec![0x80 | 62; 200]].concat();
                if attacker.send(&wire::headers(stream, &bomb, false)).await.is_err() {
                    break;
                }
            }
            attackers.push(attacker);
        }
        // 1,000 streams of 200 KiB each, were they kept.
        let grown = subject.grew_by(before);
        assert!(grown < 32 * MIB, "{} MiB", grown / MIB);
        subject.serves().await;
    });
}

/// Responses of which nothing is taken: each may hold its windows and its send
/// buffer, and no more.
#[test]
fn responses_that_nobody_takes_are_held_back_at_the_backend() {
    on_each_data_plane(async |plane| {
        let subject = Subject::start(plane);
        subject.serves().await;
        let before = subject.proxy.resident_bytes();
        let request = EchoRequest { response_bytes: 4 << 20, ..EchoRequest::default() };
        let message = wire::message(&request.encode_to_vec());
        let mut attacker =
            Peer::client(subject.proxy.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        const STREAMS: u32 = 100;
        for stream in (1..2 * STREAMS).step_by(2) {
            let fields = block(&wire::grpc_fields(wire::UNARY));
            let head = wire::headers(stream, &fields, false);
            attacker.send(&[head, wire::data(stream, &message, true)].concat()).await.unwrap();
        }
        // Each response's headers arrive, so each backend's answer has come.
        for stream in (1..2 * STREAMS).step_by(2) {
            attacker.next_on(stream).await;
        }
        subject.serves().await;
        // 400 MiB were asked for.
        let grown = subject.grew_by(before);
        assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
        assert!(subject.backend.counters().started() >= u64::from(STREAMS));
    });
}

/// A request's DATA in the smallest pieces: what is kept of a frame beside its
/// payload must not add up.
#[test]
fn tiny_data_does_not_add_up() {
    on_each_data_plane(async |plane| {
        let subject = Subject::start(plane);
        subject.serves().await;
        let before = subject.proxy.resident_bytes();
        let byte = wire::data(1, &[0], false).repeat(30_000);
        let mut attackers = Vec::new();
        for _ in 0..10 {
            let mut attacker = Peer::client(subject.proxy.addr(), &[]).await;
            attacker.send(&open(1, &[])).await.unwrap();
            let _ = attacker.send(&byte).await;
            attackers.push(attacker);
        }
        let grown = subject.grew_by(before);
        assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
        // That others are spared is tested elsewhere.
        subject.serves_again().await;
    });
}

/// Questions whose answers nobody reads.
#[test]
fn unread_answers_are_not_kept() {
    on_each_data_plane(async |plane| {
        let subject = Subject::start(plane);
        subject.serves().await;
        let before = subject.proxy.resident_bytes();
        for frame in [wire::ping(*b"attacker"), wire::settings(&[]), wire::reset(1, 8)] {
            let mut attacker = Peer::client(subject.proxy.addr(), &[]).await;
            attacker.send(&open(1, &[])).await.unwrap();
            let many = frame.repeat(1_000);
            // Until the proxy ends the connection, or reads no more.
            for _ in 0..500 {
                if !matches!(attacker.push(&many).await, Ok(true)) {
                    break;
                }
            }
        }
        let grown = subject.grew_by(before);
        assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
        subject.serves().await;
    });
}

/// A proxy with a raw backend, over one connection that has served a call, and a
/// client with these settings whose calls are the second and later ones.
async fn raw_subject(
    plane: DataPlane,
    settings: &[(u16, u32)],
) -> (Process, Peer, RawServer, Peer) {
    let server = RawServer::start().await;
    let proxy = start_proxy(plane, server.addr());
    let mut client = Peer::client(proxy.addr(), settings).await;
    client.send(&call(1, &[])).await.unwrap();
    let mut backend = server.accept(&[]).await;
    let (stream, _, _) = backend.next_headers().await;
    backend.send(&ok_response(stream)).await.unwrap();
    client.next_on(1).await;
    (proxy, client, server, backend)
}

/// Heads and trailers have no windows. Each call of a thousand has 60 K of both,
/// and nothing of them is taken.
#[test]
fn heads_and_trailers_that_nobody_takes_are_bounded() {
    on_each_data_plane(async |plane| {
        if exceptions::counts_no_headers(plane) {
            return;
        }
        const CALLS: usize = 1_000;
        let no_window = [(setting::INITIAL_WINDOW_SIZE, 0)];
        let (proxy, mut attacker, server, mut backend) = raw_subject(plane, &no_window).await;
        let mut streams = Vec::new();
        for stream in (3..).step_by(2).take(CALLS) {
            attacker.push(&call(stream, &[])).await.unwrap();
            streams.push(backend.next_headers().await.0);
        }
        let before = proxy.resident_bytes();
        let long = "v".repeat(60_000);
        let head = block(&[(":status", "200"), ("content-type", "application/grpc"), ("x", &long)]);
        let trailers = block(&[("grpc-status", "0"), ("x", &long)]);
        for stream in streams {
            let answer = [
                wire::headers(stream, &head, false),
                wire::data(stream, &wire::message(&[]), false),
                wire::headers(stream, &trailers, true),
            ];
            // The proxy may end the connection before all is written.
            let _ = backend.send(&answer.concat()).await;
        }
        // Most calls were reset, and a connection with so many makes way for a new
        // one once its last call has ended.
        backend.closed().await;
        // 114 MiB were to be held; the bound is 16 MiB, which memory for a list in
        // the making and for output that is moved come on top of.
        let grown = proxy.peak_bytes().saturating_sub(before);
        assert!(grown < 40 * MIB, "{} MiB", grown / MIB);
        let mut other = Peer::client(proxy.addr(), &[]).await;
        other.send(&call(1, &[])).await.unwrap();
        let mut backend = server.accept(&[]).await;
        let (stream, _, _) = backend.next_headers().await;
        backend.send(&ok_response(stream)).await.unwrap();
        assert_eq!(other.message(1).await.grpc_status(), Some("0"));
    });
}

/// Informational heads without end on one call, each of which unfolds to a
/// thousand times its size for a client without a table.
#[test]
fn informational_heads_without_end_are_not_kept() {
    on_each_data_plane(async |plane| {
        let no_table = [(setting::HEADER_TABLE_SIZE, 0)];
        let (proxy, mut client, _server, mut backend) = raw_subject(plane, &no_table).await;
        client.send(&call(3, &[])).await.unwrap();
        let (stream, _, _) = backend.next_headers().await;
        let before = proxy.resident_bytes();
        let status = block(&[(":status", "103")]);
        let first = [status.clone(), wire::indexed_literal("x", &"v".repeat(3_900))].concat();
        backend.send(&wire::headers(stream, &first, false)).await.unwrap();
        let next = wire::headers(stream, &[status, vec![0x80 | 62; 15]].concat(), false);
        // Each of these is 59 KB at the client: 177 MB.
        for _ in 0..30 {
            backend.send(&next.repeat(100)).await.unwrap();
        }
        backend.send(&[response_head(stream), ok_trailers(stream)].concat()).await.unwrap();
        backend.round_trip().await;
        let grown = proxy.peak_bytes().saturating_sub(before);
        assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
        let answer = client.message(3).await;
        assert_eq!(answer.grpc_status(), Some("0"));
        assert!(answer.heads.len() <= 8 + 2, "{} heads", answer.heads.len());
    });
}

/// Uploads that do not end, to a backend that does not answer: they are passed
/// on, and only so much of them is kept to be sent again.
#[test]
fn copies_of_requests_are_bounded_together() {
    on_each_data_plane(async |plane| {
        if exceptions::keeps_every_request(plane) {
            return;
        }
        const CALLS: u32 = 1_000;
        let backend = NegativeServer::start(Case::NeverAnswer).await;
        let proxy = start_proxy(plane, backend.addr());
        let mut attacker = Peer::client(proxy.addr(), &[]).await;
        attacker.send(&open(1, &[])).await.unwrap();
        await_that("the first call", || backend.record().calls() == 1).await;
        let before = proxy.resident_bytes();
        let upload = vec![0; 16_383];
        for call in 1..CALLS {
            let stream = 1 + 2 * call;
            let mut bytes = open(stream, &[]);
            for _ in 0..4 {
                bytes.extend(wire::data(stream, &upload, false));
            }
            attacker.send(&bytes).await.unwrap();
            // No more on the way than the connection's window allows.
            if call % 32 == 0 {
                await_that("the calls", || backend.record().calls() > call).await;
            }
        }
        await_that("all calls", || backend.record().calls() == CALLS).await;
        attacker.round_trip().await;
        // 64 MB were sent. 8 MiB may be kept, and 16 MiB be on their way.
        let grown = proxy.peak_bytes().saturating_sub(before);
        assert!(grown < 40 * MIB, "{} MiB", grown / MIB);
    });
}
