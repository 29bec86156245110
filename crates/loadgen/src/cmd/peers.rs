//! `loadgen peers`: which peers are there, and how to get the rest.

use measure::record::LinkEngine;
use scenario::{Layer, Library};

use crate::{
    exit::{self, Failure},
    lab::{instructions, network, quota::Quota},
    peers::{self, ReadyPeer},
    root::Root,
    ui::print,
};

pub(super) fn main() -> Result<u8, Failure> {
    let root = Root::find();
    print_all(&super::library(&root)?, &root)?;
    Ok(exit::FINE)
}

/// Prints every peer: whether it is there, its version, how to get it. One whose files are
/// wrong is listed as such.
fn print_all(library: &Library, root: &Root) -> Result<(), Failure> {
    for name in peers::all_names(library) {
        let peer = match library.peer(&name) {
            Ok(peer) => peer,
            Err(error) => {
                print(&format!("{name:<14} BROKEN: {error}\n"))?;
                continue;
            }
        };
        let layer = layer_name(peer.layer);
        let title = peer.title.clone();
        let state = match ReadyPeer::prepare(peer, root) {
            Ok(ready) => ready.version.unwrap_or_else(|| "needs no program".to_owned()),
            Err(reason) => format!("MISSING: {reason}"),
        };
        print(&format!("{name:<14} {layer:<7} {title}\n{:22} {state}\n", ""))?;
    }
    print_networks()
}

/// Prints what peers can be joined by and held to, after them: to look may move this process
/// into a user namespace.
fn print_networks() -> Result<(), Failure> {
    let (namespaces, links) = match network::prepare() {
        Ok(()) => {
            let namespaces = "can be made here; peers that balance in the kernel need it";
            (namespaces.to_owned(), links())
        }
        Err(reason) => (format!("MISSING: {reason}"), "MISSING: it needs namespaces".to_owned()),
    };
    let quota = match Quota::new(1.0) {
        Ok(_) => "can be had here".to_owned(),
        Err(reason) => format!("MISSING: {reason}"),
    };
    let instructions = match instructions::missing() {
        None => "can be counted here".to_owned(),
        Some(reason) => format!("MISSING: {reason}"),
    };
    print(&format!(
        "network = \"loopback\"    can be had everywhere\nnetwork = \"namespaces\"  {namespaces}\n\
         [[link]]                {links}\nplacement.proxy_quota   {quota}\n\
         instructions            {instructions}\n"
    ))
}

/// By what links can take time.
fn links() -> String {
    match network::engine() {
        Ok(LinkEngine::Netem) => "take time by netem".to_owned(),
        Ok(LinkEngine::Relay) => "take time by the lab's relay between TUN devices".to_owned(),
        Err(reason) => format!("MISSING: {reason}"),
    }
}

/// A layer as it is shown in lists.
fn layer_name(layer: Layer) -> &'static str {
    match layer {
        Layer::None => "none",
        Layer::L4 => "L4",
        Layer::L7 => "L7",
        Layer::Client => "client",
    }
}
