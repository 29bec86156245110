//! How long a packet takes there and back: ICMP echo, which the kernel at the other end answers
//! (RFC 792), so that no process there has to wake up.
//!
//! Sockets for that alone (`SOCK_DGRAM` with `IPPROTO_ICMP`, icmp(7)) need no privilege where the
//! namespace says so, as it does here.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    num::NonZeroU64,
    os::fd::OwnedFd,
    time::Duration,
};

use generator::{clock::monotonic_ns, stamps::Stamps};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with},
    thread::set_current_timer_slack,
};

use super::namespace::set;

/// Pings to each target.
pub(super) const PINGS: usize = 200;
/// Those before, which are not counted: the first one may have to ask for an address (ARP).
const EXTRA: usize = 2;
/// Between two pings: no round time, or a moment in which the machine stands still would meet
/// several of them, each at another point of a link whose delay is one.
const PAUSE_NS: u64 = 1_370_000;
/// Bytes of a ping with its IP header, as ping(8) has it.
pub(super) const PING_BYTES: u64 = 84;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// IP header and ICMP header.
const HEADERS: usize = 28;

/// Pings all targets in turn, from the namespace that the calling thread is in and does not
/// leave. Gives the times of those that were answered, in nanoseconds, for each target; an answer
/// is waited for as long as `patience` after the last ping.
pub(super) fn ping(targets: &[Ipv4Addr], patience: Duration) -> io::Result<Vec<Vec<u64>>> {
    // The wait for an answer ends when that comes, and the wait before a ping on time.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let socket = socket()?;
    let stamps =
        Stamps::on(&socket).ok_or_else(|| io::Error::other("the kernel makes no time stamps"))?;
    // A ping's number is 16 bits wide.
    let rounds = (PINGS + EXTRA).min(usize::from(u16::MAX) / targets.len().max(1));
    let mut sent_ns: Vec<u64> = Vec::with_capacity(rounds * targets.len());
    let mut took_ns = vec![None; rounds * targets.len()];
    let start_ns = monotonic_ns();
    loop {
        let now_ns = monotonic_ns();
        let until_ns = match sent_ns.last() {
            _ if sent_ns.len() < took_ns.len() => start_ns + sent_ns.len() as u64 * PAUSE_NS,
            Some(last_ns) => last_ns + patience.as_nanos() as u64,
            None => break,
        };
        if now_ns >= until_ns && sent_ns.len() == took_ns.len() || all(&took_ns) {
            break;
        }
        if now_ns >= until_ns {
            let target = targets[sent_ns.len() % targets.len()];
            let request = request(sent_ns.len());
            sent_ns.push(monotonic_ns());
            sendto(&socket, &request, SendFlags::empty(), &SocketAddrV4::new(target, 0))?;
            continue;
        }
        let mut waited = [PollFd::new(&socket, PollFlags::IN)];
        match poll(&mut waited, Some(&timespec(until_ns - now_ns))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let now_ns = monotonic_ns();
        let mut answer = [0; 1_500];
        while let Ok((length, arrived_ns)) = stamps.receive(&socket, &mut answer) {
            let number = number_of(&answer[..length]).filter(|number| *number < sent_ns.len());
            if let Some(number) = number {
                let took = arrived_ns.unwrap_or(now_ns).saturating_sub(sent_ns[number]);
                took_ns[number].get_or_insert(took);
            }
        }
    }
    let of = |target| {
        let own = took_ns.iter().skip(target).step_by(targets.len());
        own.skip(EXTRA).copied().flatten().collect()
    };
    Ok((0..targets.len()).map(of).collect())
}

/// A socket for pings, which this process may have from here on.
fn socket() -> io::Result<OwnedFd> {
    let group = rustix::process::getegid().as_raw();
    set("ping_group_range", &format!("{group} {group}"))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP))?)
}

fn all(took_ns: &[Option<u64>]) -> bool {
    took_ns.iter().all(Option::is_some)
}

/// The kernel fills in identifier and checksum.
fn request(number: usize) -> Vec<u8> {
    let mut packet = vec![0; PING_BYTES as usize - HEADERS + 8];
    packet[0] = ECHO_REQUEST;
    packet[6..8].copy_from_slice(&(number as u16).to_be_bytes());
    packet
}

fn number_of(answer: &[u8]) -> Option<usize> {
    let [ECHO_REPLY, _, _, _, _, _, high, low, ..] = *answer else { return None };
    Some(usize::from(u16::from_be_bytes([high, low])))
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}
