//! What is taken of an access log or a trace: the calls as they were made, and what they took.
//!
//! A log does not tell the time in service from what a call waited for it, so what calls took
//! stands for service only as far as the backends of the log were idle. That, and what else a
//! log leaves open, is said in the record.

use std::sync::Arc;

use measure::{
    histogram::{new_histogram, record},
    simulation::Taken,
};
use scenario::{Trace, TracedCall};

use super::calibrate::{Calibrated, empirical, fit};

/// The part of the calls that the others are held to, to tell the fit: the last ones.
const HELD_OUT: usize = 5;

impl Calibrated {
    /// Takes what a trace has.
    pub(crate) fn of_trace(trace: &Trace) -> Self {
        let calls = trace.calls();
        let gaps = (calls.len() - 1).max(1) as f64;
        let mut taken = vec![Taken {
            what: "arrivals".to_owned(),
            from: "the times at which calls began, which are replayed".to_owned(),
            count: calls.len() as u64,
            mean_ns: trace.length_s() * 1e9 / gaps,
            fit: None,
        }];
        let mut notes = vec![methods(trace)];
        notes.extend(sizes(calls));
        let took: Vec<u64> = calls.iter().filter_map(|call| call.took_ns).collect();
        let histogram = |times: &[u64]| {
            let mut all = new_histogram();
            times.iter().for_each(|took_ns| record(&mut all, *took_ns));
            all
        };
        let all = histogram(&took);
        let service = empirical(&all);
        if service.is_some() {
            let (others, last) = took.split_at(took.len() - took.len() / HELD_OUT);
            let others = empirical(&histogram(others)).filter(|_| !last.is_empty());
            taken.push(Taken {
                what: "service time".to_owned(),
                from: "what calls took, with what they waited for: the fit is that of the first \
                       four fifths to the last"
                    .to_owned(),
                count: all.len(),
                mean_ns: all.mean(),
                fit: others.map(|others| fit(&others, &histogram(last))),
            });
            notes.push(
                "What calls waited for in the log: it is in their times, and so in the service \
                 of the simulation."
                    .to_owned(),
            );
        } else {
            notes.push(
                "Service times of the log, which has none: they are those of the scenario."
                    .to_owned(),
            );
        }
        Self::recorded(trace.file(), service, taken, notes)
    }
}

fn methods(trace: &Trace) -> String {
    match trace.methods().len() {
        0 => "Methods, of which the log says nothing: all calls are alike.".to_owned(),
        1 => format!("The method: all calls are of {}.", trace.methods()[0]),
        count => {
            format!("What tells the {count} methods of the log apart: calls are served alike.")
        }
    }
}

/// What was taken of sizes, which take no time in a simulation.
fn sizes(calls: &Arc<[TracedCall]>) -> Option<String> {
    let mean = |column: fn(&TracedCall) -> Option<u32>| {
        let (mut sum, mut count) = (0, 0);
        for bytes in calls.iter().filter_map(column) {
            (sum, count) = (sum + u64::from(bytes), count + 1);
        }
        (count > 0).then(|| sum as f64 / f64::from(count))
    };
    let (requests, responses) = (mean(|call| call.request_bytes), mean(|call| call.response_bytes));
    let text =
        |bytes: Option<f64>| bytes.map_or("unknown".to_owned(), |mean| format!("{mean:.0} B"));
    (requests.is_some() || responses.is_some()).then(|| {
        format!(
            "Sizes: requests of the log have {} on average, responses {}.",
            text(requests),
            text(responses)
        )
    })
}
