//! Calls that are taken back, as a backend sees them: its connection carries
//! the calls of many clients, and what one of them does must not make the
//! backend end it. Servers end connections on which too many streams were reset
//! before they came to look at them, or too many in all (CVE-2023-44487).
//!
//! A call that is taken back in the same breath may never get to a backend, so
//! most of these are taken back when they have come there.

use l7_proxy::{Config, DataPlane};
use testkit::{
    negative::ok_response,
    on_each_data_plane,
    peer::{End, Peer, Seen, field},
    wire::{self, block, code, setting},
    within,
};

use crate::common::{Wires, call, open};

/// What each data plane does otherwise.
mod exceptions {
    use l7_proxy::DataPlane;

    /// hyper resets a stream as soon as its call is dropped, whether or not the
    /// backend has seen the stream, and has no setting that holds a reset back.
    pub(crate) fn holds_no_reset_back(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }
}

/// Runs a test over the data planes that hold resets back.
fn on_each_that_holds_resets(test: impl AsyncFn(DataPlane)) {
    on_each_data_plane(async |plane| {
        if !exceptions::holds_no_reset_back(plane) {
            test(plane).await;
        }
    });
}

/// Calls that are opened and taken back, as many as this.
const TAKEN_BACK: u32 = 40;
const MOST_UNSEEN: u32 = 10;
const HELD: u32 = TAKEN_BACK - MOST_UNSEEN;
/// Of a client's connection, in bytes: fewer than the calls have in all.
const WINDOW: u32 = 65_535;

/// A client whose calls were taken back, and a backend that answers nothing,
/// not even whether it reads.
struct Abused {
    wires: Wires,
    backend: Peer,
    /// Another client, and the stream its call has at the backend: the first.
    bystander: Peer,
    kept: u32,
    /// The streams of the calls that were taken back, in their order.
    streams: Vec<u32>,
    /// Why they were.
    code: u32,
}

impl Abused {
    async fn start(plane: DataPlane) -> Self {
        Self::start_with(plane, |stream| call(stream, &[]), code::CANCEL).await
    }

    async fn start_with(plane: DataPlane, request: impl Fn(u32) -> Vec<u8>, code: u32) -> Self {
        let change = |config: &mut Config| config.downstream.connection_window_bytes = WINDOW;
        let mut wires = Wires::start_with(plane, change).await;
        // The connection is made, and greeted, with a call that stays.
        let mut bystander = Peer::client(wires.l7.addr(), &[]).await;
        bystander.send(&call(1, &[])).await.unwrap();
        let mut backend = wires.server.accept(&[(setting::INITIAL_WINDOW_SIZE, 100)]).await;
        let (kept, _, _) = backend.next_headers().await;
        backend.round_trip().await;
        backend.is_polite = false;
        let mut streams = Vec::new();
        let mut room = i64::from(WINDOW);
        for stream in (1..).step_by(2).take(TAKEN_BACK as usize) {
            let request = request(stream);
            room -= request.len() as i64;
            while room < 0 {
                room += i64::from(next_room(&mut wires.client).await);
            }
            wires.client.send(&request).await.unwrap();
            streams.push(backend.next_headers().await.0);
            wires.client.send(&wire::reset(stream, code)).await.unwrap();
        }
        wires.l7.await_metric("l7_resets_held_total", |held| held >= f64::from(HELD)).await;
        // Those that are held back may keep the backend busy.
        Self::await_in_flight(&wires, HELD + 1).await;
        Self { wires, backend, bystander, kept, streams, code }
    }

    async fn await_in_flight(wires: &Wires, wanted: u32) {
        let is_wanted = |calls| calls == f64::from(wanted);
        wires.l7.await_metric("l7_backend_calls_in_flight", is_wanted).await;
    }

    /// The next streams that the backend is told to forget, as many as this, and
    /// no others.
    async fn next_resets(&mut self, count: u32) -> Vec<u32> {
        let mut streams = Vec::new();
        for _ in 0..count {
            match self.backend.next_that("a reset", is_reset).await {
                Seen::Reset { stream, code } if code == self.code => streams.push(stream),
                other => panic!("a reset was expected, and not {other:?}"),
            }
        }
        self.backend.round_trip().await;
        assert_eq!(self.backend.take_passed_over(is_reset), [], "after {count} resets");
        streams
    }

