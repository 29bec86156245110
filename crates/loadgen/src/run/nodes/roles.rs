//! Which node does what. Pure: decided before the first trial, and the same in all of them.

use measure::nodes::NodeRole;
use scenario::NodeRoles;

use crate::{
    lab::Part,
    run::load::{self, Workers},
};

/// The place of what the lab does not start.
const NOWHERE: usize = usize::MAX;

/// What each node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roles {
    nodes: usize,
    /// Where balancers run, in turn; never empty.
    balancers: Vec<usize>,
    /// Of each backend, where it runs.
    backends: Vec<usize>,
    generators: Vec<usize>,
}

/// A scenario places something on a node that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "nodes.{key}: there is no node {node}; there are {nodes}, from 0 on: raise --nodes, or place \
     it elsewhere"
)]
pub(crate) struct NoSuchNode {
    key: &'static str,
    node: u32,
    nodes: usize,
}

/// What a node may spend on making load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    /// Its CPUs.
    pub(super) cpus: u32,
    /// How many nodes are on its machine, itself included.
    pub(super) on_machine: u32,
}

impl Roles {
    /// Where the scenario places them, or else by the number of nodes: two divide load from
    /// what is measured; of three the balancer is alone, as it would be in production; of
    /// more, half of the others make load.
    pub(super) fn of(
        wanted: &NodeRoles,
        nodes: usize,
        backends: usize,
    ) -> Result<Self, NoSuchNode> {
        let usual = usual(nodes);
        let place = |key, wanted: &[u32], usual: Vec<usize>| -> Result<Vec<usize>, NoSuchNode> {
            if wanted.is_empty() {
                return Ok(usual);
            }
            let known = |&node: &u32| {
                let index = node as usize;
                if index < nodes { Ok(index) } else { Err(NoSuchNode { key, node, nodes }) }
            };
            wanted.iter().map(known).collect()
        };
        let balancers = place("balancers", &wanted.balancers, vec![usual.0])?;
        let hosts = place("backends", &wanted.backends, usual.1)?;
        let generators = place("generators", &wanted.generators, usual.2)?;
        let backends = (0..backends).map(|index| hosts[index % hosts.len()]).collect();
        Ok(Self { nodes, balancers, backends, generators })
    }

    /// Where what is driven is there already: all nodes make load, or those that the scenario
    /// names.
    pub(super) fn of_targets(
        wanted: &NodeRoles,
        nodes: usize,
        backends: usize,
    ) -> Result<Self, NoSuchNode> {
        let all = (0..u32::try_from(nodes).unwrap_or(u32::MAX)).collect();
        let generators = Some(&wanted.generators).filter(|named| !named.is_empty());
        let wanted = NodeRoles { generators: generators.cloned().unwrap_or(all), ..wanted.clone() };
        let Self { generators, .. } = Self::of(&wanted, nodes, backends)?;
        let (balancers, backends) = (vec![NOWHERE], vec![NOWHERE; backends]);
        Ok(Self { nodes, balancers, backends, generators })
    }

    /// The roles of a node.
    pub(super) fn names(&self, node: usize) -> Vec<NodeRole> {
        let has = [
            (NodeRole::Balancer, self.balancers.contains(&node)),
            (NodeRole::Backends, self.backends.contains(&node)),
            (NodeRole::Generator, self.generators.contains(&node)),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(role, _)| role).collect()
    }

    /// Nodes on which balancers may run.
    pub(super) fn of_balancers(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes).filter(|node| self.balancers.contains(node))
    }

    /// Nodes on which backends run.
    pub(super) fn of_backends(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes).filter(|node| self.backends.contains(node))
    }

    /// The part of each node in a trial with so many balancers and connections.
    pub(super) fn parts(
        &self,
        capacity: &[Capacity],
        balancers: usize,
        connections: u32,
    ) -> Vec<(Part, Workers)> {
        let counts = self.workers(capacity, connections);
        let of = counts.iter().sum();
        let mut first = 0;
        let mut part = |node: usize| {
            let workers = Workers { first, count: counts[node], of };
            first += counts[node];
            let part = Part {
                backends: self.backends.iter().map(|&host| host == node).collect(),
                balancers: (0..balancers)
                    .map(|index| self.balancers[index % self.balancers.len()] == node)
                    .collect(),
                generator: counts[node] > 0,
            };
            (part, workers)
        };
        (0..self.nodes).map(&mut part).collect()
    }

    /// Threads that make load, for each node: dealt one by one, so that few connections are
    /// spread over all nodes that may have some.
    fn workers(&self, capacity: &[Capacity], connections: u32) -> Vec<u32> {
        let most = |&node: &usize| {
            let Capacity { cpus, on_machine } = capacity[node];
            // A node with nothing else to do has all its CPUs for it.
            let alone = on_machine == 1 && self.names(node) == [NodeRole::Generator];
            let own = if alone { cpus as usize } else { 0 };
            (node, load::workers(cpus / on_machine.max(1), own, connections))
        };
        let most: Vec<(usize, u32)> = self.generators.iter().map(most).collect();
        let mut counts = vec![0; self.nodes];
        let mut left = connections;
        while left > 0 && most.iter().any(|&(node, most)| counts[node] < most) {
            for &(node, most) in &most {
                if left > 0 && counts[node] < most {
                    counts[node] += 1;
                    left -= 1;
                }
            }
        }
        counts
    }
}

