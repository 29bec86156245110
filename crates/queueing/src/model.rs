//! What every model answers, in the same units, and what is no model.

use std::fmt::Debug;

/// A model of the time a call spends in the system.
pub trait Model: Debug + Send + Sync {
    /// Its name in Kendall's notation or in words (`M/M/1`, `E_4/M/1`).
    fn name(&self) -> String;

    /// The share of time a server is busy, from 0 to 1.
    fn utilisation(&self) -> f64;

    /// Mean sojourn time in seconds.
    fn mean_s(&self) -> f64;

    /// The chance that a sojourn is longer than `t_s` seconds; `None` when the
    /// model knows means only.
    fn tail(&self, t_s: f64) -> Option<f64>;

    /// The shortest time that a share `q` of sojourns does not exceed, in
    /// seconds; `None` unless 0 <= q < 1, or when the model can't say so far
    /// out.
    fn quantile_s(&self, q: f64) -> Option<f64> {
        invert(self.mean_s(), q, |t_s| self.tail(t_s))
    }

    /// [`Model::mean_s`] in nanoseconds.
    fn mean_ns(&self) -> f64 {
        self.mean_s() * 1e9
    }

    /// [`Model::quantile_s`] in nanoseconds.
    fn quantile_ns(&self, q: f64) -> Option<f64> {
        self.quantile_s(q).map(|s| s * 1e9)
    }
}

/// Why there is no model of some figures.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A figure is zero, negative, infinite or no number.
    #[error("{what} is {value}, and must be positive")]
    NotPositive {
        /// The figure.
        what: &'static str,
        /// What it was.
        value: f64,
    },
    /// More work arrives than the servers can do: the queue grows for as long
    /// as the load lasts, and no steady state exists.
    #[error(
        "the offered load is {utilisation:.2} times what the servers can do, so the queue never settles"
    )]
    Overloaded {
        /// λ / (c μ), at least 1.
        utilisation: f64,
    },
    /// The figures are sound, and beyond what the computation was made for.
    #[error("{what} is {value}, and the model is computed only up to {limit}")]
    TooLarge {
        /// The figure.
        what: &'static str,
        /// What it was.
        value: f64,
        /// The most.
        limit: f64,
    },
}

/// A figure that has to be positive and finite.
pub(crate) fn positive(what: &'static str, value: f64) -> Result<f64, Error> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(Error::NotPositive { what, value })
    }
}

/// A utilisation below 1.
pub(crate) fn settles(utilisation: f64) -> Result<f64, Error> {
    if utilisation < 1.0 { Ok(utilisation) } else { Err(Error::Overloaded { utilisation }) }
}

/// A figure up to a limit.
pub(crate) fn at_most(what: &'static str, value: usize, limit: usize) -> Result<usize, Error> {
    if value <= limit {
        return Ok(value);
    }
    Err(Error::TooLarge { what, value: value as f64, limit: limit as f64 })
}

/// The smallest t with `tail(t) <= 1 - q`, by bisection, since every tail here
/// falls and some have steps. `scale` is a time of the right order.
pub(crate) fn invert(scale: f64, q: f64, tail: impl Fn(f64) -> Option<f64>) -> Option<f64> {
    if !(0.0..1.0).contains(&q) {
        return None;
    }
    let above = |t: f64| tail(t).map(|share| share > 1.0 - q);
    if !above(0.0)? {
        return Some(0.0);
    }
    let (mut low, mut high) = (0.0, scale);
    while above(high)? {
        low = high;
        high *= 2.0;
        if !high.is_finite() {
            return None;
        }
    }
    while high - low > 1e-12 * high {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if above(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inversion_finds_slopes_and_steps() {
        let slope = invert(1.0, 0.9, |t| Some((-t).exp())).unwrap();
        assert!((slope - 10_f64.ln()).abs() < 1e-10, "{slope}");
        let step = invert(1.0, 0.5, |t| Some(if t < 7.0 { 1.0 } else { 0.0 })).unwrap();
        assert!((step - 7.0).abs() < 1e-10, "{step}");
        assert_eq!(invert(1.0, 0.2, |_| Some(0.7)), Some(0.0));
        assert_eq!(invert(1.0, 0.2, |_| None), None);
        assert_eq!(invert(1.0, 0.5, |_| Some(0.9)), None);
        for q in [-0.1, 1.0, f64::NAN] {
            assert_eq!(invert(1.0, q, |t| Some((-t).exp())), None);
        }
    }

    #[test]
    fn what_is_no_figure_is_refused_by_name() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let message = positive("the rate", value).unwrap_err().to_string();
            assert!(message.contains("the rate"), "{message}");
        }
        assert!(settles(1.0).unwrap_err().to_string().contains("1.00 times"));
        assert!(at_most("servers", 65, 64).unwrap_err().to_string().contains("64"));
    }
}
