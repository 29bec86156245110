//! Our connections against those of the `h2` crate: random messages, windows, frame sizes and cuts
//! of the bytes, echoed whole in both directions.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use h2_wire::{
    connection::{Connection, Event, Options, Role},
    hpack::Field,
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Runtime,
};

/// Windows and sizes of one run.
#[derive(Clone, Debug)]
struct Shape {
    window: u32,
    connection_window: u32,
    frame: u32,
    /// Bytes the pipe holds: how finely the bytes are cut.
    pipe: usize,
    /// Output beyond which DATA waits.
    output: usize,
    streams: u32,
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        16_u32..40_000,
        65_535_u32..100_000,
        16_384_u32..30_000,
        16_usize..5_000,
        1_usize..50_000,
        1_u32..6,
    )
        .prop_map(|(window, connection_window, frame, pipe, output, streams)| Shape {
            window,
            connection_window,
            frame,
            pipe,
            output,
            streams,
        })
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let message = (any::<u8>(), 0_usize..60_000).prop_map(|(first, length)| {
        (0..length).map(|place| first.wrapping_add((place % 251) as u8)).collect()
    });
    prop::collection::vec(message, 1..8)
}

fn options(role: Role, shape: &Shape) -> Options {
    Options {
        stream_window_bytes: shape.window,
        connection_window_bytes: shape.connection_window,
        max_frame_bytes: shape.frame,
        max_streams: shape.streams,
        output_high_bytes: shape.output,
        ..Options::new(role)
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Writes all output.
async fn write(io: &mut DuplexStream, http: &mut Connection<u32>) {
    loop {
        http.pump(&mut Vec::new());
        if http.output().is_empty() {
            return;
        }
        let written = io.write(http.output()).await.expect("an open pipe");
        http.wrote(written);
    }
}

const REQUEST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "here")];

fn fields(pairs: &'static [(&str, &str)]) -> impl Iterator<Item = Field<'static>> {
    pairs.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes()))
}

/// Our client: sends each message in two parts, and gives the answers.
async fn our_client(mut io: DuplexStream, shape: Shape, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut http = Connection::new(Arc::new(options(Role::Client, &shape)));
    let mut answers = vec![Vec::new(); messages.len()];
    let (mut next, mut done) = (0, 0);
    let (mut input, mut buffer) = (Vec::new(), vec![0; 10_000]);
    while done < messages.len() {
        while http.has_settings() && next < messages.len() && http.can_open() {
            let key = http.open(next as u32).expect("a place");
            let (first, second) = messages[next].split_at(messages[next].len() / 3);
            http.send_headers(key, None, || fields(&REQUEST), false);
            http.send_data(key, first, false);
            http.send_data(key, second, true);
            next += 1;
        }
        // The pipe is small, so both directions have to go on at once.
        http.pump(&mut Vec::new());
        let (mut reader, mut writer) = tokio::io::split(&mut io);
        tokio::select! {
            written = writer.write(http.output()), if !http.output().is_empty() => {
                http.wrote(written.expect("an open pipe"));
            }
            received = reader.read(&mut buffer) => {
                let received = received.expect("an open pipe");
                assert!(received > 0, "the server went away");
                input.extend_from_slice(&buffer[..received]);
                done += client_events(&mut http, &mut input, &mut answers);
            }
        }
    }
    write(&mut io, &mut http).await;
    answers
}

/// Reads all events; gives the number of calls that ended.
fn client_events(
    http: &mut Connection<u32>,
    input: &mut Vec<u8>,
    answers: &mut [Vec<u8>],
) -> usize {
    let (mut at, mut done) = (0, 0);
    loop {
        let read = http.read(&input[at..]).expect("a well-behaved server");
        at += read.consumed;
        match read.event {
            None => break,
            Some(Event::Data { key, user, payload, .. }) => {
                answers[user as usize].extend_from_slice(payload);
                http.release_stream(key, payload.len() as u32);
                http.release_connection(payload.len() as u32);
            }
            Some(Event::Trailers { .. }) => {
                assert_eq!(http.headers().value_of_name(b"grpc-status"), Some(&b"0"[..]));
                done += 1;
            }
            Some(Event::Response { end_stream, .. }) => assert!(!end_stream),
            Some(Event::Settings | Event::Acknowledged) => {}
            Some(event) => panic!("unexpected {event:?}"),
        }
    }
    input.drain(..at);
    done
}

/// An echo server on the oracle.
async fn h2_server(io: DuplexStream, shape: Shape) {
    let mut server = h2::server::Builder::new()
        .initial_window_size(shape.window)
        .initial_connection_window_size(shape.connection_window)
        .max_frame_size(shape.frame)
        .max_concurrent_streams(shape.streams)
        .handshake::<_, Bytes>(io)
        .await
        .expect("a well-behaved client");
    while let Some(Ok((request, mut respond))) = server.accept().await {
        tokio::spawn(async move {
            let body = collect(request.into_body()).await;
            let response = http::Response::new(());
            let mut send = respond.send_response(response, false).expect("an open stream");
            send.send_data(Bytes::from(body), false).expect("an open stream");
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            send.send_trailers(trailers).expect("an open stream");
        });
    }
}

async fn collect(mut body: h2::RecvStream) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("an open stream");
        body.flow_control().release_capacity(chunk.len()).expect("what was taken");
        whole.extend_from_slice(&chunk);
    }
    whole
}

