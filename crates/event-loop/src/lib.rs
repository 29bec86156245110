//! The parts of an event loop over epoll, for threads that serve many
//! connections without a task for each.
//!
//! | module | what it does |
//! |---|---|
//! | `poller` | epoll: sockets are registered once, edge-triggered |
//! | `readiness` | what an edge said, until a system call contradicts it |
//! | `arena` | where a thread keeps its connections and calls, and their keys |
//! | `timers` | the moments that a thread has to wake at |
//! | `acceptor` | taking connections, also when descriptors run out |
//! | `socket` | options of sockets, and connecting without waiting |
//! | `waker` | waking a thread that sleeps |
//! | `mailbox`, `threads` | what threads tell each other, and who has which connections |
//! | `buffers` | buffers that connections need only for a while |
//!
//! Left out: the loop itself, which differs between the proxies, and everything
//! that is said over a connection.
#![forbid(unsafe_code)]

mod acceptor;
mod arena;
mod buffers;
mod mailbox;
mod poller;
mod readiness;
mod socket;
mod threads;
mod timers;
mod waker;

pub use acceptor::{AcceptFailure, Accepted, Acceptor, SpareDescriptor};
pub use arena::{Arena, Key};
pub use buffers::BufferPool;
pub use mailbox::Mailbox;
pub use poller::{ACCEPTOR, Events, Poller, WAKER};
pub use readiness::Readiness;
pub use rustix::event::epoll::EventFlags;
pub use socket::{connect, reset_on_close};
pub use threads::{Seat, Threads};
pub use timers::Timers;
pub use waker::Waker;
