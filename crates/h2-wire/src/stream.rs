//! The open streams of one connection: a slab, and a map from stream identifiers to its slots.
//!
//! A proxy touches a stream for each frame, so finding one must cost next to nothing. Identifiers
//! count up in steps of two and few are open at once, so that an open-addressed table indexed by
//! the identifier itself almost never probes twice, without a hash.

use crate::{
    error::Reason,
    flow::{ReceiveWindow, SendWindow},
    hpack::HeaderList,
    state::State,
};

/// Names a stream of a connection. Identifiers are never used twice on a connection, so the key of
/// a stream that is over finds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamKey {
    slot: u32,
    id: u32,
}

impl StreamKey {
    /// The stream's identifier on the wire.
    pub fn id(self) -> u32 {
        self.id
    }
}

/// One open stream.
pub(crate) struct Stream<T> {
    pub(crate) id: u32,
    /// What the owner of the connection knows it by.
    pub(crate) user: T,
    pub(crate) send_window: SendWindow,
    pub(crate) receive_window: ReceiveWindow,
    pub(crate) state: State,
    /// It is in the connection's queue of streams that could send.
    pub(crate) is_queued: bool,
    /// What waits to be sent. Most streams never have to wait, and the smaller they are the
    /// cheaper they come and go.
    pub(crate) pending: Option<Box<Pending>>,
    /// How many bytes of the connection's output there had been when its first HEADERS were in.
    pub(crate) opened_at: u64,
    /// The turn in which DATA was last sent at once.
    pub(crate) data_turn: u32,
}

impl<T> Stream<T> {
    /// Bytes that wait.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.len())
    }

    /// Bytes that are held here: those that wait, and trailers behind them.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        let trailers = |pending: &Pending| pending.trailers.as_ref().map_or(0, |list| list.size());
        self.pending.as_ref().map_or(0, |pending| pending.len() + trailers(pending))
    }

    /// Whether nothing waits, not even an end.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.as_ref().is_none_or(|pending| pending.is_idle())
    }

    /// What waits, made when it is first asked for.
    #[inline]
    pub(crate) fn pending_mut(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }
}

/// What a stream has to send and may not yet.
#[derive(Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    start: usize,
    /// END_STREAM follows the bytes.
    pub(crate) end_stream: bool,
    /// Trailers follow the bytes.
    pub(crate) trailers: Option<Box<HeaderList>>,
    /// RST_STREAM follows the end.
    pub(crate) then_reset: Option<Reason>,
    /// Bytes that went out of here since the owner last asked, for stall timeouts.
    pub(crate) moved: u64,
    /// Since when, on the owner's clock, it has been waiting without enough progress.
    pub(crate) stalled_since_ms: Option<u64>,
}

impl Pending {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing waits, not even an end.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.len() == 0 && !self.end_stream && self.trailers.is_none()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            // Closes the gap at the front instead of growing.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    pub(crate) fn front(&self, length: usize) -> &[u8] {
        &self.bytes[self.start..self.start + length]
    }

    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        self.moved += length as u64;
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
        }
    }
}

/// The open streams of a connection.
pub(crate) struct Streams<T> {
    slots: Vec<Option<Stream<T>>>,
    free: Vec<u32>,
    ids: IdMap,
}

impl<T: Copy> Streams<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), ids: IdMap::new() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    pub(crate) fn insert(&mut self, stream: Stream<T>) -> StreamKey {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(stream);
                slot
            }
            None => {
                self.slots.push(Some(stream));
                (self.slots.len() - 1) as u32
            }
        };
        self.ids.insert(id, slot);
        StreamKey { slot, id }
    }

    #[inline]
    pub(crate) fn find(&self, id: u32) -> Option<StreamKey> {
        self.ids.get(id).map(|slot| StreamKey { slot, id })
    }

    #[inline]
    pub(crate) fn get(&self, key: StreamKey) -> Option<&Stream<T>> {
        self.slots.get(key.slot as usize)?.as_ref().filter(|stream| stream.id == key.id)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream<T>> {
        self.slots.get_mut(key.slot as usize)?.as_mut().filter(|stream| stream.id == key.id)
    }

    /// Removes a stream; gives what its owner knew it by.
    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        let user = slot.as_ref().filter(|stream| stream.id == key.id)?.user;
        *slot = None;
        self.free.push(key.slot);
        self.ids.remove(key.id);
        Some(user)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamKey, &Stream<T>)> {
        self.slots.iter().enumerate().filter_map(|(slot, stream)| {
            let stream = stream.as_ref()?;
            Some((StreamKey { slot: slot as u32, id: stream.id }, stream))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream<T>)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, stream)| {
            let stream = stream.as_mut()?;
            Some((StreamKey { slot: slot as u32, id: stream.id }, stream))
        })
    }

    /// Gives the memory back, if no stream is open.
    pub(crate) fn shrink(&mut self) {
        if self.len() == 0 {
            *self = Self::new();
        }
    }
}

