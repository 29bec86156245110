//! See `l4_proxy::fuzzing::client_hello`. Run with `cargo fuzz run client_hello` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| l4_proxy::fuzzing::client_hello(bytes));
