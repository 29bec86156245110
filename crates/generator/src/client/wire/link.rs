//! One TCP connection of the wire client: calls to frames, frames to answers.
//!
//! Sans I/O: [`Link::read`] takes what came, `http` holds what is to be sent. The
//! task that owns the socket is `super::task`.

mod origin;
mod send;
mod under_way;

use std::{cmp::Reverse, collections::BinaryHeap};

use balance::{LOAD_REPORT_TRAILER, LoadReport};
use h2_wire::{
    Reason,
    connection::{Connection, Event, Flushed, Options, Role, StreamKey},
};
use measure::calllog::FailureKind;
pub(super) use origin::Origin;
use under_way::{UnderWay, failure_of_reset};

use super::message::RequestTemplate;
use crate::{
    client::{Ended, Shape},
    slots::Call,
};

/// Wide enough that responses of many streams are never held back by us.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Streams a scenario may ask for; the server's own limit counts.
const MAX_STREAMS: u32 = 100_000;
/// Output that is gathered before DATA waits with its stream.
const OUTPUT_HIGH_BYTES: usize = 4 << 20;

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
        let Some(Some(under_way)) = self.calls.get_mut(slot as usize) else {
            return Happened::Nothing;
        };
        under_way.take_head(self.http.headers(), shape);
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
            if let Some(ended) = under_way.complete(shape) {
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
        let list = self.http.headers();
        let report = list.value_of_name(LOAD_REPORT_TRAILER.as_bytes());
        self.report = report.and_then(LoadReport::from_trailer);
        let Some(Some(under_way)) = self.calls.get_mut(slot as usize) else {
            return Happened::Nothing;
        };
        let ended = under_way.take_trailers(list, shape);
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

#[cfg(test)]
mod tests;
