//! What a client's connection may do, as pure decisions: frames and the time
//! come in, and out come breaches and streams to reset.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::walk::{Event, Head, wire};
use crate::config::DownstreamLimits;
use crate::metrics::Ending;

/// Frames that a DATA or HEADERS frame of ours allows in return. A client that
/// takes a response sends a window update or two for each DATA frame, and some
/// measure the path with PINGs meanwhile.
const FRAMES_PER_FRAME: u32 = 10;

/// Bytes a stalled stream must have moved in a whole stall timeout to count as
/// moving. One byte at a time is no progress but a way to look alive.
const PROGRESS_BYTES: u64 = 1_024;

/// The window both sides begin with (RFC 9113, section 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;

/// A count that is halved each second, so that a burst followed by a pause is
/// remembered for a while.
#[derive(Debug)]
struct Decaying {
    count: u32,
    since: Instant,
}

impl Decaying {
    fn new(now: Instant) -> Self {
        Self { count: 0, since: now }
    }

    /// Counts one more. False when that is more than `most`.
    fn add(&mut self, now: Instant, most: u32) -> bool {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            self.count = self.count.checked_shr(seconds.min(32) as u32).unwrap_or(0);
            self.since += Duration::from_secs(seconds);
        }
        self.count = self.count.saturating_add(1);
        self.count <= most
    }

    fn forgive(&mut self, count: u32) {
        self.count = self.count.saturating_sub(count);
    }
}

/// Since when somebody waits for the client, and how far things were then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    sent_bytes: u64,
}

/// What the proxy may send on a stream, or on the connection.
#[derive(Debug)]
struct Window {
    bytes: i64,
    sent_bytes: u64,
    /// Set while the window is exhausted.
    exhausted: Option<Mark>,
}

impl Window {
    fn new(bytes: i64) -> Self {
        Self { bytes, sent_bytes: 0, exhausted: None }
    }

    /// Marks a window that is exhausted. True when it was not before.
    fn mark(&mut self, now: Instant) -> bool {
        let is_new = self.bytes <= 0 && self.exhausted.is_none();
        if is_new {
            self.exhausted = Some(Mark { at: now, sent_bytes: self.sent_bytes });
        }
        is_new
    }

    fn send(&mut self, bytes: u32) {
        self.bytes -= i64::from(bytes);
        self.sent_bytes += u64::from(bytes);
    }

    /// Looks at the mark once in a while: true when the window has been
    /// exhausted for all of `timeout`, and what moved was no progress.
    fn is_stalled(&mut self, now: Instant, timeout: Duration) -> bool {
        if self.bytes > 0 {
            // Whatever waited has gone out.
            self.exhausted = None;
        }
        let Some(mark) = &mut self.exhausted else { return false };
        if self.sent_bytes - mark.sent_bytes >= PROGRESS_BYTES {
            *mark = Mark { at: now, sent_bytes: self.sent_bytes };
        }
        now >= mark.at + timeout
    }
}

/// The rules of one connection.
#[derive(Debug)]
pub(super) struct Rules {
    limits: DownstreamLimits,
    resets: Decaying,
    control: Decaying,
    /// The client's streams whose response has not ended.
    streams: HashMap<u32, Window>,
    connection: Window,
    /// The window that new streams begin with.
    initial_window: i64,
    highest_stream: u32,
    /// The handshake's end, until the client's SETTINGS have come.
    handshake: Option<Instant>,
    /// Until when the frame or header block that has begun must end.
    frame: Option<Instant>,
    /// When windows are looked at again; set while one is exhausted.
    stall_check: Option<Instant>,
    /// Since when the socket takes no bytes.
    socket: Option<Mark>,
    socket_bytes: u64,
    /// Since when there is no stream.
    idle_since: Instant,
}

impl Rules {
    pub(super) fn new(limits: DownstreamLimits, now: Instant) -> Self {
        Self {
            handshake: Some(now + limits.handshake_timeout),
            limits,
            resets: Decaying::new(now),
            control: Decaying::new(now),
            streams: HashMap::new(),
            connection: Window::new(DEFAULT_WINDOW),
            initial_window: DEFAULT_WINDOW,
            highest_stream: 0,
            frame: None,
            stall_check: None,
            socket: None,
            socket_bytes: 0,
            idle_since: now,
        }
    }

    /// The highest stream the client has opened.
    pub(super) fn highest_stream(&self) -> u32 {
        self.highest_stream
    }

    /// How many streams are kept account of.
    pub(super) fn streams_watched(&self) -> usize {
        self.streams.len()
    }

