//! What goes out: heads, DATA within the windows, what has to wait for one, resets and credit. One
//! file, since whatever ends or widens a stream may set free what waits on it.

use std::sync::Arc;

use super::{Connection, Drain, Role};
use crate::{
    error::Reason,
    flood::FRAMES_PER_SENT,
    frame::{self, Head, LARGEST_STREAM_ID, flags, kind},
    hpack::{BlockKey, Field, HeaderList},
    state::State,
    stream::StreamKey,
};

/// Payloads below this size gather after the first of a turn, in bytes. What `h2` takes for small.
const SMALL_BYTES: usize = 256;

/// Bytes that waited and have gone to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed<T> {
    /// The stream, by what its owner knows it by.
    pub user: T,
    /// How many bytes of payload.
    pub bytes: usize,
}

/// Streams of ours.
impl<T: Copy + Default> Connection<T> {
    /// Streams that may be open at once for us.
    pub fn stream_limit(&self) -> usize {
        let allowed = match (self.has_settings, self.peer.max_concurrent_streams) {
            (false, _) => self.options.assumed_streams,
            (true, None) => u32::MAX,
            (true, Some(streams)) => streams,
        };
        allowed.min(self.options.max_streams) as usize
    }

    /// Whether [`Connection::open`] would give a stream.
    pub fn can_open(&self) -> bool {
        self.options.role == Role::Client
            && self.streams.len() < self.stream_limit()
            && !self.is_used_up()
            && self.drain == Drain::No
            && !self.is_failed
    }

    /// Whether no identifier is left for another stream of ours, so that a new connection has to
    /// take this one's place (RFC 9113, section 5.1.1).
    pub fn is_used_up(&self) -> bool {
        self.next_stream >= LARGEST_STREAM_ID
    }

    /// Opens a stream, on which the head of a request has to be sent next. `None` when the peer or
    /// the options allow no more.
    pub fn open(&mut self, user: T) -> Option<StreamKey> {
        if !self.can_open() {
            return None;
        }
        let id = self.next_stream;
        self.next_stream += 2;
        Some(self.insert(id, State::OURS, user))
    }

    /// Whether the stream's first HEADERS have left the output, at least in part, so that the peer
    /// may have seen them.
    pub fn was_sent(&self, key: StreamKey) -> bool {
        match self.streams.get(key) {
            Some(stream) => self.output.written() > stream.opened_at,
            None => true,
        }
    }
}

