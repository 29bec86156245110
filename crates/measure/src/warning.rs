//! Doubts, typed: what is doubtful about a measurement, by which figures, and
//! what to do next. One file, since a kind's figures, example and words go together.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format;

/// A doubt about a trial or a run. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Warning {
    /// The generator sent calls late by itself.
    GeneratorLimited {
        /// Lateness of the 99th percentile of calls, in µs.
        lateness_p99_us: f64,
        /// The bound it is held to, in µs.
        bound_us: f64,
    },
    /// A doubt about one of the nodes of a run on several.
    OnNode {
        /// The node.
        node: String,
        /// The doubt.
        warning: Box<Warning>,
    },
    /// Nodes did not start together.
    StartSkew {
        /// How far apart they may have been, in µs.
        skew_us: f64,
        /// The bound it is held to, in µs.
        bound_us: f64,
    },
    /// Nodes of a run on several are one machine.
    SharedMachine {
        /// How many nodes there are.
        nodes: u32,
        /// How many machines they are on.
        machines: u32,
    },
    /// More calls were asked for than the generator makes without being late on this machine.
    GeneratorNearLimit {
        /// Calls per second, at the highest point.
        asked_per_s: f64,
        /// Calls per second that it can make, as `loadgen calibrate` found.
        usable_per_s: f64,
    },
    /// The generator was ready to run and had no CPU.
    GeneratorStarved {
        /// How long, as a share of the trial.
        share: f64,
    },
    /// Other work was waiting for CPU before the run began.
    HighLoadAverage {
        /// Load average over one minute.
        load_average: f64,
        /// Logical CPUs.
        cpus: u32,
    },
    /// The hypervisor gave the CPU to other guests.
    StealTime {
        /// Share of CPU time taken.
        share: f64,
    },
    /// A CPU quota stopped the lab.
    Throttled {
        /// Milliseconds it had to pause.
        ms: f64,
    },
    /// Much of the machine went elsewhere while the trial ran.
    Disturbed {
        /// In which part of the samples, of 10 ms each.
        share: f64,
        /// To other guests of the hypervisor, in milliseconds of CPU time.
        steal_ms: f64,
        /// To a CPU quota, likewise.
        throttled_ms: f64,
        /// To other programs, likewise.
        neighbours_ms: f64,
    },
    /// Other calls were sent than were asked for.
    OtherRate {
        /// Calls per second that were asked for.
        asked: f64,
        /// Calls per second that were sent.
        sent: f64,
    },
    /// Calls that should come by chance went out in clumps.
    Clumped {
        /// The largest distance between the distribution of gaps and the
        /// exponential one, from 0 to 1.
        distance: f64,
    },
    /// The start of the window was not steady, and was cut off.
    WarmUpExtended {
        /// Seconds cut off.
        cut_s: f64,
    },
    /// All CPUs together were busy nearly all the time.
    CpuSaturated {
        /// Share of CPU time not idle.
        busy: f64,
    },
    /// Too few calls for the percentiles shown.
    FewCalls {
        /// Calls that succeeded.
        calls: u64,
        /// The least for a p99 that ten calls lie above.
        wanted: u64,
    },
    /// Calls failed.
    FailedCalls {
        /// How many.
        failed: u64,
        /// Of how many that were sent.
        sent: u64,
    },
    /// Calls failed because the client's own machine had no port or descriptor left.
    ClientExhausted {
        /// How many.
        calls: u64,
        /// What there was none of, as in
        /// [`FailureCount::what`](crate::record::FailureCount::what).
        what: String,
    },
    /// Calls had no answer, or were never sent, when the trial was closed. The
    /// latency percentiles leave them out and so are too low.
    UnfinishedCalls {
        /// How many.
        unfinished: u64,
        /// Of how many that were scheduled.
        scheduled: u64,
    },
    /// Latency values beyond the histograms' range were cut.
    HistogramSaturated {
        /// How many.
        values: u64,
    },
    /// The call log was full.
    LogFull {
        /// Calls that were not kept.
        lost: u64,
    },
    /// The time budget ended before a figure was known as well as was asked.
    PrecisionNotReached {
        /// The peer.
        peer: String,
        /// The point of the sweep, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        point: Option<String>,
        /// Which figure.
        figure: String,
        /// Half the interval's width that was asked for, as a fraction.
        wanted: f64,
        /// What was reached; none with too few trials.
        reached: Option<f64>,
    },
    /// A fault of the scenario showed no effect.
    FaultNotSeen {
        /// What was done.
        action: String,
        /// To which backend.
        backend: String,
    },
    /// A link did not take the time that it was asked to.
    LinkOff {
        /// Its two ends.
        between: String,
        /// What a ping was to take there and back, in ms.
        asked_ms: f64,
        /// What half of the pings took at most, in ms; none where none was answered.
        took_ms: Option<f64>,
    },
    /// The balancer and its backends were not started by the lab.
    ExternalTarget {
        /// Where it is, as it was asked for.
        target: String,
    },
    /// Answers do not tell which backend they come from.
    SharesUnknown,
    /// Servers work on more calls at once than the scenario says.
    OutOfTurn {
        /// Calls that were answered before a server can have come free for them.
        calls: u64,
        /// Of how many that were timed.
        of: u64,
    },
    /// layerlab was built without optimisation.
    UnoptimisedBuild {
        /// The profile.
        profile: String,
    },
    /// Generator, proxy and backends share CPUs.
    SharedCpus {
        /// Logical CPUs.
        cpus: u32,
    },
    /// A figure went up or down during the trial.
    DriftWithinTrial {
        /// Which figure.
        figure: String,
        /// Last third relative to the first third.
        ratio: f64,
    },
    /// Repeats that follow each other are alike, so that they tell less than
    /// independent ones.
    DependentRepeats {
        /// The peer.
        peer: String,
        /// The point of the sweep, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        point: Option<String>,
        /// Which figure.
        figure: String,
        /// The chance of neighbours as alike if they were independent.
        p_value: f64,
    },
    /// Repeats of the same trial differ more than their calls explain.
    DriftBetweenRepeats {
        /// The peer.
        peer: String,
        /// The point of the sweep, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        point: Option<String>,
        /// Which figure.
        figure: String,
        /// Largest relative to smallest.
        ratio: f64,
    },
}

