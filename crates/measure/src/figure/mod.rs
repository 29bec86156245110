//! Every figure once: its name, what it is measured in, where a claim about it has to
//! hold, what it means, how it is computed from a trial, and how it is printed.
//!
//! Claims, the terminal, the JSON and the report all name figures by [`Figure`], so that
//! the same word is the same number everywhere, and a misspelt one does not compile.

mod values;

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::values::value_at;
pub use self::values::{CpuPerCall, Figures};
pub(crate) use self::values::{InstructionsPerCall, ROLES};
use crate::{
    format,
    machine::ProcessRole,
    statistics::shares::{chi_square, coefficient_of_variation, jain},
};

/// What a figure is measured in; the sides of a claim have to agree in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
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

/// Where a claim about a figure has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every trial: the figure follows from how calls were spread, which repeats
    /// don't blur.
    EveryTrial,
    /// On the median over trials: the figure is noisy, and one unlucky trial proves
    /// nothing.
    MedianOverTrials,
    /// Once: the figure is what all trials of a peer come to.
    WholeRun,
}

/// No figure has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown figure `{0}`")]
pub struct UnknownFigure(pub String);

macro_rules! figures {
    ($($variant:ident $name:literal $unit:ident $scope:ident $meaning:literal $compute:expr;)*) => {
        /// A figure of a trial, or of all trials of a peer together.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            JsonSchema,
        )]
        pub enum Figure {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant,)*
        }

        impl Figure {
            /// All of them. A new one is a line in this list.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in claims and in results.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it is measured in.
            pub fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit),* }
            }

            /// Where a claim about it has to hold.
            pub fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope),* }
            }

            /// What it is, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// Its value in a trial.
            fn compute(self, of: &Figures) -> Option<f64> {
                let compute: fn(&Figures) -> Option<f64> = match self {
                    $(Self::$variant => $compute),*
                };
                compute(of)
            }
        }
    };
}

