//! Zones: which backends and which clients are in each, checked.

use std::collections::BTreeSet;

use balance::ZoneLayout;
use serde::Serialize;

use crate::{
    bounds::{self, within},
    error::Problem,
    wire::ZonesWire,
};

/// Where backends, clients and balancers are. Balancers are in the zones that have clients, in
/// turn, and clients come to those of their own zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Zones {
    names: Vec<String>,
    /// The zone of each backend, by its number.
    backends: Vec<usize>,
    /// Client connections in each zone.
    connections: ZoneLayout,
}

impl Zones {
    /// Their names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The zone of each backend, by its number.
    pub fn backends(&self) -> &[usize] {
        &self.backends
    }

    /// The zones of client connections, and of the balancers that these come to.
    pub fn layout(&self) -> &ZoneLayout {
        &self.connections
    }

    /// The name of a backend's zone.
    pub fn of_backend(&self, index: usize) -> &str {
        &self.names[self.backends[index]]
    }
}

/// The zones of so many backends and connections.
pub(crate) fn check_zones(
    wire: &ZonesWire,
    backends: usize,
    connections: u32,
) -> Result<Zones, Problem> {
    let names: BTreeSet<&String> = wire.backends.keys().chain(wire.connections.keys()).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    for name in &names {
        let list = if wire.backends.contains_key(name) { "backends" } else { "connections" };
        if name.is_empty() || !name.chars().all(is_word) {
            let message = "a zone's name has letters, digits, `-` and `_`";
            return Err(Problem::new(format!("zones.{list}.{name}"), message));
        }
    }
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    within("zones", count, bounds::ZONES, "zones")?;
    let numbered = || names.iter().enumerate();
    let mut zone_of_backend = Vec::new();
    for (zone, name) in numbered() {
        let here = wire.backends.get(name).copied().unwrap_or(0);
        within(&format!("zones.backends.{name}"), here, bounds::IN_ZONE, "backends")?;
        zone_of_backend.extend((0..here).map(|_| zone));
    }
    let found = zone_of_backend.len();
    if found != backends {
        let message =
            format!("these are {found} backends, and there are {backends} (`backends.count`)");
        return Err(Problem::new("zones.backends", message));
    }
    let parts: Vec<u32> =
        names.iter().map(|name| wire.connections.get(name).copied().unwrap_or(0)).collect();
    for (name, &part) in names.iter().zip(&parts) {
        within(&format!("zones.connections.{name}"), part, bounds::IN_ZONE, "a part")?;
    }
    let dealt = deal(connections, &parts);
    let empty = numbered().find(|(zone, _)| parts[*zone] > 0 && dealt[*zone] == 0);
    if let Some((_, name)) = empty {
        let message = format!(
            "its part of {connections} connections is none; give it a larger part, or raise \
             `load.connections`"
        );
        return Err(Problem::new(format!("zones.connections.{name}"), message));
    }
    if dealt.iter().all(|here| *here == 0) {
        let message = "no zone has clients; give one a part, as in `{ a = 1 }`";
        return Err(Problem::new("zones.connections", message));
    }
    Ok(Zones { names, backends: zone_of_backend, connections: ZoneLayout::new(dealt) })
}

/// Deals connections out in proportion to parts, by the largest remainders.
fn deal(connections: u32, parts: &[u32]) -> Vec<u32> {
    let (all, sum) = (u64::from(connections), parts.iter().copied().map(u64::from).sum::<u64>());
    let whole = |part: u32| all * u64::from(part) / sum.max(1);
    // No more than there are connections.
    let mut dealt: Vec<u32> = parts.iter().map(|&part| whole(part) as u32).collect();
    let mut order: Vec<usize> = (0..parts.len()).filter(|zone| parts[*zone] > 0).collect();
    order.sort_by_key(|&zone| std::cmp::Reverse(all * u64::from(parts[zone]) % sum.max(1)));
    let left = connections.saturating_sub(dealt.iter().sum());
    for &zone in order.iter().take(left as usize) {
        dealt[zone] += 1;
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, backends: usize, connections: u32) -> Result<Zones, String> {
        let zones = check_zones(&toml::from_str(text).unwrap(), backends, connections);
        zones.map_err(|problem| format!("{}: {}", problem.key, problem.message))
    }

    #[test]
    fn backends_and_connections_are_dealt_to_zones() {
        let text = "backends = { a = 3, c = 1 }\nconnections = { b = 1, a = 2 }\n";
        let zones = checked(text, 4, 10).unwrap();
        assert_eq!(zones.names(), ["a", "b", "c"]);
        assert_eq!(zones.backends(), [0, 0, 0, 2]);
        assert_eq!(zones.layout().clients(), [7, 3, 0]);
        assert_eq!(zones.of_backend(3), "c");
        assert_eq!(deal(5, &[1, 1, 1]), [2, 2, 1]);
        assert_eq!(deal(12, &[4, 1, 1]), [8, 2, 2]);
    }

    #[test]
    fn mistakes_are_told_with_their_key() {
        for (text, expected) in [
            (
                "backends = { a = 3 }\nconnections = { a = 1 }",
                "zones.backends: these are 3 backends, and there are 4 (`backends.count`)",
            ),
            ("backends = { a = 4 }\nconnections = {}", "zones.connections: no zone has clients"),
            (
                "backends = { a = 4 }\nconnections = { a = 1000, b = 1 }",
                "zones.connections.b: its part of 10 connections is none",
            ),
            ("backends = { \"a b\" = 4 }\nconnections = { a = 1 }", "zones.backends.a b: a zone's"),
        ] {
            let error = checked(text, 4, 10).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
