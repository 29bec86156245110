//! A backend that follows a script: for each attempt at each call it is told
//! what to do, and it keeps what it was sent.
//!
//! A call is known by its `x-call` header, so that the same script serves
//! whatever connection, stream or order a proxy chooses. It keeps to flow
//! control, which a script does not have to think of.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::task::{JoinHandle, JoinSet};

use crate::{
    peer::{End, Fields, Peer, RawServer, Seen, field},
    wire::{self, block, setting},
};

/// The header whose value names a call.
pub const CALL: &str = "x-call";

/// One thing that a backend does on a stream, or waits for.
#[derive(Clone, Debug)]
pub enum Act {
    /// Waits for the end of the request.
    AwaitEnd,
    /// Waits until so many bytes of the request's body have come.
    AwaitBytes(usize),
    /// A header block that does not end the response.
    Headers(Fields),
    /// A header block that ends the response.
    EndHeaders(Fields),
    /// DATA that does not end the response, in frames that everybody takes.
    Data(Vec<u8>),
    /// DATA that ends the response; it must fit a frame and the window.
    EndData(Vec<u8>),
    /// Sends the request's body back, piece by piece as it comes, to its end.
    Echo,
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY. It leaves this stream out, or names it as the last.
    GoAway {
        /// Whether the stream is left out.
        leaves_out: bool,
    },
    /// Closes the connection, after all that was sent.
    Close,
    /// Bytes as they are.
    Raw(Vec<u8>),
}

/// Everything that is done for one attempt at a call.
pub type Plan = Vec<Act>;

/// An attempt at a call, as the backend saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The value of `x-call`.
    pub call: String,
    /// The request's header fields.
    pub fields: Fields,
    /// The request's body.
    pub body: Vec<u8>,
    /// The request's trailers.
    pub trailers: Option<Fields>,
    /// How the request ended, from the client's side: a reset counts also when
    /// the request had been whole before it.
    pub end: Option<End>,
}

#[derive(Default)]
struct Record {
    plans: HashMap<String, Vec<Plan>>,
    attempts: Vec<Attempt>,
}

/// A backend with a script. It ends when it is dropped, or with the runtime.
pub struct ScriptedBackend {
    addr: SocketAddr,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

impl ScriptedBackend {
    /// A backend on a free port that has these plans for each call's attempts,
    /// the last of them for all that follow, and sends these SETTINGS.
    pub async fn start(plans: HashMap<String, Vec<Plan>>, settings: Vec<(u16, u32)>) -> Self {
        let server = RawServer::start().await;
        let addr = server.addr();
        let record = Arc::new(Mutex::new(Record { plans, attempts: Vec::new() }));
        let task = tokio::spawn(accept(server, settings, Arc::clone(&record)));
        Self { addr, record, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What has come so far, in the order of the header blocks.
    ///
    /// # Panics
    /// When a connection's task panicked.
    pub fn attempts(&self) -> Vec<Attempt> {
        lock(&self.record).attempts.clone()
    }
}

impl Drop for ScriptedBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap()
}

async fn accept(server: RawServer, settings: Vec<(u16, u32)>, record: Arc<Mutex<Record>>) {
    // Dropping the set with this task ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = server.listener().accept().await else { return };
        let (settings, record) = (settings.clone(), Arc::clone(&record));
        connections.spawn(async move {
            let mut peer = Peer::new(stream);
            if peer.greet(&settings).await.is_ok() {
                Connection::new(peer, record).run().await;
            }
        });
    }
}

/// The largest payload that everybody takes.
const FRAME_BYTES: usize = 16_384;
/// The window of everything before SETTINGS and WINDOW_UPDATE say otherwise.
const FIRST_WINDOW: i64 = 65_535;

struct Stream {
    /// The index of the attempt in the record.
    attempt: usize,
    acts: VecDeque<Act>,
    window: i64,
    echoed: usize,
    is_whole: bool,
}

struct Connection {
    peer: Peer,
    record: Arc<Mutex<Record>>,
    streams: BTreeMap<u32, Stream>,
    window: i64,
    first_window: i64,
}

impl Connection {
    fn new(peer: Peer, record: Arc<Mutex<Record>>) -> Self {
        let (window, first_window) = (FIRST_WINDOW, FIRST_WINDOW);
        Self { peer, record, streams: BTreeMap::new(), window, first_window }
    }

    async fn run(mut self) {
        loop {
            let seen = self.peer.read().await;
            if seen == Seen::Closed {
                return self.close();
            }
            if !self.take(seen).await || !self.go_on().await {
                // An orderly end, so that what was sent arrives.
                self.peer.finish().await;
                while self.peer.read().await != Seen::Closed {}
                return self.close();
            }
        }
    }

