//! An example of a request: every field once, with a value of its type.

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::interface::Method;

/// How deep messages in messages are written out; the types may refer to themselves.
const MOST_DEPTH: u32 = 3;

impl Method {
    /// A request as JSON, to be filled in: every field, of alternatives the first.
    pub fn example(&self) -> Value {
        of_message(&self.request(), 0)
    }
}

fn of_message(message: &MessageDescriptor, depth: u32) -> Value {
    if let Some(value) = well_known(message) {
        return value;
    }
    if depth >= MOST_DEPTH {
        return json!({});
    }
    let mut object = Map::new();
    for field in message.fields() {
        // Of alternatives only one may be set; an `optional` is one by itself.
        let is_first = field.containing_oneof().is_none_or(|oneof| {
            oneof.fields().next().is_some_and(|first| first.number() == field.number())
        });
        if is_first {
            object.insert(field.name().to_owned(), of_field(&field, depth));
        }
    }
    Value::Object(object)
}

fn of_field(field: &FieldDescriptor, depth: u32) -> Value {
    if field.is_map() {
        return json!({});
    }
    let one = of_kind(&field.kind(), depth);
    if field.cardinality() == Cardinality::Repeated { json!([one]) } else { one }
}

fn of_kind(kind: &Kind, depth: u32) -> Value {
    match kind {
        Kind::Double | Kind::Float => json!(1.5),
        Kind::Bool => json!(true),
        Kind::String => json!("text"),
        Kind::Bytes => json!("AAEC"),
        Kind::Message(message) => of_message(message, depth + 1),
        // Zero often means that nothing was chosen.
        Kind::Enum(values) => {
            let second = values.values().nth(1).or_else(|| values.values().next());
            second.map_or(Value::Null, |value| json!(value.name()))
        }
        _ => json!(1),
    }
}

/// Messages that have a JSON form of their own.
fn well_known(message: &MessageDescriptor) -> Option<Value> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => json!("2026-01-01T00:00:00Z"),
        "Duration" => json!("1s"),
        "FieldMask" | "StringValue" => json!("text"),
        "BytesValue" => json!("AAEC"),
        "BoolValue" => json!(true),
        "DoubleValue" | "FloatValue" | "Int32Value" | "UInt32Value" | "Int64Value"
        | "UInt64Value" | "Value" => json!(1),
        "ListValue" => json!([]),
        "Struct" | "Empty" => json!({}),
        "Any" => json!({ "@type": "type.googleapis.com/google.protobuf.Empty", "value": {} }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::from_json,
        test_interface::{echo, shop},
    };

    #[test]
    fn an_example_is_a_request() {
        let methods = shop().methods().into_iter().chain(echo().methods());
        for method in methods {
            let example = method.example();
            let read = from_json(&method.request(), &example.to_string());
            assert!(read.is_ok(), "{}: {example} {read:?}", method.name());
        }
        let order = shop().method("Place").unwrap().example();
        assert_eq!(order["lines"][0], json!({ "sku": "text", "count": 1 }));
        assert_eq!((&order["state"], &order["card"]), (&json!("PAID"), &json!("text")));
        assert!(order.get("invoice").is_none(), "an alternative to `card`");
    }
}
