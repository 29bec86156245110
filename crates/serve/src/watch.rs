//! A file with the list of backends, watched: what it says becomes the list.
//!
//! The file is TOML or JSON, by its extension:
//!
//! ```toml
//! [[backend]]
//! address = "10.0.0.1:80"
//! weight = 2
//!
//! [[backend]]
//! address = "10.0.0.2:80"
//! zone = "a"
//! ```
//!
//! It is looked at once a second rather than with inotify: that sees the file
//! through every way of replacing it (a rename, a symbolic link to another
//! directory as Kubernetes does it, a network file system), and a second is
//! nothing for a change of membership. Who can't wait sends SIGHUP. A file that is
//! gone, half written or wrong, or is no file, changes nothing and is reported once;
//! the list of before stays.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    admin::{BACKENDS_MAX, BackendSpec, Backends, ChangeError, Replaced},
    exit::note,
    files::{READ_TIMEOUT, Reader, read_regular},
    metrics::{Counter, Metrics},
    shutdown::Shutdown,
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes of the largest file that is read: enough for [`BACKENDS_MAX`].
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file is no list of backends. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It can't be read.
    #[error("{path} can't be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no TOML or JSON of the right shape.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// The proxy refuses what it says.
    #[error("{path}: {error}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ChangeError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    backend: Vec<BackendSpec>,
}

/// Reads the list of backends in a file.
///
/// # Errors
/// When it can't be read, or is no list of at least one backend with each
/// address once.
pub(crate) fn read_backends(path: &Path) -> Result<Vec<BackendSpec>, FileError> {
    let bytes = read_regular(path, FILE_BYTES_MAX)
        .map_err(|error| FileError::Read { path: path.to_owned(), error })?;
    parse(path, &bytes)
}

pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<BackendSpec>, FileError> {
    let wrong = |message: &dyn fmt::Display| FileError::Parse {
        path: path.to_owned(),
        message: message.to_string().trim_end().to_owned(),
    };
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let file: File = if is_json {
        serde_json::from_slice(bytes).map_err(|error| wrong(&error))?
    } else {
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(&error))?;
        toml::from_str(text).map_err(|error| wrong(&error))?
    };
    let specs = file.backend;
    if specs.is_empty() {
        return Err(wrong(&"it lists no backend; a list needs at least one"));
    }
    if specs.len() > BACKENDS_MAX {
        return Err(wrong(&format!("{BACKENDS_MAX} backends are the most")));
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = specs.iter().find(|spec| !seen.insert(spec.address)) {
        let address = twice.address;
        return Err(wrong(&format!("{address} is listed twice; give it a larger weight instead")));
    }
    Ok(specs)
}

/// What happened to a watched file. Clones share the counts.
#[derive(Clone, Debug)]
struct Counts {
    applied: Counter,
    failed: Counter,
}

/// What tells one state of a file from another without reading it.
type Stamp = (SystemTime, u64, u64);

/// A file that is watched, and what was seen of it.
pub struct Watch {
    path: PathBuf,
    backends: Arc<dyn Backends>,
    counts: Counts,
    stamp: Option<Stamp>,
    /// What was applied last, or failed last.
    bytes: Vec<u8>,
    /// The last report, so that the same is not said every second.
    reported: String,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches `path` for `backends`, and counts under `prefix`
    /// (`l4_backends_file` gives `l4_backends_file_applied_total` and so on).
    /// What is in the file when the watch begins is applied too: the backends
    /// may have been read from it some time ago.
    pub fn new(
        path: PathBuf,
        backends: Arc<dyn Backends>,
        metrics: &Metrics,
        prefix: &str,
    ) -> Self {
        let counter = |name, help| metrics.counter(&format!("{prefix}_{name}_total"), help, &[]);
        let counts = Counts {
            applied: counter("applied", "Times a change of the file with backends was applied."),
            failed: counter("failed", "Times the file with backends was found unusable."),
        };
        Self { path, backends, counts, stamp: None, bytes: Vec::new(), reported: String::new() }
    }

