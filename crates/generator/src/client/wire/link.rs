//! One TCP connection of the wire client: calls to frames, frames to answers.
//!
//! Sans I/O: [`Link::read`] takes what came, `http` holds what is to be sent. The
//! task that owns the socket is in the parent module.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use balance::{LOAD_REPORT_TRAILER, LoadReport};
use h2_wire::{
    Reason,
    connection::{Connection, Event, Flushed, Options, Role, StreamKey},
    hpack::{BlockKey, Field, HeaderList, Name},
};
use measure::calllog::FailureKind;

use super::message::{PREFIX_LEN, RequestTemplate, read_reply};
use crate::{
    client::{CallKind, Ended, Shape, answer::Answer, service::ServiceAnswer},
    clock::monotonic_ns,
    slots::Call,
};

/// Wide enough that responses of many streams are never held back by us.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Requests of one stream that are put into its queue ahead of its window.
const FEED_BYTES: usize = 64 << 10;
/// Largest message taken; the largest payload a scenario may ask for passes.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Streams a scenario may ask for; the server's own limit counts.
const MAX_STREAMS: u32 = 100_000;
/// Output that is gathered before DATA waits with its stream.
const OUTPUT_HIGH_BYTES: usize = 4 << 20;

/// What the heads of a connection's calls have in common.
#[derive(Debug)]
pub(super) struct Origin {
    scheme: &'static [u8],
    authority: String,
    /// The head of every call of the echo service, and its deadline as that has it.
    echo: (BlockKey, &'static str),
    timeout: Option<String>,
}

impl Origin {
    pub(super) fn new(shape: &Shape, authority: String, is_secure: bool) -> Self {
        let path = match shape {
            Shape::Service(_) => "",
            Shape::Echo(shape) => match shape.kind {
                CallKind::Unary => "/layerlab.echo.v1.Echo/Unary",
                CallKind::ServerStream => "/layerlab.echo.v1.Echo/ServerStream",
                CallKind::ClientStream => "/layerlab.echo.v1.Echo/ClientStream",
                CallKind::Bidi => "/layerlab.echo.v1.Echo/Bidi",
            },
        };
        let scheme: &[u8] = if is_secure { b"https" } else { b"http" };
        let timeout = match shape {
            Shape::Service(_) => None,
            Shape::Echo(shape) => shape.deadline.map(grpc_call::grpc_timeout),
        };
        Self { scheme, authority, echo: (BlockKey::unique(), path), timeout }
    }

    fn echo_fields(&self) -> impl Iterator<Item = Field<'_>> {
        let timeout = self.timeout.as_ref();
        let timeout = timeout.map(|text| Field::new(b"grpc-timeout", text.as_bytes()));
        self.fields(self.echo.1).into_iter().chain(timeout)
    }

    fn fields<'a>(&'a self, path: &'a str) -> [Field<'a>; 7] {
        [
            Field::new(b":method", b"POST"),
            Field::new(b":scheme", self.scheme),
            Field::new(b":path", path.as_bytes()),
            Field::new(b":authority", self.authority.as_bytes()),
            Field::new(b"te", b"trailers"),
            Field::new(b"content-type", b"application/grpc"),
            Field::new(b"user-agent", b"layerlab"),
        ]
    }
}

/// A call on its way, by its slot.
struct UnderWay {
    call: Call,
    key: StreamKey,
    answer: Answered,
    /// A response message of which more is to come, prefix included.
    partial: Vec<u8>,
    /// The HTTP status was not 200: what gRPC makes of it.
    refused: Option<FailureKind>,
    /// Requests not yet given to the connection, and the number of the next.
    requests_left: u32,
    next_sequence: u64,
    /// Between two requests; zero for none.
    pause_ns: u64,
    /// When the last byte of its requests was handed to the socket.
    written_ns: Option<u64>,
}

/// What has come back, by the service that is called.
enum Answered {
    Echo(Answer),
    Service(ServiceAnswer),
}

/// Something that is due on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Its next request.
    Request,
    /// Its end.
    Deadline,
}

/// Something the owner has to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// A call ended. The time is when the last byte of its requests was handed to the
    /// socket, if all of them were.
    Ended(Call, Ended, Option<u64>),
    /// The server had not looked at a call, which can be sent elsewhere.
    Unprocessed(Call, u64),
    /// The server leaves: no more calls here.
    Leaving,
    /// The server's SETTINGS came: it speaks HTTP/2, and more calls may fit.
    Settings,
    /// Nothing that matters.
    Nothing,
}

