//! A log of one line of JSON about each thing that ended: a call, a connection.
//!
//! A thread of its own writes, behind a queue with a bound: a disk that is slow, or a
//! pipe that nobody reads, costs lines and never a call. Lines that are dropped are
//! counted. What a line says is the server's business.

use std::{
    io::{self, BufWriter, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::metrics::{Counter, Metrics};

/// Hands lines to the writer. Clones write to the same place.
#[derive(Debug)]
pub struct JsonLines<T> {
    lines: SyncSender<T>,
    dropped: Counter,
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), dropped: self.dropped.clone() }
    }
}

impl<T: Serialize + Send + 'static> JsonLines<T> {
    /// Starts the writer, which ends when the last clone of the log is dropped. Up to
    /// `queue` lines wait for it. Its metrics are `<server>_log_lines_dropped_total` and
    /// `<server>_log_writes_failed_total`.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(
        server: &str,
        queue: usize,
        output: impl Write + Send + 'static,
        metrics: &Metrics,
    ) -> io::Result<(Self, Writer)> {
        let (lines, waiting) = sync_channel(queue);
        let count = |what: &str, help| metrics.counter(&format!("{server}_log_{what}"), help, &[]);
        let dropped = count(
            "lines_dropped_total",
            "Lines of the log that were dropped because the writer could not keep up.",
        );
        let failed =
            count("writes_failed_total", "Writes of the log that failed; their lines are lost.");
        let thread = std::thread::Builder::new()
            .name(format!("{server}-log"))
            .spawn(move || write_lines(&waiting, output, &failed))?;
        Ok((Self { lines, dropped }, Writer(Some(thread))))
    }

    /// Hands over a line, or drops it. Never waits.
    pub fn write(&self, line: T) {
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

/// The writer's thread. Dropping it waits for the last line, so that a proxy that
/// drained leaves a whole log; it has to be dropped after all logs.
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

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A writer that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

/// Writes until all senders are gone. Lines that come together are written together;
/// the last of them does not wait for more.
fn write_lines<T: Serialize>(waiting: &Receiver<T>, output: impl Write, failed: &Counter) {
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;

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

    /// A line of a hundred bytes.
    fn line(number: u64) -> String {
        format!("{number:>97}")
    }

    /// Lines that fit the writer's buffer, before it waits for the disk.
    const BUFFERED: u64 = 8_192 / 100 + 1;

    #[test]
    fn a_slow_disk_costs_lines_and_no_time() {
        let (metrics, gate) = (Metrics::new(), Gate::default());
        let (log, writer) = JsonLines::start("l7", 10, gate.clone(), &metrics).unwrap();
        for number in 0..1_000 {
            log.write(line(number));
        }
        let text = metrics.expose();
        let dropped = text.lines().find(|line| line.starts_with("l7_log_lines_dropped_total"));
        let dropped: u64 = dropped.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(dropped >= 1_000 - 10 - BUFFERED, "{dropped}");
        gate.open();
        drop(log);
        drop(writer);
        assert_eq!(gate.text().lines().count() as u64, 1_000 - dropped);
        assert_eq!(gate.text().lines().next(), Some(&*format!("{:?}", line(0))));
    }
}
