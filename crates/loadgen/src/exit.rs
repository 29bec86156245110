//! Exit codes, and errors that know theirs.

use std::fmt;

/// Everything ran and every expectation held.
pub(crate) const FINE: u8 = 0;
/// An expectation of the scenario failed.
pub(crate) const EXPECTATION_FAILED: u8 = 1;
/// Bad usage or input; nothing was run.
pub(crate) const BAD_INPUT: u8 = 2;
/// The lab itself failed.
pub(crate) const LAB_FAILED: u8 = 3;
/// The user stopped it; what was measured is kept (128 + SIGINT, as shells do).
pub(crate) const INTERRUPTED: u8 = 130;

/// An error with the code the process exits with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    /// Something the user gave can't be used.
    pub(crate) fn bad_input(message: impl fmt::Display) -> Self {
        Self { code: BAD_INPUT, message: message.to_string() }
    }

    /// The lab could not do its work.
    pub(crate) fn lab(message: impl fmt::Display) -> Self {
        Self { code: LAB_FAILED, message: message.to_string() }
    }
}
