//! The dynamic table (RFC 7541, section 4), shared by decoder and encoder.
//!
//! The text of all entries lies in one arena, oldest first, each entry's name right before its
//! value. Entries leave at the front, so the arena's dead part is always a prefix, and it is
//! closed by moving the live part down when the arena would have to grow. An idle connection that
//! never indexed anything holds no memory here.

use std::collections::VecDeque;

/// What an entry costs above its text, in bytes (section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// One entry: where its text lies, and what its user keeps with it.
#[derive(Clone, Copy)]
pub(crate) struct Entry<M> {
    /// Position counted from the first byte ever stored, wrapping.
    position: u32,
    name_len: u32,
    value_len: u32,
    pub(crate) meta: M,
}

/// A dynamic table whose entries carry an `M`.
pub(crate) struct Table<M> {
    arena: Vec<u8>,
    /// The position of the arena's first byte, wrapping.
    base: u32,
    /// Oldest first.
    entries: VecDeque<Entry<M>>,
    size: usize,
    max_size: usize,
    /// Grows with every change of the content.
    generation: u64,
    /// Entries ever inserted: the sequence number of the next.
    inserted: u64,
}

impl<M: Copy> Table<M> {
    pub(crate) fn new(max_size: usize) -> Self {
        Self {
            arena: Vec::new(),
            base: 0,
            entries: VecDeque::new(),
            size: 0,
            max_size,
            generation: 0,
            inserted: 0,
        }
    }

    /// Stays the same exactly as long as every index means the same field.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The sequence number the next entry will get; the newest has one less.
    #[inline]
    pub(crate) fn next_sequence(&self) -> u64 {
        self.inserted
    }

    /// The size as section 4.1 counts it, in bytes.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    #[inline]
    pub(crate) fn max_size(&self) -> usize {
        self.max_size
    }

    /// Sets the bound and evicts what is above it (section 4.3).
    pub(crate) fn set_max_size(&mut self, max_size: usize) {
        self.max_size = max_size;
        if self.size > max_size {
            self.generation += 1;
            self.evict_to(max_size);
        }
    }

    /// The entry at `age`, 0 being the newest.
    #[inline]
    pub(crate) fn get(&self, age: usize) -> Option<&Entry<M>> {
        let from_oldest = self.entries.len().checked_sub(age + 1)?;
        self.entries.get(from_oldest)
    }

    /// Name and value of an entry, one after the other, and the length of the name.
    #[inline]
    pub(crate) fn text(&self, entry: &Entry<M>) -> (&[u8], usize) {
        let start = entry.position.wrapping_sub(self.base) as usize;
        let name_len = entry.name_len as usize;
        (&self.arena[start..start + name_len + entry.value_len as usize], name_len)
    }

    /// Adds an entry whose text is `text`, the first `name_len` bytes being the name. As
    /// [`Table::insert_parts`].
    #[inline]
    pub(crate) fn insert(&mut self, text: &[u8], name_len: usize, meta: M) -> bool {
        let (name, value) = text.split_at(name_len);
        self.insert_parts(name, value, meta)
    }

    /// Adds an entry, evicting what has to make room. An entry above the bound empties the table
    /// and is not added (section 4.4); `false` then.
    pub(crate) fn insert_parts(&mut self, name: &[u8], value: &[u8], meta: M) -> bool {
        self.generation += 1;
        let length = name.len() + value.len();
        let cost = length + ENTRY_OVERHEAD;
        if cost > self.max_size {
            self.evict_to(0);
            return false;
        }
        self.evict_to(self.max_size - cost);
        self.make_room(length);
        let position = self.base.wrapping_add(self.arena.len() as u32);
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        let (name_len, value_len) = (name.len() as u32, value.len() as u32);
        self.entries.push_back(Entry { position, name_len, value_len, meta });
        self.size += cost;
        self.inserted += 1;
        true
    }

    fn evict_to(&mut self, target: usize) {
        while self.size > target {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.size -= (oldest.name_len + oldest.value_len) as usize + ENTRY_OVERHEAD;
        }
    }

    /// Moves the live text to the arena's start if that saves it from growing.
    fn make_room(&mut self, more: usize) {
        if self.arena.len() + more <= self.arena.capacity() {
            return;
        }
        let dead = match self.entries.front() {
            Some(oldest) => oldest.position.wrapping_sub(self.base) as usize,
            None => self.arena.len(),
        };
        // Moving only when half is dead keeps the cost per byte constant.
        if dead * 2 >= self.arena.len() {
            self.arena.copy_within(dead.., 0);
            self.arena.truncate(self.arena.len() - dead);
            self.base = self.base.wrapping_add(dead as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(table: &Table<()>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let field = |age| {
            let entry = table.get(age).expect("within length");
            let (text, name_len) = table.text(entry);
            (text[..name_len].to_vec(), text[name_len..].to_vec())
        };
        (0..table.entries.len()).map(field).collect()
    }

    #[test]
    fn an_entry_above_the_bound_empties_the_table() {
        let mut table = Table::new(50);
        assert!(table.insert(b"ab", 1, ()));
        assert!(!table.insert(&[b'x'; 19], 1, ()));
        assert_eq!((table.entries.len(), table.size), (0, 0));
        assert!(table.insert(&[b'x'; 18], 1, ()));
    }

    #[test]
    fn the_generation_follows_the_content() {
        let mut table = Table::new(100);
        let start = table.generation();
        table.set_max_size(200);
        assert_eq!(table.generation(), start, "nothing was evicted");
        table.insert(b"ab", 1, ());
        let filled = table.generation();
        assert_ne!(filled, start);
        table.set_max_size(0);
        assert_ne!(table.generation(), filled);
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_of_pairs(
            steps in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), 0_usize..40, prop::option::of(0_usize..400)),
                0..200,
            ),
        ) {
            let mut table = Table::new(300);
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let mut bound = 300;
            for (text, name_len, resize) in steps {
                if let Some(size) = resize {
                    bound = size;
                    table.set_max_size(size);
                } else {
                    let name_len = name_len.min(text.len());
                    table.insert(&text, name_len, ());
                    model.insert(0, (text[..name_len].to_vec(), text[name_len..].to_vec()));
                }
                let size = |model: &[(Vec<u8>, Vec<u8>)]| -> usize {
                    model.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
                };
                while size(&model) > bound {
                    // The newest goes too when it alone is too big.
                    model.pop();
                }
                prop_assert_eq!(fields(&table), model.clone());
                prop_assert_eq!(table.size(), size(&model));
                prop_assert!(table.arena.capacity() <= 2048, "{}", table.arena.capacity());
            }
        }
    }
}
