//! The process's limit on open files, which a proxy meets first: two
//! descriptors a connection.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit and gives the limit
/// then in force; `None` means that there is none.
///
/// The soft limit exists for programs that use `select`, which breaks above
/// 1024 descriptors; nothing here does.
///
/// # Errors
/// When the kernel refuses, which it does not for a soft limit within the hard
/// one.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_meets_the_hard_one() {
        let raised = raise_open_files().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(raised, now.maximum);
    }
}
