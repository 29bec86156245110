//! The load of one backend, as it is measured where it arises: by a backend that reports it,
//! and in simulations.

use crate::LoadReport;

/// Time in which what was seen loses all but 1/e of its influence. That is shorter than a
/// service would choose, and long enough for some hundred calls: trials are seconds long.
const MEMORY_S: f64 = 0.5;
/// Time that has to be seen before anything is said.
const SEEN_MIN_S: f64 = 0.1;

/// Measures rates of calls and the utilization of a backend's servers, as moving averages.
#[derive(Clone, Debug)]
pub struct LoadMeter {
    servers: f64,
    until_ns: u64,
    /// Decaying sums, so that their ratios are moving averages.
    time_s: f64,
    calls: f64,
    failed: f64,
    busy_s: f64,
}

impl LoadMeter {
    /// Of a backend that works on so many calls at once, from `now_ns` on.
    pub fn new(servers: u32, now_ns: u64) -> Self {
        let servers = f64::from(servers);
        Self { servers, until_ns: now_ns, time_s: 0.0, calls: 0.0, failed: 0.0, busy_s: 0.0 }
    }

    /// A call was served, and took a server for so long.
    pub fn served(&mut self, now_ns: u64, service_ns: u64) {
        self.advance(now_ns);
        self.calls += 1.0;
        self.busy_s += service_ns as f64 / 1e9;
    }

    /// A call failed.
    pub fn failed(&mut self, now_ns: u64) {
        self.advance(now_ns);
        self.calls += 1.0;
        self.failed += 1.0;
    }

    /// What there is to say, if enough was seen.
    pub fn report(&mut self, now_ns: u64) -> Option<LoadReport> {
        self.advance(now_ns);
        let seen_min_s = MEMORY_S * (1.0 - (-SEEN_MIN_S / MEMORY_S).exp());
        (self.time_s >= seen_min_s).then(|| LoadReport {
            application_utilization: self.busy_s / self.time_s / self.servers,
            calls_per_second: self.calls / self.time_s,
            errors_per_second: self.failed / self.time_s,
            ..LoadReport::default()
        })
    }

    fn advance(&mut self, now_ns: u64) {
        let passed_s = now_ns.saturating_sub(self.until_ns) as f64 / 1e9;
        let kept = (-passed_s / MEMORY_S).exp();
        self.until_ns = self.until_ns.max(now_ns);
        self.time_s = self.time_s * kept + MEMORY_S * (1.0 - kept);
        for sum in [&mut self.calls, &mut self.failed, &mut self.busy_s] {
            *sum *= kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A hundred calls a second on two servers, each of which takes 5 ms, and one more in ten
    /// fails.
    #[test]
    fn rates_and_utilization_are_those_of_the_last_while() {
        let mut meter = LoadMeter::new(2, 0);
        assert_eq!(meter.report(0), None, "nothing was seen yet");
        for call in 1..=500 {
            meter.served(call * 10 * MS, 5 * MS);
            if call % 10 == 0 {
                meter.failed(call * 10 * MS);
            }
        }
        let report = meter.report(5_000 * MS).unwrap();
        // What has just happened counts most, and the last call failed.
        let is_near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.12;
        assert!(is_near(report.calls_per_second, 110.0), "{report:?}");
        assert!(is_near(report.errors_per_second, 10.0), "{report:?}");
        assert!(is_near(report.application_utilization, 0.25), "{report:?}");
        assert!(meter.report(10_000 * MS).unwrap().calls_per_second < 0.1, "it forgets");
    }
}
