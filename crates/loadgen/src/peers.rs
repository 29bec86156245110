//! Peers made ready: found on this machine, with their versions.

use std::{
    env,
    fs::Permissions,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use balance::{PolicyKind, ProbeRule, Tuning, WeightRule, ZoneRouting};
use scenario::{Layer, Library, Lookup, NotFound, Peer, ProxySettings, RenderError, Scenario};

use crate::{exit::Failure, external::External, lab::LaunchError, root::Root};

/// How long a version command may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of what it prints is kept.
const VERSION_CHARACTERS: usize = 120;

/// Settings of policies for trials that are seconds long and over few backends, for clients
/// that balance and for simulations. Those of `l7` and `l7-hyper` are the same, in their `peer.toml`.
pub(crate) fn tuning() -> Tuning {
    let (blackout, update) = (Duration::from_millis(300), Duration::from_millis(100));
    let weights = WeightRule { blackout, update, ..WeightRule::default() };
    let probes = ProbeRule { sent: 1.0, ..ProbeRule::default() };
    Tuning { weights, probes, ..Tuning::default() }
}

/// A peer that can be started.
#[derive(Clone, Debug)]
pub(crate) struct ReadyPeer {
    pub(crate) peer: Peer,
    /// Its program; `None` when its command names it itself.
    pub(crate) program: Option<PathBuf>,
    /// What its version command printed, in one line.
    pub(crate) version: Option<String>,
    /// For one that the lab did not start.
    pub(crate) external: Option<External>,
}

impl ReadyPeer {
    /// Looks for the peer's program and asks its version.
    ///
    /// # Errors
    /// Why it can't be run here, and how to get it.
    pub(crate) fn prepare(peer: Peer, root: &Root) -> Result<Self, Unusable> {
        let program = peer.locate(&lookup(&root.installed_peers()))?;
        let loadgen = loadgen_program().map_err(LaunchError::NoProgram)?;
        let command = peer.version_command(&loadgen, program.as_deref())?;
        let version = command.map(|command| version(&command)).transpose()?;
        Ok(Self { peer, program, version, external: None })
    }

    /// What the lab did not start.
    pub(crate) fn external(external: External) -> Self {
        let peer = Peer {
            name: external.target.name.clone(),
            policy: None,
            settings: None,
            title: external.title(),
            // Nothing of ours stands there.
            layer: Layer::None,
            discovery: None,
            description: "A balancer that the lab did not start.".to_owned(),
            process: None,
        };
        Self { peer, program: None, version: None, external: Some(external) }
    }

    /// The policy it picks by: its own, or else the scenario's.
    pub(crate) fn policy(&self, scenario: &Scenario) -> PolicyKind {
        self.peer.policy.unwrap_or(scenario.policy)
    }

    /// What else it is set to; `None` for nothing.
    pub(crate) fn settings<'a>(&self, scenario: &'a Scenario) -> Option<&'a ProxySettings> {
        scenario.settings.get(self.peer.settings.as_deref()?)
    }

    /// How far it keeps to its own zone; `None` where it knows of none.
    pub(crate) fn zone_routing(&self, scenario: &Scenario) -> Option<ZoneRouting> {
        let settings = self.settings(scenario)?;
        // The scenario's check has written both as numbers.
        let number = |name: &str| settings.get(name).and_then(|value| value.parse().ok());
        let backends_min = number("zone_min_backends").map(|count: u32| count as usize);
        Some(ZoneRouting {
            percent: number("zone_routing")?,
            backends_min: backends_min.unwrap_or(ZoneRouting::default().backends_min),
        })
    }

    /// Whether a balancer stands between client and backends, ours to start or not.
    pub(crate) fn stands_between(&self) -> bool {
        self.is_started() || self.external.is_some()
    }

    /// Whether it is a balancer that the lab starts.
    pub(crate) fn is_started(&self) -> bool {
        self.peer.layer.stands_between()
    }
}

/// A real client that can be started.
#[derive(Clone, Debug)]
pub(crate) struct ReadyClient {
    pub(crate) name: String,
    /// Its name and the version of its library, by which its numbers are labelled.
    pub(crate) label: String,
    /// What starts it.
    pub(crate) command: Vec<String>,
}

impl ReadyClient {
    /// Looks for the client's program and asks the version of its library.
    ///
    /// # Errors
    /// When it is not there, with how to get it.
    pub(crate) fn prepare(name: &str, library: &Library, root: &Root) -> Result<Self, Failure> {
        let client = library.client(name).map_err(Failure::bad_input)?;
        let program =
            client.locate(&lookup(&root.installed_peers())).map_err(Failure::bad_input)?;
        let version = version(&client.version_command(&program)).map_err(Failure::bad_input)?;
        // What it prints where the library is missing is no version.
        if !version.starts_with(|first: char| first.is_ascii_digit()) {
            let hint = client.install().map(|how| format!("; to get it: {how}"));
            return Err(Failure::bad_input(format!(
                "client {name} is not installed for {}: {version}{}",
                program.display(),
                hint.unwrap_or_default()
            )));
        }
        let command = client.command(&program);
        Ok(Self { name: name.to_owned(), label: format!("{name} {version}"), command })
    }
}

