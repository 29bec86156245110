//! `loadgen trace FROM`: makes a trace of an access log, to be replayed by
//! `load.arrivals = "trace:FILE"`.
//!
//! Both kinds of log have a line of JSON for each call, written when it ended; a trace has
//! them in the order in which they began. Of Envoy's, whose fields are configured, those
//! are read that its documentation uses: `start_time`, `path`, `bytes_received`,
//! `bytes_sent`; and, for simulations, `upstream_service_time`.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use measure::format::counted;
use scenario::Trace;
use serde::Deserialize;

use crate::{
    exit::{self, Failure},
    ui::print,
};

/// What stands before the one message of a unary request or response.
const PREFIX_BYTES: u64 = grpc_call::PREFIX_LEN as u64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The access log.
    from: PathBuf,
    /// The file to write; it must not be there [default: FROM with .csv at its end].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A line of either log.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Ours {
        time_unix_ms: u64,
        duration_us: u64,
        path: String,
        request_bytes: u64,
        response_bytes: u64,
    },
    Envoy {
        start_time: String,
        #[serde(alias = ":path")]
        path: String,
        bytes_received: Option<u64>,
        bytes_sent: Option<u64>,
        #[serde(
            default,
            alias = "x_envoy_upstream_service_time",
            alias = "x-envoy-upstream-service-time"
        )]
        upstream_service_time: Option<Milliseconds>,
    },
}

/// As Envoy writes a header's value: a text, a number where it was told to, and `-` or null
/// for none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Milliseconds {
    Number(u64),
    Text(String),
}

impl Milliseconds {
    fn get(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// A call, as it stands in a trace.
struct Call {
    began_us: i64,
    method: String,
    request_bytes: Option<u64>,
    response_bytes: Option<u64>,
    /// What it took behind the balancer, or at it, with all waiting.
    took_us: Option<u64>,
}

/// A trace: one that was made before, in CSV, or that of an access log.
///
/// # Errors
/// What is wrong with the file, with the line.
pub(super) fn open(path: &Path) -> Result<Trace, Failure> {
    let name = path.display().to_string();
    let is_csv = path.extension().is_some_and(|extension| extension == "csv");
    let text = if is_csv {
        std::fs::read(path).map_err(|error| Failure::bad_input(format!("{name}: {error}")))?
    } else {
        let mut text = Vec::new();
        write(&read(path)?, &mut text).map_err(|error| Failure::bad_input(error.to_string()))?;
        text
    };
    Trace::parse(&name, &String::from_utf8_lossy(&text)).map_err(Failure::bad_input)
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let calls = read(&args.from)?;
    let out = args.out.clone().unwrap_or_else(|| args.from.with_extension("csv"));
    let unwritable = |error| Failure::writing(out.display().to_string(), &error);
    let file = File::create_new(&out).map_err(unwritable)?;
    write(&calls, BufWriter::new(file)).map_err(unwritable)?;
    let count = counted(calls.len(), "call");
    let name = out.display();
    print(&format!("wrote {name}: {count}; replay it with load.arrivals = \"trace:{name}\"\n"))?;
    Ok(exit::FINE)
}

/// The calls of an access log, in the order in which they began.
fn read(path: &Path) -> Result<Vec<Call>, Failure> {
    let from = path.display();
    let log = File::open(path);
    let log = log.map_err(|error| Failure::bad_input(format!("{from}: {error}")))?;
    let mut calls = Vec::new();
    for (index, line) in BufReader::new(log).lines().enumerate() {
        let wrong = |what: String| Failure::bad_input(format!("{from}:{}: {what}", index + 1));
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if !line.trim().is_empty() {
            calls.push(call(&line).map_err(wrong)?);
        }
    }
    calls.sort_by_key(|call| call.began_us);
    Ok(calls)
}

fn call(line: &str) -> Result<Call, String> {
    let read: Line = serde_json::from_str(line).map_err(|_| {
        "no line of an access log in JSON; it has to have `start_time`, `path`, `bytes_received` \
         and `bytes_sent`, as of Envoy, or be of layerlab's L7 proxy"
            .to_owned()
    })?;
    // Of the payload of one message, which is what a trace is replayed with.
    let payload = |bytes: u64| bytes.saturating_sub(PREFIX_BYTES);
    Ok(match read {
        Line::Ours { time_unix_ms, duration_us, path, request_bytes, response_bytes } => Call {
            began_us: (time_unix_ms as i64) * 1_000 - duration_us as i64,
            method: path,
            request_bytes: Some(payload(request_bytes)),
            response_bytes: Some(payload(response_bytes)),
            took_us: Some(duration_us),
        },
        Line::Envoy { start_time, path, bytes_received, bytes_sent, upstream_service_time } => {
            Call {
                began_us: start_time
                    .parse::<Timestamp>()
                    .map_err(|error| format!("start_time: {error}"))?
                    .as_microsecond(),
                method: path,
                request_bytes: bytes_received.map(payload),
                response_bytes: bytes_sent.map(payload),
                took_us: upstream_service_time.and_then(|time| time.get()).map(|ms| ms * 1_000),
            }
        }
    })
}

fn write(calls: &[Call], mut out: impl Write) -> std::io::Result<()> {
    writeln!(out, "time_s,method,request_bytes,response_bytes,took_s")?;
    let first_us = calls.first().map_or(0, |call| call.began_us);
    let text = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
    for call in calls {
        let time_s = (call.began_us - first_us) as f64 / 1e6;
        // A path that holds what CSV separates by is no method.
        let method = call.method.trim_start_matches('/').replace([',', '"', '\n'], "_");
        let (request, response) = (text(call.request_bytes), text(call.response_bytes));
        let took = call.took_us.map(|us| format!("{:.6}", us as f64 / 1e6)).unwrap_or_default();
        writeln!(out, "{time_s:.6},{method},{request},{response},{took}")?;
    }
    out.flush()
}
