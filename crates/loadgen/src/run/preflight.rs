//! What can be known to go wrong before anything is started.

use std::env;

use scenario::{Layer, Scenario, Server};

use crate::{
    exit::Failure,
    peers::{ReadyPeer, is_program},
};

/// Descriptors a process has open besides its connections: streams, logs,
/// timers, listeners, with room to spare.
const OTHER_DESCRIPTORS: u64 = 64;

/// The most that the lab takes, whatever the machine: backends are processes, and calls in
/// flight have memory set aside.
const MOST_BACKENDS: u64 = 256;
const MOST_BALANCERS: u64 = 64;
const MOST_CONNECTIONS: u64 = 20_000;
const MOST_IN_FLIGHT: u64 = 1_000_000;

/// Checks that the scenario is of a size that can be run, and the limit on open descriptors,
/// whose soft one it raises to the hard one for this process and for those it starts.
///
/// # Errors
/// With the numbers, when the scenario needs more than there are.
pub(super) fn check(scenario: &Scenario, peers: &[ReadyPeer]) -> Result<(), Failure> {
    check_size(scenario)?;
    let limit = serve::limits::raise_open_files().map_err(|error| {
        Failure::lab(format!("cannot raise the limit on open descriptors: {error}"))
    })?;
    check_descriptors(scenario, peers, limit)
}

/// Looks for the program of the user's own servers, as the system will.
///
/// # Errors
/// With the key, and where it was looked for.
pub(super) fn check_command(scenario: &Scenario) -> Result<(), String> {
    let Some(own) = scenario.servers.command() else { return Ok(()) };
    let failure = |what: String| Err(format!("backends.command: {what}"));
    let folder = own.folder.display();
    // What the file's own folder is called there is nothing at all.
    if !own.folder.as_os_str().is_empty() && !own.folder.is_dir() {
        return failure(format!("there is no folder {folder} to run it in; see `backends.folder`"));
    }
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let server = Server { id: "b0", index: 0, addr, cluster: &[], tls: None };
    let program = own.command[0].render(&server);
    if program.contains('/') {
        let found = is_program(&own.folder.join(&program));
        return if found {
            Ok(())
        } else {
            failure(format!("no program at {program} (from {folder})"))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| is_program(&folder.join(&program))) {
        Ok(())
    } else {
        failure(format!("no program `{program}` in PATH; write its path, or install it"))
    }
}

fn check_size(scenario: &Scenario) -> Result<(), Failure> {
    let connections = u64::from(scenario.load.connections);
    let in_flight = connections * u64::from(scenario.load.streams);
    let balancers = u64::from(scenario.fleet.balancers);
    let sizes = [
        ("backends", scenario.backends.len() as u64, MOST_BACKENDS),
        ("balancers", balancers, MOST_BALANCERS),
        ("connections", connections, MOST_CONNECTIONS),
        ("calls in flight", in_flight, MOST_IN_FLIGHT),
    ];
    match sizes.into_iter().find(|(_, size, most)| size > most) {
        Some((what, size, most)) => Err(Failure::bad_input(format!(
            "scenario {} asks for {size} {what}, and the lab takes {most} at most; `loadgen \
             simulate` takes more",
            scenario.name
        ))),
        None => Ok(()),
    }
}

fn check_descriptors(
    scenario: &Scenario,
    peers: &[ReadyPeer],
    limit: Option<u64>,
) -> Result<(), Failure> {
    let needed = descriptors(scenario, peers);
    match limit {
        Some(limit) if limit < needed => Err(Failure::bad_input(format!(
            "scenario {} needs {needed} open descriptors in one process for its {} connections, \
             and the limit is {limit}; raise it (`ulimit -n {needed}`, as root `ulimit -Hn`), or \
             lower `load.connections`",
            scenario.name, scenario.load.connections
        ))),
        _ => Ok(()),
    }
}

/// The most that one process needs: a proxy has two descriptors a connection
/// and one more while it connects; a client that balances itself has one a
/// backend, on each of its channels.
fn descriptors(scenario: &Scenario, peers: &[ReadyPeer]) -> u64 {
    let channel = &scenario.channel;
    let each = u64::from(channel.count) * u64::from(channel.max_connections);
    let connections = u64::from(scenario.load.connections) * each;
    let backends = scenario.backends.len() as u64;
    let client_side = peers.iter().any(|ready| ready.peer.layer == Layer::Client);
    let per_connection = if client_side { backends.max(3) } else { 3 };
    connections * per_connection + backends + OTHER_DESCRIPTORS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_a_lab_is_refused_and_can_be_simulated() {
        let library = scenario::Library::open(crate::root::Root::find().scenarios()).unwrap();
        let many = scenario::Setting::new("backends.count", "300", "--set backends.count=300");
        let scenario = library.find("many-conns").unwrap().resolve(false, &[many]).unwrap();
        let message = check_size(&scenario).unwrap_err().message;
        assert!(message.contains("300 backends") && message.contains("simulate"), "{message}");
    }

    #[test]
    fn too_few_descriptors_are_told_with_both_numbers() {
        let library = scenario::Library::open(crate::root::Root::find().scenarios()).unwrap();
        let scenario = library.find("many-conns").unwrap().resolve(false, &[]).unwrap();
        assert!(check_descriptors(&scenario, &[], None).is_ok());
        assert!(check_descriptors(&scenario, &[], Some(1024)).is_ok());
        let failure = check_descriptors(&scenario, &[], Some(100)).unwrap_err();
        assert_eq!(failure.code, crate::exit::BAD_INPUT);
        assert!(
            failure.message.contains("260") && failure.message.contains("100"),
            "{}",
            failure.message
        );
    }
}
