//! One network namespace, held by a descriptor and by nothing else.
//!
//! A namespace lives as long as a process is in it or somebody holds it open.
//! `ip netns add` holds it by a mount in `/run/netns`, which outlives whoever
//! made it. Here only the lab's descriptor does, and the processes it started,
//! which the [guard](super::super::guard) ends with it: so whatever ends the
//! lab, the namespace goes, and with it its links, addresses and rules. There
//! are no names either, so two labs never collide.
//!
//! Threads change their own namespace and no other thread's: the lab itself
//! stays where it is.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, RawFd},
    panic,
    path::PathBuf,
    process, thread,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    held: File,
}

impl Namespace {
    /// Makes one, with nothing in it but a loopback that is down.
    ///
    /// # Errors
    /// Mostly for want of privilege (see [`super::prepare`]).
    pub(crate) fn new() -> io::Result<Self> {
        let held = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })?;
        Ok(Self { held })
    }

    /// Moves the calling thread into it: sockets that it opens from now on, and
    /// threads that it starts, are there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.held, CloneFlags::CLONE_NEWNET)?)
    }

    /// Does `work` in it, on a thread of its own.
    ///
    /// # Errors
    /// When the kernel lets no thread in.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            self.enter()?;
            Ok(work())
        })
    }

    /// Its descriptor, for netlink.
    pub(super) fn descriptor(&self) -> RawFd {
        self.held.as_raw_fd()
    }

    /// Where another process finds it, as long as this one holds it: the guard
    /// opens it there. Descriptors are not inherited, so that no child holds a
    /// namespace that it is not in.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.held.as_raw_fd()).into()
    }
}

/// Sets a switch of the namespace that the calling thread is in.
pub(super) fn set(switch: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{switch}"), value).map_err(|error| {
        let text = format!("cannot set net.ipv4.{switch} to {value}: {error}");
        io::Error::new(error.kind(), text)
    })
}

/// Does `work` on a thread that ends with it, and whose namespace may change.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panicked) => panic::resume_unwind(panicked),
    })
}
