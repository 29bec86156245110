//! See `serve::fuzzing::backends_file`. Run with `cargo fuzz run backends_file` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serve::fuzzing::backends_file(bytes));
