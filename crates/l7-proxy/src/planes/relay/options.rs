//! The configuration, turned into the bounds of connections and of time.

use std::time::Duration;

use h2_wire::connection::{FloodLimits, Options, Role};
use h2_wire::hpack::{EncoderOptions, ListLimits};

use crate::config::Config;

/// How much wider a list may be than the limit and still be looked at, so that
/// a call beyond the limit can be told so in gRPC's words.
const LIST_LEEWAY: usize = 4;

/// Output beyond which DATA waits with its stream, and a connection takes no more
/// calls, in bytes. Large against a
/// send buffer's share of it, small against what all connections may hold.
pub(super) const OUTPUT_HIGH_BYTES: usize = 256 << 10;

/// Literals are sent as they are: Huffman code would save a quarter of their
/// bytes on a network that is not the bottleneck, and costs time on both sides.
const ENCODER: EncoderOptions = EncoderOptions { max_table_bytes: 4_096, huffman: false };

/// Bounds on clients.
pub(super) fn downstream(config: &Config) -> Options {
    let limits = &config.downstream;
    let list_bytes = limits.max_header_list_bytes as usize;
    Options {
        stream_window_bytes: limits.stream_window_bytes,
        connection_window_bytes: limits.connection_window_bytes,
        max_frame_bytes: limits.max_frame_bytes,
        max_streams: limits.max_concurrent_streams,
        list_limits: ListLimits {
            max_fields: limits.max_headers * LIST_LEEWAY,
            max_bytes: list_bytes * LIST_LEEWAY,
        },
        announced_list_bytes: limits.max_header_list_bytes,
        header_table_bytes: limits.header_table_bytes,
        encoder: ENCODER,
        max_block_bytes: list_bytes * LIST_LEEWAY,
        max_continuations: limits.max_continuations,
        floods: FloodLimits {
            control_frames: limits.control_frames(),
            resets: limits.max_resets_per_second,
            stray_frames: limits.max_stray_frames_per_second,
        },
        max_error_resets: u32::try_from(limits.max_error_resets).unwrap_or(u32::MAX),
        output_high_bytes: OUTPUT_HIGH_BYTES.min(limits.max_waiting_response_bytes / 8),
        ..Options::new(Role::Server)
    }
}

/// Bounds on backends. They are trusted more than clients: a backend answers
/// many clients over one connection, so that what it resets is no sign of ill
/// will. One that floods is bounded all the same, or it would take a thread's
/// time from all others.
pub(super) fn upstream(config: &Config) -> Options {
    let limits = &config.upstream;
    let list_bytes = limits.backend_max_header_list_bytes as usize;
    let error_resets = u32::try_from(limits.backend_max_error_resets).unwrap_or(u32::MAX);
    Options {
        stream_window_bytes: ResponseShares::of(config).first_window_bytes,
        connection_window_bytes: limits.backend_connection_window_bytes,
        max_frame_bytes: limits.backend_max_frame_bytes,
        max_streams: limits.backend_max_streams,
        assumed_streams: limits.backend_assumed_streams,
        first_stream: limits.backend_first_stream,
        list_limits: ListLimits { max_fields: list_bytes / 32, max_bytes: list_bytes },
        announced_list_bytes: limits.backend_max_header_list_bytes,
        header_table_bytes: limits.backend_header_table_bytes,
        encoder: ENCODER,
        max_block_bytes: list_bytes,
        max_continuations: config.downstream.max_continuations,
        floods: FloodLimits {
            control_frames: limits.backend_max_control_frames_per_second,
            resets: error_resets,
            stray_frames: limits.backend_max_stray_frames_per_second,
        },
        max_error_resets: error_resets,
        max_unacknowledged_resets: limits.backend_max_unacknowledged_resets,
        output_high_bytes: OUTPUT_HIGH_BYTES,
        ..Options::new(Role::Client)
    }
}

/// How what may wait for one client's connection is shared among its calls, so
/// that their responses can't pass it, in bytes.
///
/// Credit that a backend has been given can't be taken back, so what all its
/// streams for one client may send adds up to the bound at most. Each has a
/// small window by SETTINGS. While not much waits for the client it is made as
/// large as configured together with the request, so that a response within it
/// comes without a round trip; a call beyond that goes on with the small one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseShares {
    /// What may wait in all, headers included.
    pub(super) most_bytes: usize,
    /// The window that a stream of a backend begins with.
    pub(super) first_window_bytes: u32,
    /// What a call is given in addition.
    pub(super) grant_bytes: u32,
    /// What all calls may be given in addition.
    pub(super) granted_bytes_max: usize,
}