    /// Books what came. False when the other side is gone.
    async fn take(&mut self, seen: Seen) -> bool {
        match seen {
            Seen::Headers { stream, fields, ends } => self.headers(stream, fields, ends),
            Seen::Data { stream, payload, ends } => {
                let credit = payload.len() as u32;
                if let Some(found) = self.streams.get_mut(&stream) {
                    found.is_whole |= ends;
                    let attempt = &mut lock(&self.record).attempts[found.attempt];
                    attempt.body.extend(payload);
                    attempt.end = attempt.end.or(ends.then_some(End::Whole));
                }
                if credit > 0 && !ends {
                    return self.peer.send(&wire::window_update(stream, credit)).await.is_ok();
                }
            }
            Seen::Reset { stream, code } => {
                if let Some(found) = self.streams.remove(&stream) {
                    lock(&self.record).attempts[found.attempt].end = Some(End::Reset(code));
                }
            }
            Seen::Settings(values) => {
                for (_, value) in
                    values.iter().filter(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE)
                {
                    let shift = i64::from(*value) - self.first_window;
                    self.first_window = i64::from(*value);
                    self.streams.values_mut().for_each(|stream| stream.window += shift);
                }
            }
            Seen::WindowUpdate { stream: 0, increment } => self.window += i64::from(increment),
            Seen::WindowUpdate { stream, increment } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.window += i64::from(increment);
                }
            }
            _ => {}
        }
        true
    }

    fn headers(&mut self, id: u32, fields: Fields, ends: bool) {
        let mut record = lock(&self.record);
        let end = ends.then_some(End::Whole);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_whole |= ends;
            let attempt = &mut record.attempts[stream.attempt];
            attempt.trailers = Some(fields);
            attempt.end = end;
            return;
        }
        let call = field(&fields, CALL).unwrap_or_default().to_owned();
        let before = record.attempts.iter().filter(|attempt| attempt.call == call).count();
        let plans = record.plans.get(&call).map_or(&[][..], Vec::as_slice);
        let plan = plans.get(before).or(plans.last()).cloned().unwrap_or_default();
        let stream = Stream {
            attempt: record.attempts.len(),
            acts: plan.into(),
            window: self.first_window,
            echoed: 0,
            is_whole: ends,
        };
        record.attempts.push(Attempt { call, fields, body: Vec::new(), trailers: None, end });
        self.streams.insert(id, stream);
    }

    /// Does all that can be done now. False when the connection is to be closed.
    async fn go_on(&mut self) -> bool {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            let mut bytes = Vec::new();
            let mut goes_on = true;
            while goes_on && let Some(step) = self.step(id) {
                match step {
                    Step::Send(more) => bytes.extend(more),
                    Step::Close => goes_on = false,
                }
            }
            if self.peer.send(&bytes).await.is_err() || !goes_on {
                return false;
            }
        }
        true
    }

    /// The next step on a stream; `None` when it has to wait, or is over. One arm for each act.
    fn step(&mut self, id: u32) -> Option<Step> {
        let stream = self.streams.get_mut(&id)?;
        let room = stream.window.min(self.window).clamp(0, FRAME_BYTES as i64) as usize;
        let mut record = lock(&self.record);
        let attempt = &mut record.attempts[stream.attempt];
        let is_due = match stream.acts.front()? {
            Act::AwaitEnd => stream.is_whole,
            Act::AwaitBytes(bytes) => attempt.body.len() >= *bytes,
            Act::Data(bytes) => room > 0 || bytes.is_empty(),
            Act::Echo => stream.is_whole || room > 0 && stream.echoed < attempt.body.len(),
            _ => true,
        };
        if !is_due {
            return None;
        }
        let mut spend = |stream: &mut Stream, bytes: usize| {
            stream.window -= bytes as i64;
            self.window -= bytes as i64;
        };
        Some(match stream.acts.pop_front()? {
            Act::AwaitEnd | Act::AwaitBytes(_) => Step::Send(Vec::new()),
            Act::Headers(fields) => Step::Send(wire::headers(id, &block(&fields), false)),
            Act::EndHeaders(fields) => Step::Send(wire::headers(id, &block(&fields), true)),
            Act::Data(mut bytes) => {
                let rest = bytes.split_off(bytes.len().min(room));
                if !rest.is_empty() {
                    stream.acts.push_front(Act::Data(rest));
                }
                spend(stream, bytes.len());
                Step::Send(wire::data(id, &bytes, false))
            }
            Act::EndData(bytes) => {
                spend(stream, bytes.len());
                Step::Send(wire::data(id, &bytes, true))
            }
            Act::Echo => {
                let left = &attempt.body[stream.echoed..];
                let part = &left[..left.len().min(room)];
                if !stream.is_whole || part.len() < left.len() {
                    stream.acts.push_front(Act::Echo);
                }
                if part.is_empty() {
                    // Only its end was due, or there is no room for the rest.
                    return (left.is_empty()).then(|| Step::Send(Vec::new()));
                }
                let frame = wire::data(id, part, false);
                stream.echoed += part.len();
                spend(stream, frame.len() - 9);
                Step::Send(frame)
            }
            Act::Reset(code) => {
                // What the other side thinks of it no longer counts.
                attempt.end.get_or_insert(End::Closed);
                self.streams.remove(&id);
                Step::Send(wire::reset(id, code))
            }
            Act::GoAway { leaves_out } => {
                if leaves_out {
                    attempt.end = Some(End::Closed);
                }
                let last = if leaves_out { id.saturating_sub(2) } else { id };
                Step::Send(wire::go_away(last, wire::code::NO_ERROR))
            }
            Act::Close => Step::Close,
            Act::Raw(bytes) => Step::Send(bytes),
        })
    }

    /// The connection is over: what had not ended has by this.
    fn close(&mut self) {
        let mut record = lock(&self.record);
        for stream in self.streams.values() {
            record.attempts[stream.attempt].end.get_or_insert(End::Closed);
        }
    }
}

enum Step {
    Send(Vec<u8>),
    Close,
}
