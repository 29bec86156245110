//! One line of JSON about each call that ended, or about a share of them.
//!
//! A thread of its own writes, behind a queue with a bound: a disk that is slow,
//! or a pipe that nobody reads, costs lines and never a call. Lines that are
//! dropped are counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serve::{Counter, Metrics};

/// What is logged, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Access log")]
pub struct AccessLogArgs {
    /// Append a line of JSON about each call to this file; `-` is standard
    /// error. Off unless given.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// Share of the calls that is logged, drawn by chance.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = crate::config::share)]
    pub access_log_share: f64,

    /// Lines that may wait for a slow disk; those beyond are dropped and counted
    /// (l7_log_lines_dropped_total).
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    pub access_log_queue: usize,
}

/// One call, as it is written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Line {
    /// When it ended, in milliseconds since 1970.
    pub time_unix_ms: u64,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The path, which is the method of gRPC; cut at [`PATH_BYTES`].
    pub path: String,
    /// The backend that had the last attempt.
    pub backend: Option<String>,
    /// How the last attempt ended, or `rejected` for a call without one.
    pub outcome: &'static str,
    /// The HTTP status, unless the call was reset before it had one.
    pub http_status: Option<u16>,
    /// The gRPC status, where the client was told one.
    pub grpc_status: Option<u32>,
    /// Bytes of the request's body that came from the client.
    pub request_bytes: u64,
    /// Bytes of the response's body that came from the backend.
    pub response_bytes: u64,
    /// From the request's head to the end, in microseconds.
    pub duration_us: u64,
    /// Attempts at backends.
    pub attempts: u32,
}

/// Bytes of a path that are kept: a name of a method is far shorter, and a
/// stranger decides.
pub const PATH_BYTES: usize = 256;

impl Line {
    /// The path as it is logged.
    pub fn path_of(path: &[u8]) -> String {
        String::from_utf8_lossy(&path[..path.len().min(PATH_BYTES)]).into_owned()
    }
}

/// Hands lines to the writer. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: SyncSender<Line>,
    /// A call is logged when the number drawn for it is not above this.
    drawn_up_to: u64,
    dropped: Counter,
}

impl AccessLog {
    /// Opens the file and starts the writer, which ends when the last clone of
    /// the log is dropped. `None` where no log is asked for.
    ///
    /// # Errors
    /// When the file can't be opened, with its name.
    pub fn open(args: &AccessLogArgs, metrics: &Metrics) -> io::Result<Option<(Self, Writer)>> {
        let Some(path) = &args.access_log else { return Ok(None) };
        let output: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stderr())
        } else {
            let opened: io::Result<File> = OpenOptions::new().create(true).append(true).open(path);
            let named = |error: io::Error| {
                let path = path.display();
                let what = format!("access log {path}: {error}; name a file that can be written");
                io::Error::new(error.kind(), what)
            };
            Box::new(opened.map_err(named)?)
        };
        Self::start(args, output, metrics).map(Some)
    }

    /// Starts the writer over any output.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(
        args: &AccessLogArgs,
        output: impl Write + Send + 'static,
        metrics: &Metrics,
    ) -> io::Result<(Self, Writer)> {
        let (lines, waiting) = sync_channel(args.access_log_queue);
        let count = |name, help| metrics.counter(name, help, &[]);
        let dropped = count(
            "l7_log_lines_dropped_total",
            "Lines of the access log that were dropped because the writer could not keep up.",
        );
        let failed = count(
            "l7_log_writes_failed_total",
            "Writes of the access log that failed; their lines are lost.",
        );
        let name = "access-log".to_owned();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || write_lines(&waiting, output, &failed))?;
        let drawn_up_to = (args.access_log_share * u64::MAX as f64) as u64;
        // A share of nothing is nothing, also where the number drawn is 0.
        let is_none = args.access_log_share <= 0.0;
        let log = Self { lines, drawn_up_to, dropped };
        let log = if is_none { Self { drawn_up_to: 0, ..log } } else { log };
        Ok((log, Writer(Some(thread))))
    }

    /// Whether a call is logged, given any number drawn for it.
    #[inline]
    pub fn draws(&self, random: u64) -> bool {
        self.drawn_up_to > 0 && random <= self.drawn_up_to
    }

    /// Hands over a line, or drops it. Never waits.
    pub fn write(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.dropped.inc();
        }
    }
}