/// Why a peer can't be run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error(
        "{0} balances in a network namespace of its own, and this run has everyone on one \
         loopback; run it with --set network=namespaces"
    )]
    NeedsNamespace(String),
    #[error("{0} is the kernel, which is one balancer, and this run asks for several")]
    OneOnly(String),
    #[error(
        "it can't be told of backends that join or leave while it runs; its peer.toml has no \
         [reload]"
    )]
    CannotReload,
    #[error("the lab can't tell a real client of backends; client-dns resolves a name")]
    CannotBeTold,
    #[error("real clients know pick_first and round_robin, and no {0}")]
    ClientPolicy(PolicyKind),
    #[error("{peer} can't be told `{setting}`{}", if known.is_empty() {
        ", and has no settings".to_owned()
    } else {
        format!("; it knows {}", known.join(", "))
    })]
    ClientSetting { peer: String, setting: String, known: &'static [&'static str] },
    #[error("tonic's channel keeps to one address of a name, and knows no {0}")]
    OneAddress(PolicyKind),
}

/// Why a program's version is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VersionError {
    #[error("cannot run {program}: {error}")]
    Start { program: String, error: io::Error },
    #[error("cannot wait for {program}: {error}")]
    Wait { program: String, error: io::Error },
    #[error("{program} did not tell its version")]
    TimedOut { program: String },
}

/// All peers of the library in the order they are compared in: the plain ways
/// first, ours, then the others by name.
pub(crate) fn all_names(library: &Library) -> Vec<String> {
    let first = ["direct", "client-dns", "client-lookaside", "l4", "l7"];
    let mut names: Vec<String> = library.peer_names().to_vec();
    let rank = |name: &String| first.iter().position(|known| known == name).unwrap_or(first.len());
    names.sort_by_key(|name| (rank(name), name.clone()));
    names
}

/// The path of this binary, which peers of ours are started with.
pub(crate) fn loadgen_program() -> io::Result<PathBuf> {
    env::current_exe()
}

/// Where programs are looked for on this machine.
fn lookup(peers_folder: &Path) -> Lookup<'_> {
    Lookup { env: &|name| env::var_os(name), peers_folder, is_program: &is_program }
}

pub(crate) fn is_program(path: &Path) -> bool {
    let executable = |permissions: Permissions| permissions.mode() & 0o111 != 0;
    path.metadata().is_ok_and(|meta| meta.is_file() && executable(meta.permissions()))
}

/// Runs a version command and returns the first line it prints, on whichever
/// stream.
fn version(command: &[String]) -> Result<String, VersionError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(String::new()) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| VersionError::Start { program: program.clone(), error })?;
    let deadline = Instant::now() + VERSION_TIMEOUT;
    let cannot_wait = |error| VersionError::Wait { program: program.clone(), error };
    // A version is shorter than a pipe holds, so nothing blocks while it waits.
    while child.try_wait().map_err(cannot_wait)?.is_none() {
        if Instant::now() > deadline {
            // It is ours to end, and its end is all that is wanted.
            let _ = child.kill();
            let _ = child.wait();
            return Err(VersionError::TimedOut { program: program.clone() });
        }
        thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_string(&mut text);
    }
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut text);
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    Ok(line.chars().take(VERSION_CHARACTERS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_version_is_the_first_line_of_either_stream() {
        assert_eq!(
            version(&words(&["sh", "-c", "echo; echo proxy 1.2; echo more"])).unwrap(),
            "proxy 1.2"
        );
        assert_eq!(version(&words(&["sh", "-c", "echo on stderr >&2"])).unwrap(), "on stderr");
        assert!(
            version(&words(&["/nowhere/at/all"]))
                .unwrap_err()
                .to_string()
                .contains("/nowhere/at/all")
        );
    }

    #[test]
    fn a_program_is_a_file_that_can_be_run() {
        assert!(is_program(Path::new("/bin/sh")));
        assert!(!is_program(Path::new("/bin")));
        assert!(!is_program(Path::new("/etc/passwd")));
    }

    #[test]
    fn every_peer_is_listed_once_the_plain_ways_first() {
        let library = Library::open(Root::find().scenarios()).unwrap();
        let names = all_names(&library);
        assert_eq!(&names[..4], ["direct", "client-dns", "client-lookaside", "l4"]);
        assert_eq!(names.len(), library.peer_names().len());
    }
}
