//! Links that take time: by netem where the kernel has it, or else by a relay of our own.
//!
//! netem (tc-netem(8)) is a module that many kernels for virtual machines and containers are
//! built without, so whether it is there is tried, in a namespace that nobody else is in. Where
//! it is not, a process of the lab reads packets from one TUN device, holds them, and writes them
//! to the other ([`link_relay`]). It is started by the guard as every process is, so that it ends
//! with the lab, and with it its devices.
//!
//! Neither is believed: before a trial the lab pings through every such link, and its record says
//! what came out.

use std::{
    env, io,
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use link_relay::{Link, READY, Report, Settings};
use measure::record::{LinkEngine, LinkRecord, LinksRecord};
use scenario::{Ends, LinkSettings};
use units::duration::nanos;

use super::{
    Namespace, NetworkError, Plan,
    ping::{PING_BYTES, PINGS, ping},
};
use crate::lab::{Launch, Process};

/// How long the relay may take to make its devices, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How much longer than asked for an answer to a ping may take, before it counts as lost.
const PING_PATIENCE: Duration = Duration::from_millis(250);
/// A rate that no packet waits for: with any, netem keeps the order of packets.
const NO_RATE: u64 = 100_000_000_000;

/// A link that takes time.
#[derive(Clone, Debug)]
pub(super) struct Slow<'a> {
    pub(super) between: &'a Ends,
    pub(super) ends: [End<'a>; 2],
    /// The address of its second end.
    pub(super) target: Ipv4Addr,
    pub(super) settings: LinkSettings,
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) device: &'a str,
    pub(super) index: u32,
}

/// What makes the links of a trial take time.
#[derive(Debug)]
pub(super) struct Distance {
    engine: LinkEngine,
    relay: Option<Process>,
    /// The line that the relay was asked by last.
    asked: u64,
    /// What pings took.
    links: Vec<LinkRecord>,
}

