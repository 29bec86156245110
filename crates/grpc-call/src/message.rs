//! Requests: JSON in the canonical mapping of protobuf, to bytes as gRPC sends
//! them, prefix included.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

use crate::error::{did_you_mean, list, nearest};

/// Bytes before each message: a compression flag and a length.
pub const PREFIX_LEN: usize = 5;
/// The largest request message taken.
pub(crate) const MOST_MESSAGE_BYTES: usize = 8 << 20;

/// Messages whose JSON is not an object of their fields.
const WELL_KNOWN: &str = "google.protobuf.";

/// Encodes a request that is written as JSON.
pub(crate) fn from_json(message: &MessageDescriptor, text: &str) -> Result<Vec<u8>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    check_names(message, &value, "")?;
    let decoded =
        DynamicMessage::deserialize(message.clone(), &value).map_err(|error| {
            match blame(message, &value) {
                Some(Blamed { path, found, expected }) => {
                    format!("`{path}`: found {found}, expected {expected}: {error}")
                }
                None => error.to_string(),
            }
        })?;
    Ok(with_prefix(&decoded.encode_to_vec()))
}

/// Encodes a request that is encoded already, after a look whether it is one.
pub(crate) fn from_bytes(message: &MessageDescriptor, bytes: &[u8]) -> Result<Vec<u8>, String> {
    DynamicMessage::decode(message.clone(), bytes)
        .map_err(|error| format!("no encoded {}: {error}", message.full_name()))?;
    Ok(with_prefix(bytes))
}

fn with_prefix(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_LEN + message.len());
    out.push(0);
    // Messages are bounded far below 4 GiB.
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// Says which field is not there, with the nearest that is.
fn check_names(message: &MessageDescriptor, value: &Value, path: &str) -> Result<(), String> {
    let Value::Object(object) = value else { return Ok(()) };
    if message.full_name().starts_with(WELL_KNOWN) {
        return Ok(());
    }
    for (name, value) in object {
        let Some(field) = field_of(message, name) else {
            let known: Vec<String> =
                message.fields().map(|field| field.name().to_owned()).collect();
            let near = nearest(name, known.iter().map(String::as_str));
            return Err(format!(
                "`{path}{name}`: {} has no such field{}; it has {}",
                message.full_name(),
                did_you_mean(&near),
                list(&known)
            ));
        };
        each_message(&field, value, &mut |inner, value, place| {
            check_names(inner, value, &format!("{path}{name}{place}."))
        })?;
    }
    Ok(())
}

fn field_of(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

/// Walks the messages in the value of a field, each with its place in it.
fn each_message<E>(
    field: &FieldDescriptor,
    value: &Value,
    walk: &mut dyn FnMut(&MessageDescriptor, &Value, &str) -> Result<(), E>,
) -> Result<(), E> {
    let Kind::Message(message) = field.kind() else { return Ok(()) };
    match value {
        Value::Object(map) if field.is_map() => {
            let Kind::Message(inner) = message.map_entry_value_field().kind() else {
                return Ok(());
            };
            map.iter().try_for_each(|(key, value)| walk(&inner, value, &format!(".{key}")))
        }
        Value::Array(values) if field.is_list() => {
            let mut numbered = values.iter().enumerate();
            numbered.try_for_each(|(index, value)| walk(&message, value, &format!("[{index}]")))
        }
        value => walk(&message, value, ""),
    }
}

/// A field whose value is at fault.
struct Blamed {
    path: String,
    /// The value, or what it begins with.
    found: String,
    /// The kind of the field.
    expected: String,
}

impl Blamed {
    fn new(path: &str, found: &Value, expected: String) -> Self {
        const MOST_CHARS: usize = 40;
        let text = found.to_string();
        let short: String = text.chars().take(MOST_CHARS).collect();
        let more = if short.len() < text.len() { "..." } else { "" };
        Self { path: path.to_owned(), found: format!("{short}{more}"), expected }
    }
}

/// As a proto file writes it.
fn kind_of(field: &FieldDescriptor) -> String {
    let one = match field.kind() {
        Kind::Message(message) if field.is_map() => {
            return format!("a map of {}", message.full_name());
        }
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => format!("a name of {}", of.full_name()),
        // `Int32` is int32.
        other => format!("{other:?}").to_lowercase(),
    };
    if field.is_list() { format!("a list of {one}") } else { one }
}

/// The field that is refused alone.
fn blame(message: &MessageDescriptor, value: &Value) -> Option<Blamed> {
    let Value::Object(object) = value else { return None };
    let is_wrong = |message: &MessageDescriptor, value: &Value| {
        DynamicMessage::deserialize(message.clone(), value).is_err()
    };
    for (name, value) in object {
        let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        let Some(field) = field_of(message, name).filter(|_| is_wrong(message, &alone)) else {
            continue;
        };
        let inner = each_message(&field, value, &mut |inner, value, place| {
            if inner.full_name().starts_with(WELL_KNOWN) || !is_wrong(inner, value) {
                return Ok(());
            }
            Err(match blame(inner, value) {
                None => Blamed::new(place, value, inner.full_name().to_owned()),
                Some(deeper) => Blamed { path: format!("{place}.{}", deeper.path), ..deeper },
            })
        });
        let own = || Blamed::new("", value, kind_of(&field));
        let inner = inner.err().unwrap_or_else(own);
        return Some(Blamed { path: format!("{name}{}", inner.path), ..inner });
    }
    None
}

#[cfg(test)]
mod tests {
    use echo_proto::v1::EchoRequest;
    use proptest::prelude::*;

    use super::*;
    use crate::test_interface::{echo, shop};

    proptest! {
        #[test]
        fn json_becomes_what_prost_reads(
            sequence: u64,
            payload in prop::collection::vec(any::<u8>(), 0..60),
            response_bytes: u32,
        ) {
            use base64::Engine as _;
            let base64 = base64::engine::general_purpose::STANDARD.encode(&payload);
            let json = format!(
                r#"{{"sequence": "{sequence}", "payload": "{base64}", "response_bytes": {response_bytes}}}"#
            );
            let message = echo().method("Unary").unwrap().request();
            let bytes = from_json(&message, &json).unwrap();
            prop_assert_eq!(bytes[0], 0);
            let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            prop_assert_eq!(length as usize, bytes.len() - PREFIX_LEN);
            let read = EchoRequest::decode(&bytes[PREFIX_LEN..]).unwrap();
            let sent = EchoRequest { sequence, payload, response_bytes, response_count: 0 };
            prop_assert_eq!(read, sent);
            prop_assert_eq!(from_bytes(&message, &bytes[PREFIX_LEN..]).unwrap(), bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = from_json(&shop().method("Place").unwrap().request(), &text);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_path() {
        let message = shop().method("Place").unwrap().request();
        for (json, expected) in [
            ("{", "no JSON"),
            (
                r#"{"custmer": "x"}"#,
                "`custmer`: shop.Order has no such field; did you mean `customer`?",
            ),
            (r#"{"lines": [{"sku": "a"}, {"cuont": 1}]}"#, "`lines[1].cuont`: shop.Line has no"),
            (r#"{"lines": [{"count": "two"}]}"#, "`lines[0].count`: "),
            (r#"{"customer": 3}"#, "`customer`: "),
            (r#"{"state": "PAYED"}"#, "`state`: "),
            (r#"{"placed": "yesterday"}"#, "`placed`: "),
            ("[]", "expected a map"),
        ] {
            let error = from_json(&message, json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        assert!(from_bytes(&message, b"\xff").unwrap_err().contains("no encoded shop.Order"));
    }
}
