//! Any bytes to a connection of either role, with the owner's part played in between: no panic, no
//! byte consumed that was not there, and bounded output and state.
#![no_main]

use std::sync::Arc;

use h2_wire::{
    Reason,
    connection::{Connection, Event, FloodLimits, Options, Role},
    frame,
    hpack::Field,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&first, input)) = input.split_first() else { return };
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let floods = FloodLimits { control_frames: 200, resets: 50, stray_frames: 200 };
    let max_unacknowledged_resets = u32::from(first >> 1 & 3);
    let options =
        Options { max_streams: 10, floods, max_unacknowledged_resets, ..Options::new(role) };
    let mut http = Connection::<u32>::new(Arc::new(options));
    let mut bytes = match role {
        Role::Server => frame::PREFACE.to_vec(),
        Role::Client => Vec::new(),
    };
    frame::settings(&mut bytes, &[]);
    bytes.extend_from_slice(input);
    let request = [(":method", "POST"), (":scheme", "http"), (":path", "/")];
    let fields = |pairs: &'static [(&'static str, &'static str)]| {
        pairs.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes()))
    };
    if role == Role::Client {
        for user in 0..4 {
            if let Some(key) = http.open(user) {
                let list: Vec<_> =
                    request.iter().map(|(n, v)| Field::new(n.as_bytes(), v.as_bytes())).collect();
                http.send_headers(key, None, || list, false);
                http.send_data(key, &[7; 30_000], user % 2 == 0);
                if first >> 3 & 1 << user != 0 {
                    http.reset(key, Reason::CANCEL);
                }
            }
        }
    }
    let mut at = 0;
    loop {
        let read = match http.read(&bytes[at..]) {
            Ok(read) => read,
            Err(error) => return http.fail(&error),
        };
        at += read.consumed;
        assert!(at <= bytes.len());
        let Some(event) = read.event else { break };
        match event {
            Event::Request { key, end_stream, .. } => {
                http.set_user(key, key.id());
                http.send_headers(key, None, || fields(&[(":status", "200")]), false);
                http.send_data(key, &[1; 1_000], !end_stream);
            }
            Event::Data { key, payload, end_stream, .. } => {
                http.release_connection(payload.len() as u32);
                http.release_stream(key, payload.len() as u32);
                if end_stream {
                    http.send_trailers(key, &fields(&[("grpc-status", "0")]).collect());
                }
            }
            _ => {}
        }
        http.pump(&mut Vec::new());
        assert!(http.open_streams() <= 10);
        // What one input can make us say is a few answers to each of its frames.
        assert!(http.output_len() < (1 << 20) + bytes.len() * 8);
    }
});
