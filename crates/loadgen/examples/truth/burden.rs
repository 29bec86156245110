//! A process beside a proxy that spends a known part of a core, and is billed to it.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::Failure;

/// The argument with which this program is that process, with the part of a core.
pub(crate) const ARGUMENT: &str = "--be-a-burden=";
/// How often it spends what is due: many times in the shortest trial.
const EVERY: Duration = Duration::from_millis(5);

/// Is that process, until it is killed with the proxy's process group.
pub(crate) fn be(share: &str) -> io::Result<()> {
    let share: f64 = share.parse().map_err(io::Error::other)?;
    let begun = Instant::now();
    let spent = || {
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(spent.tv_sec.unsigned_abs(), spent.tv_nsec.unsigned_abs() as u32)
    };
    loop {
        while spent() < begun.elapsed().mul_f64(share) {
            std::hint::spin_loop();
        }
        thread::sleep(EVERY);
    }
}

/// Makes a folder with the peers of the library, of which one has the burden.
pub(crate) fn peers_with(root: &Path, peer: &str, share: f64) -> Result<(), Failure> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/peers");
    let own = root.join("scenarios/peers").join(peer);
    fs::create_dir_all(&own)?;
    for file in fs::read_dir(library.join(peer))? {
        let file = file?;
        fs::copy(file.path(), own.join(file.file_name()))?;
    }
    let path = own.join("peer.toml");
    let mut setup: toml::Table = fs::read_to_string(&path)?.parse()?;
    let command = setup.get_mut("command").and_then(toml::Value::as_array_mut);
    let command = command.ok_or("the peer has no command")?;
    let program = std::env::current_exe()?;
    // Its input is nobody's, and what follows becomes the proxy.
    let script =
        format!("'{}' {ARGUMENT}{share} </dev/null & exec \"$0\" \"$@\"", program.display());
    command.splice(0..0, ["sh", "-c", &script].map(toml::Value::from));
    setup.insert("has_workers".to_owned(), true.into());
    fs::write(&path, setup.to_string())?;
    Ok(())
}
