//! Backends that are not well are left out, and come back when they are.
//!
//! No wait here is a measure: conditions are awaited, and what must not happen
//! is counted over calls.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use balance::PolicyKind;
use l7_proxy::{Config, DataPlane};
use serve::{
    admin::{BackendState, Backends},
    health::{HealthCheck, HealthConfig},
};
use testkit::{
    await_that,
    lab::{Server, l7_config, start_l7_fleet},
    negative::{Case, NegativeServer, ok_response, ok_trailers, response_head},
    on_each_data_plane,
    peer::{Fields, Peer, RawServer, Seen, field},
    wire::{self, block},
    within,
};

use crate::common::call;

/// How a backend is today.
#[derive(Debug, Default)]
struct Mood {
    /// It leaves health checks without an answer.
    is_mute: AtomicBool,
    /// It answers health checks with NOT_SERVING.
    is_unwell: AtomicBool,
    /// It answers calls with UNAVAILABLE.
    fails: AtomicBool,
    calls: AtomicU32,
}

impl Mood {
    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn set(switch: &AtomicBool, on: bool) {
        switch.store(on, Ordering::Relaxed);
    }

    /// What it answers to a request, if it does.
    fn answer(&self, stream: u32, fields: &Fields) -> Option<Vec<u8>> {
        if field(fields, ":path") == Some("/grpc.health.v1.Health/Check") {
            let status = if self.is_unwell.load(Ordering::Relaxed) { 2 } else { 1 };
            let message = wire::data(stream, &wire::message(&[8, status]), false);
            let answer = [response_head(stream), message, ok_trailers(stream)].concat();
            return (!self.is_mute.load(Ordering::Relaxed)).then_some(answer);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.fails.load(Ordering::Relaxed) {
            return Some(ok_response(stream));
        }
        let status =
            [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14")];
        Some(wire::headers(stream, &block(&status), true))
    }
}

/// A backend whose mood a test sets.
struct Moody {
    addr: SocketAddr,
    mood: Arc<Mood>,
    task: tokio::task::JoinHandle<()>,
}

impl Moody {
    async fn start() -> Self {
        let (server, mood) = (RawServer::start().await, Arc::new(Mood::default()));
        let (addr, shared) = (server.addr(), Arc::clone(&mood));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let peer = server.accept(&[]).await;
                connections.spawn(Self::serve(peer, Arc::clone(&shared)));
            }
        });
        Self { addr, mood, task }
    }

    async fn serve(mut peer: Peer, mood: Arc<Mood>) {
        let mut requests = std::collections::HashMap::new();
        loop {
            let ended = match peer.next().await {
                Seen::Closed => return,
                Seen::Headers { stream, fields, .. } => {
                    requests.insert(stream, fields);
                    continue;
                }
                Seen::Data { stream, ends: true, .. } => stream,
                _ => continue,
            };
            let fields = requests.remove(&ended).unwrap();
            if let Some(answer) = mood.answer(ended, &fields)
                && peer.send(&answer).await.is_err()
            {
                return;
            }
        }
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Moody backends behind a proxy, and a client.
struct Ward {
    backends: Vec<Moody>,
    l7: Server,
    fleet: Arc<dyn Backends>,
    client: Peer,
    next_stream: u32,
}

impl Ward {
    async fn start(plane: DataPlane, count: usize, change: impl FnOnce(&mut Config)) -> Self {
        let mut backends = Vec::new();
        for _ in 0..count {
            backends.push(Moody::start().await);
        }
        let addrs: Vec<_> = backends.iter().map(|backend| backend.addr).collect();
        let mut config = l7_config(plane, &addrs);
        change(&mut config);
        let (l7, fleet) = start_l7_fleet(config);
        let client = Peer::client(l7.addr(), &[]).await;
        Self { backends, l7, fleet, client, next_stream: 1 }
    }

    fn mood(&self, index: usize) -> &Mood {
        &self.backends[index].mood
    }

    /// Makes a call, and gives its status.
    async fn call(&mut self) -> String {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.client.send(&call(stream, &[])).await.unwrap();
        self.client.message(stream).await.grpc_status().unwrap().to_owned()
    }

    /// Makes calls that must go well, and gives how many each backend had.
    async fn shares(&mut self, calls: u32) -> Vec<u32> {
        let before: Vec<_> = self.backends.iter().map(|backend| backend.mood.calls()).collect();
        for _ in 0..calls {
            assert_eq!(self.call().await, "0");
        }
        let after = self.backends.iter().map(|backend| backend.mood.calls());
        after.zip(before).map(|(after, before)| after - before).collect()
    }

    async fn await_state(&self, index: usize, state: BackendState) {
        await_that("a backend's state", || self.fleet.list()[index].state == state).await;
    }
}

/// Checks without a pause between them. One that is not answered fails by the
/// timeout, which the others never need although the machine may be busy.
fn checked(config: &mut Config) {
    config.health = Some(HealthConfig {
        timeout: Duration::from_secs(2),
        fall: NonZeroU32::MIN,
        rise: NonZeroU32::MIN,
        ..HealthConfig::every(Duration::from_millis(5), HealthCheck::Grpc)
    });
}

/// Whatever takes one out: here it says NOT_SERVING.
#[test]
fn the_share_of_a_backend_that_is_out_goes_evenly_to_the_others() {
    on_each_data_plane(async |plane| {
        let mut ward = Ward::start(plane, 4, checked).await;
        Mood::set(&ward.mood(1).is_unwell, true);
        ward.await_state(1, BackendState::Unhealthy).await;
        assert_eq!(ward.shares(60).await, [20, 0, 20, 20]);
    });
}

/// A backend that fails at once has nothing in flight and answers fast, and is
/// all the same no good choice.
#[test]
fn a_backend_that_fails_at_once_gets_far_less_than_its_share() {
    on_each_data_plane(async |plane| {
        for policy in [PolicyKind::LeastLoaded, PolicyKind::P2c, PolicyKind::PeakEwma] {
            let mut ward = Ward::start(plane, 2, |config| config.policy = policy).await;
            Mood::set(&ward.mood(1).fails, true);
            for _ in 0..200 {
                ward.call().await;
            }
            let (good, bad) = (ward.mood(0).calls(), ward.mood(1).calls());
            assert_eq!(good + bad, 200, "{policy}");
            // Half of the calls would be its share.
            assert!(bad < 40, "{policy}: {bad} of 200 failed");
        }
    });
}

#[test]
fn a_backend_that_leaves_checks_unanswered_is_taken_out_and_returns() {
    on_each_data_plane(async |plane| {
        let mut ward = Ward::start(plane, 2, checked).await;
        assert_eq!(ward.shares(10).await, [5, 5]);
        Mood::set(&ward.mood(0).is_mute, true);
        ward.await_state(0, BackendState::Unhealthy).await;
        assert_eq!(ward.shares(10).await, [0, 10]);
        assert_eq!(ward.l7.metric("l7_backend_available"), 1.0);
        Mood::set(&ward.mood(0).is_mute, false);
        ward.await_state(0, BackendState::Active).await;
        assert_eq!(ward.shares(10).await, [5, 5]);
        let failed = "l7_backend_health_checks_total{backend=";
        ward.l7.await_metric(failed, |checks| checks >= 5.0).await;
    });
}

#[test]
fn with_no_backend_that_is_well_all_are_used() {
    on_each_data_plane(async |plane| {
        let mut ward = Ward::start(plane, 2, checked).await;
        for index in 0..2 {
            Mood::set(&ward.mood(index).is_unwell, true);
        }
        for index in 0..2 {
            ward.await_state(index, BackendState::Unhealthy).await;
        }
        assert_eq!(ward.shares(10).await, [5, 5]);
        assert_eq!(ward.l7.metric("l7_panic"), 1.0);
        Mood::set(&ward.mood(1).is_unwell, false);
        ward.await_state(1, BackendState::Active).await;
        assert_eq!(ward.shares(10).await, [0, 10]);
        assert_eq!(ward.l7.metric("l7_panic"), 0.0);
    });
}

#[test]
fn without_panic_nobody_is_used_who_is_not_well() {
    on_each_data_plane(async |plane| {
        let mut ward = Ward::start(plane, 1, |config| {
            checked(config);
            config.membership.panic_threshold = 0;
        })
        .await;
        Mood::set(&ward.mood(0).is_unwell, true);
        ward.await_state(0, BackendState::Unhealthy).await;
        assert_eq!(ward.call().await, "14");
        assert_eq!(ward.mood(0).calls(), 0);
    });
}

fn ejecting(config: &mut Config, time: Duration) {
    config.ejection.eject = true;
    config.ejection.eject_for = time;
}

#[test]
fn a_backend_that_fails_all_calls_is_ejected() {
    on_each_data_plane(async |plane| {
        let hour = Duration::from_secs(3_600);
        let mut ward = Ward::start(plane, 3, |config| ejecting(config, hour)).await;
        Mood::set(&ward.mood(0).fails, true);
        let mut failed = 0;
        while ward.fleet.list()[0].state == BackendState::Active {
            failed += u32::from(ward.call().await == "14");
        }
        // The fifth in a row ejects it; that is noticed beside the calls.
        assert!(failed >= 5 && ward.mood(0).calls() == failed, "{failed}");
        let shares = ward.shares(20).await;
        assert_eq!((shares[0], shares[1] + shares[2]), (0, 20));
        assert_eq!(ward.l7.metric("l7_backend_ejections_total"), 1.0);
        assert!(ward.fleet.list()[0].failures >= 5);
    });
}

#[test]
fn an_ejected_backend_returns_after_its_time() {
    on_each_data_plane(async |plane| {
        let short = Duration::from_millis(50);
        let mut ward = Ward::start(plane, 3, |config| ejecting(config, short)).await;
        Mood::set(&ward.mood(0).fails, true);
        within("two ejections", async {
            while ward.l7.metric("l7_backend_ejections_total") < 2.0 {
                ward.call().await;
            }
        })
        .await;
        Mood::set(&ward.mood(0).fails, false);
        ward.await_state(0, BackendState::Active).await;
        let shares = ward.shares(30).await;
        assert_eq!(shares, [10, 10, 10]);
    });
}

/// A backend that takes calls and answers none shows in deadlines only.
#[test]
fn a_backend_that_answers_nothing_is_ejected_for_its_deadlines() {
    on_each_data_plane(async |plane| {
        let silent = NegativeServer::start(Case::NeverAnswer).await;
        let (first, second) = (Moody::start().await, Moody::start().await);
        let mut config = l7_config(plane, &[silent.addr(), first.addr, second.addr]);
        ejecting(&mut config, Duration::from_secs(3_600));
        config.ejection.eject_after = 2;
        let (l7, fleet) = start_l7_fleet(config);
        let mut client = Peer::client(l7.addr(), &[]).await;
        let mut stream = 1;
        within("it to be ejected", async {
            while fleet.list()[0].state == BackendState::Active {
                client.send(&call(stream, &[("grpc-timeout", "300m")])).await.unwrap();
                client.message(stream).await;
                stream += 2;
            }
        })
        .await;
        let asked = silent.record().calls();
        for _ in 0..10 {
            client.send(&call(stream, &[])).await.unwrap();
            assert_eq!(client.message(stream).await.grpc_status(), Some("0"));
            stream += 2;
        }
        assert_eq!(silent.record().calls(), asked);
    });
}

#[test]
fn a_subset_is_all_that_is_used() {
    on_each_data_plane(async |plane| {
        let mut ward = Ward::start(plane, 5, |config| {
            config.membership.subset_size = Some(2);
            config.membership.subset_id = Some("this one".to_owned());
        })
        .await;
        let mut shares = ward.shares(20).await;
        shares.sort_unstable();
        assert_eq!(shares, [0, 0, 0, 10, 10]);
        let outside = ward.fleet.list().into_iter();
        assert_eq!(outside.filter(|one| one.state == BackendState::Outside).count(), 3);
    });
}
