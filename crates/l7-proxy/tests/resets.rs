//! Calls that are taken back, as a backend sees them: its connection carries
//! the calls of many clients, and what one of them does must not make the
//! backend end it. Servers end connections on which too many streams were reset
//! before they came to look at them, or too many in all (CVE-2023-44487).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Wires, call};
use testkit::negative::ok_response;
use testkit::on_each_data_plane;
use testkit::peer::{End, Peer, Seen};
use testkit::wire::{self, code};

/// What each data plane does otherwise.
mod exceptions {
    use l7_proxy::DataPlane;

    /// hyper's client sends a reset as soon as a call's future, or its request's
    /// body, is dropped; it can't be made to ask whether the backend reads, and
    /// tells nobody what was reset on a connection. Over it the bounds on what
    /// a client may reset have to do: h2's own, of calls that were not looked
    /// at, and ours per second.
    pub(crate) fn passes_every_reset_on_at_once(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }
}

/// Calls that are opened and taken back, as many as this.
const TAKEN_BACK: u32 = 40;
const MOST_UNSEEN: u32 = 10;

fn resets_in(seen: &[Seen]) -> u32 {
    seen.iter().filter(|seen| matches!(seen, Seen::Reset { .. })).count() as u32
}

/// Opens calls and takes each back.
async fn take_back_calls(client: &mut Peer) {
    for stream in (1..).step_by(2).take(TAKEN_BACK as usize) {
        client
            .send(&[call(stream, &[]), wire::reset(stream, code::CANCEL)].concat())
            .await
            .unwrap();
    }
    // All of it has been read, and acted on.
    client.round_trip().await;
}

/// What has come at a backend, which answers nothing.
async fn all_that_came(backend: &mut Peer) -> Vec<Seen> {
    backend.round_trip().await;
    backend.take_passed_over(|_| true)
}

fn stream_of_last_call(seen: &[Seen]) -> u32 {
    let headers = seen.iter().rev().find(|seen| matches!(seen, Seen::Headers { .. }));
    headers.and_then(Seen::stream).unwrap()
}

/// A backend that reads and answers nothing may have taken up none of its
/// streams, and is sent no more resets than it bears.
#[test]
fn a_backend_is_sent_so_many_resets_before_it_has_taken_up_a_call() {
    on_each_data_plane(async |plane| {
        if exceptions::passes_every_reset_on_at_once(plane) {
            return;
        }
        let mut wires = Wires::start(plane).await;
        // The connection is made, and greeted, with a call that stays.
        let mut bystander = Peer::client(wires.l7.addr(), &[]).await;
        bystander.send(&call(1, &[])).await.unwrap();
        let mut backend = wires.server.accept(&[]).await;
        let (kept, _, _) = backend.next_headers().await;
        backend.round_trip().await;
        backend.is_polite = false;
        take_back_calls(&mut wires.client).await;
        let seen = all_that_came(&mut backend).await;
        let calls = seen.iter().filter(|seen| matches!(seen, Seen::Headers { .. })).count() as u32;
        assert_eq!((calls, resets_in(&seen)), (TAKEN_BACK, MOST_UNSEEN));
        let held = TAKEN_BACK - MOST_UNSEEN;
        assert_eq!(wires.l7.metric("l7_resets_held_total"), f64::from(held));
        // Those that are held back may keep the backend busy.
        assert_eq!(wires.l7.metric("l7_backend_calls_in_flight"), f64::from(held + 1));
        assert_eq!(resets_in(&all_that_came(&mut backend).await), 0, "no answer, no reset");
        // The first to be taken up is the bystander's call, which was not reset.
        for answered in 0..3 {
            backend.send(&wire::settings_ack()).await.unwrap();
            let resets = resets_in(&all_that_came(&mut backend).await);
            assert_eq!(resets, u32::from(answered > 0), "{answered} answers before");
        }
        // A response shows that all calls before it were taken up.
        let mut third = Peer::client(wires.l7.addr(), &[]).await;
        third.send(&call(1, &[])).await.unwrap();
        let (last, _, _) = backend.next_headers().await;
        backend.send(&ok_response(last)).await.unwrap();
        assert_eq!(third.message(1).await.grpc_status(), Some("0"));
        assert_eq!(resets_in(&all_that_came(&mut backend).await), held - 2);
        assert_eq!(wires.l7.metric("l7_backend_calls_in_flight"), 1.0);
        backend.send(&ok_response(kept)).await.unwrap();
        assert_eq!(bystander.message(1).await.grpc_status(), Some("0"));
    });
}

/// A connection on which many streams were reset makes way for a new one before
/// the backend ends it, and no call is harmed.
#[test]
fn a_connection_with_many_resets_makes_way_for_another() {
    on_each_data_plane(async |plane| {
        if exceptions::passes_every_reset_on_at_once(plane) {
            return;
        }
        let mut wires =
            Wires::start_with(plane, |config| config.upstream.backend_max_resets = 3).await;
        wires.client.send(&call(1, &[])).await.unwrap();
        let mut first = wires.server.accept(&[]).await;
        let (kept, _, _) = first.next_headers().await;
        // By the client, and by the backend.
        wires.client.send(&[call(3, &[]), wire::reset(3, code::CANCEL)].concat()).await.unwrap();
        for stream in [5, 7] {
            wires.client.send(&call(stream, &[])).await.unwrap();
            wires.client.round_trip().await;
            let seen = all_that_came(&mut first).await;
            first.send(&wire::reset(stream_of_last_call(&seen), code::CANCEL)).await.unwrap();
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
        assert_eq!(first.closed().await, None, "its last call has ended");
    });
}
