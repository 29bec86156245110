//! Frames: the nine bytes every frame starts with, and the types of RFC 9113, section 6.
//!
//! [`Head`] is parsed and written on its own, because a proxy forwards most payloads untouched
//! behind a new head. `parse_payload` turns a payload into a borrowed [`Frame`] and holds the
//! rules that can be checked without knowing the connection: lengths, stream identifiers,
//! padding. Rules that need state (is this stream open?) live in [`crate::connection`].

mod encode;
mod parse;

pub use encode::*;
pub(crate) use parse::parse_payload;
pub use parse::{Frame, Priority, SettingsIter, parse};

/// Bytes of a frame head.
pub const HEAD_LEN: usize = 9;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The smallest value of SETTINGS_MAX_FRAME_SIZE, and the one in force until told otherwise.
pub(crate) const DEFAULT_MAX_FRAME_SIZE: u32 = 16_384;

/// The largest value of SETTINGS_MAX_FRAME_SIZE.
pub(crate) const LARGEST_MAX_FRAME_SIZE: u32 = (1 << 24) - 1;

/// Stream identifiers are 31 bits wide; this is also the id in the first GOAWAY of a drain.
pub(crate) const LARGEST_STREAM_ID: u32 = (1 << 31) - 1;

/// Frame types (RFC 9113, section 6).
pub mod kind {
    /// Payload of a message.
    pub const DATA: u8 = 0x0;
    /// Opens a stream or carries trailers.
    pub const HEADERS: u8 = 0x1;
    /// Deprecated priority signal.
    pub const PRIORITY: u8 = 0x2;
    /// Ends a stream at once.
    pub const RST_STREAM: u8 = 0x3;
    /// Configuration of the sender.
    pub const SETTINGS: u8 = 0x4;
    /// Announces a pushed stream.
    pub const PUSH_PROMISE: u8 = 0x5;
    /// Round-trip probe.
    pub const PING: u8 = 0x6;
    /// No more streams.
    pub const GOAWAY: u8 = 0x7;
    /// Flow-control credit.
    pub const WINDOW_UPDATE: u8 = 0x8;
    /// Rest of a header block.
    pub const CONTINUATION: u8 = 0x9;
}

/// Frame flags (RFC 9113, section 6).
pub mod flags {
    /// SETTINGS, PING: this answers the peer's frame.
    pub const ACK: u8 = 0x1;
    /// DATA, HEADERS: the sender's last frame on the stream.
    pub const END_STREAM: u8 = 0x1;
    /// HEADERS, PUSH_PROMISE, CONTINUATION: the header block is complete.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS, PUSH_PROMISE: a pad length and padding are present.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: priority fields are present.
    pub const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings (RFC 9113, section 6.5.2, and RFC 8441).
pub mod setting {
    /// Bound of the dynamic table that the peer's encoder may use, in bytes.
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// Whether PUSH_PROMISE may be sent to the sender of this setting.
    pub const ENABLE_PUSH: u16 = 0x2;
    /// How many streams the peer may have open at once.
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// The window every new stream starts with, in bytes.
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// Largest payload the sender of this setting will take, in bytes.
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// Largest header list the sender of this setting is prepared to take, in bytes.
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// The nine bytes before every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of payload that follow (24 bits on the wire).
    pub length: u32,
    /// The frame's type, see [`kind`].
    pub kind: u8,
    /// The frame's flags, see [`flags`].
    pub flags: u8,
    /// The stream, 0 for the connection itself (31 bits on the wire).
    pub stream: u32,
}

impl Head {
    /// Reads a head; the reserved bit is ignored as RFC 9113, section 4.1 demands.
    #[inline]
    pub const fn parse(bytes: &[u8; HEAD_LEN]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & LARGEST_STREAM_ID,
        }
    }

    /// The bytes of this head. Lengths above 24 bits and ids above 31 bits are cut off; the
    /// functions of this crate never make such heads.
    #[inline]
    pub const fn to_bytes(self) -> [u8; HEAD_LEN] {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = (self.stream & LARGEST_STREAM_ID).to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// Whether `flag` is set.
    #[inline]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_survives_the_wire(
            length in 0..=LARGEST_MAX_FRAME_SIZE,
            kind: u8,
            flags: u8,
            stream in 0..=LARGEST_STREAM_ID,
        ) {
            let head = Head { length, kind, flags, stream };
            prop_assert_eq!(Head::parse(&head.to_bytes()), head);
        }
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        let head = Head::parse(&[0, 0, 1, 6, 1, 0x80, 0, 0, 7]);
        assert_eq!(head, Head { length: 1, kind: kind::PING, flags: flags::ACK, stream: 7 });
    }
}
