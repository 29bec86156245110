//! See `serve::fuzzing::http_request`. Run with `cargo fuzz run http_request` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serve::fuzzing::http_request(bytes));
