//! Frames to events.

use super::{
    Connection, Role,
    shutdown::{DRAIN_PING, Drain, LIVENESS_PING},
};
use crate::{
    error::{Error, Reason},
    flood::{FRAMES_PER_RECEIVED, Flood},
    frame::{self, Frame, HEAD_LEN, Head, PREFACE, Priority, SettingsIter, kind, parse_payload},
    stream::StreamKey,
};

/// What [`Connection::read`] found.
#[derive(Debug)]
pub struct Read<'a, T> {
    /// Bytes of the input that are dealt with.
    pub consumed: usize,
    /// What the last of them mean; `None` when the rest is not a whole frame.
    pub event: Option<Event<'a, T>>,
}

/// Something the owner has to act on. Where `list` is named, [`Connection::headers`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a, T> {
    /// A stream was opened by a well-formed request, whose list is there unless it was over the
    /// limits. [`Connection::set_user`] gives it its name.
    Request {
        /// The stream.
        key: StreamKey,
        /// The request has no body.
        end_stream: bool,
        /// The list broke the limits and was dropped.
        over_limit: bool,
    },
    /// The final head of a response came. A list over the limits is a broken stream instead.
    Response {
        /// The stream, which may be over by this.
        key: StreamKey,
        /// Its name.
        user: T,
        /// The response has no body and no trailers.
        end_stream: bool,
    },
    /// A 1xx head came.
    Informational {
        /// The stream.
        key: StreamKey,
        /// Its name.
        user: T,
    },
    /// Trailers came, and with them the end.
    Trailers {
        /// The stream, which may be over by this.
        key: StreamKey,
        /// Its name.
        user: T,
    },
    /// Payload came. What is dealt with is to be given back with [`Connection::release_stream`]
    /// and [`Connection::release_connection`].
    Data {
        /// The stream, which may be over by this.
        key: StreamKey,
        /// Its name.
        user: T,
        /// The payload.
        payload: &'a [u8],
        /// It ends here.
        end_stream: bool,
    },
    /// The peer reset the stream, which is over.
    Reset {
        /// Its name.
        user: T,
        /// The peer's reason.
        reason: Reason,
    },
    /// The peer broke a rule on the stream, which we reset; it is over.
    Broken {
        /// Its name.
        user: T,
        /// The code of our RST_STREAM.
        reason: Reason,
    },
    /// SETTINGS came and are in force.
    Settings,
    /// The peer acknowledged our SETTINGS.
    Acknowledged,
    /// The peer leaves. Streams of ours above `last_stream` were not looked at.
    GoAway {
        /// The last stream of ours that the peer has or may have worked on.
        last_stream: u32,
        /// The peer's reason.
        reason: Reason,
        /// What the peer says beside it, for whoever looks into it (RFC 9113, section 6.8).
        debug: &'a [u8],
    },
    /// The peer has read the GOAWAY of [`Connection::start_drain`].
    DrainAcknowledged,
    /// The peer answered the PING of [`Connection::ping`].
    PingAcknowledged,
}

