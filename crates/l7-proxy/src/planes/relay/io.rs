//! The sockets of one thread: epoll, the memory that is read into, and the
//! connections that have something to write or more to read.
//!
//! Clients' connections and backends' are read and written alike; what is read
//! means something else, and that begins in [`super::worker`].

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use event_loop::{Acceptor, BufferPool, Poller, WAKER};
use h2_wire::connection::{Connection, Flushed};
use h2_wire::frame::HEAD_LEN;
use rustix::io::Errno;

use super::endpoint::Endpoint;
use super::keys::{CallKey, ClientKey, LinkKey};

/// Bytes read at once, rounded up to whole frames of the largest size: of a burst of those no part
/// of a frame is left, which would have to be copied, and copied back.
const CHUNK_BYTES: usize = 80 << 10;

/// Largest buffer that is kept for the next connection that has something to
/// write.
const BUFFER_BYTES_MAX: usize = 512 << 10;

/// A connection of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client(ClientKey),
    Link(LinkKey),
}

impl Side {
    pub(super) fn from_token(token: u64) -> Self {
        if LinkKey::bit_of_token(token) {
            Self::Link(LinkKey::from_token(token))
        } else {
            Self::Client(ClientKey::from_token(token))
        }
    }

    fn to_token(self) -> u64 {
        match self {
            Self::Client(key) => key.to_token(false),
            Self::Link(key) => key.to_token(true),
        }
    }
}

/// What the connections of a thread share to be read and written.
pub(super) struct Io {
    pub(super) poller: Poller,
    pub(super) chunks: Chunks,
    buffers: BufferPool,
    /// Those with something to write.
    pub(super) dirty: VecDeque<Side>,
    /// Those with more to read than their share of a turn.
    pub(super) ready: VecDeque<Side>,
    /// Memory for what a write has freed.
    pub(super) flushed: Vec<Flushed<CallKey>>,
}

impl Io {
    /// Watches for clients, and for what wakes the thread.
    pub(super) fn new(
        acceptor: &Acceptor,
        wakers: [BorrowedFd<'_>; 2],
        frame_bytes_max: u32,
    ) -> std::io::Result<Self> {
        let poller = Poller::new()?;
        for waker in wakers {
            poller.add_level(waker, WAKER)?;
        }
        acceptor.watch(&poller)?;
        Ok(Self {
            poller,
            chunks: Chunks::new(CHUNK_BYTES.next_multiple_of(HEAD_LEN + frame_bytes_max as usize)),
            buffers: BufferPool::new(BUFFER_BYTES_MAX),
            dirty: VecDeque::new(),
            ready: VecDeque::new(),
            flushed: Vec::new(),
        })
    }

    /// Watches a connection's socket until it is closed.
    pub(super) fn watch(&self, side: Side, endpoint: &Endpoint) -> Result<(), Errno> {
        self.poller.add(endpoint, side.to_token())
    }

    /// Makes sure that a connection is written in this turn.
    #[inline]
    pub(super) fn mark_dirty(&mut self, side: Side, endpoint: &mut Endpoint) {
        if !endpoint.is_dirty {
            endpoint.is_dirty = true;
            self.dirty.push_back(side);
        }
    }

    /// The same, if it has something to write.
    #[inline]
    pub(super) fn mark_if_dirty(&mut self, side: Side, endpoint: &mut Endpoint) {
        if endpoint.wants_write() {
            self.mark_dirty(side, endpoint);
        }
    }

    /// A connection to be written to: it has a buffer, and is written in this
    /// turn.
    #[inline]
    pub(super) fn output<'a>(
        &mut self,
        side: Side,
        endpoint: &'a mut Endpoint,
    ) -> &'a mut Connection<CallKey> {
        self.mark_dirty(side, endpoint);
        self.give_buffer(endpoint);
        &mut endpoint.http
    }

    /// Gives a buffer to a connection that is about to be written to.
    #[inline]
    pub(super) fn give_buffer(&mut self, endpoint: &mut Endpoint) {
        if !endpoint.http.has_buffer() {
            endpoint.http.give_buffer(self.buffers.take());
        }
    }

    /// Takes the buffer back from a connection that has nothing in it.
    #[inline]
    pub(super) fn take_buffer(&mut self, endpoint: &mut Endpoint) {
        if let Some(buffer) = endpoint.http.take_buffer() {
            self.buffers.put(buffer);
        }
    }

    /// What was read has been dealt with, and may have been answered.
    #[inline]
    pub(super) fn after_input(&mut self, side: Side, endpoint: &mut Endpoint) {
        if endpoint.http.wants_write() {
            self.mark_dirty(side, endpoint);
        } else {
            self.take_buffer(endpoint);
        }
    }

    /// Remembers for later a connection with more to read than its share.
    #[inline]
    pub(super) fn queue_if_readable(&mut self, side: Side, endpoint: &mut Endpoint) {
        if endpoint.can_read() && !endpoint.is_queued {
            endpoint.is_queued = true;
            self.ready.push_back(side);
        }
    }
}

/// Memory that is read into. A chunk whose payloads were passed on without being
/// copied is in use until they are written; another takes its place meanwhile.
pub(super) struct Chunks {
    size: usize,
    /// The one to be taken next; `None` while it is out.
    current: Option<Arc<Vec<u8>>>,
    /// Those that were in use when another took their place.
    others: Vec<Arc<Vec<u8>>>,
}

/// Chunks kept; beyond these memory is given back.
const SPARE_CHUNKS: usize = 32;

impl Chunks {
    pub(super) fn new(size: usize) -> Self {
        Self { size, current: None, others: Vec::new() }
    }

    /// A chunk that nobody else uses.
    pub(super) fn take(&mut self) -> Arc<Vec<u8>> {
        match self.current.take() {
            Some(chunk) if Arc::strong_count(&chunk) == 1 => return chunk,
            Some(used) if self.others.len() < SPARE_CHUNKS => self.others.push(used),
            _ => {}
        }
        match self.others.iter().position(|chunk| Arc::strong_count(chunk) == 1) {
            Some(place) => self.others.swap_remove(place),
            None => Arc::new(vec![0; self.size]),
        }
    }

    /// Whether the next would be one more than are kept: time to write.
    pub(super) fn are_used_up(&self) -> bool {
        self.others.len() == SPARE_CHUNKS
            && self.others.iter().all(|chunk| Arc::strong_count(chunk) > 1)
    }

    /// Takes it back.
    pub(super) fn put(&mut self, chunk: Arc<Vec<u8>>) {
        self.current = Some(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_in_use_is_not_read_into_until_it_is_free() {
        let mut chunks = Chunks::new(8);
        let first = chunks.take();
        let shared = Arc::clone(&first);
        chunks.put(first);
        let second = chunks.take();
        assert!(!Arc::ptr_eq(&second, &shared));
        let address = Arc::as_ptr(&shared);
        chunks.put(second);
        drop(shared);
        let second = chunks.take();
        let third = chunks.take();
        assert_eq!(Arc::as_ptr(&third), address, "the first is free again");
        assert!(!Arc::ptr_eq(&second, &third) && !chunks.are_used_up());
    }

    #[test]
    fn only_so_many_chunks_are_kept() {
        let mut chunks = Chunks::new(8);
        let mut users = Vec::new();
        for _ in 0..2 * SPARE_CHUNKS {
            let chunk = chunks.take();
            users.push(Arc::clone(&chunk));
            chunks.put(chunk);
        }
        assert_eq!(chunks.others.len(), SPARE_CHUNKS);
        assert!(chunks.are_used_up());
        users.clear();
        assert!(!chunks.are_used_up());
    }
}
