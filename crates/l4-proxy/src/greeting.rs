//! What is read of a client before a backend is chosen for it: a PROXY header,
//! a TLS ClientHello, or both in this order.
//!
//! The bytes are looked at where they are, in the socket's queue (MSG_PEEK),
//! so a connection owns no buffer meanwhile and what is not the proxy's flows
//! on by itself. A stranger who sends a hello byte by byte makes the proxy look
//! at up to [`HELLO_BYTES_MAX`] again for each, about what the packet costs the
//! kernel; the number of bytes and the time are bounded.

use crate::{
    client_hello::{self, HELLO_BYTES_MAX, Hello},
    config::Config,
    proxy_protocol::{self, Addresses, HEADER_BYTES_MAX, Header},
    routes::Routes,
};

/// The most that is looked at. The scratch buffer is larger, and a header is
/// taken out before a hello is looked at.
pub(crate) const GREETING_BYTES_MAX: usize = HELLO_BYTES_MAX;
const _: () = assert!(HEADER_BYTES_MAX <= GREETING_BYTES_MAX);

/// What a proxy reads of every client.
#[derive(Clone, Debug)]
pub(crate) struct Greetings {
    expects_header: bool,
    routes: Routes,
}

/// How far one client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Header,
    Hello,
    Done,
}

/// What to do with a client after looking at its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Wait for more.
    More,
    /// Take this many bytes out of its queue, note the addresses, go on.
    Header { length: usize, addresses: Option<Addresses> },
    /// It belongs to this group of backends.
    Group(Option<String>),
    /// It is not what was expected.
    Malformed,
}

impl Greetings {
    pub(crate) fn new(config: &Config) -> Self {
        Self { expects_header: config.proxy_protocol_in, routes: Routes::new(&config.sni) }
    }

    /// Where a new connection begins.
    pub(crate) fn first(&self) -> Stage {
        if self.expects_header { Stage::Header } else { self.after_header() }
    }

    /// What follows a header.
    pub(crate) fn after_header(&self) -> Stage {
        if self.routes.is_empty() { Stage::Done } else { Stage::Hello }
    }

    /// Judges the bytes at the front of a client's queue.
    pub(crate) fn judge(&self, stage: Stage, bytes: &[u8]) -> Verdict {
        match stage {
            Stage::Header => {
                match proxy_protocol::parse(&bytes[..bytes.len().min(HEADER_BYTES_MAX)]) {
                    Header::Partial => Verdict::More,
                    Header::Whole { length, addresses } => Verdict::Header { length, addresses },
                    Header::Malformed => Verdict::Malformed,
                }
            }
            Stage::Hello => match client_hello::parse(&bytes[..bytes.len().min(HELLO_BYTES_MAX)]) {
                Hello::Partial => Verdict::More,
                Hello::Whole { server_name } => {
                    let group =
                        server_name.and_then(|name| self.routes.group(&name).map(str::to_owned));
                    Verdict::Group(group)
                }
                Hello::Malformed => Verdict::Malformed,
            },
            Stage::Done => Verdict::Group(None),
        }
    }
}