impl ResponseShares {
    /// A quarter is for the small windows, half for larger ones; the rest is for
    /// what has no window: heads, trailers, and frames on their way out.
    pub(super) fn of(config: &Config) -> Self {
        let (down, up) = (&config.downstream, &config.upstream);
        let most_bytes = down.max_waiting_response_bytes;
        let small_bytes = most_bytes / 4 / down.max_concurrent_streams.max(1) as usize;
        let window_bytes = up.backend_stream_window_bytes;
        let first_window_bytes =
            u32::try_from(small_bytes).unwrap_or(u32::MAX).clamp(1, window_bytes);
        Self {
            most_bytes,
            first_window_bytes,
            grant_bytes: window_bytes - first_window_bytes,
            granted_bytes_max: most_bytes / 2,
        }
    }
}

/// How often all connections are looked at.
pub(super) struct Sweep {
    period_ns: u64,
    /// When they are looked at next, and when they were last.
    pub(super) next_ns: u64,
    last_ns: u64,
    /// The last look was late and was put off.
    is_put_off: bool,
    /// Since the counts of floods were halved.
    pub(super) since_halving_ms: u64,
}

impl Sweep {
    /// As often as the shortest of the timeouts that a sweep looks after asks for.
    pub(super) fn of(config: &Config, now_ns: u64) -> Self {
        let (down, up) = (&config.downstream, &config.upstream);
        let timeouts = [
            down.handshake_timeout,
            down.frame_timeout,
            down.write_stall_timeout,
            down.idle_timeout,
            down.keepalive_interval,
            down.keepalive_timeout,
            up.backend_keepalive_interval,
            up.backend_keepalive_timeout,
        ];
        let shortest = timeouts.into_iter().min().unwrap_or(Duration::MAX);
        let period = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let period_ns = period.as_nanos() as u64;
        Self {
            period_ns,
            next_ns: now_ns + period_ns,
            last_ns: now_ns,
            is_put_off: false,
            since_halving_ms: 0,
        }
    }

    /// Gives the milliseconds since the last look at all connections, if it is
    /// time for another.
    ///
    /// While there are no connections nobody looks, and a thread that was
    /// stopped has not looked either. That time is nobody's fault: a look that
    /// is late is put off by one period, in which all that waits is read.
    pub(super) fn begin(&mut self, now_ns: u64) -> Option<u64> {
        if now_ns < self.next_ns {
            return None;
        }
        let is_late = now_ns - self.next_ns > self.period_ns;
        let elapsed_ms = (now_ns - self.last_ns) / 1_000_000;
        self.next_ns = now_ns + self.period_ns;
        self.last_ns = now_ns;
        // Once only, or a thread whose turns are long would never look.
        self.is_put_off = is_late && !self.is_put_off;
        (!self.is_put_off).then_some(elapsed_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use balance::PolicyKind;

    #[test]
    fn the_windows_of_all_calls_add_up_to_less_than_what_may_wait() {
        let mut config = Config::new(Vec::new(), PolicyKind::RoundRobin);
        for (most_bytes, streams) in [(16 << 20, 1_024), (200_000, 1_024), (1 << 20, 1)] {
            config.downstream.max_waiting_response_bytes = most_bytes;
            config.downstream.max_concurrent_streams = streams;
            let shares = ResponseShares::of(&config);
            let small_bytes = shares.first_window_bytes as usize * streams as usize;
            assert!(small_bytes + shares.granted_bytes_max <= most_bytes / 4 * 3, "{shares:?}");
            assert_eq!(
                shares.first_window_bytes + shares.grant_bytes,
                config.upstream.backend_stream_window_bytes
            );
        }
    }

    #[test]
    fn a_look_that_is_late_is_put_off_once_and_charges_nobody() {
        const SECOND: u64 = 1_000_000_000;
        let mut sweep = Sweep::of(&Config::new(Vec::new(), PolicyKind::RoundRobin), 0);
        assert_eq!(sweep.begin(SECOND - 1), None);
        assert_eq!(sweep.begin(SECOND), Some(1_000));
        assert_eq!(sweep.begin(400 * SECOND), None, "nobody looked for six minutes");
        assert_eq!(sweep.begin(401 * SECOND), Some(1_000));
        // A thread that is always late looks every other time.
        assert_eq!(sweep.begin(411 * SECOND), None);
        assert_eq!(sweep.begin(421 * SECOND), Some(10_000));
    }

    #[test]
    fn sweeps_come_often_enough_for_the_shortest_timeout() {
        let mut config = Config::new(Vec::new(), PolicyKind::RoundRobin);
        assert_eq!(Sweep::of(&config, 0).period_ns, 1_000_000_000);
        config.downstream.frame_timeout = Duration::from_millis(200);
        assert_eq!(Sweep::of(&config, 0).period_ns, 50_000_000);
        config.downstream.frame_timeout = Duration::ZERO;
        assert_eq!(Sweep::of(&config, 0).period_ns, 10_000_000);
    }
}
