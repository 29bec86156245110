//! Random streams in random pieces with random ends, over every data plane:
//! what arrives is what was sent, byte for byte.
//!
//! Each direction of each connection has a stream of its own that follows from
//! its seed, so a byte that is lost, doubled, changed or sent to the wrong
//! connection shows, and where. The gate moves a little; `L4_STREAM_MIB` sets
//! how much each plane moves, and `L4_STREAM_SEED` where it begins:
//!
//! ```text
//! L4_STREAM_MIB=3500 cargo test -p l4-proxy --test streams -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use common::{Backend, PATIENCE, Proxy, config, on_every_plane};
use l4_proxy::DataPlane;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use socket2::SockRef;

on_every_plane! { what_arrives_is_what_was_sent, }

/// Connections at once.
const AT_ONCE: u64 = 6;
/// The longest stream of one direction.
const LONGEST: u64 = 24 << 20;
/// The largest piece that is written or read at once.
const LARGEST_PIECE: u64 = 512 << 10;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn what_arrives_is_what_was_sent(plane: DataPlane) {
    let aim_bytes = setting("L4_STREAM_MIB", 48) << 20;
    let first_seed = setting("L4_STREAM_SEED", 1);
    let target = Backend::start();
    let mut config = config(plane, &[target.address]);
    config.threads = NonZeroUsize::new(2).unwrap();
    // Few enough that some moves find none and copy.
    config.max_pipes = 5;
    let proxy = Proxy::start(config);
    let (seeds, moved_bytes) = (AtomicU64::new(first_seed), AtomicU64::new(0));
    // A client and the backend's side of it are found by one thread at a time.
    let turn = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while moved_bytes.load(Ordering::Relaxed) < aim_bytes {
                    let seed = seeds.fetch_add(1, Ordering::Relaxed);
                    let guard = turn.lock().unwrap();
                    let (client, backend) = (proxy.connect(), target.accept());
                    drop(guard);
                    let bytes = Trial::new(seed).run(client, backend);
                    moved_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
            });
        }
    });
    proxy.await_metric("l4_connections_open", 0.0);
    let spliced_bytes = proxy.metric("l4_spliced_bytes_total");
    assert_eq!(spliced_bytes > 0.0, plane != DataPlane::Copy, "{plane}");
    println!(
        "{plane}: {} MiB in {} connections without a difference, {} MiB of it spliced",
        moved_bytes.into_inner() >> 20,
        seeds.into_inner() - first_seed,
        spliced_bytes as u64 >> 20,
    );
}

/// One connection: what each side sends, and how it ends.
#[derive(Clone, Copy, Debug)]
struct Trial {
    seed: u64,
    from_client: u64,
    from_backend: u64,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Both send all and then their end, in whichever order that happens.
    Both,
    /// The client resets after it has sent this much.
    ClientResets(u64),
    /// The backend resets after it has sent this much.
    BackendResets(u64),
}

/// How a side's reading went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    End,
    Reset,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut chance = SplitMix64::seed_from_u64(seed);
        let from_client = length(&mut chance, LONGEST);
        let from_backend = length(&mut chance, LONGEST);
        let mut part = |whole: u64| chance.next_u64() % (whole + 1);
        let (client_part, backend_part) = (part(from_client), part(from_backend));
        let ending = match part(7) {
            0 => Ending::ClientResets(client_part),
            1 => Ending::BackendResets(backend_part),
            _ => Ending::Both,
        };
        Self { seed, from_client, from_backend, ending }
    }

    /// Runs it; the bytes that arrived, both ways.
    fn run(self, client: TcpStream, backend: TcpStream) -> u64 {
        let (mut cut_client, mut cut_backend) = (None, None);
        match self.ending {
            Ending::Both => {}
            Ending::ClientResets(after) => cut_client = Some(after),
            Ending::BackendResets(after) => cut_backend = Some(after),
        }
        let (there, back) = (self.seed * 2, self.seed * 2 + 1);
        std::thread::scope(|scope| {
            let writers = [
                scope.spawn(|| write(&client, there, self.from_client, cut_client)),
                scope.spawn(|| write(&backend, back, self.from_backend, cut_backend)),
            ];
            let to_backend = scope.spawn(|| read(&backend, there, self.from_client));
            let to_client = scope.spawn(|| read(&client, back, self.from_backend));
            let wrote_all = writers.map(|writer| writer.join().unwrap());
            let (to_backend, to_client) = (to_backend.join().unwrap(), to_client.join().unwrap());
            if matches!(self.ending, Ending::Both) {
                assert_eq!(wrote_all, [true, true], "{self:?}");
                assert_eq!(to_backend, (self.from_client, Finish::End), "{self:?}");
                assert_eq!(to_client, (self.from_backend, Finish::End), "{self:?}");
            }
            to_backend.0 + to_client.0
        })
    }
}

