//! What happens to connections, backends and the server itself, for an operator:
//! events of `tracing` on standard error.
//!
//! Off unless asked for. Only the crates of this workspace are heard: what the
//! libraries under them have to say is about single frames, and would be paid for
//! by each call. Nothing here is said of a call either; that is what the access
//! log is for.

use std::io;

use clap::ValueEnum;
use tracing::Subscriber;
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// The crates that are heard.
const OURS: [&str; 4] = ["echo_backend", "l4_proxy", "l7_proxy", "serve"];

/// Flags of a server that logs.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// Log to standard error what happens to connections, backends and the server
    /// itself, from this severity on: off, error, warn, info or debug. Nothing is
    /// logged of single calls.
    #[arg(long, value_name = "LEVEL", default_value_t = LevelFilter::OFF)]
    log_level: LevelFilter,

    /// How each line is written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object of JSON a line.
    Json,
}

impl LogArgs {
    /// Begins to log, if that was asked for. Where something in the process logs
    /// already, that goes on instead.
    pub fn start(self) {
        if self.log_level == LevelFilter::OFF {
            return;
        }
        let _ = self.subscriber(io::stderr).try_init();
    }

    fn subscriber<W>(self, output: W) -> impl Subscriber + Send + Sync
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let ours: Targets = OURS.into_iter().map(|name| (name, self.log_level)).collect();
        let lines = fmt::layer().with_writer(output).with_ansi(false);
        let lines = match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(ours))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        log: LogArgs,
    }

    /// What is logged under these flags.
    fn logged(flags: &[&str]) -> String {
        let program = Program::try_parse_from([&["server"], flags].concat()).unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&output);
        let writer = move || Tee(Arc::clone(&to));
        tracing::subscriber::with_default(program.log.subscriber(writer), || {
            tracing::warn!(target: "l7_proxy", backend = "b", "connection to backend lost");
            tracing::info!(target: "l4_proxy::run", "drain started");
            tracing::error!(target: "h2::proto", "frame");
        });
        let bytes = std::mem::take(&mut *output.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    struct Tee(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Tee {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn our_crates_are_heard_from_the_level_on_and_no_others() {
        assert_eq!(logged(&[]), "");
        let warnings = logged(&["--log-level=warn"]);
        assert!(warnings.contains("connection to backend lost backend=\"b\""), "{warnings}");
        assert_eq!(warnings.lines().count(), 1);
        assert_eq!(logged(&["--log-level=debug"]).lines().count(), 2);
    }

    #[test]
    fn a_line_of_json_is_an_object_of_its_own() {
        let lines = logged(&["--log-level=warn", "--log-format=json"]);
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["backend"], "b");
        assert_eq!(line["message"], "connection to backend lost");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(Program::try_parse_from(["server", "--log-level=loud"]).is_err());
    }
}