/// Neither of the two can be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "links that take time can't be had here: the kernel has no netem (`modprobe sch_netem` as \
     root), and {0}; take `[[link]]` out of the scenario to run it without"
)]
pub(crate) struct NoDistance(#[from] link_relay::Error);

/// What makes links take time here. Needs the privilege that namespaces do.
///
/// # Errors
/// With what is missing and what to do.
pub(crate) fn engine() -> Result<LinkEngine, NoDistance> {
    static HAS_NETEM: OnceLock<bool> = OnceLock::new();
    if *HAS_NETEM.get_or_init(has_netem) {
        return Ok(LinkEngine::Netem);
    }
    link_relay::is_available()?;
    Ok(LinkEngine::Relay)
}

/// Tried where nobody else is.
fn has_netem() -> bool {
    let tried = Namespace::new().and_then(|namespace| {
        namespace.run(|| tc(&["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]))
    });
    matches!(tried, Ok(Ok(())))
}

/// In the namespace that the calling thread is in.
fn tc(arguments: &[&str]) -> io::Result<()> {
    let done = Command::new("tc").args(arguments).stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("tc {}: {}", arguments.join(" "), said.trim())))
}

impl Distance {
    /// Makes the devices of all links, where they are devices.
    pub(super) fn start(links: &[Slow<'_>], plan: &Plan<'_>) -> Result<Self, NetworkError> {
        let engine = engine()?;
        let relay = match engine {
            LinkEngine::Netem => None,
            LinkEngine::Relay => Some(start_relay(links, plan)?),
        };
        Ok(Self { engine, relay, asked: 0, links: Vec::new() })
    }

    /// Whether links have devices of their own, and are no veth links.
    pub(super) fn has_devices(&self) -> bool {
        self.relay.is_some()
    }

    pub(super) fn relay_mut(&mut self) -> Option<&mut Process> {
        self.relay.as_mut()
    }

    /// Has links take time that don't yet, and pings through all.
    pub(super) fn begin(&mut self, links: &[Slow<'_>]) -> Result<(), NetworkError> {
        if self.engine == LinkEngine::Netem {
            for (link, end) in links.iter().flat_map(|link| link.ends.map(|end| (link, end))) {
                let arguments = netem(end.device, &link.settings);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let done = end.namespace.run(|| tc(&arguments)).and_then(|done| done);
                done.map_err(NetworkError::Join)?;
            }
        }
        let pings = ping_all(links).map_err(NetworkError::Ping)?;
        self.links = links.iter().zip(pings).map(|(link, pings)| record(link, pings)).collect();
        Ok(())
    }

    /// Has the relay say what it did since it was last asked.
    pub(super) fn ask(&mut self) {
        // One that is gone fails the trial by itself.
        if let Some(Ok(line)) = self.relay.as_mut().map(|relay| relay.send("report")) {
            self.asked = line;
        }
    }

    /// What pings took, and what the relay did between the last two times that it was asked.
    pub(super) fn record(&self) -> LinksRecord {
        let answer = self.relay.as_ref().filter(|_| self.asked > 1);
        let report = answer.and_then(|relay| answer_of(relay, self.asked));
        let mut links = self.links.clone();
        for (link, [there, back]) in
            links.iter_mut().zip(report.iter().flat_map(|report| &report.links))
        {
            link.packets = Some(there.packets + back.packets);
            link.lost = Some(there.lost + back.lost);
            link.dropped = Some(there.dropped + back.dropped);
        }
        LinksRecord {
            engine: self.engine,
            links,
            late_p50_ns: report.as_ref().map(|report| report.late_p50_ns),
            late_p99_ns: report.as_ref().map(|report| report.late_p99_ns),
        }
    }
}

/// Waits for an answer of the relay; `None` where it gives none.
fn answer_of(relay: &Process, line: u64) -> Option<Report> {
    let begin = Instant::now();
    loop {
        let read = |said: &[u8]| serde_json::from_slice(said).ok();
        let found = relay.find_said(|said| read(said).filter(|one: &Report| one.answers == line));
        if found.is_some() || begin.elapsed() > PATIENCE {
            return found;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn start_relay(links: &[Slow<'_>], plan: &Plan<'_>) -> Result<Process, NetworkError> {
    let failed = |error: io::Error| NetworkError::Relay(error.to_string());
    let program = env::current_exe().map_err(failed)?;
    let mut command = vec![program.to_string_lossy().into_owned(), "link-relay".to_owned()];
    for (number, link) in links.iter().enumerate() {
        let end = |end: &End<'_>| link_relay::End {
            namespace: end.namespace.path(),
            device: end.device.to_owned(),
            index: end.index,
        };
        let link = Link {
            ends: link.ends.each_ref().map(end),
            settings: settings(&link.settings),
            seed: plan.seed.wrapping_add(number as u64),
        };
        let text = serde_json::to_string(&link).map_err(|error| failed(error.into()))?;
        command.extend(["--link".to_owned(), text]);
    }
    let launch = Launch::new("links", command, &[]);
    let mut relay = Process::start(&launch, None, None, plan.dir).map_err(failed)?;
    let begin = Instant::now();
    while !relay.has_said(READY) {
        if relay.exited().is_some() || begin.elapsed() > PATIENCE {
            return Err(NetworkError::Relay(relay.exit_report().to_string()));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(relay)
}

fn settings(settings: &LinkSettings) -> Settings {
    let LinkSettings { delay, jitter, loss, rate, limit, reorder } = *settings;
    let (delay_ns, jitter_ns) = (nanos(delay), nanos(jitter));
    Settings { delay_ns, jitter_ns, loss, rate_bits: rate, limit, reorder }
}

/// The arguments of `tc` that have packets which go out by a device take time.
fn netem(device: &str, settings: &LinkSettings) -> Vec<String> {
    let LinkSettings { delay, jitter, loss, rate, limit, reorder } = *settings;
    let us = |time: Duration| format!("{}us", nanos(time) as f64 / 1e3);
    let mut words: Vec<String> =
        ["qdisc", "add", "dev", device, "root", "netem", "limit"].map(str::to_owned).into();
    words.extend([limit.to_string(), "delay".to_owned(), us(delay), us(jitter)]);
    if loss > 0.0 {
        words.extend(["loss".to_owned(), format!("{}%", loss * 100.0)]);
    }
    let keeps_order = !jitter.is_zero() && !reorder;
    if let Some(rate) = rate.or_else(|| keeps_order.then_some(NO_RATE)) {
        words.extend(["rate".to_owned(), format!("{rate}bit")]);
    }
    words
}

/// Pings through all links, from the namespaces of their first ends, one after the other.
fn ping_all(links: &[Slow<'_>]) -> io::Result<Vec<Vec<u64>>> {
    let mut pings = vec![Vec::new(); links.len()];
    let mut left: Vec<usize> = (0..links.len()).collect();
    while let Some(&first) = left.first() {
        let here = links[first].ends[0].namespace;
        let (own, others) =
            left.into_iter().partition(|link| std::ptr::eq(links[*link].ends[0].namespace, here));
        left = others;
        let own: Vec<usize> = own;
        let targets: Vec<Ipv4Addr> = own.iter().map(|link| links[*link].target).collect();
        let longest = own.iter().map(|link| asked(&links[*link].settings)).max();
        let jitter = own.iter().map(|link| links[*link].settings.jitter).max();
        let patience = longest.unwrap_or_default() + 2 * jitter.unwrap_or_default() + PING_PATIENCE;
        let took = here.run(|| ping(&targets, patience))??;
        for (link, took) in own.into_iter().zip(took) {
            pings[link] = took;
        }
    }
    Ok(pings)
}

/// What a ping should take, there and back.
fn asked(settings: &LinkSettings) -> Duration {
    let rate = settings
        .rate
        .map_or(Duration::ZERO, |rate| Duration::from_nanos(PING_BYTES * 8 * 1_000_000_000 / rate));
    2 * (settings.delay + rate)
}

fn record(link: &Slow<'_>, mut pings: Vec<u64>) -> LinkRecord {
    pings.sort_unstable();
    // The nearest rank.
    let at = |part: f64| {
        let rank = (part * pings.len() as f64).ceil() as usize;
        pings.get(rank.max(1) - 1).copied().unwrap_or(0)
    };
    LinkRecord {
        between: link.between.names(),
        pings: PINGS as u32,
        answered: pings.len() as u32,
        asked_ns: nanos(asked(&link.settings)),
        jitter_ns: 2 * nanos(link.settings.jitter),
        ping_p50_ns: at(0.5),
        ping_p99_ns: at(0.99),
        packets: None,
        lost: None,
        dropped: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: LinkSettings = LinkSettings {
        delay: Duration::from_micros(2_500),
        jitter: Duration::ZERO,
        loss: 0.0,
        rate: None,
        limit: 1_000,
        reorder: false,
    };

    /// The words of tc-netem(8), which no kernel here may understand.
    #[test]
    fn netem_is_told_in_its_own_words() {
        let words = |settings| netem("up", &settings).join(" ");
        let begin = "qdisc add dev up root netem limit 1000 delay 2500us";
        assert_eq!(words(PLAIN), format!("{begin} 0us"));
        let jitter = LinkSettings { jitter: Duration::from_micros(100), ..PLAIN };
        assert_eq!(words(jitter), format!("{begin} 100us rate 100000000000bit"));
        let reorders = LinkSettings { reorder: true, ..jitter };
        assert_eq!(words(reorders), format!("{begin} 100us"));
        let lossy = LinkSettings { loss: 0.015, rate: Some(1_000_000), ..PLAIN };
        assert_eq!(words(lossy), format!("{begin} 0us loss 1.5% rate 1000000bit"));
    }

    #[test]
    fn a_ping_is_asked_to_take_both_ways_and_the_rate() {
        assert_eq!(asked(&PLAIN), Duration::from_millis(5));
        let slow = LinkSettings { rate: Some(84 * 8 * 1_000), ..PLAIN };
        assert_eq!(asked(&slow), Duration::from_millis(7));
    }
}