/// Where balancer, backends and load are, unless the scenario says otherwise.
fn usual(nodes: usize) -> (usize, Vec<usize>, Vec<usize>) {
    match nodes {
        0 | 1 => (0, vec![0], vec![0]),
        2 => (0, vec![0], vec![1]),
        _ => {
            let backends = (nodes - 1) / 2;
            (0, (1..=backends).collect(), (1 + backends..nodes).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Capacity = Capacity { cpus: 4, on_machine: 1 };

    #[test]
    fn the_balancer_is_alone_from_three_nodes_on() {
        let roles = |nodes| Roles::of(&NodeRoles::default(), nodes, 4).unwrap();
        let names = |nodes: usize| -> Vec<Vec<NodeRole>> {
            (0..nodes).map(|node| roles(nodes).names(node)).collect()
        };
        use NodeRole::{Backends, Balancer, Generator};
        assert_eq!(names(1), [vec![Balancer, Backends, Generator]]);
        assert_eq!(names(2), [vec![Balancer, Backends], vec![Generator]]);
        assert_eq!(names(3), [vec![Balancer], vec![Backends], vec![Generator]]);
        assert_eq!(names(4)[1..], [vec![Backends], vec![Generator], vec![Generator]]);
        assert_eq!(roles(5).backends, [1, 2, 1, 2]);
    }

    #[test]
    fn a_scenario_places_what_it_names_and_nothing_elsewhere() {
        let wanted = NodeRoles { balancers: vec![2], backends: vec![0, 1], generators: vec![] };
        let roles = Roles::of(&wanted, 3, 3).unwrap();
        assert_eq!((roles.balancers.clone(), roles.backends.clone()), (vec![2], vec![0, 1, 0]));
        assert_eq!(roles.generators, [2]);
        let wanted = NodeRoles { generators: vec![3], ..wanted };
        let error = Roles::of(&wanted, 3, 3).unwrap_err().to_string();
        assert!(error.contains("nodes.generators: there is no node 3"), "{error}");
    }

    #[test]
    fn balancers_are_spread_over_the_nodes_that_are_named_for_them() {
        let wanted = NodeRoles { balancers: vec![0, 2], ..NodeRoles::default() };
        let roles = Roles::of(&wanted, 3, 1).unwrap();
        assert_eq!(roles.names(2), [NodeRole::Balancer, NodeRole::Generator]);
        let parts = roles.parts(&[FOUR; 3], 3, 1);
        let of = |node: usize| parts[node].0.balancers.clone();
        assert_eq!(of(0), [true, false, true]);
        assert_eq!(of(1), [false; 3]);
        assert_eq!(of(2), [false, true, false]);
        assert_eq!(roles.of_backends().collect::<Vec<_>>(), [1]);
    }

    /// Whatever the numbers: workers are numbered through, each connection has one, and
    /// each backend and each balancer is on one node.
    #[test]
    fn parts_make_a_whole() {
        for nodes in 1..9 {
            for connections in [1, 2, 3, 64] {
                let roles = Roles::of(&NodeRoles::default(), nodes, 5).unwrap();
                let parts = roles.parts(&vec![FOUR; nodes], 3, connections);
                let of = parts[0].1.of;
                assert!((1..=connections).contains(&of));
                let mut next = 0;
                for (part, workers) in &parts {
                    assert_eq!((workers.first, workers.of), (next, of));
                    assert_eq!(part.generator, workers.count > 0);
                    next += workers.count;
                }
                assert_eq!(next, of);
                for backend in 0..5 {
                    let hosts = parts.iter().filter(|(part, _)| part.backends[backend]);
                    assert_eq!(hosts.count(), 1);
                }
                for balancer in 0..3 {
                    let hosts = parts.iter().filter(|(part, _)| part.balancers[balancer]);
                    assert_eq!(hosts.count(), 1);
                }
            }
        }
    }

    #[test]
    fn all_nodes_drive_a_target_and_nothing_runs_on_them() {
        let roles = Roles::of_targets(&NodeRoles::default(), 3, 4).unwrap();
        for node in 0..3 {
            assert_eq!(roles.names(node), [NodeRole::Generator]);
        }
        for (part, workers) in roles.parts(&[FOUR; 3], 0, 64) {
            assert!(!part.has_balancers() && !part.has_backends() && workers.count == 4);
        }
    }

    #[test]
    fn a_node_that_only_makes_load_has_all_its_cpus_for_it() {
        let roles = Roles::of(&NodeRoles::default(), 4, 4).unwrap();
        assert_eq!(roles.workers(&[FOUR; 4], 64), [0, 0, 4, 4]);
        assert_eq!(roles.workers(&[FOUR; 4], 3), [0, 0, 2, 1]);
        let shared = Capacity { cpus: 4, on_machine: 4 };
        assert_eq!(roles.workers(&[shared; 4], 64), [0, 0, 1, 1]);
    }
}
