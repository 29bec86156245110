//! See `agents::fuzzing::agent_messages`. Run with `cargo fuzz run agent_messages` in the
//! crate's folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agents::fuzzing::agent_messages(bytes));
