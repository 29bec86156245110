//! How it was measured, and on what.

use std::collections::BTreeSet;

use analysis::model::Model;
use measure::{
    format,
    record::{
        BackendSetup, BusySource, FaultRecord, FleetSetup, LoopMode, Network, ServiceSetup, Tls,
        TrialRecord,
    },
};

use super::{as_run, links, section};
use crate::html::Html;

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    section(html, "method", "How it was measured", |html| {
        if let Some(sweep) = &model.sweep {
            facts(html, &[fact("Points", points(sweep))]);
        }
        facts(html, &load(model));
        if !model.run.backends.is_empty() {
            facts(html, &[fact("Backends", backends(model))]);
        }
        let tls = tls(model.run.load.tls).map(|text| fact("TLS", text));
        let is_real = model.run.cluster.as_ref().is_some_and(|nodes| nodes.machines() > 1);
        let network = match model.is_of_targets() {
            true => fact("Network", "the network between this machine and the target".to_owned()),
            false => fact("Network", network(model.run.network, is_real)),
        };
        let links = links::setup(model).map(|text| fact("Links", text));
        let measured = links::measured(model).map(|text| fact("Links as measured", text));
        let network = std::iter::once(network).chain(links).chain(measured);
        facts(html, &network.chain(tls).collect::<Vec<_>>());
        facts(html, &procedure(model));
        html.leaf("h3", &[], "Environment");
        facts(html, &environment(model));
        html.leaf("h3", &[], "Peers as run");
        model.peers.iter().for_each(|peer| as_run::write(html, peer));
        html.tag("details", &[], |html| {
            html.leaf("summary", &[], "The scenario with all defaults");
            let text = serde_json::to_string_pretty(&model.run.resolved).unwrap_or_default();
            html.tag("pre", &[("tabindex", "0")], |html| html.leaf("code", &[], &text));
        });
    });
}

type Fact = (String, String);

fn facts(html: &mut Html, facts: &[Fact]) {
    html.tag("dl", &[], |html| {
        for (name, value) in facts {
            html.tag("div", &[], |html| {
                html.leaf("dt", &[], name);
                html.leaf("dd", &[], value);
            });
        }
    });
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    (name.to_owned(), value.into())
}

fn load(model: &Model<'_>) -> Vec<Fact> {
    let load = &model.run.load;
    let loop_mode = match load.mode {
        LoopMode::Open => format!(
            "open: {} arrivals at {}, scheduled in advance. Latency counts from the scheduled time, \
             including any wait before a call could be sent.",
            load.arrivals.as_deref().unwrap_or("scheduled"),
            load.rate.map_or_else(|| "a rate that is not recorded".to_owned(), format::rate),
        ),
        LoopMode::Closed => format!(
            "closed: each stream slot sends its next call {}. Latency counts from the sending, and \
             a slow peer gets fewer calls, so don't compare it with that of an open loop.",
            if load.think_time_ns == 0 {
                "when the last one has ended".to_owned()
            } else {
                format!("{} after the last one", format::duration(load.think_time_ns as f64))
            },
        ),
    };
    let most = format!(
        "{} {}, at most {} calls in flight on each",
        format::count(u64::from(load.connections)),
        if load.connections == 1 { "connection" } else { "connections" },
        format::count(u64::from(load.streams)),
    );
    let messages =
        if load.messages > 1 { format!(", {} messages", load.messages) } else { String::new() };
    let call = match &load.service {
        Some(service) => self::service(service),
        None => format!(
            "{}{messages}, request {}, response {}",
            load.call,
            sizes(load.request_bytes, load.request_sizes.as_deref()),
            sizes(load.response_bytes, load.response_sizes.as_deref()),
        ),
    };
    let facts = [fact("Loop", loop_mode), fact("Load", most), fact("Call", call)];
    let policy = (!model.is_of_targets()).then(|| fact("Policy", load.policy.as_str()));
    let fleet = (!load.fleet.is_one()).then(|| fact("Balancers", self::fleet(&load.fleet)));
    let client = fact("Client", load.client.as_str());
    facts.into_iter().chain(policy).chain(fleet).chain([client]).collect()
}

/// How many balancers there are, and who comes to which.
fn fleet(fleet: &FleetSetup) -> String {
    let threads = match fleet.threads {
        1 => String::new(),
        threads => format!(", with {threads} threads each"),
    };
    let dealt = match (fleet.balancers, fleet.spread.as_str()) {
        (1, _) => "",
        (_, "hash") => "; connections are assigned to them by a hash",
        _ => "; connections are assigned to them round robin",
    };
    let subset = fleet.subset.as_ref().map(|subset| {
        format!("; each knows {} backends, chosen as `{}`", subset.size, subset.subsetting)
    });
    format!("{}{threads}{dealt}{}", fleet.balancers, subset.unwrap_or_default())
}

