//! The user's own service: its interface, the calls that are made on it, and how its
//! answers tell which backend they come from.
//!
//! What can be checked without the interface is checked here; whether methods and
//! fields exist shows when the interface is there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, Serializer};
use units::grpc::STATUS_NAMES;

use crate::{
    bounds::{self, time_within, within},
    client::Client,
    error::{Problem, refuse},
    quantity::{DurationText, duration_as_text, optional_duration_as_text},
    wire::{ExpectedWire, FieldValueWire, IdentityWire, LoadWire, ServiceCallWire, ServiceWire},
};

/// A service that is not the lab's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// Where its interface comes from.
    pub interface: InterfaceSource,
    /// A CSV file whose columns templates take values from.
    #[serde(serialize_with = "file_name")]
    pub data: Option<PathBuf>,
    /// How an answer tells which backend it comes from; `None` where it does not. Then
    /// servers that the lab starts have a tap before them, which does.
    pub identity: Option<Identity>,
    /// The calls that are made; never empty.
    pub calls: Vec<ServiceCall>,
}

/// Where the interface of a service comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceSource {
    /// Proto files.
    Proto {
        /// The files; never empty.
        #[serde(serialize_with = "file_names")]
        files: Vec<PathBuf>,
        /// Where imports are looked for.
        #[serde(serialize_with = "file_names")]
        include: Vec<PathBuf>,
    },
    /// A file that `protoc --descriptor_set_out` wrote.
    DescriptorSet(#[serde(serialize_with = "only_file_name")] PathBuf),
    /// The service itself, by gRPC server reflection.
    Reflection,
}

/// Where an answer tells which backend it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// In a header of the response.
    Header(String),
    /// In a trailer.
    Trailer(String),
}

/// One kind of call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceCall {
    /// The method, as `shop.v1.Orders/Place`.
    pub method: String,
    /// How often it is made, beside the others.
    pub weight: u32,
    /// Its request.
    pub request: RequestSource,
    /// Metadata, by name. Its values may be secrets, and are in no record.
    #[serde(serialize_with = "names")]
    pub metadata: BTreeMap<String, String>,
    /// How long a call may take.
    #[serde(serialize_with = "optional_duration_as_text")]
    pub deadline: Option<Duration>,
    /// Requests of a streaming call; as many as the file has unless given.
    pub messages: Option<u32>,
    /// Between two requests of a streaming call.
    #[serde(serialize_with = "duration_as_text")]
    pub pause: Duration,
    /// Responses that a streaming call is complete with.
    pub responses: Option<u32>,
    /// The gRPC status that a call has to end with, by its code.
    pub status: u8,
    /// Values that every response has to have, by their paths.
    pub fields: Vec<(String, serde_json::Value)>,
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestSource {
    /// JSON in the scenario.
    Json(String),
    /// A file.
    File(#[serde(serialize_with = "only_file_name")] PathBuf),
}

impl RequestSource {
    /// The file, where it comes from one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Json(_) => None,
            Self::File(file) => Some(file),
        }
    }
}

pub(crate) fn check_service(
    wire: Option<ServiceWire>,
    load: &LoadWire,
) -> Result<Option<Service>, Problem> {
    let Some(wire) = wire else { return Ok(None) };
    check_load(load)?;
    let interface = check_interface(&wire)?;
    if wire.calls.is_empty() {
        let message = "this key is missing: name a method to call, under `[[service.call]]`";
        return Err(Problem::new("service.call", message));
    }
    let identity = wire.identity.map(check_identity).transpose()?;
    let calls = wire.calls.into_iter().enumerate();
    let calls = calls.map(|(index, call)| check_call(&format!("service.call[{index}]"), call));
    let calls = calls.collect::<Result<_, _>>()?;
    Ok(Some(Service { interface, data: wire.data.map(PathBuf::from), identity, calls }))
}

/// What of `[load]` describes calls of the echo service.
fn check_load(load: &LoadWire) -> Result<(), Problem> {
    let given = [
        ("load.call", load.call.is_some()),
        ("load.messages", load.messages.is_some()),
        ("load.deadline", load.deadline.is_some()),
        ("load.payload", load.payload.is_some()),
        ("load.request_bytes", load.request_bytes.is_some()),
        ("load.response_bytes", load.response_bytes.is_some()),
    ];
    let message = "belongs to the lab's echo service; calls of your own service are described by \
                   `[[service.call]]`";
    refuse(given, message)?;
    if load.client == Some(Client::Tonic) {
        let name = Client::Tonic.name();
        let message =
            format!("`{name}` calls the lab's echo service only; leave `load.client` out");
        return Err(Problem::new("load.client", message));
    }
    Ok(())
}

