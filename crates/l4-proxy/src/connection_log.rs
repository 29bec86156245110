//! One line of JSON about each connection that ended.
//!
//! A thread of its own writes, since a pipe that nobody reads must not stop
//! the proxy. When it can't keep up, lines are dropped and counted.

use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serve::{Counter, Metrics};

use crate::connection::Connection;
use crate::counts::End;

/// Lines that may wait for the writer.
const WAITING: usize = 4_096;
/// How long a line may stay in the writer's buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Hands lines to the writer. Clones write to the same place.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLog {
    lines: SyncSender<Line>,
    dropped: Counter,
}

/// One connection, as it is written.
#[derive(Debug, Serialize)]
struct Line {
    /// When it ended, in milliseconds since 1970.
    ended_unix_ms: u64,
    client: SocketAddr,
    /// The backend that had it or was tried last.
    backend: Option<String>,
    duration_ms: u64,
    to_backend_bytes: u64,
    to_client_bytes: u64,
    end: &'static str,
}

impl ConnectionLog {
    /// Starts the writer. It ends when the last clone of the log is dropped.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub(crate) fn start(
        output: impl Write + Send + 'static,
        metrics: &Metrics,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (lines, waiting) = sync_channel(WAITING);
        let name = "connection-log".to_owned();
        let writer =
            std::thread::Builder::new().name(name).spawn(move || write_lines(&waiting, output))?;
        let dropped = metrics.counter(
            "l4_log_lines_dropped_total",
            "Lines of the connection log that were dropped because the writer could not keep up.",
            &[],
        );
        Ok((Self { lines, dropped }, writer))
    }

    pub(crate) fn write(&self, connection: &Connection, end: End, now_ms: u64) {
        let delivered = connection.delivered();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            ended_unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            client: connection.client_address(),
            backend: connection.lease().map(|lease| lease.upstream().name().to_owned()),
            duration_ms: now_ms.saturating_sub(connection.life.opened_ms),
            to_backend_bytes: delivered.to_backend_bytes,
            to_client_bytes: delivered.to_client_bytes,
            end: end.name(),
        };
        if self.lines.try_send(line).is_err() {
            self.dropped.inc();
        }
    }
}

/// Writes until all senders are gone. An output that fails is not written to
/// again, and lines are then taken and thrown away.
fn write_lines(waiting: &Receiver<Line>, output: impl Write) {
    let mut output = Some(BufWriter::new(output));
    loop {
        let line = match waiting.recv_timeout(FLUSH_AFTER) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let written = match (&mut output, &line) {
            (Some(output), Some(line)) => write_line(output, line),
            (Some(output), None) => output.flush(),
            (None, _) => Ok(()),
        };
        if written.is_err() {
            output = None;
        }
    }
    if let Some(mut output) = output {
        let _ = output.flush();
    }
}

fn write_line(output: &mut impl Write, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}
