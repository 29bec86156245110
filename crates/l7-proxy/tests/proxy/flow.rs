//! Flow control: what a slow reader costs, and what it must not cost others.

use echo_proto::v1::EchoRequest;
use prost::Message as _;
use testkit::{
    lab::{Lab, echo_client},
    negative::response_head,
    on_each_data_plane,
    peer::{Peer, Seen},
    wire::{self, setting},
    within,
};
use tonic::transport::Endpoint;

use crate::common::{Wires, echo, open};

/// Responses of the slow stream, and the size of each: in all far more than
/// all windows and buffers on the way hold.
const RESPONSES: u32 = 64;
const RESPONSE_BYTES: usize = 1 << 20;

#[test]
fn a_slow_reader_is_waited_for_while_other_streams_proceed() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        // Windows far smaller than the response, and one connection for both.
        let endpoint = Endpoint::from_shared(format!("http://{}", lab.l7.addr())).unwrap();
        let endpoint =
            endpoint.initial_stream_window_size(65_535).initial_connection_window_size(1 << 20);
        let mut client = echo_client(endpoint.connect().await.unwrap());
        let request = EchoRequest {
            response_count: RESPONSES,
            response_bytes: RESPONSE_BYTES as u32,
            payload: vec![7],
            sequence: 1,
        };
        let mut slow = client.server_stream(request).await.unwrap().into_inner();
        // Nobody reads `slow` yet.
        for sequence in 0..50 {
            let request = echo(sequence, vec![1; 10_000]);
            within("another stream", client.unary(request)).await.unwrap();
        }
        let stream = &lab.backends[0].counters().server_stream;
        assert_eq!(stream.in_flight.get(), 1, "64 MiB must not have been taken by anybody");
        let mut count = 0;
        while let Some(response) = within("a response", slow.message()).await.unwrap() {
            assert_eq!(response.payload.len(), RESPONSE_BYTES);
            count += 1;
        }
        assert_eq!(count, RESPONSES);
    });
}

/// Responses that one client does not take use up no connection that others need.
#[test]
fn calls_of_others_go_on_beside_responses_that_nobody_takes() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start_with(plane, 1, |config| config.upstream.backend_max_connections = 1);
        let mut greedy = Peer::client(lab.l7.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        let request = EchoRequest { response_bytes: 300_000, ..EchoRequest::default() };
        let message = wire::message(&request.encode_to_vec());
        let streams = || (1..).step_by(2).take(400);
        for stream in streams() {
            let call = [open(stream, &[]), wire::data(stream, &message, true)].concat();
            greedy.send(&call).await.unwrap();
        }
        for stream in streams() {
            let Seen::Headers { .. } = greedy.next_on(stream).await else { panic!("headers") };
        }
        let mut other = lab.client().await;
        for sequence in 0..20 {
            within("another's call", other.unary(echo(sequence, vec![1; 100_000]))).await.unwrap();
        }
    });
}

/// The backend sends until the proxy gives it no more window; the client gives
/// none at all. What the proxy then holds is what it advertised.
#[test]
fn a_client_without_a_window_stops_the_backend() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let window = 65_535;
        wires.client = Peer::client(wires.l7.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        let (mut backend, stream, _) = wires.begin().await;
        backend.send(&response_head(stream)).await.unwrap();
        let chunk = vec![0; 16_383];
        let mut sent = 0;
        // The first window is given at the start; more than a few must not
        // follow while the client takes nothing.
        let mut granted = initial_window(&mut backend).await;
        while granted < 8 * window {
            while sent + chunk.len() <= granted {
                backend.send(&wire::data(stream, &chunk, false)).await.unwrap();
                sent += chunk.len();
            }
            // Everything sent was read when the answer to a PING is back, and a
            // window update for it would stand before that answer if the proxy
            // gave one without waiting for the client.
            backend.round_trip().await;
            backend.round_trip().await;
            let updates: usize = stream_updates(&mut backend, stream);
            if updates == 0 {
                break;
            }
            granted += updates;
        }
        assert!(granted < 8 * window, "{granted} bytes were taken from the backend");
        let Seen::Headers { .. } = wires.client.next_on(1).await else { panic!("headers") };
        // The window opens, and everything arrives.
        wires.client.send(&wire::window_update(1, 1 << 30)).await.unwrap();
        backend
            .send(&wire::headers(stream, &wire::block(&[("grpc-status", "0")]), true))
            .await
            .unwrap();
        assert_eq!(wires.client.message(1).await.body.len(), sent);
    });
}