figures! {
    MaxShare "max_share" Share EveryTrial
        "Share of calls that the busiest backend served."
        |of| of.shares().into_iter().reduce(f64::max);
    MinShare "min_share" Share EveryTrial
        "Share of calls that the least busy backend served."
        |of| of.shares().into_iter().reduce(f64::min);
    SpreadCalls "spread_calls" Calls EveryTrial
        "Calls of the busiest backend minus calls of the least busy one, including the warm-up."
        |of| of.spread().map(|calls| calls as f64);
    BackendsUsed "backends_used" Number EveryTrial
        "Backends that served at least one call."
        |of| Some(of.counts()?.iter().filter(|&&calls| calls > 0).count() as f64);
    Jain "jain" Number EveryTrial
        "Jain's fairness index of the calls per backend: 1 when even, 1/n when one has all."
        |of| jain(of.counts()?);
    Cv "cv" Number EveryTrial
        "Standard deviation of the calls per backend over their mean."
        |of| coefficient_of_variation(of.counts()?);
    ChiSquareP "chi_square_p" Number MedianOverTrials
        "Probability of shares at least this far from the backends' weights if each call were placed at random, in proportion to the weights."
        |of| Some(chi_square(of.counts()?, &of.weights)?.p_value);
    CrossZoneShare "cross_zone_share" Share EveryTrial
        "Share of calls that a backend in another zone than the client's served; only with zones."
        Figures::crossed_share;
    ErrorRate "error_rate" Share EveryTrial
        "Share of calls that failed."
        |of| of.of_scheduled(of.failed);
    UnfinishedRate "unfinished_rate" Share EveryTrial
        "Share of calls without a response when the trial ended."
        |of| of.of_scheduled(of.unfinished);
    Calls "calls" Calls EveryTrial
        "Successful calls."
        |of| Some(of.ok as f64);
    Throughput "throughput" Rate MedianOverTrials
        "Successful calls per second."
        |of| Some(of.throughput);
    LatencyMean "latency_mean" Time MedianOverTrials
        "Mean latency."
        |of| (!of.latency().is_empty()).then(|| of.latency().mean());
    LatencyP50 "latency_p50" Time MedianOverTrials
        "Latency that half of the calls stay within."
        |of| of.latency_ns(0.50);
    LatencyP90 "latency_p90" Time MedianOverTrials
        "Latency that 90 % of the calls stay within."
        |of| of.latency_ns(0.90);
    LatencyP99 "latency_p99" Time MedianOverTrials
        "Latency that 99 % of the calls stay within."
        |of| of.latency_ns(0.99);
    LatencyP999 "latency_p999" Time MedianOverTrials
        "Latency that 99.9 % of the calls stay within."
        |of| of.latency_ns(0.999);
    LatencyMax "latency_max" Time MedianOverTrials
        "Largest latency."
        |of| of.latency_ns(1.0);
    LatencyWireP50 "latency_wire_p50" Time MedianOverTrials
        "Latency on the wire that half of the calls stay within: from the request's last byte to the response's, without the generator."
        |of| of.wire_ns(0.50);
    LatencyWireP90 "latency_wire_p90" Time MedianOverTrials
        "Latency on the wire that 90 % of the calls stay within."
        |of| of.wire_ns(0.90);
    LatencyWireP99 "latency_wire_p99" Time MedianOverTrials
        "Latency on the wire that 99 % of the calls stay within."
        |of| of.wire_ns(0.99);
    LatencyWireP999 "latency_wire_p999" Time MedianOverTrials
        "Latency on the wire that 99.9 % of the calls stay within."
        |of| of.wire_ns(0.999);
    QueuedP99 "queued_p99" Time MedianOverTrials
        "Time in a backend's queue that 99 % of the calls stay within."
        |of| value_at(&of.queued, 0.99);
    ServiceP99 "service_p99" Time MedianOverTrials
        "Service time that 99 % of the calls stay within."
        |of| value_at(&of.service, 0.99);
    ProxyCpuPerCall "proxy_cpu_per_call" Time MedianOverTrials
        "CPU time of the proxy per call."
        |of| of.cpu_ns(ProcessRole::Proxy);
    ProxyCpuPerGib "proxy_cpu_per_gib" Time MedianOverTrials
        "CPU time of the proxy per GiB of payload moved, both directions together."
        |of| of.per_gib(of.cpu_ns(ProcessRole::Proxy)?);
    ProxyCallsPerCore "proxy_calls_per_core" Rate MedianOverTrials
        "Calls per second of the proxy's CPU time: what one core of it handles when it is busy all the time."
        |of| Some(1e9 / of.cpu_ns(ProcessRole::Proxy).filter(|&ns| ns > 0.0)?);
    ProxyGibPerCore "proxy_gib_per_core" Number MedianOverTrials
        "GiB of payload per second of the proxy's CPU time, both directions together."
        |of| Some(1e9 / of.per_gib(of.cpu_ns(ProcessRole::Proxy)?).filter(|&ns| ns > 0.0)?);
    ProxyInstructionsPerCall "proxy_instructions_per_call" Number MedianOverTrials
        "Instructions that the proxy executes per call, in user mode and in the kernel; where the machine counts them."
        |of| of.instructions(ProcessRole::Proxy).map(|one| one.user + one.kernel);
    ProxyUserInstructionsPerCall "proxy_user_instructions_per_call" Number MedianOverTrials
        "Instructions that the proxy executes in user mode per call; where the machine counts them."
        |of| of.instructions(ProcessRole::Proxy).map(|one| one.user);
    ProxyKernelInstructionsPerCall "proxy_kernel_instructions_per_call" Number MedianOverTrials
        "Instructions that the kernel executes for the proxy per call; where the machine counts them."
        |of| of.instructions(ProcessRole::Proxy).map(|one| one.kernel);
    BackendCpuPerCall "backend_cpu_per_call" Time MedianOverTrials
        "CPU time of all backends together per call."
        |of| of.cpu_ns(ProcessRole::Backend);
    BackendInstructionsPerCall "backend_instructions_per_call" Number MedianOverTrials
        "Instructions that all backends together execute per call, in user mode and in the kernel; where the machine counts them."
        |of| of.instructions(ProcessRole::Backend).map(|one| one.user + one.kernel);
    TapCpuPerCall "tap_cpu_per_call" Time MedianOverTrials
        "CPU time per call of the taps, which identify the backend of each response."
        |of| of.cpu_ns(ProcessRole::Tap);
    LinksCpuPerCall "links_cpu_per_call" Time MedianOverTrials
        "CPU time per call of the relay of emulated links, which is not included in any other figure but the machine's."
        |of| of.cpu_ns(ProcessRole::Links);
    GeneratorCpuPerCall "generator_cpu_per_call" Time MedianOverTrials
        "CPU time of the generator per call."
        |of| of.cpu_ns(ProcessRole::Generator);
    GeneratorInstructionsPerCall "generator_instructions_per_call" Number MedianOverTrials
        "Instructions that the generator executes per call, in user mode and in the kernel; where the machine counts them."
        |of| of.instructions(ProcessRole::Generator).map(|one| one.user + one.kernel);
    LabCpuPerCall "lab_cpu_per_call" Time MedianOverTrials
        "CPU time of client, balancer and backends together per call."
        Figures::lab_cpu_ns;
    MachineCpuPerCall "machine_cpu_per_call" Time MedianOverTrials
        "CPU time of the whole machine per call."
        |of| of.machine().map(|cpu| cpu.total_ns());
    GeneratorLatenessP50 "generator_lateness_p50" Time MedianOverTrials
        "How late the generator sent calls: the median."
        |of| value_at(&of.lateness, 0.50);
    GeneratorLatenessP99 "generator_lateness_p99" Time MedianOverTrials
        "How late the generator sent calls: the 99th percentile."
        |of| value_at(&of.lateness, 0.99);
    GeneratorLatenessMax "generator_lateness_max" Time MedianOverTrials
        "How late the generator sent calls: the maximum."
        |of| value_at(&of.lateness, 1.0);
    GeneratorReceiptP50 "generator_receipt_p50" Time MedianOverTrials
        "How long responses waited in the kernel until the generator read them: the median."
        |of| value_at(&of.receipt_delay, 0.50);
    GeneratorReceiptP99 "generator_receipt_p99" Time MedianOverTrials
        "How long responses waited in the kernel until the generator read them: the 99th percentile."
        |of| value_at(&of.receipt_delay, 0.99);
    SaturationRate "saturation_rate" Rate WholeRun
        "The highest rate that met the objective of a search (`load.search`)."
        |_| None;
}

