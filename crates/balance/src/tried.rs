//! The set of backends that a retry leaves out.

/// A set of backend indices. The first 64 cost no allocation, which is all that
/// a retry in a sensible deployment ever needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    low: u64,
    high: Vec<usize>,
}

impl Tried {
    /// Adds a backend.
    pub fn insert(&mut self, index: usize) {
        if index < 64 {
            self.low |= 1 << index;
        } else if !self.high.contains(&index) {
            self.high.push(index);
        }
    }

    /// Whether the backend is in the set.
    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        if index < 64 { self.low >> index & 1 == 1 } else { self.high.contains(&index) }
    }

    /// Number of backends in the set.
    pub fn len(&self) -> usize {
        self.low.count_ones() as usize + self.high.len()
    }

    /// Whether nothing was tried yet.
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_inserted_and_nothing_else() {
        let mut tried = Tried::default();
        assert!(tried.is_empty());
        for index in [0, 63, 64, 1_000, 64] {
            tried.insert(index);
        }
        let held: Vec<usize> = (0..2_000).filter(|&index| tried.contains(index)).collect();
        assert_eq!(held, [0, 63, 64, 1_000]);
        assert_eq!(tried.len(), 4);
    }
}
