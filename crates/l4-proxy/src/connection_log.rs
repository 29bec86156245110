//! One line of JSON about each connection that ended ([`serve::json_lines`]).

use std::{io::Write, net::SocketAddr};

use serde::Serialize;
use serve::{
    Metrics,
    json_lines::{JsonLines, Writer, now_unix_ms},
};

use crate::{connection::Connection, counts::End};

/// Lines that may wait for the writer.
const WAITING: usize = 4_096;

/// Hands lines to the writer. Clones write to the same place.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLog(JsonLines<Line>);

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
    ) -> std::io::Result<(Self, Writer)> {
        let (lines, writer) = JsonLines::start("l4", WAITING, output, metrics)?;
        Ok((Self(lines), writer))
    }

    pub(crate) fn write(&self, connection: &Connection, end: End, now_ms: u64) {
        let delivered = connection.delivered();
        self.0.write(Line {
            ended_unix_ms: now_unix_ms(),
            client: connection.client_address(),
            backend: connection.lease().map(|lease| lease.upstream().name().to_owned()),
            duration_ms: now_ms.saturating_sub(connection.life.opened_ms),
            to_backend_bytes: delivered.to_backend_bytes,
            to_client_bytes: delivered.to_client_bytes,
            end: end.name(),
        });
    }
}