    /// Waits until the backend is asked whether it reads.
    async fn next_question(&mut self) {
        let is_question = |seen: &Seen| matches!(seen, Seen::Settings(values) if values.is_empty());
        let seen = self.backend.next_that("a question", is_question).await;
        assert_eq!(seen, Seen::Settings(Vec::new()));
    }
}

/// How much more the client may send.
async fn next_room(client: &mut Peer) -> u32 {
    let is_room = |seen: &Seen| matches!(seen, Seen::WindowUpdate { stream: 0, .. });
    match client.next_that("room in the window", is_room).await {
        Seen::WindowUpdate { increment, .. } => increment,
        other => panic!("room was expected, and not {other:?}"),
    }
}

fn is_reset(seen: &Seen) -> bool {
    matches!(seen, Seen::Reset { .. })
}

/// A response that is its end.
fn refusal(stream: u32) -> Vec<u8> {
    let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")];
    wire::headers(stream, &block(&fields), true)
}

/// A backend that reads and answers nothing may have taken up none of its
/// streams, and is sent no more resets than it bears.
#[test]
fn a_backend_is_sent_so_many_resets_before_it_has_taken_up_a_call() {
    on_each_that_holds_resets(async |plane| {
        let mut abused = Abused::start(plane).await;
        let (first, rest) = abused.streams.split_at(MOST_UNSEEN as usize);
        let (first, rest) = (first.to_vec(), rest.to_vec());
        assert_eq!(abused.next_resets(MOST_UNSEEN).await, first);
        assert_eq!(abused.wires.l7.metric("l7_resets_held_total"), f64::from(HELD));
        // The first to be taken up is the bystander's call, which was not reset.
        for answers in 0..3 {
            abused.next_question().await;
            assert!(abused.next_resets(0).await.is_empty(), "no answer, no reset");
            abused.backend.send(&wire::settings_ack()).await.unwrap();
            let expected = if answers > 0 { &rest[answers - 1..answers] } else { &[] };
            assert_eq!(abused.next_resets(expected.len() as u32).await, expected);
        }
        // A response shows that all calls before it were taken up.
        let mut third = Peer::client(abused.wires.l7.addr(), &[]).await;
        third.send(&call(1, &[])).await.unwrap();
        let (last, _, _) = abused.backend.next_headers().await;
        abused.backend.send(&ok_response(last)).await.unwrap();
        assert_eq!(third.message(1).await.grpc_status(), Some("0"));
        let mut last_resets = abused.next_resets(HELD - 2).await;
        last_resets.sort_unstable();
        assert_eq!(last_resets, rest[2..]);
        Abused::await_in_flight(&abused.wires, 1).await;
        abused.backend.send(&ok_response(abused.kept)).await.unwrap();
        assert_eq!(abused.bystander.message(1).await.grpc_status(), Some("0"));
        assert_eq!(abused.wires.l7.metric("l7_resets_held_total"), f64::from(HELD));
    });
}

/// Only what came to the backend counts, and is held: calls that were taken back
/// before are none of its business, and none of its load.
#[test]
fn calls_that_are_taken_back_in_the_same_breath_count_if_the_backend_has_them() {
    on_each_that_holds_resets(async |plane| {
        let mut wires = Wires::start(plane).await;
        let mut bystander = Peer::client(wires.l7.addr(), &[]).await;
        bystander.send(&call(1, &[])).await.unwrap();
        let mut backend = wires.server.accept(&[]).await;
        backend.next_headers().await;
        backend.round_trip().await;
        backend.is_polite = false;
        for stream in (1..).step_by(2).take(TAKEN_BACK as usize) {
            let both = [call(stream, &[]), wire::reset(stream, code::CANCEL)].concat();
            wires.client.send(&both).await.unwrap();
            wires.client.round_trip().await;
        }
        // This call comes behind all of them.
        let mut third = Peer::client(wires.l7.addr(), &[]).await;
        third.send(&call(1, &[("x-last", "yes")])).await.unwrap();
        let mut calls = 0;
        while field(&backend.next_headers().await.1, "x-last").is_none() {
            calls += 1;
        }
        let resets = backend.take_passed_over(is_reset).len() as u32;
        assert_eq!(resets, calls.min(MOST_UNSEEN), "of {calls} calls");
        let held = calls - resets;
        assert_eq!(wires.l7.metric("l7_resets_held_total"), f64::from(held));
        Abused::await_in_flight(&wires, held + 2).await;
    });
}