    /// Looks at the file until `shutdown` drains, and reports to standard
    /// error what changed and what is wrong.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hangups = Hangups::new();
        let reader = Reader::default();
        loop {
            tokio::select! {
                () = shutdown.draining() => return,
                _ = ticks.tick() => {}
                () = hangups.next() => {}
            }
            let (path, seen) = (self.path.clone(), self.stamp);
            let read = tokio::select! {
                () = shutdown.draining() => return,
                read = reader.run(READ_TIMEOUT, move || read_if_changed(&path, seen)) => read,
            };
            if matches!(read, Ok(None)) {
                continue;
            }
            // On another thread, since a long list takes its time.
            let polled = tokio::task::spawn_blocking(move || {
                let report = self.take(read);
                (self, report)
            });
            let Ok((watch, report)) = polled.await else { return };
            self = watch;
            if let Some(report) = report {
                note(report);
            }
        }
    }

    /// Takes over what was read; what there is to say about it.
    fn take(&mut self, read: io::Result<Option<Read>>) -> Option<String> {
        let report = match self.apply_if_changed(read) {
            Ok(None) => return None,
            Ok(Some(replaced)) => {
                self.counts.applied.inc();
                let Replaced { added, removed, changed } = replaced;
                let path = self.path.display();
                return Some(format!(
                    "{path}: {added} backends added, {removed} removed, {changed} changed"
                ));
            }
            Err(error) => error.to_string(),
        };
        if report == self.reported {
            return None;
        }
        self.counts.failed.inc();
        self.reported.clone_from(&report);
        Some(format!("{report}; the backends stay as they are"))
    }

    fn apply_if_changed(
        &mut self,
        read: io::Result<Option<Read>>,
    ) -> Result<Option<Replaced>, FileError> {
        let read = read.map_err(|error| FileError::Read { path: self.path.clone(), error })?;
        let Some(Read { stamp, bytes }) = read else { return Ok(None) };
        // The same text in a new file is no change.
        let is_new = bytes != self.bytes || !self.reported.is_empty();
        let specs = parse(&self.path, &bytes)?;
        let replaced = if is_new {
            self.backends
                .replace(&specs)
                .map_err(|error| FileError::Refused { path: self.path.clone(), error })?
        } else {
            Replaced::default()
        };
        // A file that was written within the clock's grain of its stamp may be
        // written again under the same one, so a fresh stamp is not trusted.
        self.stamp =
            stamp.filter(|(modified, ..)| modified.elapsed().is_ok_and(|age| age > 2 * LOOK_EVERY));
        self.bytes = bytes;
        self.reported.clear();
        Ok((replaced != Replaced::default()).then_some(replaced))
    }
}

/// SIGHUPs: somebody wants the file to be looked at now.
struct Hangups(Option<Signal>);

impl Hangups {
    /// Without a handler the file is still looked at once a second.
    fn new() -> Self {
        Self(signal(SignalKind::hangup()).ok())
    }

    async fn next(&mut self) {
        let came = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// A file as it was read.
struct Read {
    stamp: Option<Stamp>,
    bytes: Vec<u8>,
}

/// Reads a file, unless it is as it was `seen`.
fn read_if_changed(path: &Path, seen: Option<Stamp>) -> io::Result<Option<Read>> {
    let stamp = stamp(path);
    if stamp.is_some() && stamp == seen {
        return Ok(None);
    }
    Ok(Some(Read { stamp, bytes: read_regular(path, FILE_BYTES_MAX)? }))
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, num::NonZeroU32, sync::Mutex};

    use proptest::prelude::*;

    use super::*;
    use crate::admin::BackendStatus;

    /// Remembers the lists it was given; weight 13 is refused.
    #[derive(Default)]
    struct Remembers(Mutex<Vec<Vec<BackendSpec>>>);

    impl Backends for Remembers {
        fn list(&self) -> Vec<BackendStatus> {
            Vec::new()
        }
        fn add(&self, _: BackendSpec) -> Result<(), ChangeError> {
            Ok(())
        }
        fn remove(&self, _: SocketAddr) -> Result<(), ChangeError> {
            Ok(())
        }
        fn set_draining(&self, _: SocketAddr, _: bool) -> Result<(), ChangeError> {
            Ok(())
        }
        fn set_weight(&self, _: SocketAddr, _: NonZeroU32) -> Result<(), ChangeError> {
            Ok(())
        }
        fn replace(&self, specs: &[BackendSpec]) -> Result<Replaced, ChangeError> {
            if specs.iter().any(|spec| spec.weight.get() == 13) {
                return Err(ChangeError::Invalid("bad luck".to_owned()));
            }
            self.0.lock().unwrap().push(specs.to_vec());
            Ok(Replaced { added: specs.len(), ..Replaced::default() })
        }
    }

    /// A file that is taken away with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("layerlab-watch-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn write(&self, text: &str) {
            std::fs::write(&self.0, text).unwrap();
        }