/// Messages.
impl<T: Copy + Default> Connection<T> {
    /// Sends the head of a message, or trailers where nothing waits. With a `block` key the
    /// encoded fields are remembered under it.
    #[inline]
    pub fn send_headers<'a, I>(
        &mut self,
        key: StreamKey,
        block: Option<BlockKey>,
        fields: impl FnOnce() -> I,
        end_stream: bool,
    ) where
        I: IntoIterator<Item = Field<'a>>,
    {
        let position = self.output.position();
        let Some(stream) = self.streams.get_mut(key) else { return };
        debug_assert!(!stream.state.is_send_closed(), "HEADERS after END_STREAM");
        if end_stream {
            stream.state.close_send();
        }
        stream.opened_at = stream.opened_at.min(position);
        let start = frame::begin_headers(self.output.bytes_mut());
        match block {
            Some(block) => self.encoder.encode_keyed(block, fields, self.output.bytes_mut()),
            None => self.encoder.encode(fields(), self.output.bytes_mut()),
        }
        let max = self.peer.max_frame_bytes;
        frame::finish_headers(self.output.bytes_mut(), start, key.id(), end_stream, max);
        self.floods.excuse(FRAMES_PER_SENT);
        if end_stream {
            self.after_end(key);
        }
    }

    /// Sends trailers, after the DATA that waits.
    pub fn send_trailers(&mut self, key: StreamKey, list: &HeaderList) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.state.is_send_closed() {
            return;
        }
        if stream.is_idle() {
            return self.send_headers(key, list.key(), || list.iter(), true);
        }
        let pending = stream.pending_mut();
        if pending.trailers.is_none() {
            let mut kept = HeaderList::new();
            kept.assign(list);
            self.waiting_bytes += kept.size();
            pending.trailers = Some(Box::new(kept));
        }
    }

    /// Sends DATA. Returns how many bytes of it went to the output at once; the others wait for
    /// windows or room, and [`Connection::pump`] tells when they go.
    #[inline]
    pub fn send_data(&mut self, key: StreamKey, payload: &[u8], end_stream: bool) -> usize {
        self.send(key, payload, None, end_stream)
    }

    /// Sends DATA that lies in `chunk`. A large payload is not copied, but shared with it until it
    /// is written; what has to wait is copied.
    #[inline]
    pub fn send_shared(
        &mut self,
        key: StreamKey,
        payload: &[u8],
        chunk: &Arc<Vec<u8>>,
        end_stream: bool,
    ) -> usize {
        self.send(key, payload, Some(chunk), end_stream)
    }

    #[inline]
    fn send(
        &mut self,
        key: StreamKey,
        payload: &[u8],
        chunk: Option<&Arc<Vec<u8>>>,
        end_stream: bool,
    ) -> usize {
        let has_room = self.output.len() < self.options.output_high_bytes;
        let Some(stream) = self.streams.get_mut(key) else { return 0 };
        if stream.state.is_send_closed() {
            return 0;
        }
        let mut sent = 0;
        // The small pieces of one stream gather until the next pump: passed on one by one they
        // would cost the peer more than they carry, and peers take that amiss (CVE-2019-9518).
        let gathers = payload.len() < SMALL_BYTES && stream.data_turn == self.turn && !end_stream;
        if stream.is_idle() && has_room && !gathers {
            stream.data_turn = self.turn;
            let window = stream.send_window.available().min(self.send_window.available());
            sent = payload.len().min(window);
            if sent == payload.len() && (sent > 0 || end_stream) {
                stream.send_window.spend(sent);
                self.send_window.spend(sent);
                if end_stream {
                    stream.state.close_send();
                }
                self.data_frames(key.id(), payload, chunk, end_stream);
                if end_stream {
                    self.after_end(key);
                }
                return sent;
            }
            if sent > 0 {
                stream.send_window.spend(sent);
                self.send_window.spend(sent);
                self.data_frames(key.id(), &payload[..sent], chunk, false);
            }
        }
        let Some(stream) = self.streams.get_mut(key) else { return sent };
        let pending = stream.pending_mut();
        pending.push(&payload[sent..]);
        self.waiting_bytes += payload.len() - sent;
        pending.end_stream |= end_stream;
        self.queue(key);
        sent
    }

    fn data_frames(
        &mut self,
        id: u32,
        payload: &[u8],
        chunk: Option<&Arc<Vec<u8>>>,
        end_stream: bool,
    ) {
        self.floods.excuse(FRAMES_PER_SENT);
        self.sent_bytes += payload.len() as u64;
        let max = self.peer.max_frame_bytes as usize;
        let mut rest = payload;
        loop {
            let (part, more) = rest.split_at(rest.len().min(max));
            rest = more;
            let flags = if end_stream && rest.is_empty() { flags::END_STREAM } else { 0 };
            let head = Head { length: part.len() as u32, kind: kind::DATA, flags, stream: id };
            frame::head(self.output.bytes_mut(), head);
            self.output.payload(part, chunk);
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Puts a stream into the queue of those that can send, if it can.
    #[inline]
    pub(super) fn queue(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let has_work =
            !stream.is_idle() && (stream.send_window.available() > 0 || stream.waiting() == 0);
        if has_work && !stream.is_queued {
            stream.is_queued = true;
            self.ready.push_back(key);
        }
    }

    /// Moves what waits to the output, as far as windows and room allow, a frame of each stream in
    /// turn. Appends to `moved` what went.
    pub fn pump(&mut self, moved: &mut Vec<Flushed<T>>) {
        if self.is_failed {
            return self.ready.clear();
        }
        self.turn = self.turn.wrapping_add(1).max(1);
        while self.output.len() < self.options.output_high_bytes {
            let Some(key) = self.ready.front().copied() else { return };
            let connection_window = self.send_window.available();
            let max = self.peer.max_frame_bytes as usize;
            let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.is_queued) else {
                self.ready.pop_front();
                continue;
            };
            let waiting = stream.waiting();
            if waiting > 0 && connection_window == 0 {
                return;
            }
            let length =
                waiting.min(stream.send_window.available()).min(connection_window).min(max);
            self.ready.pop_front();
            stream.is_queued = false;
            let pending = stream.pending.get_or_insert_default();
            let is_last = length == waiting && pending.trailers.is_none();
            let end_stream = is_last && pending.end_stream;
            if length > 0 || end_stream {
                stream.send_window.spend(length);
                self.send_window.spend(length);
                if end_stream {
                    stream.state.close_send();
                }
                frame::data(self.output.bytes_mut(), key.id(), pending.front(length), end_stream);
                pending.consume(length);
                self.waiting_bytes -= length;
                self.sent_bytes += length as u64;
                self.floods.excuse(FRAMES_PER_SENT);
                if length > 0 {
                    moved.push(Flushed { user: stream.user, bytes: length });
                }
            }
            self.after_move(key, end_stream);
        }
    }

    /// What follows the DATA of a stream that [`Connection::pump`] moved.
    fn after_move(&mut self, key: StreamKey, is_ended: bool) {
        if is_ended {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.pending_mut().end_stream = false;
            }
            return self.after_end(key);
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.waiting() == 0
            && let Some(trailers) = stream.pending_mut().trailers.take()
        {
            self.waiting_bytes -= trailers.size();
            return self.send_headers(key, trailers.key(), || trailers.iter(), true);
        }
        self.queue(key);
    }

    /// END_STREAM went out.
    fn after_end(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        match stream.pending.as_mut().and_then(|pending| pending.then_reset.take()) {
            Some(reason) if !stream.state.is_receive_closed() => {
                self.reset(key, reason);
            }
            _ => self.remove_if_over(key),
        }
    }

    /// Removes a stream whose two directions have ended.
    #[inline]
    pub(super) fn remove_if_over(&mut self, key: StreamKey) {
        if self.streams.get(key).is_some_and(|stream| stream.state == State::Closed) {
            self.remove(key);
        }
    }

    /// Removes a stream, and what waits with it.
    #[inline]
    pub(super) fn remove(&mut self, key: StreamKey) -> Option<T> {
        self.waiting_bytes -= self.streams.get(key).map_or(0, |stream| stream.held_bytes());
        self.unacknowledged.forget(key.id());
        self.streams.remove(key)
    }

    /// Resets a stream; what waits is dropped, and nothing is heard of it any more. Nothing happens
    /// to one that is over. Where more resets than [`super::Options::max_unacknowledged_resets`] would be
    /// under way the frame is held back until the peer has looked at those before, and the stream
    /// counts as open until then. Whether it is.
    pub fn reset(&mut self, key: StreamKey, reason: Reason) -> bool {
        if self.streams.get(key).is_none() {
            return false;
        }
        if self.unacknowledged.holds(key.id()) || self.has_to_hold(key.id()) {
            self.hold(key, reason);
            return true;
        }
        self.send_reset(key, reason);
        false
    }

    pub(super) fn send_reset(&mut self, key: StreamKey, reason: Reason) {
        let window = self.streams.get(key).map_or(0, |stream| stream.receive_window.left());
        if self.remove(key).is_some() {
            // A frame of DATA for each byte of credit at most, trailers and a reset may be on
            // their way.
            self.floods.expect_stray(window.saturating_add(2));
            frame::rst_stream(self.output.bytes_mut(), key.id(), reason);
            self.remembered.note(key.id());
        }
    }

    /// Resets a stream when what waits, and the end, have gone out: for a response that is whole
    /// while its request is not (RFC 9113, section 8.1).
    pub fn reset_after_end(&mut self, key: StreamKey, reason: Reason) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.state.is_send_closed() {
            self.reset(key, reason);
        } else {
            stream.pending_mut().then_reset = Some(reason);
        }
    }

    /// Forgets a stream without a word, for one that the peer has left out (GOAWAY).
    pub fn forget(&mut self, key: StreamKey) {
        self.remove(key);
    }
}

