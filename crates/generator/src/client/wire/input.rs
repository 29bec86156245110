//! What a connection has brought, and how much of it to read at once.
//!
//! The kernel tells of a read when the last segment of it came, so that responses read
//! together look as late as the last of them. As long as few of them wait, each is
//! therefore read by itself, as far as they are of one size. The read that finds nothing
//! more is made either way.

/// Reads of one response each, before all that waits is read at once. Where more wait
/// they have waited for the generator for long, and it has to catch up.
pub(super) const SINGLE_READS: usize = 4;
/// Bytes read at once; a frame of the usual size always fits.
pub(super) const READ_BYTES: usize = 128 << 10;

/// What was made of the bytes that came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    /// Calls that ended in them.
    pub(super) calls: usize,
}

/// What came and is no whole frame yet, and how much to read at once.
pub(super) struct Input {
    buffer: Vec<u8>,
    filled: usize,
    /// The size of the last response that was read alone, or of those read together.
    response_bytes: usize,
    /// Bytes that were taken since a call ended last.
    begun_bytes: usize,
}

impl Input {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; READ_BYTES], filled: 0, response_bytes: READ_BYTES, begun_bytes: 0 }
    }

    /// Where to read to, for the first read in a row and those after it.
    pub(super) fn room(&mut self, turn: usize) -> &mut [u8] {
        let room = &mut self.buffer[self.filled..];
        let bytes = if turn < SINGLE_READS { self.response_bytes } else { READ_BYTES };
        let bytes = bytes.min(room.len());
        &mut room[..bytes]
    }

    /// All that there is, after a read.
    pub(super) fn with(&mut self, read: usize) -> &[u8] {
        self.filled += read;
        &self.buffer[..self.filled]
    }

    /// What became of it.
    pub(super) fn took(&mut self, taken: Taken) {
        let is_whole = taken.bytes == self.filled;
        let since_last_end = self.begun_bytes + taken.bytes;
        self.response_bytes = match since_last_end.checked_div(taken.calls) {
            Some(bytes) if is_whole && bytes > 0 => bytes,
            _ => READ_BYTES,
        };
        self.begun_bytes = if taken.calls == 0 { since_last_end } else { 0 };
        self.buffer.copy_within(taken.bytes..self.filled, 0);
        self.filled -= taken.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_of_one_size_are_read_one_by_one_until_there_are_many() {
        let mut input = Input::new();
        assert_eq!(input.room(0).len(), READ_BYTES, "their size is not known yet");
        assert_eq!(input.with(160).len(), 160);
        input.took(Taken { bytes: 160, calls: 2 });
        assert_eq!(input.room(0).len(), 80);
        assert_eq!(input.room(SINGLE_READS - 1).len(), 80);
        assert_eq!(input.room(SINGLE_READS).len(), READ_BYTES, "many wait");
        // One that is longer: what is missing comes with whatever follows.
        input.with(80);
        input.took(Taken { bytes: 60, calls: 0 });
        assert_eq!(input.room(0).len(), READ_BYTES - 20);
        assert_eq!(input.with(4).len(), 24);
        input.took(Taken { bytes: 24, calls: 1 });
        assert_eq!(input.room(0).len(), 84);
    }
}
