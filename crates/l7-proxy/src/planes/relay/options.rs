//! The configuration, turned into the bounds of connections.

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

#[cfg(test)]
mod tests {
    use balance::PolicyKind;

    use super::*;

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
}
