//! Error codes and the two scopes of an HTTP/2 error (RFC 9113, sections 5.4 and 7).
//!
//! Every rule of the protocol that a peer can break ends in one of these values: the scope says
//! whether the connection or one stream has to go, the reason is the code that is put on the wire,
//! and the text says which rule it was, for logs and for the debug data of a GOAWAY. An [`Error`]
//! holds no heap memory, because an attacker decides how often one is made.

use std::fmt;

/// An error code as carried by RST_STREAM and GOAWAY (RFC 9113, section 7).
///
/// Codes unknown to this crate are kept as they are, so that a proxy passes them on unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(pub u32);

impl Reason {
    /// Not an error: a graceful end.
    pub const NO_ERROR: Self = Self(0x0);
    /// A rule of the protocol was broken, and no other code says it better.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// The endpoint itself failed.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// More was sent than a flow-control window allows.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// Settings were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    /// A frame came for a stream that was half-closed or closed.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame had a length that its type does not allow.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The stream was turned down before any work was done for it; safe to try again.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is no longer wanted.
    pub const CANCEL: Self = Self(0x8);
    /// The header compression context can't be kept up.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The TCP connection behind a CONNECT failed.
    pub const CONNECT_ERROR: Self = Self(0xa);
    /// The peer's behaviour causes too much load.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    /// The transport is not secure enough.
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    /// HTTP/1.1 is required for this request.
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The registered name of the code, or `"UNKNOWN"`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0x0 => "NO_ERROR",
            0x1 => "PROTOCOL_ERROR",
            0x2 => "INTERNAL_ERROR",
            0x3 => "FLOW_CONTROL_ERROR",
            0x4 => "SETTINGS_TIMEOUT",
            0x5 => "STREAM_CLOSED",
            0x6 => "FRAME_SIZE_ERROR",
            0x7 => "REFUSED_STREAM",
            0x8 => "CANCEL",
            0x9 => "COMPRESSION_ERROR",
            0xa => "CONNECT_ERROR",
            0xb => "ENHANCE_YOUR_CALM",
            0xc => "INADEQUATE_SECURITY",
            0xd => "HTTP_1_1_REQUIRED",
            _ => "UNKNOWN",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "UNKNOWN" => write!(f, "error code {:#x}", self.0),
            name => f.write_str(name),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule of the protocol that the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The connection can't go on: GOAWAY, then close (RFC 9113, section 5.4.1).
    #[error("connection error {reason}: {what}")]
    Connection {
        /// The code for the GOAWAY frame.
        reason: Reason,
        /// The rule that was broken.
        what: &'static str,
    },
    /// Only one stream is affected: RST_STREAM (RFC 9113, section 5.4.2).
    #[error("stream error {reason} on stream {stream}: {what}")]
    Stream {
        /// The stream to reset.
        stream: u32,
        /// The code for the RST_STREAM frame.
        reason: Reason,
        /// The rule that was broken.
        what: &'static str,
    },
}

impl Error {
    /// A connection error.
    #[cold]
    pub const fn connection(reason: Reason, what: &'static str) -> Self {
        Self::Connection { reason, what }
    }

    /// A stream error.
    #[cold]
    pub const fn stream(stream: u32, reason: Reason, what: &'static str) -> Self {
        Self::Stream { stream, reason, what }
    }

    /// The code that goes on the wire.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Connection { reason, .. } | Self::Stream { reason, .. } => *reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_registered_names_and_unknown_ones_keep_their_number() {
        assert_eq!(Reason::ENHANCE_YOUR_CALM.to_string(), "ENHANCE_YOUR_CALM");
        assert_eq!(Reason(0xff).to_string(), "error code 0xff");
        for code in 0..=0xd {
            assert_ne!(Reason(code).name(), "UNKNOWN");
        }
        assert_eq!(Reason(0xe).name(), "UNKNOWN");
    }

    #[test]
    fn an_error_says_its_scope_code_and_rule() {
        let error = Error::stream(3, Reason::CANCEL, "why not");
        assert_eq!(error.to_string(), "stream error CANCEL on stream 3: why not");
        assert_eq!(error.reason(), Reason::CANCEL);
    }
}
