//! Exit codes, and errors that know theirs.

use std::{fmt, io};

use measure::folder::FolderError;

/// Everything ran and every expectation held.
pub(crate) const FINE: u8 = 0;
/// An expectation of the scenario failed.
pub(crate) const EXPECTATION_FAILED: u8 = 1;
/// Bad usage or input.
pub(crate) const BAD_INPUT: u8 = 2;
/// The lab itself failed, or had nothing to measure: a trial without a call that was due
/// or that succeeded, which nobody expected.
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

    /// Something can't be written. A place that is none is the user's mistake; a disk that
    /// is full is not.
    pub(crate) fn writing(what: impl fmt::Display, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let message = format!("{what}: {error}");
        match error.kind() {
            Kind::NotFound
            | Kind::PermissionDenied
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::ReadOnlyFilesystem
            | Kind::InvalidFilename => Self::bad_input(message),
            _ => Self::lab(message),
        }
    }

    /// The lab could not do its work.
    pub(crate) fn lab(message: impl fmt::Display) -> Self {
        Self { code: LAB_FAILED, message: message.to_string() }
    }
}

/// A report that could not be made: of a folder that can't be read, or because it can't be
/// written.
impl From<report::Error> for Failure {
    fn from(error: report::Error) -> Self {
        match error {
            report::Error::Folder(error) => Self::bad_input(error),
            report::Error::Io { path, error } => Self::writing(path.display(), &error),
            report::Error::Png(error) => Self::lab(error),
        }
    }
}

impl From<analysis::decide::Error> for Failure {
    fn from(error: analysis::decide::Error) -> Self {
        Self::bad_input(error)
    }
}

/// A record that could not be written.
impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Io { path, error } => Self::writing(path.display(), &error),
            other => Self::lab(other),
        }
    }
}
