//! Traces: calls as they were recorded, to be made again at the same times.
//!
//! A CSV file with a line of names. `time_s` is when a call began, in seconds from any
//! zero; `method`, `request_bytes`, `response_bytes` and `took_s` may be there as well,
//! and may be empty.

use std::{fs, path::Path, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{
    error::{Problem, did_you_mean, list_of, refuse},
    wire::{ArrivalsWire, LoadWire, LoopWire},
};

const COLUMNS: [&str; 5] = ["time_s", "method", "request_bytes", "response_bytes", "took_s"];
/// Calls of a trace at most: as many as a trial can log.
const MOST_CALLS: usize = measure::calllog::CallLog::LIMIT;

/// A recorded load.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    file: String,
    calls: Arc<[TracedCall]>,
    /// The methods that are called, as `shop.v1.Orders/Place`.
    methods: Vec<String>,
}

/// One call of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TracedCall {
    /// When it began, in nanoseconds after the first.
    pub at_ns: u64,
    /// Which of [`Trace::methods`] it called, where that was recorded.
    pub method: Option<u16>,
    /// Bytes of its request, where they were recorded.
    pub request_bytes: Option<u32>,
    /// Bytes of its response, likewise.
    pub response_bytes: Option<u32>,
    /// What it took, in nanoseconds, likewise. A load does not replay it.
    pub took_ns: Option<u64>,
}

impl Trace {
    /// Reads a file; `name` is what it is called in the scenario.
    ///
    /// # Errors
    /// In a sentence, with the line that is wrong.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Self, String> {
        let text = fs::read_to_string(folder.join(name))
            .map_err(|error| format!("cannot read {name}: {error}"))?;
        Self::parse(name, &text)
    }

    /// The trace in `text`, which is that of the file `name`.
    ///
    /// # Errors
    /// In a sentence, with the line that is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let wrong = |error: csv::Error| format!("{name}: {error}");
        let places = places(reader.headers().map_err(wrong)?);
        let (time, [_, method, request, response, took]) =
            places.map_err(|reason| format!("{name}:1: {reason}"))?;
        let (mut calls, mut methods, mut first_s) = (Vec::new(), Vec::new(), None);
        for row in reader.records() {
            let row = row.map_err(wrong)?;
            let line = row.position().map_or(0, csv::Position::line);
            let field = |place: Option<usize>| {
                place.and_then(|place| row.get(place)).filter(|text| !text.is_empty())
            };
            let bytes = |place| -> Result<Option<u32>, String> {
                let parsed = field(place).map(str::parse).transpose();
                parsed.map_err(|error| format!("{name}:{line}: no number of bytes: {error}"))
            };
            let seconds = |text: Option<&str>| {
                let parsed = text.and_then(|text| text.parse::<f64>().ok());
                let finite = parsed.filter(|time| time.is_finite());
                finite.ok_or_else(|| format!("{name}:{line}: no time in seconds"))
            };
            let time_s = seconds(field(Some(time)))?;
            let took_s = field(took).map(|took| seconds(Some(took))).transpose()?;
            let at_s = time_s - *first_s.get_or_insert(time_s);
            let at_ns = (at_s * 1e9).round() as u64;
            if at_s < 0.0 || calls.last().is_some_and(|last: &TracedCall| last.at_ns > at_ns) {
                return Err(format!("{name}:{line}: it is earlier than the call before it"));
            }
            calls.push(TracedCall {
                at_ns,
                method: field(method).map(|method| number_of(method, &mut methods)).transpose()?,
                request_bytes: bytes(request)?,
                response_bytes: bytes(response)?,
                // A cast takes what is below zero for zero.
                took_ns: took_s.map(|took_s| (took_s * 1e9).round() as u64),
            });
        }
        match calls.last() {
            Some(last) if last.at_ns > 0 && calls.len() <= MOST_CALLS => {
                Ok(Self { file: name.to_owned(), calls: calls.into(), methods })
            }
            _ => Err(format!(
                "{name} has {} calls; a trace has at least two at different times, and at most \
                 {MOST_CALLS}",
                calls.len()
            )),
        }
    }

    /// The file, as the scenario names it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The calls, in order of time.
    pub fn calls(&self) -> &Arc<[TracedCall]> {
        &self.calls
    }

    /// The methods that are called, as `shop.v1.Orders/Place`.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// From the first call to the last.
    pub fn length_s(&self) -> f64 {
        self.calls.last().map_or(0.0, |last| last.at_ns as f64 / 1e9)
    }

    /// What a column of sizes says of every call; `None` where it says nothing of any.
    pub(crate) fn sizes(
        &self,
        column: impl Fn(&TracedCall) -> Option<u32>,
        otherwise: u32,
    ) -> Option<Arc<[u32]>> {
        let is_known = self.calls.iter().any(|call| column(call).is_some());
        let sizes = self.calls.iter().map(|call| column(call).unwrap_or(otherwise));
        is_known.then(|| sizes.collect())
    }
}

