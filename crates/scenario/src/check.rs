//! From what is written to what can't be wrong: bounds, alternatives,
//! contradictions and defaults.

use std::{collections::BTreeMap, path::Path};

use measure::answer::Answer;

use crate::{
    backends::{Backend, check_backends, check_policy},
    bounds::{self, within},
    channel::{check_channel, check_connection_age, check_stream_limits},
    claim::Claim,
    command::check_servers,
    error::{Problem, list_of},
    fault::check_faults,
    fleet::check_fleet,
    link::{Surroundings, check_links},
    load::{Length, check_client, check_load},
    peer::{EXTERNAL_PEER, check_name},
    placement::{check_nodes, check_placement},
    precision::check_precision,
    scenario::Scenario,
    service::check_service,
    settings::{ProxySettings, check_settings},
    wire::{BackendsWire, ScenarioWire},
    zones::check_zones,
};

const DEFAULT_PEERS: [&str; 3] = ["direct", "l4", "l7"];
const DEFAULT_REPEATS: u32 = 3;
const DEFAULT_SEED: u64 = 1;

/// Checks a scenario. `folder` is what files that it names are relative to; `known_peers`
/// are the peers there are. Each key in turn, and what contradicts it.
pub(crate) fn check(
    name: &str,
    folder: &Path,
    wire: ScenarioWire,
    known_peers: &[String],
) -> Result<Scenario, Problem> {
    let question = check_text("question", wire.question)?;
    let learned = wire.learned.map(|text| check_text("learned", text)).transpose()?;
    let answer = wire.answer.map(|answer| check_answer(answer, known_peers)).transpose()?;
    let connection_age = check_connection_age(&wire.backends)?;
    let stream_limits = check_stream_limits(&wire.backends, &wire.balance)?;
    let backends = check_backends(&wire.backends)?;
    let tls = wire.tls.unwrap_or_default();
    let network = wire.network.unwrap_or_default();
    let servers = check_servers(&wire.backends, backends.len(), tls, network)?;
    let policy = wire.balance.policy;
    check_policy("balance.policy", policy, &backends)?;
    let load = check_load(&wire.load, folder)?;
    let zones = |wire| check_zones(wire, backends.len(), load.connections);
    let zones = wire.zones.as_ref().map(zones).transpose()?;
    let around =
        Surroundings { network, backends: &backends, zones: zones.as_ref(), client: load.client };
    let links = check_links(&wire.links, &around)?;
    let fleet = check_fleet(&wire.balance, zones.as_ref())?;
    check_client(&load, network, tls, wire.service.is_some())?;
    let channel = check_channel(&wire.channel, load.client)?;
    if zones.is_some() && channel.count > 1 {
        let message = "in zones each client has one channel; take this out, or `[zones]`";
        return Err(Problem::new("channel.count", message));
    }
    let service = check_service(wire.service, &wire.load)?;
    if servers.are_own() && service.as_ref().is_some_and(|service| service.identity.is_some()) {
        without_taps(&wire.backends)?;
    }
    let faults = check_faults(&wire.faults, &backends, &servers)?;
    if let (Some(_), Length::Calls(_)) = (faults.first(), load.length) {
        let message = "faults happen at a part of the duration; use `load.duration`";
        return Err(Problem::new("load.calls", message));
    }
    let placement = check_placement(&wire.placement)?;
    let nodes = check_nodes(wire.nodes)?;
    let settings = check_settings(&wire.settings, zones.is_some())?;
    let cores = |quota| within("placement.proxy_quota", quota, bounds::PROXY_QUOTA, "cores");
    let proxy_quota = wire.placement.proxy_quota.map(cores).transpose()?;
    let peers = check_peers(wire.run.peers, known_peers, &settings, &backends)?;
    let repeats = wire.run.repeats.unwrap_or(DEFAULT_REPEATS);
    let repeats = within("run.repeats", repeats, bounds::REPEATS, "trials of each peer")?;
    let (key, bounds) = ("run.max_disturbed", bounds::MAX_DISTURBED);
    let disturbed = |trials| within(key, trials, bounds, "trials that are measured again");
    let max_disturbed = wire.run.max_disturbed.map(disturbed).transpose()?;
    let seed = within("run.seed", wire.run.seed.unwrap_or(DEFAULT_SEED), bounds::SEED, "a seed")?;
    let claims = check_claims(&wire.expect.claims, known_peers)?;
    let precision = wire.precision.as_ref().map(check_precision).transpose()?;
    if let (Some(_), Some(_)) = (&precision, &load.search) {
        let message = "a search repeats near the edge by itself; take `[precision]` out";
        return Err(Problem::new("precision", message));
    }
    Ok(Scenario {
        name: name.to_owned(),
        question,
        learned,
        answer,
        network,
        links,
        tls,
        backends,
        servers,
        connection_age,
        stream_limits,
        channel,
        service,
        load,
        faults,
        placement,
        nodes,
        proxy_quota,
        policy,
        fleet,
        zones,
        settings,
        peers,
        repeats,
        max_disturbed,
        precision,
        seed,
        claims,
        sweep: None,
    })
}

