//! Which peers of a scenario can run here.

use std::path::Path;

use balance::PolicyKind;
use measure::record::LeftOut;
use scenario::{CLIENT_SETTINGS, Discovery, Layer, Library, Network, Scenario, TlsFiles};

use super::setup;
use crate::{
    exit::Failure,
    lab::Site,
    peers::{ReadyPeer, Unusable},
    root::Root,
};

/// The peers of a scenario that can run here, and those that can't.
///
/// # Errors
/// When a peer's files are wrong, or when one that was named can't speak TLS where the
/// scenario does: what would be compared then is not what was asked. Of all that there
/// are (`every_peer`) it is left out.
pub(super) fn all(
    scenario: &Scenario,
    library: &Library,
    root: &Root,
    every_peer: bool,
) -> Result<(Vec<ReadyPeer>, Vec<LeftOut>), Failure> {
    let mut ready = Vec::new();
    let mut left_out = Vec::new();
    for name in &scenario.peers {
        let peer = match library.peer(name) {
            Ok(peer) => peer,
            // Nobody asked for this one by its name.
            Err(error) if every_peer => {
                left_out.push(LeftOut { peer: name.clone(), reason: error.to_string() });
                continue;
            }
            Err(error) => return Err(Failure::bad_input(error)),
        };
        let speaks = scenario.all_tls().into_iter().try_for_each(|tls| peer.check_tls(tls));
        if let (Err(reason), false) = (&speaks, every_peer) {
            return Err(Failure::bad_input(format!(
                "scenario {}: {reason}; name other peers with --peers, or add --set tls=none",
                scenario.name
            )));
        }
        let prepared = speaks
            .map_err(Unusable::from)
            .and_then(|()| ReadyPeer::prepare(peer, root))
            .and_then(|ready| {
                let points = scenario.all_points();
                points.into_iter().try_for_each(|point| can_do(&ready, point))?;
                Ok(ready)
            });
        match prepared {
            Ok(peer) => ready.push(peer),
            Err(reason) => {
                left_out.push(LeftOut { peer: name.clone(), reason: reason.to_string() });
            }
        }
    }
    Ok((ready, left_out))
}

/// Renders the peer once for the scenario, to know before anything runs whether
/// it can do what is asked.
pub(crate) fn can_do(ready: &ReadyPeer, scenario: &Scenario) -> Result<(), Unusable> {
    if ready.peer.in_kernel() && scenario.network == Network::Loopback {
        return Err(Unusable::NeedsNamespace(ready.peer.name.clone()));
    }
    if ready.peer.in_kernel() && scenario.fleet.balancers > 1 {
        return Err(Unusable::OneOnly(ready.peer.name.clone()));
    }
    let can_reload = ready.peer.process.as_ref().is_none_or(scenario::Process::can_reload);
    if scenario.changes_membership() && !can_reload {
        return Err(Unusable::CannotReload);
    }
    if scenario.load.client.is_program() && ready.peer.layer == Layer::Client {
        let policy = ready.policy(scenario);
        if ready.peer.discovery == Some(Discovery::Lookaside) {
            return Err(Unusable::CannotBeTold);
        }
        let is_tonic = scenario.load.client == scenario::Client::TonicChannel;
        if is_tonic && policy != PolicyKind::PickFirst {
            return Err(Unusable::OneAddress(policy));
        }
        if !matches!(policy, PolicyKind::PickFirst | PolicyKind::RoundRobin) {
            return Err(Unusable::ClientPolicy(policy));
        }
    }
    // A process is asked by its own files.
    if ready.peer.process.is_none() {
        let balances = ready.peer.layer == Layer::Client && !scenario.load.client.is_program();
        let known: &'static [&'static str] = if balances { &CLIENT_SETTINGS } else { &[] };
        let mut settings = ready.settings(scenario).into_iter().flatten();
        if let Some((setting, _)) = settings.find(|(name, _)| !known.contains(&&***name)) {
            let (peer, setting) = (ready.peer.name.clone(), setting.clone());
            return Err(Unusable::ClientSetting { peer, setting, known });
        }
    }
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let all: Vec<usize> = (0..scenario.backends.len()).collect();
    // What is asked of the first balancer is asked of them all.
    let site = Site {
        number: 0,
        of: scenario.fleet.balancers as usize,
        listen: addr,
        admin: addr,
        backends: &vec![addr; all.len()],
        members: &all,
        dir: Path::new("."),
    };
    let known = setup::known(scenario, &all, (site.number, site.of));
    Ok(setup::render(ready, scenario, &site, &known, TlsFiles::default()).map(drop)?)
}
