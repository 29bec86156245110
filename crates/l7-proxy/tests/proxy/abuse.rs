//! What strangers will throw at the proxy, row by row as the threat table of
//! the project has it. In each case the attack is bounded, its connection or
//! stream ends with a code that fits, the backends are spared, and another
//! client on the same thread is served all the while.
//!
//! Where a data plane meets a row in another way than the table says, the
//! difference stands in [`exceptions`], by name and with its reason.

use std::time::{Duration, Instant};

use echo_proto::v1::EchoRequest;
use l7_proxy::{Config, DataPlane};
use prost::Message as _;
use testkit::{
    await_that,
    lab::{Lab, l7_config, start_l7},
    negative::{Case, NegativeServer, ok_response},
    on_each_data_plane,
    peer::{End, Peer, Seen},
    wire::{self, block, code, flag, kind, setting},
    within,
};
use tokio::task::JoinHandle;

use crate::common::{Wires, call, echo, open};

/// What each data plane does otherwise.
mod exceptions {
    use l7_proxy::DataPlane;
    use testkit::peer::Fields;

    /// A header block of many fields beyond the limit is answered by h2 itself,
    /// before the proxy sees it: with HTTP status 431 and not with status 8.
    pub(crate) fn answers_431_to_a_header_bomb(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2 calls every mistake in a header block a PROTOCOL_ERROR, where RFC 9113,
    /// section 4.3, has COMPRESSION_ERROR. The connection ends in both.
    pub(crate) fn calls_a_broken_block_a_protocol_error(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2 cuts a fragment off a path, puts a slash before one that has none, and
    /// lets an authority have userinfo.
    pub(crate) fn reads_a_malformed_target(plane: DataPlane, fields: &Fields) -> bool {
        let is_taken = |(name, value): &(String, String)| match name.as_str() {
            ":path" => ["/a#b", "a", "*"].contains(&value.as_str()),
            ":authority" => value == "me@a",
            _ => false,
        };
        plane == DataPlane::Hyper && fields.iter().any(is_taken)
    }

    /// Resets that are held back keep their places until the backend has looked
    /// at those before.
    pub(crate) fn waits_for_the_places_of_a_client_that_was_ended(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2 takes any number of table size updates at the start of a block, as
    /// long as the block is within its size. Each only sets a number.
    pub(crate) fn takes_many_table_size_updates(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2 counts resets of streams that hyper has not accepted yet, and no
    /// others. It has no setting for a rate.
    pub(crate) fn counts_no_resets_of_accepted_streams(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2 counts empty DATA, and no other frames that cost a client nothing.
    pub(crate) fn counts_no_control_frames(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2 keeps a stream that waits for its window, and hyper a connection whose
    /// socket takes nothing; neither has a setting that ends the wait.
    pub(crate) fn waits_for_clients_that_take_nothing(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// There is no deadline for a frame. A client that stops inside one, or before
    /// its SETTINGS, is ended when it does not answer a PING.
    pub(crate) fn ends_silent_frames_by_keepalive(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }
}

/// A client that calls all the while, on a connection of its own.
struct Bystander {
    calls: JoinHandle<u64>,
    is_over: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Bystander {
    async fn start(lab: &Lab) -> Self {
        let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut client = lab.client().await;
        let stop = std::sync::Arc::clone(&is_over);
        let calls = tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) || count == 0 {
                within("a bystander's call", client.unary(echo(count, vec![1; 50]))).await.unwrap();
                count += 1;
            }
            count
        });
        Self { calls, is_over }
    }

    /// Stops. All its calls have gone well; gives their number.
    async fn stop(self) -> u64 {
        self.is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        self.calls.await.unwrap()
    }
}

/// A lab whose limits are low enough to be met quickly.
fn lab(plane: DataPlane) -> Lab {
    Lab::start_with(plane, 1, |config| {
        config.downstream.max_resets_per_second = 100;
        config.downstream.max_control_frames_per_second = 200;
        config.downstream.max_error_resets = 50;
    })
}

/// Sends the same bytes until the proxy has had enough.
async fn flood(attacker: &mut Peer, bytes: &[u8]) {
    let until_refused = async {
        while attacker.send(bytes).await.is_ok() {
            attacker.catch_up().await;
            if attacker.passed_over().any(|seen| matches!(seen, Seen::GoAway { .. })) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    within("the proxy to end the connection", until_refused).await;
}

/// The connection has ended, and told why, unless the kernel's reset for bytes
/// unread was faster than the GOAWAY.
async fn assert_calmed(attacker: &mut Peer) {
    let code = ended(attacker).await;
    assert!(matches!(code, None | Some(code::ENHANCE_YOUR_CALM)), "{code:?}");
}

/// Waits for the end of the connection. Gives the code of the GOAWAY, if it came.
async fn ended(attacker: &mut Peer) -> Option<u32> {
    let what = "GOAWAY or the end";
    match attacker.next_that(what, |seen| matches!(seen, Seen::GoAway { .. })).await {
        Seen::GoAway { code, .. } => {
            // A server may wait for the client to close its side, so that what
            // it said arrives.
            attacker.finish().await;
            attacker.closed().await;
            Some(code)
        }
        _ => None,
    }
}

/// Runs attacks side by side: the ends of some take a while.
async fn at_once<A: Future<Output = ()> + Send + 'static>(attacks: impl IntoIterator<Item = A>) {
    let mut running: tokio::task::JoinSet<()> = attacks.into_iter().collect();
    while let Some(result) = running.join_next().await {
        result.unwrap();
    }
}

async fn assert_counted(lab: &Lab, reasons: &[&str]) {
    let counted = || {
        reasons.iter().any(|reason| {
            lab.l7.metric(&format!("l7_connections_ended_total{{reason=\"{reason}\"}}")) >= 1.0
        })
    };
    await_that(&format!("one of {reasons:?} to be counted"), counted).await;
}

/// CVE-2023-44487, the classic form: HEADERS and RST_STREAM back to back.
#[test]
fn rapid_reset_is_ended_and_costs_the_backends_little() {
    on_each_data_plane(async |plane| {
        let lab = lab(plane);
        let bystander = Bystander::start(&lab).await;
        let mut attacker = Peer::client(lab.l7.addr(), &[]).await;
        let mut bytes = Vec::new();
        for stream in (1..10_000).step_by(2) {
            bytes.extend(call(stream, &[]));
            bytes.extend(wire::reset(stream, code::CANCEL));
        }
        // The proxy may end the connection before all is written.
        let _ = attacker.send(&bytes).await;
        assert_calmed(&mut attacker).await;
        assert_counted(&lab, &["reset_flood", "protocol"]).await;
        await_that("the attacker's calls to end", || lab.calls_in_flight() <= 1).await;
        let calls = bystander.stop().await;
        let attackers = lab.calls_started() - calls;
        assert!(attackers <= 150, "{attackers} calls reached the backend");
    });
}

/// The patient form: each stream is reset only once it has reached the backend,
/// so that no limit on streams not yet accepted sees it.
#[test]
fn rapid_reset_of_accepted_streams_is_ended_as_well() {
    on_each_data_plane(async |plane| {
        if exceptions::counts_no_resets_of_accepted_streams(plane) {
            return;
        }
        let backend = NegativeServer::start(Case::NeverAnswer).await;
        let mut config = l7_config(plane, &[backend.addr()]);
        config.downstream.max_resets_per_second = 100;
        let l7 = start_l7(config);
        let mut attacker = Peer::client(l7.addr(), &[]).await;
        let mut reached = 0;
        for stream in (1..1_000).step_by(2) {
            if attacker.send(&call(stream, &[])).await.is_err() {
                break;
            }
            let arrives = async {
                while backend.record().calls() <= reached && attacker.is_open() {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
            };
            within("the call at the backend", arrives).await;
            reached = backend.record().calls();
            if attacker.send(&wire::reset(stream, code::CANCEL)).await.is_err() {
                break;
            }
        }
        assert_calmed(&mut attacker).await;
        // The count is halved each second, and a slow machine may need some.
        assert!((100..500).contains(&reached), "{reached} calls reached the backend");
        await_that("the backend to be told of all", || backend.record().resets() >= reached).await;
        assert!(l7.metric("l7_connections_ended_total{reason=\"reset_flood\"}") >= 1.0);
    });
}

/// CVE-2025-8671: the client makes the proxy reset streams, which then don't
/// count as open any more while their calls run on.
#[test]
fn made_you_reset_is_ended_and_cancels_upstream() {
    on_each_data_plane(async |plane| {
        type Mistake = (&'static str, fn(u32) -> Vec<u8>);
        let mistakes: [Mistake; 5] = [
            ("a window update of zero", |stream| wire::window_update(stream, 0)),
            ("a window beyond 2^31-1", |stream| wire::window_update(stream, (1 << 31) - 1)),
            ("HEADERS after END_STREAM", |stream| {
                wire::headers(stream, &block(&[("x-late", "1")]), true)
            }),
            ("DATA after END_STREAM", |stream| wire::data(stream, b"late", true)),
            ("PRIORITY on itself", |stream| wire::priority(stream, stream)),
        ];
        for (mistake, bytes_of) in mistakes {
            let backend = NegativeServer::start(Case::NeverAnswer).await;
            let mut config = l7_config(plane, &[backend.addr()]);
            config.downstream.max_resets_per_second = 100;
            config.downstream.max_control_frames_per_second = 200;
            config.downstream.max_error_resets = 50;
            config.upstream.backend_max_streams = 100_000;
            let l7 = start_l7(config);
            let mut attacker = Peer::client(l7.addr(), &[]).await;
            for stream in (1..4_000).step_by(2) {
                let bytes = [call(stream, &[]), bytes_of(stream)].concat();
                if attacker.send(&bytes).await.is_err() {
                    break;
                }
            }
            // Whichever bound it meets first, the connection has ended.
            within(mistake, ended(&mut attacker)).await;
            let calls = backend.record().calls();
            assert!(calls <= 1_100, "{mistake}: {calls} calls reached the backend");
            await_that(mistake, || backend.record().resets() >= backend.record().calls()).await;
        }
    });
}

/// CVE-2024-27316.
#[test]
fn a_continuation_flood_is_ended() {
    on_each_data_plane(async |plane| {
        let lab = lab(plane);
        let bystander = Bystander::start(&lab).await;
        let addr = lab.l7.addr();
        let parts = [block(&[("x-many", "v".repeat(100).as_str())]), Vec::new()];
        at_once(parts.map(|part| async move {
            let mut attacker = Peer::client(addr, &[]).await;
            let start = frame_of_block(kind::HEADERS, &block(&wire::grpc_fields(wire::UNARY)));
            attacker.send(&start).await.unwrap();
            flood(&mut attacker, &frame_of_block(kind::CONTINUATION, &part).repeat(50)).await;
            ended(&mut attacker).await;
        }))
        .await;
        let calls = bystander.stop().await;
        assert_eq!(lab.calls_started(), calls);
        assert_counted(&lab, &["protocol"]).await;
    });
}

/// A part of a header block that does not end.
fn frame_of_block(kind: u8, block: &[u8]) -> Vec<u8> {
    wire::frame(kind, 0, 1, block)
}

/// CVE-2026-49975: fields that cost a byte on the wire and much more here.
#[test]
fn a_header_bomb_is_refused() {
    on_each_data_plane(async |plane| {
        let lab = lab(plane);
        let bystander = Bystander::start(&lab).await;
        let zero_window = [(setting::INITIAL_WINDOW_SIZE, 0)];
        let mut attacker = Peer::client(lab.l7.addr(), &zero_window).await;
        let fields = wire::grpc_fields(wire::UNARY);
        // The first field goes into the table (index 62), and a byte repeats it.
        let bomb = |fields_more: usize| {
            let first = wire::indexed_literal("cookie", "c=1");
            [block(&fields), first, vec![0x80 | 62; fields_more]].concat()
        };
        for (stream, fields_more) in [(1, 120), (3, 2_000), (5, 120)] {
            attacker.send(&wire::headers(stream, &bomb(fields_more), false)).await.unwrap();
            attacker.send(&wire::window_update(stream, 1)).await.unwrap();
            let answer = attacker.message(stream).await;
            let status = (answer.head(":status"), answer.grpc_status());
            if fields_more == 2_000 && exceptions::answers_431_to_a_header_bomb(plane) {
                assert_eq!(status, (Some("431"), None));
            } else {
                assert_eq!(status, (Some("200"), Some("8")), "{fields_more} more fields");
            }
        }
        // Far beyond the limits there may be no patience either.
        attacker.send(&wire::headers(7, &bomb(9_000), false)).await.unwrap();
        let answer = attacker.message(7).await;
        if answer.end == Some(End::Closed) {
            assert_calmed(&mut attacker).await;
        } else {
            assert_eq!(answer.grpc_status(), Some("8"));
        }
        let calls = bystander.stop().await;
        assert_eq!(lab.calls_started(), calls);
    });
}

fn broken_block(plane: DataPlane) -> u32 {
    if exceptions::calls_a_broken_block_a_protocol_error(plane) {
        code::PROTOCOL_ERROR
    } else {
        code::COMPRESSION_ERROR
    }
}

/// CVE-2016-6581: a table larger than allowed, references to nothing, integers
/// and strings without end.
#[test]
fn a_broken_header_block_ends_the_connection() {
    on_each_data_plane(async |plane| {
        let lab = lab(plane);
        let bystander = Bystander::start(&lab).await;
        let fields = block(&wire::grpc_fields(wire::UNARY));
        let bombs: [(&str, Vec<u8>); 4] = [
            ("a table beyond 4 KiB", [wire::table_size_update(1 << 20), fields.clone()].concat()),
            ("an index beyond the table", [fields.clone(), vec![0xff, 0x80, 0x7f]].concat()),
            ("an integer without end", [fields.clone(), vec![0xff; 20]].concat()),
            ("a size update behind a field", [fields.clone(), wire::table_size_update(0)].concat()),
        ];
        for (bomb, bytes) in bombs {
            let mut attacker = Peer::client(lab.l7.addr(), &[]).await;
            attacker.send(&wire::headers(1, &bytes, true)).await.unwrap();
            assert_eq!(ended(&mut attacker).await, Some(broken_block(plane)), "{bomb}");
        }
        let mut attacker = Peer::client(lab.l7.addr(), &[]).await;
        let flips = [wire::table_size_update(4_096), wire::table_size_update(0)].concat();
        let block = [flips.repeat(500), fields].concat();
        attacker.send(&wire::headers(1, &block, false)).await.unwrap();
        if exceptions::takes_many_table_size_updates(plane) {
            attacker.send(&wire::data(1, &wire::message(&[]), true)).await.unwrap();
            assert_eq!(attacker.message(1).await.grpc_status(), Some("0"));
        } else {
            assert_eq!(ended(&mut attacker).await, Some(broken_block(plane)));
        }
        bystander.stop().await;
    });
}

/// Requests that two servers could read differently (RFC 9113, section 8).
#[test]
fn malformed_requests_are_reset() {
    on_each_data_plane(async |plane| {
        let lab = lab(plane);
        let grpc = wire::grpc_fields(wire::UNARY);
        let with = |name: &str, value: &str| {
            let mut fields = grpc.clone();
            fields.push((name.to_owned(), value.to_owned()));
            fields
        };
        let first = |name: &str, value: &str| {
            let mut fields = grpc.clone();
            fields.insert(0, (name.to_owned(), value.to_owned()));
            fields
        };
        let without = |name: &str| {
            let kept = grpc.iter().filter(|(found, _)| found != name).cloned();
            kept.collect::<Vec<_>>()
        };
        let instead = |name: &str, value: &str| {
            let mut fields = grpc.clone();
            fields.iter_mut().filter(|(found, _)| found == name).for_each(|field| {
                field.1 = value.to_owned();
            });
            fields
        };
        let cases = [
            instead(":path", "/a b"),
            instead(":path", "/a#b"),
            instead(":path", "a"),
            instead(":path", "*"),
            instead(":method", "PO ST"),
            instead(":authority", "a/b"),
            instead(":authority", "a b"),
            instead(":authority", "me@a"),
            with("x-control", "a\u{1}b"),
            with("x-control", "a\u{7f}b"),
            with("x-blank", " leading"),
            with("x-blank", "trailing\t"),
            with("host", "elsewhere"),
            with("X-Upper", "1"),
            with("connection", "keep-alive"),
            with("transfer-encoding", "chunked"),
            with("te", "gzip"),
            with(":path", "/again"),
            with(":unknown", "1"),
            first("x-before-pseudo", "1"),
            without(":method"),
            without(":path"),
            without(":scheme"),
        ];
        for fields in cases {
            if exceptions::reads_a_malformed_target(plane, &fields) {
                continue;
            }
            let mut attacker = Peer::client(lab.l7.addr(), &[]).await;
            attacker.send(&wire::headers(1, &block(&fields), true)).await.unwrap();
            // An error of the stream is asked for, and one of the connection
            // allowed in its place (RFC 9113, section 5.4.2).
            match attacker.message(1).await.end {
                Some(End::Reset(code::PROTOCOL_ERROR)) => {}
                Some(End::Closed) if ended(&mut attacker).await == Some(code::PROTOCOL_ERROR) => {}
                other => panic!("{other:?} was the answer to {fields:?}"),
            }
        }
        assert_eq!(lab.calls_started(), 0);
    });
}

/// CVE-2019-9518 and CVE-2019-9512, 9513, 9515: frames that cost the client
/// nothing.
#[test]
fn floods_of_cheap_frames_are_ended() {
    on_each_data_plane(async |plane| {
        let floods: [(&str, Vec<u8>); 7] = [
            ("empty DATA", wire::data(1, &[], false)),
            ("PING", wire::ping(*b"attacker")),
            ("SETTINGS", wire::settings(&[(setting::INITIAL_WINDOW_SIZE, 1_000)])),
            ("empty SETTINGS", wire::settings(&[])),
            ("PRIORITY", wire::priority(1, 3)),
            ("WINDOW_UPDATE", wire::window_update(1, 1)),
            ("unknown", wire::frame(0xbb, 0, 0, b"what is this")),
        ];
        let lab = lab(plane);
        let bystander = Bystander::start(&lab).await;
        let addr = lab.l7.addr();
        let counted = |(what, _): &(&str, _)| {
            *what == "empty DATA" || !exceptions::counts_no_control_frames(plane)
        };
        at_once(floods.into_iter().filter(counted).map(|(what, frame)| async move {
            let mut attacker = Peer::client(addr, &[]).await;
            attacker.send(&open(1, &[])).await.unwrap();
            within(what, flood(&mut attacker, &frame.repeat(100))).await;
            assert_calmed(&mut attacker).await;
        }))
        .await;
        assert_counted(&lab, &["control_flood", "protocol"]).await;
        await_that("the attackers' calls to end", || lab.calls_in_flight() <= 1).await;
        bystander.stop().await;
    });
}

/// Tiny DATA without end on streams that nobody reads: what the proxy keeps of
/// each frame is more than the frame.
#[test]
fn tiny_data_that_nobody_reads_is_bounded() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let bystander = Bystander::start(&lab).await;
        let mut attacker = Peer::client(lab.l7.addr(), &[]).await;
        let fields = block(&wire::grpc_fields(wire::BIDI));
        // The backend answers the first message and waits for more; one byte at
        // a time of a message that is never whole.
        attacker.send(&wire::headers(1, &fields, false)).await.unwrap();
        attacker.send(&wire::data(1, &[0, 0, 1, 0, 0], false)).await.unwrap();
        let byte = wire::data(1, &[0], false);
        // One window's worth: everything within the rules.
        let _ = attacker.send(&byte.repeat(60_000)).await;
        bystander.stop().await;
        drop(attacker);
        await_that("the attacker's call to end", || lab.calls_in_flight() == 0).await;
    });
}

/// A client that is busy in all ways that are normal is none that attacks.
#[test]
fn normal_traffic_is_no_flood() {
    on_each_data_plane(async |plane| {
        let lab = lab(plane);
        let mut busy = Peer::client(lab.l7.addr(), &[]).await;
        let mut stream = 1;
        // Calls, some of which are cancelled, with PINGs and window updates.
        for _ in 0..90 {
            busy.send(&[wire::unary_call(stream), wire::unary_call(stream + 2)].concat())
                .await
                .unwrap();
            busy.send(&wire::ping(*b"keepaliv")).await.unwrap();
            busy.send(&wire::window_update(0, 10)).await.unwrap();
            assert_eq!(busy.message(stream).await.grpc_status(), Some("0"));
            assert_eq!(busy.message(stream + 2).await.grpc_status(), Some("0"));
            stream += 4;
            busy.send(&[open(stream, &[]), wire::reset(stream, code::CANCEL)].concat())
                .await
                .unwrap();
            busy.round_trip().await;
            stream += 2;
        }
        // A large response, of which each frame is given back at once.
        let request = EchoRequest { response_bytes: 8 << 20, ..EchoRequest::default() };
        busy.send(&wire::headers(stream, &block(&wire::grpc_fields(wire::UNARY)), false))
            .await
            .unwrap();
        busy.send(&wire::data(stream, &wire::message(&request.encode_to_vec()), true))
            .await
            .unwrap();
        let mut taken = 0;
        loop {
            match busy.next_on(stream).await {
                Seen::Data { payload, .. } if !payload.is_empty() => {
                    taken += payload.len();
                    let given = payload.len() as u32;
                    let updates =
                        [wire::window_update(stream, given), wire::window_update(0, given)];
                    busy.send(&updates.concat()).await.unwrap();
                }
                Seen::Headers { ends: true, .. } => break,
                Seen::Closed | Seen::Reset { .. } => panic!("it ended after {taken} bytes"),
                _ => {}
            }
        }
        assert!(taken > 8 << 20);
    });
}

/// What gRPC's C core sends for each call, of which nothing is answered yet:
/// credit for five bytes, on the stream and on the connection.
#[test]
fn window_updates_of_calls_that_wait_are_no_flood() {
    on_each_data_plane(async |plane| {
        const CALLS: u32 = 1_000;
        let mut wires = Wires::start(plane).await;
        let (mut backend, stream, _) = wires.begin().await;
        backend.send(&ok_response(stream)).await.unwrap();
        assert_eq!(wires.client.message(1).await.grpc_status(), Some("0"));
        let streams = || (3..).step_by(2).take(CALLS as usize);
        for stream in streams() {
            let update = |of| wire::window_update(of, 5);
            let data = wire::data(stream, &wire::message(&[]), true);
            let call = [open(stream, &[]), update(stream), update(0), data];
            wires.client.send(&call.concat()).await.unwrap();
        }
        let mut waiting = Vec::new();
        for _ in 0..CALLS {
            waiting.push(backend.next_headers().await.0);
        }
        for stream in waiting {
            backend.send(&ok_response(stream)).await.unwrap();
        }
        for stream in streams() {
            assert_eq!(wires.client.message(stream).await.grpc_status(), Some("0"));
        }
    });
}

/// CVE-2019-9511 and 9517: the client asks for much and takes nothing, or a
/// byte now and then.
#[test]
fn a_client_that_takes_nothing_loses_its_stream() {
    on_each_data_plane(async |plane| {
        if exceptions::waits_for_clients_that_take_nothing(plane) {
            return;
        }
        let lab = Lab::start_with(plane, 1, |config| {
            config.downstream.write_stall_timeout = Duration::from_millis(500);
        });
        let bystander = Bystander::start(&lab).await;
        let zero_window = [(setting::INITIAL_WINDOW_SIZE, 0)];
        let mut attacker = Peer::client(lab.l7.addr(), &zero_window).await;
        // A response that is never taken whole, and one that waits whole.
        let large = EchoRequest { response_bytes: 8 << 20, ..EchoRequest::default() };
        for (stream, request) in [(1, large), (3, EchoRequest::default())] {
            let head = wire::headers(stream, &block(&wire::grpc_fields(wire::UNARY)), false);
            let data = wire::data(stream, &wire::message(&request.encode_to_vec()), true);
            attacker.send(&[head, data].concat()).await.unwrap();
        }
        let mut ended = 0;
        let dripping = async {
            while ended < 2 {
                // A byte at a time is no progress.
                attacker.send(&wire::window_update(1, 1)).await.unwrap();
                attacker.round_trip().await;
                let resets = attacker.take_passed_over(|seen| matches!(seen, Seen::Reset { .. }));
                for reset in &resets {
                    assert!(matches!(reset, Seen::Reset { code: code::CANCEL, .. }), "{reset:?}");
                }
                ended += resets.len();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("both streams to be reset", dripping).await;
        // The connection lives, and so does a stream whose response is taken.
        attacker.send(&wire::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)])).await.unwrap();
        attacker.send(&wire::unary_call(5)).await.unwrap();
        assert_eq!(attacker.message(5).await.grpc_status(), Some("0"));
        assert_eq!(lab.l7.metric("l7_streams_stalled_total"), 2.0);
        await_that("the backend to be rid of them", || lab.calls_in_flight() <= 1).await;
        bystander.stop().await;
    });
}

/// The same below HTTP/2: the windows are wide, and the socket is not read.
#[test]
fn a_client_that_reads_nothing_loses_its_connection() {
    on_each_data_plane(async |plane| {
        if exceptions::waits_for_clients_that_take_nothing(plane) {
            return;
        }
        let lab = Lab::start_with(plane, 1, |config| {
            config.downstream.write_stall_timeout = Duration::from_millis(500);
        });
        let bystander = Bystander::start(&lab).await;
        let wide = [(setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1)];
        let mut attacker = Peer::client(lab.l7.addr(), &wide).await;
        let request =
            EchoRequest { response_bytes: 8 << 20, response_count: 100, ..EchoRequest::default() };
        let head = wire::headers(1, &block(&wire::grpc_fields(wire::SERVER_STREAM)), false);
        let data = wire::data(1, &wire::message(&request.encode_to_vec()), true);
        attacker.send(&[head, data].concat()).await.unwrap();
        lab.l7.await_metric("l7_connections_open", |open| open == 1.0).await;
        assert_counted(&lab, &["write_stall"]).await;
        await_that("the backend to be rid of it", || lab.calls_in_flight() <= 1).await;
        bystander.stop().await;
    });
}

/// Silence where something is due.
#[test]
fn silence_has_a_bound() {
    on_each_data_plane(async |plane| {
        let quick = |config: &mut Config| {
            config.downstream.handshake_timeout = Duration::from_millis(200);
            config.downstream.frame_timeout = Duration::from_millis(200);
            if exceptions::ends_silent_frames_by_keepalive(plane) {
                config.downstream.keepalive_interval = Duration::from_millis(200);
                config.downstream.keepalive_timeout = Duration::from_millis(200);
            }
        };
        let lab = Lab::start_with(plane, 1, quick);
        let bystander = Bystander::start(&lab).await;
        let hello = [wire::PREFACE.to_vec(), wire::settings(&[])].concat();
        let fields = block(&wire::grpc_fields(wire::UNARY));
        let half_block = wire::frame(kind::HEADERS, flag::END_STREAM, 1, &fields);
        let cases: [(&str, Vec<u8>); 6] = [
            ("nothing", Vec::new()),
            ("half a preface", wire::PREFACE[..10].to_vec()),
            ("no SETTINGS", wire::PREFACE.to_vec()),
            ("half a head", [hello.clone(), vec![0, 0]].concat()),
            ("half a frame", [hello.clone(), vec![0, 0, 8, 6, 0, 0, 0, 0, 0, 1]].concat()),
            ("half a block", [hello, half_block].concat()),
        ];
        let addr = lab.l7.addr();
        at_once(cases.map(|(what, bytes)| async move {
            let mut attacker = Peer::silent_client(addr).await;
            attacker.is_polite = false;
            attacker.send(&bytes).await.unwrap();
            within(what, ended(&mut attacker)).await;
        }))
        .await;
        let counts = ["handshake_timeout", "frame_timeout"].map(|reason| {
            lab.l7.metric(&format!("l7_connections_ended_total{{reason=\"{reason}\"}}"))
        });
        let by_keepalive = exceptions::ends_silent_frames_by_keepalive(plane);
        assert_eq!(counts, if by_keepalive { [2.0, 0.0] } else { [3.0, 3.0] });
        assert!(bystander.stop().await > 0);
    });
}

/// A connection without calls ends after a while, and one with a call does not.
#[test]
fn an_idle_connection_ends_and_a_busy_one_stays() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start_with(plane, 1, |config| {
            config.downstream.idle_timeout = Duration::from_millis(300);
        });
        let mut busy = Peer::client(lab.l7.addr(), &[]).await;
        busy.send(&wire::headers(1, &block(&wire::grpc_fields(wire::BIDI)), false)).await.unwrap();
        let mut idle = Peer::client(lab.l7.addr(), &[]).await;
        idle.send(&wire::unary_call(1)).await.unwrap();
        assert_eq!(idle.message(1).await.grpc_status(), Some("0"));
        assert_eq!(ended(&mut idle).await, Some(code::NO_ERROR));
        busy.send(&wire::data(1, &wire::message(&[]), true)).await.unwrap();
        let answer = busy.message(1).await;
        assert_eq!((answer.grpc_status(), answer.end), (Some("0"), Some(End::Whole)));
    });
}

/// Calls that are over at once, each well within the timeout after the last.
#[test]
fn a_connection_with_short_calls_is_not_idle() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start_with(plane, 1, |config| {
            config.downstream.idle_timeout = Duration::from_millis(400);
        });
        let mut client = Peer::client(lab.l7.addr(), &[]).await;
        let (began, mut stream) = (Instant::now(), 1);
        let mut last = began;
        while began.elapsed() < Duration::from_millis(1_500) {
            client.send(&wire::unary_call(stream)).await.unwrap();
            assert_eq!(client.message(stream).await.grpc_status(), Some("0"));
            // A machine that was busy for so long has made the connection idle.
            if last.elapsed() > Duration::from_millis(300) {
                return;
            }
            (stream, last) = (stream + 2, Instant::now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = client.passed_over().any(|seen| matches!(seen, Seen::GoAway { .. }));
        assert!(!left, "it was told to leave with calls on it");
    });
}

