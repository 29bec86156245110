//! See `l4_proxy::fuzzing::proxy_header`. Run with `cargo fuzz run proxy_header` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| l4_proxy::fuzzing::proxy_header(bytes));