/// Credit and stalls.
impl<T: Copy + Default> Connection<T> {
    /// Gives the peer credit on a stream for bytes that were dealt with.
    #[inline]
    pub fn release_stream(&mut self, key: StreamKey, bytes: u32) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.state.is_receive_closed() {
            return;
        }
        if let Some(increment) = stream.receive_window.release(bytes) {
            frame::window_update(self.output.bytes_mut(), key.id(), increment);
        }
    }

    /// Gives the peer `bytes` more than the window that a stream has by SETTINGS.
    pub fn widen(&mut self, key: StreamKey, bytes: u32) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if bytes > 0 && !stream.state.is_receive_closed() {
            stream.receive_window.widen(bytes);
            frame::window_update(self.output.bytes_mut(), key.id(), bytes);
        }
    }

    /// Gives the peer credit on the connection.
    #[inline]
    pub fn release_connection(&mut self, bytes: u32) {
        if let Some(increment) = self.receive_window.release(bytes) {
            frame::window_update(self.output.bytes_mut(), 0, increment);
        }
    }

    /// Bytes of a stream that wait to be sent.
    pub fn waiting_bytes(&self, key: StreamKey) -> usize {
        self.streams.get(key).map_or(0, |stream| stream.waiting())
    }

    /// Looks for streams whose output waits and does not move, to be called every now and then.
    /// Those that had less than `least_bytes` of progress from one look to the next for
    /// `patience_ms`, counted from the first look that found something waiting, are appended to
    /// `stalled`. A drip of credit does not count as progress.
    pub fn find_stalled(
        &mut self,
        now_ms: u64,
        patience_ms: u64,
        least_bytes: u64,
        stalled: &mut Vec<(StreamKey, T)>,
    ) {
        for (key, stream) in self.streams.iter_mut() {
            let Some(pending) = &mut stream.pending else { continue };
            let moved = std::mem::take(&mut pending.moved);
            if pending.is_idle() || moved >= least_bytes {
                pending.stalled_since_ms = None;
                continue;
            }
            let since_ms = *pending.stalled_since_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since_ms) > patience_ms {
                stalled.push((key, stream.user));
            }
        }
    }
}
