//! One HTTP/2 connection without its socket: [`Connection`].
//!
//! Bytes that came go into [`Connection::read`], which gives one [`Event`] at a time and holds
//! every rule that needs state: which frames may come when, flow control, header blocks in several
//! frames, SETTINGS, PING, GOAWAY, and bounds on what a stranger may make it do. What is to be sent
//! gathers in one buffer, [`Connection::output`], that its owner writes out once a turn. The owner
//! keeps a value of its own with each stream and gets it back with each event, so that it needs no
//! map of its own.
//!
//! | part | job |
//! |---|---|
//! | here | what a connection is, its beginning and its end |
//! | `options` | what is offered to the peer, and bounds on what it may do |
//! | `receive` | frames to events |
//! | `headers` | header blocks to events |
//! | `faults` | what a peer does wrong or too often |
//! | `shutdown` | how a connection ends, and whether it is alive |
//! | `unacknowledged` | resets that the peer may not have looked at yet |
//! | `send` | heads, DATA within the windows, what has to wait, resets, credit |
//!
//! Left out: time. The owner calls [`Connection::each_second`], and decides what took too long.

mod faults;
mod headers;
mod options;
mod receive;
mod send;
mod shutdown;
#[cfg(test)]
mod tests;
mod unacknowledged;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::flood::Floods;
use crate::flow::{DEFAULT_WINDOW, ReceiveWindow, SendWindow};
use crate::frame::{self, PREFACE, setting};
use crate::hpack::{Decoder, Encoder, HeaderList};
use crate::output::Output;
use crate::settings::PeerSettings;
use crate::stream::Streams;

pub use crate::flood::{FRAMES_PER_RECEIVED, Flood, FloodLimits};
pub use crate::output::MAX_SLICES;
pub use crate::stream::StreamKey;
pub use options::{Options, Role};
pub use receive::{Event, Read};
pub use send::Flushed;
use shutdown::Drain;
use unacknowledged::Unacknowledged;

/// Identifiers of streams that we reset and whose frames may still be on their way.
struct Remembered {
    ids: VecDeque<u32>,
}

/// How many are remembered; more than a peer is likely to have in flight at once.
const REMEMBERED: usize = 1_024;

impl Remembered {
    fn note(&mut self, id: u32) {
        if self.ids.len() == REMEMBERED {
            self.ids.pop_front();
        }
        self.ids.push_back(id);
    }

    fn contains(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }
}

/// A header block of which more is to come.
struct Block {
    stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
    continuations: u32,
    bytes: Vec<u8>,
}

/// One end of an HTTP/2 connection. `T` is what the owner knows a stream by.
pub struct Connection<T> {
    options: Arc<Options>,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams<T>,
    peer: PeerSettings,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    output: Output,
    /// Streams that have something to send and a window for it. Lazily cleaned.
    ready: VecDeque<StreamKey>,
    block: Option<Box<Block>>,
    remembered: Remembered,
    /// The highest stream the peer has opened.
    highest_peer_stream: u32,
    next_stream: u32,
    has_preface: bool,
    has_settings: bool,
    is_acknowledged: bool,
    drain: Drain,
    floods: Floods,
    error_resets: u32,
    unacknowledged: Unacknowledged,
    is_ping_outstanding: bool,
    is_failed: bool,
    /// Bytes that wait with their streams: payload, and trailers behind it.
    waiting_bytes: usize,
    /// Bytes of payload sent since the owner last asked.
    sent_bytes: u64,
    /// Grows with every [`Connection::pump`], and is never 0.
    turn: u32,
}

impl<T: Copy + Default> Connection<T> {
    /// A connection whose first bytes (the preface, for a client, and SETTINGS) are in its output.
    pub fn new(options: Arc<Options>) -> Self {
        let is_server = options.role == Role::Server;
        let mut connection = Self {
            decoder: Decoder::new(options.list_limits),
            encoder: Encoder::new(options.encoder),
            streams: Streams::new(),
            peer: PeerSettings::default(),
            send_window: SendWindow::new(DEFAULT_WINDOW),
            receive_window: ReceiveWindow::new(DEFAULT_WINDOW),
            output: Output::default(),
            ready: VecDeque::new(),
            block: None,
            remembered: Remembered { ids: VecDeque::new() },
            highest_peer_stream: 0,
            next_stream: options.first_stream,
            has_preface: !is_server,
            has_settings: false,
            is_acknowledged: false,
            drain: Drain::No,
            floods: Floods::default(),
            error_resets: 0,
            unacknowledged: Unacknowledged::default(),
            is_ping_outstanding: false,
            is_failed: false,
            waiting_bytes: 0,
            sent_bytes: 0,
            turn: 1,
            options,
        };
        connection.greet();
        connection
    }