/// A thread that had no connection for longer than any patience does not charge
/// that time to the next one.
#[test]
fn silence_before_a_connection_is_not_charged_to_it() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start_with(plane, 1, |config| {
            config.downstream.write_stall_timeout = Duration::from_millis(200);
        });
        // The time passes that must not count.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let mut client = Peer::client(lab.l7.addr(), &[]).await;
        client.send(&wire::unary_call(1)).await.unwrap();
        let answer = client.message(1).await;
        assert_eq!((answer.end, answer.grpc_status()), (Some(End::Whole), Some("0")));
        assert_eq!(lab.l7.metric("l7_connections_ended_total{reason=\"write_stall\"}"), 0.0);
    });
}

/// A client that goes beyond the stream limit is refused the streams beyond it.
#[test]
fn streams_beyond_the_limit_are_refused() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::NeverAnswer).await;
        let mut config = l7_config(plane, &[backend.addr()]);
        config.downstream.max_concurrent_streams = 10;
        let l7 = start_l7(config);
        let mut attacker = Peer::client(l7.addr(), &[]).await;
        attacker.round_trip().await;
        for stream in (1..=29).step_by(2) {
            attacker.send(&call(stream, &[])).await.unwrap();
        }
        for stream in (21..=29).step_by(2) {
            let end = attacker.message(stream).await.end;
            assert_eq!(end, Some(End::Reset(code::REFUSED_STREAM)), "stream {stream}");
        }
        await_that("the calls within the limit", || backend.record().calls() == 10).await;
        attacker.round_trip().await;
        assert_eq!(backend.record().calls(), 10);
    });
}

