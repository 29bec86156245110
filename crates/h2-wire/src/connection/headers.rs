//! Header blocks to events: requests, responses and trailers.

use super::{
    Connection, Drain, Role,
    receive::{Event, protocol},
};
use crate::{
    error::{Error, Reason},
    flood::{FRAMES_PER_RECEIVED, Flood},
    flow::{DEFAULT_WINDOW, ReceiveWindow, SendWindow},
    frame,
    hpack::{Name, Outcome},
    message::{ResponseKind, check_request, check_response, check_trailers},
    state::{Incoming, State},
    stream::{Stream, StreamKey},
};

impl<T: Copy + Default> Connection<T> {
    /// Takes a whole header block. It is decoded whatever becomes of its stream, or the tables of
    /// the two ends would part (RFC 9113, section 4.3).
    pub(super) fn block<'a>(
        &mut self,
        id: u32,
        block: &[u8],
        end_stream: bool,
        depends_on_itself: bool,
    ) -> Result<Option<Event<'a, T>>, Error> {
        let outcome = self
            .decoder
            .decode(block)
            .map_err(|error| Error::connection(Reason::COMPRESSION_ERROR, error.what()))?;
        let over_limit = outcome == Outcome::OverLimit;
        if over_limit {
            self.count_overrun()?;
        }
        if let Some(key) = self.streams.find(id) {
            if depends_on_itself {
                return self.broken(id, Reason::PROTOCOL_ERROR, "HEADERS that depend on itself");
            }
            return self.more_headers(key, end_stream, over_limit);
        }
        if self.options.role == Role::Client || id <= self.highest_peer_stream {
            self.stray(id)?;
            return Ok(None);
        }
        self.request(id, end_stream, over_limit, depends_on_itself)
    }

    /// A block that opens a stream.
    fn request<'a>(
        &mut self,
        id: u32,
        end_stream: bool,
        over_limit: bool,
        depends_on_itself: bool,
    ) -> Result<Option<Event<'a, T>>, Error> {
        if id.is_multiple_of(2) {
            return Err(protocol("a client's stream with an even identifier"));
        }
        if matches!(self.drain, Drain::Finished(_)) || self.is_failed {
            // It had not read our GOAWAY yet; but it will.
            self.count(Flood::Stray)?;
            return Ok(None);
        }
        self.highest_peer_stream = id;
        if self.streams.len() >= self.options.max_streams as usize {
            return self.refuse(id);
        }
        let mut verdict = if over_limit { Ok(()) } else { check_request(self.headers()) };
        if depends_on_itself {
            verdict = Err("HEADERS that depend on itself");
        }
        let length = self.headers().content_length();
        if end_stream && length.is_some_and(|length| length > 0) {
            verdict = Err("less DATA than content-length says");
        }
        self.floods.excuse(FRAMES_PER_RECEIVED);
        let key = self.insert(id, State::of_request(length, end_stream), T::default());
        if let Err(what) = verdict {
            // The owner has never heard of the stream.
            self.broken(id, Reason::PROTOCOL_ERROR, what)?;
            return Ok(None);
        }
        Ok(Some(Event::Request { key, end_stream, over_limit }))
    }

    /// A client that was told the limit and passes it makes a mistake; one that has not read it
    /// yet does not.
    fn refuse<'a>(&mut self, id: u32) -> Result<Option<Event<'a, T>>, Error> {
        if self.is_acknowledged {
            self.error_resets += 1;
            if self.error_resets > self.options.max_error_resets {
                let what = "too many streams beyond the limit";
                return Err(Error::connection(Reason::ENHANCE_YOUR_CALM, what));
            }
        }
        frame::rst_stream(self.output.bytes_mut(), id, Reason::REFUSED_STREAM);
        self.remembered.note(id);
        Ok(None)
    }

    pub(super) fn insert(&mut self, id: u32, state: State, user: T) -> StreamKey {
        let window_bytes = self.options.stream_window_bytes;
        // Until the peer has acknowledged ours it may count with the default.
        let window_bytes =
            if self.is_acknowledged { window_bytes } else { window_bytes.max(DEFAULT_WINDOW) };
        let mut receive_window = ReceiveWindow::new(window_bytes);
        if !self.is_acknowledged {
            receive_window.set_threshold_for(self.options.stream_window_bytes);
        }
        self.streams.insert(Stream {
            id,
            user,
            send_window: SendWindow::new(self.peer.initial_window_bytes),
            receive_window,
            state,
            is_queued: false,
            pending: None,
            opened_at: u64::MAX,
            data_turn: 0,
        })
    }

    /// A block on a stream that is open: the head of a response, or trailers.
    fn more_headers<'a>(
        &mut self,
        key: StreamKey,
        end_stream: bool,
        over_limit: bool,
    ) -> Result<Option<Event<'a, T>>, Error> {
        let id = key.id();
        let Some(stream) = self.streams.get(key) else { return Ok(None) };
        let Some(incoming) = stream.state.incoming() else {
            return self.broken(id, Reason::STREAM_CLOSED, "HEADERS after END_STREAM");
        };
        let user = stream.user;
        if over_limit {
            return self.broken(id, Reason::ENHANCE_YOUR_CALM, "header list over the limits");
        }
        if matches!(incoming, Incoming::Body { .. }) {
            return self.trailers(key, user, end_stream);
        }
        match check_response(self.headers()) {
            Err(what) => self.broken(id, Reason::PROTOCOL_ERROR, what),
            Ok(ResponseKind::Informational) if end_stream => {
                self.broken(id, Reason::PROTOCOL_ERROR, "informational response with END_STREAM")
            }
            Ok(_) if self.unacknowledged.holds(id) => {
                // Nobody waits for it; but the peer has taken the stream up.
                if end_stream && let Some(stream) = self.streams.get_mut(key) {
                    stream.state.close_receive();
                }
                self.remove_if_over(key);
                self.on_head(id);
                Ok(None)
            }
            Ok(ResponseKind::Informational) => Ok(Some(Event::Informational { key, user })),
            Ok(ResponseKind::Final) => {
                let length = self.promised_length();
                if let Some(stream) = self.streams.get_mut(key)
                    && let Err((reason, what)) = stream.state.receive_head(length, end_stream)
                {
                    return self.broken(id, reason, what);
                }
                self.remove_if_over(key);
                self.on_head(id);
                Ok(Some(Event::Response { key, user, end_stream }))
            }
        }
    }

    /// The `content-length` of the response whose head came, if it says how much DATA follows. To
    /// a conditional request it may say what there would have been (RFC 9110, section 8.6).
    fn promised_length(&self) -> Option<u64> {
        let length = self.headers().content_length()?;
        (self.headers().value_of(Name::Status) != Some(b"304")).then_some(length)
    }

    fn trailers<'a>(
        &mut self,
        key: StreamKey,
        user: T,
        end_stream: bool,
    ) -> Result<Option<Event<'a, T>>, Error> {
        let verdict = match check_trailers(self.headers()) {
            Ok(()) if !end_stream => Err("trailers without END_STREAM"),
            verdict => verdict,
        };
        if let Err(what) = verdict {
            return self.broken(key.id(), Reason::PROTOCOL_ERROR, what);
        }
        if let Some(stream) = self.streams.get_mut(key)
            && let Err((reason, what)) = stream.state.receive_end()
        {
            return self.broken(key.id(), reason, what);
        }
        self.remove_if_over(key);
        Ok(Some(Event::Trailers { key, user }))
    }
}
