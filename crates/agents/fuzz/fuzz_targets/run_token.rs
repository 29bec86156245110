//! See `agents::fuzzing::run_token`. Run with `cargo fuzz run run_token` in the crate's folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agents::fuzzing::run_token(bytes));
