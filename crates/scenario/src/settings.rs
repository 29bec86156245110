//! Settings of proxies beside the policy: retries, hedging, ejection, slow start, limits.
//!
//! A scenario names sets of them, `[settings.retries]`, and lists peers under such a name,
//! `l7@retries`: the same proxy with and without is then compared as several peers are.
//! What a proxy has to be told for each is in its `peer.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use units::duration;

use crate::{
    bounds::{self, time_within, within},
    error::Problem,
    quantity::{DurationText, PercentText},
};

/// What a proxy is set to: texts by the names of settings.
pub type ProxySettings = BTreeMap<String, String>;

/// Settings that a peer can have under a name of the scenario's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxySettingsWire {
    /// gRPC statuses after which a call is tried again, on another backend.
    #[schemars(example = json!(["unavailable", "internal"]))]
    pub(crate) retry_on: Option<Vec<String>>,
    /// How long a call may go without a response before it is sent to a second backend as
    /// well.
    pub(crate) hedge_delay: Option<DurationText>,
    /// Failures in a row after which a backend is left out for a while.
    #[schemars(range(min = bounds::FAILURES.min, max = bounds::FAILURES.max), example = 5)]
    pub(crate) eject_after: Option<u32>,
    /// For how long it is left out at first.
    pub(crate) eject_for: Option<DurationText>,
    /// The part of the backends that may be left out at a time.
    pub(crate) eject_max: Option<PercentText>,
    /// The part of the backends that has to be well; where fewer are, those that are not
    /// get calls too.
    pub(crate) panic_threshold: Option<PercentText>,
    /// How long a backend that is new gets less than its share, which grows.
    pub(crate) slow_start: Option<DurationText>,
    /// The part of the calls for which a backend of the caller's own zone is chosen, as far as
    /// that leaves all backends with the same load: Envoy's zone aware routing. Proxies and
    /// clients that balance know nothing of `[zones]` without it.
    pub(crate) zone_routing: Option<PercentText>,
    /// Backends from which on zones are heeded; 6 unless given, as in Envoy.
    #[schemars(range(
        min = bounds::ZONE_MIN_BACKENDS.min,
        max = bounds::ZONE_MIN_BACKENDS.max
    ))]
    #[schemars(example = 4)]
    pub(crate) zone_min_backends: Option<u32>,
    /// How long a backend that owes an answer sends nothing before it is asked with a PING.
    pub(crate) keepalive_time: Option<DurationText>,
    /// How long it may take to answer that before its connection is given up.
    pub(crate) keepalive_timeout: Option<DurationText>,
    /// Calls in flight on one backend, beyond which calls are refused.
    #[schemars(range(min = bounds::STREAMS.min, max = bounds::STREAMS.max), example = 50)]
    pub(crate) backend_max_requests: Option<u32>,
    /// Calls in flight on all backends together, beyond which calls are refused.
    #[schemars(range(min = bounds::STREAMS.min, max = bounds::STREAMS.max), example = 200)]
    pub(crate) max_requests: Option<u32>,
}

/// The names of all settings, as scenarios and peers know them.
pub(crate) const NAMES: [&str; 13] = [
    "retry_on",
    "hedge_delay",
    "eject_after",
    "eject_for",
    "eject_max",
    "panic_threshold",
    "slow_start",
    "zone_routing",
    "zone_min_backends",
    "keepalive_time",
    "keepalive_timeout",
    "backend_max_requests",
    "max_requests",
];

/// Those that clients which balance have as well.
pub const CLIENT_SETTINGS: [&str; 2] = ["zone_routing", "zone_min_backends"];

/// Checks every set of settings, by its name.
pub(crate) fn check_settings(
    wire: &BTreeMap<String, ProxySettingsWire>,
    has_zones: bool,
) -> Result<BTreeMap<String, ProxySettings>, Problem> {
    let checked = wire.iter().map(|(name, wire)| {
        let key = format!("settings.{name}");
        let is_word =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(is_word) {
            let message = "a name of settings has lower-case letters, digits, `-` and `_`";
            return Err(Problem::new(key, message));
        }
        let values = values(&key, wire)?;
        if values.is_empty() {
            return Err(Problem::new(key, "this table sets nothing"));
        }
        match (&wire.zone_routing, &wire.zone_min_backends) {
            (Some(_), _) if !has_zones => {
                let message = "there are no zones to go by; write a table `[zones]`";
                Err(Problem::new(format!("{key}.zone_routing"), message))
            }
            (None, Some(_)) => {
                let message = "zones are heeded with `zone_routing` only; set that too";
                Err(Problem::new(format!("{key}.zone_min_backends"), message))
            }
            _ => Ok((name.clone(), values)),
        }
    });
    checked.collect()
}

