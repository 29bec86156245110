//! See `l7_proxy::fuzzing::frame_walks`. Run with `cargo fuzz run frame_walks` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| l7_proxy::fuzzing::frame_walks(bytes));
