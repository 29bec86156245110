//! Where a proxy is, and where the other proxies are: the flags of choosing backends by zones,
//! which both proxies have. What follows from them is decided elsewhere.
//!
//! They are what Envoy takes from its locality, from its local cluster and from
//! `zone_aware_lb_config`. A proxy can't see the others, so it is told how many there are.

use std::{num::NonZeroU32, str::FromStr};

use crate::exit::Failure;

/// Flags of zones.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Zones")]
pub struct ZoneArgs {
    /// The zone that this proxy is in. It gives backends of its own zone what comes to it, as
    /// far as that leaves all backends with the same load, and the rest to zones with more than
    /// their part of the backends; with fewer than --zone-min-backends it does not look at
    /// zones. A backend's zone is a part of how it is given, and none is a zone too.
    #[arg(long, value_name = "NAME", requires = "zone_proxies")]
    zone: Option<String>,

    /// How many proxies are in each zone, this one included, as NAME=N; they are taken to be
    /// given equally much. Separated by commas.
    #[arg(long, value_name = "NAME=N", value_delimiter = ',', requires = "zone")]
    zone_proxies: Vec<ZoneProxies>,

    /// Backends from which on zones are looked at.
    #[arg(long, value_name = "N", default_value_t = 6, requires = "zone")]
    zone_min_backends: usize,

    /// The part of the picks that goes by zones, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, requires = "zone",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    zone_routing_percent: u32,
}

/// Proxies in a zone, as on a command line: `NAME=N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneProxies {
    name: String,
    count: NonZeroU32,
}

/// A text says no number of proxies in a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no zone with a number of proxies; write NAME=N with N from 1 on, as in a=2")]
pub struct ParseZoneError(String);

impl FromStr for ZoneProxies {
    type Err = ParseZoneError;

    fn from_str(text: &str) -> Result<Self, ParseZoneError> {
        let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let parsed = parts.and_then(|(name, count)| {
            Some(Self { name: name.to_owned(), count: count.parse().ok()? })
        });
        parsed.ok_or_else(|| ParseZoneError(text.to_owned()))
    }
}

/// Zones by their numbers. All that no proxy is in have one number: what is sent there is
/// divided by the backends that they have, whichever zone these are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneConfig {
    names: Vec<String>,
    /// The proxy's own zone.
    pub own: usize,
    /// Proxies in each zone.
    pub proxies: Vec<u32>,
    /// Backends from which on zones are looked at.
    pub backends_min: usize,
    /// The part of the picks that goes by zones, in percent.
    pub percent: u32,
}

impl ZoneConfig {
    /// The number of a zone by its name; `None` is a name too.
    pub fn number(&self, name: Option<&str>) -> usize {
        let name = name.unwrap_or_default();
        self.names.iter().position(|known| known == name).unwrap_or(self.names.len())
    }
}

impl ZoneArgs {
    /// What the flags say; `None` where no zone was given.
    ///
    /// # Errors
    /// When the proxy's own zone is not among those with proxies, or one is listed twice.
    pub fn config(&self) -> Result<Option<ZoneConfig>, Failure> {
        let Some(own) = &self.zone else { return Ok(None) };
        let names: Vec<String> = self.zone_proxies.iter().map(|zone| zone.name.clone()).collect();
        let twice = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
        if let Some((_, name)) = twice {
            return Err(Failure::usage(format!("--zone-proxies lists zone {name} twice")));
        }
        let Some(own) = names.iter().position(|name| name == own) else {
            return Err(Failure::usage(format!(
                "--zone is {own}, and --zone-proxies says of no proxy there; add {own}=1 for this \
                 one"
            )));
        };
        Ok(Some(ZoneConfig {
            own,
            proxies: self.zone_proxies.iter().map(|zone| zone.count.get()).collect(),
            backends_min: self.zone_min_backends,
            percent: self.zone_routing_percent,
            names,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: ZoneArgs,
    }

    fn config(flags: &[&str]) -> Result<Option<ZoneConfig>, String> {
        let flags = ["program"].iter().chain(flags);
        let program = Program::try_parse_from(flags).map_err(|error| error.to_string())?;
        program.args.config().map_err(|failure| failure.to_string())
    }

    #[test]
    fn zones_are_known_by_name_and_those_without_a_proxy_are_one() {
        assert_eq!(config(&[]), Ok(None));
        let zones = config(&["--zone=b", "--zone-proxies=a=2,b=1"]).unwrap().unwrap();
        assert_eq!((zones.own, &*zones.proxies), (1, &[2, 1][..]));
        assert_eq!((zones.backends_min, zones.percent), (6, 100));
        let numbers = [Some("a"), Some("b"), Some("c"), None].map(|name| zones.number(name));
        assert_eq!(numbers, [0, 1, 2, 2]);
    }

    #[test]
    fn mistakes_are_refused_with_the_reason() {
        for (flags, expected) in [
            (&["--zone=a"][..], "--zone-proxies"),
            (&["--zone-min-backends=4"], "--zone"),
            (&["--zone=a", "--zone-proxies=a"], "NAME=N"),
            (&["--zone=a", "--zone-proxies=a=0"], "from 1 on"),
            (&["--zone=a", "--zone-proxies=b=1"], "add a=1 for this one"),
            (&["--zone=a", "--zone-proxies=a=1,a=2"], "lists zone a twice"),
            (&["--zone=a", "--zone-proxies=a=1", "--zone-routing-percent=101"], "0..=100"),
        ] {
            let error = config(flags).unwrap_err();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }
}
