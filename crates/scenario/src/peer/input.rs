//! What a peer is rendered with: from what is known of a trial to the value of each placeholder.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use balance::PolicyKind;
use measure::record::Tls;

use super::{
    template::{Each, Global, Local, Values},
    tls::TlsFiles,
};
use crate::settings::ProxySettings;

/// Streams of a client's connection where the scenario does not say how many: more than
/// nearly any scenario has, and the same for all.
const MAX_STREAMS: u32 = 1024;

/// What a peer is rendered with.
#[derive(Clone, Copy, Debug)]
pub struct RenderInput<'a> {
    /// The lab's own program.
    pub loadgen: &'a Path,
    /// The peer's program, from [`super::Peer::locate`].
    pub program: Option<&'a Path>,
    /// Where the peer listens.
    pub listen: SocketAddr,
    /// Where it answers questions about itself, if it does.
    pub admin: SocketAddr,
    /// The backends behind it.
    pub backends: &'a [Target],
    /// How it picks.
    pub policy: PolicyKind,
    /// How many streams it allows on a client's connection, if the scenario says so.
    pub max_streams: Option<u32>,
    /// How many threads it runs on.
    pub threads: u32,
    /// The zone that it is in; empty where there are none.
    pub own_zone: &'a str,
    /// Of each zone that something is called from: its name, and the part of what is called that
    /// comes to its proxies.
    pub zone_proxies: &'a [(String, u32)],
    /// What else it is set to; `None` for nothing.
    pub settings: Option<&'a ProxySettings>,
    /// Which of its sides speak TLS.
    pub tls: Tls,
    /// What it speaks it with.
    pub tls_files: TlsFiles<'a>,
    /// The folder its files are written to.
    pub dir: &'a Path,
}

/// A backend as a peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// Its address.
    pub addr: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Its zone; empty where there are none.
    pub zone: String,
}

/// The values of a peer's placeholders.
pub(super) struct Filled<'a> {
    pub(super) input: &'a RenderInput<'a>,
    /// The peer's word for the policy.
    pub(super) policy: &'a str,
    pub(super) config: Option<PathBuf>,
    /// What stands for the clients' and the backends' side.
    pub(super) tls: [String; 2],
    /// The value of the setting whose words are rendered; they alone have a place for it.
    pub(super) value: &'a str,
}

impl Values for Filled<'_> {
    fn global(&self, global: Global) -> Option<String> {
        let path = |path: &Path| path.display().to_string();
        Some(match global {
            Global::Program => path(self.input.program?),
            Global::Loadgen => path(self.input.loadgen),
            Global::Listen => self.input.listen.to_string(),
            Global::ListenHost => self.input.listen.ip().to_string(),
            Global::ListenPort => self.input.listen.port().to_string(),
            Global::Admin => self.input.admin.to_string(),
            Global::AdminHost => self.input.admin.ip().to_string(),
            Global::AdminPort => self.input.admin.port().to_string(),
            Global::Policy => self.policy.to_owned(),
            Global::Threads => self.input.threads.to_string(),
            Global::Value => self.value.to_owned(),
            Global::Config => path(self.config.as_deref()?),
            Global::Dir => path(self.input.dir),
            Global::BackendCount => self.input.backends.len().to_string(),
            Global::MaxStreams => self.input.max_streams.unwrap_or(MAX_STREAMS).to_string(),
            Global::ClientTls => self.tls[0].clone(),
            Global::BackendTls => self.tls[1].clone(),
            Global::TlsCa => path(self.input.tls_files.ca),
            Global::TlsCert => path(self.input.tls_files.cert),
            Global::TlsKey => path(self.input.tls_files.key),
            Global::TlsName => self.input.tls_files.name.to_owned(),
            Global::OwnZone => self.input.own_zone.to_owned(),
            Global::ZoneProxies => {
                let parts = self.input.zone_proxies.iter();
                parts.map(|(name, part)| format!("{name}={part}")).collect::<Vec<_>>().join(",")
            }
        })
    }

    fn count(&self, each: Each) -> usize {
        match each {
            Each::Backend => self.input.backends.len(),
            Each::Zone => self.input.zone_proxies.len(),
        }
    }

    fn local(&self, each: Each, index: usize, local: Local) -> String {
        match each {
            Each::Backend => self.of_backend(index, local),
            Each::Zone => {
                let (name, part) = &self.input.zone_proxies[index];
                if local == Local::Proxies { part.to_string() } else { name.clone() }
            }
        }
    }
}

impl Filled<'_> {
    fn of_backend(&self, backend: usize, local: Local) -> String {
        let target = &self.input.backends[backend];
        match local {
            Local::Addr => target.addr.to_string(),
            Local::Host => target.addr.ip().to_string(),
            Local::Port => target.addr.port().to_string(),
            Local::Weight => target.weight.to_string(),
            Local::Id => target.id.clone(),
            Local::Index => backend.to_string(),
            Local::Zone => target.zone.clone(),
            // The parser lets it stand only within `{each zone}`.
            Local::Proxies => String::new(),
        }
    }
}
