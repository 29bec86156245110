//! Files that are read while a server runs.
//!
//! A path can be anything by then: a pipe that nobody writes to, a device without
//! an end, a file on a mount that has stopped answering. None of them may hold up
//! the server, its end, or the next look at the file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::sync::oneshot;

/// How long a file may take to be read: far more than a disk or a network takes
/// that still answers.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads that may wait at the same time for files that don't answer.
const WAITING_MAX: usize = 4;

/// The bytes of a regular file.
///
/// # Errors
/// When it can't be opened or read, is something else than a file, or has more
/// than `bytes_max` bytes.
pub fn read_regular(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK, opening a pipe waits for somebody who writes to it.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    if let Some(kind) = other_kind(&file)? {
        return Err(invalid(format!("it is a {kind}; name a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(invalid(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// What an open file is, if it is no regular one.
fn other_kind(file: &File) -> io::Result<Option<&'static str>> {
    let kind = file.metadata()?.file_type();
    Ok(match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("directory"),
        () if kind.is_fifo() => Some("pipe"),
        () => Some("device"),
    })
}

/// Reads files on threads that nobody waits for: a runtime waits at its end for
/// what `spawn_blocking` started, and a read from a mount that has stopped
/// answering can't be called off.
#[derive(Debug, Default)]
pub struct Reader {
    /// Held by each thread until it is done.
    waiting: Arc<()>,
}

impl Reader {
    /// What `read` gives.
    ///
    /// # Errors
    /// Its own, or that it took longer than `timeout`, or that too many before it
    /// still have not come back.
    pub async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let unanswered = || {
            let message = "the file system does not answer; check its mount";
            io::Error::new(io::ErrorKind::TimedOut, message)
        };
        if Arc::strong_count(&self.waiting) > WAITING_MAX {
            return Err(unanswered());
        }
        let waiting = Arc::clone(&self.waiting);
        let (done, result) = oneshot::channel();
        std::thread::Builder::new().name("file-reader".to_owned()).spawn(move || {
            let found = read();
            drop(waiting);
            // After the timeout nobody wants it.
            let _ = done.send(found);
        })?;
        match tokio::time::timeout(timeout, result).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(io::Error::other("reading panicked")),
            Err(_) => Err(unanswered()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A bound on what must come, and not on what must not.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn only_regular_files_are_read_and_no_pipe_is_waited_for() {
        let folder = std::env::temp_dir().join(format!("layerlab-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (pipe, file) = (folder.join("pipe"), folder.join("file"));
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        std::fs::write(&file, "12345").unwrap();
        let refused = |path: &Path| read_regular(path, 5).unwrap_err().to_string();
        assert!(refused(&pipe).contains("a pipe"));
        assert!(refused(&folder).contains("a directory"));
        assert!(refused(Path::new("/dev/zero")).contains("a device"));
        assert_eq!(read_regular(&file, 5).unwrap(), b"12345");
        std::fs::write(&file, "123456").unwrap();
        assert!(refused(&file).contains("larger than 5"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A read that comes back when the sender is dropped.
    fn stuck() -> (mpsc::Sender<()>, impl FnOnce() -> io::Result<()> + Send + 'static) {
        let (release, released) = mpsc::channel();
        let read = move || {
            let _ = released.recv();
            Ok(())
        };
        (release, read)
    }

    #[test]
    fn a_read_that_does_not_come_back_holds_up_neither_the_next_nor_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reader = Reader::default();
        let mut stuck_reads = Vec::new();
        for number in 0..WAITING_MAX {
            let found = runtime.block_on(reader.run(PATIENCE, move || Ok(number)));
            assert_eq!(found.unwrap(), number, "after {number} that are stuck");
            let (release, read) = stuck();
            let found = runtime.block_on(reader.run(Duration::from_millis(1), read));
            assert_eq!(found.unwrap_err().kind(), io::ErrorKind::TimedOut);
            stuck_reads.push(release);
        }
        let refused = runtime.block_on(reader.run(PATIENCE, || Ok(())));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut, "no fifth thread");
        // It ends although they are all still stuck.
        drop(runtime);
        drop(stuck_reads);
        while Arc::strong_count(&reader.waiting) > 1 {
            std::thread::yield_now();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(reader.run(PATIENCE, || Ok(()))).unwrap();
    }
}
