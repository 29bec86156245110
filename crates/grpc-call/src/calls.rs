//! Calls made ahead of time: drawn, rendered and encoded before the first is due,
//! so that whoever sends them only sends bytes.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value as Json;

use crate::{
    error::{Error, Reason},
    expect::Fields,
    interface::{Interface, Kind, Method},
    message::{self, MOST_MESSAGE_BYTES},
    metadata::{check_name, grpc_timeout, wire_value},
    template::{Sources, Templates, read_rows},
};

/// The most that calls made ahead take together. Beyond it they begin anew.
const MOST_BYTES: usize = 256 << 20;

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
        let mut maker = Maker {
            templates: Templates::new(sources, rows),
            sources: Vec::with_capacity(specs.len()),
            made: HashMap::new(),
            heads: HashMap::new(),
            bytes: 0,
            calls: Self {
                rules: Vec::new(),
                heads: Vec::new(),
                prepared: Vec::new(),
                order: Vec::new(),
            },
        };
        for (index, spec) in specs.iter().enumerate() {
            maker.add(interface, index, spec)?;
        }
        maker.draw(specs, pick, recorded, count)?;
        Ok(maker.calls)
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

/// The requests of one spec, before templates are rendered.
enum Texts {
    Json(Vec<Text>),
    Encoded(Vec<u8>),
}

struct Text {
    /// File and line with a colon and a space; empty for text of the scenario.
    place: String,
    text: String,
}

struct Source {
    method: Method,
    texts: Texts,
    /// Requests of one call.
    messages: u32,
    /// The text that the next call begins with.
    next: usize,
    has_constant_head: bool,
}

struct Maker {
    templates: Templates,
    sources: Vec<Source>,
    /// Calls that are the same every time, by spec and first text.
    made: HashMap<(usize, usize), u32>,
    /// Heads that are the same every time, by spec.
    heads: HashMap<usize, u32>,
    bytes: usize,
    calls: Calls,
}

impl Maker {
    fn add(&mut self, interface: &Interface, index: usize, spec: &CallSpec) -> Result<(), Error> {
        let at =
            |key: &'static str| move |reason| Error::new(format!("call[{index}].{key}"), reason);
        let method = interface.method(&spec.method).map_err(at("method"))?;
        check_kind(&method, spec).map_err(|(key, reason)| at(key)(reason))?;
        for (name, _) in &spec.metadata {
            let reason = |message| Reason::Metadata { name: name.clone(), message };
            check_name(name).map_err(reason).map_err(at("metadata"))?;
        }
        let (key, texts) = match &spec.body {
            Body::Json(text) => {
                let text = Text { place: String::new(), text: text.clone() };
                ("request", Ok(Texts::Json(vec![text])))
            }
            Body::File(file) => ("request_file", read_texts(file)),
        };
        let texts = texts.map_err(at(key))?;
        let count = match &texts {
            Texts::Json(texts) => u32::try_from(texts.len()).unwrap_or(u32::MAX),
            Texts::Encoded(_) => 1,
        };
        let kind = method.kind();
        let messages = if kind.streams_requests() { spec.messages.unwrap_or(count) } else { 1 };
        let fields = Fields::new(method.response(), &spec.fields)
            .map_err(|message| at("expect")(Reason::Expectation(message)))?;
        self.calls.rules.push(Rules {
            method: method.name(),
            kind,
            deadline: spec.deadline,
            pause: spec.pause,
            responses: if kind.streams_responses() { spec.responses } else { Some(1) },
            status: spec.status,
            fields,
        });
        self.sources.push(Source { method, texts, messages, next: 0, has_constant_head: true });
        Ok(())
    }

