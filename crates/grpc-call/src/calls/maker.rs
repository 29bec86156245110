//! Making calls: which one is drawn, and its head and requests, rendered and encoded.

use std::{collections::HashMap, fs, path::Path};

use super::{Body, CallSpec, Calls, Head, Prepared, Recorded, Rules};
use crate::{
    error::{Error, Reason},
    expect::Fields,
    interface::{Interface, Method},
    message::{self, MOST_MESSAGE_BYTES},
    metadata::{check_name, grpc_timeout, wire_value},
    template::Templates,
};

/// The most that calls made ahead take together. Beyond it they begin anew.
const MOST_BYTES: usize = 256 << 20;

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

/// Makes calls, each kind of them once where it is the same every time.
pub(super) struct Maker {
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
    pub(super) fn new(templates: Templates) -> Self {
        Self {
            templates,
            sources: Vec::new(),
            made: HashMap::new(),
            heads: HashMap::new(),
            bytes: 0,
            calls: Calls {
                rules: Vec::new(),
                heads: Vec::new(),
                prepared: Vec::new(),
                order: Vec::new(),
            },
        }
    }

    /// Takes in one kind of call, and what all calls of it have in common.
    pub(super) fn add(
        &mut self,
        interface: &Interface,
        index: usize,
        spec: &CallSpec,
    ) -> Result<(), Error> {
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
    pub(super) fn draw(
        mut self,
        specs: &[CallSpec],
        mut pick: impl FnMut() -> u64,
        recorded: &[Recorded<'_>],
        count: usize,
    ) -> Result<Calls, Error> {
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
        Ok(self.calls)
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
