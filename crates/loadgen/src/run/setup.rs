//! A scenario's settings as command lines: what the lab is told to start.

use std::{net::SocketAddr, path::PathBuf};

use balance::{Chooser, PolicyKind};
use rustix::process::Signal;
use scenario::{
    Backend, BackendCommand, ReloadSignal, RenderInput, Rendered, RenderedHow, RenderedReload,
    Scenario, Server, StopSignal, Target, Tls, TlsFiles, split_name,
};
use units::duration;

use crate::{
    lab::{BackendPlace, Certificates, Launch, LaunchError, ProxyLaunch, Reload, ReloadHow, Site},
    peers::{ReadyPeer, loadgen_program},
};

/// The command line of backend number `index`. `seed` fixes its service times:
/// every peer of a repeat meets the same backends.
pub(super) fn backend(
    scenario: &Scenario,
    place: &BackendPlace<'_>,
    seed: u64,
    certificates: Option<&Certificates>,
    cpus: &[u32],
) -> Result<Launch, LaunchError> {
    let &BackendPlace { index, listen, cluster } = place;
    let backend = &scenario.backends[index];
    let tls = tls_of_backends(scenario, certificates)?;
    if let Some(own) = scenario.servers.command() {
        let tls = tls.map(|files| (files.cert, files.key));
        let server = Server { id: &backend.id, index, addr: listen, cluster, tls };
        return Ok(own_server(own, backend, &server, cpus));
    }
    let mut command = vec![
        loadgen_program().map_err(LaunchError::NoProgram)?.display().to_string(),
        "echo-backend".to_owned(),
        "--control-pipe".to_owned(),
        format!("--listen={listen}"),
        format!("--id={}", backend.id),
        format!("--service-time={}", backend.service_time),
        format!("--speed={}", backend.speed),
        format!("--seed={seed}"),
        // An overloaded backend queues, as the scenario asks; it does not shed.
        format!("--max-waiting={}", MAX_WAITING),
        format!("--max-connections={}", MAX_CONNECTIONS),
        format!("--max-streams={}", scenario.stream_limits.backends.unwrap_or(MAX_STREAMS)),
    ];
    command.extend(backend.concurrency.map(|servers| format!("--concurrency={servers}")));
    if needs_load_reports(scenario) {
        command.push("--load-reports".to_owned());
    }
    if backend.failures > 0.0 {
        command.push(format!("--failures={}", backend.failures));
    }
    if let Some(age) = scenario.connection_age {
        command.push(format!("--max-connection-age={}", duration::format(age.max)));
        command.push(format!("--max-connection-age-grace={}", duration::format(age.grace)));
    }
    if let Some(files) = tls {
        command.push(format!("--tls-cert={}", files.cert.display()));
        command.push(format!("--tls-key={}", files.key.display()));
    }
    Ok(Launch::new(backend.id.clone(), command, cpus))
}

/// Whether backends have to report their load, which they then do to all peers: it is a cost
/// that none of them may be spared.
fn needs_load_reports(scenario: &Scenario) -> bool {
    let own = scenario.peers.iter().filter_map(|name| split_name(name).ok()?.policy);
    own.chain([scenario.policy]).any(PolicyKind::asks_backends)
}

/// How a server of the user's own is started. Nobody knows whether it starts others.
fn own_server(
    own: &BackendCommand,
    backend: &Backend,
    server: &Server<'_>,
    cpus: &[u32],
) -> Launch {
    let environment = own.environment.iter().chain(&backend.environment);
    Launch {
        name: backend.id.clone(),
        command: own.command.iter().map(|word| word.render(server)).collect(),
        environment: environment.map(|(name, text)| (name.clone(), text.render(server))).collect(),
        folder: Some(own.folder.clone()).filter(|folder| !folder.as_os_str().is_empty()),
        cpus: cpus.to_vec(),
        stop_signal: Signal::TERM,
        has_workers: true,
    }
}

/// What backends show of themselves; `None` where they speak plain text.
fn tls_of_backends<'a>(
    scenario: &Scenario,
    certificates: Option<&'a Certificates>,
) -> Result<Option<TlsFiles<'a>>, LaunchError> {
    match certificates {
        _ if !scenario.tls.of_backends() => Ok(None),
        Some(certificates) => Ok(Some(certificates.of_backends())),
        None => Err(LaunchError::NoCertificates),
    }
}

