//! Flow-control windows (RFC 9113, section 5.2 and 6.9): credit that the peer gave, and credit
//! that the peer has.
//!
//! Both are plain numbers with the rules for changing them. Credit given back is gathered until it
//! is half a window, so that a stream of small messages does not cost a WINDOW_UPDATE for each.

/// What every window starts with until SETTINGS say otherwise, in bytes.
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;

/// The largest window, in bytes.
pub(crate) const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// A window was overrun, by the peer's bytes or by its credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// How much may be sent. A change of SETTINGS_INITIAL_WINDOW_SIZE can make it negative (section
/// 6.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWindow(i32);

impl SendWindow {
    /// A window of `bytes`, at most `LARGEST_WINDOW`.
    pub const fn new(bytes: u32) -> Self {
        Self(if bytes > LARGEST_WINDOW { i32::MAX } else { bytes as i32 })
    }

    /// Bytes that may be sent now.
    #[inline]
    pub const fn available(self) -> usize {
        if self.0 > 0 { self.0 as usize } else { 0 }
    }

    /// Takes note of `bytes` sent, which must be [`available`](Self::available).
    #[inline]
    pub fn spend(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.available(), "more was sent than the window allows");
        self.0 -= bytes as i32;
    }

    /// Takes credit from a WINDOW_UPDATE.
    ///
    /// # Errors
    /// When the window would pass `LARGEST_WINDOW` (section 6.9.1).
    #[inline]
    pub fn grow(&mut self, increment: u32) -> Result<(), Overrun> {
        self.shift(i64::from(increment))
    }

    /// Follows a change of the initial window.
    ///
    /// # Errors
    /// When the window would pass `LARGEST_WINDOW` (section 6.9.2).
    pub fn shift(&mut self, bytes: i64) -> Result<(), Overrun> {
        self.0 = i32::try_from(i64::from(self.0) + bytes).map_err(|_| Overrun)?;
        Ok(())
    }
}

/// How much the peer may send, and what of it is to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveWindow {
    /// Bytes the peer may still send, as it knows.
    left: u32,
    /// Bytes that were dealt with and not yet given back.
    gathered: u32,
    /// Give back when this much has been gathered.
    threshold: u32,
}

impl ReceiveWindow {
    /// A window of `bytes`.
    pub const fn new(bytes: u32) -> Self {
        Self { left: bytes, gathered: 0, threshold: bytes / 2 + bytes % 2 }
    }

    /// Gives credit back as a window of `bytes` would, which is smaller than this one: a peer that
    /// has not read SETTINGS yet may count with more than it will have.
    pub(crate) const fn set_threshold_for(&mut self, bytes: u32) {
        self.threshold = bytes / 2 + bytes % 2;
    }

    /// Bytes the peer may still send.
    #[inline]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Takes note of `bytes` that came, padding included.
    ///
    /// # Errors
    /// When the peer had no credit for them: FLOW_CONTROL_ERROR.
    #[inline]
    pub fn receive(&mut self, bytes: u32) -> Result<(), Overrun> {
        self.left = self.left.checked_sub(bytes).ok_or(Overrun)?;
        Ok(())
    }

    /// Gives credit for `bytes` that came and take no more room here. Returns the increment to
    /// send in a WINDOW_UPDATE once it is worth one.
    #[inline]
    pub fn release(&mut self, bytes: u32) -> Option<u32> {
        self.gathered += bytes;
        if self.gathered == 0 || self.gathered < self.threshold {
            return None;
        }
        self.left += self.gathered;
        Some(std::mem::take(&mut self.gathered))
    }

    /// Makes the window larger by `bytes`, which the peer has to be told of.
    #[inline]
    pub const fn widen(&mut self, bytes: u32) {
        self.left += bytes;
        self.threshold += bytes / 2;
    }

    /// Raises the window to `bytes`; returns the increment to send. A window that is as large
    /// already stays, as there is no way to take credit back.
    pub fn raise(&mut self, from: u32, to: u32) -> Option<u32> {
        let increment = to.checked_sub(from).filter(|&increment| increment > 0)?;
        self.left += increment;
        self.threshold = to / 2 + to % 2;
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credit_beyond_the_largest_window_is_refused() {
        let mut window = SendWindow::new(LARGEST_WINDOW);
        assert_eq!(window.grow(1), Err(Overrun));
        window.spend(1);
        assert_eq!(window.grow(1), Ok(()));
    }

    #[test]
    fn a_smaller_initial_window_leaves_a_debt() {
        let mut window = SendWindow::new(100);
        window.spend(100);
        window.shift(-60).expect("no overrun");
        assert_eq!(window.available(), 0);
        window.grow(61).expect("no overrun");
        assert_eq!(window.available(), 1);
    }

    #[test]
    fn credit_is_given_back_in_halves() {
        let mut window = ReceiveWindow::new(10);
        window.receive(10).expect("within the window");
        assert_eq!(window.receive(1), Err(Overrun));
        assert_eq!(window.release(4), None);
        assert_eq!(window.release(1), Some(5));
        assert_eq!(window.left(), 5);
        assert_eq!(window.release(0), None);
    }

    #[test]
    fn a_raised_window_gathers_more() {
        let mut window = ReceiveWindow::new(DEFAULT_WINDOW);
        assert_eq!(window.raise(DEFAULT_WINDOW, 1 << 20), Some((1 << 20) - DEFAULT_WINDOW));
        assert_eq!(window.left(), 1 << 20);
        assert_eq!(window.release((1 << 19) - 1), None);
        assert_eq!(window.release(1), Some(1 << 19));
        assert_eq!(window.raise(1 << 20, 1000), None);
    }

    proptest! {
        #[test]
        fn no_credit_is_lost_or_made(size in 1_u32..100_000, parts in proptest::collection::vec(0_u32..5_000, 1..200)) {
            let mut window = ReceiveWindow::new(size);
            let (mut received, mut given) = (0_u64, 0_u64);
            for part in parts {
                if window.receive(part).is_err() {
                    prop_assert!(u64::from(part) > u64::from(size) + given - received);
                    continue;
                }
                received += u64::from(part);
                given += u64::from(window.release(part).unwrap_or(0));
                prop_assert_eq!(u64::from(window.left()), u64::from(size) + given - received);
                prop_assert!(u64::from(window.left()) * 2 + 1 >= u64::from(size));
            }
        }
    }
}