        fn watch(&self) -> (Watch, Arc<Remembers>, Metrics) {
            let (backends, metrics) = (Arc::new(Remembers::default()), Metrics::new());
            let shared = Arc::clone(&backends) as Arc<dyn Backends>;
            (Watch::new(self.0.clone(), shared, &metrics, "file"), backends, metrics)
        }
    }

    impl Watch {
        /// Looks once; what there is to say about it.
        fn poll(&mut self) -> Option<String> {
            let read = read_if_changed(&self.path, self.stamp);
            self.take(read)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const ONE: &str = "[[backend]]\naddress = \"127.0.0.1:1\"\n";
    const TWO: &str = "[[backend]]\naddress = \"127.0.0.1:1\"\nweight = 2\n\
                       [[backend]]\naddress = \"[::1]:2\"\ngroup = \"api\"\n";

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = parse(Path::new("a.toml"), TWO.as_bytes()).unwrap();
        let json = r#"{"backend": [{"address": "127.0.0.1:1", "weight": 2},
            {"address": "[::1]:2", "group": "api"}]}"#;
        assert_eq!(parse(Path::new("a.json"), json.as_bytes()).unwrap(), toml);
        assert_eq!((toml[0].weight.get(), toml[1].group.as_deref()), (2, Some("api")));
    }

    #[test]
    fn a_wrong_file_is_named_with_the_reason() {
        let twice = format!("{ONE}{ONE}");
        for (text, word) in [
            ("backend = []", "at least one"),
            ("", "backend"),
            ("[[backend]]\naddress = \"localhost:1\"", "line 2"),
            ("[[backend]]\naddress = \"127.0.0.1:1\"\nweigth = 2", "weigth"),
            ("[[backend]]\naddress = \"127.0.0.1:1\"\nweight = 0", "weight = 0"),
            (&twice, "twice"),
        ] {
            let error = parse(Path::new("list.toml"), text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("list.toml: ") && error.contains(word), "{text}: {error}");
        }
        let many: String =
            (1..=4_097).map(|n| format!("[[backend]]\naddress='127.0.0.1:{n}'\n")).collect();
        let error = parse(Path::new("list.toml"), many.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("4096"), "{error}");
    }

    #[test]
    fn a_change_is_applied_once_and_a_wrong_file_changes_nothing() {
        let file = Scratch::new("changes.toml");
        let (mut watch, backends, metrics) = file.watch();
        let missing = watch.poll().unwrap();
        assert!(missing.contains("can't be read") && missing.contains("stay"), "{missing}");
        assert_eq!(watch.poll(), None, "the same is not said again");
        file.write(ONE);
        assert!(watch.poll().unwrap().contains("1 backends added"));
        assert_eq!(watch.poll(), None);
        file.write("[[backend]]\naddress = ");
        assert!(watch.poll().unwrap().contains("line 2"));
        file.write("[[backend]]\naddress = \"127.0.0.1:1\"\nweight = 13\n");
        assert!(watch.poll().unwrap().contains("bad luck"));
        file.write(TWO);
        assert!(watch.poll().unwrap().contains("2 backends added"));
        assert_eq!(watch.poll(), None);
        let lists = backends.0.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lists, [1, 2]);
        let text = metrics.expose();
        assert!(text.contains("\nfile_applied_total 2\n"), "{text}");
        assert!(text.contains("\nfile_failed_total 3\n"), "{text}");
    }

    #[test]
    fn a_list_that_was_refused_and_comes_back_is_applied() {
        let file = Scratch::new("back.toml");
        let (mut watch, backends, _) = file.watch();
        file.write(ONE);
        assert!(watch.poll().is_some());
        file.write("nonsense");
        assert!(watch.poll().is_some());
        file.write(ONE);
        watch.poll();
        assert!(backends.0.lock().unwrap().iter().all(|list| list.len() == 1));
        assert_eq!(watch.reported, "");
    }

    #[test]
    fn what_is_no_file_is_named_and_a_file_in_its_place_is_applied() {
        let file = Scratch::new("pipe.toml");
        let (mut watch, backends, _) = file.watch();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &file.0, kind, mode, 0).unwrap();
        let report = watch.poll().unwrap();
        assert!(report.contains("it is a pipe") && report.contains("stay"), "{report}");
        std::fs::remove_file(&file.0).unwrap();
        file.write(ONE);
        assert!(watch.poll().unwrap().contains("1 backends added"));
        assert_eq!(backends.0.lock().unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new("a.toml"), &bytes);
            let _ = parse(Path::new("a.json"), &bytes);
        }
    }
}