/// Identifier to slot, open-addressed with linear probing. An identifier of 0 marks a free place.
struct IdMap {
    places: Vec<(u32, u32)>,
    len: usize,
}

const FIRST_PLACES: usize = 16;

impl IdMap {
    const fn new() -> Self {
        Self { places: Vec::new(), len: 0 }
    }

    #[inline]
    fn home(&self, id: u32) -> usize {
        (id >> 1) as usize & (self.places.len() - 1)
    }

    #[inline]
    fn position(&self, id: u32) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let mask = self.places.len() - 1;
        let mut position = self.home(id);
        // At most half of the places are taken, so a free one ends every walk.
        loop {
            match self.places[position].0 {
                0 => return None,
                found if found == id => return Some(position),
                _ => position = (position + 1) & mask,
            }
        }
    }

    #[inline]
    fn get(&self, id: u32) -> Option<u32> {
        self.position(id).map(|position| self.places[position].1)
    }

    fn insert(&mut self, id: u32, slot: u32) {
        if (self.len + 1) * 2 > self.places.len() {
            self.grow();
        }
        self.put(id, slot);
        self.len += 1;
    }

    fn put(&mut self, id: u32, slot: u32) {
        let mask = self.places.len() - 1;
        let mut position = self.home(id);
        while self.places[position].0 != 0 {
            position = (position + 1) & mask;
        }
        self.places[position] = (id, slot);
    }

    fn grow(&mut self) {
        let size = (self.places.len() * 2).max(FIRST_PLACES);
        let old = std::mem::replace(&mut self.places, vec![(0, 0); size]);
        for (id, slot) in old {
            if id != 0 {
                self.put(id, slot);
            }
        }
    }

    /// Removes by moving later members of the walk up, so that no marks of removed ones pile up.
    fn remove(&mut self, id: u32) {
        let Some(mut hole) = self.position(id) else { return };
        let mask = self.places.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.places[next].0 != 0 {
            let home = self.home(self.places[next].0);
            // Whether the hole lies on the walk from its home to where it is.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.places[hole] = self.places[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.places[hole] = (0, 0);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_map_agrees_with_a_hash_map(steps in proptest::collection::vec((any::<bool>(), 1_u32..200), 1..400)) {
            let mut map = IdMap::new();
            let mut model = HashMap::new();
            for (slot, (insert, id)) in steps.into_iter().enumerate() {
                // Spread over two ranges, so that walks meet.
                let id = if id % 3 == 0 { id + 1_024 } else { id };
                if insert && !model.contains_key(&id) {
                    map.insert(id, slot as u32);
                    model.insert(id, slot as u32);
                } else {
                    map.remove(id);
                    model.remove(&id);
                }
                prop_assert_eq!(map.len, model.len());
                for id in 1..1_300 {
                    prop_assert_eq!(map.get(id), model.get(&id).copied());
                }
            }
        }

        #[test]
        fn pending_bytes_come_out_in_order(steps in proptest::collection::vec((0_usize..50, 0_usize..60), 1..100)) {
            let mut pending = Pending::default();
            let (mut pushed, mut taken) = (0_u8, 0_u8);
            for (push, take) in steps {
                let bytes: Vec<u8> = (0..push).map(|_| { pushed = pushed.wrapping_add(1); pushed }).collect();
                pending.push(&bytes);
                let take = take.min(pending.len());
                for byte in pending.front(take) {
                    taken = taken.wrapping_add(1);
                    prop_assert_eq!(*byte, taken);
                }
                pending.consume(take);
            }
        }
    }
}
