//! A bound on the CPU time of the balancer, by a control group of its own.
//!
//! Where generator and backends need more CPU than the balancer, as on a small machine, it
//! is never the balancer that runs out. Held to a part of a core it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Time over which the kernel measures out the bound. Shorter ones cost more, and longer ones
/// leave the balancer still for longer.
const PERIOD_US: f64 = 50_000.0;
const PREFIX: &str = "layerlab-";

/// No bound can be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "placement.proxy_quota: no control group can be made at {}: {error}; it takes root and the \
     controller `cpu`", path.display()
)]
pub(crate) struct NoQuota {
    path: PathBuf,
    error: io::Error,
}

/// A control group with a bound, for as long as it is held. Whoever is in it has ended by then.
#[derive(Debug)]
pub(crate) struct Quota {
    path: PathBuf,
}

impl Quota {
    /// A group that may use so many cores.
    ///
    /// # Errors
    /// Without root, or without the controller.
    pub(crate) fn new(cores: f64) -> Result<Self, NoQuota> {
        let old = Path::new("/sys/fs/cgroup/cpu");
        let is_old = old.join("cgroup.procs").exists();
        let root = if is_old { old } else { Path::new("/sys/fs/cgroup") };
        remove_orphans(root);
        let path = root.join(format!("{PREFIX}{}", std::process::id()));
        let quota = Self { path };
        let bounded = quota.make(root, is_old, (cores * PERIOD_US).round());
        bounded.map_err(|error| NoQuota { path: quota.path.clone(), error })?;
        Ok(quota)
    }

    fn make(&self, root: &Path, is_old: bool, quota_us: f64) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if is_old {
            fs::write(self.path.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
            return fs::write(self.path.join("cpu.cfs_quota_us"), quota_us.to_string());
        }
        // It may be on already, and who may not turn it on fails at the next line.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
        fs::write(self.path.join("cpu.max"), format!("{quota_us} {PERIOD_US}"))
    }

    /// Where a process joins it.
    pub(crate) fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Workers of a proxy that was killed may be a moment longer there than it. A group that
        // is not empty after that is removed by the next run of the lab.
        for _ in 0..20 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Removes what a lab left that was killed.
fn remove_orphans(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
