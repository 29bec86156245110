//! A backend that misbehaves: the cases of gRPC's negative interop tests
//! (`doc/negative-http2-interop-test-descriptions.md` of github.com/grpc/grpc),
//! and further endings that a proxy meets.
//!
//! One case is played on every connection, for as long as the server lives.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::task::JoinHandle;

use crate::{
    peer::{Peer, RawServer, Seen},
    wire::{self, block, code, setting},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// GOAWAY behind every response: a connection serves one call.
    GoAway,
    /// RST_STREAM after the response's headers.
    RstAfterHeader,
    /// RST_STREAM inside a message.
    RstDuringData,
    /// RST_STREAM after a whole message, in place of trailers.
    RstAfterData,
    /// PINGs around every response, whose answers are waited for.
    Ping,
    /// One stream at a time, and no stream above it is tolerated.
    MaxStreams,
    /// Every stream is refused.
    RefuseStreams,
    /// Connections are accepted, HTTP/2 is spoken, and no call is answered.
    NeverAnswer,
    /// Connections are accepted and nothing is said at all.
    NeverSpeak,
    /// The connection is closed inside a message.
    CloseMidMessage,
    /// The connection is closed between two messages.
    CloseOnBoundary,
    /// The connection is closed before the response's headers.
    CloseBeforeHeaders,
}

impl Case {
    /// All cases.
    pub const ALL: [Self; 12] = [
        Self::GoAway,
        Self::RstAfterHeader,
        Self::RstDuringData,
        Self::RstAfterData,
        Self::Ping,
        Self::MaxStreams,
        Self::RefuseStreams,
        Self::NeverAnswer,
        Self::NeverSpeak,
        Self::CloseMidMessage,
        Self::CloseOnBoundary,
        Self::CloseBeforeHeaders,
    ];
}

/// What the server saw.
#[derive(Debug, Default)]
pub struct Record {
    connections: AtomicU32,
    calls: AtomicU32,
    resets: AtomicU32,
    pings_answered: AtomicU32,
    streams_too_many: AtomicU32,
}

impl Record {
    /// Connections accepted.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Calls whose headers came.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Streams that the other side reset.
    pub fn resets(&self) -> u32 {
        self.resets.load(Ordering::Relaxed)
    }

    /// PINGs whose answer came.
    pub fn pings_answered(&self) -> u32 {
        self.pings_answered.load(Ordering::Relaxed)
    }

    /// Streams that were opened beyond MAX_CONCURRENT_STREAMS.
    pub fn streams_too_many(&self) -> u32 {
        self.streams_too_many.load(Ordering::Relaxed)
    }

    fn inc(counter: &AtomicU32) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A server that plays a case. It ends when it is dropped, or with the runtime.
pub struct NegativeServer {
    addr: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

impl NegativeServer {
    /// Plays `case` on a free port.
    pub async fn start(case: Case) -> Self {
        let server = RawServer::start().await;
        let addr = server.addr();
        let record = Arc::new(Record::default());
        let task = tokio::spawn(accept(server, case, Arc::clone(&record)));
        Self { addr, record, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it saw.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Drop for NegativeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(server: RawServer, case: Case, record: Arc<Record>) {
    // Dropping the set with this task ends the connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // A server's patience has no bound: a test ends it.
        let Ok((stream, _)) = server.listener().accept().await else { return };
        Record::inc(&record.connections);
        connections.spawn(serve(Peer::new(stream), case, Arc::clone(&record)));
    }
}

async fn serve(mut peer: Peer, case: Case, record: Arc<Record>) {
    if case == Case::NeverSpeak {
        return std::future::pending().await;
    }
    let settings: &[_] = match case {
        Case::MaxStreams => &[(setting::MAX_CONCURRENT_STREAMS, 1)],
        _ => &[],
    };
    if peer.greet(settings).await.is_err() {
        return;
    }
    let mut is_busy = false;
    loop {
        match peer.read().await {
            Seen::Closed => return,
            Seen::Headers { stream, ends, .. } => {
                Record::inc(&record.calls);
                if case == Case::MaxStreams && is_busy {
                    Record::inc(&record.streams_too_many);
                }
                is_busy = true;
                if ends && !answer(&mut peer, case, stream, &record).await {
                    return;
                }
            }
            Seen::Data { stream, ends: true, .. } => {
                let goes_on = answer(&mut peer, case, stream, &record).await;
                is_busy = false;
                if !goes_on {
                    return;
                }
            }
            Seen::Reset { .. } => {
                Record::inc(&record.resets);
                is_busy = false;
            }
            Seen::PingAck(_) => Record::inc(&record.pings_answered),
            _ => {}
        }
    }
}

/// The head of a response.
pub fn response_head(stream: u32) -> Vec<u8> {
    let fields = [(":status", "200"), ("content-type", "application/grpc")];
    wire::headers(stream, &block(&fields), false)
}

/// Trailers with status 0.
pub fn ok_trailers(stream: u32) -> Vec<u8> {
    wire::headers(stream, &block(&[("grpc-status", "0")]), true)
}

/// A whole response with one empty message.
pub fn ok_response(stream: u32) -> Vec<u8> {
    let data = wire::data(stream, &wire::message(&[]), false);
    [response_head(stream), data, ok_trailers(stream)].concat()
}

/// Answers a call. False when the connection is to be closed.
async fn answer(peer: &mut Peer, case: Case, stream: u32, record: &Record) -> bool {
    let head = || response_head(stream);
    let message = || wire::data(stream, &wire::message(&[]), false);
    // A prefix that announces ten bytes, and three of them.
    let part = || wire::data(stream, &[0, 0, 0, 0, 10, 1, 2, 3], false);
    let reset = || wire::reset(stream, code::CANCEL);
    let (bytes, goes_on) = match case {
        Case::GoAway => {
            ([ok_response(stream), wire::go_away(stream, code::NO_ERROR)].concat(), true)
        }
        Case::RstAfterHeader => ([head(), reset()].concat(), true),
        Case::RstDuringData => ([head(), part(), reset()].concat(), true),
        Case::RstAfterData => ([head(), message(), reset()].concat(), true),
        Case::Ping => {
            let ping = wire::ping(*b"interop!");
            (
                [ping.clone(), head(), ping.clone(), message(), ping, ok_trailers(stream)].concat(),
                true,
            )
        }
        Case::MaxStreams => (ok_response(stream), true),
        Case::RefuseStreams => (wire::reset(stream, code::REFUSED_STREAM), true),
        Case::NeverAnswer | Case::NeverSpeak => return true,
        Case::CloseMidMessage => ([head(), part()].concat(), false),
        Case::CloseOnBoundary => ([head(), message()].concat(), false),
        Case::CloseBeforeHeaders => return false,
    };
    let sent = peer.send(&bytes).await.is_ok();
    if case == Case::Ping {
        for _ in 0..3 {
            if peer.next_that("an answer to PING", |seen| matches!(seen, Seen::PingAck(_))).await
                != Seen::Closed
            {
                Record::inc(&record.pings_answered);
            }
        }
    }
    if !goes_on {
        // An orderly end, so that what was sent arrives.
        peer.finish().await;
    }
    sent && goes_on
}
