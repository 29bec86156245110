//! Which CPUs, and which nodes, each part runs on.

use serde::Serialize;

use crate::{
    error::Problem,
    wire::{NodesWire, PlacementMode, PlacementWire},
};

/// Which CPUs each part runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// As the machine suggests.
    Auto,
    /// Wherever the kernel likes.
    None,
    /// On these; an empty list is any.
    Cpus {
        /// CPUs of the generator.
        generator: Vec<u32>,
        /// CPUs of the proxy.
        proxy: Vec<u32>,
        /// CPUs of the backends.
        backends: Vec<u32>,
    },
}

/// Which nodes each part is on, by their numbers from zero; what names none is wherever
/// it usually is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeRoles {
    /// Where balancers run, in turn.
    pub balancers: Vec<u32>,
    /// Where backends run, in turn.
    pub backends: Vec<u32>,
    /// Where load is made.
    pub generators: Vec<u32>,
}

impl NodeRoles {
    pub(crate) fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

pub(crate) fn check_placement(wire: &PlacementWire) -> Result<Placement, Problem> {
    let lists = [&wire.generator, &wire.proxy, &wire.backends];
    let has_lists = lists.iter().any(|list| list.is_some());
    match wire.mode {
        Some(_) if has_lists => {
            let message = "`placement.mode` and lists of CPUs exclude each other; keep one";
            Err(Problem::new("placement.mode", message))
        }
        Some(PlacementMode::None) => Ok(Placement::None),
        _ if !has_lists => Ok(Placement::Auto),
        _ => {
            let [generator, proxy, backends] = lists.map(|list| list.clone().unwrap_or_default());
            Ok(Placement::Cpus { generator, proxy, backends })
        }
    }
}

/// Whether there are as many nodes is known where they are asked for.
pub(crate) fn check_nodes(wire: NodesWire) -> Result<NodeRoles, Problem> {
    let list = |key: &str, nodes: Option<Vec<u32>>| match nodes {
        Some(nodes) if nodes.is_empty() => {
            let message = "this list is empty; leave it out for the usual place";
            Err(Problem::new(format!("nodes.{key}"), message))
        }
        Some(mut nodes) => {
            let count = nodes.len();
            nodes.sort_unstable();
            nodes.dedup();
            let twice = nodes.len() < count;
            let message = "a node is listed twice";
            if twice { Err(Problem::new(format!("nodes.{key}"), message)) } else { Ok(nodes) }
        }
        None => Ok(Vec::new()),
    };
    Ok(NodeRoles {
        balancers: list("balancers", wire.balancers)?,
        backends: list("backends", wire.backends)?,
        generators: list("generators", wire.generators)?,
    })
}
