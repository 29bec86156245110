//! Whether a direction copies or splices next: the rule of the `auto` plane.
//!
//! Copying small messages is cheapest: a read and a write through a buffer that
//! is in the cache. Splicing large ones saves both copies, and costs a third
//! system call and work for each page. Which of the two a direction carries is
//! not known beforehand and may change, so it is judged by what was moved last,
//! with a few moves of hesitation so that one odd message changes nothing.

/// A move at least this large speaks for splicing.
const LARGE_BYTES: usize = 48 << 10;
/// A move below this speaks for copying. Apart from [`LARGE_BYTES`], so that
/// sizes in between leave things as they are.
const SMALL_BYTES: usize = 16 << 10;
/// Moves in a row that have to speak for the other gear.
const IN_A_ROW: u8 = 4;

/// How the next bytes are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gear {
    is_splicing: bool,
    /// Moves in a row that spoke for the other gear.
    doubts: u8,
}

impl Gear {
    pub(crate) fn is_splicing(self) -> bool {
        self.is_splicing
    }

    /// Judges a move of this many bytes.
    pub(crate) fn note(&mut self, moved_bytes: usize) {
        let is_doubt =
            if self.is_splicing { moved_bytes < SMALL_BYTES } else { moved_bytes >= LARGE_BYTES };
        self.doubts = if is_doubt { self.doubts + 1 } else { 0 };
        if self.doubts == IN_A_ROW {
            *self = Self { is_splicing: !self.is_splicing, doubts: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(gear: Gear, moves: &[usize]) -> Gear {
        moves.iter().fold(gear, |mut gear, moved| {
            gear.note(*moved);
            gear
        })
    }

    #[test]
    fn several_large_moves_in_a_row_change_to_splicing_and_small_ones_back() {
        let large = [LARGE_BYTES; IN_A_ROW as usize];
        let copying = after(Gear::default(), &large[1..]);
        assert!(!copying.is_splicing());
        let splicing = after(copying, &large[..1]);
        assert!(splicing.is_splicing());
        let small = [SMALL_BYTES - 1; IN_A_ROW as usize];
        assert!(after(splicing, &small[1..]).is_splicing());
        assert_eq!(after(splicing, &small), Gear::default());
    }

    #[test]
    fn a_mixture_changes_nothing() {
        let mixed = [LARGE_BYTES, LARGE_BYTES, LARGE_BYTES, 1].repeat(10);
        assert!(!after(Gear::default(), &mixed).is_splicing());
        let splicing = after(Gear::default(), &[LARGE_BYTES; IN_A_ROW as usize]);
        assert!(after(splicing, &[1, 1, 1, SMALL_BYTES].repeat(10)).is_splicing());
    }
}
