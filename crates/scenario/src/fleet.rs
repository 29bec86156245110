//! The balancers of a peer that has any: how many there are, and who comes to which.

use balance::{Spread, Subset};
use serde::Serialize;

use crate::{
    bounds::{self, within},
    error::Problem,
    wire::BalanceWire,
    zones::Zones,
};

/// The balancers that stand between clients and backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// Balancers, a process each, that share the client connections; at least one.
    pub balancers: u32,
    /// Threads of each; at least one.
    pub threads: u32,
    /// How connections are spread over them.
    pub spread: Spread,
    /// To which backends each of them is limited; `None` for all. So is each client that
    /// balances itself.
    pub subset: Option<Subset>,
}

impl Fleet {
    /// One balancer with one thread, which knows all backends.
    pub const ONE: Self =
        Self { balancers: 1, threads: 1, spread: Spread::RoundRobin, subset: None };
}

/// With zones, each that has clients has a balancer at least.
pub(crate) fn check_fleet(wire: &BalanceWire, zones: Option<&Zones>) -> Result<Fleet, Problem> {
    let clients = zones.map(|zones| zones.layout().clients());
    let least = clients.map_or(1, |all| all.iter().filter(|here| **here > 0).count());
    let least = u32::try_from(least).unwrap_or(u32::MAX);
    let balancers = wire.balancers.unwrap_or(least);
    let balancers = within("balance.balancers", balancers, bounds::BALANCERS, "balancers")?;
    if balancers < least {
        let message = format!(
            "found {balancers}, and {least} zones have clients, each with a balancer of its own; \
             leave it out for one each"
        );
        return Err(Problem::new("balance.balancers", message));
    }
    let threads = wire.threads.unwrap_or(1);
    let threads = within("balance.threads", threads, bounds::BALANCER_THREADS, "threads")?;
    let subset = match (wire.subset, wire.subsetting) {
        (None, None) => None,
        (None, Some(_)) => {
            let message = "says how the backends of a subset are chosen; set `balance.subset` too";
            return Err(Problem::new("balance.subsetting", message));
        }
        (Some(size), subsetting) => {
            let size = within("balance.subset", size, bounds::BACKENDS, "backends")?;
            Some(Subset { size, subsetting: subsetting.unwrap_or_default() })
        }
    };
    Ok(Fleet { balancers, threads, spread: wire.spread.unwrap_or_default(), subset })
}

#[cfg(test)]
mod tests {
    use balance::Subsetting;

    use super::*;

    fn checked(text: &str) -> Result<Fleet, String> {
        let fleet = check_fleet(&toml::from_str(text).unwrap(), None);
        fleet.map_err(|problem| format!("{}: {}", problem.key, problem.message))
    }

    #[test]
    fn there_is_one_balancer_with_one_thread_unless_more_are_asked_for() {
        assert_eq!(checked(""), Ok(Fleet::ONE));
        let subset = Some(Subset { size: 5, subsetting: Subsetting::Aperture });
        let fleet = Fleet { balancers: 4, threads: 2, spread: Spread::Hash, subset };
        let text = "balancers = 4\nthreads = 2\nspread = \"hash\"\nsubset = 5\n\
                    subsetting = \"aperture\"\n";
        assert_eq!(checked(text), Ok(fleet));
    }

    #[test]
    fn mistakes_are_told_with_their_key() {
        for (text, expected) in [
            ("balancers = 0", "balance.balancers: found 0, expected balancers from 1 to 10000"),
            ("threads = 0", "balance.threads: found 0"),
            ("subset = 0", "balance.subset: found 0"),
            ("subsetting = \"random\"", "set `balance.subset` too"),
        ] {
            assert!(checked(text).unwrap_err().contains(expected), "{text}");
        }
    }
}
