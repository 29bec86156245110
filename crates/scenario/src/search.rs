//! A search for the highest rate at which an objective holds: what is searched for,
//! and not how (that is the lab's work).

use std::{fmt, time::Duration};

use measure::figure::{Figure, Scope};
use serde::{Serialize, Serializer};

use crate::{
    claim::{Op, parse_figure, parse_number},
    quantity::duration_as_text,
};

/// A search over the rate of an open loop, which starts at `load.rate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Search {
    /// What has to hold, all of it; never empty.
    pub slo: Vec<Objective>,
    /// How near to each other, as a fraction, the highest rate that holds and the
    /// lowest that doesn't have to come.
    pub resolution: f64,
    /// When to stop all the same, counted from the start of the run.
    #[serde(serialize_with = "duration_as_text")]
    pub budget: Duration,
}

/// One thing that has to hold: `p99 < 5ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    source: String,
    /// The quantity.
    pub figure: Figure,
    /// How it is compared.
    pub op: Op,
    /// What it is compared with, in the unit of the figure.
    pub limit: f64,
}

impl Objective {
    /// Whether a value keeps it; what has no value does not.
    pub fn holds(&self, value: Option<f64>) -> bool {
        value.is_some_and(|value| !value.is_nan() && self.op.compare(value, self.limit))
    }
}

/// The objective as it was written.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl std::str::FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let source = text.trim().to_owned();
        let at = source.find(['<', '>']).ok_or_else(|| {
            format!("`{source}` compares nothing; write an objective such as `p99 < 5ms`")
        })?;
        let signs = [Op::Le, Op::Ge, Op::Lt, Op::Gt];
        let op = signs.into_iter().find(|op| source[at..].starts_with(op.sign()));
        let op = op.ok_or_else(|| format!("`{source}` has none of <, <=, >, >="))?;
        let figure = parse_figure(source[..at].trim())?;
        if figure.scope() == Scope::WholeRun {
            return Err(format!("`{figure}` is what is searched for, and no objective"));
        }
        let limit = parse_number(source[at + op.sign().len()..].trim(), figure)?;
        Ok(Self { source, figure, op, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_and_hold_or_not() {
        let p99: Objective = "p99 < 5ms".parse().unwrap();
        assert_eq!((p99.figure, p99.limit), (Figure::LatencyP99, 5e6));
        assert!(p99.holds(Some(4.9e6)) && !p99.holds(Some(5e6)) && !p99.holds(None));
        let errors: Objective = "error_rate <= 0.1%".parse().unwrap();
        assert!(errors.holds(Some(0.001)) && !errors.holds(Some(0.002)));
        for (text, expected) in [
            ("p99", "compares nothing"),
            ("p98 < 5ms", "unknown figure `latency_p98`"),
            ("p99 < 5", "a time with its unit"),
            ("saturation_rate > 5/s", "what is searched for"),
        ] {
            let message = text.parse::<Objective>().unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
