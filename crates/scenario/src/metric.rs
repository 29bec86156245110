//! The quantities a claim may speak of.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::error::{did_you_mean, list_of};

/// What a quantity is measured in; terms of a claim have to agree in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A part of a whole: a fraction from 0 to 1, written in percent.
    Share,
    /// A number of calls.
    Calls,
    /// Nanoseconds, written with a unit of time.
    Time,
    /// Calls per second.
    Rate,
    /// A plain number.
    Number,
}

/// Where a claim about a quantity has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every trial: the quantity follows from how calls were spread, which
    /// repeats don't blur.
    EveryTrial,
    /// On the median over trials: the quantity is noisy, and one unlucky trial
    /// proves nothing.
    MedianOverTrials,
    /// Once: the quantity is what all trials of a peer come to.
    WholeRun,
}

macro_rules! metrics {
    ($($variant:ident $name:literal $kind:ident $scope:ident $meaning:literal;)*) => {
        /// A quantity of a trial, by its name in claims.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Metric {
            $(#[doc = $meaning] $variant,)*
        }

        impl Metric {
            /// All of them. A new one is a line in this list; what computes it
            /// is found by its name.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in claims and in results.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it is measured in.
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),* }
            }

            /// Where a claim about it has to hold.
            pub fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope),* }
            }

            /// What it is, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

metrics! {
    MaxShare "max_share" Share EveryTrial "Share of calls that the busiest backend served.";
    MinShare "min_share" Share EveryTrial "Share of calls that the idlest backend served.";
    SpreadCalls "spread_calls" Calls EveryTrial "Calls of the busiest backend minus calls of the idlest.";
    BackendsUsed "backends_used" Number EveryTrial "Backends that served at least one call.";
    Jain "jain" Number EveryTrial "Jain's fairness index of the calls per backend: 1 when even, 1/n when one has all.";
    Cv "cv" Number EveryTrial "Standard deviation of the calls per backend over their mean.";
    ChiSquareP "chi_square_p" Number MedianOverTrials "Chance of calls at least this far from the backends' weights if each had been sent to a backend by chance, as likely as its weight.";
    ErrorRate "error_rate" Share EveryTrial "Share of calls that failed.";
    UnfinishedRate "unfinished_rate" Share EveryTrial "Share of calls without an answer when the trial ended.";
    Calls "calls" Calls EveryTrial "Calls that came back well.";
    Throughput "throughput" Rate MedianOverTrials "Calls per second that came back well.";
    LatencyMean "latency_mean" Time MedianOverTrials "Mean latency.";
    LatencyP50 "latency_p50" Time MedianOverTrials "Latency that half of the calls stay within.";
    LatencyP90 "latency_p90" Time MedianOverTrials "Latency that 90 % of the calls stay within.";
    LatencyP99 "latency_p99" Time MedianOverTrials "Latency that 99 % of the calls stay within.";
    LatencyP999 "latency_p999" Time MedianOverTrials "Latency that 99.9 % of the calls stay within.";
    LatencyMax "latency_max" Time MedianOverTrials "Largest latency.";
    QueuedP99 "queued_p99" Time MedianOverTrials "Time in a backend's queue that 99 % of the calls stay within.";
    ServiceP99 "service_p99" Time MedianOverTrials "Service time that 99 % of the calls stay within.";
    ProxyCpuPerCall "proxy_cpu_per_call" Time MedianOverTrials "CPU time of the proxy per call.";
    ProxyCpuPerGib "proxy_cpu_per_gib" Time MedianOverTrials "CPU time of the proxy per GiB of payload moved, both directions together.";
    BackendCpuPerCall "backend_cpu_per_call" Time MedianOverTrials "CPU time of all backends together per call.";
    GeneratorCpuPerCall "generator_cpu_per_call" Time MedianOverTrials "CPU time of the generator per call.";
    LabCpuPerCall "lab_cpu_per_call" Time MedianOverTrials "CPU time of client, balancer and backends together per call.";
    MachineCpuPerCall "machine_cpu_per_call" Time MedianOverTrials "CPU time of the whole machine per call, whoever spent it.";
    GeneratorLatenessP50 "generator_lateness_p50" Time MedianOverTrials "How late the generator sent calls: what half of them stay within.";
    GeneratorLatenessP99 "generator_lateness_p99" Time MedianOverTrials "How late the generator sent calls: what 99 % of them stay within.";
    GeneratorLatenessMax "generator_lateness_max" Time MedianOverTrials "How late the generator sent the latest call.";
    SaturationRate "saturation_rate" Rate WholeRun "The highest rate at which the objective of a search (`load.search`) held.";
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    /// Percentiles of latency go by their short names too: `p99`.
    fn from_str(name: &str) -> Result<Self, String> {
        let is_percentile = name.strip_prefix('p').is_some_and(|rest| rest.parse::<u32>().is_ok());
        let name = if is_percentile { &*format!("latency_{name}") } else { name };
        Self::ALL.iter().copied().find(|metric| metric.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|metric| metric.name()).collect();
            let (hint, list) = (did_you_mean(name, &names), list_of(&names));
            format!("unknown quantity `{name}`{hint}; known are {list}")
        })
    }
}

impl Kind {
    /// How numbers of this kind are written, for error messages.
    pub(crate) fn how_to_write(self) -> &'static str {
        match self {
            Self::Share => "a percentage such as `25%`",
            Self::Calls => "a number of calls such as `2` or `2 calls`",
            Self::Time => "a time with its unit (ns, us, ms, s) such as `5ms`",
            Self::Rate => "a rate such as `3000/s`",
            Self::Number => "a plain number such as `0.98`",
        }
    }

    /// What one unit is worth in the quantity's own measure; `None` when the
    /// unit is not of this kind. Shares need their `%`: a bare `2` could mean
    /// 200 % or 2 %.
    pub(crate) fn unit(self, unit: &str) -> Option<f64> {
        match (self, unit) {
            (Self::Share, "%") => Some(0.01),
            (Self::Calls, "" | "call" | "calls") => Some(1.0),
            (Self::Time, "ns") => Some(1.0),
            (Self::Time, "us" | "µs" | "μs") => Some(1e3),
            (Self::Time, "ms") => Some(1e6),
            (Self::Time, "s") => Some(1e9),
            (Self::Rate, "" | "/s") => Some(1.0),
            (Self::Number, "") => Some(1.0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_known_by_its_name() {
        for &metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
            assert_eq!(metric.to_string(), metric.name());
            assert!(metric.meaning().ends_with('.'), "{metric}");
        }
        assert_eq!("p99".parse(), Ok(Metric::LatencyP99));
        assert_eq!("p999".parse(), Ok(Metric::LatencyP999));
        let error = "latency_p95".parse::<Metric>().unwrap_err();
        assert!(error.contains("did you mean `latency_p9"), "{error}");
    }
}
