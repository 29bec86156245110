//! From which service time on L7 costs less than L4's imbalance wastes.
//!
//! With λ calls a second, each taking S of a backend's CPU, and B equal backends of
//! which the busiest gets the part m of the calls, each backend has to be made for
//! m·λ·S; together that is B·m times what the calls themselves need. So balancing
//! calls instead of connections frees B·(m₄ − m₇)·λ·S cores of backends, and takes
//! (c₇ − c₄)·λ more of proxies, c being their CPU per call. The two are even at
//!
//! ```text
//! S* = (c₇ − c₄) / (B · (m₄ − m₇))
//! ```
//!
//! whatever the rate. Both are held to one utilisation, which drops out. Figures are
//! those of one run. S* is that of the medians, and its interval is that of S* worked out
//! repeat by repeat, so that it has the chance of both in it. Left out: that shares waver within the window, which
//! wastes more; and memory, which an idle backend takes too.

use measure::{
    figure::Figure,
    format,
    statistics::{
        interval::{self, Estimate as Centre, over_trials},
        median,
    },
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Evidence, Finding, Status, Value, change,
    run_view::{Pair, RunView},
};
use crate::{
    estimate::{Difference, Estimate, FEWEST_REPEATS, LEVEL, centred},
    findings::Sentence,
    model::Mark,
};

/// Where L7's extra CPU equals what L4's imbalance wastes, under one load.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BreakEven {
    /// The run.
    pub evidence: Evidence,
    /// The load in a few words.
    pub connections_text: String,
    /// Whether it is one of the points of a sweep.
    pub is_point: bool,
    /// The peer that balances calls.
    pub calls: String,
    /// Its mark.
    #[serde(skip)]
    pub calls_mark: Mark,
    /// The peer that balances connections.
    pub connections: String,
    /// Its mark.
    #[serde(skip)]
    pub connections_mark: Mark,
    /// Backends: B.
    pub backends: usize,
    /// Capacity that L4 needs over what the calls do: B·m₄.
    pub provisioned: Option<Value>,
    /// What it needs more than L7 does: B·(m₄ − m₇).
    pub wasted: Option<Value>,
    /// CPU that L7 takes more per call: c₇ − c₄.
    pub extra_cpu_ns: Option<Value>,
    /// The service time at which both are even: S*; none where there is none.
    pub service_time_ns: Option<Value>,
    /// CPU per call of the lab's backends, which do nothing but answer.
    pub echo_cpu_ns: Option<Value>,
    /// What that says.
    pub finding: Finding,
}

pub(super) fn of(views: &[RunView<'_>]) -> Vec<BreakEven> {
    views
        .iter()
        .filter(|one| applies(one))
        .flat_map(|one| {
            let pairs = one.pair().into_iter().chain(one.other_makes());
            pairs.filter_map(move |pair| row(one, pair))
        })
        .collect()
}

/// Whether the formula holds: equal backends, that stay, and connections that do too.
fn applies(view: &RunView<'_>) -> bool {
    let run = &view.model.run;
    let alike = run.backends.iter().all(|backend| backend.speed == run.backends[0].speed);
    // Connections that end are dealt anew within the window, and some may carry more
    // than others: then the share over the window is not that of a moment.
    let set = |key: &str| run.resolved.pointer(key).is_some_and(|value| !value.is_null());
    let ages = ["/connection_age", "/backends/max_connection_age", "/load/connection_calls"];
    let ages = ages.into_iter().any(set);
    let even = view.is_load() && run.backends.len() > 1 && view.model.even_share().is_some();
    even && alike && !ages && !change::happens(view) && run.load.call == "unary"
}

fn row(view: &RunView<'_>, pair: Pair<'_, '_>) -> Option<BreakEven> {
    let backends = view.model.backends.len();
    let count = backends as f64;
    let shares = pair.connections.beside(pair.calls, Figure::MaxShare);
    let costs = pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall);
    let extra = costs.difference?;
    let even = service_time(pair, count);
    let echo = pair.calls.estimate(Figure::BackendCpuPerCall);
    let provisioned = pair.connections.estimate(Figure::MaxShare).map(|share| share.scaled(count));
    let parts = Parts {
        view,
        pair,
        count,
        significant: (shares.significant, costs.significant),
        even,
        provisioned,
        echo,
    };
    let finding = parts.finding(&extra);
    let is_conclusive =
        finding.status == Status::Conclusive && costs.significant == Difference::Greater;
    Some(BreakEven {
        evidence: view.cite("cpu-per-call"),
        connections_text: connections(view),
        is_point: view.point.is_some(),
        calls: pair.calls.name.clone(),
        calls_mark: pair.calls.mark,
        connections: pair.connections.name.clone(),
        connections_mark: pair.connections.mark,
        backends,
        provisioned: provisioned.map(Value::from),
        wasted: shares.difference.map(|share| Value::from(share.scaled(count))),
        extra_cpu_ns: Some(extra.into()),
        service_time_ns: even.filter(|_| is_conclusive).map(Value::of_ratio),
        echo_cpu_ns: echo.map(Value::from),
        finding,
    })
}