/// The sum of the window updates of a stream so far.
fn stream_updates(peer: &mut Peer, stream: u32) -> usize {
    let updates = peer.take_passed_over(
        |seen| matches!(seen, Seen::WindowUpdate { stream: of, .. } if *of == stream),
    );
    let increment = |seen: &Seen| match seen {
        Seen::WindowUpdate { increment, .. } => *increment as usize,
        _ => 0,
    };
    updates.iter().map(increment).sum()
}

/// The same in the other direction: a backend that reads nothing stops the
/// client, and no call of others.
#[test]
fn a_backend_without_a_window_stops_the_client() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        wires.client.send(&open(1, &[])).await.unwrap();
        let mut backend = wires.server.accept(&[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        let (stream, _, _) = backend.next_headers().await;
        let chunk = vec![0; 16_383];
        let (mut sent, mut granted) = (0, 65_535);
        while granted < 8 * 65_535 {
            while sent + chunk.len() <= granted {
                wires.client.send(&wire::data(1, &chunk, false)).await.unwrap();
                sent += chunk.len();
            }
            wires.client.round_trip().await;
            wires.client.round_trip().await;
            let updates = stream_updates(&mut wires.client, 1);
            if updates == 0 {
                break;
            }
            granted += updates;
        }
        assert!(granted < 8 * 65_535, "{granted} bytes were taken from the client");
        // Another call on the same two connections is not held up.
        wires.client.send(&open(3, &[])).await.unwrap();
        let (other, _, _) = backend.next_headers().await;
        backend.send(&testkit::negative::ok_response(other)).await.unwrap();
        assert_eq!(wires.client.message(3).await.grpc_status(), Some("0"));
        // The window opens, and everything arrives.
        backend.send(&wire::window_update(stream, 1 << 30)).await.unwrap();
        wires.client.send(&wire::data(1, &[], true)).await.unwrap();
        assert_eq!(backend.message(stream).await.body.len(), sent);
    });
}

/// Thousands of small messages to a reader that is slow are normal traffic.
#[test]
fn a_long_stream_of_tiny_messages_to_a_slow_reader_lives() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let endpoint = Endpoint::from_shared(format!("http://{}", lab.l7.addr())).unwrap();
        let endpoint = endpoint.initial_stream_window_size(1_000);
        let mut client = echo_client(endpoint.connect().await.unwrap());
        let requests = (0..5_000).map(|sequence| echo(sequence, vec![3; 10]));
        let mut responses = client.bidi(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let mut count = 0;
        while let Some(response) = within("a response", responses.message()).await.unwrap() {
            assert_eq!(response.sequence, count);
            count += 1;
            if count % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(count, 5_000);
    });
}

