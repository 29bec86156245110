//! Where a thread keeps its connections and calls, and the keys that they are
//! known by.
//!
//! Epoll gives a number back with each event, and a call outlives the
//! connection it came from or the one it was sent on. A plain index would be
//! wrong: a batch of events can end a connection that has another event further
//! down, while one that was accepted in between took its place. So a key
//! carries the generation of its place, and its type says what it is the key of.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

/// The key of a `T` in an [`Arena`]: a place, and how often the place was used
/// before.
pub struct Key<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

/// The generation stays below this, so that a key and one more bit fit a token
/// and never meet the reserved tokens at the top.
const GENERATION_MAX: u32 = (1 << 31) - 2;

impl<T> Key<T> {
    /// A key that finds nothing.
    pub const NONE: Self = Self::new(u32::MAX, u32::MAX);

    const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation, of: PhantomData }
    }

    /// A number for the kernel, with one bit beside the key.
    #[inline]
    pub fn to_token(self, bit: bool) -> u64 {
        u64::from(self.generation) << 33 | u64::from(self.index) << 1 | u64::from(bit)
    }

    /// The key in a number of [`Key::to_token`].
    #[inline]
    pub fn from_token(token: u64) -> Self {
        Self::new((token >> 1) as u32, (token >> 33) as u32)
    }

    /// The bit in such a number.
    #[inline]
    pub fn bit_of_token(token: u64) -> bool {
        token & 1 == 1
    }

    fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }
}

// Derived, these would ask the same of `T`.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> Default for Key<T> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl<T> Eq for Key<T> {}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// A list with holes, which are filled again last emptied first.
///
/// A key whose value is gone finds nothing. Where that is a part of the plan,
/// [`Arena::get`] is asked, and what follows from `None` is written there; where
/// it would be a defect, [`Arena::live`] says so.
///
/// Its keys are of a `K`, which is another type than `T` where whoever holds keys is not to know
/// what they lead to.
pub struct Arena<T, K = T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    keys: PhantomData<fn() -> K>,
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T, K> Default for Arena<T, K> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), keys: PhantomData }
    }
}

impl<T, K> Arena<T, K> {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a value in.
    pub fn insert(&mut self, value: T) -> Key<K> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, value: None });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.value = Some(value);
        Key::new(index, place.generation)
    }

    /// The value, if it is still there.
    #[inline]
    pub fn get(&self, key: Key<K>) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.value.as_ref() } else { None }
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: Key<K>) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.value.as_mut() } else { None }
    }

    /// A value that is there.
    ///
    /// # Panics
    /// When it is gone, which is a defect of the caller: there is nothing to
    /// refer to.
    #[inline]
    #[track_caller]
    pub fn live(&self, key: Key<K>) -> &T {
        match self.get(key) {
            Some(value) => value,
            None => dangling(key),
        }
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// As [`Arena::live`].
    #[inline]
    #[track_caller]
    pub fn live_mut(&mut self, key: Key<K>) -> &mut T {
        match self.get_mut(key) {
            Some(value) => value,
            None => dangling(key),
        }
    }

    /// Takes a value out, if it is still there.
    pub fn remove(&mut self, key: Key<K>) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = if place.generation < GENERATION_MAX { place.generation + 1 } else { 0 };
        self.free.push(key.index);
        Some(value)
    }

    /// The keys of all that it holds.
    pub fn keys(&self) -> Vec<Key<K>> {
        let held = self.places.iter().zip(0..).filter(|(place, _)| place.value.is_some());
        held.map(|(place, index)| Key::new(index, place.generation)).collect()
    }
}

#[cold]
#[track_caller]
fn dangling<T>(key: Key<T>) -> ! {
    panic!("dangling key {key:?} of a {}", std::any::type_name::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_tenant_finds_nothing() {
        let mut arena: Arena<&str> = Arena::default();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.live_mut(second), &mut "second");
        assert_eq!((arena.keys(), arena.len()), (vec![second], 1));
        assert_eq!(arena.get(Key::NONE), None);
    }

    #[test]
    #[should_panic(expected = "dangling key 0.0 of a u8")]
    fn what_must_be_there_and_is_not_is_a_defect() {
        let mut arena: Arena<u8> = Arena::default();
        let key = arena.insert(1);
        arena.remove(key);
        arena.live(key);
    }

    #[test]
    fn tokens_give_back_what_went_in() {
        for index in [0, 1, u32::MAX] {
            for generation in [0, 7, GENERATION_MAX] {
                for bit in [false, true] {
                    let key = Key::<u8>::new(index, generation);
                    let token = key.to_token(bit);
                    let back = (Key::from_token(token), Key::<u8>::bit_of_token(token));
                    assert_eq!(back, (key, bit));
                    assert!(token < crate::WAKER);
                }
            }
        }
    }
}
