//! How a program of the lab ends: an exit code that scripts can tell apart,
//! and one line on standard error.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | done, and what was expected did not come out (the lab only) |
//! | 2 | bad usage or bad input |
//! | 3 | failed at run time |

use std::{error::Error, fmt, io::Write as _, process::ExitCode};

/// The code of bad usage and bad input; clap uses the same.
pub const USAGE: u8 = 2;
/// The code of a failure at run time.
pub const FAILED: u8 = 3;

/// Why a program ends without having done its work, and whose mistake it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The user asked for something that can't be: exit code 2.
    pub fn usage(error: impl fmt::Display) -> Self {
        Self { code: USAGE, message: error.to_string() }
    }

    /// It was asked for rightly and failed: exit code 3. The message is the
    /// error with its sources, joined by colons.
    pub fn failed(error: impl Error) -> Self {
        Self { code: FAILED, message: chain(&error) }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// Ends `main`: prints `error: ...` for a failure, and gives the exit code.
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(format_args!("error: {failure}"));
            ExitCode::from(failure.code)
        }
    }
}

/// Says something on standard error. Not eprintln!, which panics when nobody can
/// read that any more, as after the terminal was closed.
pub fn note(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// An error and its sources on one line, leaving out a source whose text the
/// error above it already contains.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the outer thing failed")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn sources_are_joined_and_codes_kept() {
        let failure = Failure::failed(Outer(std::io::Error::other("inner\nreason")));
        assert_eq!(failure.to_string(), "the outer thing failed: inner reason");
        assert_eq!(failure.code(), 3);
        assert_eq!(Failure::usage("bad flag").code(), 2);
    }
}
