//! Clients against backends of the lab: what they do at a stream limit, and when they learn
//! of other backends.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    num::NonZeroUsize,
};

use balance::PolicyKind;
use testkit::lab::EchoBackend;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    task::LocalSet,
    time::timeout,
};

use super::*;
use crate::clock::monotonic_ns;

/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Collects what came of calls.
#[derive(Default)]
struct Collected {
    ended: RefCell<Vec<Ended>>,
    news: Notify,
}

impl Sink for Collected {
    fn ended(&self, _call: Call, ended: Ended, _on_wire: Option<OnWire>) {
        self.ended.borrow_mut().push(ended);
        self.news.notify_one();
    }
}

impl Collected {
    /// The next `count` that end, by their backends; none for a call that failed.
    async fn next(&self, count: usize) -> Vec<Option<u16>> {
        let all = async {
            while self.ended.borrow().len() < count {
                self.news.notified().await;
            }
        };
        timeout(PATIENCE, all).await.expect("calls end");
        let backend = |ended| match ended {
            Ended::Served { backend, .. } => Some(backend),
            Ended::Failed(_) => None,
        };
        self.ended.borrow_mut().drain(..count).map(backend).collect()
    }
}

fn shape() -> Rc<Shape> {
    Rc::new(Shape::Echo(Arc::new(CallShape {
        kind: CallKind::Unary,
        messages: 1,
        payload: Vec::new(),
        requests: Lengths::Constant(0),
        responses: Lengths::Constant(0),
        deadline: None,
        backends: Backends::Known(vec!["b0".into(), "b1".into()]),
    })))
}

/// A backend whose connections carry two calls each, and which works on as many as come.
fn limited() -> EchoBackend {
    let mut config = echo_backend::Config::new("b0");
    config.queue.concurrency = NonZeroUsize::new(100).unwrap();
    config.queue.service_time = "constant:50ms".parse().unwrap();
    config.connections.max_streams = 2;
    EchoBackend::start_with(config)
}

/// Connections that a client has made for six calls at a time, and the most that the backend
/// worked on at a time.
async fn connections_for_six(max_connections: u32) -> f64 {
    let backend = limited();
    let sink = Rc::new(Collected::default());
    let options = ConnectOptions { max_connections, ..ConnectOptions::plain(ClientKind::Wire) };
    let destination = Destination::One(Resolver::one(backend.addr()));
    let own = Rc::clone(&sink) as Rc<dyn Sink>;
    let connection = connect(options, destination, shape(), own).await.unwrap();
    for slot in 0..6 {
        connection.start(Call { connection: 0, slot }, slot.into());
    }
    assert_eq!(sink.next(6).await, [Some(0); 6]);
    backend.server().metric("echo_connections_accepted_total")
}

#[tokio::test]
async fn calls_over_the_stream_limit_wait_or_have_more_connections_up_to_the_bound() {
    let work = async {
        assert_eq!(connections_for_six(1).await, 1.0);
        assert_eq!(connections_for_six(2).await, 2.0);
        // As many as it takes.
        assert_eq!(connections_for_six(10).await, 3.0);
    };
    LocalSet::new().run_until(work).await;
}

/// Calls once, by a client that asks after a silence, and says what came of it.
async fn called_with_keepalive(
    at: SocketAddr,
    kind: ClientKind,
    timeout: Duration,
) -> Vec<Option<u16>> {
    let keepalive = Some(Keepalive { time: Duration::from_millis(1), timeout });
    let options = ConnectOptions { keepalive, ..ConnectOptions::plain(kind) };
    let sink = Rc::new(Collected::default());
    let own = Rc::clone(&sink) as Rc<dyn Sink>;
    let to = Destination::One(Resolver::one(at));
    let connection = connect(options, to, shape(), own).await.unwrap();
    connection.start(Call { connection: 0, slot: 0 }, 0);
    sink.next(1).await
}

#[tokio::test]
async fn a_connection_whose_other_end_is_silent_is_given_up_and_a_slow_one_is_not() {
    let work = async {
        let backend = limited();
        for kind in [ClientKind::Wire, ClientKind::Tonic] {
            // It takes 50 ms, and answers every PING meanwhile.
            assert_eq!(called_with_keepalive(backend.addr(), kind, PATIENCE).await, [Some(0)]);
            // What speaks HTTP/2 at first and then nothing any more.
            let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let at = silent.local_addr().unwrap();
            let server = tokio::task::spawn_local(async move {
                let (mut socket, _) = silent.accept().await.unwrap();
                socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                let mut heard = Vec::new();
                // The client resets a connection that it has not read to its end.
                let _ = socket.read_to_end(&mut heard).await;
                heard
            });
            let timeout = Duration::from_millis(1);
            assert_eq!(called_with_keepalive(at, kind, timeout).await, [None]);
            let heard = server.await.unwrap();
            // A PING's length and type, on stream 0 and without a flag.
            let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0];
            assert!(heard.windows(9).any(|frame| frame == ping), "{heard:?}");
        }
    };
    LocalSet::new().run_until(work).await;
}

