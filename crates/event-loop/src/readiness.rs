//! What is known of a socket that was registered once, edge-triggered.

use crate::EventFlags;

/// What the edges of a socket said. It holds until a system call contradicts
/// it, so that the steady state has no `epoll_ctl`, and no call that is made
/// only to return EAGAIN.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readiness {
    /// A read may find something.
    pub readable: bool,
    /// A write may find room.
    pub writable: bool,
    /// An end, an error or urgent data may follow what is read next, so that a
    /// short read does not prove that the queue is empty.
    exhaust: bool,
}

impl Readiness {
    /// What is asked of the kernel, for each socket and once.
    ///
    /// PRI is in it since a read stops short in front of urgent data, so that a
    /// short read proves an empty queue only where there is none.
    pub(crate) const INTEREST: EventFlags = EventFlags::IN
        .union(EventFlags::OUT)
        .union(EventFlags::RDHUP)
        .union(EventFlags::PRI)
        .union(EventFlags::ET);

    /// Remembers what an edge said.
    #[inline]
    pub fn note(&mut self, flags: EventFlags) {
        let over = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR | EventFlags::PRI;
        if flags.intersects(over) {
            self.expect_end();
        }
        self.readable |= flags.contains(EventFlags::IN);
        self.writable |= flags.contains(EventFlags::OUT);
    }

    /// What is left has to be read up to its end, or up to an error.
    pub fn expect_end(&mut self) {
        self.readable = true;
        self.exhaust = true;
    }

    /// A read of at most `room` bytes gave so many.
    #[inline]
    pub fn read(&mut self, length: usize, room: usize) {
        self.readable = length == room || self.exhaust;
    }

    /// A read gave EAGAIN.
    #[inline]
    pub fn emptied(&mut self) {
        self.readable = false;
        self.exhaust = false;
    }

    /// A write of `wanted` bytes took so many.
    #[inline]
    pub fn wrote(&mut self, length: usize, wanted: usize) {
        self.writable = length == wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_proves_an_empty_queue_unless_an_end_was_announced() {
        let mut ready = Readiness::default();
        ready.note(EventFlags::IN);
        ready.read(10, 10);
        assert!(ready.readable && !ready.writable);
        ready.read(9, 10);
        assert!(!ready.readable);
        ready.note(EventFlags::RDHUP);
        ready.read(9, 10);
        assert!(ready.readable, "the end is still to be read");
        ready.emptied();
        assert!(!ready.readable);
    }

    #[test]
    fn a_short_write_proves_a_full_socket() {
        let mut ready = Readiness::default();
        ready.note(EventFlags::OUT);
        ready.wrote(3, 3);
        assert!(ready.writable);
        ready.wrote(2, 3);
        assert!(!ready.writable);
    }
}