/// The command line of the tap before a server, which listens at `listen`. It bounds
/// nothing that the server and its clients would not bound by themselves.
pub(super) fn tap(
    scenario: &Scenario,
    place: &BackendPlace<'_>,
    listen: SocketAddr,
    certificates: Option<&Certificates>,
    cpus: &[u32],
) -> Result<Launch, LaunchError> {
    let id = &scenario.backends[place.index].id;
    let mut command = vec![
        loadgen_program().map_err(LaunchError::NoProgram)?.display().to_string(),
        "l7-proxy".to_owned(),
        "--control-pipe".to_owned(),
        format!("--listen={listen}"),
        format!("--backend={},name={id}", place.listen),
        "--name-backends".to_owned(),
        "--threads=1".to_owned(),
        format!("--max-connections={MAX_CONNECTIONS}"),
        format!("--max-concurrent-streams={MAX_STREAMS}"),
        format!("--max-resets-per-second={MAX_WAITING}"),
        format!("--max-control-frames-per-second={MAX_WAITING}"),
        format!("--backend-max-streams={MAX_STREAMS}"),
        format!("--backend-max-pending={MAX_WAITING}"),
        format!("--max-pending={MAX_WAITING}"),
    ];
    let servers = scenario.backends[place.index].concurrency;
    command.extend(servers.map(|servers| format!("--backend-servers={servers}")));
    if let Some(files) = tls_of_backends(scenario, certificates)? {
        command.push(format!("--tls-cert={}", files.cert.display()));
        command.push(format!("--tls-key={}", files.key.display()));
        command.push(format!("--backend-tls-ca={}", files.ca.display()));
        command.push(format!("--backend-tls-name={}", files.name));
    }
    Ok(Launch::new(format!("tap-{id}"), command, cpus))
}

/// More calls than a scenario may have in flight ([`scenario::bounds::IN_FLIGHT`]).
const MAX_WAITING: u32 = 1_000_000;
/// A backend may get every connection of the scenario, twice over.
const MAX_CONNECTIONS: u32 = 40_000;
/// A backend may get every call of a connection.
const MAX_STREAMS: u32 = 100_000;

/// The backends that a balancer is told of, number so-and-so of so many, where there are
/// `members`: each with how much of it is the balancer's.
pub(super) fn known(
    scenario: &Scenario,
    members: &[usize],
    (number, of): (usize, usize),
) -> Vec<(usize, u32)> {
    let Some(subset) = scenario.fleet.subset else {
        return members.iter().map(|&index| (index, 1)).collect();
    };
    let names: Vec<&str> = members.iter().map(|&index| &*scenario.backends[index].id).collect();
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let own = Chooser { number: narrow(number), of: narrow(of), salt: scenario.seed };
    let chosen = subset.choose(&names, own).into_iter();
    chosen.map(|one| (members[one.index], one.weight)).collect()
}

/// The same as a balancer's files have them; `addr` is where each of them listens.
fn targets(scenario: &Scenario, known: &[(usize, u32)], addrs: &[SocketAddr]) -> Vec<Target> {
    let target = |&(index, weight): &(usize, u32)| {
        let backend = &scenario.backends[index];
        let zone = scenario.zones.as_ref().map(|zones| zones.of_backend(index).to_owned());
        Target {
            id: backend.id.clone(),
            addr: addrs[index],
            weight: backend.weight.saturating_mul(weight),
            zone: zone.unwrap_or_default(),
        }
    };
    known.iter().map(target).collect()
}

/// The zone of a balancer, by its number, and what comes to the balancers of each zone; empty
/// where there are none.
fn zones_of_balancer(scenario: &Scenario, number: usize) -> (String, Vec<(String, u32)>) {
    let Some(zones) = &scenario.zones else { return Default::default() };
    // The lab starts a few dozen at most.
    let own = zones.layout().of_balancer(u32::try_from(number).unwrap_or(u32::MAX));
    // Clients come to the balancers of their own zone, as they do to one beside each of them.
    let with_clients = zones.names().iter().zip(zones.layout().clients());
    let proxies = with_clients
        .filter(|(_, clients)| **clients > 0)
        .map(|(name, clients)| (name.clone(), *clients));
    (zones.names()[own].clone(), proxies.collect())
}

/// What a peer's balancer is called, number so-and-so of so many.
pub(super) fn balancer_name(peer: &str, number: usize, of: usize) -> String {
    if of > 1 { format!("{peer}-{number}") } else { peer.to_owned() }
}

/// What a peer is started with at a site, beside the backends it knows; `None` for a peer
/// without a process.
pub(super) fn render(
    ready: &ReadyPeer,
    scenario: &Scenario,
    site: &Site<'_>,
    known: &[(usize, u32)],
    tls_files: TlsFiles<'_>,
) -> Result<Option<Rendered>, LaunchError> {
    let (own_zone, zone_proxies) = zones_of_balancer(scenario, site.number);
    let input = RenderInput {
        loadgen: &loadgen_program().map_err(LaunchError::NoProgram)?,
        program: ready.program.as_deref(),
        listen: site.listen,
        admin: site.admin,
        backends: &targets(scenario, known, site.backends),
        policy: ready.policy(scenario),
        max_streams: scenario.stream_limits.balancer,
        threads: scenario.fleet.threads,
        own_zone: &own_zone,
        zone_proxies: &zone_proxies,
        settings: ready.settings(scenario),
        tls: scenario.tls,
        tls_files,
        dir: site.dir,
    };
    Ok(ready.peer.render(&input)?)
}

