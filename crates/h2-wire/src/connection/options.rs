//! What a connection is made with: what is offered to the peer, and every bound on what it may do.

use crate::flood::FloodLimits;
use crate::flow::DEFAULT_WINDOW;
use crate::frame;
use crate::hpack::{DEFAULT_TABLE_SIZE, EncoderOptions, ListLimits};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer opens streams.
    Server,
    /// We open streams.
    Client,
}

/// What is offered to the peer, and every bound on what it may do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which end we are.
    pub role: Role,
    /// Receive window of each stream, in bytes.
    pub stream_window_bytes: u32,
    /// Receive window of the connection, in bytes; at least `DEFAULT_WINDOW` in effect, as there
    /// is no way to begin with less.
    pub connection_window_bytes: u32,
    /// Largest payload of a frame that is taken, in bytes.
    pub max_frame_bytes: u32,
    /// Streams open at once: those the peer may open, or those we open at most.
    pub max_streams: u32,
    /// Streams we open before the peer's SETTINGS have come.
    pub assumed_streams: u32,
    /// The identifier of the first stream we open: 1, but for tests of what follows the last, which
    /// no test could wait for. An odd number.
    pub first_stream: u32,
    /// Bounds on a decoded header list. What is beyond is reported and not kept.
    pub list_limits: ListLimits,
    /// SETTINGS_MAX_HEADER_LIST_SIZE to announce, in bytes.
    pub announced_list_bytes: u32,
    /// Dynamic table that the peer may fill, in bytes.
    pub header_table_bytes: u32,
    /// How header lists are encoded.
    pub encoder: EncoderOptions,
    /// Largest header block, encoded, in bytes (CVE-2024-27316). One beyond ends the connection.
    pub max_block_bytes: usize,
    /// CONTINUATION frames in one header block.
    pub max_continuations: u32,
    /// Bounds on what costs us more than the peer.
    pub floods: FloodLimits,
    /// Streams we reset for the peer's mistakes before the connection ends (CVE-2025-8671).
    pub max_error_resets: u32,
    /// Streams of ours that may be reset before the peer has shown that it took them up; further
    /// resets are held back (see [`super::Connection::reset`]). `u32::MAX` for no bound.
    pub max_unacknowledged_resets: u32,
    /// Output beyond which DATA waits with its stream, in bytes, so that what one slow peer holds
    /// is bounded by its streams' windows.
    pub output_high_bytes: usize,
}

impl Options {
    /// The defaults of the RFC where it has some, for the given end.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            stream_window_bytes: DEFAULT_WINDOW,
            connection_window_bytes: DEFAULT_WINDOW,
            max_frame_bytes: frame::DEFAULT_MAX_FRAME_SIZE,
            max_streams: 100,
            assumed_streams: 100,
            first_stream: 1,
            list_limits: ListLimits::default(),
            announced_list_bytes: ListLimits::default().max_bytes as u32,
            header_table_bytes: DEFAULT_TABLE_SIZE as u32,
            encoder: EncoderOptions::default(),
            max_block_bytes: 64 << 10,
            max_continuations: 8,
            floods: FloodLimits::UNLIMITED,
            max_error_resets: 1_024,
            max_unacknowledged_resets: u32::MAX,
            output_high_bytes: 256 << 10,
        }
    }
}
