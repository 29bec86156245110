//! What the walks over frames share: names of RFC 9113, and how what is cut is
//! put together.

/// Frame types and flags (section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Settings (section 6.5.2).
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// What a client sends before its first frame (section 3.4).
pub(super) const PREFACE_BYTES: usize = 24;
/// What every frame begins with (section 4.1).
pub(super) const HEAD_BYTES: usize = 9;
/// One setting: an identifier and a value.
pub(super) const SETTING_BYTES: usize = 6;

/// A frame's head, or a part of a payload, that is being put together.
#[derive(Debug, Default)]
pub(super) struct Part {
    bytes: [u8; HEAD_BYTES],
    len: usize,
}

impl Part {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What there is of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Takes of `bytes` what is missing of `wanted`, and gives the rest.
    pub(super) fn fill<'a>(&mut self, bytes: &'a [u8], wanted: usize) -> &'a [u8] {
        let taken = bytes.len().min(wanted - self.len);
        self.bytes[self.len..self.len + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
        &bytes[taken..]
    }

    /// It, if it is as long as `wanted`; the next then begins.
    pub(super) fn take(&mut self, wanted: usize) -> Option<[u8; HEAD_BYTES]> {
        if self.len != wanted {
            return None;
        }
        self.len = 0;
        Some(self.bytes)
    }
}
