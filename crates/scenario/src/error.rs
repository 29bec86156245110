//! Errors: one sentence that says where, what was found, what was expected,
//! and the nearest known name where a name is wrong.

use std::{fmt, io};

/// Why a scenario or a peer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder can't be read.
    #[error("cannot read {file}: {reason}")]
    Read {
        /// The file or folder.
        file: String,
        /// The system's word.
        reason: io::Error,
    },
    /// The content of a file, or a setting given in its place, is wrong.
    #[error(transparent)]
    Invalid(Invalid),
    /// No scenario has that name.
    #[error("no scenario is called `{name}`{hint}; known are {list}", hint = did_you_mean(name, known), list = list_of(known))]
    UnknownScenario {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No peer has that name.
    #[error("no peer is called `{name}`{hint}; known are {list}", hint = did_you_mean(name, known), list = list_of(known))]
    UnknownPeer {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No engine has that name.
    #[error("no engine is called `{name}`{hint}; known are {list}", hint = did_you_mean(name, known), list = list_of(known))]
    UnknownEngine {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A peer was asked for under a policy that is none, or that it has no use for.
    #[error("{0}")]
    PeerPolicy(String),
}

/// One thing wrong with a file or a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {}{message}", key_prefix(key))]
pub struct Invalid {
    /// Where it stands.
    pub place: Place,
    /// The key, as a path: `load.rate`, `expect.claims[2]`. Empty when the
    /// file as a whole is meant.
    pub key: String,
    /// What was found, what was expected, and what may have been meant.
    pub message: String,
}

/// Where something wrong stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file, as it was named to the reader.
        file: String,
        /// The line, from one.
        line: usize,
    },
    /// In a setting given from outside the file, quoted as the user wrote it:
    /// `--duration 0s`.
    Setting(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Setting(origin) => f.write_str(origin),
        }
    }
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// A problem that knows its key and not yet its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) key: String,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// Refuses the first of these keys that is set.
pub(crate) fn refuse(
    keys: impl IntoIterator<Item = (impl Into<String>, bool)>,
    message: impl Into<String>,
) -> Result<(), Problem> {
    let set = keys.into_iter().find(|(_, is_set)| *is_set);
    set.map_or(Ok(()), |(key, _)| Err(Problem::new(key, message)))
}

/// The candidate nearest to `name`, if one is near enough to have been meant.
pub fn nearest<'a>(name: &str, candidates: &'a [impl AsRef<str>]) -> Option<&'a str> {
    // A third of the letters may be wrong; two in short names, so that `lod`
    // still finds `load`.
    let most = (name.chars().count() / 3).max(2);
    let spelled = candidates
        .iter()
        .map(AsRef::as_ref)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= most && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    // `flood` for `single-conn-flood`: a part of a name, if it fits only one.
    spelled.or_else(|| {
        let mut holding = candidates
            .iter()
            .map(AsRef::as_ref)
            .filter(|known| name.len() > 2 && known.contains(name));
        holding.next().filter(|_| holding.next().is_none())
    })
}

/// `; did you mean ...?`, or nothing when no candidate is near.
pub(crate) fn did_you_mean(name: &str, candidates: &[impl AsRef<str>]) -> String {
    nearest(name, candidates).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Names in backticks, with commas.
pub(crate) fn list_of(names: &[impl AsRef<str>]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_may_have_been_meant() {
        let known = ["single-conn-flood", "few-conns", "many-conns"];
        assert_eq!(nearest("singel-con-flood", &known), Some("single-conn-flood"));
        assert_eq!(nearest("flood", &known), Some("single-conn-flood"));
        assert_eq!(nearest("few-cons", &known), Some("few-conns"));
        assert_eq!(nearest("conns", &known), None, "fits two");
        assert_eq!(nearest("payload-sweep", &known), None);
        assert_eq!(nearest("lod", &["load"]), Some("load"));
        assert_eq!(nearest("xy", &["l4", "l7"]), None);
    }
}