/// Mostly small, sometimes large: evenly distributed in its logarithm.
fn length(chance: &mut SplitMix64, most: u64) -> u64 {
    let bits = chance.next_u64() % u64::from(most.ilog2() + 1);
    (1 << bits) + chance.next_u64() % (1 << bits)
}

/// The stream of a seed, in pieces.
struct Stream {
    words: SplitMix64,
    block: Vec<u8>,
    start: usize,
}

impl Stream {
    /// A block is repeated, with a number in front of each repetition, since
    /// making every byte anew would be most of the test's work.
    fn new(seed: u64) -> Self {
        let mut chance = SplitMix64::seed_from_u64(seed);
        let block = (0..8_209).flat_map(|_| chance.next_u64().to_le_bytes()).collect::<Vec<u8>>();
        Self { words: chance, start: block.len(), block }
    }

    /// Fills `piece` with what comes next.
    fn fill(&mut self, piece: &mut [u8]) {
        let mut filled = 0;
        while filled < piece.len() {
            if self.start == self.block.len() {
                self.start = 0;
                self.block[..8].copy_from_slice(&self.words.next_u64().to_le_bytes());
            }
            let length = (piece.len() - filled).min(self.block.len() - self.start);
            piece[filled..filled + length]
                .copy_from_slice(&self.block[self.start..self.start + length]);
            filled += length;
            self.start += length;
        }
    }
}

/// Writes a stream and its end, or up to a reset. Whether all was taken.
fn write(mut socket: &TcpStream, seed: u64, length_bytes: u64, cut: Option<u64>) -> bool {
    let mut chance = SplitMix64::seed_from_u64(!seed);
    let mut stream = Stream::new(seed);
    let mut piece = vec![0; LARGEST_PIECE as usize];
    let whole = cut.unwrap_or(length_bytes);
    let mut left = whole;
    while left > 0 {
        let size = length(&mut chance, LARGEST_PIECE / 2).min(left);
        let piece = &mut piece[..size as usize];
        stream.fill(piece);
        if let Err(error) = socket.write_all(piece) {
            assert_gone(&error);
            return false;
        }
        left -= size;
    }
    if cut.is_some() {
        // The reader of the same socket has it open too, so that closing would
        // not do it: connecting a socket to nothing resets it.
        disconnect(socket);
        return false;
    }
    socket.shutdown(Shutdown::Write).is_ok()
}

/// Ends a connection with a reset while other threads use the socket.
fn disconnect(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    rustix::net::connect_unspec(socket).unwrap();
}

/// Reads a stream and compares it: how much came, and what ended it.
fn read(mut socket: &TcpStream, seed: u64, length_bytes: u64) -> (u64, Finish) {
    let mut chance = SplitMix64::seed_from_u64(seed.rotate_left(32));
    let mut stream = Stream::new(seed);
    let mut found = vec![0; LARGEST_PIECE as usize];
    let mut expected = vec![0; LARGEST_PIECE as usize];
    let mut position = 0;
    loop {
        let size = length(&mut chance, LARGEST_PIECE / 2) as usize;
        match socket.read(&mut found[..size]) {
            Ok(0) => return (position, Finish::End),
            Ok(length) => {
                stream.fill(&mut expected[..length]);
                let differs = || found.iter().zip(&expected).position(|(a, b)| a != b);
                assert!(
                    found[..length] == expected[..length],
                    "seed {seed}: byte {} differs",
                    position + differs().unwrap_or(0) as u64
                );
                position += length as u64;
                assert!(position <= length_bytes, "seed {seed}: more than was sent");
            }
            Err(error) => {
                assert_gone(&error);
                return (position, Finish::Reset);
            }
        }
    }
}

fn assert_gone(error: &std::io::Error) {
    let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::NotConnected];
    assert!(gone.contains(&error.kind()), "{error}; waits are bounded by {PATIENCE:?}");
}
