//! Any bytes as frames: no panic, and nothing is read beyond the input.
#![no_main]

use h2_wire::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while let Ok(Some((_, length))) = frame::parse(rest, 16_384) {
        assert!(length <= rest.len() && length >= frame::HEAD_LEN);
        rest = &rest[length..];
    }
});
