//! The hot path: every call of one worker, written down as it happened.
//!
//! A call costs one write of a fixed-size entry into memory that was set aside
//! and touched before the trial. Nothing is computed: where the warm-up ends,
//! the histograms, the series, tests of the arrivals all come from the whole log
//! after the trial ([`crate::fold`]). The alternative, recording into histograms
//! at once, is several times dearer per call (a histogram for each of latency,
//! lateness, queueing and service, per backend and second) and has to decide
//! what belongs to the warm-up before anyone can know. The price is memory: 64
//! bytes a call, bounded by [`CallLog::LIMIT`].

use std::num::NonZeroU64;

use units::grpc::STATUS_NAMES;

use crate::record::Side;

/// How one call went. Times are nanoseconds since the trial's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was scheduled; in a closed loop, when its slot wanted to send.
    pub due_ns: u64,
    /// When it could first have been sent: its due time, or when a stream slot
    /// became free for it. What lies between this and `sent_ns` is the
    /// generator's fault.
    pub ready_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When its end was seen.
    pub done_ns: u64,
    /// When the kernel saw it; `None` where that is not known.
    pub on_wire: Option<OnWire>,
    /// What came of it.
    pub outcome: Outcome,
}

/// When a call left the generator and when its response came in, without what the
/// generator itself took to send and to look. Times as in [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnWire {
    written_ns: u64,
    arrived_ns: NonZeroU64,
}

impl OnWire {
    /// A response that came in at `arrived_ns` to a request whose last byte was handed to
    /// the kernel at `written_ns`. `None` where it came before, as it may where the server
    /// answers what it has not read, or where somebody set the clock.
    #[inline]
    pub fn new(written_ns: u64, arrived_ns: u64) -> Option<Self> {
        let arrived_ns = NonZeroU64::new(arrived_ns).filter(|at| at.get() >= written_ns)?;
        Some(Self { written_ns, arrived_ns })
    }

    /// From the request's last byte to the segment that completed the response.
    pub fn took_ns(self) -> u64 {
        self.arrived_ns.get() - self.written_ns
    }

    /// When the request's last byte was handed to the kernel.
    pub fn written_ns(self) -> u64 {
        self.written_ns
    }

    /// When the segment that completed the response came in.
    pub fn arrived_ns(self) -> u64 {
        self.arrived_ns.get()
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Status OK, the right payload, from a known backend.
    Served {
        /// Index of the backend.
        backend: u16,
        /// Time queued there, as it reported.
        queued: Nanos,
        /// Time in service there, as it reported.
        service: Nanos,
    },
    /// It failed.
    Failed(FailureKind),
    /// It was sent and had no answer when the trial was closed.
    Unfinished,
    /// It was due and was never sent: it found no free stream, or the generator
    /// never got to it. Its `sent_ns` is when it was given up.
    NotSent,
}

impl Outcome {
    /// A served call, with the nanoseconds that its backend reported.
    #[inline]
    pub fn served(backend: u16, queued_ns: u64, service_ns: u64) -> Self {
        Self::Served { backend, queued: Nanos::new(queued_ns), service: Nanos::new(service_ns) }
    }
}

/// Nanoseconds in six bytes, which keeps an [`Entry`] at 64. They hold 78 hours: a
/// time that was cut to that is beyond every histogram, and so counted as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nanos([u16; 3]);

impl Nanos {
    const MAX: u64 = (1 << 48) - 1;

    #[inline]
    fn new(ns: u64) -> Self {
        let [low, middle, high, _] = split(ns.min(Self::MAX));
        Self([low, middle, high])
    }

    /// As a number.
    pub fn get(self) -> u64 {
        self.0.into_iter().rev().fold(0, |ns, part| (ns << 16) | u64::from(part))
    }
}

/// Sixteen bits each, the lowest first.
#[inline]
fn split(ns: u64) -> [u16; 4] {
    // Cut to sixteen bits, as is meant.
    [0, 16, 32, 48].map(|shift| (ns >> shift) as u16)
}

/// What went wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// A gRPC status other than OK, by its code (1 to 16).
    Status(u8),
    /// Status OK, and not what was asked for.
    WrongPayload,
    /// Status OK, from a backend the lab didn't start, or from several.
    UnknownBackend,
    /// The connection broke before the call ended.
    ConnectionLost,
    /// No connection could be made, since the client had no local port left for one.
    NoPort,
    /// No connection could be made, since the client had no descriptor left for one,
    /// or no memory.
    NoDescriptor,
}

/// The backend of a served call whose answer does not tell it.
pub const UNKNOWN_BACKEND: u16 = u16::MAX;

impl FailureKind {
    /// The kind of a gRPC status code. Codes outside 1 to 16 are `UNKNOWN`, as
    /// gRPC's own rule has it.
    pub fn from_status(code: i32) -> Self {
        Self::Status(u8::try_from(code).ok().filter(|code| (1..=16).contains(code)).unwrap_or(2))
    }

