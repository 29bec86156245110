//! The privilege that namespaces need: root, or a user namespace.
//!
//! To make a network namespace takes CAP_SYS_ADMIN, and to set it up
//! CAP_NET_ADMIN. Who has both goes on as he is. Everyone else moves into a user
//! namespace of his own, where he has them over what he makes there and over
//! nothing else (user_namespaces(7)). User and group stay what they are, so
//! files belong to whom they always did and proxies that care who starts them
//! behave as ever; capabilities would be lost with the next `exec` of anyone but
//! root, so the two are made ambient (capabilities(7)).

use std::{fs, io};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities,
};

use super::Namespace;

const NEEDED: [CapabilitySet; 2] = [CapabilitySet::SYS_ADMIN, CapabilitySet::NET_ADMIN];

/// Makes this process able to make network namespaces, or says why it can't be,
/// and what to do. Must be called while it has a single thread: the kernel moves
/// no other process into a user namespace.
///
/// # Errors
/// With what is missing and what to do.
pub(crate) fn prepare() -> Result<(), Unprivileged> {
    if !has_needed()? {
        enter_user_namespace()?;
    }
    Namespace::new()?;
    Ok(())
}

/// Network namespaces can't be made here.
#[derive(Debug, thiserror::Error)]
#[error(
    "`network = \"namespaces\"` can't be had here: {0}; it needs root (in a container, the \
     capabilities SYS_ADMIN and NET_ADMIN), or a kernel that gives user namespaces to anyone; \
     `network = \"loopback\"` needs nothing"
)]
pub(crate) struct Unprivileged(#[from] io::Error);

fn has_needed() -> io::Result<bool> {
    let effective = capabilities(None)?.effective;
    Ok(NEEDED.into_iter().all(|needed| effective.contains(needed)))
}

fn enter_user_namespace() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // Without this nobody but root may map a group: it would be a way to shed
    // groups that are there to deny something.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    // No others are kept: the guard looks into this process for its namespace,
    // and may only where it has all that this one has.
    let kept = NEEDED.into_iter().collect();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    set_capabilities(None, sets)?;
    for needed in NEEDED {
        configure_capability_in_ambient_set(needed, true)?;
    }
    Ok(())
}
