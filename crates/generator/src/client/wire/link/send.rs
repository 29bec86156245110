//! What goes out: the heads of calls, and their requests as far as windows let them.

use std::{cmp::Reverse, time::Duration};

use h2_wire::{
    connection::{Flushed, StreamKey},
    hpack::Field,
};

use super::{
    Due, Link,
    origin::Origin,
    under_way::{Answered, UnderWay},
};
use crate::{
    client::{CallKind, Shape, answer::Answer, service::ServiceAnswer},
    clock::monotonic_ns,
    slots::Call,
};

/// Requests of one stream that are put into its queue ahead of its window.
const FEED_BYTES: usize = 64 << 10;

impl Link {
    /// Starts a call, if it can; says whether it did.
    pub(crate) fn start(
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
    pub(super) fn feed(&mut self, slot: usize, shape: &Shape) {
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

    /// Moves what waits for windows to the output. To be called before writing.
    pub(crate) fn pump(&mut self, shape: &Shape) {
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
    pub(crate) fn wrote(&mut self, bytes: usize, now_ns: u64) {
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
}
