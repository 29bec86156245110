//! Peers: ways from client to backends, as data.
//!
//! A peer is a folder under `scenarios/peers/` with a `peer.toml` and the
//! templates of its configuration files. Our own proxies are described by the
//! same files as everyone else's, so that every peer is launched, probed and
//! billed alike, and a user adds a proxy without touching Rust.

mod check;
mod choice;
mod input;
mod locate;
mod render;
mod template;
mod tls;
pub(crate) mod wire;

use std::path::PathBuf;

use balance::PolicyKind;
pub(crate) use check::{candidates, check, check_file_names, template_error};
pub(crate) use choice::check_name;
pub use choice::{EXTERNAL_PEER, PeerName, split_name};
pub use input::{RenderInput, Target};
pub(crate) use locate::locate;
pub use locate::{Lookup, NotFound};
pub use measure::record::Discovery;
pub use render::{RenderError, Rendered, RenderedFile, RenderedHow, RenderedReload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use template::Template;
pub(crate) use template::pieces;
use tls::PeerTls;
pub use tls::TlsFiles;

/// Where in the stack a peer balances.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// No balancer: each connection goes to one backend in turn.
    None,
    /// Connections are balanced.
    L4,
    /// Calls are balanced by a proxy.
    L7,
    /// Calls are balanced by the client itself.
    Client,
}

impl Layer {
    /// Its name in peer files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::L4 => "l4",
            Self::L7 => "l7",
            Self::Client => "client",
        }
    }

    /// Whether something stands between client and backends that a command
    /// starts or sets up.
    pub fn stands_between(self) -> bool {
        matches!(self, Self::L4 | Self::L7)
    }
}

/// The signal that asks a proxy to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGKILL, for those that know no other end.
    Kill,
}

/// The signal that tells a proxy to read its files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReloadSignal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// One way from client to backends, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its name: its folder's, with the policy and the settings where it was asked for under
    /// some ([`split_name`]).
    pub name: String,
    /// Name of the scenario's settings that it was asked for with.
    pub settings: Option<String>,
    /// The policy it was asked for under, in place of the scenario's.
    pub policy: Option<PolicyKind>,
    /// Its name for people.
    pub title: String,
    /// Where it balances.
    pub layer: Layer,
    /// What it is, in a sentence or two.
    pub description: String,
    /// How clients learn of backends where they balance; `None` at the other layers.
    pub discovery: Option<Discovery>,
    /// The process it is; `None` for the layers that have none.
    pub process: Option<Process>,
}

/// A proxy as a process, or what sets the kernel up to be one.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Where `{program}` may be, in order. Empty when the command needs none.
    pub find: Vec<Candidate>,
    /// How to get it, for people who miss it.
    pub install: Option<String>,
    /// The signal that asks it to end.
    pub stop_signal: StopSignal,
    /// Whether the command only sets the kernel up in the balancer's network
    /// namespace and ends; what balances is then no process.
    pub in_kernel: bool,
    /// Whether its first process is a master over others that do the work.
    pub has_workers: bool,
    policies: Vec<(PolicyKind, String)>,
    /// Policies that heed weights; `None` when all do.
    weighted: Option<Vec<PolicyKind>>,
    command: Vec<Template>,
    version_command: Vec<Template>,
    config: Vec<ConfigFile>,
    environment: Vec<(String, Template)>,
    reload: Option<Reload>,
    tls: PeerTls,
    /// Words that tell it a setting, by the setting's name.
    settings: Vec<(String, Vec<Template>)>,
}

/// How a proxy learns of backends that join or leave.
#[derive(Clone, Debug, PartialEq)]
struct Reload {
    how: ReloadHow,
    /// The address of a page that names its backends.
    lists: Template,
}

/// What tells a proxy that its files are new.
#[derive(Clone, Debug, PartialEq)]
enum ReloadHow {
    /// Nothing: it watches them.
    Watches,
    Signal(ReloadSignal),
    Command(Vec<Template>),
}

/// A place where a program may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// An environment variable that holds a path.
    Env(String),
    /// A path in the folder that `scripts/install-peers.sh` fills.
    Peers(PathBuf),
    /// A program on PATH.
    Path(String),
}

/// A configuration file to render.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConfigFile {
    name: String,
    template: Template,
}

impl Peer {
    /// Whether the kernel itself is the balancer.
    pub fn in_kernel(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.in_kernel)
    }

    /// The policies it can do, in the order of [`PolicyKind::ALL`]. Peers
    /// without a process do all that send no probes: `none` has nothing to pick, and
    /// the client is our own.
    pub fn policies(&self) -> Vec<PolicyKind> {
        match &self.process {
            None => PolicyKind::ALL.into_iter().filter(|policy| !policy.uses_probes()).collect(),
            Some(process) => process.policies.iter().map(|(policy, _)| *policy).collect(),
        }
    }
}
