//! Every bound on connections and calls.
//!
//! A bound is a named field with a doc line and a default, and is a flag of the
//! same name. The default is written once, in the field's flag; the `Default`
//! of each struct reads it from there. Sources of the defaults are named where
//! a number is not ours.

use std::num::NonZeroU32;
use std::time::Duration;

use h2_wire::connection::FRAMES_PER_RECEIVED;
use serve::duration;

/// Bounds on clients' connections.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Clients' connections")]
pub struct DownstreamLimits {
    /// Connections open at once; those beyond are closed at once.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub max_connections: usize,

    /// Calls in flight on one connection; it is advertised, and a call beyond
    /// it is refused (REFUSED_STREAM).
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub max_concurrent_streams: u32,

    /// Flow-control window of a stream, in bytes: what one stalled call can
    /// hold here.
    #[arg(long, value_name = "BYTES", default_value_t = 65_535, value_parser = window())]
    pub stream_window_bytes: u32,

    /// Flow-control window of a connection, in bytes: what all its stalled
    /// calls together can hold here. Far above the stream's, so that a few
    /// stalled calls don't stop the others.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = window())]
    pub connection_window_bytes: u32,

    /// Largest frame a client may send, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16_384, value_parser = frame())]
    pub max_frame_bytes: u32,

    /// Size of a request's headers as HTTP/2 counts it: names, values, and 32
    /// bytes for each. Beyond it a call ends with status 8.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10)]
    pub max_header_list_bytes: u32,

    /// Number of a request's headers; a size alone admits thousands of tiny
    /// ones that cost far more here than on the wire.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_headers: usize,

    /// HPACK table that a client may fill, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4_096)]
    pub header_table_bytes: u32,

    /// Bytes of a response that may wait for a slow client, per call.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    pub send_buffer_bytes: usize,

    /// Bytes of responses that may wait for one client's connection, over all
    /// its calls, in whatever frames. Backends get as much credit as there is
    /// room left: a call has a whole window while half of these bytes is not
    /// set aside for others, and a small one beyond. Heads and trailers have no
    /// window: a call whose head there is no room for is reset. This bound is
    /// kept by the relay data plane; over hyper it is the streams' windows that
    /// add up.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub max_waiting_response_bytes: usize,

    /// Calls a client may have reset before the proxy came to look at them;
    /// one more ends the connection (CVE-2023-44487).
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub max_pending_resets: usize,

    /// Streams on one connection that the proxy had to reset for a client's
    /// mistakes; one more ends the connection (CVE-2025-8671).
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub max_error_resets: usize,

    /// Streams a client may reset in a second, together with those the proxy
    /// has to reset for its mistakes; one more ends the connection. The count
    /// is halved each second, and a stream counts however far it had come
    /// (CVE-2023-44487, CVE-2025-8671).
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub max_resets_per_second: u32,

    /// Frames a client may send in a second that cost it little and the proxy
    /// something: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown
    /// types. One more ends the connection. The count is halved each second;
    /// each DATA or HEADERS frame sent to the client pays for ten, and each
    /// stream that the client opens and each DATA frame that it sends for three
    /// (CVE-2019-9512 and its kin). Never less than three for each of
    /// `max-concurrent-streams`, which gRPC clients may send at once.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub max_control_frames_per_second: u32,

    /// How long a new connection may take to send HTTP/2's preface and its
    /// SETTINGS.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub handshake_timeout: Duration,

    /// How long a frame, or a header block of several frames, may take from its
    /// first byte to its last.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub frame_timeout: Duration,

    /// How long a client may take nothing of a response that waits for it:
    /// with the stream's window exhausted the stream is reset, with the
    /// connection's, or when its socket takes nothing, the connection is ended.
    /// Less than 1 KiB in this time is nothing (CVE-2019-9511, CVE-2019-9517).
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub write_stall_timeout: Duration,

    /// How long a connection may have no call.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    pub idle_timeout: Duration,

    /// A client that has sent nothing for this long is asked with a PING.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::parse)]
    pub keepalive_interval: Duration,

    /// How long a client may take to answer that PING.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    pub keepalive_timeout: Duration,

    /// CONTINUATION frames of one header block, of which four times
    /// `max-header-list-bytes` are read at most (CVE-2024-27316). This bound
    /// and the next are kept by the relay data plane; hyper has its own.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub max_continuations: u32,

    /// Frames a client may send in a second on streams that are over, as it
    /// does for a moment after they were reset. The count is halved each
    /// second.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub max_stray_frames_per_second: u32,
}

impl DownstreamLimits {
    /// Control frames that a connection may have sent in excess: what is
    /// configured, and never less than what the advertised streams need.
    pub(crate) fn control_frames(&self) -> u32 {
        let needed = self.max_concurrent_streams.saturating_mul(FRAMES_PER_RECEIVED);
        self.max_control_frames_per_second.max(needed)
    }
}

/// Bounds on connections to backends. Connections are per backend and thread.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connections to backends")]
pub struct UpstreamLimits {
    /// How long connecting may take, the backend's SETTINGS included. As gRPC
    /// clients do, the proxy takes a connection for ready only then: before,
    /// nothing says that the other end speaks HTTP/2.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub connect_timeout: Duration,

    /// Connections to one backend from one thread. One is opened first, and
    /// another, one at a time, while all are full.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub backend_max_connections: usize,

    /// Calls in flight on one connection, where the backend allows as many.
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub backend_max_streams: u32,

