//! Another tenant of the machine: a process in a control group of its own that is busy for a
//! while, idle for a while, and so on.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, lab::guarded};

/// The argument with which this program is that process.
pub(crate) const ARGUMENT: &str = "--be-a-neighbour";
/// How long it is busy, and how long idle.
const BUSY: Duration = Duration::from_millis(400);
const IDLE: Duration = Duration::from_millis(1_600);

/// It is there for as long as this is held.
#[derive(Debug)]
pub(crate) struct Neighbour {
    process: Child,
    group: PathBuf,
}

impl Neighbour {
    /// # Errors
    /// Without root, or without the controller `cpu`.
    pub(crate) fn start() -> Result<Self, Failure> {
        let old = Path::new("/sys/fs/cgroup/cpu");
        let is_old = old.join("cgroup.procs").exists();
        let root = if is_old { old } else { Path::new("/sys/fs/cgroup") };
        let group = root.join(format!("layerlab-neighbour-{}", std::process::id()));
        let made = |error: io::Error| {
            format!("--neighbour: no control group at {}: {error}; it takes root", group.display())
        };
        if !is_old {
            // It may be on already.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
        }
        fs::create_dir(&group).map_err(made)?;
        let process = guarded(std::env::current_exe()?)?.arg(ARGUMENT).spawn()?;
        let neighbour = Self { process, group };
        let pid = neighbour.process.id().to_string();
        fs::write(neighbour.group.join("cgroup.procs"), pid)?;
        Ok(neighbour)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir(&self.group);
    }
}

/// Is that process.
pub(crate) fn be() -> ! {
    loop {
        let begun = Instant::now();
        while begun.elapsed() < BUSY {
            std::hint::spin_loop();
        }
        thread::sleep(IDLE);
    }
}