/// What messages have, or how that is drawn.
fn sizes(mean_bytes: u32, drawn: Option<&str>) -> String {
    let mean = format::bytes(u64::from(mean_bytes));
    drawn.map_or(mean.clone(), |drawn| format!("{drawn} (mean {mean})"))
}

/// The calls of a user's service, and how their backends are known.
fn service(service: &ServiceSetup) -> String {
    let all: u64 = service.methods.iter().map(|one| u64::from(one.weight)).sum();
    let methods = service.methods.iter().map(|one| match service.methods.len() {
        1 => one.method.clone(),
        _ => format!("{:.0} % {}", 100.0 * f64::from(one.weight) / all as f64, one.method),
    });
    let methods: Vec<String> = methods.collect();
    let backend = match &service.identity {
        Some(identity) => format!("its backend is identified by the {identity}"),
        None => "which backend served a call is unknown".to_owned(),
    };
    format!("{}; {backend}", methods.join(", "))
}

/// Which setting differs, and its values.
fn points(sweep: &analysis::model::sweep::Sweep<'_>) -> String {
    let values: Vec<String> = sweep.points.iter().map(analysis::model::sweep::label).collect();
    let how = if sweep.search.is_some() { "searched: " } else { "" };
    format!("{how}{} is {}; what follows describes the first", sweep.key, values.join(", "))
}

/// `is_real` says whether the parts were on several machines.
fn network(network: Network, is_real: bool) -> &'static str {
    match network {
        Network::Loopback if is_real => "the network between the machines of the nodes.",
        Network::Loopback => {
            "all processes share the loopback interface, on which a hop costs next to nothing."
        }
        Network::Namespaces => {
            "client, balancer and each backend have network namespaces of their own, joined by \
             veth links through the balancer's, like the pods of a node. Without a balancer, \
             packets are routed through the same namespace. The kernel does that work on behalf of \
             whichever process is running, so compare the CPU time of the whole lab, or of the \
             whole machine if it was quiet."
        }
    }
}

/// Which side is encrypted, where one is.
fn tls(tls: Tls) -> Option<&'static str> {
    match tls {
        Tls::None => None,
        Tls::Client => Some(
            "TLS between clients and balancer, which terminates it; plain text between balancer and \
             backends.",
        ),
        Tls::Backend => Some(
            "TLS between balancer and backends, originated by the balancer; plain text between \
             clients and balancer.",
        ),
        Tls::Both => Some(
            "TLS on both sides. An L7 balancer terminates and re-encrypts it; an L4 balancer passes \
             it through, and without a balancer it is between client and backend.",
        ),
    }
}

/// A server of the user's own, of which no more is known than the scenario says.
fn own_server(model: &Model<'_>, backend: &BackendSetup) -> String {
    let servers = |kind: &str| model.run.resolved.pointer("/servers")?.get(kind);
    let whose = match (servers("started"), servers("running")) {
        _ if model.is_of_targets() => {
            return "known by the ids in their responses; not started by the lab".to_owned();
        }
        (Some(_), _) => "started by the scenario's command",
        (None, Some(_)) => "already running",
        (None, None) => "not the lab's own",
    };
    match backend.concurrency {
        0 => whose.to_owned(),
        servers => format!("{whose}; {servers} calls at once, according to the scenario"),
    }
}

/// Backends that are alike are described once.
fn backends(model: &Model<'_>) -> String {
    let describe = |backend: &BackendSetup| {
        if backend.service_time == "unknown" {
            return own_server(model, backend);
        }
        let mean_ns = backend.service_mean_ns / backend.speed.max(1e-9);
        let mean = (mean_ns > 0.0).then(|| format!(" (mean {})", format::duration(mean_ns)));
        let is_scaled = (backend.speed - 1.0).abs() > 1e-9;
        let speed = is_scaled.then(|| format!(", speed {}", backend.speed));
        format!(
            "{} calls at once, service time {}{}{}, weight {}",
            backend.concurrency,
            backend.service_time,
            mean.unwrap_or_default(),
            speed.unwrap_or_default(),
            backend.weight
        )
    };
    let mut kinds: Vec<(String, Vec<&str>)> = Vec::new();
    for backend in &model.run.backends {
        let text = describe(backend);
        match kinds.iter_mut().find(|(kind, _)| *kind == text) {
            Some((_, ids)) => ids.push(&backend.id),
            None => kinds.push((text, vec![&backend.id])),
        }
    }
    let kinds: Vec<String> =
        kinds.iter().map(|(kind, ids)| format!("{}: {kind}", ids.join(", "))).collect();
    kinds.join("; ")
}

