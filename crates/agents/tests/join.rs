//! A coordinator and agents that talk over TLS on this machine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::SocketAddr,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use agents::{
    PROTOCOL,
    agent::{Ended, JoinError, Link},
    coordinator::{Coordinator, Node, Obstacle, WaitError},
    token::Token,
    wire::{Done, End, Hello, Prepare, Ship, reply, step},
};
use measure::calllog::{CallLog, Entry, Outcome};

const PATIENCE: Duration = Duration::from_secs(30);

fn now() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_nanos() as u64
}

fn listen(nodes: usize) -> Coordinator {
    Coordinator::listen(SocketAddr::from(([127, 0, 0, 1], 0)), nodes, "build", now).unwrap()
}

fn hello(rank: u32) -> Hello {
    Hello {
        protocol: PROTOCOL,
        build: "build".into(),
        host: format!("h{rank}"),
        rank: Some(rank),
        ..Hello::default()
    }
}

fn join(coordinator: &Coordinator, hello: Hello) -> Result<Link, JoinError> {
    let token = coordinator.token().to_string().parse().unwrap();
    Link::join(&coordinator.address().to_string(), &token, hello, PATIENCE, now)
}

fn nothing() -> Option<Obstacle> {
    None
}

fn reply_of(node: &Node) -> reply::What {
    loop {
        if let Some(reply) = node.reply().unwrap() {
            return reply;
        }
    }
}

#[test]
fn agents_are_led_in_the_order_of_their_ranks() {
    let coordinator = listen(2);
    // They join one after the other, the second first.
    let links = [1, 0].map(|rank| join(&coordinator, hello(rank)).unwrap());
    let nodes = coordinator.wait(2, PATIENCE, nothing).unwrap();
    let hosts: Vec<&str> = nodes.iter().map(|node| &*node.hello().host).collect();
    assert_eq!(hosts, ["h0", "h1"]);
    nodes[1].ask(step::What::End(End {}));
    let asked = links[0].next(|| false).unwrap().unwrap();
    assert_eq!(asked, step::What::End(End {}));
    links[0].reply(reply::What::Done(Done {}));
    assert_eq!(reply_of(&nodes[1]), reply::What::Done(Done {}));
    // All have joined: nobody else can.
    let token = coordinator.token().to_string().parse().unwrap();
    let address = coordinator.address().to_string();
    Link::join(&address, &token, hello(2), Duration::ZERO, now).unwrap_err();
    drop(nodes);
    assert_eq!(links[0].next(|| false), Err(Ended { is_lost: false }));
}

#[test]
fn who_does_not_have_the_token_is_turned_away() {
    let coordinator = listen(1);
    let other = listen(1);
    let address = coordinator.address().to_string();
    // The certificate of another run is not trusted.
    let token = other.token().to_string().parse().unwrap();
    let refused = Link::join(&address, &token, hello(0), Duration::ZERO, now);
    assert!(matches!(refused, Err(JoinError::Unreachable { .. })), "{refused:?}");
    // Nor is the coordinator's certificate enough.
    let certificate = coordinator.token().to_string();
    let secret = other.token().to_string();
    let (certificate, secret) =
        (certificate.split_once('.').unwrap().0, secret.split_once('.').unwrap().1);
    let token: Token = format!("{certificate}.{secret}").parse().unwrap();
    let refused = Link::join(&address, &token, hello(0), Duration::ZERO, now).unwrap_err();
    assert!(refused.to_string().contains("token of this run"), "{refused}");
    // The right one still is.
    join(&coordinator, hello(0)).unwrap();
}

#[test]
fn another_build_is_refused_and_both_sides_hear_why() {
    let coordinator = listen(1);
    let other = Hello { build: "other".into(), ..hello(0) };
    let refused = join(&coordinator, other).unwrap_err().to_string();
    assert!(refused.contains("layerlab on h0 is another build"), "{refused}");
    let error = coordinator.wait(1, PATIENCE, nothing).unwrap_err();
    assert!(matches!(error, WaitError::Refused(_)), "{error}");
}

#[test]
fn an_agent_that_never_joins_is_not_waited_for_for_ever() {
    let coordinator = listen(2);
    let _link = join(&coordinator, hello(0)).unwrap();
    let error = coordinator.wait(2, Duration::ZERO, nothing).unwrap_err().to_string();
    assert!(error.contains("of 2 agents joined within 0 s"), "{error}");
    let ended = || Some(Obstacle::EngineEnded("srun exited with code 1".into()));
    let error = coordinator.wait(2, PATIENCE, ended).unwrap_err().to_string();
    assert!(error.contains("what starts them ended: srun exited with code 1"), "{error}");
}

#[test]
fn a_lost_side_is_found_out_by_the_other() {
    let coordinator = listen(1);
    let link = join(&coordinator, hello(0)).unwrap();
    let nodes = coordinator.wait(1, PATIENCE, nothing).unwrap();
    drop(link);
    let begin = Instant::now();
    while nodes[0].check().is_ok() {
        assert!(begin.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert_eq!(nodes[0].reply().unwrap_err().node, "n0 (h0)");
}

#[test]
fn clocks_are_compared_and_logs_shipped() {
    let coordinator = listen(1);
    let link = join(&coordinator, hello(0)).unwrap();
    let nodes = coordinator.wait(1, PATIENCE, nothing).unwrap();
    let node = &nodes[0];
    let offset = node.offset(now).unwrap().unwrap();
    assert!(offset.offset_ns.unsigned_abs() <= offset.uncertainty_ns, "{offset:?}");
    // More than a piece, and of two workers.
    let log = |calls: u64| {
        let mut log = CallLog::default();
        for due_ns in 0..calls {
            let outcome = Outcome::served(1, 2, due_ns);
            let (ready_ns, sent_ns, done_ns) = (due_ns + 1, due_ns + 2, due_ns + 9);
            log.push(Entry { due_ns, ready_ns, sent_ns, done_ns, on_wire: None, outcome });
        }
        log
    };
    let logs = [log(40_000), log(3)];
    node.expect(&[40_000, 3]);
    node.ask(step::What::Ship(Ship { every: 1 }));
    assert!(matches!(link.next(|| false), Ok(Some(step::What::Ship(_)))));
    link.signals().progress(40_003, 0, true);
    for (worker, log) in (0..).zip(&logs) {
        link.ship(worker, log);
    }
    link.reply(reply::What::Done(Done {}));
    reply_of(node);
    let shipped = node.take_logs().unwrap();
    for (shipped, log) in shipped.iter().zip(&logs) {
        assert_eq!(shipped.entries(), log.entries());
    }
    let begin = Instant::now();
    while !node.progress().is_finished {
        assert!(begin.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert_eq!(node.progress().ended, 40_003);
}

#[test]
fn a_step_may_be_long_and_a_message_may_not() {
    let coordinator = listen(1);
    let link = join(&coordinator, hello(0)).unwrap();
    let nodes = coordinator.wait(1, PATIENCE, nothing).unwrap();
    let prepare = |bytes: usize| {
        step::What::Prepare(Prepare { text: "x".repeat(bytes), ..Prepare::default() })
    };
    nodes[0].ask(prepare(1 << 20));
    assert!(matches!(link.next(|| false), Ok(Some(step::What::Prepare(_)))));
    nodes[0].ask(prepare(agents::MESSAGE_BYTES + 1));
    let begin = Instant::now();
    while nodes[0].check().is_ok() {
        assert!(begin.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert_eq!(link.next(|| false), Err(Ended { is_lost: true }));
}
