//! The points of a run: the values of its sweep, the rates of its search, or the one
//! setting there is.

use scenario::{Scenario, short_key};

/// The key that a search changes.
pub(super) const SEARCHED_KEY: &str = "load.rate";

/// A setting that trials are run at.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// The value as written; none in a run of one setting.
    pub(crate) value: Option<String>,
    /// How it is called beside a peer, as in claims: `[connections=64]`, or nothing.
    pub(crate) suffix: String,
    /// The scenario with that value in force.
    pub(crate) scenario: Scenario,
}

/// The points a scenario plans. A search finds its own as it goes.
pub(crate) fn planned(scenario: &Scenario) -> Vec<Point> {
    match &scenario.sweep {
        _ if scenario.load.search.is_some() => Vec::new(),
        None => {
            vec![Point { value: None, suffix: String::new(), scenario: scenario.clone() }]
        }
        Some(sweep) => sweep
            .points
            .iter()
            .map(|point| Point::named(sweep.short_key(), &point.value, &point.scenario))
            .collect(),
    }
}

impl Point {
    fn named(key: &str, value: &str, scenario: &Scenario) -> Self {
        Self {
            value: Some(value.to_owned()),
            suffix: format!("[{key}={value}]"),
            scenario: scenario.clone(),
        }
    }

    /// The point of a search at a rate.
    pub(crate) fn at_rate(scenario: &Scenario, rate: f64) -> Self {
        Self::named(short_key(SEARCHED_KEY), &format!("{rate}/s"), &scenario.at_rate(rate))
    }
}
