//! What a closed form of [`queueing`] says of a setting, with the curve that is drawn of it.

use std::{cell::RefCell, rc::Rc};

use queueing::fit::{NoFit, Setting, fit};

/// Quantiles that measurement is held to theory at.
pub const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")];
/// Points of a curve.
const POINTS: usize = 72;
/// How far out a curve goes.
const LAST_QUANTILE: f64 = 0.999_99;

/// What theory says of one setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Theory {
    /// The model in Kendall's notation, or in words.
    pub name: String,
    /// The share of time a server is busy.
    pub utilisation: f64,
    /// What the model takes for granted.
    pub caveats: Vec<String>,
    /// Mean time in the backends, in nanoseconds.
    pub mean_ns: f64,
    /// The same at each of [`QUANTILES`]; `None` where the model can't say.
    pub quantiles_ns: [Option<f64>; 3],
    /// Shares of calls with the time, in nanoseconds, that they stay within.
    pub curve: Vec<(f64, f64)>,
}

/// Settings asked for so far with the answers.
pub(crate) type Theories = RefCell<Vec<(Setting, Rc<Result<Theory, String>>)>>;

/// What is said of a setting, worked out once for each. `note` says what was measured for it.
pub(crate) fn of(
    setting: Setting,
    note: Option<String>,
    known: &Theories,
) -> Rc<Result<Theory, String>> {
    if let Some((_, theory)) = known.borrow().iter().find(|(other, _)| *other == setting) {
        return Rc::clone(theory);
    }
    let theory = Rc::new(work_out(&setting, note));
    known.borrow_mut().push((setting, Rc::clone(&theory)));
    theory
}

fn work_out(setting: &Setting, note: Option<String>) -> Result<Theory, String> {
    let fitted = fit(setting).map_err(|reason| match (reason, &note) {
        (NoFit::NoClosedForm, Some(_)) => {
            format!("{reason}; `loadgen simulate --like` with this run's folder needs none")
        }
        _ => reason.to_string(),
    })?;
    let model = fitted.model;
    let curve = curve(|q| model.quantile_ns(q), |ns| model.tail(ns / 1e9));
    Ok(Theory {
        name: model.name(),
        utilisation: model.utilisation(),
        caveats: fitted.caveats.into_iter().map(str::to_owned).chain(note).collect(),
        mean_ns: model.mean_ns(),
        quantiles_ns: QUANTILES.map(|(q, _)| model.quantile_ns(q)),
        curve,
    })
}

/// A curve through times evenly spread on a logarithmic axis: a tail is cheaper to
/// know than a quantile, which takes fifty of them.
fn curve(
    quantile: impl Fn(f64) -> Option<f64>,
    tail: impl Fn(f64) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (quantile(0.005), quantile(LAST_QUANTILE)) else {
        return Vec::new();
    };
    if first <= 0.0 || !last.is_finite() {
        return Vec::new();
    }
    // Nothing is shorter than a constant service time: the curve is flat until
    // calls begin to wait.
    let mut points = vec![(0.0, first)];
    for index in 0..=POINTS {
        let ns = first * (last / first).powf(index as f64 / POINTS as f64);
        if let Some(above) = tail(ns) {
            points.push(((1.0 - above).clamp(0.0, LAST_QUANTILE), ns));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_those_of_the_model_and_flat_at_a_constant_service_time() {
        let exponential = curve(|q| Some(-1e6 * (1.0 - q).ln()), |ns| Some((-ns / 1e6).exp()));
        assert_eq!(exponential.len(), POINTS + 2);
        for (q, ns) in &exponential[1..] {
            assert!((ns / (-1e6 * (1.0 - q).ln()) - 1.0).abs() < 1e-6, "{q} {ns}");
        }
        let constant = curve(|_| Some(2e6), |ns| Some(f64::from(u8::from(ns < 2e6))));
        assert!(constant.iter().all(|(_, ns)| (ns / 2e6 - 1.0).abs() < 1e-9));
        assert_eq!(constant.last().unwrap().0, LAST_QUANTILE);
        assert!(curve(|_| None, |_| None).is_empty());
    }
}
