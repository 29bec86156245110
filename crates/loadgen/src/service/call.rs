//! One call of the user's service, by tonic, held to what is expected of it.

use bytes::{Buf as _, BufMut as _, Bytes};
use generator::client;
use grpc_call::{Calls, PREFIX_LEN, Rules};
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
    transport::Channel,
};
use units::grpc::STATUS_NAMES;

use super::Fault;

/// Largest response taken, as by the generator.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The metadata of an answer, as far as it came. That of a failure is in neither.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) header: Option<MetadataMap>,
    pub(super) trailers: Option<MetadataMap>,
}

/// Makes one call, with tonic, and holds its answer to what is expected.
pub(super) async fn call(channel: Channel, calls: &Calls, number: u64) -> Result<Answer, Fault> {
    let prepared = calls.get(number);
    let (rules, head) = (calls.rules(prepared), &calls.heads()[prepared.head as usize]);
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    grpc.ready().await.map_err(|error| Fault::NotSent(client::describe(&error)))?;
    let messages: Vec<Bytes> = prepared
        .messages
        .iter()
        .map(|message| Bytes::copy_from_slice(&message[PREFIX_LEN..]))
        .collect();
    let mut request = Request::new(tokio_stream::iter(messages));
    *request.metadata_mut() = metadata(&head.metadata)?;
    let path = PathAndQuery::try_from(head.path.as_str());
    let path = path.map_err(|error| Fault::NotSent(error.to_string()))?;
    let taken = take_all(grpc.streaming(request, path, Raw).await, rules).await;
    match taken {
        Ok(answer) => answer,
        Err(status) if status.code() as i32 == i32::from(rules.status) => Ok(Answer::default()),
        Err(status) => Err(Fault::Status(Box::new(status))),
    }
}

/// Takes all responses of a call. The inner error is that of a call that ended with OK.
async fn take_all(
    response: Result<tonic::Response<tonic::Streaming<Bytes>>, Status>,
    rules: &Rules,
) -> Result<Result<Answer, Fault>, Status> {
    let (header, mut responses, _) = response?.into_parts();
    let mut answer = Answer { header: Some(header), trailers: None };
    let mut found = 0;
    while let Some(message) = responses.message().await? {
        found += 1;
        if !rules.allow(&message) {
            return Ok(Err(Fault::Fields));
        }
        if rules.kind.streams_responses() && rules.responses == Some(found) {
            return Ok(Ok(answer));
        }
    }
    if rules.status != 0 {
        return Ok(Err(Fault::NotOk(STATUS_NAMES[usize::from(rules.status)])));
    }
    answer.trailers = Some(responses.trailers().await?.unwrap_or_default());
    match rules.responses {
        Some(wanted) if wanted != found => Ok(Err(Fault::Responses { found, wanted })),
        _ => Ok(Ok(answer)),
    }
}

/// Metadata as it travels; binary values are base64 already.
fn metadata(pairs: &[(String, String)]) -> Result<MetadataMap, Fault> {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let wrong = || Fault::NotSent(format!("metadata `{name}` can't be sent"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        map.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(MetadataMap::from_headers(map))
}

/// Messages as bytes, in both directions.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
