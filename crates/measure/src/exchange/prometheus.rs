//! The summary of trials as Prometheus text.
//!
//! A metric is a line in one list; a name once published keeps its meaning.

use std::fmt::Write as _;

use super::QUANTILES;
use crate::{
    figure::Figures,
    histogram::{HistogramRecord, new_histogram, quantile},
    record::{BackendRecord, FailureCount, ProcessCost, TrialRecord},
};

/// One sample of a metric.
struct Sample {
    /// What the metric's name ends in: nothing, `_sum` or `_count`.
    suffix: &'static str,
    /// Labels beyond those of the trial.
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Sample {
    fn plain(value: f64) -> Self {
        Self::labelled(Vec::new(), value)
    }

    fn labelled(labels: Vec<(&'static str, String)>, value: f64) -> Self {
        Self { suffix: "", labels, value }
    }
}

/// One metric of the exposition.
struct Metric {
    name: &'static str,
    /// `gauge`: a trial is over, and nothing of it counts on.
    kind: &'static str,
    help: &'static str,
    samples: fn(&TrialRecord) -> Vec<Sample>,
}

/// The metrics, in the order written. Units are Prometheus' own: seconds, bytes,
/// ratios.
const METRICS: &[Metric] = &[
    Metric {
        name: "layerlab_trial_measured_seconds",
        kind: "gauge",
        help: "Length of the measured window.",
        samples: |trial| vec![Sample::plain(trial.measured_s)],
    },
    Metric {
        name: "layerlab_trial_calls",
        kind: "gauge",
        help: "Calls scheduled in the measured window, by what came of them.",
        samples: calls,
    },
    Metric {
        name: "layerlab_trial_failed_calls",
        kind: "gauge",
        help: "Failed calls by the side at fault and by what went wrong.",
        samples: failures,
    },
    Metric {
        name: "layerlab_trial_throughput_calls_per_second",
        kind: "gauge",
        help: "Calls that succeeded within the window, per second of it.",
        samples: |trial| vec![Sample::plain(Figures::of_trial(trial).throughput)],
    },
    Metric {
        name: "layerlab_trial_backend_calls",
        kind: "gauge",
        help: "Calls that each backend served.",
        samples: |trial| {
            let sample = |backend: &BackendRecord| {
                Sample::labelled(vec![("backend", backend.id.clone())], backend.calls as f64)
            };
            trial.backends.iter().map(sample).collect()
        },
    },
    Metric {
        name: "layerlab_trial_latency_seconds",
        kind: "summary",
        help: "Latency of calls that succeeded: from the scheduled time in an open loop, \
               from sending in a closed one.",
        samples: |trial| distribution(&trial.latency),
    },
    Metric {
        name: "layerlab_trial_generator_lateness_seconds",
        kind: "summary",
        help: "How late the generator itself sent calls.",
        samples: |trial| distribution(&trial.lateness),
    },
    Metric {
        name: "layerlab_trial_cpu_seconds",
        kind: "gauge",
        help: "CPU time spent in the measured window, by process and mode.",
        samples: cpu,
    },
    Metric {
        name: "layerlab_trial_instructions",
        kind: "gauge",
        help: "Instructions executed in the measured window, by process and mode; none where the \
               machine does not count them.",
        samples: instructions,
    },
    Metric {
        name: "layerlab_trial_resident_memory_peak_bytes",
        kind: "gauge",
        help: "Largest resident memory of a process so far.",
        samples: |trial| {
            let sample = |cost: &ProcessCost| {
                Sample::labelled(vec![("process", cost.name.clone())], cost.rss_peak_bytes as f64)
            };
            trial.processes.iter().map(sample).collect()
        },
    },
    Metric {
        name: "layerlab_trial_warnings",
        kind: "gauge",
        help: "Doubts about the trial; with any, read the report before the figures.",
        samples: |trial| vec![Sample::plain(trial.warnings.len() as f64)],
    },
];

fn calls(trial: &TrialRecord) -> Vec<Sample> {
    let failed: u64 = trial.counts.failed.iter().map(|failure| failure.calls).sum();
    [("ok", trial.counts.ok), ("failed", failed), ("unfinished", trial.counts.unfinished)]
        .map(|(outcome, calls)| {
            Sample::labelled(vec![("outcome", outcome.to_owned())], calls as f64)
        })
        .into()
}

fn failures(trial: &TrialRecord) -> Vec<Sample> {
    let sample = |failure: &FailureCount| {
        let side = format!("{:?}", failure.side).to_lowercase();
        Sample::labelled(vec![("side", side), ("what", failure.what.clone())], failure.calls as f64)
    };
    trial.counts.failed.iter().map(sample).collect()
}

fn cpu(trial: &TrialRecord) -> Vec<Sample> {
    let sample = |cost: &ProcessCost| {
        [("user", cost.user_ns), ("system", cost.system_ns)].map(|(mode, ns)| {
            let labels = vec![("process", cost.name.clone()), ("mode", mode.to_owned())];
            Sample::labelled(labels, ns as f64 / 1e9)
        })
    };
    trial.processes.iter().flat_map(sample).collect()
}

fn instructions(trial: &TrialRecord) -> Vec<Sample> {
    let samples = |cost: &ProcessCost| {
        let modes = cost.instructions.map(|one| [("user", one.user), ("system", one.kernel)]);
        let name = cost.name.clone();
        modes.into_iter().flatten().map(move |(mode, count)| {
            let labels = vec![("process", name.clone()), ("mode", mode.to_owned())];
            Sample::labelled(labels, count as f64)
        })
    };
    trial.processes.iter().flat_map(samples).collect()
}

/// A histogram as a summary: quantiles, sum and count.
fn distribution(record: &HistogramRecord) -> Vec<Sample> {
    let histogram = record.to_histogram().unwrap_or_else(|_| new_histogram());
    let count = histogram.len() as f64;
    let mut samples: Vec<Sample> = QUANTILES
        .iter()
        .map(|(_, part)| {
            // An empty summary has quantiles that are no numbers.
            let value = quantile(&histogram, *part).map_or(f64::NAN, |ns| ns as f64 / 1e9);
            Sample::labelled(vec![("quantile", part.to_string())], value)
        })
        .collect();
    let sum = if histogram.is_empty() { 0.0 } else { histogram.mean() * count / 1e9 };
    samples.push(Sample { suffix: "_sum", ..Sample::plain(sum) });
    samples.push(Sample { suffix: "_count", ..Sample::plain(count) });
    samples
}

/// The summary of trials in Prometheus' text exposition format, each sample with
/// the scenario, the peer and the repeat as labels, and the point of a sweep.
pub fn prometheus(scenario: &str, trials: &[TrialRecord]) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let mut lines = String::new();
        for trial in trials {
            let mut own = vec![("scenario", scenario.to_owned()), ("peer", trial.peer.clone())];
            own.extend(trial.point.clone().map(|point| ("point", point)));
            own.push(("repeat", trial.repeat.to_string()));
            for sample in (metric.samples)(trial) {
                lines.push_str(&sample_line(metric.name, &own, &sample));
            }
        }
        if !lines.is_empty() {
            let _ = writeln!(text, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(text, "# TYPE {} {}", metric.name, metric.kind);
            text.push_str(&lines);
        }
    }
    text
}

fn sample_line(name: &str, own: &[(&'static str, String)], sample: &Sample) -> String {
    let labels: Vec<_> = own
        .iter()
        .chain(&sample.labels)
        .map(|(key, value)| format!("{key}=\"{}\"", label_value(value)))
        .collect();
    // Rust writes what is no number as Prometheus reads it: NaN.
    format!("{name}{}{{{}}} {}\n", sample.suffix, labels.join(","), sample.value)
}

/// A label's value with backslash, quote and line feed escaped.
fn label_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        exchange::histogram,
        record::{
            Counts, FORMAT_VERSION, Instructions, MachineCost, ProcessRole, Side, TrialOutcome,
        },
    };

    fn trial(peer: &str, ids: &[String], latencies: &[u64]) -> TrialRecord {
        let backend = |id: &String| BackendRecord {
            id: id.clone(),
            weight: 1,
            calls: 3,
            calls_with_warm_up: None,
            latency: histogram(&[]),
            service: None,
        };
        TrialRecord {
            format: FORMAT_VERSION,
            peer: peer.to_owned(),
            nodes: Vec::new(),
            point: None,
            payload_bytes: 0,
            repeat: 2,
            order: 0,
            started_utc: "2026-01-01T00:00:00Z".to_owned(),
            outcome: TrialOutcome::Complete,
            warm_up_s: 1.0,
            measured_s: 2.0,
            cut_s: 0.0,
            counts: Counts {
                scheduled: 10,
                sent: 10,
                ok: latencies.len() as u64,
                failed: vec![FailureCount {
                    side: Side::Proxy,
                    what: "UNAVAILABLE".to_owned(),
                    calls: 4,
                }],
                unfinished: 1,
                completed_in_window: 8,
            },
            latency: histogram(latencies),
            latency_sent: histogram(latencies),
            latency_wire: histogram(&[]),
            receipt_delay: histogram(&[]),
            lateness: histogram(&[]),
            queued: histogram(&[]),
            service: histogram(&[]),
            in_backend: histogram(&[]),
            overhead: histogram(&[]),
            faults: Vec::new(),
            backends: ids.iter().map(backend).collect(),
            balancers: Vec::new(),
            zones: Vec::new(),
            series: Vec::new(),
            tenths: Vec::new(),
            processes: vec![ProcessCost {
                role: ProcessRole::Proxy,
                name: "l7".to_owned(),
                user_ns: 1_500_000_000,
                system_ns: 500_000_000,
                voluntary_switches: 1,
                involuntary_switches: 2,
                waited_ns: 0,
                instructions: Some(Instructions { user: 30_000, kernel: 70_000 }),
                rss_bytes: 3,
                rss_peak_bytes: 4_096,
            }],
            machine: MachineCost::default(),
            disturbance: None,
            links: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn prometheus_text_has_each_metric_once_with_its_samples_together() {
        let ids = ["b0".to_owned(), "b1".to_owned()];
        let trials = [trial("l4", &ids, &[1_000_000; 4]), trial("l7", &ids, &[])];
        let text = prometheus("flood", &trials);
        for line in [
            "layerlab_trial_calls{scenario=\"flood\",peer=\"l4\",repeat=\"2\",outcome=\"failed\"} 4",
            "layerlab_trial_failed_calls{scenario=\"flood\",peer=\"l4\",repeat=\"2\",\
             side=\"proxy\",what=\"UNAVAILABLE\"} 4",
            "layerlab_trial_cpu_seconds{scenario=\"flood\",peer=\"l7\",repeat=\"2\",\
             process=\"l7\",mode=\"user\"} 1.5",
            "layerlab_trial_instructions{scenario=\"flood\",peer=\"l7\",repeat=\"2\",\
             process=\"l7\",mode=\"system\"} 70000",
            "layerlab_trial_latency_seconds_count{scenario=\"flood\",peer=\"l4\",repeat=\"2\"} 4",
            "layerlab_trial_latency_seconds{scenario=\"flood\",peer=\"l7\",repeat=\"2\",\
             quantile=\"0.5\"} NaN",
            "layerlab_trial_throughput_calls_per_second{scenario=\"flood\",peer=\"l4\",repeat=\"2\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        let mut seen: Vec<&str> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split('{').next().unwrap();
            let name = name.trim_end_matches("_sum").trim_end_matches("_count");
            if seen.last() != Some(&name) {
                assert!(!seen.contains(&name), "{name} is scattered");
                seen.push(name);
            }
        }
        assert_eq!(seen.len(), METRICS.len());
        assert_eq!(prometheus("flood", &[]), "");
    }

    /// Reads the labels of a sample back.
    fn labels(line: &str) -> Option<Vec<(String, String)>> {
        let mut rest = line.split_once('{')?.1;
        let mut labels = Vec::new();
        loop {
            let (key, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                match characters.next()? {
                    (_, '\\') => match characters.next()?.1 {
                        'n' => value.push('\n'),
                        escaped => value.push(escaped),
                    },
                    (index, '"') => break index,
                    (_, other) => value.push(other),
                }
            };
            labels.push((key.trim_start_matches(',').to_owned(), value));
            rest = &after[end + 1..];
            if rest.starts_with('}') {
                return Some(labels);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_name_of_a_peer_is_read_back_from_a_label(
            peer in "[a-z\\\\\"\n={},é ]{0,12}",
            latencies in prop::collection::vec(1_u64..1_000_000_000, 0..20),
        ) {
            let text = prometheus("s", &[trial(&peer, &[], &latencies)]);
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let found = labels(line).unwrap();
                prop_assert_eq!(&found[1], &("peer".to_owned(), peer.clone()));
                let value = line.rsplit(' ').next().unwrap();
                prop_assert!(value.parse::<f64>().is_ok(), "{}", line);
            }
        }

    }
}