    fn greet(&mut self) {
        let options = &self.options;
        let mut values = [(0, 0); 6];
        let common = [
            (setting::HEADER_TABLE_SIZE, options.header_table_bytes),
            (setting::INITIAL_WINDOW_SIZE, options.stream_window_bytes),
            (setting::MAX_FRAME_SIZE, options.max_frame_bytes),
            (setting::MAX_HEADER_LIST_SIZE, options.announced_list_bytes),
        ];
        values[..4].copy_from_slice(&common);
        let values = match options.role {
            Role::Server => {
                values[4] = (setting::MAX_CONCURRENT_STREAMS, options.max_streams);
                &values[..5]
            }
            Role::Client => {
                self.output.bytes_mut().extend_from_slice(PREFACE);
                values[4] = (setting::ENABLE_PUSH, 0);
                values[5] = (setting::MAX_CONCURRENT_STREAMS, 0);
                &values[..6]
            }
        };
        frame::settings(self.output.bytes_mut(), values);
        let window_bytes = options.connection_window_bytes;
        if let Some(increment) = self.receive_window.raise(DEFAULT_WINDOW, window_bytes) {
            frame::window_update(self.output.bytes_mut(), 0, increment);
        }
    }

    /// The list of the last event that came with one.
    #[inline]
    pub fn headers(&self) -> &HeaderList {
        self.decoder.list()
    }

    /// How many streams are open, with those whose resets are held back.
    #[inline]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// The highest stream that the peer has opened; 0 before the first.
    pub fn highest_peer_stream(&self) -> u32 {
        self.highest_peer_stream
    }

    /// Whether the peer's SETTINGS have come.
    pub fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Whether the peer has acknowledged our SETTINGS.
    pub fn is_acknowledged(&self) -> bool {
        self.is_acknowledged
    }

    /// Whether a header block is still incomplete.
    pub fn is_in_block(&self) -> bool {
        self.block.is_some()
    }

    /// What the peer allows.
    pub fn peer(&self) -> &PeerSettings {
        &self.peer
    }

    /// The open streams, each with what its owner knows it by; but for those that the owner has
    /// reset.
    pub fn streams(&self) -> impl Iterator<Item = (StreamKey, T)> {
        let is_live = |key: StreamKey| !self.unacknowledged.holds(key.id());
        self.streams
            .iter()
            .filter(move |(key, _)| is_live(*key))
            .map(|(key, stream)| (key, stream.user))
    }

    /// Sets what a stream is known by.
    pub fn set_user(&mut self, key: StreamKey, user: T) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.user = user;
        }
    }

    /// Says that a response has no content, whatever its `content-length`: its request was HEAD
    /// (RFC 9110, section 9.3.2).
    pub fn expect_no_content(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.state.expect_no_content();
        }
    }

    /// Whether the stream is open, in one direction at least.
    pub fn is_open(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some()
    }

    /// The bound on floods that the peer passed, if it did.
    pub fn flooded(&self) -> Option<Flood> {
        self.floods.passed()
    }

    /// Bytes of payload sent since the last call.
    pub fn take_sent_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.sent_bytes)
    }

    /// Bytes that wait with their streams: payload, and trailers behind it.
    #[inline]
    pub fn all_waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// All bytes that the peer has not been sent: those that wait with their streams, and the
    /// output, whatever frames it is made of.
    #[inline]
    pub fn unsent_bytes(&self) -> usize {
        self.waiting_bytes + self.output.len()
    }

    /// Whether DATA waits for the connection's window.
    pub fn is_window_awaited(&self) -> bool {
        self.send_window.available() == 0 && !self.ready.is_empty()
    }

    /// Halves the counts of floods; to be called about once a second.
    pub fn each_second(&mut self) {
        self.floods.halve();
    }

    /// Gives back memory that an idle connection does not need. What is remembered for speed is
    /// built up again when it is used again.
    pub fn shrink(&mut self) {
        self.decoder.shrink();
        self.encoder.shrink();
        self.streams.shrink();
        self.ready = VecDeque::new();
        self.remembered.ids.shrink_to_fit();
    }
}

/// The output.
impl<T: Copy> Connection<T> {
    /// What is to be written, up to the first payload that was sent with
    /// [`Connection::send_shared`]: everything, where none was.
    #[inline]
    pub fn output(&self) -> &[u8] {
        self.output.front()
    }

    /// Whether [`Connection::output`] is everything.
    #[inline]
    pub fn is_output_plain(&self) -> bool {
        self.output.is_plain()
    }

    /// Bytes to be written.
    #[inline]
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// The first slices of what is to be written; gives their number.
    pub fn output_slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        self.output.slices(slices)
    }

    /// Takes note that the first `bytes` of the output were written.
    #[inline]
    pub fn wrote(&mut self, bytes: usize) {
        self.output.wrote(bytes);
    }

    /// Copies what the output shares with others, to be called when it can't be written soon.
    pub fn settle_output(&mut self) {
        self.output.settle();
    }

    /// Whether there is something to write, or something that [`Connection::pump`] could move.
    #[inline]
    pub fn wants_write(&self) -> bool {
        self.output.len() > 0 || !self.ready.is_empty()
    }

    /// Lends a buffer to gather output in, which must be empty; buffers are the owner's to pool.
    pub fn give_buffer(&mut self, buffer: Vec<u8>) {
        self.output.give_buffer(buffer);
    }

    /// Takes the buffer back, if there is nothing in it.
    pub fn take_buffer(&mut self) -> Option<Vec<u8>> {
        self.output.take_buffer()
    }

    /// Whether it holds a buffer.
    #[inline]
    pub fn has_buffer(&self) -> bool {
        self.output.has_buffer()
    }
}