/// A held call that the backend answers is over: nothing is left to reset, and
/// its place is free.
#[test]
fn a_held_call_that_is_answered_is_not_reset() {
    on_each_that_holds_resets(async |plane| {
        let mut abused = Abused::start(plane).await;
        abused.next_resets(MOST_UNSEEN).await;
        let held = abused.streams.split_off(MOST_UNSEEN as usize);
        abused.backend.send(&refusal(held[0])).await.unwrap();
        // All before it were taken up, and so many more may follow.
        let mut resets = abused.next_resets(MOST_UNSEEN).await;
        resets.sort_unstable();
        assert_eq!(resets, held[1..=MOST_UNSEEN as usize]);
        Abused::await_in_flight(&abused.wires, HELD - MOST_UNSEEN).await;
    });
}

/// A backend that resets a held call itself is not told to.
#[test]
fn a_held_call_that_the_backend_resets_is_over() {
    on_each_that_holds_resets(async |plane| {
        let mut abused = Abused::start(plane).await;
        abused.next_resets(MOST_UNSEEN).await;
        let held = abused.streams.split_off(MOST_UNSEEN as usize);
        abused.backend.send(&wire::reset(held[0], code::REFUSED_STREAM)).await.unwrap();
        Abused::await_in_flight(&abused.wires, HELD).await;
        abused.backend.send(&ok_response(abused.kept)).await.unwrap();
        assert_eq!(abused.bystander.message(1).await.grpc_status(), Some("0"));
        for next in &held[1..3] {
            abused.next_question().await;
            abused.backend.send(&wire::settings_ack()).await.unwrap();
            assert_eq!(abused.next_resets(1).await, [*next]);
        }
    });
}

/// What came of a request, and the backend does not take, is let go of: it holds
/// up no other call of its client. (Otherwise there would be no room for so many.)
#[test]
fn held_calls_take_no_room_in_their_clients_window() {
    on_each_that_holds_resets(async |plane| {
        // More of them than a proxy has taken on ahead of the backend.
        let pieces = |stream| wire::data(stream, &[7; 2_000], false).repeat(5);
        let request = |stream| [open(stream, &[]), pieces(stream)].concat();
        let mut abused = Abused::start_with(plane, request, code::CANCEL).await;
        abused.next_resets(MOST_UNSEEN).await;
        let next = 2 * TAKEN_BACK + 1;
        let wires = &mut abused.wires;
        wires.client.send(&call(next, &[])).await.unwrap();
        let (stream, _, _) = abused.backend.next_headers().await;
        abused.backend.send(&ok_response(stream)).await.unwrap();
        assert_eq!(wires.client.message(next).await.grpc_status(), Some("0"));
        abused.next_resets(HELD).await;
        Abused::await_in_flight(&abused.wires, 1).await;
    });
}

/// The backend hears why a call was taken back, if its request had not ended.
#[test]
fn a_held_reset_keeps_its_code() {
    on_each_that_holds_resets(async |plane| {
        let request = |stream| open(stream, &[]);
        let mut abused = Abused::start_with(plane, request, code::INTERNAL_ERROR).await;
        assert_eq!(abused.next_resets(MOST_UNSEEN).await.len(), MOST_UNSEEN as usize);
        abused.backend.send(&refusal(*abused.streams.last().unwrap())).await.unwrap();
        abused.next_resets(HELD).await;
        Abused::await_in_flight(&abused.wires, 1).await;
    });
}

