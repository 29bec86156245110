//! The machine and the software a run is made on.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use measure::record::Environment;
use rustix::process::{Resource, getrlimit};

use super::{instructions, machine::load_average_1m};

/// Describes the machine as it is now. What can't be read stays empty.
pub(crate) fn describe(placement: BTreeMap<String, Vec<u32>>) -> Environment {
    let system = rustix::system::uname();
    Environment {
        kernel: format!(
            "{} {} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy(),
            system.machine().to_string_lossy()
        ),
        cpu_model: field("/proc/cpuinfo", "model name").unwrap_or_default(),
        cpus: cpus(),
        memory_bytes: memory_bytes(),
        governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|text| text.trim().to_owned()),
        load_average_1m: load_average_1m(),
        placement,
        layerlab_version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: git_revision(),
        build_profile: generator::BUILD_PROFILE.to_owned(),
        rustc: generator::RUSTC.to_owned(),
        open_files_limit: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        no_instructions: instructions::missing(),
    }
}

/// Memory of the machine; zero where it can't be read.
pub(crate) fn memory_bytes() -> u64 {
    let kib = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Logical CPUs this process may use.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// The value of the first `key : value` line of a file in `/proc`'s style.
fn field(path: &str, key: &str) -> Option<String> {
    fs::read_to_string(path).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// The revision of the checkout layerlab was built from, if it is still there.
fn git_revision() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if clean { revision } else { format!("{revision}-dirty") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let environment = describe(BTreeMap::new());
        assert!(environment.kernel.starts_with("Linux"));
        assert!(environment.cpus >= 1);
        assert!(environment.memory_bytes > 0);
        assert!(environment.rustc.starts_with("rustc"));
        assert!(environment.build_profile.contains("opt-level"));
    }
}
