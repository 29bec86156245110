//! See `serve::fuzzing::health_answer`. Run with `cargo fuzz run health_answer` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serve::fuzzing::health_answer(bytes));