impl<T: Copy + Default> Connection<T> {
    /// Reads up to the first event in `input`, which begins where the last call stopped consuming.
    ///
    /// # Errors
    /// A connection error; nothing more is to be read then, and [`Connection::fail`] says why.
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<Read<'a, T>, Error> {
        let mut consumed = 0;
        if !self.has_preface {
            match self.preface(input)? {
                0 => return Ok(Read { consumed, event: None }),
                length => consumed = length,
            }
        }
        while let Some((head, rest)) = input[consumed..].split_first_chunk::<HEAD_LEN>() {
            let head = Head::parse(head);
            if head.length > self.options.max_frame_bytes {
                let what = "frame above SETTINGS_MAX_FRAME_SIZE";
                return Err(Error::connection(Reason::FRAME_SIZE_ERROR, what));
            }
            let Some(payload) = rest.get(..head.length as usize) else { break };
            consumed += HEAD_LEN + payload.len();
            let event = self.frame(head, payload)?;
            if event.is_some() {
                return Ok(Read { consumed, event });
            }
        }
        Ok(Read { consumed, event: None })
    }

    /// Checks the preface as far as it is there; its length when it is whole, 0 before.
    fn preface(&mut self, input: &[u8]) -> Result<usize, Error> {
        let there = input.len().min(PREFACE.len());
        if input[..there] != PREFACE[..there] {
            return Err(Error::connection(Reason::PROTOCOL_ERROR, "no HTTP/2 preface"));
        }
        if there < PREFACE.len() {
            return Ok(0);
        }
        self.has_preface = true;
        Ok(there)
    }

    #[inline]
    fn frame<'a>(&mut self, head: Head, payload: &'a [u8]) -> Result<Option<Event<'a, T>>, Error> {
        self.check_order(head)?;
        match parse_payload(head, payload) {
            Ok(Frame::Data { stream, payload, padding, end_stream }) => {
                self.data(stream, payload, padding, end_stream)
            }
            Ok(Frame::Headers { stream, fragment, priority, end_stream, end_headers }) => {
                let depends_on_itself = is_self_dependent(stream, priority);
                if end_headers {
                    return self.block(stream, fragment, end_stream, depends_on_itself);
                }
                self.begin_block(stream, fragment, end_stream, depends_on_itself)?;
                Ok(None)
            }
            Ok(Frame::Continuation { stream, fragment, end_headers }) => {
                self.continuation(stream, fragment, end_headers)
            }
            Ok(Frame::GoAway { last_stream, reason, debug }) => {
                self.count(Flood::Control)?;
                Ok(Some(Event::GoAway { last_stream, reason, debug }))
            }
            Ok(frame) => self.control(frame),
            Err(Error::Stream { stream, reason, what }) => self.broken(stream, reason, what),
            Err(error) => Err(error),
        }
    }

    /// The order of frames: SETTINGS first (section 3.4), and nothing inside a header block but
    /// its continuation (section 4.3).
    #[inline]
    fn check_order(&self, head: Head) -> Result<(), Error> {
        let what = match &self.block {
            None if self.has_settings && head.kind != kind::CONTINUATION => return Ok(()),
            None if !self.has_settings && head.kind != kind::SETTINGS => {
                "a first frame other than SETTINGS"
            }
            None if head.kind == kind::CONTINUATION => "CONTINUATION without a header block",
            None => return Ok(()),
            Some(block) if head.kind == kind::CONTINUATION && head.stream == block.stream => {
                return Ok(());
            }
            Some(_) => "another frame inside a header block",
        };
        Err(protocol(what))
    }

    /// Frames that carry no message.
    fn control<'a>(&mut self, frame: Frame<'_>) -> Result<Option<Event<'a, T>>, Error> {
        match frame {
            Frame::RstStream { stream, reason } => self.rst_stream(stream, reason),
            Frame::WindowUpdate { stream, increment } => self.window_update(stream, increment),
            Frame::Settings { ack, values } => self.settings(ack, values),
            Frame::Ping { ack, payload } => self.on_ping(ack, payload),
            Frame::Priority { stream, priority } => {
                self.count(Flood::Control)?;
                if is_self_dependent(stream, Some(priority)) {
                    return self.broken(stream, Reason::PROTOCOL_ERROR, "PRIORITY on itself");
                }
                Ok(None)
            }
            // We never allow pushes, and a client never pushes.
            Frame::PushPromise { .. } => Err(protocol("PUSH_PROMISE where push is disabled")),
            _ => {
                self.count(Flood::Control)?;
                Ok(None)
            }
        }
    }

    fn data<'a>(
        &mut self,
        stream: u32,
        payload: &'a [u8],
        padding: u32,
        end_stream: bool,
    ) -> Result<Option<Event<'a, T>>, Error> {
        let flow = payload.len() as u32 + padding;
        if self.receive_window.receive(flow).is_err() {
            let what = "DATA beyond the connection's window";
            return Err(Error::connection(Reason::FLOW_CONTROL_ERROR, what));
        }
        let Some(key) = self.streams.find(stream) else {
            self.release_connection(flow);
            self.stray(stream)?;
            return Ok(None);
        };
        if !payload.is_empty() {
            self.floods.excuse(FRAMES_PER_RECEIVED);
        } else if !end_stream {
            self.count(Flood::Control)?;
        }
        if let Err((reason, what)) = self.take_data(key, payload.len(), flow, end_stream) {
            self.release_connection(flow);
            return self.broken(stream, reason, what);
        }
        if padding > 0 {
            self.release_connection(padding);
            self.release_stream(key, padding);
        }
        if payload.is_empty() && !end_stream {
            return Ok(None);
        }
        let user = self.streams.get(key).map_or_else(T::default, |stream| stream.user);
        self.remove_if_over(key);
        Ok(Some(Event::Data { key, user, payload, end_stream }))
    }

    /// Books DATA on its stream, which must exist.
    #[inline]
    fn take_data(
        &mut self,
        key: StreamKey,
        length: usize,
        flow: u32,
        end_stream: bool,
    ) -> Result<(), (Reason, &'static str)> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        stream.state.receive_data(length, end_stream)?;
        let overrun = (Reason::FLOW_CONTROL_ERROR, "DATA beyond the stream's window");
        stream.receive_window.receive(flow).map_err(|_| overrun)
    }

    fn rst_stream<'a>(&mut self, id: u32, reason: Reason) -> Result<Option<Event<'a, T>>, Error> {
        if self.is_idle(id) {
            return Err(protocol("RST_STREAM on an idle stream"));
        }
        let found = self.streams.find(id);
        match (self.options.role, found) {
            (Role::Server, _) => self.count(Flood::Reset)?,
            // We have opened it, so there is one reset of it at most.
            (Role::Client, Some(_)) => {}
            (Role::Client, None) => self.stray(id)?,
        }
        let is_held = self.unacknowledged.holds(id);
        let user = found.and_then(|key| self.remove(key));
        Ok(user.filter(|_| !is_held).map(|user| Event::Reset { user, reason }))
    }

    fn window_update<'a>(
        &mut self,
        id: u32,
        increment: u32,
    ) -> Result<Option<Event<'a, T>>, Error> {
        self.count(Flood::Control)?;
        if id == 0 {
            let what = "WINDOW_UPDATE beyond the largest window";
            let overrun = |_| Error::connection(Reason::FLOW_CONTROL_ERROR, what);
            self.send_window.grow(increment).map_err(overrun)?;
            return Ok(None);
        }
        let Some(key) = self.streams.find(id) else {
            if self.is_idle(id) {
                return Err(protocol("WINDOW_UPDATE on an idle stream"));
            }
            return Ok(None);
        };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        if stream.send_window.grow(increment).is_err() {
            let what = "WINDOW_UPDATE beyond the largest window";
            return self.broken(id, Reason::FLOW_CONTROL_ERROR, what);
        }
        self.queue(key);
        Ok(None)
    }

    fn settings<'a>(
        &mut self,
        ack: bool,
        values: SettingsIter<'_>,
    ) -> Result<Option<Event<'a, T>>, Error> {
        if ack {
            if !self.has_settings {
                return Err(protocol("a first frame other than SETTINGS"));
            }
            // It asks for nothing and costs nothing but its reading.
            self.count(Flood::Stray)?;
            if self.is_acknowledged {
                self.on_probe_acknowledged();
                return Ok(None);
            }
            self.is_acknowledged = true;
            self.decoder.set_allowed_table_size(self.options.header_table_bytes as usize);
            return Ok(Some(Event::Acknowledged));
        }
        self.count(Flood::Control)?;
        let before = self.peer;
        self.peer.apply(values, self.options.role == Role::Server)?;
        self.has_settings = true;
        if self.peer.header_table_bytes != before.header_table_bytes {
            self.encoder.set_peer_table_size(self.peer.header_table_bytes as usize);
        }
        let shift =
            i64::from(self.peer.initial_window_bytes) - i64::from(before.initial_window_bytes);
        if shift != 0 {
            self.shift_windows(shift)?;
        }
        frame::settings_ack(self.output.bytes_mut());
        Ok(Some(Event::Settings))
    }

    fn shift_windows(&mut self, shift: i64) -> Result<(), Error> {
        for (key, stream) in self.streams.iter_mut() {
            let what = "SETTINGS_INITIAL_WINDOW_SIZE moves a window beyond the largest";
            let overrun = |_| Error::connection(Reason::FLOW_CONTROL_ERROR, what);
            stream.send_window.shift(shift).map_err(overrun)?;
            if shift > 0 && !stream.is_queued && !stream.is_idle() {
                stream.is_queued = true;
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    fn on_ping<'a>(&mut self, ack: bool, payload: [u8; 8]) -> Result<Option<Event<'a, T>>, Error> {
        if !ack {
            self.count(Flood::Control)?;
            frame::ping(self.output.bytes_mut(), payload, true);
            return Ok(None);
        }
        if payload == LIVENESS_PING && self.is_ping_outstanding {
            self.is_ping_outstanding = false;
            return Ok(Some(Event::PingAcknowledged));
        }
        if payload == DRAIN_PING && self.drain == Drain::Started {
            return Ok(Some(Event::DrainAcknowledged));
        }
        self.count(Flood::Control)?;
        Ok(None)
    }
}

fn is_self_dependent(stream: u32, priority: Option<Priority>) -> bool {
    priority.is_some_and(|priority| priority.dependency == stream)
}

#[cold]
pub(super) const fn protocol(what: &'static str) -> Error {
    Error::connection(Reason::PROTOCOL_ERROR, what)
}