/// A client of two backends that knows the first from the start.
async fn balanced(
    discovery: Discovery,
    backends: &[EchoBackend; 2],
    sink: &Rc<Collected>,
) -> Box<dyn Connection> {
    balanced_by(PolicyKind::RoundRobin, vec![0], discovery, backends, sink).await
}

/// A client of two backends that knows these from the start.
async fn balanced_by(
    policy: PolicyKind,
    members: Vec<usize>,
    discovery: Discovery,
    backends: &[EchoBackend; 2],
    sink: &Rc<Collected>,
) -> Box<dyn Connection> {
    let backend = |index: usize| BackendAt {
        address: backends[index].addr(),
        id: format!("b{index}"),
        weight: 1,
        zone: 0,
    };
    let balanced = Balanced {
        policy,
        backends: [0, 1].map(backend).to_vec(),
        members,
        discovery,
        subset: None,
        zones: None,
        tuning: balance::Tuning::default(),
        seed: 1,
    };
    let backoff = Some(Backoff { first: Duration::from_millis(1), seed: 1 });
    let options = ConnectOptions { backoff, ..ConnectOptions::plain(ClientKind::Wire) };
    let sink = Rc::clone(sink) as Rc<dyn Sink>;
    connect(options, Destination::Balanced(balanced), shape(), sink).await.unwrap()
}

