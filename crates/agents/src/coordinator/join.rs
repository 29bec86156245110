//! Who may join a run, and the connection of one who did.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::sync::mpsc as queue;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::node::{Node, serve};
use crate::{
    Now, PROTOCOL,
    wire::{self, FromAgent, Hello, ToAgent, from_agent},
};

/// How long an agent may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that wait to be sent to one agent.
const QUEUED: usize = 64;
/// Characters of the longest text that says who an agent is, its environment apart.
const NAME_CHARACTERS: usize = 256;
/// Characters of what it says of its machine.
const ENVIRONMENT_CHARACTERS: usize = 16 << 10;

/// What came of an agent that wanted to join.
pub(super) enum Joined {
    Node(Node),
    Refused(Refused),
}

/// Why an agent that has the token may not join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It speaks another version of the protocol.
    Protocol {
        /// Where it is.
        host: String,
        /// The version.
        theirs: u32,
    },
    /// It is another build of layerlab.
    Build {
        /// Where it is.
        host: String,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol { host, theirs } => write!(
                f,
                "layerlab on {host} speaks version {theirs} of the agents' protocol, and the \
                 coordinator version {PROTOCOL}; install the same build on all nodes"
            ),
            Self::Build { host } => write!(
                f,
                "layerlab on {host} is another build than the coordinator's; install the same \
                 program on all nodes"
            ),
        }
    }
}

/// The service that agents join by.
pub(super) struct Joiner {
    wanted: usize,
    build: String,
    now: Now,
    count: AtomicUsize,
    sender: mpsc::Sender<Joined>,
}

impl Joiner {
    pub(super) fn new(
        wanted: usize,
        build: String,
        now: Now,
        sender: mpsc::Sender<Joined>,
    ) -> Self {
        Self { wanted, build, now, count: AtomicUsize::new(0), sender }
    }

    /// Whether an agent may join.
    fn check(&self, hello: &Hello) -> Result<(), Refused> {
        let host = hello.host.clone();
        if hello.protocol != PROTOCOL {
            return Err(Refused::Protocol { host, theirs: hello.protocol });
        }
        if hello.build != self.build {
            return Err(Refused::Build { host });
        }
        Ok(())
    }
}

/// Whether what an agent says of itself is of a size that makes sense.
fn is_bounded(hello: &Hello) -> bool {
    let names = [&hello.build, &hello.host, &hello.machine, &hello.address];
    names.into_iter().all(|name| name.len() <= NAME_CHARACTERS)
        && hello.environment_json.len() <= ENVIRONMENT_CHARACTERS
}

#[tonic::async_trait]
impl wire::coordinator_server::Coordinator for Joiner {
    type JoinStream = ReceiverStream<Result<ToAgent, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(from_agent::What::Hello(hello)) = first.and_then(|message| message.what) else {
            return Err(Status::invalid_argument("the first message has to be a hello"));
        };
        if !is_bounded(&hello) {
            return Err(Status::invalid_argument("the hello is too long"));
        }
        if let Err(refused) = self.check(&hello) {
            let said = refused.to_string();
            let _ = self.sender.send(Joined::Refused(refused));
            return Err(Status::failed_precondition(said));
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.wanted {
            return Err(Status::resource_exhausted("all agents of the run have joined"));
        }
        let (to_agent, messages) = queue::channel(QUEUED);
        let (node, inbox) = Node::new(hello, to_agent);
        tokio::spawn(serve(Arc::clone(&inbox), incoming, self.now));
        // Whoever waited may have given up; then the node is let go of.
        let _ = self.sender.send(Joined::Node(node));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> u64 {
        0
    }

    #[test]
    fn another_build_or_protocol_may_not_join() {
        let (sender, _joined) = mpsc::channel();
        let joiner = Joiner::new(1, "b".into(), now, sender);
        let hello =
            Hello { protocol: PROTOCOL, build: "b".into(), host: "n1".into(), ..Hello::default() };
        assert_eq!(joiner.check(&hello), Ok(()));
        let other = Hello { build: "c".into(), ..hello.clone() };
        let refused = joiner.check(&other).unwrap_err().to_string();
        assert!(refused.contains("layerlab on n1 is another build"), "{refused}");
        let older = Hello { protocol: PROTOCOL + 1, ..hello.clone() };
        assert!(matches!(joiner.check(&older), Err(Refused::Protocol { .. })));
        let long = Hello { host: "n".repeat(NAME_CHARACTERS + 1), ..hello.clone() };
        assert!(is_bounded(&hello) && !is_bounded(&long));
    }
}
