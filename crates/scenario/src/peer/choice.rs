//! A peer as scenarios name it: `l7`, or `l7:p2c` for the same peer with a
//! policy of its own, whatever the scenario's is, or `l7@retries` for the same peer with
//! settings of the scenario's. The same proxy under several policies or settings is then
//! compared as several peers are.

use balance::PolicyKind;

use crate::error::{did_you_mean, list_of};

/// The peer that stands for a balancer the lab did not start (`--target`). No folder
/// describes it; claims may speak of it.
pub const EXTERNAL_PEER: &str = "target";

/// Between a peer's name and its policy.
const POLICY: char = ':';
/// Between a peer's name and that of its settings.
const SETTINGS: char = '@';

/// What a peer was called before, and what to say to who still calls it so.
const RENAMED: [(&str, &str); 1] = [(
    "client-side",
    "`client-side` is called `client-lookaside` now, and `client-dns` is a client that learns of \
     backends as gRPC's do by default",
)];

/// A peer's name in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerName<'a> {
    /// Its folder's name.
    pub folder: &'a str,
    /// The scenario's settings that it is to have.
    pub settings: Option<&'a str>,
    /// The policy that it is to have in place of the scenario's.
    pub policy: Option<PolicyKind>,
}

/// Takes a name apart: `l7@retries:p2c`.
///
/// # Errors
/// In a sentence, when what follows the colon is no policy.
pub fn split_name(name: &str) -> Result<PeerName<'_>, String> {
    let (peer, policy) = match name.split_once(POLICY) {
        Some((peer, policy)) => (peer, Some(parse_policy(name, policy)?)),
        None => (name, None),
    };
    let (folder, settings) = match peer.split_once(SETTINGS) {
        Some((folder, settings)) => (folder, Some(settings)),
        None => (peer, None),
    };
    Ok(PeerName { folder, settings, policy })
}

fn parse_policy(name: &str, policy: &str) -> Result<PolicyKind, String> {
    let known = PolicyKind::ALL.map(PolicyKind::name);
    policy.parse().map_err(|_| {
        let (hint, list) = (did_you_mean(policy, &known), list_of(&known));
        format!("`{policy}` in `{name}` is no policy{hint}; known are {list}")
    })
}

/// Whether there is such a peer, as far as its name tells.
pub(crate) fn check_name<'a>(name: &'a str, known: &[String]) -> Result<PeerName<'a>, String> {
    let parts = split_name(name)?;
    let folder = parts.folder;
    if known.iter().any(|one| one == folder) {
        return Ok(parts);
    }
    if let Some((_, says)) = RENAMED.iter().find(|(before, _)| *before == folder) {
        return Err((*says).to_owned());
    }
    let (hint, list) = (did_you_mean(folder, known), list_of(known));
    Err(format!("unknown peer `{folder}`{hint}; known are {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_a_policy() {
        let name = |settings, policy| Ok(PeerName { folder: "l7", settings, policy });
        assert_eq!(split_name("l7"), name(None, None));
        assert_eq!(split_name("l7:p2c"), name(None, Some(PolicyKind::P2c)));
        assert_eq!(split_name("l7@a-b"), name(Some("a-b"), None));
        assert_eq!(split_name("l7@a:p2c"), name(Some("a"), Some(PolicyKind::P2c)));
        let error = split_name("l7:p2d").unwrap_err();
        assert!(error.contains("did you mean `p2c`?"), "{error}");
        let known = ["l7".to_owned()];
        assert_eq!(check_name("l7:random", &known).unwrap().policy, Some(PolicyKind::Random));
        assert!(check_name("l8:random", &known).unwrap_err().contains("did you mean `l7`?"));
        let renamed = check_name("client-side:p2c", &known).unwrap_err();
        assert!(renamed.contains("`client-lookaside` now"), "{renamed}");
    }
}
