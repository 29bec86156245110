//! How recordings and plans are written down.

use std::collections::HashMap;

use l7_proxy::Config;
use testkit::{
    peer::Fields,
    replay::{Recording, Step},
    script::{Act, CALL, Plan},
    wire::{self, block, grpc_fields},
};

use super::{Case, Ends};

pub(crate) fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The fields of a gRPC request that a plan is kept for.
pub(crate) fn request_fields(call: &str, more: &[(&str, &str)]) -> Fields {
    let mut list = grpc_fields("/test.Service/Method");
    list.extend(fields(&[(CALL, call)]));
    list.extend(fields(more));
    list
}

/// HEADERS of a gRPC request whose body goes on.
pub(crate) fn open(stream: u32, call: &str, more: &[(&str, &str)]) -> Vec<u8> {
    wire::headers(stream, &block(&request_fields(call, more)), false)
}

/// A body in frames that everybody takes.
pub(crate) fn body(stream: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
    let count = bytes.len().div_ceil(FRAME_BYTES).max(1);
    let mut frames = Vec::new();
    for index in 0..count {
        let part = &bytes[index * FRAME_BYTES..bytes.len().min((index + 1) * FRAME_BYTES)];
        frames.extend(wire::data(stream, part, ends && index + 1 == count));
    }
    frames
}

const FRAME_BYTES: usize = 16_384;

/// A message whose bytes tell where they belong.
pub(crate) fn message(bytes: usize) -> Vec<u8> {
    wire::message(&(0..bytes).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>())
}

/// A whole call with one message.
pub(crate) fn call(stream: u32, name: &str, more: &[(&str, &str)]) -> Vec<u8> {
    [open(stream, name, more), wire::data(stream, &message(20), true)].concat()
}

pub(crate) fn head(more: &[(&str, &str)]) -> Act {
    let mut list = fields(&[(":status", "200"), ("content-type", "application/grpc")]);
    list.extend(fields(more));
    Act::Headers(list)
}

/// A response's head with these fields alone.
pub(crate) fn bare_head(list: &[(&str, &str)]) -> Act {
    Act::Headers(fields(list))
}

pub(crate) fn trailers(status: &str, more: &[(&str, &str)]) -> Act {
    let mut list = fields(&[("grpc-status", status)]);
    list.extend(fields(more));
    Act::EndHeaders(list)
}

pub(crate) fn trailers_only(status: &str, more: &[(&str, &str)]) -> Act {
    let mut list = fields(&[
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", status),
    ]);
    list.extend(fields(more));
    Act::EndHeaders(list)
}

/// An answer to a whole request: a head, messages of these sizes, status 0.
pub(crate) fn answer(messages: &[usize]) -> Plan {
    let mut plan = vec![Act::AwaitEnd, head(&[])];
    plan.extend(messages.iter().map(|bytes| Act::Data(message(*bytes))));
    plan.push(trailers("0", &[]));
    plan
}

/// Sends back what comes, as it comes.
pub(crate) fn echo() -> Plan {
    vec![head(&[]), Act::Echo, trailers("0", &[])]
}

/// Writing a case down.
impl Case {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            recording: Recording::default(),
            plans: HashMap::new(),
            backend_settings: Vec::new(),
            config: Box::new(|_| {}),
            ends: Ends::default(),
            hyper: None,
        }
    }

    pub(crate) fn step(mut self, step: Step) -> Self {
        self.recording.steps.push(step);
        self
    }

    pub(crate) fn send(self, bytes: Vec<u8>) -> Self {
        self.step(Step::Send(bytes))
    }

    /// Sends, and waits for the end of stream 1.
    pub(crate) fn exchange(self, bytes: Vec<u8>) -> Self {
        self.send(bytes).step(Step::AwaitEnd(1))
    }

    pub(crate) fn settings(mut self, settings: &[(u16, u32)]) -> Self {
        self.recording.settings = settings.to_vec();
        self
    }

    pub(crate) fn backend_settings(mut self, settings: &[(u16, u32)]) -> Self {
        self.backend_settings = settings.to_vec();
        self
    }

    /// The plan for the next attempt at a call.
    pub(crate) fn plan(mut self, call: &str, plan: Plan) -> Self {
        self.plans.entry(call.to_owned()).or_default().push(plan);
        self
    }

    pub(crate) fn config(mut self, config: impl Fn(&mut Config) + 'static) -> Self {
        self.config = Box::new(config);
        self
    }

    pub(crate) fn ends(mut self, client: &str, backend: &str) -> Self {
        self.ends = Ends { client: client.to_owned(), backend: backend.to_owned() };
        self
    }

    /// How it ends over the `hyper` plane, where that may differ.
    pub(crate) fn hyper(mut self, client: &str, backend: &str, reason: &'static str) -> Self {
        let ends = Ends { client: client.to_owned(), backend: backend.to_owned() };
        self.hyper = Some((ends, reason));
        self
    }
}
