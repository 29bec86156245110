//! See `serve::fuzzing::admin_requests`. Run with `cargo fuzz run admin_requests` in the crate's
//! folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serve::fuzzing::admin_requests(bytes));