    /// Takes note of what the client sent.
    pub(super) fn received(&mut self, event: Event, now: Instant) -> Result<(), Ending> {
        match event {
            Event::Head(head) => self.received_head(head, now),
            Event::Setting(wire::INITIAL_WINDOW_SIZE, value) => {
                let value = i64::from(value);
                for window in self.streams.values_mut() {
                    window.bytes += value - self.initial_window;
                }
                self.initial_window = value;
                Ok(())
            }
            Event::Word(head, increment) if head.kind == wire::WINDOW_UPDATE => {
                let window = match head.stream {
                    0 => Some(&mut self.connection),
                    stream => self.streams.get_mut(&stream),
                };
                if let Some(window) = window {
                    window.bytes += i64::from(increment);
                }
                Ok(())
            }
            Event::Setting(..) | Event::Word(..) => Ok(()),
        }
    }

    fn received_head(&mut self, head: Head, now: Instant) -> Result<(), Ending> {
        let is_cheap = match head.kind {
            wire::HEADERS => {
                self.open(head.stream, now);
                false
            }
            // h2 bounds the frames of a header block itself.
            wire::CONTINUATION => false,
            wire::DATA => head.length == 0 && !head.has(wire::END_STREAM),
            wire::RST_STREAM => {
                self.close(head.stream, now);
                if !self.resets.add(now, self.limits.max_resets_per_second) {
                    return Err(Ending::ResetFlood);
                }
                false
            }
            wire::SETTINGS if !head.has(wire::ACK) => {
                self.handshake = None;
                true
            }
            // WINDOW_UPDATE, PING, PRIORITY, GOAWAY, acknowledgements, and
            // what nobody knows.
            _ => true,
        };
        if is_cheap && !self.control.add(now, self.limits.max_control_frames_per_second) {
            return Err(Ending::ControlFlood);
        }
        Ok(())
    }

    fn open(&mut self, stream: u32, now: Instant) {
        // Trailers are HEADERS as well. Streams beyond the limit are refused
        // by h2, one by one, so there can't be many more.
        let most = self.limits.max_concurrent_streams as usize * 2 + 64;
        if stream <= self.highest_stream || self.streams.len() >= most {
            return;
        }
        self.highest_stream = stream;
        let mut window = Window::new(self.initial_window);
        let is_exhausted = window.mark(now);
        self.streams.insert(stream, window);
        if is_exhausted {
            self.check_later(now);
        }
    }

    fn close(&mut self, stream: u32, now: Instant) {
        self.streams.remove(&stream);
        if self.streams.is_empty() {
            self.idle_since = now;
        }
    }

    /// Takes note of what the proxy sent.
    pub(super) fn sent(&mut self, event: Event, now: Instant) -> Result<(), Ending> {
        /// Codes of RST_STREAM that tell a client of its own mistake.
        const MISTAKES: [u32; 4] = [1, 3, 5, 6];
        match event {
            Event::Head(head) => {
                self.sent_head(head, now);
                Ok(())
            }
            Event::Word(head, code) if head.kind == wire::RST_STREAM => {
                let is_mistake = MISTAKES.contains(&code);
                if is_mistake && !self.resets.add(now, self.limits.max_resets_per_second) {
                    return Err(Ending::ResetFlood);
                }
                Ok(())
            }
            Event::Setting(..) | Event::Word(..) => Ok(()),
        }
    }

    fn sent_head(&mut self, head: Head, now: Instant) {
        match head.kind {
            wire::DATA => {
                self.control.forgive(FRAMES_PER_FRAME);
                self.connection.send(head.length);
                let mut is_exhausted = self.connection.mark(now);
                if let Some(window) = self.streams.get_mut(&head.stream) {
                    window.send(head.length);
                    is_exhausted |= window.mark(now);
                }
                if is_exhausted {
                    self.check_later(now);
                }
            }
            wire::HEADERS => self.control.forgive(FRAMES_PER_FRAME),
            _ => {}
        }
        let ends = match head.kind {
            wire::DATA | wire::HEADERS => head.has(wire::END_STREAM),
            kind => kind == wire::RST_STREAM,
        };
        if ends {
            self.close(head.stream, now);
        }
    }

    fn check_later(&mut self, now: Instant) {
        self.stall_check.get_or_insert(now + self.limits.write_stall_timeout);
    }

    /// Takes note of whether the client's frames are whole.
    pub(super) fn boundary(&mut self, is_on_boundary: bool, now: Instant) {
        if is_on_boundary {
            self.frame = None;
        } else {
            self.frame.get_or_insert(now + self.limits.frame_timeout);
        }
    }

