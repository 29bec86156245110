//! TLS of a peer: on which of its sides it can speak it, and what it takes.
//!
//! Only what reads calls can end TLS and begin it again, so only layer `l7` has
//! something to say of it. Every other peer passes bytes on, and client and backend
//! speak it with each other or not at all.

use std::path::Path;

use measure::record::Tls;

use super::{
    Layer, Peer, Process,
    template::{Global, Template, Values, template, templates},
    wire::{TlsSideWire, TlsWire},
};
use crate::error::Problem;

/// What a proxy speaks TLS with; all files are PEM.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    /// The authority that has signed the backends' certificates.
    pub ca: &'a Path,
    /// The proxy's own certificate.
    pub cert: &'a Path,
    /// Its key: the certificate's path with `.key` after it.
    pub key: &'a Path,
    /// The name that all certificates are for.
    pub name: &'a str,
}

impl Default for TlsFiles<'_> {
    fn default() -> Self {
        let none = Path::new("");
        Self { ca: none, cert: none, key: none, name: "" }
    }
}

/// A side of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Backend,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }

    /// What stands for it in templates.
    fn placeholder(self) -> Global {
        match self {
            Self::Client => Global::ClientTls,
            Self::Backend => Global::BackendTls,
        }
    }

    fn speaks(self, tls: Tls) -> bool {
        match self {
            Self::Client => tls.of_clients(),
            Self::Backend => tls.of_backends(),
        }
    }
}

/// What a proxy takes to speak TLS; `None` on a side where it can't.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PeerTls {
    client: Option<TlsSide>,
    backend: Option<TlsSide>,
}

#[derive(Clone, Debug, PartialEq)]
struct TlsSide {
    arguments: Vec<Template>,
    on: Option<Template>,
    off: Option<Template>,
}

impl PeerTls {
    fn side(&self, side: Side) -> Option<&TlsSide> {
        match side {
            Side::Client => self.client.as_ref(),
            Side::Backend => self.backend.as_ref(),
        }
    }

    /// Words for the command.
    pub(super) fn arguments(&self, tls: Tls) -> impl Iterator<Item = &Template> {
        let speaking = Side::BOTH.into_iter().filter(move |side| side.speaks(tls));
        speaking.filter_map(|side| self.side(side)).flat_map(|side| &side.arguments)
    }

    /// What stands for a side in templates.
    pub(super) fn word(&self, side: Side, tls: Tls, values: &dyn Values) -> Result<String, Global> {
        let word = |found: &TlsSide| {
            if side.speaks(tls) { found.on.clone() } else { found.off.clone() }
        };
        let word = self.side(side).and_then(word);
        word.map_or(Ok(String::new()), |word| word.render(values))
    }
}

impl Peer {
    /// Why it can't speak TLS on these sides; `None` where it can.
    pub(super) fn cannot_speak(&self, tls: Tls) -> Option<String> {
        if tls == Tls::None {
            return None;
        }
        let Some(process) = self.process.as_ref().filter(|_| self.layer == Layer::L7) else {
            let what = match self.layer {
                Layer::L4 => "it passes bytes through",
                _ => "nothing stands between client and backend",
            };
            let one_side = tls.of_clients() != tls.of_backends();
            return one_side.then(|| {
                format!("{what}, so that both sides speak TLS or none; it can do `none` and `both`")
            });
        };
        let missing = |side: &Side| side.speaks(tls) && process.tls.side(*side).is_none();
        let side = Side::BOTH.into_iter().find(missing)?.name();
        Some(format!("its peer.toml has no [tls.{side}] that says how it speaks TLS to {side}s"))
    }
}

/// Understands what a peer file says of TLS.
pub(super) fn check(wire: &TlsWire, layer: Layer) -> Result<PeerTls, Problem> {
    let of = |side: Side, wire: &Option<TlsSideWire>| {
        wire.as_ref().map(|wire| check_side(side, wire, layer)).transpose()
    };
    Ok(PeerTls {
        client: of(Side::Client, &wire.client)?,
        backend: of(Side::Backend, &wire.backend)?,
    })
}

fn check_side(side: Side, wire: &TlsSideWire, layer: Layer) -> Result<TlsSide, Problem> {
    let key = |name: &str| format!("tls.{}{name}", side.name());
    if layer != Layer::L7 {
        let layer = layer.name();
        let message = format!("a peer of layer `{layer}` passes TLS through; take this out");
        return Err(Problem::new(key(""), message));
    }
    if wire.arguments.is_empty() && wire.on.is_none() {
        let message = "this table changes nothing; say what it takes in `arguments` or `on`";
        return Err(Problem::new(key(""), message));
    }
    let text = |name: &str, text: &Option<String>| {
        text.as_ref().map(|text| template(&key(name), text)).transpose()
    };
    Ok(TlsSide {
        arguments: templates(&key(".arguments"), &wire.arguments)?,
        on: text(".on", &wire.on)?,
        off: text(".off", &wire.off)?,
    })
}

/// Words for templates are used in one, and files of TLS nowhere but under TLS.
pub(super) fn check_use(process: &Process) -> Result<(), Problem> {
    for side in Side::BOTH {
        let name = side.name();
        let has_word = process.tls.side(side).is_some_and(|side| side.on.is_some());
        let is_used = process.templates().any(|template| template.uses(side.placeholder()));
        if is_used != has_word {
            let message = if is_used {
                format!("`{{{name}_tls}}` is used, and nothing says what it stands for; set `on`")
            } else {
                format!("`{{{name}_tls}}` is used nowhere")
            };
            return Err(Problem::new(format!("tls.{name}.on"), message));
        }
    }
    let files = [Global::TlsCa, Global::TlsCert, Global::TlsKey, Global::TlsName];
    let uses = |template: &Template| files.into_iter().any(|file| template.uses(file));
    if process.templates().any(uses) {
        let message = "files of TLS are used outside of [tls.client] and [tls.backend], where \
                       there may be none; move that there";
        return Err(Problem::new("tls", message));
    }
    Ok(())
}
