//! The loop: waits for packets and for the time, and moves packets between devices.
//!
//! One thread does it for all links. It waits in `ppoll`, whose timeout is in nanoseconds, and
//! has the kernel end that wait when it is due and not up to 50 us later (`PR_SET_TIMERSLACK`).
//! What is left is how long the kernel takes to let it run. That is measured for each packet, and
//! is part of what the relay reports.

use std::{
    fs::File,
    io::{self, Write as _},
    num::NonZeroU64,
    os::fd::{AsFd as _, OwnedFd},
};

use hdrhistogram::Histogram;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read, write},
    process::setpriority_process,
    thread::set_current_timer_slack,
    time::{ClockId, clock_gettime},
};

use crate::{Counts, Error, Link, Report, direction::Direction, tun, unsafe_scheduling};

/// Largest packet: that of the devices, whose MTU is 1,500 unless somebody changes it.
const LARGEST_PACKET: usize = 65_536;
/// Packets read from a device before others get their turn.
const TURN: usize = 64;
/// Where the relay can't run before all others, it runs before most.
const NICE: i32 = -20;
/// How long before a packet is due the relay stays awake: a core that slept needs some 50 us to
/// start on a virtual machine, and a sleep ends that late.
const AWAKE_NS: u64 = 60_000;
/// Longest lateness that is told apart from longer ones.
const LONGEST_NS: u64 = 60_000_000_000;

type Packet = Box<[u8]>;

/// One direction of a link, with the devices it leads from and to.
#[derive(Debug)]
struct Way {
    from: usize,
    to: usize,
    direction: Direction<Packet>,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Both devices of the first link, then of the second.
    devices: Vec<OwnedFd>,
    /// In the order of the devices that they lead from.
    ways: Vec<Way>,
    late: Histogram<u64>,
    /// What of a line has been read on standard input.
    lines: u64,
}

impl Relay {
    /// Makes the devices.
    pub(crate) fn new(links: &[Link]) -> Result<Self, Error> {
        let mut devices = Vec::with_capacity(2 * links.len());
        let mut ways = Vec::with_capacity(2 * links.len());
        for link in links {
            let first = devices.len();
            for end in &link.ends {
                devices.push(tun::make(end)?);
            }
            // What one direction loses says nothing of the other.
            for (from, to, seed) in [(0, 1, link.seed), (1, 0, !link.seed)] {
                let direction = Direction::new(link.settings, seed);
                ways.push(Way { from: first + from, to: first + to, direction });
            }
        }
        let late = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map_err(|error| Error::Relay(io::Error::other(error)))?;
        Ok(Self { devices, ways, late, lines: 0 })
    }

    /// Relays until standard input ends.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        set_current_timer_slack(NonZeroU64::new(1)).map_err(io::Error::from)?;
        // On a machine where cores are shared, a link must not wait for the processes that it is
        // between: the kernel's own work on packets does not. Real-time priority only where idle
        // cores poll: such a thread is woken on an idle core, and a halted core of a virtual
        // machine takes longer to start than a busy one to become free. (On two virtual cores 10
        // to 30 % of pings were 0.2 ms late with the priority alone, 4 to 20 % at the nice value,
        // and 1 to 5 % with both.) Without the permission it does without; how late packets are
        // is reported either way.
        let idle_polls = poll_when_idle();
        if idle_polls.is_err() || unsafe_scheduling::run_first().is_err() {
            let _ = setpriority_process(None, NICE);
        }
        let mut buffer = vec![0; LARGEST_PACKET];
        loop {
            let (devices, is_told) = self.wait()?;
            for device in devices {
                self.read_from(device, &mut buffer)?;
            }
            self.pass_on()?;
            if is_told && !self.answer(&mut buffer)? {
                return Ok(());
            }
        }
    }

    /// Waits until a device has packets, one is due, or standard input has something. Gives the
    /// devices, and whether it has.
    fn wait(&self) -> io::Result<(Vec<usize>, bool)> {
        let input = std::io::stdin();
        let devices = self.devices.iter().map(|device| device.as_fd());
        let mut waited: Vec<PollFd<'_>> = std::iter::once(input.as_fd())
            .chain(devices)
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let next_ns = self.ways.iter().filter_map(|way| way.direction.next_due_ns()).min();
        let timeout = next_ns.map(|next_ns| {
            let left_ns = next_ns.saturating_sub(now_ns());
            timespec(left_ns.saturating_sub(AWAKE_NS))
        });
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((Vec::new(), false)),
            Err(error) => return Err(error.into()),
        }
        let has_some = |one: &PollFd<'_>| !one.revents().is_empty();
        let ready = (0..self.devices.len()).filter(|device| has_some(&waited[device + 1]));
        Ok((ready.collect(), has_some(&waited[0])))
    }

    fn read_from(&mut self, device: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(way) = self.ways.iter_mut().find(|way| way.from == device) else { return Ok(()) };
        for _ in 0..TURN {
            match read(&self.devices[device], &mut *buffer) {
                Ok(length) => way.direction.take(now_ns(), length, buffer[..length].into()),
                // EIO: somebody has taken the device down.
                Err(Errno::AGAIN | Errno::INTR | Errno::IO) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn pass_on(&mut self) -> io::Result<()> {
        for way in &mut self.ways {
            loop {
                let now = now_ns();
                let Some((due_ns, packet)) = way.direction.due(now) else { break };
                self.late.saturating_record((now - due_ns).max(1));
                match write(&self.devices[way.to], &packet) {
                    // A device that is down, or a kernel without memory, loses packets as any
                    // other does.
                    Ok(_) | Err(Errno::IO | Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {}
                    // Nor does it take what is no IP packet.
                    Err(Errno::INVAL) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Answers what stands on standard input; `false` where it has ended.
    fn answer(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let length = match read(std::io::stdin(), &mut *buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let lines = buffer[..length].iter().filter(|byte| **byte == b'\n').count();
        for _ in 0..lines {
            self.lines += 1;
            let report = serde_json::to_string(&self.report()).map_err(io::Error::other)?;
            // Whoever reads it may be gone, which the next read of standard input tells.
            let _ = writeln!(std::io::stdout(), "{report}");
        }
        Ok(true)
    }

    fn report(&mut self) -> Report {
        let counts: Vec<Counts> =
            self.ways.iter_mut().map(|way| way.direction.take_counts()).collect();
        let late = |quantile| self.late.value_at_quantile(quantile);
        let report = Report {
            answers: self.lines,
            links: counts.chunks_exact(2).map(|both| [both[0], both[1]]).collect(),
            late_p50_ns: late(0.5),
            late_p99_ns: late(0.99),
            late_max_ns: self.late.max(),
        };
        self.late.reset();
        report
    }
}

/// Has idle cores poll instead of halting, for as long as the file is open (PM QoS, in the
/// kernel's `Documentation/power/pm_qos_interface.rst`): a halted core has to be woken, on a
/// virtual machine by its host.
fn poll_when_idle() -> io::Result<File> {
    let mut latency = File::options().write(true).open("/dev/cpu_dma_latency")?;
    latency.write_all(&0_i32.to_ne_bytes())?;
    Ok(latency)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Both are positive: the clock counts from the machine's start.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}
