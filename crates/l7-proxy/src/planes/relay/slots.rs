//! Where a thread keeps its connections and calls, and the keys they are known by.
//!
//! A key carries the generation of its place, so that a late event, from the
//! kernel or from the other side of a call, finds nothing instead of a stranger.

/// A place, and how often it was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// The generation stays below this, so that a key and one more bit fit a token
/// and never meet the reserved tokens at the top.
const GENERATION_MAX: u32 = (1 << 31) - 2;

impl Key {
    /// A key that finds nothing.
    pub(super) const NONE: Self = Self { index: u32::MAX, generation: u32::MAX };

    /// A number for the kernel, with one bit beside the key.
    pub(super) fn to_token(self, bit: bool) -> u64 {
        u64::from(self.generation) << 33 | u64::from(self.index) << 1 | u64::from(bit)
    }

    /// The inverse of [`Key::to_token`].
    pub(super) fn from_token(token: u64) -> (Self, bool) {
        let key = Self { index: (token >> 1) as u32, generation: (token >> 33) as u32 };
        (key, token & 1 == 1)
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::NONE
    }
}

/// A list with holes, which are filled again last emptied first.
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.value = Some(value);
        Key { index, generation: slot.generation }
    }

    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = if slot.generation < GENERATION_MAX { slot.generation + 1 } else { 0 };
        self.free.push(key.index);
        Some(value)
    }

    /// The keys of all that is held.
    pub(super) fn keys(&self) -> Vec<Key> {
        let full = |(index, slot): (usize, &Slot<T>)| {
            slot.value.is_some().then_some(Key { index: index as u32, generation: slot.generation })
        };
        self.slots.iter().enumerate().filter_map(full).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_tenant_finds_nothing() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.keys(), vec![second]);
        assert_eq!(slots.get(Key::NONE), None);
    }

    #[test]
    fn tokens_give_back_what_went_in() {
        for index in [0, 1, u32::MAX] {
            for generation in [0, 7, GENERATION_MAX] {
                for bit in [false, true] {
                    let key = Key { index, generation };
                    let token = key.to_token(bit);
                    assert_eq!(Key::from_token(token), (key, bit));
                    assert!(token < u64::MAX - 1);
                }
            }
        }
    }
}
