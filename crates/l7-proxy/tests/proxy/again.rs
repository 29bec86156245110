//! Calls that are tried again although a backend may have worked on them, and
//! calls that are sent to two.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use l7_proxy::{Config, DataPlane};
use testkit::{
    await_that,
    lab::{Server, l7_config, start_l7},
    on_each_data_plane,
    peer::{End, Fields, Peer, RawServer, Seen},
    replay::{Played, Recording, Step, play},
    script::{Act, CALL, Plan, ScriptedBackend},
    wire::{self, block, code, grpc_fields},
    within,
};

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A whole call named `a`, with further fields and a body of this size.
fn call(more: &[(&str, &str)], bytes: usize) -> Vec<u8> {
    let mut list = grpc_fields(wire::UNARY);
    list.extend(fields(&[(CALL, "a")]));
    list.extend(fields(more));
    let message = wire::message(&vec![7; bytes]);
    let parts = message.chunks(16_000).flat_map(|part| wire::data(1, part, false));
    [wire::headers(1, &block(&list), false), parts.collect(), wire::data(1, &[], true)].concat()
}

fn status(code: &str, more: &[(&str, &str)]) -> Plan {
    let mut list =
        fields(&[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", code)]);
    list.extend(fields(more));
    vec![Act::AwaitEnd, Act::EndHeaders(list)]
}

fn head() -> Act {
    Act::Headers(fields(&[(":status", "200"), ("content-type", "application/grpc")]))
}

fn answer() -> Plan {
    let message = Act::Data(wire::message(b"answer"));
    vec![Act::AwaitEnd, head(), message, Act::EndHeaders(fields(&[("grpc-status", "0")]))]
}

/// A change to the proxy's configuration.
type Change = Box<dyn FnOnce(&mut Config)>;

/// What a call came to.
struct Came {
    status: Option<String>,
    end: Option<End>,
    attempts: usize,
    took: Duration,
    l7: Server,
}

/// Plays a call over a backend with these plans for its attempts, with retries
/// on status 14.
async fn came(
    plane: DataPlane,
    plans: &[Plan],
    request: Vec<u8>,
    change: impl FnOnce(&mut Config),
) -> Came {
    let plans = HashMap::from([("a".to_owned(), plans.to_vec())]);
    let backend = ScriptedBackend::start(plans, Vec::new()).await;
    let mut config = l7_config(plane, &[backend.addr()]);
    config.retry.retry_on = vec!["unavailable".parse().unwrap()];
    config.retry.retry_backoff = Duration::from_millis(1);
    change(&mut config);
    let l7 = start_l7(config);
    let steps = vec![Step::Send(request), Step::AwaitEnd(1)];
    let begun = Instant::now();
    let played: Played = play(l7.addr(), &Recording { steps, ..Recording::default() }).await;
    let took = begun.elapsed();
    let status = played[&1].grpc_status().map(str::to_owned);
    Came { status, end: played[&1].end, attempts: backend.attempts().len(), took, l7 }
}

#[test]
fn an_answer_that_is_only_a_status_is_a_reason_to_try_again() {
    on_each_data_plane(async |plane| {
        let plans = [status("14", &[]), status("14", &[]), answer()];
        let came = came(plane, &plans, call(&[], 100), |_| {}).await;
        assert_eq!((came.status.as_deref(), came.attempts), (Some("0"), 3));
        assert_eq!(came.l7.metric("l7_status_retries_total"), 2.0);
        assert_eq!(came.l7.metric("l7_calls_total{"), 3.0, "{}", came.l7.metrics_text());
    });
}

#[test]
fn a_connection_that_breaks_before_the_head_is_one_too() {
    on_each_data_plane(async |plane| {
        let plans = [vec![Act::AwaitEnd, Act::Close], answer()];
        let came = came(plane, &plans, call(&[], 100), |_| {}).await;
        assert_eq!((came.status.as_deref(), came.attempts), (Some("0"), 2));
    });
}

#[test]
fn a_reset_is_one_by_the_status_that_clients_read_from_it() {
    on_each_data_plane(async |plane| {
        let plans = [vec![Act::AwaitEnd, Act::Reset(code::ENHANCE_YOUR_CALM)], answer()];
        let on_exhausted = |config: &mut Config| {
            config.retry.retry_on = vec!["resource_exhausted".parse().unwrap()];
        };
        let retried = came(plane, &plans, call(&[], 100), on_exhausted).await;
        assert_eq!((retried.status.as_deref(), retried.attempts), (Some("0"), 2));
        let told = came(plane, &plans, call(&[], 100), |_| {}).await;
        assert_eq!(told.end, Some(End::Reset(code::ENHANCE_YOUR_CALM)));
        assert_eq!(told.attempts, 1);
    });
}

#[test]
fn what_is_not_asked_for_is_not_tried_again() {
    on_each_data_plane(async |plane| {
        let begun = |code: &str| {
            vec![Act::AwaitEnd, head(), Act::EndHeaders(fields(&[("grpc-status", code)]))]
        };
        let cases: [(&str, Plan, usize, Change); 4] = [
            ("another status", status("5", &[]), 10, Box::new(|_| {})),
            ("a head has passed", begun("14"), 10, Box::new(|_| {})),
            ("the request is too large", status("14", &[]), 150_000, Box::new(|_| {})),
            (
                "nothing is asked for",
                status("14", &[]),
                10,
                Box::new(|config| config.retry.retry_on.clear()),
            ),
        ];
        for (what, plan, bytes, change) in cases {
            let came = came(plane, &[plan, answer()], call(&[], bytes), change).await;
            assert_ne!(came.status.as_deref(), Some("0"), "{what}");
            assert_eq!(came.attempts, 1, "{what}");
        }
    });
}

#[test]
fn attempts_and_the_budget_are_bounds() {
    on_each_data_plane(async |plane| {
        let always = [status("14", &[])];
        let bounded = came(plane, &always, call(&[], 10), |_| {}).await;
        assert_eq!((bounded.status.as_deref(), bounded.attempts), (Some("14"), 4));
        let none = |config: &mut Config| {
            (config.retry.retry_budget, config.retry.retry_min_concurrency) = (0.0, 0);
        };
        let over = came(plane, &always, call(&[], 10), none).await;
        assert_eq!((over.status.as_deref(), over.attempts), (Some("14"), 1));
        assert_eq!(over.l7.metric("l7_retries_over_budget_total"), 1.0);
    });
}

#[test]
fn a_backend_pushes_back() {
    on_each_data_plane(async |plane| {
        let pushback = |value| status("14", &[("grpc-retry-pushback-ms", value)]);
        let never = came(plane, &[pushback("-1"), answer()], call(&[], 10), |_| {}).await;
        assert_eq!((never.status.as_deref(), never.attempts), (Some("14"), 1));
        let later = came(plane, &[pushback("80"), answer()], call(&[], 10), |_| {}).await;
        assert_eq!((later.status.as_deref(), later.attempts), (Some("0"), 2));
        assert!(later.took >= Duration::from_millis(80), "{:?}", later.took);
        // A pause that outlasts the deadline only keeps the answer from the client.
        let request = call(&[("grpc-timeout", "10S")], 10);
        let late = came(plane, &[pushback("10000"), answer()], request, |_| {}).await;
        assert_eq!((late.status.as_deref(), late.attempts), (Some("14"), 1));
    });
}

/// Two backends, of which a test plays both, and a proxy that hedges.
struct Hedged {
    servers: [RawServer; 2],
    l7: Server,
    client: Peer,
}

impl Hedged {
    async fn start(plane: DataPlane, change: impl FnOnce(&mut Config)) -> Self {
        let servers = [RawServer::start().await, RawServer::start().await];
        let mut config = l7_config(plane, &[servers[0].addr(), servers[1].addr()]);
        config.retry.hedge_delay = Some(Duration::from_millis(20));
        change(&mut config);
        let l7 = start_l7(config);
        let client = Peer::client(l7.addr(), &[]).await;
        Self { servers, l7, client }
    }

    /// The backend that the proxy connects to next.
    async fn next_backend(&self) -> Peer {
        let [one, other] = &self.servers;
        within("an attempt", async {
            tokio::select! {
                peer = one.accept(&[]) => peer,
                peer = other.accept(&[]) => peer,
            }
        })
        .await
    }

    /// The attempts at the client's call, in the order they came.
    async fn both(&self) -> [(Peer, u32); 2] {
        let take = async |server: &RawServer| {
            let mut peer = server.accept(&[]).await;
            let (stream, fields, _) = peer.next_headers().await;
            assert!(fields.iter().any(|(name, _)| name == CALL));
            // The whole request, in however many frames.
            loop {
                match peer.next_on(stream).await {
                    Seen::Data { ends: true, .. } => break,
                    Seen::Data { .. } => {}
                    other => panic!("DATA was expected, and not {other:?}"),
                }
            }
            (peer, stream)
        };
        let [one, other] = &self.servers;
        let (mut one, mut other) = (Box::pin(take(one)), Box::pin(take(other)));
        tokio::select! {
            first = &mut one => [first, other.await],
            first = &mut other => [first, one.await],
        }
    }
}

#[test]
fn the_first_answer_counts_and_the_other_attempt_is_reset() {
    on_each_data_plane(async |plane| {
        for winner in [0, 1] {
            let mut lab = Hedged::start(plane, |_| {}).await;
            lab.client.send(&call(&[], 100)).await.unwrap();
            let mut attempts = lab.both().await;
            let (peer, stream) = &mut attempts[winner];
            peer.send(&testkit::negative::ok_response(*stream)).await.unwrap();
            let answer = lab.client.message(1).await;
            assert_eq!((answer.grpc_status(), answer.end), (Some("0"), Some(End::Whole)));
            let (peer, stream) = &mut attempts[1 - winner];
            let message = peer.message(*stream).await;
            assert_eq!(message.end, Some(End::Reset(code::CANCEL)));
            assert_eq!(lab.l7.metric("l7_hedges_total"), 1.0);
            assert_eq!(lab.l7.metric("l7_hedges_won_total"), winner as f64);
            lab.l7.await_metric("l7_calls_total{", |count| count == 2.0).await;
        }
    });
}

#[test]
fn an_attempt_that_fails_leaves_the_call_to_the_other() {
    on_each_data_plane(async |plane| {
        for loser in [0, 1] {
            let mut lab = Hedged::start(plane, |_| {}).await;
            lab.client.send(&call(&[], 100)).await.unwrap();
            let mut attempts = lab.both().await;
            let (peer, stream) = &mut attempts[loser];
            peer.send(&wire::reset(*stream, code::INTERNAL_ERROR)).await.unwrap();
            peer.round_trip().await;
            let (peer, stream) = &mut attempts[1 - loser];
            peer.send(&testkit::negative::ok_response(*stream)).await.unwrap();
            assert_eq!(lab.client.message(1).await.grpc_status(), Some("0"));
        }
    });
}

#[test]
fn a_cancelled_call_is_taken_back_from_both() {
    on_each_data_plane(async |plane| {
        let mut lab = Hedged::start(plane, |_| {}).await;
        lab.client.send(&call(&[], 100)).await.unwrap();
        let attempts = lab.both().await;
        lab.client.send(&wire::reset(1, code::CANCEL)).await.unwrap();
        for (mut peer, stream) in attempts {
            assert_eq!(peer.message(stream).await.end, Some(End::Reset(code::CANCEL)));
        }
    });
}

/// A request that still comes is with one backend only, and so is a call for
/// which the budget has no room.
#[test]
fn what_is_not_whole_or_beyond_the_budget_is_not_hedged() {
    on_each_data_plane(async |plane| {
        let none = |config: &mut Config| {
            (config.retry.retry_budget, config.retry.retry_min_concurrency) = (0.0, 0);
        };
        let open = call(&[], 10);
        let open = &open[..open.len() - 9];
        for (request, is_whole) in [(open.to_vec(), false), (call(&[], 10), true)] {
            let mut lab = Hedged::start(plane, |config| {
                if is_whole {
                    none(config);
                }
            })
            .await;
            lab.client.send(&request).await.unwrap();
            let mut backend = lab.next_backend().await;
            let (stream, ..) = backend.next_headers().await;
            if is_whole {
                let over = || lab.l7.metric("l7_retries_over_budget_total") == 1.0;
                await_that("the budget to say no", over).await;
            } else {
                // A call that is whole and came later is hedged. Had the one before it
                // been to be hedged too, it would have been before.
                lab.client.send(&wire::unary_call(3)).await.unwrap();
                let mut second = lab.next_backend().await;
                second.next_headers().await;
                let over = || lab.l7.metric("l7_hedges_total") >= 1.0;
                await_that("the later call to be hedged", over).await;
            }
            backend.send(&testkit::negative::ok_response(stream)).await.unwrap();
            assert_eq!(lab.client.message(1).await.grpc_status(), Some("0"));
            let hedged = f64::from(u8::from(!is_whole));
            assert_eq!(lab.l7.metric("l7_hedges_total"), hedged);
        }
    });
}
