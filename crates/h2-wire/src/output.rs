//! What is to be written: one buffer, with large payloads let into it as shared slices of the
//! memory they were read into.
//!
//! Copying a small payload is cheaper than keeping track of it; a large one is better left where
//! it is. So everything goes into the buffer but payloads from [`SHARE_FROM_BYTES`] on, and the
//! owner of the connection writes the slices in order with one system call.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// Payloads of this size on are shared and not copied, in bytes. Below, a copy costs no more than
/// the bookkeeping and the further slice in the system call.
const SHARE_FROM_BYTES: usize = 4_096;

/// Slices given to one write at most.
pub const MAX_SLICES: usize = 64;

#[derive(Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// Of `bytes`, what was written.
    start: usize,
    /// In order of their places.
    pieces: VecDeque<Piece>,
    /// Bytes of `pieces` to be written.
    shared_len: usize,
    /// Bytes written ever.
    written: u64,
}

/// A payload that lies elsewhere.
struct Piece {
    /// It goes before this place of `bytes`.
    at: usize,
    chunk: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Output {
    /// The buffer, for frames to be appended.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a payload, copied or shared. `chunk` is the memory it lies in.
    #[inline]
    pub(crate) fn payload(&mut self, payload: &[u8], chunk: Option<&Arc<Vec<u8>>>) {
        if payload.len() >= SHARE_FROM_BYTES
            && let Some(chunk) = chunk
            && let Some(start) = place(chunk, payload)
        {
            let (chunk, end) = (Arc::clone(chunk), start + payload.len());
            self.pieces.push_back(Piece { at: self.bytes.len(), chunk, start, end });
            self.shared_len += payload.len();
            return;
        }
        self.bytes.extend_from_slice(payload);
    }

    /// Bytes to be written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start + self.shared_len
    }

    /// Bytes that were put in ever.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.written + self.len() as u64
    }

    /// Bytes that were written ever.
    #[inline]
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// What is to be written, up to the first shared piece.
    #[inline]
    pub(crate) fn front(&self) -> &[u8] {
        match self.pieces.front() {
            None => &self.bytes[self.start..],
            Some(piece) if piece.at > self.start => &self.bytes[self.start..piece.at],
            Some(piece) => &piece.chunk[piece.start..piece.end],
        }
    }

    /// Whether [`Output::front`] is all there is.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The first slices of what is to be written; gives their number.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let (mut count, mut at) = (0, self.start);
        for piece in &self.pieces {
            if count + 2 >= MAX_SLICES {
                return count;
            }
            if piece.at > at {
                slices[count] = IoSlice::new(&self.bytes[at..piece.at]);
                count += 1;
                at = piece.at;
            }
            slices[count] = IoSlice::new(&piece.chunk[piece.start..piece.end]);
            count += 1;
        }
        if at < self.bytes.len() {
            slices[count] = IoSlice::new(&self.bytes[at..]);
            count += 1;
        }
        count
    }

    /// Takes note that the first `length` bytes were written.
    pub(crate) fn wrote(&mut self, mut length: usize) {
        self.written += length as u64;
        while length > 0 {
            let until = self.pieces.front().map_or(self.bytes.len(), |piece| piece.at);
            let plain = length.min(until - self.start);
            self.start += plain;
            length -= plain;
            if length == 0 {
                break;
            }
            let Some(piece) = self.pieces.front_mut() else { break };
            let shared = length.min(piece.end - piece.start);
            piece.start += shared;
            self.shared_len -= shared;
            length -= shared;
            if piece.start == piece.end {
                self.pieces.pop_front();
            }
        }
        if self.len() == 0 {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            for piece in &mut self.pieces {
                piece.at -= self.start;
            }
            self.start = 0;
        }
    }

    /// Copies what is shared, to let go of memory that others wait for.
    pub(crate) fn settle(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        let mut settled = Vec::with_capacity(self.len());
        let mut at = self.start;
        for piece in self.pieces.drain(..) {
            settled.extend_from_slice(&self.bytes[at..piece.at]);
            settled.extend_from_slice(&piece.chunk[piece.start..piece.end]);
            at = piece.at;
        }
        settled.extend_from_slice(&self.bytes[at..]);
        self.bytes = settled;
        self.start = 0;
        self.shared_len = 0;
    }

    /// Takes a buffer to write to; see [`crate::connection::Connection::give_buffer`].
    pub(crate) fn give_buffer(&mut self, buffer: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffer;
        }
    }

    /// Gives the buffer back, if there is nothing in it.
    pub(crate) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if self.len() == 0 && self.bytes.capacity() > 0 {
            self.start = 0;
            return Some(std::mem::take(&mut self.bytes));
        }
        None
    }

    #[inline]
    pub(crate) fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }
}

/// Where in `chunk` the slice `part` lies, if it does.
fn place(chunk: &[u8], part: &[u8]) -> Option<usize> {
    let start = part.as_ptr().addr().checked_sub(chunk.as_ptr().addr())?;
    let there = chunk.get(start..start + part.len())?;
    std::ptr::eq(there, part).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = output.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn a_slice_of_other_memory_is_copied() {
        let (chunk, other) = (Arc::new(vec![1; 10_000]), vec![1; 10_000]);
        let mut output = Output::default();
        output.payload(&other, Some(&chunk));
        assert!(output.is_plain());
        output.payload(&chunk[..100], Some(&chunk));
        assert!(output.is_plain(), "it is small");
        output.payload(&chunk[100..5_000], Some(&chunk));
        assert!(!output.is_plain());
        assert_eq!(output.len(), 10_000 + 5_000);
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_however_they_went_in(
            steps in prop::collection::vec((0_usize..9_000, any::<bool>(), 0_usize..20_000, any::<bool>()), 1..60),
        ) {
            let mut output = Output::default();
            let (mut expected, mut next) = (Vec::new(), 0_u8);
            for (length, is_shared, write, settles) in steps {
                let bytes: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
                expected.extend_from_slice(&bytes);
                if is_shared {
                    let chunk = Arc::new([&[0; 7][..], &bytes].concat());
                    output.payload(&chunk[7..], Some(&chunk));
                } else {
                    output.bytes_mut().extend_from_slice(&bytes);
                }
                if settles {
                    output.settle();
                    prop_assert!(output.is_plain());
                }
                let found = all(&output);
                prop_assert_eq!(&found[..], &expected[..found.len()]);
                prop_assert_eq!(output.len(), expected.len());
                prop_assert!(found.len() == expected.len() || output.pieces.len() > 20);
                prop_assert!(expected.starts_with(output.front()));
                let write = write.min(found.len());
                output.wrote(write);
                expected.drain(..write);
                prop_assert_eq!(output.position() - output.written(), expected.len() as u64);
            }
        }
    }
}
