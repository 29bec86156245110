//! The state of a stream, as RFC 9113 draws it (section 5.1):
//!
//! ```text
//!                     idle
//!                      |  HEADERS
//!                    Open
//!     END_STREAM is  /    \  END_STREAM is
//!       received    /      \   sent
//!   HalfClosedRemote        HalfClosedLocal
//!                   \      /
//!                    Closed
//! ```
//!
//! An idle stream is not kept, and neither is one that was reset; a closed one is removed at once.
//! The two reserved states are left out, as pushes are disabled.

use crate::error::Reason;

/// Where a stream is, and what is still to come on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Both ends may send.
    Open(Incoming),
    /// We have sent END_STREAM.
    HalfClosedLocal(Incoming),
    /// The peer has sent END_STREAM.
    HalfClosedRemote,
    /// Both have.
    Closed,
}

/// What the peer sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The final head of a response. Where the request was HEAD, its `content-length` promises
    /// nothing.
    Head { is_without_content: bool },
    /// DATA, of which `content-length` still promises so many bytes; then trailers.
    Body { left: Option<u64> },
}

/// A rule that the peer broke on the stream.
type Fault = (Reason, &'static str);

const LESS_DATA: Fault = (Reason::PROTOCOL_ERROR, "less DATA than content-length says");
const MORE_DATA: Fault = (Reason::PROTOCOL_ERROR, "more DATA than content-length says");

impl State {
    /// A stream that we opened, or are about to.
    pub(crate) const OURS: Self = Self::Open(Incoming::Head { is_without_content: false });

    /// A stream that a request of the peer opened.
    pub(crate) const fn of_request(length: Option<u64>, end_stream: bool) -> Self {
        if end_stream {
            Self::HalfClosedRemote
        } else {
            Self::Open(Incoming::Body { left: length })
        }
    }

    /// Whether we have sent END_STREAM.
    #[inline]
    pub(crate) const fn is_send_closed(self) -> bool {
        matches!(self, Self::HalfClosedLocal(_) | Self::Closed)
    }

    /// Whether the peer has sent END_STREAM.
    #[inline]
    pub(crate) const fn is_receive_closed(self) -> bool {
        matches!(self, Self::HalfClosedRemote | Self::Closed)
    }

    /// What is still to come; `None` after END_STREAM.
    #[inline]
    pub(crate) const fn incoming(self) -> Option<Incoming> {
        match self {
            Self::Open(incoming) | Self::HalfClosedLocal(incoming) => Some(incoming),
            Self::HalfClosedRemote | Self::Closed => None,
        }
    }

    #[inline]
    const fn set_incoming(&mut self, to: Incoming) {
        if let Self::Open(incoming) | Self::HalfClosedLocal(incoming) = self {
            *incoming = to;
        }
    }

    /// END_STREAM was sent.
    #[inline]
    pub(crate) const fn close_send(&mut self) {
        *self = match *self {
            Self::Open(incoming) | Self::HalfClosedLocal(incoming) => {
                Self::HalfClosedLocal(incoming)
            }
            Self::HalfClosedRemote | Self::Closed => Self::Closed,
        };
    }

    /// END_STREAM came, whatever was promised.
    #[inline]
    pub(crate) const fn close_receive(&mut self) {
        *self = match *self {
            Self::Open(_) | Self::HalfClosedRemote => Self::HalfClosedRemote,
            Self::HalfClosedLocal(_) | Self::Closed => Self::Closed,
        };
    }

    /// The response to our request has no content, whatever `content-length` it has.
    pub(crate) const fn expect_no_content(&mut self) {
        if let Some(Incoming::Head { .. }) = self.incoming() {
            self.set_incoming(Incoming::Head { is_without_content: true });
        }
    }

    /// Takes the final head of a response, which promises so much DATA.
    ///
    /// # Errors
    /// When the promise is broken already.
    pub(crate) fn receive_head(
        &mut self,
        length: Option<u64>,
        end_stream: bool,
    ) -> Result<(), Fault> {
        let is_promise = self.incoming() != Some(Incoming::Head { is_without_content: true });
        self.set_incoming(Incoming::Body { left: length.filter(|_| is_promise) });
        if end_stream { self.receive_end() } else { Ok(()) }
    }

    /// Takes so many bytes of DATA.
    ///
    /// # Errors
    /// When no DATA may come, or not as much or as little.
    #[inline]
    pub(crate) fn receive_data(&mut self, bytes: usize, end_stream: bool) -> Result<(), Fault> {
        match self.incoming() {
            None => return Err((Reason::STREAM_CLOSED, "DATA after END_STREAM")),
            Some(Incoming::Head { .. }) => {
                return Err((Reason::PROTOCOL_ERROR, "DATA before the response's head"));
            }
            Some(Incoming::Body { left: None }) => {}
            Some(Incoming::Body { left: Some(left) }) => {
                let left = Some(left.checked_sub(bytes as u64).ok_or(MORE_DATA)?);
                self.set_incoming(Incoming::Body { left });
            }
        }
        if end_stream { self.receive_end() } else { Ok(()) }
    }

    /// Takes END_STREAM.
    ///
    /// # Errors
    /// When more DATA was promised.
    #[inline]
    pub(crate) fn receive_end(&mut self) -> Result<(), Fault> {
        if matches!(self.incoming(), Some(Incoming::Body { left: Some(1..) })) {
            return Err(LESS_DATA);
        }
        self.close_receive();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_close_in_either_order() {
        let mut state = State::OURS;
        assert!(!state.is_send_closed() && !state.is_receive_closed());
        state.close_send();
        assert!(state.is_send_closed() && !state.is_receive_closed());
        assert_eq!(state.receive_head(None, true), Ok(()));
        assert_eq!(state, State::Closed);
        let mut state = State::of_request(None, true);
        assert_eq!(state, State::HalfClosedRemote);
        state.close_send();
        assert_eq!(state, State::Closed);
    }

    #[test]
    fn data_comes_after_the_head_and_before_the_end() {
        let mut state = State::OURS;
        assert_eq!(
            state.receive_data(1, false).map_err(|(reason, _)| reason),
            Err(Reason::PROTOCOL_ERROR)
        );
        assert_eq!(state.receive_head(None, false), Ok(()));
        assert_eq!(state.receive_data(1, true), Ok(()));
        assert_eq!(
            state.receive_data(0, true).map_err(|(reason, _)| reason),
            Err(Reason::STREAM_CLOSED)
        );
    }

    #[test]
    fn content_length_is_a_promise() {
        let mut state = State::of_request(Some(3), false);
        assert_eq!(state.receive_data(2, false), Ok(()));
        assert_eq!(state.receive_end(), Err(LESS_DATA));
        assert_eq!(state.receive_data(2, false), Err(MORE_DATA));
        assert_eq!(state.receive_data(1, true), Ok(()));
        let mut state = State::OURS;
        assert_eq!(state.receive_head(Some(3), true), Err(LESS_DATA));
        let mut state = State::OURS;
        state.expect_no_content();
        assert_eq!(state.receive_head(Some(3), true), Ok(()), "the request was HEAD");
    }
}
