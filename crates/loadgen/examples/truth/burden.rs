//! A proxy that spends more on each call: all of its system calls go through a filter
//! (seccomp(2)) that computes for a while and then allows them.
//!
//! What is spent is spent by the proxy itself, when it works anyway. A process beside it would
//! keep cores awake, which makes them cheaper to start for all others on a virtual machine.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use crate::{Failure, unsafe_seccomp};

/// The argument with which this program becomes the one that follows, with a filter of so many
/// instructions.
pub(crate) const ARGUMENT: &str = "--with-filter=";
/// What the kernel takes (`BPF_MAXINSNS`), less those that load and return.
pub(crate) const LONGEST: u32 = 4_094;

/// Becomes that program; comes back only where it can't.
pub(crate) fn become_it(instructions: &str, mut rest: impl Iterator<Item = String>) -> ExitCode {
    let filtered = instructions
        .parse()
        .map_err(io::Error::other)
        .and_then(unsafe_seccomp::filter_system_calls);
    let error = match (filtered, rest.next()) {
        (Err(error), _) => error,
        (Ok(()), None) => io::Error::other("no program is named"),
        (Ok(()), Some(program)) => Command::new(program).args(rest).exec(),
    };
    eprintln!("error: {ARGUMENT}{instructions}: {error}");
    ExitCode::from(3)
}

/// Makes a folder with a peer of the library that has such a filter.
pub(crate) fn peers_with(root: &Path, peer: &str, instructions: u32) -> Result<(), Failure> {
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
    let program = std::env::current_exe()?.display().to_string();
    let with_filter = [program, format!("{ARGUMENT}{instructions}")];
    command.splice(0..0, with_filter.map(toml::Value::from));
    fs::write(&path, setup.to_string())?;
    Ok(())
}