/// The values as a proxy is told them: times with their unit, parts in percent.
fn values(key: &str, wire: &ProxySettingsWire) -> Result<ProxySettings, Problem> {
    let count = |name: &str, value: Option<u32>, bounds| -> Result<Option<String>, Problem> {
        let check = |value| within(&format!("{key}.{name}"), value, bounds, "a number");
        Ok(value.map(check).transpose()?.map(|value| value.to_string()))
    };
    let time = |name: &str, value: Option<DurationText>| -> Result<Option<String>, Problem> {
        let check = |DurationText(value)| {
            time_within(&format!("{key}.{name}"), value, bounds::PROXY_TIME, "a time")
        };
        Ok(value.map(check).transpose()?.map(duration::format))
    };
    let percent = |value: Option<PercentText>| {
        value.map(|PercentText(part)| (part * 100.0).round().to_string())
    };
    let all = [
        ("retry_on", wire.retry_on.as_ref().map(|statuses| statuses.join(","))),
        ("hedge_delay", time("hedge_delay", wire.hedge_delay)?),
        ("eject_after", count("eject_after", wire.eject_after, bounds::FAILURES)?),
        ("eject_for", time("eject_for", wire.eject_for)?),
        ("eject_max", percent(wire.eject_max)),
        ("panic_threshold", percent(wire.panic_threshold)),
        ("slow_start", time("slow_start", wire.slow_start)?),
        ("zone_routing", percent(wire.zone_routing)),
        (
            "zone_min_backends",
            count("zone_min_backends", wire.zone_min_backends, bounds::ZONE_MIN_BACKENDS)?,
        ),
        ("keepalive_time", time("keepalive_time", wire.keepalive_time)?),
        ("keepalive_timeout", time("keepalive_timeout", wire.keepalive_timeout)?),
        (
            "backend_max_requests",
            count("backend_max_requests", wire.backend_max_requests, bounds::STREAMS)?,
        ),
        ("max_requests", count("max_requests", wire.max_requests, bounds::STREAMS)?),
    ];
    Ok(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<BTreeMap<String, ProxySettings>, Problem> {
        check_settings(&toml::from_str(text).unwrap(), true)
    }

    #[test]
    fn every_setting_is_known_by_its_name() {
        let all = "[all]\nretry_on = [\"internal\", \"unknown\"]\nhedge_delay = \"30ms\"\n\
                   eject_after = 5\neject_for = \"2s\"\neject_max = \"50%\"\n\
                   panic_threshold = \"0%\"\nzone_routing = \"50%\"\n\
                   zone_min_backends = 4\nkeepalive_time = \"1s\"\n\
                   keepalive_timeout = \"2s\"\nslow_start = \"1500ms\"\n\
                   backend_max_requests = 8\nmax_requests = 30\n";
        let settings = &checked(all).unwrap()["all"];
        let mut names = NAMES;
        names.sort_unstable();
        assert_eq!(settings.keys().map(String::as_str).collect::<Vec<_>>(), names);
        assert_eq!(settings["retry_on"], "internal,unknown");
        assert_eq!((&*settings["eject_max"], &*settings["slow_start"]), ("50", "1.5s"));
    }

    #[test]
    fn mistakes_are_told_with_their_key() {
        for (text, key) in [
            ("[Bad]\nmax_requests = 3\n", "settings.Bad"),
            ("[none]\n", "settings.none"),
            ("[a]\nmax_requests = 0\n", "settings.a.max_requests"),
            ("[a]\nhedge_delay = \"0ms\"\n", "settings.a.hedge_delay"),
            ("[a]\nzone_min_backends = 4\n", "settings.a.zone_min_backends"),
        ] {
            assert_eq!(checked(text).unwrap_err().key, key);
        }
        let zones = toml::from_str("[a]\nzone_routing = \"100%\"\n").unwrap();
        let without = check_settings(&zones, false).unwrap_err();
        assert_eq!(without.key, "settings.a.zone_routing");
    }
}
