//! Links that take time: packets between two network namespaces are delayed, lost and slowed
//! down as over a distance, by a process between two TUN devices.
//!
//! It stands in for netem (tc-netem(8)) where the kernel has none, and uses its words: `delay`,
//! `jitter`, `loss`, `rate`, `limit`. [`direction`] is what a link does to packets, as a state
//! machine without a clock; `relay` reads packets, asks it, and writes them; `tun` makes the
//! devices.
//!
//! Devices take packets of up to 1,500 bytes, which is what a link between machines takes, and
//! offer the kernel no offloading (TSO, checksums): a packet here is a packet on the wire, so
//! that the loss of one is not the loss of the 64 KiB that a veth link moves at a time, and the
//! rate and the limit count what they would there. The kernel segments and sums up in software,
//! which costs the sender's CPU; packets are read and written one by one, which costs the
//! relay's.

pub mod direction;
mod relay;
mod tun;
mod unsafe_ioctl;
mod unsafe_scheduling;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

pub use direction::{Counts, Settings};
use serde::{Deserialize, Serialize};

/// The hidden subcommand's arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A link as JSON; see [`Link`].
    #[arg(long = "link", value_parser = parse_link, required = true)]
    links: Vec<Link>,
}

fn parse_link(text: &str) -> Result<Link, serde_json::Error> {
    serde_json::from_str(text)
}

/// A link: two TUN devices, and what happens to packets in each direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// The devices.
    pub ends: [End; 2],
    /// What is done to packets, in each direction.
    pub settings: Settings,
    /// Seed of jitter and loss.
    pub seed: u64,
}

/// One end of a link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// Where the network namespace that it is in is found.
    pub namespace: PathBuf,
    /// Name of the device, of at most 15 bytes.
    pub device: String,
    /// Index of the device.
    pub index: u32,
}

/// What the relay has done since it was last asked: the answer to each line on its standard
/// input, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which line it answers, counted from one.
    pub answers: u64,
    /// Of each link: what went from the first end to the second, and back.
    pub links: Vec<[Counts; 2]>,
    /// How much later than due packets were passed on, in nanoseconds: the median.
    pub late_p50_ns: u64,
    /// Likewise, what 99 of 100 kept to.
    pub late_p99_ns: u64,
    /// Likewise, the largest.
    pub late_max_ns: u64,
}

/// What the relay says once all devices are there.
pub const READY: &str = "link-relay: the links are there";

/// Why the relay can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no TUN driver, or no leave to use it.
    #[error("cannot open /dev/net/tun: {0}")]
    NoTun(std::io::Error),
    /// A device can't be made.
    #[error("cannot make the TUN device {device} in {}: {error}", namespace.display())]
    Device {
        /// Its name.
        device: String,
        /// Where it was to be.
        namespace: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The kernel refuses to wait, or to read a device.
    #[error("cannot relay packets: {0}")]
    Relay(#[from] std::io::Error),
}

/// Whether TUN devices can be opened here.
///
/// # Errors
/// With what is missing.
pub fn is_available() -> Result<(), Error> {
    tun::driver().map(drop)
}

/// Makes the devices and relays until standard input ends.
pub fn main_with(args: &Args) -> ExitCode {
    let run = || {
        let relay = relay::Relay::new(&args.links)?;
        // Whoever reads it may be gone, which the next read of standard input tells.
        let _ = writeln!(std::io::stdout(), "{READY}");
        relay.run()
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}