    /// Calls that wait for one connection that is being made before others are
    /// offered to another backend; what a client assumes until SETTINGS say
    /// otherwise.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub backend_assumed_streams: u32,

    /// The first stream's identifier on a connection. Only tests set it, to see
    /// a connection come to its last.
    #[arg(long, hide = true, default_value_t = 1)]
    pub backend_first_stream: u32,

    /// Flow-control window of a stream, in bytes, as far as
    /// `max-waiting-response-bytes` has room for it.
    #[arg(long, value_name = "BYTES", default_value_t = 65_535, value_parser = window())]
    pub backend_stream_window_bytes: u32,

    /// Flow-control window of a connection, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = window())]
    pub backend_connection_window_bytes: u32,

    /// Largest frame a backend may send, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16_384, value_parser = frame())]
    pub backend_max_frame_bytes: u32,

    /// Size of a response's headers, and of its trailers, as HTTP/2 counts it.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    pub backend_max_header_list_bytes: u32,

    /// HPACK table that a backend may fill, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4_096)]
    pub backend_header_table_bytes: u32,

    /// Bytes of a request that may wait for a slow backend, per call.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    pub backend_send_buffer_bytes: usize,

    /// Streams on one connection that the proxy had to reset for a backend's
    /// mistakes; one more ends the connection.
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub backend_max_error_resets: usize,

    /// Frames a backend may send in a second that cost it little and the proxy
    /// something: PING, SETTINGS, WINDOW_UPDATE, empty DATA, unknown types. One
    /// more ends the connection. The count is halved each second, and what is
    /// sent to the backend pays for some. This bound and the next are kept by
    /// the relay data plane; hyper has its own.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub backend_max_control_frames_per_second: u32,

    /// Frames a backend may send in a second on streams that are over, beyond
    /// what it may have sent before it read that the proxy had reset them. The
    /// count is halved each second.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub backend_max_stray_frames_per_second: u32,

    /// Streams without a response that may be reset on one connection before
    /// the backend has shown that it took them up; further resets are held back
    /// until it has. A backend on hyper ends a connection, with all the calls
    /// on it, at 20 (CVE-2023-44487).
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub backend_max_unacknowledged_resets: u32,

    /// Streams that may be reset on one connection, by either side, before a new
    /// one takes its place and it ends with its last call. Backends count resets
    /// and what else breaks streams for as long as a connection lives: those on
    /// hyper end it at 1,024, those on nghttp2 at 1,000 within seconds.
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub backend_max_resets: u32,

    /// A backend that owes a response and has sent nothing for this long is
    /// asked with a PING. Connections without a call are left alone. Servers of
    /// gRPC end a connection that is asked more often than every five minutes
    /// while nothing is sent on it; after a GOAWAY that says so
    /// (`too_many_pings`) the pause doubles for that backend.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub backend_keepalive_interval: Duration,

    /// How long a backend may take to answer that PING.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    pub backend_keepalive_timeout: Duration,

    /// Pause after a connection could not be made; it grows 1.6-fold with each
    /// failure in a row, and each is drawn from 80 to 120 % (the shape of the
    /// gRPC connection backoff protocol).
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration::parse)]
    pub backoff_min: Duration,

    /// Longest such pause.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub backoff_max: Duration,
}

/// Bounds on single calls.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Calls")]
pub struct CallLimits {
    /// Longest `grpc-timeout` that is honoured; a longer one is cut to it.
    /// Calls without one have no deadline.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse)]
    pub max_deadline: Duration,

    /// Backends one call is offered to before it fails, where that is safe:
    /// after connecting failed, after REFUSED_STREAM, and after a GOAWAY that
    /// leaves the call out.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub max_attempts: u32,

    /// Bytes of a request that are kept until the response begins, so that it
    /// can be sent again. A request that has outgrown them is not.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    pub replay_buffer_bytes: usize,

    /// Memory that all requests of one client's connection may be kept in; past
    /// it further ones can't be sent again. This bound and the next are kept by
    /// the relay data plane.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    pub replay_bytes_per_connection: usize,

    /// Memory that all requests of one thread may be kept in.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub replay_bytes_per_thread: usize,

    /// Forward requests that are not gRPC instead of answering them with 415.
    #[arg(long)]
    pub forward_http: bool,

    /// Add to each response which backend it is from (`x-layerlab-backend` in
    /// its head), and to its trailers what the backend took from the request's
    /// head to the end (`x-layerlab-backend-time`, as in `grpc-timeout`). The
    /// relay data plane does this.
    #[arg(long)]
    pub name_backends: bool,

    /// How many calls the one backend works on at once: trailers then also have what of its time a call waited (`x-layerlab-backend-queued`).
    #[arg(long, value_name = "N", requires = "name_backends")]
    pub backend_servers: Option<NonZeroU32>,
}

impl CallLimits {
    /// How much more may be kept of requests so that they can be sent again.
    #[inline]
    pub(crate) fn replay_room(&self, of_connection: usize, of_thread: usize) -> usize {
        let room = self.replay_bytes_per_connection.saturating_sub(of_connection);
        room.min(self.replay_bytes_per_thread.saturating_sub(of_thread))
    }
}

/// A flow-control window: RFC 9113, section 6.9.1.
fn window() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=(1 << 31) - 1)
}

/// A largest frame: RFC 9113, section 6.5.2.
fn frame() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1 << 14..=(1 << 24) - 1)
}
