//! A real client's part of a trial: what its program is told.

use std::{net::SocketAddr, sync::Arc};

use balance::PolicyKind;
use generator::{client::DriverPlan, names::NameServer, worker::Clients};
use scenario::Layer;
use serde_json::{Value, json};

use super::Attempt;
use crate::{
    lab::{Lab, LabError},
    peers::ReadyClient,
};

/// The name that stands for the backends.
const NAME: &str = "backends.layerlab.test";

/// The server of the backends' name, where clients resolve one.
pub(super) fn names(attempt: &Attempt<'_>, lab: &Lab) -> Result<Option<Arc<NameServer>>, LabError> {
    if attempt.client.is_none() || attempt.trial.peer.peer.layer != Layer::Client {
        return Ok(None);
    }
    let server = NameServer::start(lab.backend_addresses(), &lab.members());
    server.map(|server| Some(Arc::new(server))).map_err(LabError::Names)
}

/// The clients of generator thread number `worker`, which have these numbers in all.
pub(super) fn clients(
    attempt: &Attempt<'_>,
    client: &ReadyClient,
    lab: &Lab,
    names: Option<Arc<NameServer>>,
    worker: u32,
    numbers: impl Iterator<Item = u32>,
) -> Clients {
    let scenario = attempt.trial.scenario;
    let described: Vec<Value> =
        numbers.map(|number| described(attempt, lab, names.as_deref(), number)).collect();
    let count = described.len();
    let channel = &scenario.channel;
    let plan = DriverPlan {
        name: client.name.clone(),
        command: client.command.clone(),
        log: attempt.trial.dir.join(format!("{}-{worker}.log", client.name)),
        hello: json!({
            "clients": described,
            "settings": {
                "channels": channel.count,
                "max_connections": channel.max_connections,
                "resolve_interval_ms": channel.resolve_interval.as_millis() as u64,
                "initial_backoff_ms": channel.initial_backoff.as_millis() as u64,
                "keepalive_time_ms": channel.keepalive.map(|one| one.time.as_millis() as u64),
                "keepalive_timeout_ms": channel.keepalive.map(|one| one.timeout.as_millis() as u64),
            },
        }),
        names,
    };
    Clients::Driven(plan, count)
}

/// What a client is told of where its calls go: a target in gRPC's notation
/// (`doc/naming.md`), and a policy.
fn described(attempt: &Attempt<'_>, lab: &Lab, names: Option<&NameServer>, number: u32) -> Value {
    let (scenario, peer) = (attempt.trial.scenario, attempt.trial.peer);
    let one = |address: SocketAddr| (format!("ipv4:{address}"), PolicyKind::PickFirst);
    let backends = lab.backend_addresses();
    let members = lab.members();
    let (target, policy) = match (attempt.balancer_address(lab, number), names) {
        (Some(proxy), _) => one(proxy),
        (None, Some(names)) => {
            let (server, port) = (names.listens_at(), backends[0].port());
            (format!("dns://{server}/{NAME}:{port}"), peer.policy(scenario))
        }
        (None, None) => one(backends[members[number as usize % members.len()]]),
    };
    json!({ "target": target, "policy": policy.name() })
}