/// How a peer's proxy is started at a site.
pub(super) fn proxy(
    ready: &ReadyPeer,
    scenario: &Scenario,
    site: &Site<'_>,
    certificates: Option<&Certificates>,
    cpus: &[u32],
) -> Result<ProxyLaunch, LaunchError> {
    let known = known(scenario, site.members, (site.number, site.of));
    let tls_files = match certificates {
        Some(certificates) => certificates.of_balancer(),
        None if scenario.tls == Tls::None => TlsFiles::default(),
        None => return Err(LaunchError::NoCertificates),
    };
    let rendered = render(ready, scenario, site, &known, tls_files)?;
    let rendered = rendered.ok_or_else(|| LaunchError::NoProcess(ready.peer.name.clone()))?;
    let process = ready.peer.process.as_ref();
    let stop_signal = process.map(|process| process.stop_signal);
    let files: Vec<(PathBuf, String)> =
        rendered.files.into_iter().map(|file| (site.dir.join(file.name), file.text)).collect();
    Ok(ProxyLaunch {
        launch: Launch {
            name: balancer_name(&ready.peer.name, site.number, site.of),
            command: rendered.argv,
            environment: rendered.environment.clone(),
            folder: None,
            cpus: cpus.to_vec(),
            stop_signal: signal(stop_signal.unwrap_or_default()),
            has_workers: process.is_some_and(|process| process.has_workers),
        },
        files,
        in_kernel: ready.peer.in_kernel(),
        reload: rendered
            .reload
            .map(|reload| self::reload(ready, reload, &rendered.environment, cpus)),
        members: known.into_iter().map(|(index, _)| index).collect(),
    })
}

/// How the proxy is told of other backends. A command of its own runs where the
/// proxy does, and in the proxy's environment.
fn reload(
    ready: &ReadyPeer,
    reload: RenderedReload,
    environment: &[(String, String)],
    cpus: &[u32],
) -> Reload {
    let how = match reload.how {
        RenderedHow::Watches => ReloadHow::Watches,
        RenderedHow::Signal(ReloadSignal::Hup) => ReloadHow::Signal(Signal::HUP),
        RenderedHow::Signal(ReloadSignal::Usr1) => ReloadHow::Signal(Signal::USR1),
        RenderedHow::Signal(ReloadSignal::Usr2) => ReloadHow::Signal(Signal::USR2),
        RenderedHow::Command(command) => {
            let name = format!("{}-reload", ready.peer.name);
            let environment = environment.to_vec();
            ReloadHow::Command(Launch { environment, ..Launch::new(name, command, cpus) })
        }
    };
    Reload { how, lists: reload.lists }
}

fn signal(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Kill => Signal::KILL,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use scenario::{Library, ServiceTime};

    use super::*;
    use crate::root::Root;

    #[derive(Parser)]
    struct Parsed {
        #[command(flatten)]
        args: echo_backend::cli::Args,
    }

    fn scenario() -> Scenario {
        let library = Library::open(Root::find().scenarios()).unwrap();
        library.find("single-conn-flood").unwrap().resolve(false, &[]).unwrap()
    }

    /// The scenario and the backend each read distributions; they must agree on
    /// every form.
    #[test]
    fn backends_understand_every_service_time() {
        for form in [
            "none",
            "constant:250us",
            "exponential:4ms",
            "lognormal:2ms,sigma=0.5",
            "bimodal:1ms,20ms,5%",
        ] {
            let mut scenario = scenario();
            let service_time: ServiceTime = form.parse().unwrap();
            scenario.backends[1].service_time = service_time;
            let listen = SocketAddr::from(([127, 0, 0, 1], 5_001));
            let place = BackendPlace { index: 1, listen, cluster: &[] };
            let launch = backend(&scenario, &place, 7, None, &[]).unwrap();
            let args = Parsed::try_parse_from(&launch.command[1..]).unwrap().args;
            let config = args.into_config(listen, serve::Metrics::new()).unwrap();
            assert_eq!(config.id, "b1");
            assert_eq!(config.queue.concurrency.get(), 8);
            let (mean, wanted) = (config.queue.service_time.mean_ns(), service_time.mean_ns());
            assert!((mean - wanted).abs() <= 1.0, "{form}: {mean} ns, not {wanted} ns");
        }
    }
}
