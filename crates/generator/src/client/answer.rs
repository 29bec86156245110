//! What has come back of one call so far, and whether it is right. Clients read
//! responses in their own ways; what counts as a good answer is said here.

use measure::calllog::FailureKind;

use super::{CallKind, CallShape, Ended};

/// One response message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) sequence: u64,
    pub(super) payload: &'a [u8],
    pub(super) backend: &'a [u8],
    pub(super) queued_ns: u64,
    pub(super) service_ns: u64,
}

/// The answer to a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    first_sequence: u64,
    next_sequence: u64,
    responses: u32,
    backend: Option<u16>,
    queued_ns: u64,
    service_ns: u64,
    wrong: Option<FailureKind>,
}

impl Answer {
    /// The answer to a call whose first message has the number `sequence`.
    pub(super) fn new(shape: &CallShape, sequence: u64) -> Self {
        // The one response to a stream of requests answers the last of them.
        let skipped = match shape.kind {
            CallKind::ClientStream => u64::from(shape.messages) - 1,
            CallKind::Unary | CallKind::ServerStream | CallKind::Bidi => 0,
        };
        Self {
            first_sequence: sequence,
            next_sequence: sequence + skipped,
            responses: 0,
            backend: None,
            queued_ns: 0,
            service_ns: 0,
            wrong: None,
        }
    }

    /// The number of the call's first message.
    pub(super) fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    pub(super) fn take(&mut self, shape: &CallShape, reply: &Reply<'_>) {
        let backend = shape.backends.index(reply.backend);
        if backend.is_none() || (self.backend.is_some() && self.backend != backend) {
            self.wrong.get_or_insert(FailureKind::UnknownBackend);
        }
        if reply.sequence != self.next_sequence || !shape.is_echo(reply.sequence, reply.payload) {
            self.wrong.get_or_insert(FailureKind::WrongPayload);
        }
        self.backend = backend;
        // The number goes up where each request has a response of its own.
        self.next_sequence += u64::from(shape.kind == CallKind::Bidi);
        self.responses += 1;
        self.queued_ns += reply.queued_ns;
        self.service_ns += reply.service_ns;
    }

    /// A message that can't be read, or is none of ours.
    pub(super) fn spoil(&mut self) {
        self.wrong.get_or_insert(FailureKind::WrongPayload);
    }

    /// What came of a call that ended with status OK.
    pub(super) fn ended(&self, shape: &CallShape) -> Ended {
        let wanted = match shape.kind {
            CallKind::Unary | CallKind::ClientStream => 1,
            CallKind::ServerStream | CallKind::Bidi => shape.messages,
        };
        match (self.wrong, self.backend) {
            (Some(wrong), _) => Ended::Failed(wrong),
            (None, Some(backend)) if self.responses == wanted => {
                Ended::Served { backend, queued_ns: self.queued_ns, service_ns: self.service_ns }
            }
            (None, _) => Ended::Failed(FailureKind::WrongPayload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Backends, Lengths};

    fn shape(kind: CallKind, messages: u32) -> CallShape {
        CallShape {
            kind,
            messages,
            payload: b"abc".to_vec(),
            requests: Lengths::Constant(3),
            responses: Lengths::Constant(3),
            deadline: None,
            backends: Backends::Known(vec!["b0".into(), "b1".into()]),
        }
    }

    fn reply(sequence: u64, backend: &[u8]) -> Reply<'_> {
        Reply { sequence, payload: b"abc", backend, queued_ns: 5, service_ns: 7 }
    }

    fn ended(kind: CallKind, messages: u32, replies: &[Reply<'_>]) -> Ended {
        let shape = shape(kind, messages);
        let mut answer = Answer::new(&shape, 10);
        for reply in replies {
            answer.take(&shape, reply);
        }
        answer.ended(&shape)
    }

    #[test]
    fn an_answer_has_the_right_numbers_in_the_right_order() {
        let served = |queued_ns, service_ns| Ended::Served { backend: 1, queued_ns, service_ns };
        let b1 = |sequence| reply(sequence, b"b1");
        assert_eq!(ended(CallKind::Unary, 1, &[b1(10)]), served(5, 7));
        assert_eq!(ended(CallKind::ClientStream, 3, &[b1(12)]), served(5, 7));
        assert_eq!(ended(CallKind::ServerStream, 2, &[b1(10), b1(10)]), served(10, 14));
        assert_eq!(ended(CallKind::Bidi, 2, &[b1(10), b1(11)]), served(10, 14));
        let wrong = Ended::Failed(FailureKind::WrongPayload);
        assert_eq!(ended(CallKind::Unary, 1, &[b1(11)]), wrong);
        assert_eq!(ended(CallKind::Unary, 1, &[]), wrong);
        assert_eq!(ended(CallKind::Bidi, 2, &[b1(10)]), wrong);
        assert_eq!(ended(CallKind::Bidi, 2, &[b1(11), b1(10)]), wrong);
    }

    #[test]
    fn one_call_is_served_by_one_known_backend() {
        let unknown = Ended::Failed(FailureKind::UnknownBackend);
        assert_eq!(ended(CallKind::Unary, 1, &[reply(10, b"b7")]), unknown);
        let two = [reply(10, b"b0"), reply(10, b"b1")];
        assert_eq!(ended(CallKind::ServerStream, 2, &two), unknown);
    }
}