/// How many calls a server of the user's own works on is for a tap to know.
fn without_taps(wire: &BackendsWire) -> Result<(), Problem> {
    let different = wire.overrides.iter().position(|one| one.concurrency.is_some());
    let key = match (wire.concurrency, different) {
        (Some(_), _) => "backends.concurrency".to_owned(),
        (None, Some(position)) => format!("backends.override[{position}].concurrency"),
        (None, None) => return Ok(()),
    };
    let message = "by this a tap before each server tells service from waiting, and \
                   `service.identity` stands in place of taps; take one of them out";
    Err(Problem::new(key, message))
}

fn check_text(key: &str, text: String) -> Result<String, Problem> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(Problem::new(key, "this text is empty; write it for the reader of the report"));
    }
    Ok(trimmed.to_owned())
}

fn check_answer(answer: Answer, known_peers: &[String]) -> Result<Answer, Problem> {
    for name in &answer.peers {
        check_name(name, known_peers).map_err(|message| Problem::new("answer.peers", message))?;
    }
    for (key, template) in answer.templates() {
        for name in template.peers() {
            check_name(name, known_peers)
                .map_err(|message| Problem::new(format!("answer.{key}"), message))?;
        }
    }
    Ok(answer)
}

fn check_peers(
    peers: Option<Vec<String>>,
    known: &[String],
    settings: &BTreeMap<String, ProxySettings>,
    backends: &[Backend],
) -> Result<Vec<String>, Problem> {
    let peers = peers.unwrap_or_else(|| DEFAULT_PEERS.map(str::to_owned).to_vec());
    if peers.is_empty() {
        let message = format!("the list is empty; name at least one of {}", list_of(known));
        return Err(Problem::new("run.peers", message));
    }
    for (index, peer) in peers.iter().enumerate() {
        let key = format!("run.peers[{index}]");
        let name = check_name(peer, known).map_err(|message| Problem::new(&key, message))?;
        if let Some(policy) = name.policy {
            check_policy(&key, policy, backends)?;
        }
        if let Some(set) = name.settings.filter(|set| !settings.contains_key(*set)) {
            let message =
                format!("there are no settings `{set}`; write a table `[settings.{set}]`");
            return Err(Problem::new(key, message));
        }
        if peers[..index].contains(peer) {
            let message =
                format!("`{peer}` is listed twice; `run.repeats` makes more trials of each");
            return Err(Problem::new(key, message));
        }
    }
    Ok(peers)
}

fn check_claims(claims: &[String], known_peers: &[String]) -> Result<Vec<Claim>, Problem> {
    let mut checked = Vec::with_capacity(claims.len());
    for (index, text) in claims.iter().enumerate() {
        let key = || format!("expect.claims[{index}]");
        let claim: Claim = text.parse().map_err(|error| Problem::new(key(), format!("{error}")))?;
        for peer in claim.peers() {
            // Peers of the library rather than of the run: a run over fewer
            // peers leaves the claims about the others unjudged.
            if peer == EXTERNAL_PEER {
                continue;
            }
            check_name(peer, known_peers).map_err(|message| Problem::new(key(), message))?;
        }
        checked.push(claim);
    }
    Ok(checked)
}