/// What [`Link::read`] found.
pub(super) struct Read {
    /// Bytes of the input that were dealt with.
    pub(super) consumed: usize,
    /// `None` when the rest is not a whole frame.
    pub(super) happened: Option<Happened>,
}

/// A connection's state.
pub(super) struct Link {
    /// Streams are known by their slots.
    pub(super) http: Connection<u32>,
    calls: Vec<Option<UnderWay>>,
    /// What the echo service is asked; none for other services.
    template: Option<RequestTemplate>,
    /// What is due when, on which stream and slot. Streams that are over stay until
    /// their time.
    timers: BinaryHeap<Reverse<(u64, u32, u32, Due)>>,
    /// Kept for its memory.
    scratch: Vec<u8>,
    /// Calls whose last request was given to the connection and not yet to the socket, by
    /// slot and stream.
    unwritten: Vec<(u32, u32)>,
    moved: Vec<Flushed<u32>>,
    is_leaving: bool,
    /// Calls above this stream were not looked at, and are handed back one by one.
    not_seen_above: Option<u32>,
    /// What the trailers that were read last say of the server's load.
    report: Option<LoadReport>,
}

impl Link {
    pub(super) fn new(shape: &Shape) -> Self {
        let mut options = Options::new(Role::Client);
        options.stream_window_bytes = STREAM_WINDOW_BYTES;
        options.connection_window_bytes = CONNECTION_WINDOW_BYTES;
        options.max_streams = MAX_STREAMS;
        options.output_high_bytes = OUTPUT_HIGH_BYTES;
        let template = match shape {
            Shape::Echo(shape) => {
                Some(RequestTemplate::new(&shape.payload, shape.bytes(0), shape.messages))
            }
            Shape::Service(_) => None,
        };
        Self {
            http: Connection::new(options.into()),
            calls: Vec::new(),
            template,
            timers: BinaryHeap::new(),
            scratch: Vec::new(),
            unwritten: Vec::new(),
            moved: Vec::new(),
            is_leaving: false,
            not_seen_above: None,
            report: None,
        }
    }

    /// Whether a call can go out now.
    pub(super) fn can_start(&self) -> bool {
        !self.is_leaving && self.http.can_open()
    }

    /// Whether it takes no more calls.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// No more calls here: it ends when those it has are done.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Whether it carries no call.
    pub(super) fn is_idle(&self) -> bool {
        self.http.open_streams() == 0
    }

    /// Starts a call, if it can; says whether it did.
    pub(super) fn start(
        &mut self,
        call: Call,
        sequence: u64,
        origin: &Origin,
        shape: &Shape,
    ) -> bool {
        if !self.can_start() {
            return false;
        }
        let Some(key) = self.http.open(call.slot) else { return false };
        let (answer, requests_left, pause_ns) =
            self.send_head((key, call.slot), sequence, origin, shape);
        let slot = call.slot as usize;
        if self.calls.len() <= slot {
            self.calls.resize_with(slot + 1, || None);
        }
        self.calls[slot] = Some(UnderWay {
            call,
            key,
            answer,
            partial: Vec::new(),
            refused: None,
            requests_left,
            next_sequence: sequence,
            pause_ns,
            written_ns: None,
        });
        if requests_left == 0 {
            self.unwritten.push((call.slot, key.id()));
        }
        self.feed(slot, shape);
        true
    }