fn procedure(model: &Model<'_>) -> Vec<Fact> {
    let run = &model.run;
    let trials = model.trials();
    let spans = |value: fn(&TrialRecord) -> f64| {
        let values = || trials.iter().map(|(_, trial)| value(trial.record));
        let low = format::seconds(values().fold(f64::INFINITY, f64::min));
        format::range(low, format::seconds(values().fold(f64::NEG_INFINITY, f64::max)))
    };
    let order: Vec<String> = trials
        .iter()
        .map(|(peer, trial)| match &trial.record.point {
            Some(point) => format!("{} at {point}", peer.name),
            None => peer.name.clone(),
        })
        .collect();
    let order = match order.is_empty() {
        true => "no trial was recorded".to_owned(),
        false => format!(
            "{} (interleaved, so that drift of the machine affects all peers alike)",
            order.join(" · ")
        ),
    };
    let always = [
        fact("Warm-up", spans(|t| t.warm_up_s) + " before each trial, not included in any figure"),
        fact("Measured", spans(|t| t.measured_s) + " per trial"),
        fact("Order", order),
        fact("Seed", run.seed.to_string()),
    ];
    let sources: BTreeSet<&str> =
        trials.iter().map(|(_, trial)| busy_source(trial.record.machine.busy_source)).collect();
    let sources = sources.into_iter().collect::<Vec<_>>().join("; ");
    let overrides = format!("overrides the scenario: {}", run.overrides.join(" "));
    let optional = [
        (!sources.is_empty()).then(|| fact("CPU of the whole machine", sources)),
        faults(model).map(|text| fact("Faults", text)),
        (!run.overrides.is_empty()).then(|| fact("Command line", overrides)),
        run.elapsed_s.map(|elapsed| fact("Whole run", format::seconds(elapsed))),
    ];
    always.into_iter().chain(optional.into_iter().flatten()).collect()
}

fn busy_source(source: BusySource) -> &'static str {
    match source {
        BusySource::Schedstat => "in nanoseconds, from /proc/schedstat",
        BusySource::Cpuacct => "in nanoseconds, from the root control group's cpuacct.usage",
        BusySource::Ticks => "in ticks, from /proc/stat: up to 40 % too low for small calls",
    }
}

/// What was done to backends, over all trials.
fn faults(model: &Model<'_>) -> Option<String> {
    let trials = model.trials();
    let all = || trials.iter().flat_map(|(_, trial)| &trial.record.faults);
    // Each planned fault once, with when it was done and whether it was seen.
    let mut planned: Vec<(&FaultRecord, Vec<&FaultRecord>)> = Vec::new();
    for fault in all() {
        let same = |other: &FaultRecord| {
            (&other.action, &other.backend) == (&fault.action, &fault.backend)
                && (other.planned_s - fault.planned_s).abs() < 1e-6
        };
        match planned.iter_mut().find(|(first, _)| same(first)) {
            Some((_, done)) => done.push(fault),
            None => planned.push((fault, vec![fault])),
        }
    }
    let said: Vec<String> = planned
        .iter()
        .map(|(fault, done)| {
            let late = |fault: &&FaultRecord| (fault.done_s - fault.planned_s) * 1e9;
            let latest = done.iter().map(late).fold(0.0, f64::max);
            let seen = done.iter().filter(|fault| fault.seen).count();
            format!(
                "{} {} at {:.2} s of the window (at most {} later; effect seen in {} of {} trials)",
                fault.action,
                fault.backend,
                fault.planned_s,
                format::duration(latest),
                seen,
                done.len()
            )
        })
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn environment(model: &Model<'_>) -> Vec<Fact> {
    let environment = &model.run.environment;
    let machine = format!(
        "{}, {} logical CPUs, {}",
        environment.cpu_model,
        environment.cpus,
        format::bytes(environment.memory_bytes)
    );
    let load = format!("{:.2} (one-minute average)", environment.load_average_1m);
    let build = format!(
        "{} at {}, {} build, {}",
        environment.layerlab_version,
        environment.git_revision.as_deref().unwrap_or("an unknown revision"),
        environment.build_profile,
        environment.rustc
    );
    // Of a target the lab starts nothing but the load.
    let is_placed = |part: &str| !model.is_of_targets() || part == "generator";
    let placement = environment.placement.iter().filter(|(part, _)| is_placed(part));
    let placement: Vec<String> = placement
        .map(|(part, cpus)| {
            let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
            format!("{part} on {}", cpus.join(", "))
        })
        .collect();
    let placement = if placement.is_empty() { "none".to_owned() } else { placement.join("; ") };
    let always = [
        fact("Machine", machine),
        fact("Kernel", environment.kernel.as_str()),
        fact("Frequency", environment.governor.as_deref().unwrap_or("no governor")),
        fact("Load before the run", load),
        fact("layerlab", build),
        fact("Open files", format!("at most {}", format::count(environment.open_files_limit))),
        fact("CPU pinning", placement),
    ];
    let uncounted = environment.no_instructions.as_ref();
    let uncounted = uncounted.map(|reason| fact("Instructions", format!("not counted: {reason}")));
    let limited = |cores: f64| {
        format!("limited to {cores} of a core by a control group, so that it is the bottleneck")
    };
    let quota = model.run.proxy_quota.map(|cores| fact("Each proxy", limited(cores)));
    always.into_iter().chain(uncounted).chain(quota).collect()
}
