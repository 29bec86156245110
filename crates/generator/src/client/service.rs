//! Calls on a user's own service: bytes that were made ahead of time, and the rules
//! that their answers are held to.

use std::sync::Arc;

use grpc_call::{Calls, Head, Prepared, Rules};
use h2_wire::{
    grpc::{BACKEND_HEADER, BACKEND_QUEUED_TRAILER, BACKEND_TIME_TRAILER, parse_timeout},
    hpack::{BlockKey, HeaderList},
};
use measure::calllog::{FailureKind, UNKNOWN_BACKEND};

use super::{Backends, Ended};

/// Where an answer says which backend it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// In the header of this name.
    Header(String),
    /// In the trailer of this name.
    Trailer(String),
    /// In what the tap before each backend adds, which also says what the backend took.
    Tap,
}

impl Identity {
    /// The header's name, if it is in one.
    fn header(&self) -> Option<&str> {
        match self {
            Self::Header(name) => Some(name),
            Self::Tap => Some(BACKEND_HEADER),
            Self::Trailer(_) => None,
        }
    }
}

/// What the calls of a trial look like, and how their answers are checked.
#[derive(Clone, Debug)]
pub struct ServiceShape {
    calls: Arc<Calls>,
    /// Which of them the calls of a trace are, by their numbers.
    order: Option<Arc<[u32]>>,
    /// What heads that many calls have are remembered by, once encoded.
    keys: Vec<Option<BlockKey>>,
    identity: Option<Identity>,
    backends: Backends,
}

impl ServiceShape {
    /// The calls of a service, from where its answers tell which backend it was, and how that is read.
    pub fn new(
        calls: Arc<Calls>,
        order: Option<Arc<[u32]>>,
        identity: Option<Identity>,
        backends: Backends,
    ) -> Self {
        let keys = calls.heads().iter().map(|head| head.is_shared.then(BlockKey::unique)).collect();
        Self { calls, order, keys, identity, backends }
    }

    /// The call with this number.
    pub(super) fn call(&self, number: u64) -> (&Prepared, &Rules) {
        let number = match &self.order {
            Some(order) => order[(number % order.len() as u64) as usize].into(),
            None => number,
        };
        let prepared = self.calls.get(number);
        (prepared, self.calls.rules(prepared))
    }

    /// What a call begins with, and what that is remembered by.
    pub(super) fn head(&self, prepared: &Prepared) -> (&Head, Option<BlockKey>) {
        let index = prepared.head as usize;
        (&self.calls.heads()[index], self.keys[index])
    }
}

/// What has come back of one call so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceAnswer {
    number: u64,
    responses: u32,
    backend: Option<u16>,
    /// What the backend took, and what of that the call waited there; zero where that is not
    /// known.
    took_ns: u64,
    queued_ns: u64,
    wrong: Option<FailureKind>,
}

impl ServiceAnswer {
    pub(super) fn new(number: u64) -> Self {
        Self { number, responses: 0, backend: None, took_ns: 0, queued_ns: 0, wrong: None }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The header of the response.
    pub(super) fn take_header(&mut self, shape: &ServiceShape, list: &HeaderList) {
        if let Some(name) = shape.identity.as_ref().and_then(Identity::header) {
            self.identify(shape, list.value_of_name(name.as_bytes()));
        }
    }

    fn identify(&mut self, shape: &ServiceShape, id: Option<&[u8]>) {
        self.backend = id.and_then(|id| shape.backends.index(id));
    }

    /// A response message, without its prefix.
    pub(super) fn take(&mut self, shape: &ServiceShape, message: &[u8]) {
        self.responses += 1;
        if !shape.call(self.number).1.allow(message) {
            self.spoil();
        }
    }

    /// A message that can't be read, or is not what was expected.
    pub(super) fn spoil(&mut self) {
        self.wrong.get_or_insert(FailureKind::WrongPayload);
    }

    /// Whether it is complete though the server has not ended it.
    pub(super) fn is_complete(&self, shape: &ServiceShape) -> bool {
        let rules = shape.call(self.number).1;
        // A frame may hold more than one was waited for.
        rules.kind.streams_responses()
            && rules.responses.is_some_and(|wanted| self.responses >= wanted)
    }

    /// What came of a call whose trailers said `status`.
    pub(super) fn trailers(
        &mut self,
        shape: &ServiceShape,
        status: Option<i32>,
        list: &HeaderList,
    ) -> Ended {
        match &shape.identity {
            Some(Identity::Trailer(name)) => {
                self.identify(shape, list.value_of_name(name.as_bytes()));
            }
            Some(Identity::Tap) => {
                let time = |name: &str| {
                    let time = list.value_of_name(name.as_bytes()).and_then(parse_timeout);
                    time.unwrap_or_default().as_nanos() as u64
                };
                self.took_ns = time(BACKEND_TIME_TRAILER);
                self.queued_ns = time(BACKEND_QUEUED_TRAILER).min(self.took_ns);
            }
            Some(Identity::Header(_)) | None => {}
        }
        let rules = shape.call(self.number).1;
        let status = status.unwrap_or(2);
        if status != i32::from(rules.status) {
            return Ended::Failed(match status {
                0 => FailureKind::WrongPayload,
                code => FailureKind::from_status(code),
            });
        }
        // Without an OK there need be no response.
        if status == 0 && rules.responses.is_some_and(|wanted| wanted != self.responses) {
            self.spoil();
        }
        self.ended(shape)
    }

    /// What came of a call that is complete.
    pub(super) fn ended(&self, shape: &ServiceShape) -> Ended {
        let backend = match (self.wrong, &shape.identity, self.backend) {
            (Some(wrong), ..) => return Ended::Failed(wrong),
            (None, None, _) => UNKNOWN_BACKEND,
            (None, Some(_), Some(backend)) => backend,
            (None, Some(_), None) => return Ended::Failed(FailureKind::UnknownBackend),
        };
        let (queued_ns, service_ns) = (self.queued_ns, self.took_ns - self.queued_ns);
        Ended::Served { backend, queued_ns, service_ns }
    }
}
