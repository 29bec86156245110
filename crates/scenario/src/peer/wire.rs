//! A peer file as it is written.

use std::collections::{BTreeMap, HashMap};

use balance::PolicyKind;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Discovery, Layer, ReloadSignal, StopSignal};

/// A layerlab peer: one way from client to backends. A proxy is data here: how
/// to find it, to start it, and to write its configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "layerlab peer")]
pub(crate) struct PeerWire {
    /// Its name for people.
    pub(crate) title: String,
    /// Where it balances.
    pub(crate) layer: Layer,
    /// What it is, in a sentence or two.
    pub(crate) description: String,
    /// How clients learn which backends there are, for layer client: `dns` (they resolve a
    /// name, as gRPC does) or `lookaside` (they are told of each change at once).
    pub(crate) discovery: Option<Discovery>,
    /// Program and arguments, with placeholders: {program}, {loadgen},
    /// {listen}, {listen_host}, {listen_port}, {admin}, {admin_host},
    /// {admin_port}, {policy}, {threads}, {config}, {dir}, {backend_count}, {max_streams},
    /// {client_tls}, {backend_tls}, {own_zone}, {zone_proxies}. A `{each backend}...{end}`
    /// becomes one word a backend, and may also use {addr}, {host}, {port}, {weight}, {id},
    /// {index}, {zone}; a `{each zone}...{end}` likewise, with {zone} and {proxies}. `{{word}}` stands for a literal `{word}`. Layers l4 and l7 need a
    /// command; none and client have none.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// Prints the version, with the same placeholders.
    #[serde(default)]
    pub(crate) version_command: Vec<String>,
    /// Where {program} may be, in order: `env:NAME` (a variable that holds a
    /// path), `peers:PATH` (in the folder that scripts/install-peers.sh fills),
    /// `path:NAME` (a program on PATH).
    #[serde(default)]
    pub(crate) find: Vec<String>,
    /// How to get it, for people who miss it.
    pub(crate) install: Option<String>,
    /// Names of config templates beside this file. They are rendered, with the
    /// same placeholders, into {dir} under the same names; {config} is the
    /// first. A line that holds only {each backend}, {each zone} or {end} leaves no line.
    #[serde(default)]
    pub(crate) config: Vec<String>,
    /// Our policies in the proxy's words, which {policy} stands for. A policy
    /// that is not here is one it can't do.
    #[serde(default)]
    pub(crate) policies: HashMap<PolicyKind, String>,
    /// Policies that heed the backends' weights, if not all of them do. A
    /// scenario with unequal weights is refused for the others.
    pub(crate) weighted: Option<Vec<PolicyKind>>,
    /// Whether the command sets the kernel up to balance, in the balancer's
    /// network namespace, and ends; `false` unless given. Such a peer runs only
    /// where the scenario has `network = "namespaces"`.
    #[serde(default)]
    pub(crate) in_kernel: bool,
    /// Whether its first process is a master over others that do the work; `false`
    /// unless given. When the first one is killed the lab then ends the others too,
    /// which may not notice by themselves.
    #[serde(default)]
    pub(crate) has_workers: bool,
    /// Signal that asks it to end; `term` unless given.
    pub(crate) stop_signal: Option<StopSignal>,
    /// How it learns of backends that join or leave while it runs. Without it the
    /// peer is left out of scenarios in which some do.
    pub(crate) reload: Option<ReloadWire>,
    /// How it speaks TLS, for layer l7. A side that is not here is one on which it
    /// can't; l4 passes it through.
    #[serde(default)]
    pub(crate) tls: TlsWire,
    /// What tells it a setting that a scenario has in `[settings.NAME]`: words after those of
    /// the command, with {value} where the value goes. Times are written as `50ms`, parts in
    /// percent without the sign. A setting that is not here is one it hasn't.
    #[serde(default)]
    #[schemars(example = settings_example())]
    pub(crate) settings: BTreeMap<String, Vec<String>>,
    /// Environment variables, with the same placeholders as the command.
    #[serde(default)]
    #[schemars(example = json!({ "HOME": "{dir}" }))]
    pub(crate) environment: BTreeMap<String, String>,
}

fn settings_example() -> BTreeMap<String, Vec<String>> {
    let words = ["--slow-start", "{value}"].map(str::to_owned).to_vec();
    BTreeMap::from([("slow_start".to_owned(), words)])
}

/// How a proxy speaks TLS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsWire {
    /// To clients: it ends their TLS.
    pub(crate) client: Option<TlsSideWire>,
    /// To backends: it begins TLS.
    pub(crate) backend: Option<TlsSideWire>,
}

/// What one side of a proxy takes to speak TLS with HTTP/2 agreed on by ALPN.
/// `arguments` and `on` may also use {tls_cert} and {tls_key}, its own certificate
/// with its key, {tls_ca}, the authority that has signed the backends', and
/// {tls_name}, the name that those are for; all files are PEM, and the key is at the
/// certificate's path with `.key` after it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSideWire {
    /// Words after those of the command, where this side speaks TLS.
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    /// What {client_tls} or {backend_tls} stands for, where this side speaks TLS.
    pub(crate) on: Option<String>,
    /// What it stands for where it doesn't; nothing unless given.
    pub(crate) off: Option<String>,
}

/// How a proxy learns of backends that join or leave: its config templates are
/// rendered again, each file is replaced in one step, and then it is told so by a
/// signal or a command. With neither it watches its files by itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReloadWire {
    /// Signal to its first process.
    pub(crate) signal: Option<ReloadSignal>,
    /// Program and arguments, with the same placeholders as the command.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// A page that shows it has heard, as `http://{admin}/...`: it holds the
    /// address of every backend the proxy knows, and of no other.
    pub(crate) lists: String,
}