    /// In words, as in [`crate::record::FailureCount`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Status(code) => STATUS_NAMES.get(usize::from(code)).copied().unwrap_or("UNKNOWN"),
            Self::WrongPayload => "wrong payload",
            Self::UnknownBackend => "unknown backend",
            Self::ConnectionLost => "connection lost",
            Self::NoPort => "no local port",
            Self::NoDescriptor => "no descriptor",
        }
    }

    /// The side at fault, as far as a client can tell: UNAVAILABLE and
    /// RESOURCE_EXHAUSTED are what a proxy answers on its own, and a lost
    /// connection is the next hop's.
    pub fn side(self, through_proxy: bool) -> Side {
        let next_hop = if through_proxy { Side::Proxy } else { Side::Backend };
        match self {
            Self::Status(8 | 14) | Self::ConnectionLost => next_hop,
            Self::Status(1) | Self::NoPort | Self::NoDescriptor => Side::Client,
            Self::Status(_) | Self::WrongPayload | Self::UnknownBackend => Side::Backend,
        }
    }
}

/// The calls of one worker, or those of them that came from one zone and went through one
/// balancer of several, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub struct CallLog {
    entries: Vec<Entry>,
    lost: u64,
    balancer: u16,
    zone: u16,
}

impl CallLog {
    /// Most calls a log holds: 32 million, 2 GiB. Calls beyond are counted and
    /// not kept.
    pub const LIMIT: usize = 1 << 25;

    /// A log with memory for `calls` set aside and touched, so that recording
    /// them neither allocates nor faults. More calls than that cost an
    /// occasional reallocation.
    pub fn with_capacity(calls: usize) -> Self {
        let blank = Entry {
            due_ns: 0,
            ready_ns: 0,
            sent_ns: 0,
            done_ns: 0,
            on_wire: None,
            outcome: Outcome::NotSent,
        };
        let mut entries = vec![blank; calls.min(Self::LIMIT)];
        entries.clear();
        Self { entries, lost: 0, balancer: 0, zone: 0 }
    }

    /// The log of what goes through balancer number `balancer`, from zero.
    #[must_use]
    pub fn of_balancer(self, balancer: u16) -> Self {
        Self { balancer, ..self }
    }

    /// The balancer that its calls went through; zero where there is one, or none.
    pub fn balancer(&self) -> u16 {
        self.balancer
    }

    /// The log of what clients in zone number `zone`, from zero, call.
    #[must_use]
    pub fn of_zone(self, zone: u16) -> Self {
        Self { zone, ..self }
    }

    /// The zone that its calls came from; zero where there are none.
    pub fn zone(&self) -> u16 {
        self.zone
    }

    /// Writes a call down.
    #[inline]
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() < Self::LIMIT {
            self.entries.push(entry);
        } else {
            self.lost += 1;
        }
    }

    /// The calls, in the order in which they ended.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Calls that found no room.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Entry>() <= 64, "{} bytes", size_of::<Entry>());
    }

    #[test]
    fn memory_is_set_aside_before_the_calls() {
        let mut log = CallLog::with_capacity(1_000);
        let before = log.entries.capacity();
        for due_ns in 0..1_000 {
            log.push(Entry {
                due_ns,
                ready_ns: due_ns,
                sent_ns: due_ns,
                done_ns: due_ns,
                on_wire: OnWire::new(due_ns, due_ns),
                outcome: Outcome::served(0, 1, u64::MAX),
            });
        }
        assert_eq!(log.entries.capacity(), before);
        assert_eq!(log.entries().len(), 1_000);
    }

    #[test]
    fn a_response_does_not_come_before_its_request() {
        let took =
            |written_ns, arrived_ns| OnWire::new(written_ns, arrived_ns).map(OnWire::took_ns);
        assert_eq!(took(5, 12), Some(7));
        assert_eq!(took(5, 5), Some(0));
        assert_eq!(took(5, 4), None);
        assert_eq!(took(0, 0), None, "that is no time of a trial");
    }

    #[test]
    fn reported_times_are_kept_whole() {
        const HOUR: u64 = 3_600_000_000_000;
        for ns in [0, 1, 0xfffe_dcba, 0x1_0000_0000, 4_294_967_296_001, HOUR, 70 * HOUR] {
            assert_eq!(Nanos::new(ns).get(), ns);
        }
        assert!(Nanos::new(u64::MAX).get() > 78 * HOUR);
    }

    #[test]
    fn statuses_have_grpc_s_names_and_sides() {
        assert_eq!(FailureKind::from_status(14).name(), "UNAVAILABLE");
        assert_eq!(FailureKind::from_status(0).name(), "UNKNOWN");
        assert_eq!(FailureKind::from_status(99).name(), "UNKNOWN");
        assert_eq!(FailureKind::from_status(14).side(true), Side::Proxy);
        assert_eq!(FailureKind::from_status(14).side(false), Side::Backend);
        assert_eq!(FailureKind::from_status(13).side(true), Side::Backend);
        assert_eq!(FailureKind::from_status(1).side(true), Side::Client);
        assert_eq!(FailureKind::NoPort.side(true), Side::Client);
    }
}
