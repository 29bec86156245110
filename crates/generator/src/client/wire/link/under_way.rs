//! A call on its way: what has come back of it, and what that makes of it.

use h2_wire::{
    Reason,
    connection::StreamKey,
    hpack::{HeaderList, Name},
};
use measure::calllog::FailureKind;

use crate::{
    client::{
        Ended, Shape,
        answer::Answer,
        service::ServiceAnswer,
        wire::message::{PREFIX_LEN, read_reply},
    },
    slots::Call,
};

/// Largest message taken; the largest payload a scenario may ask for passes.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// A call on its way, by its slot.
pub(super) struct UnderWay {
    pub(super) call: Call,
    pub(super) key: StreamKey,
    pub(super) answer: Answered,
    /// A response message of which more is to come, prefix included.
    pub(super) partial: Vec<u8>,
    /// The HTTP status was not 200: what gRPC makes of it.
    pub(super) refused: Option<FailureKind>,
    /// Requests not yet given to the connection, and the number of the next.
    pub(super) requests_left: u32,
    pub(super) next_sequence: u64,
    /// Between two requests; zero for none.
    pub(super) pause_ns: u64,
    /// When the last byte of its requests was handed to the socket.
    pub(super) written_ns: Option<u64>,
}

/// What has come back, by the service that is called.
pub(super) enum Answered {
    Echo(Answer),
    Service(ServiceAnswer),
}

impl UnderWay {
    /// The number the call started with.
    pub(super) fn first_sequence(&self) -> u64 {
        match &self.answer {
            Answered::Echo(answer) => answer.first_sequence(),
            Answered::Service(answer) => answer.number(),
        }
    }

    /// A message that can't be read.
    fn spoil(&mut self) {
        match &mut self.answer {
            Answered::Echo(answer) => answer.spoil(),
            Answered::Service(answer) => answer.spoil(),
        }
    }

    /// Takes the head of its response.
    #[inline]
    pub(super) fn take_head(&mut self, list: &HeaderList, shape: &Shape) {
        self.refused = failure_of_status(list);
        if let (Answered::Service(answer), Shape::Service(shape)) = (&mut self.answer, shape) {
            answer.take_header(shape, list);
        }
    }

    /// Takes a piece of the stream of messages. A piece that holds whole messages
    /// is read where it lies.
    #[inline]
    pub(super) fn take(&mut self, piece: &[u8], shape: &Shape) {
        if !self.partial.is_empty() {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(piece);
            let taken = self.take_whole(&partial, shape);
            partial.drain(..taken);
            self.partial = partial;
            return;
        }
        let taken = self.take_whole(piece, shape);
        self.partial.extend_from_slice(&piece[taken..]);
    }

    /// How it ended, if it is complete whatever else the server sends.
    #[inline]
    pub(super) fn complete(&self, shape: &Shape) -> Option<Ended> {
        match (&self.answer, shape) {
            (Answered::Service(answer), Shape::Service(shape)) if answer.is_complete(shape) => {
                Some(answer.ended(shape))
            }
            _ => None,
        }
    }

    /// How it ended, by its trailers.
    #[inline]
    pub(super) fn take_trailers(&mut self, list: &HeaderList, shape: &Shape) -> Ended {
        let (status, is_whole) = (grpc_status(list), self.partial.is_empty());
        match (self.refused, &mut self.answer, shape) {
            (Some(refused), ..) => Ended::Failed(refused),
            (None, _, _) if status == Some(0) && !is_whole => {
                Ended::Failed(FailureKind::WrongPayload)
            }
            (None, Answered::Service(answer), Shape::Service(shape)) => {
                answer.trailers(shape, status, list)
            }
            (None, Answered::Echo(answer), Shape::Echo(shape)) if status == Some(0) => {
                answer.ended(shape)
            }
            _ => Ended::Failed(FailureKind::from_status(status.unwrap_or(2))),
        }
    }

    /// Reads whole messages from the front; returns how many bytes they had.
    #[inline]
    fn take_whole(&mut self, bytes: &[u8], shape: &Shape) -> usize {
        let mut taken = 0;
        while let Some([flag, length @ ..]) = bytes[taken..].first_chunk::<PREFIX_LEN>() {
            let length = u32::from_be_bytes(*length) as usize;
            if *flag != 0 || length > MAX_MESSAGE_BYTES {
                self.spoil();
                return bytes.len();
            }
            let start = taken + PREFIX_LEN;
            let Some(message) = bytes.get(start..start + length) else { break };
            match (&mut self.answer, shape) {
                (Answered::Service(answer), Shape::Service(shape)) => answer.take(shape, message),
                (Answered::Echo(answer), Shape::Echo(shape)) => match read_reply(message) {
                    Ok(reply) => answer.take(shape, &reply),
                    Err(_) => answer.spoil(),
                },
                // A link is made for one service.
                _ => {}
            }
            taken = start + length;
        }
        taken
    }
}

fn grpc_status(list: &HeaderList) -> Option<i32> {
    std::str::from_utf8(list.value_of(Name::GrpcStatus)?).ok()?.parse().ok()
}

/// What gRPC makes of an HTTP status that is not 200
/// (`http-grpc-status-mapping.md`); `None` for 200.
fn failure_of_status(list: &HeaderList) -> Option<FailureKind> {
    let code = match list.value_of(Name::Status) {
        Some(b"200") => return None,
        Some(b"400") => 13,
        Some(b"401") => 16,
        Some(b"403") => 7,
        Some(b"404") => 12,
        Some(b"429" | b"502" | b"503" | b"504") => 14,
        _ => 2,
    };
    Some(FailureKind::from_status(code))
}

/// What gRPC makes of RST_STREAM (`PROTOCOL-HTTP2.md`, "Errors").
pub(super) fn failure_of_reset(reason: Reason) -> FailureKind {
    FailureKind::from_status(match reason {
        Reason::REFUSED_STREAM => 14,
        Reason::CANCEL => 1,
        Reason::ENHANCE_YOUR_CALM => 8,
        Reason::INADEQUATE_SECURITY => 7,
        _ => 13,
    })
}
