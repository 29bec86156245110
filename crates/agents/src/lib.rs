//! How the coordinator of a run and the agents on its nodes talk.
//!
//! | module | job |
//! |---|---|
//! | [`token`] | what an agent has to show, and what it knows the coordinator by |
//! | [`coordinator`] | waits for agents and leads them |
//! | [`agent`] | joins a run and does what the coordinator says |
//! | [`offset`] | how far two clocks are apart |
//! | [`calls`] | call logs in pieces, exactly |
//! | [`wire`] | the generated code of `proto/agents.proto` |
//!
//! Agents dial, so nodes need no open port. The coordinator listens under TLS with a
//! certificate made for the run, which the run's token holds; whoever does not show the
//! token is turned away before a message of theirs is decoded, and once all nodes have
//! joined the port is closed. Messages are bounded in size ([`MESSAGE_BYTES`]), and so is
//! what they ask for. Left out: what a step means, which is the lab's.
#![forbid(unsafe_code)]

pub mod agent;
pub mod calls;
pub mod coordinator;
#[doc(hidden)]
pub mod fuzzing;
pub mod offset;
pub mod token;

/// Messages, client and server of `layerlab.agents.v1.Coordinator`.
pub mod wire {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated; the documentation is in proto/agents.proto"
    )]
    include!("../generated/layerlab.agents.v1.rs");
}

use std::{fs::File, io, io::Read as _, path::Path, time::Duration};

use ring::digest::{Context, SHA256};

/// Version of the protocol: of `proto/agents.proto` and of what steps mean.
pub const PROTOCOL: u32 = 2;

/// Bytes of the largest message.
pub const MESSAGE_BYTES: usize = 32 << 20;

/// Most nodes of a run.
pub const NODES: usize = 256;

/// How long an agent waits for a sign of life of its coordinator before it takes it for lost.
/// Within two seconds nothing is to run on its node any more.
pub(crate) const COORDINATOR_LOST_AFTER: Duration = Duration::from_millis(1_500);

/// How long the coordinator waits for one of an agent. A node that is dead ends its
/// connection at once; one that is only busy has time to say so.
pub(crate) const AGENT_LOST_AFTER: Duration = Duration::from_secs(5);

/// How often the coordinator asks whether an agent is there.
const PING_EVERY: Duration = Duration::from_millis(100);

/// The name that the coordinator's certificate is for.
const NAME: &str = "coordinator.layerlab.test";

/// What tells one build of layerlab from another: the SHA-256 of its program, in
/// hexadecimal digits.
///
/// # Errors
/// When the program can't be read.
pub fn build_of(program: &Path) -> io::Result<String> {
    let mut file = File::open(program)?;
    let mut hash = Context::new(&SHA256);
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hash.update(&block[..read]),
        }
    }
    Ok(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nanoseconds of the monotonic clock, which the caller has.
pub type Now = fn() -> u64;
