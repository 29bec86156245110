//! How well figures have to be known before repeats end.

use std::time::Duration;

use measure::figure::{Figure, Scope};
use serde::Serialize;

use crate::{
    bounds::{self, time_within, within},
    claim::parse_figure,
    error::Problem,
    quantity::{DurationText, PercentText, duration_as_text},
    wire::PrecisionWire,
};

/// When to stop all the same, also of a search.
pub(crate) const DEFAULT_BUDGET: Duration = Duration::from_secs(120);

/// How well figures have to be known before the repeats end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Precision {
    /// Figures, each with the half width of its interval as a fraction of it.
    pub within: Vec<(Figure, f64)>,
    /// When to stop all the same, counted from the start of the run.
    #[serde(serialize_with = "duration_as_text")]
    pub budget: Duration,
}

pub(crate) fn check_precision(wire: &PrecisionWire) -> Result<Precision, Problem> {
    if wire.within.is_empty() {
        let message = "this table is empty; name a figure, as in `latency_p99 = \"5%\"`";
        return Err(Problem::new("precision.within", message));
    }
    let target = |(name, PercentText(width)): (&String, &PercentText)| {
        let key = format!("precision.within.{name}");
        let figure = parse_figure(name).map_err(|message| Problem::new(&key, message))?;
        if figure.scope() == Scope::WholeRun {
            let message = "no trial has this figure, so that more of them don't sharpen it";
            return Err(Problem::new(&key, message));
        }
        Ok((figure, within(&key, *width, bounds::PRECISION, "half a width")?))
    };
    let budget = wire.budget.map_or(DEFAULT_BUDGET, |DurationText(budget)| budget);
    let budget = time_within("precision.budget", budget, bounds::DURATION, "a budget")?;
    Ok(Precision {
        within: wire.within.iter().map(target).collect::<Result<_, Problem>>()?,
        budget,
    })
}
