//! Memory for whole header blocks.
//!
//! A block that inserts nothing is a pure function of its bytes and of the table's generation. A
//! peer that repeats its calls sends the same few blocks over and over, so the decoder keeps their
//! results. A block is kept only when it was seen twice: blocks with a trace id in them never
//! repeat, and must not push out those that do.

use super::{
    hash::hash,
    list::{BlockKey, HeaderList},
};

/// Blocks kept, one to a slot by hash. A power of two.
const SLOTS: usize = 16;

/// Longest block that is kept, in bytes. A block of indexed fields has a byte or two for each.
const LONGEST_BLOCK: usize = 128;

/// Most text that is kept for one block, in bytes: bounds the memory of a connection.
const LARGEST_LIST: usize = 2048;

#[derive(Default)]
struct Slot {
    /// Hash of the last block that came by without being kept.
    candidate: u64,
    kept: Option<Box<Kept>>,
}

struct Kept {
    hash: u64,
    generation: u64,
    block: Vec<u8>,
    list: HeaderList,
}

/// Decoded blocks by their bytes, for one decoder.
#[derive(Default)]
pub(super) struct DecodedBlocks {
    /// Empty until the first candidate.
    slots: Vec<Slot>,
}

/// A block's place in the cache.
#[derive(Clone, Copy)]
pub(super) struct Place {
    hash: u64,
    slot: usize,
}

impl Place {
    #[inline]
    pub(super) fn slot(self) -> usize {
        self.slot
    }
}

impl DecodedBlocks {
    /// The place for `block`, `None` if it is too long to be kept.
    #[inline]
    pub(super) fn place(&self, block: &[u8]) -> Option<Place> {
        if block.len() > LONGEST_BLOCK {
            return None;
        }
        let hash = hash(0, block);
        Some(Place { hash, slot: hash as usize % SLOTS })
    }

    /// Whether `block` is kept at `place` and still means the same.
    #[inline]
    pub(super) fn holds(&self, place: Place, block: &[u8], generation: u64) -> bool {
        let kept = self.slots.get(place.slot).and_then(|slot| slot.kept.as_deref());
        kept.is_some_and(|kept| {
            kept.hash == place.hash && kept.generation == generation && kept.block == block
        })
    }

    /// The list kept in slot number `slot`.
    #[inline]
    pub(super) fn list(&self, slot: usize) -> Option<&HeaderList> {
        Some(&self.slots.get(slot)?.kept.as_deref()?.list)
    }

    /// Takes note of a block that was decoded to `list` without changing the table, and keeps it
    /// if it came before. Returns the slot if it did.
    pub(super) fn offer(
        &mut self,
        place: Place,
        block: &[u8],
        generation: u64,
        list: &HeaderList,
    ) -> Option<usize> {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Slot::default);
        }
        let slot = &mut self.slots[place.slot];
        if slot.candidate != place.hash {
            slot.candidate = place.hash;
            return None;
        }
        if list.size() > LARGEST_LIST {
            return None;
        }
        let mut list = list.clone();
        list.set_key(BlockKey::unique());
        slot.kept =
            Some(Box::new(Kept { hash: place.hash, generation, block: block.to_vec(), list }));
        Some(place.slot)
    }

    /// Gives all memory back.
    pub(super) fn clear(&mut self) {
        self.slots = Vec::new();
    }
}

/// Encoded blocks by key, for one encoder.
#[derive(Default)]
pub(super) struct EncodedBlocks {
    /// Empty until the first block is kept; one block to a slot by key number.
    slots: Vec<Option<Encoded>>,
}

struct Encoded {
    key: BlockKey,
    generation: u64,
    block: Vec<u8>,
}

impl EncodedBlocks {
    /// The bytes kept under `key`, if the table has not changed since.
    #[inline]
    pub(super) fn get(&self, key: BlockKey, generation: u64) -> Option<&[u8]> {
        let kept = self.slots.get(key.number() as usize % SLOTS)?.as_ref()?;
        (kept.key == key && kept.generation == generation).then_some(&kept.block)
    }

    /// Keeps `block`, which was encoded for `key` without changing the table.
    pub(super) fn put(&mut self, key: BlockKey, generation: u64, block: &[u8]) {
        if block.len() > LARGEST_LIST {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        match &mut self.slots[key.number() as usize % SLOTS] {
            // Reusing the buffer: with many keys the slots change hands without allocating.
            Some(kept) => {
                kept.key = key;
                kept.generation = generation;
                kept.block.clear();
                kept.block.extend_from_slice(block);
            }
            empty => *empty = Some(Encoded { key, generation, block: block.to_vec() }),
        }
    }

    /// Gives all memory back.
    pub(super) fn clear(&mut self) {
        self.slots = Vec::new();
    }
}
