//! A peer as scenarios name it: `l7`, or `l7:p2c` for the same peer with a
//! policy of its own, whatever the scenario's is. The same proxy under several
//! policies is then compared as several peers are.

use balance::PolicyKind;

use crate::error::{did_you_mean, list_of};

/// The peer that stands for a balancer the lab did not start (`--target`). No folder
/// describes it; claims may speak of it.
pub const EXTERNAL_PEER: &str = "target";

/// Between a peer's name and its policy.
const SEPARATOR: char = ':';

/// What a peer was called before, and what to say to who still calls it so.
const RENAMED: [(&str, &str); 1] = [(
    "client-side",
    "`client-side` is called `client-lookaside` now, and `client-dns` is a client that learns of \
     backends as gRPC's do by default",
)];

/// A peer's folder, and the policy it is to have in place of the scenario's.
///
/// # Errors
/// In a sentence, when what follows the colon is no policy.
pub fn split_name(name: &str) -> Result<(&str, Option<PolicyKind>), String> {
    let Some((folder, policy)) = name.split_once(SEPARATOR) else { return Ok((name, None)) };
    let known = PolicyKind::ALL.map(PolicyKind::name);
    let policy = policy.parse().map_err(|_| {
        let (hint, list) = (did_you_mean(policy, &known), list_of(&known));
        format!("`{policy}` in `{name}` is no policy{hint}; known are {list}")
    })?;
    Ok((folder, Some(policy)))
}

/// Whether there is such a peer, as far as its name tells.
pub(crate) fn check_name(name: &str, known: &[String]) -> Result<Option<PolicyKind>, String> {
    let (folder, policy) = split_name(name)?;
    if known.iter().any(|one| one == folder) {
        return Ok(policy);
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
        assert_eq!(split_name("l7"), Ok(("l7", None)));
        assert_eq!(split_name("l7:p2c"), Ok(("l7", Some(PolicyKind::P2c))));
        let error = split_name("l7:p2d").unwrap_err();
        assert!(error.contains("did you mean `p2c`?"), "{error}");
        let known = ["l7".to_owned()];
        assert_eq!(check_name("l7:random", &known), Ok(Some(PolicyKind::Random)));
        assert!(check_name("l8:random", &known).unwrap_err().contains("did you mean `l7`?"));
        let renamed = check_name("client-side:p2c", &known).unwrap_err();
        assert!(renamed.contains("`client-lookaside` now"), "{renamed}");
    }
}
