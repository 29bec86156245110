//! Calls made ahead of time: drawn, rendered and encoded before the first is due,
//! so that whoever sends them only sends bytes.

mod maker;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use maker::Maker;
use serde_json::Value as Json;

use crate::{
    error::Error,
    expect::Fields,
    interface::{Interface, Kind},
    template::{Sources, Templates, read_rows},
};

/// One kind of call, as it is asked for.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// The method: `shop.v1.Orders/Place`.
    pub method: String,
    /// How often it is drawn, beside the others.
    pub weight: u32,
    /// Its request.
    pub body: Body,
    /// Names and values; in those that end in `-bin`, base64.
    pub metadata: Vec<(String, String)>,
    /// How long the call may take.
    pub deadline: Option<Duration>,
    /// Requests of a streaming call; as many as the body has unless given.
    pub messages: Option<u32>,
    /// Between two requests of a streaming call.
    pub pause: Duration,
    /// Responses after which a streaming call is complete, and cancelled if the server
    /// would go on; until the server ends it unless given.
    pub responses: Option<u32>,
    /// The gRPC status that it has to end with.
    pub status: u8,
    /// Paths into every response, and the values there.
    pub fields: Vec<(String, Json)>,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON.
    Json(String),
    /// A file: `.json` holds one request, `.jsonl` one a line, any other one in
    /// protobuf's encoding.
    File(PathBuf),
}

/// What a trace says of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded<'a> {
    /// The method; any where that was not recorded.
    pub method: Option<&'a str>,
    /// Bytes of its request, which templates may ask for.
    pub request_bytes: Option<u32>,
}

/// What all calls of one kind have in common.
#[derive(Debug)]
pub struct Rules {
    /// The method's name.
    pub method: String,
    /// How many messages go which way.
    pub kind: Kind,
    /// How long a call may take.
    pub deadline: Option<Duration>,
    /// Between two requests.
    pub pause: Duration,
    /// Responses that a call is complete with; `None` where the server ends it.
    pub responses: Option<u32>,
    /// The gRPC status it has to end with.
    pub status: u8,
    fields: Fields,
}

impl Rules {
    /// Whether a response, without its prefix, has the values it has to have.
    pub fn allow(&self, response: &[u8]) -> bool {
        self.fields.is_empty() || self.fields.hold(response)
    }
}

/// What a call begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The path in HTTP/2.
    pub path: String,
    /// Metadata and `grpc-timeout`, as they travel.
    pub metadata: Vec<(String, String)>,
    /// Whether many calls have it.
    pub is_shared: bool,
}

/// A call that is ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// Index of its [`Rules`].
    pub rules: u32,
    /// Index of its [`Head`].
    pub head: u32,
    /// Its requests, each with its prefix.
    pub messages: Vec<Vec<u8>>,
}

/// All calls of a run.
#[derive(Debug)]
pub struct Calls {
    rules: Vec<Rules>,
    heads: Vec<Head>,
    prepared: Vec<Prepared>,
    order: Vec<u32>,
}

impl Calls {
    /// Makes about `count` calls: fewer where they repeat, or would take too much
    /// memory. `pick` draws the mix, or of those of one method where calls were `recorded`;
    /// `data` has the columns of templates.
    ///
    /// # Errors
    /// With the setting at fault, as a path in the service's.
    pub fn make(
        interface: &Interface,
        specs: &[CallSpec],
        data: Option<&Path>,
        sources: Sources,
        pick: impl FnMut() -> u64,
        recorded: &[Recorded<'_>],
        count: usize,
    ) -> Result<Self, Error> {
        let rows = data.map(read_rows).transpose();
        let rows = rows.map_err(|reason| Error::new("data", reason))?.unwrap_or_default();
        let mut maker = Maker::new(Templates::new(sources, rows));
        for (index, spec) in specs.iter().enumerate() {
            maker.add(interface, index, spec)?;
        }
        maker.draw(specs, pick, recorded, count)
    }

    /// Call number `number`. They begin anew after the last.
    pub fn get(&self, number: u64) -> &Prepared {
        let index = self.order[(number % self.order.len() as u64) as usize];
        &self.prepared[index as usize]
    }

    /// What goes for a call.
    pub fn rules(&self, prepared: &Prepared) -> &Rules {
        &self.rules[prepared.rules as usize]
    }

    /// What calls begin with, by [`Prepared::head`].
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The numbers of the first call of each kind.
    pub fn first_of_each(&self) -> Vec<u64> {
        let numbers = || 0..self.order.len() as u64;
        let first = |rules| numbers().find(|&number| self.get(number).rules as usize == rules);
        (0..self.rules.len()).filter_map(first).collect()
    }

    /// How many calls there are before they begin anew.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests;
