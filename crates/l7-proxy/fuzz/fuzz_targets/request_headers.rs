//! See `l7_proxy::fuzzing::request_headers`. Run with `cargo fuzz run request_headers` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| l7_proxy::fuzzing::request_headers(bytes));