fn check_interface(wire: &ServiceWire) -> Result<InterfaceSource, Problem> {
    let include = wire.include.iter().flatten().map(PathBuf::from).collect();
    let source = match (&wire.proto, &wire.descriptor_set, wire.reflection.unwrap_or(false)) {
        (Some(files), None, false) if !files.is_empty() => {
            let files = files.iter().map(PathBuf::from).collect();
            return Ok(InterfaceSource::Proto { files, include });
        }
        (Some(files), None, false) if files.is_empty() => {
            return Err(Problem::new("service.proto", "this list is empty; name a proto file"));
        }
        (None, Some(file), false) => InterfaceSource::DescriptorSet(file.into()),
        (None, None, true) => InterfaceSource::Reflection,
        (None, None, false) => {
            let message = "the interface is missing: give `proto = [\"shop.proto\"]`, \
                           `descriptor_set = \"shop.bin\"`, or `reflection = true`; as flags these \
                           are --proto, --descriptor-set and --reflection";
            return Err(Problem::new("service", message));
        }
        _ => {
            let message = "`proto`, `descriptor_set` and `reflection` all give the interface; keep \
                           one";
            return Err(Problem::new("service", message));
        }
    };
    if wire.include.is_some() {
        let message = "belongs to `service.proto`; take it out";
        return Err(Problem::new("service.include", message));
    }
    Ok(source)
}

fn check_identity(wire: IdentityWire) -> Result<Identity, Problem> {
    let key = "service.identity";
    let identity = match (wire.header, wire.trailer) {
        (Some(name), None) => Identity::Header(name),
        (None, Some(name)) => Identity::Trailer(name),
        _ => {
            let message = "expected one of `{ header = \"x-served-by\" }` and `{ trailer = ... }`";
            return Err(Problem::new(key, message));
        }
    };
    let (Identity::Header(name) | Identity::Trailer(name)) = &identity;
    let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(is_name) {
        let message = format!("`{name}` is no name of a header in HTTP/2, which are in lower case");
        return Err(Problem::new(key, message));
    }
    Ok(identity)
}

fn check_call(key: &str, wire: ServiceCallWire) -> Result<ServiceCall, Problem> {
    let at = |name: &str| format!("{key}.{name}");
    if wire.method.trim().is_empty() {
        return Err(Problem::new(at("method"), "expected a method, as in `shop.v1.Orders/Place`"));
    }
    let request = match (wire.request, wire.request_file) {
        (Some(_), Some(_)) => {
            let message = "`request` and `request_file` both give the request; keep one";
            return Err(Problem::new(at("request_file"), message));
        }
        (None, Some(file)) => RequestSource::File(file.into()),
        // Of every message without a field.
        (json, None) => RequestSource::Json(json.unwrap_or_else(|| "{}".to_owned())),
    };
    let time = |name: &str, time: Option<DurationText>, what| {
        let check = |DurationText(time)| time_within(&at(name), time, bounds::DEADLINE, what);
        time.map(check).transpose()
    };
    let count = |name: &str, count: Option<u32>| {
        let count = count.map(|count| within(&at(name), count, bounds::MESSAGES, "messages"));
        count.transpose()
    };
    let weight = wire.weight.unwrap_or(1);
    let expected = wire.expect.unwrap_or_default();
    let (status, fields) = check_expected(&at("expect"), expected)?;
    Ok(ServiceCall {
        weight: within(&at("weight"), weight, bounds::CALL_WEIGHT, "a weight")?,
        request,
        metadata: wire.metadata,
        deadline: time("deadline", wire.deadline, "a deadline")?,
        messages: count("messages", wire.messages)?,
        pause: time("pause", wire.pause, "a pause")?.unwrap_or_default(),
        responses: count("responses", wire.responses)?,
        status,
        fields,
        method: wire.method,
    })
}

type Expected = (u8, Vec<(String, serde_json::Value)>);

fn check_expected(key: &str, wire: ExpectedWire) -> Result<Expected, Problem> {
    let name = wire.status.as_deref().unwrap_or("OK");
    let code = STATUS_NAMES.iter().position(|known| *known == name);
    let Some(code) = code.and_then(|code| u8::try_from(code).ok()) else {
        let hint = crate::error::did_you_mean(name, &STATUS_NAMES);
        let list = crate::error::list_of(&STATUS_NAMES);
        let message = format!("gRPC has no status `{name}`{hint}; known are {list}");
        return Err(Problem::new(format!("{key}.status"), message));
    };
    let value = |value: FieldValueWire| match value {
        FieldValueWire::Flag(value) => value.into(),
        FieldValueWire::Whole(value) => value.into(),
        FieldValueWire::Number(value) => value.into(),
        FieldValueWire::Text(value) => value.into(),
    };
    Ok((code, wire.fields.into_iter().map(|(path, wanted)| (path, value(wanted))).collect()))
}

/// A record is read on other machines, where folders of this one mean nothing.
fn only_file_name<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    serializer.serialize_str(&name.to_string_lossy())
}

fn file_name<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => only_file_name(path, serializer),
        None => serializer.serialize_none(),
    }
}

fn file_names<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_owned();
    serializer.collect_seq(paths.iter().map(|path| name(path).to_string_lossy().into_owned()))
}

fn names<S: Serializer>(
    metadata: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(metadata.keys())
}