impl Figure {
    /// Whether it lies between 0 and 1, so that its interval does too.
    pub fn is_part_of_a_whole(self) -> bool {
        self.unit() == Unit::Share || matches!(self, Self::Jain | Self::ChiSquareP)
    }

    /// Whether other work on the machine changes it: how long something took, or how much
    /// was done in time.
    pub fn depends_on_speed(self) -> bool {
        self.unit() == Unit::Time || matches!(self, Self::SaturationRate | Self::UnfinishedRate)
    }

    /// Whether it is a latency, which means another thing in a closed loop than in an
    /// open one.
    pub fn is_latency(self) -> bool {
        self.name().starts_with("latency_")
    }

    /// Whether more of it is better: calls or bytes that get through.
    pub fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::Throughput
                | Self::SaturationRate
                | Self::ProxyCallsPerCore
                | Self::ProxyGibPerCore
        )
    }

    /// Whether it is a cost, which means nothing where calls are not served.
    pub fn is_cost(self) -> bool {
        let name = self.name();
        ["_cpu_per_", "_instructions_per_"].iter().any(|part| name.contains(part))
    }

    /// The same latency on the wire, where there is one.
    pub fn on_wire(self) -> Option<Self> {
        match self {
            Self::LatencyP50 => Some(Self::LatencyWireP50),
            Self::LatencyP90 => Some(Self::LatencyWireP90),
            Self::LatencyP99 => Some(Self::LatencyWireP99),
            Self::LatencyP999 => Some(Self::LatencyWireP999),
            _ => None,
        }
    }

    /// Its value as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::ChiSquareP => format::chance(value),
            Self::Jain | Self::Cv => format::decimals(value, 3),
            Self::QueuedP99
            | Self::GeneratorLatenessP50
            | Self::GeneratorLatenessP99
            | Self::GeneratorLatenessMax
            | Self::GeneratorReceiptP50
            | Self::GeneratorReceiptP99 => format::coarse(value),
            _ => self.unit().show(value),
        }
    }

    /// The ends of an interval of it as people read them.
    pub fn show_range(self, low: f64, high: f64) -> String {
        format::range(self.show(low), self.show(high))
    }
}

impl Unit {
    /// A value in this unit as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Share => format::share(value),
            Self::Time => format::duration(value),
            Self::Rate => format::rate(value),
            Self::Calls | Self::Number if value.fract() == 0.0 && value >= 0.0 => {
                format::count(value as u64)
            }
            Self::Calls | Self::Number => format::number(value),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Figure {
    type Err = UnknownFigure;

    /// Percentiles of latency go by their short names too: `p99`.
    fn from_str(name: &str) -> Result<Self, UnknownFigure> {
        let is_percentile = name.strip_prefix('p').is_some_and(|rest| rest.parse::<u32>().is_ok());
        let name = if is_percentile { format!("latency_{name}") } else { name.to_owned() };
        let found = Self::ALL.iter().copied().find(|figure| figure.name() == name);
        found.ok_or(UnknownFigure(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_known_by_its_name() {
        for &figure in Figure::ALL {
            assert_eq!(figure.name().parse(), Ok(figure));
            assert_eq!(figure.to_string(), figure.name());
            assert_eq!(serde_json::to_value(figure).unwrap(), figure.name());
            assert!(figure.meaning().ends_with('.'), "{figure}");
        }
        assert_eq!("p99".parse(), Ok(Figure::LatencyP99));
        assert_eq!("p999".parse(), Ok(Figure::LatencyP999));
        assert_eq!("p95".parse::<Figure>(), Err(UnknownFigure("latency_p95".to_owned())));
    }

    #[test]
    fn a_figure_is_printed_in_its_unit() {
        assert_eq!(Figure::MaxShare.show(0.25), "25.0 %");
        assert_eq!(Figure::LatencyP99.show_range(13.8e3, 14.5e3), "13.8–14.5 µs");
        assert_eq!(Figure::QueuedP99.show_range(1.0, 2e3), "<1 µs – 2.00 µs");
        assert_eq!(Figure::ChiSquareP.show(0.000_1), "<0.001");
        assert_eq!(Figure::Throughput.show_range(500.0, 500.0), "500/s");
    }
}