    /// Takes note of what the socket took: `None` when it takes nothing, and
    /// otherwise the bytes, and whether they were all.
    pub(super) fn socket(&mut self, taken: Option<(usize, bool)>, now: Instant) {
        let Some((bytes, is_all)) = taken else {
            self.socket.get_or_insert(Mark { at: now, sent_bytes: self.socket_bytes });
            return;
        };
        self.socket_bytes += bytes as u64;
        if let Some(mark) = &mut self.socket {
            let has_moved = self.socket_bytes - mark.sent_bytes >= PROGRESS_BYTES;
            if is_all {
                self.socket = None;
            } else if has_moved {
                *mark = Mark { at: now, sent_bytes: self.socket_bytes };
            }
        }
    }

    /// When [`Rules::expire`] has something to say at the earliest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let socket = self.socket.map(|mark| mark.at + self.limits.write_stall_timeout);
        let idle = self.streams.is_empty().then(|| self.idle_since + self.limits.idle_timeout);
        [self.handshake, self.frame, self.stall_check, socket, idle].into_iter().flatten().min()
    }

    /// What time has decided: the streams to reset because their client takes
    /// nothing, or the end of the connection.
    pub(super) fn expire(&mut self, now: Instant) -> Result<Vec<u32>, Ending> {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let stall = self.limits.write_stall_timeout;
        if is_over(self.handshake) {
            return Err(Ending::HandshakeTimeout);
        }
        if is_over(self.frame) {
            return Err(Ending::FrameTimeout);
        }
        if is_over(self.socket.map(|mark| mark.at + stall)) {
            return Err(Ending::WriteStall);
        }
        if self.streams.is_empty() && now >= self.idle_since + self.limits.idle_timeout {
            return Err(Ending::Idle);
        }
        if !is_over(self.stall_check) {
            return Ok(Vec::new());
        }
        self.check_stalls(now)
    }

    fn check_stalls(&mut self, now: Instant) -> Result<Vec<u32>, Ending> {
        let stall = self.limits.write_stall_timeout;
        if self.connection.is_stalled(now, stall) && !self.streams.is_empty() {
            return Err(Ending::WriteStall);
        }
        let stalled: Vec<u32> = self
            .streams
            .iter_mut()
            .filter_map(|(stream, window)| window.is_stalled(now, stall).then_some(*stream))
            .collect();
        for stream in &stalled {
            self.close(*stream, now);
        }
        let windows = self.streams.values().chain([&self.connection]);
        let marks = windows.filter_map(|window| window.exhausted);
        // Never at once: a connection without streams keeps its mark.
        let at_least = now + stall / 4;
        self.stall_check = marks.map(|mark| (mark.at + stall).max(at_least)).min();
        Ok(stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> DownstreamLimits {
        DownstreamLimits {
            max_resets_per_second: 10,
            max_control_frames_per_second: 10,
            write_stall_timeout: Duration::from_secs(8),
            ..DownstreamLimits::default()
        }
    }

    fn head(kind: u8, flags: u8, stream: u32, length: u32) -> Event {
        Event::Head(Head { length, kind, flags, stream })
    }

    fn rules() -> (Rules, Instant) {
        let now = Instant::now();
        let mut rules = Rules::new(limits(), now);
        rules.received(head(wire::SETTINGS, 0, 0, 0), now).unwrap();
        (rules, now)
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_count_is_halved_each_second() {
        let now = Instant::now();
        let mut count = Decaying::new(now);
        assert!((0..8).all(|_| count.add(now, 8)));
        assert!(!count.add(now, 8));
        assert!((0..4).all(|_| count.add(after(now, 1), 8)), "nine have become four");
        assert!(!count.add(after(now, 1), 8));
        assert!((0..8).all(|_| count.add(after(now, 100), 8)));
    }

    #[test]
    fn resets_of_both_sides_are_one_count() {
        let (mut rules, now) = rules();
        for stream in 0..5 {
            rules.received(head(wire::RST_STREAM, 0, stream * 2 + 1, 4), now).unwrap();
            let ours = Head { length: 4, kind: wire::RST_STREAM, flags: 0, stream: 1 };
            rules.sent(Event::Word(ours, 1), now).unwrap();
            // What a backend did is not the client's fault.
            rules.sent(Event::Word(ours, 8), now).unwrap();
        }
        let one_more = rules.received(head(wire::RST_STREAM, 0, 11, 4), now);
        assert_eq!(one_more, Err(Ending::ResetFlood));
    }

    #[test]
    fn responses_pay_for_window_updates() {
        let (mut rules, now) = rules();
        for _ in 0..100 {
            rules.sent(head(wire::DATA, 0, 1, 100), now).unwrap();
            for _ in 0..FRAMES_PER_FRAME {
                rules.received(head(wire::WINDOW_UPDATE, 0, 1, 4), now).unwrap();
            }
        }
        let result = (0..20).try_for_each(|_| rules.received(head(6, 0, 0, 8), now));
        assert_eq!(result, Err(Ending::ControlFlood));
    }

    #[test]
    fn empty_data_counts_and_the_end_of_a_request_does_not() {
        let (mut rules, now) = rules();
        for _ in 0..100 {
            rules.received(head(wire::DATA, wire::END_STREAM, 1, 0), now).unwrap();
            rules.received(head(wire::DATA, 0, 1, 1), now).unwrap();
        }
        let result = (0..20).try_for_each(|_| rules.received(head(wire::DATA, 0, 1, 0), now));
        assert_eq!(result, Err(Ending::ControlFlood));
    }

    #[test]
    fn a_stream_without_a_window_is_reset_and_a_drip_does_not_help() {
        let (mut rules, now) = rules();
        rules.received(Event::Setting(wire::INITIAL_WINDOW_SIZE, 0), now).unwrap();
        rules.received(head(wire::HEADERS, wire::END_HEADERS, 1, 10), now).unwrap();
        rules.received(head(wire::HEADERS, wire::END_HEADERS, 3, 10), now).unwrap();
        let update = |stream| Head { length: 4, kind: wire::WINDOW_UPDATE, flags: 0, stream };
        for second in 1..8 {
            let now = after(now, second);
            rules.received(Event::Word(update(1), 1), now).unwrap();
            rules.sent(head(wire::DATA, 0, 1, 1), now).unwrap();
            // Stream 3 moves.
            rules.received(Event::Word(update(3), 1_000), now).unwrap();
            rules.sent(head(wire::DATA, 0, 3, 1_000), now).unwrap();
            assert_eq!(rules.expire(now), Ok(vec![]));
        }
        assert_eq!(rules.deadline(), Some(after(now, 8)));
        assert_eq!(rules.expire(after(now, 8)), Ok(vec![1]));
        assert_eq!(rules.streams_watched(), 1);
        assert_eq!(rules.expire(after(now, 16)), Ok(vec![3]));
        assert!(rules.streams.is_empty());
    }

    #[test]
    fn a_window_that_was_opened_is_not_stalled() {
        let (mut rules, now) = rules();
        rules.received(head(wire::HEADERS, wire::END_HEADERS, 1, 10), now).unwrap();
        rules.sent(head(wire::DATA, 0, 1, 65_535), now).unwrap();
        let update = |stream| Head { length: 4, kind: wire::WINDOW_UPDATE, flags: 0, stream };
        rules.received(Event::Word(update(1), 500), now).unwrap();
        rules.received(Event::Word(update(0), 500), now).unwrap();
        assert_eq!(rules.expire(after(now, 8)), Ok(vec![]));
        assert_eq!(rules.stall_check, None);
    }

    #[test]
    fn a_connection_without_a_window_ends() {
        let (mut rules, now) = rules();
        rules.received(head(wire::HEADERS, wire::END_HEADERS, 1, 10), now).unwrap();
        let update = Head { length: 4, kind: wire::WINDOW_UPDATE, flags: 0, stream: 1 };
        rules.received(Event::Word(update, 1 << 20), now).unwrap();
        rules.sent(head(wire::DATA, 0, 1, 65_535), now).unwrap();
        assert_eq!(rules.expire(after(now, 8)), Err(Ending::WriteStall));
    }

    #[test]
    fn a_socket_that_takes_nothing_ends_the_connection() {
        let (mut rules, now) = rules();
        rules.socket(None, now);
        rules.socket(Some((10, false)), after(now, 7));
        rules.socket(None, after(now, 7));
        assert_eq!(rules.expire(after(now, 8)), Err(Ending::WriteStall));
        rules.socket(Some((10, true)), after(now, 8));
        assert_eq!(rules.expire(after(now, 9)), Ok(vec![]));
    }

    #[test]
    fn silence_has_its_deadlines() {
        let now = Instant::now();
        let limits = limits();
        let mut rules = Rules::new(limits.clone(), now);
        assert_eq!(rules.deadline(), Some(now + limits.handshake_timeout));
        assert_eq!(rules.expire(now + limits.handshake_timeout), Err(Ending::HandshakeTimeout));
        rules.received(head(wire::SETTINGS, 0, 0, 0), now).unwrap();
        rules.boundary(false, now);
        rules.boundary(false, after(now, 1));
        assert_eq!(rules.expire(now + limits.frame_timeout), Err(Ending::FrameTimeout));
        rules.boundary(true, now);
        assert_eq!(rules.deadline(), Some(now + limits.idle_timeout));
        assert_eq!(rules.expire(now + limits.idle_timeout), Err(Ending::Idle));
    }
}
