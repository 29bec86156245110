//! A client with several channels, which it uses in turn, call by call.
//!
//! It is what services do to get past the stream limit of a connection, or to have an L4
//! balancer spread the calls of one client (gRPC's `performance` guide: "use a pool of gRPC
//! channels"; the background of gRFC A105). Each channel is one to a server of its own
//! choice: in grpc-core that takes channel arguments that differ, or else the channels share
//! one connection.

use std::cell::Cell;

use super::{Call, Connection};

pub(super) struct Channels {
    /// Never empty.
    all: Vec<Box<dyn Connection>>,
    next: Cell<usize>,
}

impl Channels {
    pub(super) fn new(all: Vec<Box<dyn Connection>>) -> Self {
        Self { all, next: Cell::new(0) }
    }
}

impl Connection for Channels {
    fn start(&self, call: Call, sequence: u64) {
        let turn = self.next.get();
        self.next.set((turn + 1) % self.all.len());
        self.all[turn].start(call, sequence);
    }

    fn set_members(&self, members: &[usize]) {
        self.all.iter().for_each(|channel| channel.set_members(members));
    }

    fn release(&self) {
        self.all.iter().for_each(|channel| channel.release());
    }

    fn is_ready(&self) -> bool {
        self.all.iter().any(|channel| channel.is_ready())
    }

    fn make_ready(&self) {
        self.all.iter().for_each(|channel| channel.make_ready());
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    /// Writes down which of several was given which call.
    struct Written(usize, Rc<RefCell<Vec<(usize, u64)>>>);

    impl Connection for Written {
        fn start(&self, _call: Call, sequence: u64) {
            self.1.borrow_mut().push((self.0, sequence));
        }

        fn set_members(&self, _members: &[usize]) {}

        fn release(&self) {}

        fn is_ready(&self) -> bool {
            self.0 == 1
        }

        fn make_ready(&self) {}
    }

    #[test]
    fn calls_go_out_on_each_channel_in_turn() {
        let written = Rc::new(RefCell::new(Vec::new()));
        let channel = |index| Box::new(Written(index, Rc::clone(&written))) as Box<dyn Connection>;
        let channels = Channels::new((0..3).map(channel).collect());
        for sequence in 0..5 {
            channels.start(Call { connection: 0, slot: 0 }, sequence);
        }
        assert_eq!(*written.borrow(), [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4)]);
        assert!(channels.is_ready());
    }
}