/// Makes calls, one after the other, until the second backend serves one or it is enough.
async fn finds_the_second(
    connection: &dyn Connection,
    sink: &Collected,
    enough: impl Fn(u64) -> bool,
) -> bool {
    let number = Cell::new(0);
    while !enough(number.get()) {
        connection.start(Call { connection: 0, slot: 0 }, number.get());
        number.set(number.get() + 1);
        if sink.next(1).await == [Some(1)] {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn who_is_told_uses_a_backend_that_joins_and_who_resolves_a_name_does_not() {
    let work = async {
        let dns = Discovery::Dns { interval: Duration::ZERO };
        for (discovery, finds) in [(Discovery::Lookaside, true), (dns, false)] {
            let backends = ["b0", "b1"].map(EchoBackend::start);
            let sink = Rc::new(Collected::default());
            let connection = balanced(discovery, &backends, &sink).await;
            connection.set_members(&[0, 1]);
            let began = monotonic_ns();
            let enough = |calls| {
                // One that is told needs the time to connect.
                calls >= 200 && (!finds || monotonic_ns() - began > PATIENCE.as_nanos() as u64)
            };
            assert_eq!(finds_the_second(&*connection, &sink, enough).await, finds, "{discovery:?}");
        }
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_connection_that_is_sent_away_has_the_name_resolved() {
    let mut aging = echo_backend::Config::new("b0");
    aging.connections.max_connection_age = Some(Duration::from_millis(50));
    let work = async {
        let backends = [EchoBackend::start_with(aging), EchoBackend::start("b1")];
        let sink = Rc::new(Collected::default());
        let dns = Discovery::Dns { interval: Duration::ZERO };
        let connection = balanced(dns, &backends, &sink).await;
        connection.set_members(&[0, 1]);
        let began = monotonic_ns();
        let enough = |_| monotonic_ns() - began > PATIENCE.as_nanos() as u64;
        assert!(finds_the_second(&*connection, &sink, enough).await);
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_client_that_keeps_to_the_first_goes_on_to_the_next_when_it_is_gone() {
    let work = async {
        let (gone, second) = (EchoBackend::start("b0"), EchoBackend::start("b1"));
        let addresses = vec![gone.addr(), second.addr()];
        let first = Resolver::first(addresses, vec![0, 1], Discovery::Lookaside, 0, monotonic_ns());
        let sink = Rc::new(Collected::default());
        let own = Rc::clone(&sink) as Rc<dyn Sink>;
        let options = ConnectOptions::plain(ClientKind::Wire);
        let connection = connect(options, Destination::One(first), shape(), own).await.unwrap();
        for slot in 0..4 {
            connection.start(Call { connection: 0, slot }, slot.into());
        }
        assert_eq!(sink.next(4).await, [Some(0); 4], "it has all calls");
        drop(gone);
        // A call may be on the connection when it breaks.
        let began = monotonic_ns();
        let enough = |_| monotonic_ns() - began > PATIENCE.as_nanos() as u64;
        assert!(finds_the_second(&*connection, &sink, enough).await);
    };
    LocalSet::new().run_until(work).await;
}

fn echo(payload: &[u8], response_bytes: u32) -> CallShape {
    CallShape {
        kind: CallKind::Unary,
        messages: 1,
        payload: payload.to_vec(),
        requests: Lengths::Constant(payload.len() as u32),
        responses: Lengths::Constant(response_bytes),
        deadline: None,
        backends: Backends::Known(vec!["b0".into(), "b1".into()]),
    }
}

#[test]
fn each_call_has_sizes_of_its_own() {
    let shape = CallShape {
        messages: 2,
        requests: Lengths::Each([3, 1].into()),
        responses: Lengths::Each([1, 4, 0].into()),
        ..echo(b"abc", 0)
    };
    let bytes: Vec<_> = (0..8).map(|sequence| shape.bytes(sequence)).collect();
    let of_calls = [(3, 1), (1, 4), (3, 0), (1, 1)];
    assert_eq!(bytes, of_calls.map(|bytes| [bytes; 2]).concat());
    assert!(shape.is_echo(3, b"aaaa") && !shape.is_echo(3, b"abca"));
    assert_eq!(shape.requests.largest(), 3);
}

#[test]
fn what_the_client_has_none_left_of_is_nobody_elses_fault() {
    let failure = |errno: Errno| {
        let error = io::Error::from(errno);
        assert_eq!(connect_failure(&error), connect_failure(&io::Error::other(error)));
        connect_failure(&io::Error::from(errno))
    };
    assert_eq!(failure(Errno::ADDRNOTAVAIL), FailureKind::NoPort);
    assert_eq!(failure(Errno::MFILE), FailureKind::NoDescriptor);
    assert_eq!(failure(Errno::CONNREFUSED), FailureKind::ConnectionLost);
    assert_eq!(connect_failure(&io::Error::other("TLS")), FailureKind::ConnectionLost);
    let refused = ConnectError::new("10.0.0.7:80", &io::Error::from(Errno::CONNREFUSED));
    assert!(!refused.is_own && refused.message.contains("10.0.0.7:80: Connection refused"));
}

#[test]
fn only_the_payload_that_was_asked_for_is_an_echo() {
    assert!(echo(b"abc", 3).is_echo(0, b"abc"));
    assert!(echo(b"abc", 7).is_echo(0, b"abcabca"));
    assert!(echo(b"abc", 2).is_echo(0, b"ab"));
    assert!(echo(b"", 2).is_echo(0, &[0, 0]));
    assert!(echo(b"abc", 0).is_echo(0, b""));
    assert!(!echo(b"abc", 3).is_echo(0, b"abd"));
    assert!(!echo(b"abc", 3).is_echo(0, b"ab"));
    assert!(!echo(b"abc", 7).is_echo(0, b"abcabcb"));
    assert!(!echo(b"", 2).is_echo(0, &[0, 1]));
}

/// By what they report the first could serve 1,000 calls a second, and the second 250.
#[tokio::test]
async fn a_client_hears_what_backends_report_of_their_load() {
    let work = async {
        let backends = [("b0", "constant:1ms"), ("b1", "constant:4ms")].map(|(id, time)| {
            let mut config = echo_backend::Config::new(id);
            config.queue.service_time = time.parse().unwrap();
            config.reports_load = true;
            EchoBackend::start_with(config)
        });
        let sink = Rc::new(Collected::default());
        let policy = PolicyKind::WeightedRoundRobin;
        let client = balanced_by(policy, vec![0, 1], Discovery::Lookaside, &backends, &sink).await;
        let fewer = async {
            for round in 0_u64.. {
                let mut calls_of_slow = 0;
                for number in 0..100 {
                    client.start(Call { connection: 0, slot: 0 }, round * 100 + number);
                    calls_of_slow += u32::from(sink.next(1).await == [Some(1)]);
                }
                if calls_of_slow < 26 {
                    return;
                }
            }
        };
        timeout(PATIENCE, fewer).await.expect("fewer calls of the slow backend");
    };
    LocalSet::new().run_until(work).await;
}