/// A client fills a backend's connection and is ended for a mistake. Resets of
/// calls that the backend has not looked at are held back, and it answers no
/// question about them: the places are lost, and another client is not to wait
/// for them.
#[test]
fn a_client_that_was_ended_keeps_no_places_at_a_backend() {
    on_each_data_plane(async |plane| {
        if exceptions::waits_for_the_places_of_a_client_that_was_ended(plane) {
            return;
        }
        const PLACES: usize = 20;
        let streams = || (1..).step_by(2).take(PLACES);
        let mut wires = Wires::start_with(plane, |config| {
            config.upstream.backend_max_connections = 1;
            // One client may take them all.
            config.circuit.client_share = 1_000;
        })
        .await;
        wires.client.send(&call(1, &[])).await.unwrap();
        let allowed = [(setting::MAX_CONCURRENT_STREAMS, PLACES as u32)];
        let mut backend = wires.server.accept(&allowed).await;
        backend.next_headers().await;
        for stream in streams().skip(1) {
            wires.client.send(&call(stream, &[])).await.unwrap();
            backend.next_headers().await;
        }
        backend.is_polite = false;
        wires.client.send(&wire::data(0, b"to no stream", false)).await.unwrap();
        assert_eq!(ended(&mut wires.client).await, Some(code::PROTOCOL_ERROR));
        let mut other = Peer::client(wires.l7.addr(), &[]).await;
        for stream in streams() {
            other.send(&call(stream, &[])).await.unwrap();
        }
        let mut backend = wires.server.accept(&[]).await;
        for stream in streams() {
            let (there, _, _) = backend.next_headers().await;
            backend.send(&ok_response(there)).await.unwrap();
            assert_eq!(other.message(stream).await.grpc_status(), Some("0"));
        }
    });
}