/// Nobody waits for held calls: a backend that goes away is rid of its
/// connection with the last call that somebody waits for.
#[test]
fn held_calls_keep_no_connection_that_is_left() {
    on_each_that_holds_resets(async |plane| {
        let mut abused = Abused::start(plane).await;
        abused.next_resets(MOST_UNSEEN).await;
        let highest = *abused.streams.last().unwrap();
        abused.backend.send(&wire::go_away(highest, code::NO_ERROR)).await.unwrap();
        assert!(abused.next_resets(0).await.is_empty(), "the bystander's call is not over");
        abused.backend.send(&ok_response(abused.kept)).await.unwrap();
        assert_eq!(abused.bystander.message(1).await.grpc_status(), Some("0"));
        abused.backend.closed().await;
        Abused::await_in_flight(&abused.wires, 0).await;
    });
}

/// Nor do they keep the proxy.
#[test]
fn held_calls_keep_no_proxy_that_drains() {
    on_each_that_holds_resets(async |plane| {
        let mut abused = Abused::start(plane).await;
        abused.backend.send(&ok_response(abused.kept)).await.unwrap();
        assert_eq!(abused.bystander.message(1).await.grpc_status(), Some("0"));
        let Abused { wires, bystander, .. } = abused;
        let Wires { client, mut l7, .. } = wires;
        l7.trigger().drain();
        drop((client, bystander));
        within("the drain", l7.ended()).await;
    });
}

/// Held calls are let go of with a connection that breaks.
#[test]
fn held_calls_end_with_their_connection() {
    on_each_that_holds_resets(async |plane| {
        let Abused { mut wires, backend, .. } = Abused::start(plane).await;
        drop(backend);
        Abused::await_in_flight(&wires, 0).await;
        let next = 2 * TAKEN_BACK + 1;
        wires.client.send(&call(next, &[])).await.unwrap();
        let mut another = wires.server.accept(&[]).await;
        let (stream, _, _) = another.next_headers().await;
        another.send(&ok_response(stream)).await.unwrap();
        assert_eq!(wires.client.message(next).await.grpc_status(), Some("0"));
    });
}

/// A connection on which many streams were reset makes way for a new one before
/// the backend ends it, and no call is harmed.
#[test]
fn a_connection_with_many_resets_makes_way_for_another() {
    on_each_data_plane(async |plane| {
        let mut wires =
            Wires::start_with(plane, |config| config.upstream.backend_max_resets = 3).await;
        wires.client.send(&call(1, &[])).await.unwrap();
        let mut first = wires.server.accept(&[]).await;
        let (kept, _, _) = first.next_headers().await;
        // By the client, and by the backend.
        wires.client.send(&call(3, &[])).await.unwrap();
        let (stream, _, _) = first.next_headers().await;
        wires.client.send(&wire::reset(3, code::CANCEL)).await.unwrap();
        assert_eq!(
            first.next_that("a reset", is_reset).await,
            Seen::Reset { stream, code: code::CANCEL }
        );
        for (resets, stream) in [(1, 5), (2, 7)] {
            assert_eq!(wires.l7.metric("l7_connections_worn_total"), 0.0, "{resets} resets");
            wires.client.send(&call(stream, &[])).await.unwrap();
            let (reset, _, _) = first.next_headers().await;
            first.send(&wire::reset(reset, code::CANCEL)).await.unwrap();
            let end = wires.client.message(stream).await.end;
            assert_eq!(end, Some(End::Reset(code::CANCEL)));
        }
        assert_eq!(wires.l7.metric("l7_connections_worn_total"), 1.0);
        wires.client.send(&call(9, &[])).await.unwrap();
        let mut second = wires.server.accept(&[]).await;
        let (stream, _, _) = second.next_headers().await;
        second.send(&ok_response(stream)).await.unwrap();
        assert_eq!(wires.client.message(9).await.grpc_status(), Some("0"));
        first.send(&ok_response(kept)).await.unwrap();
        assert_eq!(wires.client.message(1).await.grpc_status(), Some("0"));
        // Its last call has ended. Whoever closes a connection may say so before.
        assert!(matches!(first.closed().await, None | Some(code::NO_ERROR)));
    });
}
