//! Whole trials against servers that keep count themselves.

use std::{collections::BTreeMap, fs, net::SocketAddr, sync::Arc, time::Duration};

use balance::PolicyKind;
use grpc_call::{Body, CallSpec, Calls, Interface, Sources};
use l7_proxy::{BackendConfig, DataPlane};
use measure::calllog::Outcome;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use testkit::lab::{EchoBackend, Server, l7_config, start_l7};

use super::{
    client::{
        Backends, ClientKind, ConnectOptions, Destination, Identity, Resolver, ServiceShape, Shape,
    },
    clock::{Clock, Pacer, monotonic_ns},
    load::{Closed, Load, Numbers},
    schedule::Limit,
    worker::{Clients, Origin, Plan},
    *,
};

const CALLS: u64 = 100_000;
const METHODS: [&str; 4] = ["Unary", "ServerStream", "ClientStream", "Bidi"];

/// Calls of all kinds, those of unary methods more often.
fn mix() -> Calls {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("echo.bin");
    fs::write(&file, echo_proto::FILE_DESCRIPTOR_SET).unwrap();
    let interface = Interface::from_descriptor_set(&file).unwrap();
    let specs = METHODS.map(|method| CallSpec {
        method: format!("Echo/{method}"),
        weight: if method == "Unary" { 5 } else { 1 },
        body: Body::Json(r#"{"payload": "YWJj"}"#.to_owned()),
        metadata: Vec::new(),
        deadline: None,
        messages: None,
        pause: Duration::ZERO,
        responses: None,
        status: 0,
        fields: Vec::new(),
    });
    let mut chance = SplitMix64::seed_from_u64(7);
    let pick = || chance.next_u64();
    let sources = Sources { variable: Box::new(|_| None), random: Box::new(|| 0) };
    Calls::make(&interface, &specs, None, sources, pick, &[], 1 << 12).unwrap()
}

fn tap(name: &str, server: SocketAddr) -> Server {
    let mut config = l7_config(DataPlane::Relay, &[]);
    config.backends = vec![BackendConfig { name: name.to_owned(), ..BackendConfig::new(server) }];
    config.calls.name_backends = true;
    start_l7(config)
}

#[test]
fn what_taps_tell_is_what_servers_count_call_for_call() {
    let names = ["b0", "b1", "b2"];
    let servers = names.map(|_| EchoBackend::start("any"));
    let taps = [0, 1, 2].map(|index| tap(names[index], servers[index].addr()));
    let mut config = l7_config(DataPlane::Relay, &taps.each_ref().map(Server::addr));
    config.policy = PolicyKind::Random;
    let proxy = start_l7(config);
    let calls = Arc::new(mix());
    let backends = Backends::Known(names.map(str::to_owned).to_vec());
    let shape = ServiceShape::new(Arc::clone(&calls), None, Some(Identity::Tap), backends);
    let load =
        Closed::new(4, 16, 0, 0, Limit::Calls { calls: CALLS }, Numbers { next: 0, step: 1 }, 1);
    let plan = Plan {
        clients: Clients::Own(
            ConnectOptions::plain(ClientKind::Wire),
            (0..4).map(|_| Destination::One(Resolver::one(proxy.addr()))).collect(),
        ),
        shape: Shape::Service(shape),
        messages: 1,
        origins: vec![Origin::default(); 4],
        devices: Vec::new(),
        streams: 16,
        load: Load::Closed(load),
        give_up_ns: u64::MAX / 2,
        expected_calls: CALLS as usize,
        place: Arc::new(|| Ok(())),
        pacer: Pacer::Timer,
    };
    let mut generator = Generator::connect(vec![plan]).unwrap();
    generator.start(Clock::starting_at(monotonic_ns()));
    let logs = generator.join().unwrap();
    let mut by_backend = [0_u64; 3];
    let (mut in_servers_ns, mut under_way_ns) = (0, 0);
    for entry in logs[0].entries() {
        let Outcome::Served { backend, service, .. } = entry.outcome else {
            panic!("{:?}", entry.outcome)
        };
        assert!(service.get() > 0);
        in_servers_ns += service.get();
        under_way_ns += entry.done_ns - entry.sent_ns;
        by_backend[usize::from(backend)] += 1;
    }
    assert!(in_servers_ns < under_way_ns, "{in_servers_ns} ns of {under_way_ns}");
    let by_method = |server: &EchoBackend| {
        let counters = server.counters();
        let methods =
            [&counters.unary, &counters.server_stream, &counters.client_stream, &counters.bidi];
        methods.map(|method| {
            assert_eq!(method.started.get(), method.succeeded.get());
            method.started.get()
        })
    };
    let sum = |methods: [u64; 4]| methods.iter().sum::<u64>();
    let counted = servers.each_ref().map(by_method);
    assert_eq!(by_backend, counted.map(sum));
    assert!(by_backend.iter().all(|calls| *calls > CALLS / 4), "{by_backend:?}");
    // The mix as it was made, too.
    let mut made: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..CALLS {
        *made.entry(&calls.rules(calls.get(number)).method).or_default() += 1;
    }
    for (index, method) in METHODS.iter().enumerate() {
        let sum: u64 = counted.iter().map(|methods| methods[index]).sum();
        let name = format!("layerlab.echo.v1.Echo/{method}");
        assert_eq!(made.get(&*name), Some(&sum), "{made:?}");
    }
}
