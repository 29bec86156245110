//! What strangers can make the proxy hold: its memory as a process of its own,
//! under attacks that ask for far more than they may get.
//!
//! A bound here is what the limits add up to, with room for the allocator; what
//! is asked for is a multiple of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use clap::ValueEnum as _;
use common::open;
use echo_proto::v1::EchoRequest;
use l7_proxy::DataPlane;
use prost::Message as _;
use testkit::lab::{EchoBackend, client};
use testkit::peer::Peer;
use testkit::process::Process;
use testkit::wire::{self, block, kind, setting};
use testkit::{on_each_data_plane, within};

const MIB: usize = 1 << 20;

/// A backend, and a proxy of one thread in a process of its own.
struct Subject {
    proxy: Process,
    backend: EchoBackend,
}

impl Subject {
    fn start(plane: DataPlane) -> Self {
        let backend = EchoBackend::start("b");
        let name = plane.to_possible_value().unwrap().get_name().to_owned();
        let args = ["--threads=1", "--data-plane", &name, "--backend", &backend.addr().to_string()]
            .map(str::to_owned);
        Self { proxy: Process::start(env!("CARGO_BIN_EXE_l7-proxy"), &args), backend }
    }

    /// A few calls go through, also so that what is needed once is there.
    async fn serves(&self) {
        let mut client = client(self.proxy.addr()).await;
        for sequence in 0..20 {
            let request = common::echo(sequence, vec![1; 1_000]);
            within("a call", client.unary(request)).await.unwrap();
        }
    }

    /// Calls go through again, after an attack that a backend may have ended
    /// its connection for.
    async fn serves_again(&self) {
        let mut client = client(self.proxy.addr()).await;
        within("a call to go through", async {
            while client.unary(common::echo(0, vec![1])).await.is_err() {
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