    /// Sends the head of a call. Returns how its answer is read, how many requests follow,
    /// and the pause before each of them.
    fn send_head(
        &mut self,
        (key, slot): (StreamKey, u32),
        sequence: u64,
        origin: &Origin,
        shape: &Shape,
    ) -> (Answered, u32, u64) {
        match shape {
            Shape::Echo(shape) => {
                let block = origin.echo.0;
                self.http.send_headers(key, Some(block), || origin.echo_fields(), false);
                self.bound(key, slot, shape.deadline);
                let requests = match shape.kind {
                    CallKind::Unary | CallKind::ServerStream => 1,
                    CallKind::ClientStream | CallKind::Bidi => shape.messages,
                };
                (Answered::Echo(Answer::new(shape, sequence)), requests, 0)
            }
            Shape::Service(shape) => {
                let (prepared, rules) = shape.call(sequence);
                let (head, block) = shape.head(prepared);
                let metadata = || {
                    head.metadata
                        .iter()
                        .map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes()))
                };
                let fields = || origin.fields(&head.path).into_iter().chain(metadata());
                let requests = prepared.messages.len() as u32;
                // A stream without a request ends with its head.
                self.http.send_headers(key, block, fields, requests == 0);
                self.bound(key, slot, rules.deadline);
                let pause_ns = rules.pause.as_nanos() as u64;
                (Answered::Service(ServiceAnswer::new(sequence)), requests, pause_ns)
            }
        }
    }

    /// Ends a call at its deadline, if it has one.
    fn bound(&mut self, key: StreamKey, slot: u32, deadline: Option<Duration>) {
        if let Some(deadline) = deadline {
            let due_ns = monotonic_ns().saturating_add(deadline.as_nanos() as u64);
            self.timers.push(Reverse((due_ns, key.id(), slot, Due::Deadline)));
        }
    }

    /// Gives the connection requests of a call, as far as they may queue.
    fn feed(&mut self, slot: usize, shape: &Shape) {
        let Some(Some(under_way)) = self.calls.get_mut(slot) else { return };
        while under_way.requests_left > 0 && self.http.waiting_bytes(under_way.key) < FEED_BYTES {
            under_way.requests_left -= 1;
            let is_last = under_way.requests_left == 0;
            let message = match (shape, &under_way.answer, &self.template) {
                (Shape::Service(shape), Answered::Service(answer), _) => {
                    let messages = &shape.call(answer.number()).0.messages;
                    &messages[messages.len() - 1 - under_way.requests_left as usize]
                }
                (Shape::Echo(shape), _, Some(template)) => {
                    let sequence = under_way.next_sequence;
                    template.write(sequence, shape.bytes(sequence), &mut self.scratch);
                    under_way.next_sequence += 1;
                    &self.scratch
                }
                // A link is made for one service, and called with no other.
                _ => return,
            };
            self.http.send_data(under_way.key, message, is_last);
            if is_last {
                self.unwritten.push((under_way.call.slot, under_way.key.id()));
            }
            if under_way.pause_ns > 0 && !is_last {
                let due_ns = monotonic_ns().saturating_add(under_way.pause_ns);
                let (stream, slot) = (under_way.key.id(), under_way.call.slot);
                return self.timers.push(Reverse((due_ns, stream, slot, Due::Request)));
            }
        }
    }

    /// When something is due on a call; a time of the monotonic clock.
    pub(super) fn next_timer_ns(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((due_ns, ..))| *due_ns)
    }

    /// Does one thing that is due at `now_ns`; `None` when nothing is.
    pub(super) fn tick(&mut self, now_ns: u64, shape: &Shape) -> Option<Happened> {
        if self.next_timer_ns()? > now_ns {
            return None;
        }
        let Reverse((_, stream, slot, due)) = self.timers.pop()?;
        let under_way = self.calls.get(slot as usize).and_then(Option::as_ref);
        if under_way.is_none_or(|under_way| under_way.key.id() != stream) {
            return Some(Happened::Nothing);
        }
        match due {
            Due::Request => {
                self.feed(slot as usize, shape);
                Some(Happened::Nothing)
            }
            Due::Deadline => Some(self.end(slot, Ended::Failed(FailureKind::from_status(4)))),
        }
    }

    /// Moves what waits for windows to the output. To be called before writing.
    pub(super) fn pump(&mut self, shape: &Shape) {
        let mut moved = std::mem::take(&mut self.moved);
        self.http.pump(&mut moved);
        for Flushed { user, .. } in moved.drain(..) {
            // What pauses is fed by its timer.
            let pauses = |under_way: &UnderWay| under_way.pause_ns > 0;
            let under_way = self.calls.get(user as usize).and_then(Option::as_ref);
            if !under_way.is_some_and(pauses) {
                self.feed(user as usize, shape);
            }
        }
        self.moved = moved;
    }

    /// Bytes of the output were handed to the socket, by a write that began at `now_ns`.
    /// Where the socket took a part, the calls in it are known with the rest.
    pub(super) fn wrote(&mut self, bytes: usize, now_ns: u64) {
        self.http.wrote(bytes);
        if self.unwritten.is_empty() || !self.http.output().is_empty() {
            return;
        }
        let (calls, http) = (&mut self.calls, &self.http);
        self.unwritten.retain(|&(slot, stream)| {
            let under_way = calls.get_mut(slot as usize).and_then(Option::as_mut);
            let Some(under_way) = under_way.filter(|one| one.key.id() == stream) else {
                return false;
            };
            // What a window holds back is not in the output yet.
            let is_held_back = http.waiting_bytes(under_way.key) > 0;
            if !is_held_back {
                under_way.written_ns = Some(now_ns);
            }
            is_held_back
        });
    }

    /// Reads up to the first thing that happened.
    ///
    /// # Errors
    /// When the server broke the protocol: the connection is of no more use.
    pub(super) fn read(&mut self, input: &[u8], shape: &Shape) -> Result<Read, h2_wire::Error> {
        if let Some(happened) = self.hand_back() {
            return Ok(Read { consumed: 0, happened: Some(happened) });
        }
        let read = self.http.read(input)?;
        let consumed = read.consumed;
        let Some(event) = read.event else { return Ok(Read { consumed, happened: None }) };
        let happened = match event {
            Event::Data { key, user, payload, end_stream } => {
                self.data(key, user, payload, end_stream, shape)
            }
            Event::Trailers { user, .. } => self.trailers(user, shape),
            Event::Response { user, end_stream, .. } => self.response(user, end_stream, shape),
            Event::Reset { user, reason } | Event::Broken { user, reason } => {
                self.end(user, Ended::Failed(failure_of_reset(reason)))
            }
            Event::GoAway { last_stream, .. } => {
                self.is_leaving = true;
                self.not_seen_above = Some(last_stream);
                Happened::Leaving
            }
            Event::Settings => Happened::Settings,
            Event::Request { .. }
            | Event::Informational { .. }
            | Event::Acknowledged
            | Event::DrainAcknowledged
            | Event::PingAcknowledged => Happened::Nothing,
        };
        Ok(Read { consumed, happened: Some(happened) })
    }

    /// The next call that the server has not looked at.
    fn hand_back(&mut self) -> Option<Happened> {
        let last = self.not_seen_above?;
        let index = self
            .calls
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|under_way| under_way.key.id() > last));
        let Some(under_way) = index.and_then(|index| self.calls[index].take()) else {
            self.not_seen_above = None;
            return None;
        };
        self.http.forget(under_way.key);
        Some(Happened::Unprocessed(under_way.call, under_way.first_sequence()))
    }

    fn response(&mut self, slot: u32, end_stream: bool, shape: &Shape) -> Happened {
        let refused = failure_of_status(self.http.headers());
        let Some(Some(under_way)) = self.calls.get_mut(slot as usize) else {
            return Happened::Nothing;
        };
        under_way.refused = refused;
        if let (Answered::Service(answer), Shape::Service(shape)) = (&mut under_way.answer, shape) {
            answer.take_header(shape, self.http.headers());
        }
        // A head that is also the end carries the trailers.
        if end_stream { self.trailers(slot, shape) } else { Happened::Nothing }
    }

    fn data(
        &mut self,
        key: StreamKey,
        slot: u32,
        payload: &[u8],
        end_stream: bool,
        shape: &Shape,
    ) -> Happened {
        let bytes = payload.len() as u32;
        self.http.release_connection(bytes);
        self.http.release_stream(key, bytes);
        if let Some(Some(under_way)) = self.calls.get_mut(slot as usize) {
            under_way.take(payload, shape);
            if let (Answered::Service(answer), Shape::Service(shape)) = (&under_way.answer, shape)
                && answer.is_complete(shape)
            {
                let ended = answer.ended(shape);
                return self.end(slot, ended);
            }
        }
        // The end without trailers is one without a status.
        if end_stream {
            self.end(slot, Ended::Failed(FailureKind::from_status(2)))
        } else {
            Happened::Nothing
        }
    }

    /// What the trailers of the call that has just ended say of the server's load.
    pub(super) fn take_report(&mut self) -> Option<LoadReport> {
        self.report.take()
    }

    fn trailers(&mut self, slot: u32, shape: &Shape) -> Happened {
        let status = grpc_status(self.http.headers());
        let report = self.http.headers().value_of_name(LOAD_REPORT_TRAILER.as_bytes());
        self.report = report.and_then(LoadReport::from_trailer);
        let Some(Some(under_way)) = self.calls.get_mut(slot as usize) else {
            return Happened::Nothing;
        };
        let is_whole = under_way.partial.is_empty();
        let ended = match (under_way.refused, &mut under_way.answer, shape) {
            (Some(refused), ..) => Ended::Failed(refused),
            (None, _, _) if status == Some(0) && !is_whole => {
                Ended::Failed(FailureKind::WrongPayload)
            }
            (None, Answered::Service(answer), Shape::Service(shape)) => {
                answer.trailers(shape, status, self.http.headers())
            }
            (None, Answered::Echo(answer), Shape::Echo(shape)) if status == Some(0) => {
                answer.ended(shape)
            }
            _ => Ended::Failed(FailureKind::from_status(status.unwrap_or(2))),
        };
        self.end(slot, ended)
    }

    fn end(&mut self, slot: u32, ended: Ended) -> Happened {
        let Some(under_way) = self.calls.get_mut(slot as usize).and_then(Option::take) else {
            return Happened::Nothing;
        };
        if self.http.is_open(under_way.key) {
            // The answer is whole and the request is not: nobody wants the rest.
            self.http.reset(under_way.key, Reason::CANCEL);
        }
        Happened::Ended(under_way.call, ended, under_way.written_ns)
    }

    /// Takes every call that is still under way, for a connection that broke.
    pub(super) fn take_calls(&mut self) -> Vec<Call> {
        self.calls.iter_mut().filter_map(|slot| slot.take().map(|one| one.call)).collect()
    }
}