/// Backends get no more credit for the calls of one client than may wait for
/// it, so nothing has to be reset when it takes nothing. Over `hyper` the bound
/// is that of the streams' windows, added up.
#[test]
fn the_credit_for_one_clients_calls_is_bounded() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        const STREAMS: usize = 64;
        const MOST_BYTES: usize = 1 << 20;
        let mut wires = Wires::start_with(l7_proxy::DataPlane::Relay, |config| {
            config.downstream.max_waiting_response_bytes = MOST_BYTES;
            config.downstream.max_concurrent_streams = STREAMS as u32;
        })
        .await;
        wires.client = Peer::client(wires.l7.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        let (mut backend, first, _) = wires.begin().await;
        let mut streams = vec![first];
        for stream in (3..).step_by(2).take(STREAMS - 1) {
            wires.client.send(&crate::common::call(stream, &[])).await.unwrap();
            streams.push(backend.next_headers().await.0);
        }
        backend.round_trip().await;
        let initial = initial_window(&mut backend).await;
        let windows: Vec<usize> =
            streams.iter().map(|stream| initial + stream_updates(&mut backend, *stream)).collect();
        assert!(windows.iter().sum::<usize>() <= MOST_BYTES, "{windows:?}");
        assert!(windows.iter().all(|window| *window > 1_000), "each has a share: {windows:?}");
        assert_eq!(windows[0], 65_535, "a whole window while there is room");
        for (stream, window) in streams.iter().zip(&windows) {
            backend.send(&response_head(*stream)).await.unwrap();
            for part in vec![0; *window].chunks(16_384) {
                backend.send(&wire::data(*stream, part, false)).await.unwrap();
            }
        }
        // What waits takes the place of credit, and there is no more of it.
        backend.round_trip().await;
        assert!(streams.iter().all(|stream| stream_updates(&mut backend, *stream) == 0));
        // The windows open, and everything arrives.
        for (index, window) in windows.iter().enumerate() {
            let stream = 1 + 2 * index as u32;
            wires.client.send(&wire::window_update(stream, 1 << 20)).await.unwrap();
            let mut arrived = 0;
            while arrived < *window {
                match wires.client.next_on(stream).await {
                    Seen::Data { payload, .. } => arrived += payload.len(),
                    Seen::Headers { .. } => {}
                    other => panic!("{other:?} on stream {stream} after {arrived} bytes"),
                }
            }
        }
        for (index, stream) in streams.iter().enumerate() {
            backend.send(&testkit::negative::ok_trailers(*stream)).await.unwrap();
            let answer = wires.client.message(1 + 2 * index as u32).await;
            assert_eq!(answer.grpc_status(), Some("0"));
        }
    });
}

/// The window that a peer's SETTINGS give each of its streams.
async fn initial_window(peer: &mut Peer) -> usize {
    let seen = peer.next_that("SETTINGS", |seen| matches!(seen, Seen::Settings(_))).await;
    let Seen::Settings(values) = seen else { panic!("SETTINGS") };
    let found = values.iter().find(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE);
    found.map_or(65_535, |(_, value)| *value as usize)
}

/// Many downloads to a client that takes them late: in all far more than may
/// wait for it. It is waited for, and gets everything.
#[test]
fn many_downloads_to_a_slow_reader_are_held_back_and_none_is_lost() {
    on_each_data_plane(async |plane| {
        const DOWNLOADS: usize = 300;
        const BYTES: u32 = 100 << 10;
        let lab = Lab::start_with(plane, 1, |config| {
            config.downstream.max_waiting_response_bytes = 4 << 20;
        });
        let mut slow = Peer::client(lab.l7.addr(), &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        let request = EchoRequest { response_bytes: BYTES, ..EchoRequest::default() };
        let message = wire::message(&request.encode_to_vec());
        let streams = || (1..).step_by(2).take(DOWNLOADS);
        for stream in streams() {
            let call = [open(stream, &[]), wire::data(stream, &message, true)].concat();
            slow.send(&call).await.unwrap();
        }
        for stream in streams() {
            let Seen::Headers { .. } = slow.next_on(stream).await else { panic!("headers") };
        }
        // Meanwhile the backend sends what it has credit for.
        let mut other = lab.client().await;
        for sequence in 0..100 {
            within("another's call", other.unary(echo(sequence, vec![1; 1_000]))).await.unwrap();
        }
        let wide = wire::settings(&[(setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
        slow.send(&wide).await.unwrap();
        for stream in streams() {
            let answer = slow.message(stream).await;
            assert_eq!(answer.grpc_status(), Some("0"), "stream {stream}: {:?}", answer.end);
            assert!(answer.body.len() > BYTES as usize);
        }
        assert_eq!(lab.l7.metric("l7_streams_overfull_total"), 0.0);
    });
}
