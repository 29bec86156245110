//! Finding a peer's program: a pure function of the environment and the disk,
//! which are passed in.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{Candidate, Peer};

/// Where systems keep the programs of their administrators: proxies and `nft`
/// are there, and the PATH of other users often leaves it out.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where to look.
pub struct Lookup<'a> {
    /// The value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The folder that `scripts/install-peers.sh` fills.
    pub peers_folder: &'a Path,
    /// Whether a path is a file that can be executed.
    pub is_program: &'a dyn Fn(&Path) -> bool,
}

/// A peer's program is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{peer} is not installed: looked for {}{}", tried.join(", "), hint(install))]
pub struct NotFound {
    /// The peer.
    pub peer: String,
    /// Where it was looked for, in words.
    pub tried: Vec<String>,
    /// How to get it.
    pub install: Option<String>,
}

fn hint(install: &Option<String>) -> String {
    install.as_ref().map(|install| format!("; to get it: {install}")).unwrap_or_default()
}

impl Peer {
    /// The peer's program; `Ok(None)` for a peer that needs none.
    ///
    /// A variable that is set counts even if what it names is no program: who
    /// sets it wants that program and no other.
    ///
    /// # Errors
    /// [`NotFound`] with the places looked at.
    pub fn locate(&self, lookup: &Lookup<'_>) -> Result<Option<PathBuf>, NotFound> {
        let Some(process) = self.process.as_ref().filter(|process| !process.find.is_empty()) else {
            return Ok(None);
        };
        locate(&self.name, &process.find, process.install.as_ref(), lookup).map(Some)
    }
}

/// The program that is found first.
pub(crate) fn locate(
    name: &str,
    find: &[Candidate],
    install: Option<&String>,
    lookup: &Lookup<'_>,
) -> Result<PathBuf, NotFound> {
    let mut tried = Vec::new();
    for candidate in find {
        match candidate {
            Candidate::Env(name) => match (lookup.env)(name) {
                None => tried.push(format!("${name} (not set)")),
                Some(path) => {
                    let path = PathBuf::from(path);
                    if (lookup.is_program)(&path) {
                        return Ok(path);
                    }
                    tried.push(format!("${name} ({} is no program)", path.display()));
                    break;
                }
            },
            Candidate::Peers(relative) => {
                let path = lookup.peers_folder.join(relative);
                if (lookup.is_program)(&path) {
                    return Ok(path);
                }
                tried.push(path.display().to_string());
            }
            Candidate::Path(name) => {
                let path = (lookup.env)("PATH");
                let found = path
                    .iter()
                    .flat_map(std::env::split_paths)
                    .chain(SYSTEM_FOLDERS.map(PathBuf::from))
                    .map(|folder| folder.join(name))
                    .find(|path| (lookup.is_program)(path));
                if let Some(found) = found {
                    return Ok(found);
                }
                tried.push(format!("{name} on PATH"));
            }
        }
    }
    Err(NotFound { peer: name.to_owned(), tried, install: install.cloned() })
}