impl UnderWay {
    /// The number the call started with.
    fn first_sequence(&self) -> u64 {
        match &self.answer {
            Answered::Echo(answer) => answer.first_sequence(),
            Answered::Service(answer) => answer.number(),
        }
    }

    /// A message that can't be read.
    fn spoil(&mut self) {
        match &mut self.answer {
            Answered::Echo(answer) => answer.spoil(),
            Answered::Service(answer) => answer.spoil(),
        }
    }

    /// Takes a piece of the stream of messages. A piece that holds whole messages
    /// is read where it lies.
    fn take(&mut self, mut piece: &[u8], shape: &Shape) {
        if !self.partial.is_empty() {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(piece);
            let taken = self.take_whole(&partial, shape);
            partial.drain(..taken);
            self.partial = partial;
            return;
        }
        let taken = self.take_whole(piece, shape);
        piece = &piece[taken..];
        self.partial.extend_from_slice(piece);
    }

    /// Reads whole messages from the front; returns how many bytes they had.
    fn take_whole(&mut self, bytes: &[u8], shape: &Shape) -> usize {
        let mut taken = 0;
        while let Some([flag, length @ ..]) = bytes[taken..].first_chunk::<PREFIX_LEN>() {
            let length = u32::from_be_bytes(*length) as usize;
            if *flag != 0 || length > MAX_MESSAGE_BYTES {
                self.spoil();
                return bytes.len();
            }
            let start = taken + PREFIX_LEN;
            let Some(message) = bytes.get(start..start + length) else { break };
            match (&mut self.answer, shape) {
                (Answered::Service(answer), Shape::Service(shape)) => answer.take(shape, message),
                (Answered::Echo(answer), Shape::Echo(shape)) => match read_reply(message) {
                    Ok(reply) => answer.take(shape, &reply),
                    Err(_) => answer.spoil(),
                },
                // A link is made for one service.
                _ => {}
            }
            taken = start + length;
        }
        taken
    }
}

fn grpc_status(list: &HeaderList) -> Option<i32> {
    std::str::from_utf8(list.value_of(Name::GrpcStatus)?).ok()?.parse().ok()
}

/// What gRPC makes of an HTTP status that is not 200
/// (`http-grpc-status-mapping.md`); `None` for 200.
fn failure_of_status(list: &HeaderList) -> Option<FailureKind> {
    let code = match list.value_of(Name::Status) {
        Some(b"200") => return None,
        Some(b"400") => 13,
        Some(b"401") => 16,
        Some(b"403") => 7,
        Some(b"404") => 12,
        Some(b"429" | b"502" | b"503" | b"504") => 14,
        _ => 2,
    };
    Some(FailureKind::from_status(code))
}

/// What gRPC makes of RST_STREAM (`PROTOCOL-HTTP2.md`, "Errors").
fn failure_of_reset(reason: Reason) -> FailureKind {
    FailureKind::from_status(match reason {
        Reason::REFUSED_STREAM => 14,
        Reason::CANCEL => 1,
        Reason::ENHANCE_YOUR_CALM => 8,
        Reason::INADEQUATE_SECURITY => 7,
        _ => 13,
    })
}

#[cfg(test)]
mod tests;
