//! Circuit limits: what is beyond one is refused at once, told so, and counted.

use l7_proxy::{Config, DataPlane};
use testkit::{
    await_that,
    lab::{Server, l7_config, start_l7},
    negative::{Case, NegativeServer},
    on_each_data_plane,
    peer::{End, Message, Peer},
    wire::{self, code},
};

use crate::common::call;

struct Subject {
    backends: Vec<NegativeServer>,
    l7: Server,
    client: Peer,
}

impl Subject {
    /// Backends that keep every call they get, behind a proxy with this change.
    async fn start(
        plane: DataPlane,
        case: Case,
        count: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut backends = Vec::new();
        for _ in 0..count {
            backends.push(NegativeServer::start(case).await);
        }
        let addrs: Vec<_> = backends.iter().map(NegativeServer::addr).collect();
        let mut config = l7_config(plane, &addrs);
        change(&mut config);
        let l7 = start_l7(config);
        let client = Peer::client(l7.addr(), &[]).await;
        Self { backends, l7, client }
    }

    fn calls(&self) -> u32 {
        self.backends.iter().map(|backend| backend.record().calls()).sum()
    }

    async fn begin(&mut self, stream: u32) {
        let wanted = self.calls() + 1;
        self.client.send(&call(stream, &[])).await.unwrap();
        await_that("a call at a backend", || self.calls() == wanted).await;
    }

    /// Makes a call that is refused for this limit.
    async fn is_refused(&mut self, stream: u32, limit: &str) {
        self.client.send(&call(stream, &[])).await.unwrap();
        let answer: Message = self.client.message(stream).await;
        assert_eq!((answer.grpc_status(), answer.end), (Some("14"), Some(End::Whole)));
        let message = answer.trailer("grpc-message").unwrap();
        assert!(message.contains(&format!("({limit})")), "{message}");
        let series = format!("l7_circuit_refusals_total{{limit=\"{limit}\"}}");
        assert!(self.l7.metric(&series) >= 1.0, "{}", self.l7.metrics_text());
        self.l7.await_metric("l7_rejected_total{reason=\"circuit\"}", |count| count >= 1.0).await;
    }
}

#[test]
fn a_backend_has_so_many_calls_and_places_come_back() {
    on_each_data_plane(async |plane| {
        let limit = |config: &mut Config| config.circuit.backend_max_requests = Some(2);
        let mut subject = Subject::start(plane, Case::NeverAnswer, 1, limit).await;
        subject.begin(1).await;
        subject.begin(3).await;
        subject.is_refused(5, "backend-max-requests").await;
        subject.client.send(&wire::reset(1, code::CANCEL)).await.unwrap();
        let record = subject.backends[0].record();
        await_that("the reset to arrive", || record.resets() == 1).await;
        subject.begin(7).await;
        subject.is_refused(9, "backend-max-requests").await;
    });
}

#[test]
fn what_one_backend_refuses_another_may_take() {
    on_each_data_plane(async |plane| {
        let limit = |config: &mut Config| config.circuit.backend_max_requests = Some(1);
        let mut subject = Subject::start(plane, Case::NeverAnswer, 2, limit).await;
        subject.begin(1).await;
        subject.begin(3).await;
        let each: Vec<_> =
            subject.backends.iter().map(|backend| backend.record().calls()).collect();
        assert_eq!(each, [1, 1]);
        subject.is_refused(5, "backend-max-requests").await;
    });
}

#[test]
fn all_backends_together_have_so_many_calls() {
    on_each_data_plane(async |plane| {
        let limit = |config: &mut Config| config.circuit.max_requests = Some(3);
        let mut subject = Subject::start(plane, Case::NeverAnswer, 2, limit).await;
        for stream in [1, 3, 5] {
            subject.begin(stream).await;
        }
        subject.is_refused(7, "max-requests").await;
        assert_eq!(subject.calls(), 3);
    });
}

#[test]
fn so_many_calls_wait_for_a_connection() {
    on_each_data_plane(async |plane| {
        for (name, limit) in [("backend-max-pending", (2, 100)), ("max-pending", (100, 2))] {
            let change = |config: &mut Config| {
                (config.circuit.backend_max_pending, config.circuit.max_pending) = limit;
            };
            let mut subject = Subject::start(plane, Case::NeverSpeak, 1, change).await;
            subject.client.send(&[call(1, &[]), call(3, &[])].concat()).await.unwrap();
            subject.client.round_trip().await;
            subject.is_refused(5, name).await;
        }
    });
}

#[test]
fn the_proxy_has_so_many_connections_and_uses_those() {
    on_each_data_plane(async |plane| {
        let limit = |config: &mut Config| config.circuit.max_backend_connections = Some(1);
        let mut subject = Subject::start(plane, Case::NeverAnswer, 2, limit).await;
        for stream in [1, 3, 5, 7] {
            subject.begin(stream).await;
        }
        let connections: u32 =
            subject.backends.iter().map(|backend| backend.record().connections()).sum();
        assert_eq!(connections, 1);
        let refused =
            subject.l7.metric("l7_circuit_refusals_total{limit=\"max-backend-connections\"}");
        assert!(refused >= 1.0);
    });
}