/// Milliseconds since 1970.
pub fn now_unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// The writer's thread. Dropping it waits for the last line, so that a proxy
/// that drained leaves a whole log; it has to be dropped after all logs.
#[derive(Debug)]
pub struct Writer(Option<JoinHandle<()>>);

impl Writer {
    /// Lets the thread go on alone, where its output may never take the rest.
    pub fn detach(mut self) {
        self.0 = None;
    }

    /// Whether everything has been written.
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Writes until all senders are gone. Lines that come together are written
/// together; the last of them does not wait for more.
fn write_lines(waiting: &Receiver<Line>, output: impl Write, failed: &Counter) {
    let mut output = BufWriter::new(output);
    while let Ok(first) = waiting.recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            let written = serde_json::to_writer(&mut output, &line)
                .map_err(io::Error::from)
                .and_then(|()| output.write_all(b"\n"));
            if written.is_err() {
                failed.inc();
            }
            next = waiting.try_recv().ok();
        }
        if output.flush().is_err() {
            failed.inc();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A writer that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Condvar, Mutex};

    /// An output that takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<Taken>, Condvar)>);

    #[derive(Default)]
    struct Taken {
        is_open: bool,
        bytes: Vec<u8>,
    }

    impl Gate {
        fn open(&self) {
            self.0.0.lock().unwrap().is_open = true;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().bytes.clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.0.lock().unwrap();
            let mut state = self.0.1.wait_while(state, |taken| !taken.is_open).unwrap();
            state.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(attempts: u32) -> Line {
        Line {
            time_unix_ms: 1,
            peer: Some(([127, 0, 0, 1], 9).into()),
            path: Line::path_of(b"/a.B/C\"\xff"),
            backend: Some("b".to_owned()),
            outcome: "ok",
            http_status: Some(200),
            grpc_status: Some(0),
            request_bytes: 2,
            response_bytes: 3,
            duration_us: 4,
            attempts,
        }
    }

    fn args(queue: usize, share: f64) -> AccessLogArgs {
        AccessLogArgs { access_log: None, access_log_share: share, access_log_queue: queue }
    }

    #[test]
    fn a_slow_disk_costs_lines_and_no_time() {
        let (metrics, gate) = (Metrics::new(), Gate::default());
        let (log, writer) = AccessLog::start(&args(10, 1.0), gate.clone(), &metrics).unwrap();
        for attempts in 0..1_000 {
            log.write(line(attempts));
        }
        let text = metrics.expose();
        let dropped = text.lines().find(|line| line.starts_with("l7_log_lines_dropped_total"));
        let dropped: u64 = dropped.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(dropped >= 1_000 - 10 - BUFFERED, "{dropped}");
        gate.open();
        drop(log);
        drop(writer);
        assert_eq!(gate.text().lines().count() as u64, 1_000 - dropped);
    }

    /// Lines that fit the writer's buffer, before it waits for the disk.
    const BUFFERED: u64 = 8_192 / 100;

    #[test]
    fn a_line_is_json_of_its_own() {
        let (metrics, gate) = (Metrics::new(), Gate::default());
        gate.open();
        let (log, writer) = AccessLog::start(&args(10, 1.0), gate.clone(), &metrics).unwrap();
        log.write(line(1));
        drop(log);
        drop(writer);
        let value: serde_json::Value = serde_json::from_str(gate.text().trim_end()).unwrap();
        assert_eq!(value["peer"], "127.0.0.1:9");
        assert_eq!(value["path"], "/a.B/C\"\u{fffd}");
        assert_eq!(value["grpc_status"], 0);
        assert_eq!(value["attempts"], 1);
    }

    #[test]
    fn a_share_is_drawn() {
        let metrics = Metrics::new();
        let draws = |share: f64| {
            let (log, _writer) = AccessLog::start(&args(1, share), io::sink(), &metrics).unwrap();
            let drawn = [0, u64::MAX / 4, u64::MAX / 4 * 3, u64::MAX].map(|drawn| log.draws(drawn));
            drop(log);
            drawn
        };
        assert_eq!(draws(0.0), [false; 4]);
        assert_eq!(draws(0.5), [true, true, false, false]);
        assert_eq!(draws(1.0), [true; 4]);
    }
}
