//! The points of a run: the values of its sweep, the rates of its search, or the one
//! setting there is.

use measure::record::{PointSetup, SweepSetup};
use scenario::{Scenario, short_key};

use super::describe;

/// The key that a search changes.
const SEARCHED_KEY: &str = "load.rate";

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

/// The points as the record has them; none for a run of one setting.
pub(crate) fn setup(
    scenario: &Scenario,
    points: &[Point],
    is_external: bool,
) -> Option<SweepSetup> {
    let key = match &scenario.sweep {
        Some(sweep) => sweep.key.clone(),
        None if scenario.load.search.is_some() => SEARCHED_KEY.to_owned(),
        None => return None,
    };
    let mut points: Vec<PointSetup> = points
        .iter()
        .filter_map(|point| {
            let value = point.value.clone()?;
            Some(PointSetup {
                number: scenario::number(&value),
                value,
                load: describe::load_setup(&point.scenario, is_external),
                backends: describe::backends(&point.scenario),
            })
        })
        .collect();
    if scenario.load.search.is_some() {
        points.sort_by(|a, b| a.number.partial_cmp(&b.number).unwrap_or(std::cmp::Ordering::Equal));
    }
    Some(SweepSetup { key, points })
}
