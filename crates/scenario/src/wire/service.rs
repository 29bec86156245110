//! `[service]` as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::{bounds, quantity::DurationText};

/// A service of your own, in place of the lab's echo service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceWire {
    /// Proto files that describe the service, beside the scenario or by path. This, a
    /// descriptor set, or reflection.
    #[schemars(length(min = 1), example = json!(["shop.proto"]))]
    pub(crate) proto: Option<Vec<String>>,
    /// Folders in which imports of the proto files are looked for; the folder of each
    /// file unless given.
    #[schemars(example = json!(["protos", "third_party"]))]
    pub(crate) include: Option<Vec<String>>,
    /// A file made by `protoc --include_imports --descriptor_set_out=FILE`.
    #[schemars(example = "shop.bin")]
    pub(crate) descriptor_set: Option<String>,
    /// Whether the service is asked for its interface, by gRPC server reflection.
    #[schemars(example = true)]
    pub(crate) reflection: Option<bool>,
    /// A CSV file with a line of names, whose columns templates take values from.
    #[schemars(example = "customers.csv")]
    pub(crate) data: Option<String>,
    /// How an answer tells which backend it comes from. Unless given, a tap of the lab's
    /// before each server that it starts tells it, and of others it is unknown.
    pub(crate) identity: Option<IdentityWire>,
    /// The calls that are made.
    #[serde(default, rename = "call")]
    pub(crate) calls: Vec<ServiceCallWire>,
}

/// Where an answer tells which backend it comes from: in a header, or in a trailer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityWire {
    /// The header's name.
    #[schemars(example = "x-served-by")]
    pub(crate) header: Option<String>,
    /// The trailer's name.
    #[schemars(example = "x-served-by")]
    pub(crate) trailer: Option<String>,
}

/// One kind of call on your service. Requests and metadata may be templates; see
/// docs/your-service.md.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceCallWire {
    /// The method: `shop.v1.Orders/Place`, or an end of that which fits one only.
    #[schemars(example = "shop.v1.Orders/Place")]
    pub(crate) method: String,
    /// How often it is made, beside the other calls; 1 unless given.
    #[schemars(range(min = bounds::CALL_WEIGHT.min, max = bounds::CALL_WEIGHT.max))]
    #[schemars(example = 3)]
    pub(crate) weight: Option<u32>,
    /// The request as JSON; the empty message unless given.
    #[schemars(example = "{\"customer\": \"{{ column('id') }}\"}")]
    pub(crate) request: Option<String>,
    /// A file with the request: `.json` holds one, `.jsonl` one on each line, which are
    /// taken in turn, and any other file one in protobuf's encoding.
    #[schemars(example = "orders.jsonl")]
    pub(crate) request_file: Option<String>,
    /// Metadata by name; values of names in `-bin` are base64.
    #[serde(default)]
    #[schemars(example = json!({ "authorization": "Bearer {{ env('TOKEN') }}" }))]
    pub(crate) metadata: BTreeMap<String, String>,
    /// How long a call may take, also told to the service as `grpc-timeout`; as long as
    /// it likes unless given.
    pub(crate) deadline: Option<DurationText>,
    /// Requests of a client or bidirectional stream; as many as the file has unless
    /// given.
    #[schemars(range(min = bounds::MESSAGES.min, max = bounds::MESSAGES.max))]
    #[schemars(example = 5)]
    pub(crate) messages: Option<u32>,
    /// Pause between two requests of a stream; none unless given.
    pub(crate) pause: Option<DurationText>,
    /// Responses with which a server or bidirectional stream is complete: the client
    /// then cancels it. The server ends it unless given.
    #[schemars(range(min = bounds::MESSAGES.min, max = bounds::MESSAGES.max))]
    #[schemars(example = 3)]
    pub(crate) responses: Option<u32>,
    /// What a call has to come back with to be successful.
    pub(crate) expect: Option<ExpectedWire>,
}

/// What a call has to come back with.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedWire {
    /// The gRPC status by its name; `OK` unless given.
    #[schemars(example = &"NOT_FOUND")]
    pub(crate) status: Option<String>,
    /// Values in every response, by paths such as `$.order.items[0].id`.
    #[serde(default)]
    #[schemars(example = json!({ "$.order.state": "PAID" }))]
    pub(crate) fields: BTreeMap<String, FieldValueWire>,
}

/// A value in a response.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected true, false, a number or a text")]
pub(crate) enum FieldValueWire {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// A text, the name of an enum's value, or bytes as base64.
    Text(String),
}
