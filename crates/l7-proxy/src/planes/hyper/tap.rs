//! Reads along on a connection to a backend and reports what hyper's client
//! keeps to itself: that SETTINGS have arrived and what they allow, and that
//! the backend has begun to go away. Without the first a call could queue
//! unseen behind a full connection; without the second new calls would still
//! be put on a connection that is going to refuse them.
//!
//! It follows frame headers only, skips every other payload, and judges
//! nothing: h2 reads the same bytes and is the one to find faults.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;

/// Who is told.
pub(super) trait Observer: Send + Sync {
    /// A SETTINGS frame (no acknowledgement) was read; the value is its
    /// SETTINGS_MAX_CONCURRENT_STREAMS, if it has one.
    fn settings(&self, max_concurrent_streams: Option<u32>);
    /// A GOAWAY was read.
    fn go_away(&self);
}

/// A connection that is read along.
pub(super) struct Tap<O> {
    stream: Wire,
    frames: FrameWalk,
    observer: Arc<O>,
}

impl<O: Observer> Tap<O> {
    pub(super) fn new(stream: Wire, observer: Arc<O>) -> Self {
        Self { stream, frames: FrameWalk::default(), observer }
    }
}

impl<O: Observer> AsyncRead for Tap<O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            this.frames.feed(&buf.filled()[before..], &*this.observer);
        }
        polled
    }
}

impl<O: Observer> AsyncWrite for Tap<O> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Frame types and flags of RFC 9113, section 6.
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const FLAG_ACK: u8 = 1;
/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
const HEADER_BYTES: usize = 9;
/// One setting: an identifier and a value.
const SETTING_BYTES: usize = 6;

/// A walk over frames, however the bytes are cut.
#[derive(Debug, Default)]
pub(super) struct FrameWalk {
    /// The frame header, or the setting, that is being put together.
    part: [u8; HEADER_BYTES],
    part_len: usize,
    /// Bytes left of the payload; zero between frames.
    payload_left: usize,
    in_settings: bool,
    max_concurrent_streams: Option<u32>,
}

impl FrameWalk {
    pub(super) fn feed(&mut self, mut bytes: &[u8], observer: &impl Observer) {
        while !bytes.is_empty() {
            bytes = if self.payload_left == 0 {
                self.header(bytes, observer)
            } else if self.in_settings {
                self.setting(bytes, observer)
            } else {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                &bytes[skipped..]
            };
        }
    }

    /// Takes bytes of a frame header.
    fn header<'a>(&mut self, bytes: &'a [u8], observer: &impl Observer) -> &'a [u8] {
        let rest = self.fill(bytes, HEADER_BYTES);
        if self.part_len == HEADER_BYTES {
            self.part_len = 0;
            let [l0, l1, l2, kind, flags, ..] = self.part;
            self.payload_left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            self.in_settings = kind == SETTINGS && flags & FLAG_ACK == 0;
            self.max_concurrent_streams = None;
            if kind == GOAWAY {
                observer.go_away();
            }
            if self.in_settings && self.payload_left == 0 {
                observer.settings(None);
            }
        }
        rest
    }

    /// Takes bytes of a SETTINGS payload.
    fn setting<'a>(&mut self, bytes: &'a [u8], observer: &impl Observer) -> &'a [u8] {
        // A length that is no multiple of six is h2's to refuse; the last
        // part is then shorter, and the walk stays on frame boundaries.
        let wanted = SETTING_BYTES.min(self.part_len + self.payload_left);
        let before = self.part_len;
        let rest = self.fill(bytes, wanted);
        self.payload_left -= self.part_len - before;
        if self.part_len == wanted {
            self.part_len = 0;
            let [i0, i1, v0, v1, v2, v3, ..] = self.part;
            if wanted == SETTING_BYTES && u16::from_be_bytes([i0, i1]) == MAX_CONCURRENT_STREAMS {
                self.max_concurrent_streams = Some(u32::from_be_bytes([v0, v1, v2, v3]));
            }
            if self.payload_left == 0 {
                observer.settings(self.max_concurrent_streams);
            }
        }
        rest
    }

    fn fill<'a>(&mut self, bytes: &'a [u8], wanted: usize) -> &'a [u8] {
        let taken = bytes.len().min(wanted - self.part_len);
        self.part[self.part_len..self.part_len + taken].copy_from_slice(&bytes[..taken]);
        self.part_len += taken;
        &bytes[taken..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Settings(Option<u32>),
        GoAway,
    }

    #[derive(Default)]
    struct Record(Mutex<Vec<Seen>>);

    impl Observer for Record {
        fn settings(&self, max_concurrent_streams: Option<u32>) {
            self.0.lock().unwrap().push(Seen::Settings(max_concurrent_streams));
        }
        fn go_away(&self) {
            self.0.lock().unwrap().push(Seen::GoAway);
        }
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    fn session() -> (Vec<u8>, Vec<Seen>) {
        let mut settings = vec![0, 4, 0, 1, 0, 0];
        settings.extend([0, 3, 0, 0, 1, 44]);
        let bytes = [
            frame(SETTINGS, 0, &settings),
            frame(SETTINGS, FLAG_ACK, &[]),
            frame(0, 1, &[SETTINGS; 300]),
            frame(SETTINGS, 0, &[]),
            frame(SETTINGS, 0, &[0, 3, 0, 0, 0]),
            frame(GOAWAY, 0, &[0; 20]),
            frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 7]),
        ];
        let seen = vec![
            Seen::Settings(Some(300)),
            Seen::Settings(None),
            Seen::Settings(None),
            Seen::GoAway,
            Seen::Settings(Some(7)),
        ];
        (bytes.concat(), seen)
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_are_cut(cut in 1_usize..400) {
            let (bytes, expected) = session();
            let record = Record::default();
            let mut walk = FrameWalk::default();
            for chunk in bytes.chunks(cut) {
                walk.feed(chunk, &record);
            }
            prop_assert_eq!(record.0.into_inner().unwrap(), expected);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            FrameWalk::default().feed(&bytes, &Record::default());
        }
    }
}