/// A connection, unless it is turned away so fast that connecting fails.
async fn connect(addr: std::net::SocketAddr) -> Option<Peer> {
    match within("a connection", tokio::net::TcpStream::connect(addr)).await {
        Ok(stream) => Some(Peer::new(stream)),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("connecting failed: {error}"),
    }
}

/// Connections beyond the cap are closed at once, and those within it served.
#[test]
fn connections_beyond_the_cap_are_closed() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start_with(plane, 1, |config| config.downstream.max_connections = 2);
        let mut first = Peer::client(lab.l7.addr(), &[]).await;
        let mut second = Peer::client(lab.l7.addr(), &[]).await;
        first.round_trip().await;
        second.round_trip().await;
        if let Some(mut third) = connect(lab.l7.addr()).await {
            third.closed().await;
        }
        first.send(&wire::unary_call(1)).await.unwrap();
        assert_eq!(first.message(1).await.grpc_status(), Some("0"));
        drop(second);
        lab.l7.await_metric("l7_connections_open", |open| open == 1.0).await;
        // The place may be free a little later than the count falls.
        within("a place to be free", async {
            loop {
                let Some(mut fourth) = connect(lab.l7.addr()).await else { continue };
                let hello = [wire::PREFACE.to_vec(), wire::settings(&[])].concat();
                let is_sent = fourth.send(&hello).await.is_ok();
                if is_sent && matches!(fourth.next().await, Seen::Settings(_)) {
                    break;
                }
            }
        })
        .await;
    });
}