/// Our server: echoes a message when it is whole.
async fn our_server(mut io: DuplexStream, shape: Shape) {
    let mut http = Connection::new(Arc::new(options(Role::Server, &shape)));
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let (mut input, mut buffer) = (Vec::new(), vec![0; 10_000]);
    loop {
        http.pump(&mut Vec::new());
        let (mut reader, mut writer) = tokio::io::split(&mut io);
        tokio::select! {
            written = writer.write(http.output()), if !http.output().is_empty() => {
                let Ok(written) = written else { return };
                http.wrote(written);
            }
            received = reader.read(&mut buffer) => {
                let Ok(1..) = received else { return };
                input.extend_from_slice(&buffer[..received.unwrap_or(0)]);
                server_events(&mut http, &mut input, &mut bodies);
            }
        }
    }
}

fn server_events(
    http: &mut Connection<u32>,
    input: &mut Vec<u8>,
    bodies: &mut BTreeMap<u32, Vec<u8>>,
) {
    let mut at = 0;
    loop {
        let read = http.read(&input[at..]).expect("a well-behaved client");
        at += read.consumed;
        match read.event {
            None => break,
            Some(Event::Request { key, .. }) => {
                http.set_user(key, key.id());
                bodies.insert(key.id(), Vec::new());
            }
            Some(Event::Data { key, user, payload, end_stream }) => {
                let body = bodies.get_mut(&user).expect("a request before its body");
                body.extend_from_slice(payload);
                http.release_stream(key, payload.len() as u32);
                http.release_connection(payload.len() as u32);
                if end_stream {
                    let body = bodies.remove(&user).unwrap_or_default();
                    http.send_headers(key, None, || fields(&[(":status", "200")]), false);
                    http.send_data(key, &body, false);
                    let trailers = fields(&[("grpc-status", "0")]).collect();
                    http.send_trailers(key, &trailers);
                }
            }
            Some(Event::Settings | Event::Acknowledged | Event::GoAway { .. }) => {}
            Some(event) => panic!("unexpected {event:?}"),
        }
    }
    input.drain(..at);
}

/// A client on the oracle: all calls at once.
async fn h2_client(io: DuplexStream, shape: Shape, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(shape.window)
        .initial_connection_window_size(shape.connection_window)
        .max_frame_size(shape.frame)
        // It would open more before it has read how many it may.
        .initial_max_send_streams(1)
        .handshake::<_, Bytes>(io)
        .await
        .expect("a well-behaved server");
    tokio::spawn(connection);
    let mut calls = Vec::new();
    for message in messages {
        let client = client.clone();
        calls.push(tokio::spawn(async move {
            let mut client = client.ready().await.expect("an open connection");
            let request = http::Request::post("http://here/").body(()).expect("a request");
            let (response, mut send) = client.send_request(request, false).expect("a place");
            send.send_data(Bytes::from(message), true).expect("an open stream");
            let mut body = response.await.expect("a response").into_body();
            let mut whole = Vec::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk.expect("an open stream");
                body.flow_control().release_capacity(chunk.len()).expect("what was taken");
                whole.extend_from_slice(&chunk);
            }
            let trailers = body.trailers().await.expect("an open stream").expect("trailers");
            assert_eq!(trailers["grpc-status"], "0");
            whole
        }));
    }
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("no panic"));
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn our_client_is_served_by_the_oracle(shape in shape(), messages in messages()) {
        let answers = runtime().block_on(async {
            let (ours, theirs) = duplex(shape.pipe);
            tokio::spawn(h2_server(theirs, shape.clone()));
            our_client(ours, shape, messages.clone()).await
        });
        prop_assert!(answers == messages);
    }

    #[test]
    fn our_server_serves_the_oracle(shape in shape(), messages in messages()) {
        let answers = runtime().block_on(async {
            let (ours, theirs) = duplex(shape.pipe);
            tokio::spawn(our_server(ours, shape.clone()));
            h2_client(theirs, shape, messages.clone()).await
        });
        prop_assert!(answers == messages);
    }

    /// Whatever comes behind a greeting, reading it never panics, and what was consumed is within
    /// the input.
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), frames in frames()) {
        for role in [Role::Server, Role::Client] {
            let mut http = Connection::<u32>::new(Arc::new(Options::new(role)));
            let mut input = match role {
                Role::Server => h2_wire::frame::PREFACE.to_vec(),
                Role::Client => Vec::new(),
            };
            h2_wire::frame::settings(&mut input, &[]);
            input.extend_from_slice(&frames);
            input.extend_from_slice(&bytes);
            let mut at = 0;
            while let Ok(read) = http.read(&input[at..]) {
                at += read.consumed;
                prop_assert!(at <= input.len());
                if read.event.is_none() {
                    break;
                }
                http.pump(&mut Vec::new());
            }
        }
    }
}

/// Frames with plausible heads and any payload.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0_u8..11, any::<u8>(), 0_u32..8, prop::collection::vec(any::<u8>(), 0..30));
    prop::collection::vec(frame, 0..20).prop_map(|frames| {
        let mut bytes = Vec::new();
        for (kind, flags, stream, payload) in frames {
            let length = payload.len() as u32;
            let head = h2_wire::frame::Head { length, kind, flags, stream };
            h2_wire::frame::head(&mut bytes, head);
            bytes.extend_from_slice(&payload);
        }
        bytes
    })
}
