//! Where a thread keeps its connections, and the keys the kernel hands back.
//!
//! Epoll gives back a number with each event. A plain index would be wrong: a
//! batch of events can end a connection whose other socket still has an event
//! further down, while a connection accepted in between took its place. So a
//! key carries the generation of its place, and a late event finds nothing.

/// A connection's key: a place and how often that place was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// The generation stays below this, so that a key and a [`Which`] fit 64 bits
/// and never meet the reserved numbers at the top.
const GENERATION_MAX: u32 = (1 << 31) - 2;

/// One of the two sockets of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Client,
    Upstream,
}

impl Key {
    /// The number given to the kernel for one of the connection's sockets.
    pub(crate) fn to_token(self, which: Which) -> u64 {
        u64::from(self.generation) << 33 | u64::from(self.index) << 1 | which as u64
    }

    /// The inverse of [`Key::to_token`].
    pub(crate) fn from_token(token: u64) -> (Self, Which) {
        let which = if token & 1 == 0 { Which::Client } else { Which::Upstream };
        let index = (token >> 1) as u32;
        (Self { index, generation: (token >> 33) as u32 }, which)
    }
}

/// A list with holes, which are filled again last emptied first.
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.value = Some(value);
        Key { index, generation: slot.generation }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
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
    pub(crate) fn keys(&self) -> Vec<Key> {
        let held = self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some());
        held.map(|(index, slot)| Key { index: index as u32, generation: slot.generation }).collect()
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
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.keys(), [second]);
    }

    #[test]
    fn tokens_give_back_what_went_in() {
        for index in [0, 1, u32::MAX] {
            for generation in [0, 7, GENERATION_MAX] {
                for which in [Which::Client, Which::Upstream] {
                    let key = Key { index, generation };
                    let token = key.to_token(which);
                    assert_eq!(Key::from_token(token), (key, which));
                    assert!(token < u64::MAX - 1);
                }
            }
        }
    }
}