impl Warning {
    /// One of each kind: what the tests walk, and what documentation lists. As long as there
    /// are kinds.
    pub fn examples() -> Vec<Self> {
        let figure = || "latency p50".to_owned();
        vec![
            Self::GeneratorLimited { lateness_p99_us: 1_500.0, bound_us: 500.0 },
            Self::GeneratorNearLimit { asked_per_s: 300_000.0, usable_per_s: 280_000.0 },
            Self::GeneratorStarved { share: 0.6 },
            Self::HighLoadAverage { load_average: 3.2, cpus: 2 },
            Self::StealTime { share: 0.07 },
            Self::Throttled { ms: 120.0 },
            Self::Disturbed {
                share: 0.34,
                steal_ms: 1_200.0,
                throttled_ms: 0.0,
                neighbours_ms: 400.0,
            },
            Self::OtherRate { asked: 3_000.0, sent: 2_700.0 },
            Self::Clumped { distance: 0.2 },
            Self::WarmUpExtended { cut_s: 0.8 },
            Self::CpuSaturated { busy: 0.97 },
            Self::FewCalls { calls: 120, wanted: 1_000 },
            Self::FailedCalls { failed: 7, sent: 9_600 },
            Self::ClientExhausted { calls: 300, what: "no local port".into() },
            Self::UnfinishedCalls { unfinished: 40, scheduled: 9_600 },
            Self::HistogramSaturated { values: 3 },
            Self::LogFull { lost: 1 },
            Self::OnNode { node: "n2".into(), warning: Box::new(Self::StealTime { share: 0.04 }) },
            Self::StartSkew { skew_us: 2_400.0, bound_us: 1_000.0 },
            Self::SharedMachine { nodes: 3, machines: 1 },
            Self::PrecisionNotReached {
                peer: "l7".into(),
                point: None,
                figure: "latency_p99".into(),
                wanted: 0.05,
                reached: Some(0.12),
            },
            Self::FaultNotSeen { action: "kill".into(), backend: "b1".into() },
            Self::LinkOff {
                between: "client and balancer".into(),
                asked_ms: 10.0,
                took_ms: Some(12.3),
            },
            Self::ExternalTarget { target: "lb.example.com:80".into() },
            Self::SharesUnknown,
            Self::OutOfTurn { calls: 310, of: 9_600 },
            Self::UnoptimisedBuild { profile: "debug, opt-level 0".into() },
            Self::SharedCpus { cpus: 2 },
            Self::DriftWithinTrial { figure: figure(), ratio: 2.5 },
            Self::DependentRepeats {
                peer: "l4".into(),
                point: None,
                figure: figure(),
                p_value: 0.0004,
            },
            Self::DriftBetweenRepeats {
                peer: "l4".into(),
                point: Some("64".into()),
                figure: figure(),
                ratio: 1.8,
            },
        ]
    }

