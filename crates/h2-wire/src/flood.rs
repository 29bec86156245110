//! Counts of what costs the receiver more than the sender, halved every second.
//!
//! A plain limit per second lets a peer burst and wait; a limit for life ends an honest connection
//! that lives long. A count that is halved each second does neither: the burst is remembered for
//! some seconds, and a steady rate settles at twice itself.
//!
//! Honest peers send control frames in answer to what they get: a WINDOW_UPDATE for DATA, a PING
//! to measure the bandwidth of a download. And they send some along with what they ask for: gRPC
//! gives credit on the stream and on the connection for each message that it begins to wait for.
//! So streams, and DATA in either direction, pay for some of them.

use crate::error::{Error, Reason};

/// Control frames that a frame of DATA or HEADERS sent to the peer may call forth, amply counted:
/// credit for the stream and the connection, and a PING to measure the bandwidth.
pub(crate) const FRAMES_PER_SENT: u32 = 10;

/// Control frames that come along with a stream that the peer opens, or with DATA that it sends:
/// credit for the stream and the connection, and one more. Each costs us less than what it comes
/// along with, so a peer that sends one to be allowed the others gains nothing.
pub const FRAMES_PER_RECEIVED: u32 = 3;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE and unknown frames, and DATA that carries nothing
    /// and ends nothing (CVE-2019-9512, 9513, 9515, 9518).
    Control,
    /// Streams that the peer opened and reset, or broke so that we had to reset them
    /// (CVE-2023-44487, CVE-2025-8671), and header lists over the limits.
    Reset,
    /// Frames without any effect: on streams that are over, as they come for a moment after a
    /// reset, and acknowledgements.
    Stray,
}

/// The bounds. Each is what may have gathered in a count that is halved every second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodLimits {
    /// Frames that cost the peer next to nothing, beyond those that streams and DATA
    /// explain. At least [`FRAMES_PER_RECEIVED`] for each stream that the peer may open, as it may
    /// open all before it sends the first of them.
    pub control_frames: u32,
    /// Streams reset by the peer, or for its mistakes, and header lists over the limits: one for
    /// each, and one for every 64 KiB of text that it made us move beyond them. A reset of a stream
    /// that we opened is the peer's right.
    pub resets: u32,
    /// Frames on streams that are over.
    pub stray_frames: u32,
}

impl FloodLimits {
    /// No bound, for peers that are trusted.
    pub(crate) const UNLIMITED: Self =
        Self { control_frames: u32::MAX, resets: u32::MAX, stray_frames: u32::MAX };
}

/// The counts of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floods {
    counts: [u32; 3],
    /// Frames on streams that are over that may still come, as they were on their way when we
    /// reset their streams.
    expected_stray: u32,
    /// The bound that was passed.
    passed: Option<Flood>,
}

impl Floods {
    /// Counts one, or one that weighs as much as several.
    ///
    /// # Errors
    /// ENHANCE_YOUR_CALM when the bound is passed.
    #[inline]
    pub(crate) fn count(
        &mut self,
        what: Flood,
        weight: u32,
        limits: &FloodLimits,
    ) -> Result<(), Error> {
        let count = &mut self.counts[what as usize];
        *count = count.saturating_add(weight);
        let (limit, text) = match what {
            Flood::Control => (limits.control_frames, "too many frames that ask for nothing"),
            Flood::Reset => (limits.resets, "too many streams opened and reset"),
            Flood::Stray => (limits.stray_frames, "too many frames on streams that are over"),
        };
        if *count > limit {
            self.passed = Some(what);
            return Err(Error::connection(Reason::ENHANCE_YOUR_CALM, text));
        }
        Ok(())
    }

    /// The bound that was passed, if one was.
    pub(crate) fn passed(&self) -> Option<Flood> {
        self.passed
    }

    /// A frame was sent or came that explains so many control frames.
    #[inline]
    pub(crate) fn excuse(&mut self, frames: u32) {
        let count = &mut self.counts[Flood::Control as usize];
        *count = count.saturating_sub(frames);
    }

    /// We reset a stream of ours on which the peer may have sent so many frames.
    pub(crate) fn expect_stray(&mut self, frames: u32) {
        self.expected_stray = self.expected_stray.saturating_add(frames);
    }

    /// Whether a frame on a stream that is over was to be expected.
    pub(crate) fn take_expected(&mut self) -> bool {
        let is_expected = self.expected_stray > 0;
        self.expected_stray = self.expected_stray.saturating_sub(1);
        is_expected
    }

    /// Forgets half; to be called once a second.
    pub(crate) fn halve(&mut self) {
        self.expected_stray /= 2;
        for count in &mut self.counts {
            *count /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FloodLimits = FloodLimits { control_frames: 10, resets: 2, stray_frames: 1 };

    fn gone_after(what: Flood, per_second: usize, seconds: usize) -> bool {
        let mut floods = Floods::default();
        (0..seconds).any(|_| {
            let over = (0..per_second).any(|_| floods.count(what, 1, &LIMITS).is_err());
            floods.halve();
            over
        })
    }

    #[test]
    fn each_kind_has_a_bound_of_its_own() {
        for (what, limit) in [(Flood::Control, 10), (Flood::Reset, 2), (Flood::Stray, 1)] {
            assert!(!gone_after(what, limit, 1), "{what:?}");
            assert!(gone_after(what, limit + 1, 1), "{what:?}");
        }
    }

    #[test]
    fn a_burst_is_remembered_and_a_steady_rate_settles_at_twice_itself() {
        assert!(!gone_after(Flood::Control, 5, 1_000));
        assert!(gone_after(Flood::Control, 6, 10));
        assert!(gone_after(Flood::Control, 10, 2), "burst, wait, burst");
    }

    #[test]
    fn answers_to_what_was_sent_are_excused() {
        let mut floods = Floods::default();
        for _ in 0..1_000 {
            floods.excuse(2);
            floods.count(Flood::Control, 1, &LIMITS).expect("excused");
        }
    }
}