/// The trace that a load replays, if it does.
pub(crate) fn check_trace(load: &LoadWire, folder: &Path) -> Result<Option<Trace>, Problem> {
    let Some(ArrivalsWire::Trace(file)) = &load.arrivals else {
        return match load.speed {
            None => Ok(None),
            Some(_) => Err(Problem::new("load.speed", "belongs to a trace; change `load.rate`")),
        };
    };
    let given = [
        ("load.rate", load.rate.is_some()),
        ("load.profile", load.profile.is_some()),
        ("load.closed_twin", load.closed_twin == Some(true)),
    ];
    refuse(given, "a trace has its own times; take it out, or change `load.speed`")?;
    if load.mode == LoopWire::Closed {
        let message = "belongs to an open loop; take it out, or change `load.loop`";
        return Err(Problem::new("load.arrivals", message));
    }
    let trace = Trace::read(folder, file);
    trace.map(Some).map_err(|reason| Problem::new("load.arrivals", reason))
}

/// Where the time stands, and where each of [`COLUMNS`] does, if it is there.
fn places(header: &csv::StringRecord) -> Result<(usize, [Option<usize>; 5]), String> {
    if let Some(other) = header.iter().find(|column| !COLUMNS.contains(column)) {
        let (hint, list) = (did_you_mean(other, &COLUMNS), list_of(&COLUMNS));
        return Err(format!("unknown column `{other}`{hint}; known are {list}"));
    }
    let places = COLUMNS.map(|column| header.iter().position(|other| other == column));
    let time = places[0].ok_or("there is no column `time_s`")?;
    Ok((time, places))
}

fn number_of(method: &str, methods: &mut Vec<String>) -> Result<u16, String> {
    let method = method.trim_start_matches('/');
    let index = methods.iter().position(|known| known == method).unwrap_or_else(|| {
        methods.push(method.to_owned());
        methods.len() - 1
    });
    u16::try_from(index).map_err(|_| "a trace has too many methods".to_owned())
}

/// By its name: the calls are in the file.
impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_first_call_and_fields_may_be_empty() {
        let text = "time_s,method,request_bytes,response_bytes\n\
                    100.5,/a.B/C,10,20\n100.75, a.B/D,,\n102,a.B/C,30,\n";
        let trace = Trace::parse("t.csv", text).unwrap();
        let times: Vec<u64> = trace.calls().iter().map(|call| call.at_ns / 1_000_000).collect();
        assert_eq!((times, trace.length_s()), (vec![0, 250, 1_500], 1.5));
        assert_eq!(trace.methods(), ["a.B/C", "a.B/D"]);
        let methods: Vec<_> = trace.calls().iter().map(|call| call.method).collect();
        assert_eq!(methods, [Some(0), Some(1), Some(0)]);
        let sizes = trace.sizes(|call| call.request_bytes, 7).unwrap();
        assert_eq!(*sizes, [10, 7, 30]);
        let times = Trace::parse("t.csv", "time_s\n0\n1\n").unwrap();
        assert_eq!(times.sizes(|call| call.request_bytes, 7), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, reason) in [
            ("time,method\n", "t.csv:1: unknown column `time`; did you mean `time_s`?"),
            ("method\na.B/C\n", "t.csv:1: there is no column `time_s`"),
            ("time_s\n1\nsoon\n", "t.csv:3: no time in seconds"),
            ("time_s\n2\n1\n", "t.csv:3: it is earlier than the call before it"),
            ("time_s,request_bytes\n1,-4\n2,1\n", "t.csv:2: no number of bytes"),
            ("time_s,took_s\n1,\n2,long\n", "t.csv:3: no time in seconds"),
            ("time_s\n1\n", "t.csv has 1 calls; a trace has at least two"),
        ] {
            let error = Trace::parse("t.csv", text).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }
}