    /// The point of a sweep that it is about, where it stands in a run's record and names one.
    pub fn point(&self) -> Option<&str> {
        match self {
            Self::PrecisionNotReached { point, .. }
            | Self::DependentRepeats { point, .. }
            | Self::DriftBetweenRepeats { point, .. } => point.as_deref(),
            _ => None,
        }
    }

    /// The doubt itself, whichever node it is about.
    pub fn itself(&self) -> &Self {
        match self {
            Self::OnNode { warning, .. } => warning.itself(),
            _ => self,
        }
    }

    /// The peer that it is about, where it stands in a run's record and names one.
    pub fn peer(&self) -> Option<&str> {
        match self {
            Self::PrecisionNotReached { peer, .. }
            | Self::DependentRepeats { peer, .. }
            | Self::DriftBetweenRepeats { peer, .. } => Some(peer),
            _ => None,
        }
    }
}

impl fmt::Display for Warning {
    // One arm a kind, with its advice: as long as there are kinds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GeneratorLimited { lateness_p99_us, bound_us } => write!(
                f,
                "The generator itself was late: 1 % of the calls were sent {lateness_p99_us:.0} µs or \
                 more after they could have been (bound: {bound_us:.0} µs), and their latency \
                 includes that. Lower the rate, give the generator a core of its own, or stop other \
                 work on the machine."
            ),
            Self::OnNode { node, warning } => write!(f, "On node {node}: {warning}"),
            Self::StartSkew { skew_us, bound_us } => write!(
                f,
                "Nodes may have started {skew_us:.0} µs apart (bound: {bound_us:.0} µs), so together \
                 they follow the schedule only to that accuracy. Latencies are still right, since \
                 each is measured with one clock. Use nodes with a shorter round trip to the \
                 coordinator."
            ),
            Self::SharedMachine { nodes, machines } => write!(
                f,
                "{nodes} nodes share {machines} machine{}: generator, balancer and backends compete \
                 for CPUs there, and are not connected by a real network. Use as many machines as \
                 nodes for figures.",
                if *machines == 1 { "" } else { "s" }
            ),
            Self::GeneratorNearLimit { asked_per_s, usable_per_s } => write!(
                f,
                "{} calls/s were asked for, but on its CPUs here the generator can make only {} \
                 without being late (`loadgen calibrate`), so latencies may be its own. Lower the \
                 rate, or give it more cores.",
                whole(*asked_per_s),
                whole(*usable_per_s)
            ),
            Self::GeneratorStarved { share } => write!(
                f,
                "The generator waited for a CPU {:.0} % of the time, so it sent calls and read their \
                 responses late, and latencies include that. Give it a core of its own, lower the \
                 rate, or stop other work on the machine.",
                share * 100.0
            ),
            Self::HighLoadAverage { load_average, cpus } => write!(
                f,
                "The machine was busy before the run: load average {load_average:.1} on {cpus} \
                 CPUs. Stop other work and run again."
            ),
            Self::StealTime { share } => write!(
                f,
                "The hypervisor gave {:.1} % of the CPU time to other guests. Compare peers only \
                 within this run, and repeat it at a quieter time.",
                share * 100.0
            ),
            Self::Throttled { ms } => write!(
                f,
                "A CPU quota stopped the lab for {ms:.0} ms in all, and latencies include that. \
                 Raise the container's CPU limit, or lower the rate."
            ),
            Self::Disturbed { share, steal_ms, throttled_ms, neighbours_ms } => {
                let lost = [
                    (*neighbours_ms, "to other programs"),
                    (*steal_ms, "to other guests of the hypervisor"),
                    (*throttled_ms, "to a CPU quota"),
                ];
                let lost = lost.into_iter().filter(|(ms, _)| *ms >= 0.5);
                let lost: Vec<String> =
                    lost.map(|(ms, to)| format!("{} ms {to}", whole(ms))).collect();
                write!(
                    f,
                    "For {:.0} % of the trial, more than a quarter of the machine's CPU time went \
                     elsewhere (in all {}). Stop other work on the machine, or raise \
                     `run.max_disturbed` so that more such trials are measured again.",
                    share * 100.0,
                    if lost.is_empty() { "less than a millisecond".into() } else { lost.join(", ") }
                )
            }
            Self::OtherRate { asked, sent } => write!(
                f,
                "{} calls/s were sent where {} were asked for: calls waited for a free stream, or \
                 the generator could not keep up. Add streams or connections, or lower the rate.",
                whole(*sent),
                whole(*asked)
            ),
            Self::Clumped { distance } => write!(
                f,
                "Calls were sent in small clumps: the distribution of their gaps is {distance:.2} \
                 from the exponential one (0 is exact, 1 the maximum). If arrivals matter below \
                 100 µs, give the generator cores of its own, or set `load.pacer` to `spin`."
            ),
            Self::WarmUpExtended { cut_s } => write!(
                f,
                "The first {cut_s:.2} s after the warm-up were not steady yet and are not included \
                 in latencies. Lengthen `load.warm_up` to measure the whole duration."
            ),
            Self::CpuSaturated { busy } => write!(
                f,
                "The machine's CPUs were {:.0} % busy, so latencies show its limit rather than the \
                 peer's. Lower the rate or use a larger machine.",
                busy * 100.0
            ),
            Self::FewCalls { calls, wanted } => write!(
                f,
                "{} calls are few for the percentiles shown; with {}, ten calls lie above the p99. \
                 Measure longer or at a higher rate.",
                format::count(*calls),
                format::count(*wanted)
            ),
            Self::FailedCalls { failed, sent } => write!(
                f,
                "{} of {} calls failed; latencies are those of the rest. See the table of failed \
                 calls for the side at fault.",
                format::count(*failed),
                format::count(*sent)
            ),
            Self::ClientExhausted { calls, what } => write!(
                f,
                "{} calls failed because the client could not open a connection ({what}), which \
                 is a limit of the lab, not of the peer. Let connections carry more calls \
                 (`load.connection_calls`), lower the rate, or set `network = \"namespaces\"`.",
                format::count(*calls)
            ),
            Self::UnfinishedCalls { unfinished, scheduled } => write!(
                f,
                "{} of {} calls had no response when the trial ended. Percentiles \
                 leave them out, so the real ones are higher. The load exceeds what the backends in \
                 use can serve, or what the generator can send (then it was late as well). Lower the \
                 rate, or give more CPU to whichever falls behind.",
                format::count(*unfinished),
                format::count(*scheduled)
            ),
            Self::HistogramSaturated { values } => write!(
                f,
                "{} latencies were longer than an hour and count as an hour. Check the machine's \
                 clock.",
                format::count(*values)
            ),
            Self::LogFull { lost } => write!(
                f,
                "{} calls did not fit into the call log and are not included in any figure. Lower \
                 the rate or the duration.",
                format::count(*lost)
            ),
            Self::PrecisionNotReached { peer, point, figure, wanted, reached } => {
                let reached = reached
                    .map_or_else(|| "unknown".to_owned(), |part| format!("±{:.1} %", part * 100.0));
                write!(
                    f,
                    "The time budget ended before {figure} of {peer}{} was known to ±{:.1} %; its \
                     precision is {reached}. Raise `precision.budget`, or lengthen the trials.",
                    at(point.as_deref()),
                    wanted * 100.0
                )
            }
            Self::FaultNotSeen { action, backend } => write!(
                f,
                "The fault `{action}` on backend {backend} had no visible effect before the trial \
                 ended. Schedule it earlier, or lengthen the trial."
            ),
            Self::LinkOff { between, asked_ms, took_ms } => {
                let took = took_ms.map_or_else(
                    || "no ping was answered".to_owned(),
                    |took| format!("pings took {took:.2} ms in the median"),
                );
                write!(
                    f,
                    "The link between {between} is not as configured: {took} before the \
                     trial, and should have taken {asked_ms:.2} ms. Quiet the machine, or give \
                     it more cores: the process that delays packets has to run when they are due."
                )
            }
            Self::ExternalTarget { target } => write!(
                f,
                "The lab did not start {target} or its backends: it knows their CPU time only if \
                 `--bill` says where to read it, and backends without calls only if `--backends` \
                 lists them, and others may be using them. Make sure that nobody else calls them."
            ),
            Self::SharesUnknown => f.write_str(
                "Which backend served a call is unknown, so there are no shares and no figures by \
                 backend; latencies and errors are those of all calls. If responses have a header or \
                 trailer with the id of their backend, set `service.identity` to its name.",
            ),
            Self::OutOfTurn { calls, of } => write!(
                f,
                "{calls} of {of} calls were answered before a server of their backend can have been \
                 free: it works on more calls at once than `backends.concurrency` says, so service \
                 times and queueing times are wrong. Correct the number, or remove it."
            ),
            Self::UnoptimisedBuild { profile } => write!(
                f,
                "layerlab was built without optimisation ({profile}), so its own costs mean little. \
                 Build it with the workspace's dev or release profile."
            ),
            Self::SharedCpus { cpus } => write!(
                f,
                "Generator, proxy and backends share {cpus} CPUs. CPU time per call is still right; \
                 latencies include waiting for each other."
            ),
            Self::DriftWithinTrial { figure, ratio } => write!(
                f,
                "The {figure} drifted within the trial: in the last third it was {ratio:.2} times that \
                 of the first. The system had not settled, or can't at this load. Lengthen the \
                 warm-up, or take the figure for that of a transient state."
            ),
            Self::DependentRepeats { peer, point, figure, p_value } => write!(
                f,
                "The {figure} of {peer}{} is correlated between consecutive repeats (p = {p_value:.4}), \
                 so its interval is too narrow: the machine changes slowly. Stop other work on it, or \
                 spread the repeats over a longer time.",
                at(point.as_deref())
            ),
            Self::DriftBetweenRepeats { peer, point, figure, ratio } => write!(
                f,
                "The {figure} of {peer}{} differs between repeats by a factor of {ratio:.2}. Something \
                 else used the machine, or the peer behaves randomly. Add repeats.",
                at(point.as_deref())
            ),
        }
    }
}

/// A count or a rate, with thousands apart.
fn whole(value: f64) -> String {
    format::count(value.max(0.0).round() as u64)
}

/// Where in a sweep.
fn at(point: Option<&str>) -> String {
    point.map(|point| format!(" at {point}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_warning_advises_and_survives_the_record() {
        for warning in Warning::examples() {
            let text = warning.to_string();
            assert!(text.ends_with('.') && text.matches(". ").count() >= 1, "no advice: {text}");
            let json = serde_json::to_string(&warning).unwrap();
            assert_eq!(serde_json::from_str::<Warning>(&json).unwrap(), warning);
        }
    }

    #[test]
    fn the_examples_cover_every_kind() {
        let kinds: std::collections::BTreeSet<String> = Warning::examples()
            .iter()
            .map(|warning| serde_json::to_value(warning).unwrap()["kind"].to_string())
            .collect();
        let schema = serde_json::to_value(schemars::schema_for!(Warning)).unwrap();
        assert_eq!(schema["oneOf"].as_array().unwrap().len(), kinds.len());
    }
}