/// S* over the repeats; `None` where one of them has none, since its logarithm would
/// be of nothing.
fn service_time(pair: Pair<'_, '_>, backends: f64) -> Option<Centre> {
    let of = |figures: &measure::figure::Figures| {
        Some((figures.get(Figure::ProxyCpuPerCall)?, figures.get(Figure::MaxShare)?))
    };
    let value = |which: fn((f64, f64)) -> f64| {
        pair.calls.paired(pair.connections, move |figures| of(figures).map(which))
    };
    let ((c7, c4), (m7, m4)) = (value(|one| one.0), value(|one| one.1));
    let values: Vec<f64> = c7
        .iter()
        .zip(&c4)
        .zip(m7.iter().zip(&m4))
        .map(|((c7, c4), (m7, m4))| (c7 - c4) / (backends * (m4 - m7)))
        .collect();
    let sound = values.len() >= FEWEST_REPEATS && values.iter().all(|v| *v > 0.0 && v.is_finite());
    let of_repeats = sound.then(|| over_trials(&values, LEVEL)).flatten()?;
    // Of the medians, as what stands beside it is.
    let extra = median(&c7)? - median(&c4)?;
    let wasted = backends * (median(&m4)? - median(&m7)?);
    Some(centred(of_repeats, extra / wasted)).filter(|even| even.centre > 0.0)
}

struct Parts<'s, 'a> {
    view: &'s RunView<'a>,
    pair: Pair<'s, 'a>,
    count: f64,
    significant: (Difference, Difference),
    even: Option<interval::Estimate>,
    provisioned: Option<Estimate>,
    echo: Option<Estimate>,
}

impl Parts<'_, '_> {
    fn finding(&self, extra: &Estimate) -> Finding {
        let mut id = format!("break-even-{}", self.view.scenario());
        if let Some(at) = &self.view.point {
            id.push_str(&format!("-{}", at.number.unwrap_or(0.0)));
        }
        let evidence = vec![self.view.cite("shares"), self.view.cite("cpu-per-call")];
        let (status, sentence) = self.sentence(extra);
        Finding::new(&id, status, sentence, evidence)
    }

    fn sentence(&self, extra: &Estimate) -> (Status, Sentence) {
        let Pair { calls, connections } = self.pair;
        let start = Sentence::default()
            .text(&format!("With {}, ", crate::decide::even::connections(self.view)));
        match self.significant {
            (Difference::TooFew, _) | (_, Difference::TooFew) => (
                Status::Inconclusive,
                start.text("there are too few repeats for a break-even point."),
            ),
            (_, Difference::Less) => {
                let sentence = start
                    .peer(calls)
                    .text("'s proxy used less CPU per call than ")
                    .peer(connections)
                    .text("'s, so there is no extra cost to recover.");
                (Status::Conclusive, sentence)
            }
            (Difference::Less, _) => {
                let sentence = start
                    .peer(connections)
                    .text(" spread calls more evenly than ")
                    .peer(calls)
                    .text(", so no service time makes up for L7's CPU.");
                (Status::Conclusive, sentence)
            }
            (Difference::NotSignificant, _) | (_, Difference::NotSignificant) => {
                (Status::Inconclusive, self.open(start))
            }
            (Difference::Greater, Difference::Greater) => match self.even {
                Some(even) => (Status::Conclusive, self.sentence_with(start, extra, &even)),
                None => (Status::Inconclusive, self.open(start)),
            },
        }
    }

    fn open(&self, sentence: Sentence) -> Sentence {
        let Pair { calls, connections } = self.pair;
        let what = if self.significant.0 == Difference::NotSignificant {
            "how evenly they spread calls"
        } else {
            "what a call costs in their proxies"
        };
        sentence
            .text("there is no significant difference between ")
            .peer(connections)
            .text(" and ")
            .peer(calls)
            .text(&format!(" in {what}, and so no break-even point."))
    }

    fn sentence_with(&self, start: Sentence, extra: &Estimate, even: &Centre) -> Sentence {
        let Pair { calls, connections } = self.pair;
        let mut sentence = start.text("backends behind ").peer(connections).text(" together need ");
        if let Some(provisioned) = &self.provisioned {
            let range = provisioned
                .interval
                .map(|(low, high)| format::range(format::number(low), format::number(high)));
            sentence = sentence
                .figure(format!("{} times", format::number(provisioned.value)))
                .qualified(range);
        }
        sentence = sentence
            .text(&format!(
                " the capacity that their calls use ({} backends times the busiest share); ",
                self.count
            ))
            .peer(calls)
            .text("'s extra ")
            .durations(extra)
            .text(" per call pay off once a call costs a backend ")
            .service(even)
            .text(" of CPU or more");
        let beyond = even.interval.zip(self.echo.and_then(|echo| Some((echo, echo.interval?))));
        if let Some((even, (echo, (low, high)))) = beyond {
            if even.high < low {
                sentence = sentence.text(", which is less than the ").durations(&echo).text(
                    " that the lab's backends use just to respond: it pays off with any service",
                );
            } else if even.low > high {
                sentence = sentence
                    .text("; a call that only gets a response costs ")
                    .durations(&echo)
                    .text(", so for light calls L4 is cheaper");
            }
        }
        sentence.text(".")
    }
}

impl Sentence {
    /// A service time with its interval.
    fn service(self, time: &Centre) -> Self {
        let range = time.interval.map(|ends| format::duration_range(ends.low, ends.high));
        self.figure(format::duration(time.centre)).qualified(range)
    }
}

fn connections(view: &RunView<'_>) -> String {
    let run = &view.model.run;
    let connections = match run.load.connections {
        1 => "one connection".to_owned(),
        more => format!("{more} connections"),
    };
    format!("{connections} on {} backends", run.backends.len())
}
