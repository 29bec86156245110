//! See `l7_proxy::fuzzing::header_values`. Run with `cargo fuzz run header_values` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| l7_proxy::fuzzing::header_values(bytes));
