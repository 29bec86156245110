//! See `l7_proxy::fuzzing::message_bodies`. Run with `cargo fuzz run message_bodies` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| l7_proxy::fuzzing::message_bodies(bytes));
