//! What one frame head, one header block and one Huffman string cost, next to other crates.
//!
//! The blocks are those of a unary gRPC call between common implementations: `warm` ones come
//! after the tables have settled, `fresh` ones carry a trace id and a timeout that never repeat.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use h2_wire::{
    frame::{self, Frame},
    hpack::{BlockKey, Decoder, Encoder, EncoderOptions, Field, HeaderList, ListLimits, huffman},
};

const REQUEST: [(&str, &str); 8] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/layerlab.echo.v1.Echo/Unary"),
    (":authority", "127.0.0.1:50051"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "tonic/0.14.2"),
    ("grpc-accept-encoding", "identity,deflate,gzip"),
];

const TRACED: [(&str, &str); 2] = [
    ("grpc-timeout", "4999871u"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
];

fn list(pairs: &[(&str, &str)]) -> HeaderList {
    pairs.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes())).collect()
}

fn bench_frames(c: &mut Criterion) {
    let mut bytes = Vec::new();
    for stream in (1..65).step_by(2) {
        frame::data(&mut bytes, stream, &[7; 37], true);
    }
    c.bench_function("frame/parse 32 DATA", |b| {
        b.iter(|| {
            let mut rest = &bytes[..];
            let mut sum = 0;
            while let Ok(Some((frame, length))) = frame::parse(black_box(rest), 16_384) {
                if let Frame::Data { payload, .. } = frame {
                    sum += payload.len();
                }
                rest = &rest[length..];
            }
            sum
        });
    });
}

fn bench_huffman(c: &mut Criterion) {
    let text = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut code = Vec::new();
    huffman::encode(text, &mut code);
    let mut group = c.benchmark_group("huffman traceparent");
    let mut out = Vec::with_capacity(1024);
    group.bench_function("decode", |b| {
        b.iter(|| {
            out.clear();
            huffman::decode(black_box(&code), &mut out).is_ok()
        });
    });
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            huffman::encode(black_box(text), &mut out);
            out.len()
        });
    });
    group.bench_function("decode, httlib-huffman", |b| {
        b.iter(|| {
            out.clear();
            httlib_huffman::decode(
                black_box(&code),
                &mut out,
                httlib_huffman::DecoderSpeed::FiveBits,
            )
            .is_ok()
        });
    });
    group.bench_function("encode, httlib-huffman", |b| {
        b.iter(|| {
            out.clear();
            httlib_huffman::encode(black_box(text), &mut out).is_ok()
        });
    });
}

/// The block of `pairs` as the second and every later call of a connection sends it, and a decoder
/// that knows the tables.
fn settled(pairs: &[(&str, &str)]) -> (Encoder, Decoder, Vec<u8>) {
    let mut encoder = Encoder::new(EncoderOptions::default());
    let mut decoder = Decoder::new(ListLimits::default());
    let list = list(pairs);
    let mut block = Vec::new();
    for _ in 0..2 {
        block.clear();
        encoder.encode(list.iter(), &mut block);
        decoder.decode(&block).expect("valid");
    }
    (encoder, decoder, block)
}

fn bench_decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("hpack decode");
    let (_, mut decoder, warm) = settled(&REQUEST);
    group.bench_function("warm request, remembered", |b| {
        b.iter(|| {
            decoder.decode(black_box(&warm)).expect("valid");
            decoder.list().len()
        });
    });
    // Two blocks in turn that fall on one candidate slot are never kept; decoding always happens.
    group.bench_function("warm request, decoded", |b| {
        b.iter(|| {
            decoder.shrink();
            decoder.decode(black_box(&warm)).expect("valid");
            decoder.list().len()
        });
    });
    let traced: Vec<_> = REQUEST.iter().chain(&TRACED).copied().collect();
    let (_, mut decoder, fresh) = settled(&traced);
    // A block above the memory's bound is decoded every time; padding it with a field that is
    // never indexed would change the work, so the decoder is made to forget instead.
    group.bench_function("fresh request with trace", |b| {
        b.iter(|| {
            decoder.shrink();
            decoder.decode(black_box(&fresh)).expect("valid");
            decoder.list().len()
        });
    });
    for (name, pairs) in [("warm request", &REQUEST[..]), ("fresh request with trace", &traced)] {
        let (_, _, block) = settled(pairs);
        let mut oracle = fluke_hpack::Decoder::new();
        let mut first = Vec::new();
        Encoder::new(EncoderOptions::default()).encode(list(pairs).iter(), &mut first);
        oracle.decode(&first).expect("valid");
        group.bench_function(format!("{name}, fluke-hpack"), |b| {
            b.iter(|| oracle.decode(black_box(&block)).expect("valid").len());
        });
    }
}

fn bench_encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("hpack encode");
    let traced: Vec<_> = REQUEST.iter().chain(&TRACED).copied().collect();
    let mut out = Vec::with_capacity(4096);
    let request = list(&REQUEST);
    let (mut encoder, _, _) = settled(&REQUEST);
    let key = BlockKey::unique();
    group.bench_function("warm request, by key", |b| {
        b.iter(|| {
            out.clear();
            encoder.encode_keyed(black_box(key), || request.iter(), &mut out);
            out.len()
        });
    });
    for (name, pairs) in [("warm request", &REQUEST[..]), ("fresh request with trace", &traced)] {
        let fields = list(pairs);
        let (mut encoder, _, _) = settled(pairs);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                encoder.encode(black_box(&fields).iter(), &mut out);
                out.len()
            });
        });
        let mut oracle = fluke_hpack::Encoder::new();
        group.bench_function(format!("{name}, fluke-hpack"), |b| {
            b.iter(|| {
                let fields = black_box(&fields).iter().map(|field| (field.name, field.value));
                oracle.encode(fields).len()
            });
        });
    }
}

criterion_group!(benches, bench_frames, bench_huffman, bench_decode, bench_encode);
criterion_main!(benches);