    /// Draws calls until there are enough, or all that there can be.
    fn draw(
        &mut self,
        specs: &[CallSpec],
        mut pick: impl FnMut() -> u64,
        recorded: &[Recorded<'_>],
        count: usize,
    ) -> Result<(), Error> {
        let size = |number: usize| recorded.get(number).and_then(|call| call.request_bytes);
        // Each once, whatever is drawn: what is wrong with a rare one is told too.
        for (index, spec) in specs.iter().enumerate() {
            let of_method = |call: &&Recorded<'_>| self.is_of(index, call);
            let first = recorded.iter().find(of_method).or(recorded.first());
            let first = first.copied().unwrap_or_default();
            self.make(index, spec, 0, first.request_bytes)?;
            self.sources[index].next = 0;
        }
        let is_constant = |source: &Source| match &source.texts {
            Texts::Json(texts) => {
                texts.len() == 1 || (source.messages as usize).is_multiple_of(texts.len())
            }
            Texts::Encoded(_) => true,
        };
        let only = specs.len() == 1 && self.made.len() == 1 && is_constant(&self.sources[0]);
        let count = if only { 1 } else { count.max(1) };
        // They were made to be looked at; now they are made as they are drawn.
        self.forget();
        for number in 0..count {
            let index = self.drawn(specs, pick(), recorded.get(number));
            let made = self.make(index, &specs[index], number as u64, size(number))?;
            self.calls.order.push(made);
            if self.bytes > MOST_BYTES {
                break;
            }
        }
        Ok(())
    }

    fn is_of(&self, spec: usize, call: &Recorded<'_>) -> bool {
        call.method.is_none_or(|method| method == self.sources[spec].method.name())
    }

    /// Which spec is drawn: by weight, of those that do what was recorded.
    fn drawn(&self, specs: &[CallSpec], chance: u64, recorded: Option<&Recorded<'_>>) -> usize {
        let is_candidate = |index: usize| recorded.is_none_or(|call| self.is_of(index, call));
        let candidates = || specs.iter().enumerate().filter(|(index, _)| is_candidate(*index));
        let weights: u64 = candidates().map(|(_, spec)| u64::from(spec.weight)).sum();
        let mut left = chance % weights.max(1);
        let drawn = candidates().find(|(_, spec)| match left.checked_sub(spec.weight.into()) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        drawn.map_or(0, |(index, _)| index)
    }

    fn forget(&mut self) {
        self.made.clear();
        self.heads.clear();
        self.calls.heads.clear();
        self.calls.prepared.clear();
        self.bytes = 0;
    }

    /// Makes call number `number`, unless it was made before.
    fn make(
        &mut self,
        index: usize,
        spec: &CallSpec,
        number: u64,
        request_bytes: Option<u32>,
    ) -> Result<u32, Error> {
        let first = self.sources[index].next;
        if let Some(&made) = self.made.get(&(index, first)) {
            self.step(index);
            return Ok(made);
        }
        self.templates.begin(number, request_bytes);
        let head = self.head(index, spec)?;
        let messages = self.messages(index)?;
        self.step(index);
        self.bytes += messages.iter().map(Vec::len).sum::<usize>();
        let made = self.calls.prepared.len() as u32;
        self.calls.prepared.push(Prepared { rules: index as u32, head, messages });
        if !self.templates.varies() {
            self.made.insert((index, first), made);
        }
        Ok(made)
    }

    /// The next call of a spec begins after the texts that this one took.
    fn step(&mut self, index: usize) {
        let source = &mut self.sources[index];
        if let Texts::Json(texts) = &source.texts {
            source.next = (source.next + source.messages as usize) % texts.len();
        }
    }

    fn head(&mut self, index: usize, spec: &CallSpec) -> Result<u32, Error> {
        if self.sources[index].has_constant_head
            && let Some(&head) = self.heads.get(&index)
        {
            return Ok(head);
        }
        let key = || format!("call[{index}].metadata");
        let mut metadata = Vec::with_capacity(spec.metadata.len() + 1);
        for (name, value) in &spec.metadata {
            let value = self.templates.render(value).map_err(|message| {
                Error::new(key(), Reason::Template { place: String::new(), message })
            })?;
            let value = wire_value(name, &value).map_err(|message| {
                let message = self.templates.without_secrets(&message);
                Error::new(key(), Reason::Metadata { name: name.clone(), message })
            })?;
            metadata.push((name.clone(), value));
        }
        let timeout =
            spec.deadline.map(|deadline| ("grpc-timeout".to_owned(), grpc_timeout(deadline)));
        metadata.extend(timeout);
        let is_shared = !self.templates.varies();
        self.sources[index].has_constant_head = is_shared;
        let head = self.calls.heads.len() as u32;
        let path = self.sources[index].method.path();
        self.calls.heads.push(Head { path, metadata, is_shared });
        if is_shared {
            self.heads.insert(index, head);
        }
        Ok(head)
    }

    fn messages(&self, index: usize) -> Result<Vec<Vec<u8>>, Error> {
        let source = &self.sources[index];
        let (method, request) = (source.method.name(), source.method.request());
        let mut messages = Vec::with_capacity(source.messages as usize);
        for number in 0..source.messages {
            self.templates.set_message(number);
            let (place, encoded) = match &source.texts {
                Texts::Encoded(bytes) => (String::new(), message::from_bytes(&request, bytes)),
                Texts::Json(texts) => {
                    let Text { place, text } =
                        &texts[(source.next + number as usize) % texts.len()];
                    let text = self.templates.render(text).map_err(|message| {
                        let place = place.clone();
                        Error::new(
                            format!("call[{index}].request"),
                            Reason::Template { place, message },
                        )
                    })?;
                    (place.clone(), message::from_json(&request, &text))
                }
            };
            let wrong = |reason| Error::new(format!("call[{index}].request"), reason);
            let encoded = encoded.map_err(|message| {
                let (place, method) = (place.clone(), method.clone());
                let message = self.templates.without_secrets(&message);
                wrong(Reason::Request { place, method, message })
            })?;
            if encoded.len() > MOST_MESSAGE_BYTES {
                let (bytes, most) = (encoded.len(), MOST_MESSAGE_BYTES);
                return Err(wrong(Reason::TooLarge { place, method, bytes, most }));
            }
            messages.push(encoded);
        }
        Ok(messages)
    }
}

fn check_kind(method: &Method, spec: &CallSpec) -> Result<(), (&'static str, Reason)> {
    let kind = method.kind();
    let wrong = |key, message| {
        let reason = Reason::Kind { method: method.name(), kind: kind.name(), message };
        Err((key, reason))
    };
    if !kind.streams_requests() && spec.messages.is_some() {
        return wrong("messages", "it takes one request; leave `messages` out");
    }
    if !kind.streams_requests() && !spec.pause.is_zero() {
        return wrong("pause", "it takes one request; leave `pause` out");
    }
    if !kind.streams_responses() && spec.responses.is_some() {
        return wrong("responses", "it gives one response; leave `responses` out");
    }
    Ok(())
}

fn read_texts(file: &Path) -> Result<Texts, Reason> {
    let unreadable = |error| Reason::Read { file: file.to_owned(), error };
    let extension = file.extension().and_then(|extension| extension.to_str());
    let bytes = fs::read(file).map_err(unreadable)?;
    if !matches!(extension, Some("json" | "jsonl")) {
        return Ok(Texts::Encoded(bytes));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
    let name = file.display();
    let texts: Vec<Text> = match extension {
        Some("json") => vec![Text { place: format!("{name}: "), text }],
        _ => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| Text {
                place: format!("{name}:{}: ", index + 1),
                text: line.to_owned(),
            })
            .collect(),
    };
    if texts.is_empty() {
        let message = "expected a request as JSON on each line".to_owned();
        return Err(Reason::Data { file: file.to_owned(), message });
    }
    Ok(Texts::Json(texts))
}

#[cfg(test)]
mod tests;
