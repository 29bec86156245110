//! What a response has to be: its status, and fields in it.
//!
//! A path is the part of JSONPath (RFC 9535) that names one value: `$.order.items[0].id`.
//! It is resolved against the message's type before any call, so that a wrong name is
//! an error of the scenario and not of every call; a general JSONPath library looks at
//! JSON only, which would cost a conversion for each response too.

use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, Value};
use serde_json::Value as Json;

use crate::error::{did_you_mean, list, nearest};

/// Fields of a response and the values they have to have.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    message: MessageDescriptor,
    wanted: Vec<(Vec<Step>, Json)>,
}

#[derive(Clone, Debug)]
enum Step {
    Field(u32),
    Index(usize),
    Key(String),
}

impl Fields {
    pub(crate) fn new(
        message: MessageDescriptor,
        wanted: &[(String, Json)],
    ) -> Result<Self, String> {
        let resolve = |(path, value): &(String, Json)| {
            let (steps, kind) = resolve(&message, path)?;
            check_type(path, &kind, value)?;
            // Enums travel as numbers.
            let number = match (&kind, value) {
                (Kind::Enum(values), Json::String(name)) => values.get_value_by_name(name),
                _ => None,
            };
            Ok((steps, number.map_or_else(|| value.clone(), |found| found.number().into())))
        };
        Ok(Self { wanted: wanted.iter().map(resolve).collect::<Result<_, String>>()?, message })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether an encoded message has all of the values.
    pub(crate) fn hold(&self, message: &[u8]) -> bool {
        let Ok(message) = DynamicMessage::decode(self.message.clone(), message) else {
            return false;
        };
        self.wanted.iter().all(|(steps, value)| {
            // Borrowed as far as it goes; a field that is not there has its default.
            let mut current = Value::Message(message.clone());
            for step in steps {
                let Some(next) = follow(&current, step) else { return false };
                current = next;
            }
            is_equal(&current, value)
        })
    }
}

fn follow(value: &Value, step: &Step) -> Option<Value> {
    match (step, value) {
        (Step::Field(number), Value::Message(message)) => {
            Some(message.get_field_by_number(*number)?.into_owned())
        }
        (Step::Index(index), Value::List(list)) => list.get(*index).cloned(),
        (Step::Key(key), Value::Map(map)) => {
            map.iter().find(|(known, _)| key_text(known) == *key).map(|(_, value)| value.clone())
        }
        _ => None,
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
        MapKey::String(value) => value.clone(),
    }
}

/// The steps of a path, and the kind of the value that it ends at.
fn resolve(message: &MessageDescriptor, path: &str) -> Result<(Vec<Step>, Kind), String> {
    let malformed = || format!("`{path}`: expected a path as in `$.order.items[0].id`");
    let rest = path.strip_prefix("$.").or(Some(path)).filter(|rest| !rest.is_empty());
    let (mut steps, mut kind) = (Vec::new(), Kind::Message(message.clone()));
    for part in rest.ok_or_else(malformed)?.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => {
                let index = index.strip_suffix(']').and_then(|index| index.parse().ok());
                (name, Some(index.ok_or_else(malformed)?))
            }
            None => (part, None),
        };
        // The key of a map is a name of its own, after that of its field.
        if let (Kind::Message(entry), Some(Step::Field(_))) = (&kind, steps.last())
            && entry.is_map_entry()
        {
            steps.push(Step::Key(name.to_owned()));
            kind = entry.map_entry_value_field().kind();
            continue;
        }
        let Kind::Message(of) = &kind else {
            return Err(format!("`{path}`: `{name}` is asked of a value that has no fields"));
        };
        let found = of.get_field_by_name(name).or_else(|| of.get_field_by_json_name(name));
        let Some(field) = found else {
            let known: Vec<String> = of.fields().map(|field| field.name().to_owned()).collect();
            return Err(format!(
                "`{path}`: {} has no field `{name}`{}; it has {}",
                of.full_name(),
                did_you_mean(&nearest(name, known.iter().map(String::as_str))),
                list(&known)
            ));
        };
        if field.is_list() != index.is_some() {
            let wanted = if index.is_some() { "is no list" } else { "is a list: add `[0]`" };
            return Err(format!("`{path}`: `{name}` {wanted}"));
        }
        steps.push(Step::Field(field.number()));
        steps.extend(index.map(Step::Index));
        kind = field.kind();
    }
    Ok((steps, kind))
}

/// Values that could never be equal are an error before the first call.
fn check_type(path: &str, kind: &Kind, value: &Json) -> Result<(), String> {
    let fits = match kind {
        Kind::Bool => value.is_boolean(),
        Kind::String | Kind::Bytes => value.is_string(),
        Kind::Enum(values) => match value {
            Json::String(name) => values.get_value_by_name(name).is_some(),
            other => other.is_i64(),
        },
        Kind::Message(message) => {
            return Err(format!("`{path}` is a {}; name a field of it", message.full_name()));
        }
        _ => value.is_number(),
    };
    if fits { Ok(()) } else { Err(format!("`{path}` is {kind:?}, and is never {value}")) }
}

fn is_equal(value: &Value, wanted: &Json) -> bool {
    match value {
        Value::Bool(value) => wanted.as_bool() == Some(*value),
        Value::I32(value) => wanted.as_i64() == Some(i64::from(*value)),
        Value::I64(value) => wanted.as_i64() == Some(*value),
        Value::U32(value) => wanted.as_u64() == Some(u64::from(*value)),
        Value::U64(value) => wanted.as_u64() == Some(*value),
        // Compared as the type holds it: 0.1 in a float is not the 0.1 of a double.
        Value::F32(value) => wanted.as_f64().is_some_and(|wanted| wanted as f32 == *value),
        Value::F64(value) => wanted.as_f64() == Some(*value),
        Value::String(value) => wanted.as_str() == Some(value),
        Value::Bytes(value) => {
            use base64::Engine as _;
            let engine = base64::engine::general_purpose::STANDARD;
            wanted.as_str().is_some_and(|wanted| wanted == engine.encode(value))
        }
        Value::EnumNumber(number) => wanted.as_i64() == Some(i64::from(*number)),
        Value::Message(_) | Value::List(_) | Value::Map(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use crate::test_interface::shop;

    fn order() -> Vec<u8> {
        let message = shop().method("Place").unwrap().response();
        let json = json!({
            "id": "o-1",
            "state": "PAID",
            "lines": [{ "sku": "a", "count": 2 }],
            "labels": { "region": "eu" },
            "total": 0.1,
        });
        DynamicMessage::deserialize(message, json).unwrap().encode_to_vec()
    }

    fn fields(path: &str, value: Json) -> Result<Fields, String> {
        let message = shop().method("Place").unwrap().response();
        Fields::new(message, &[(path.to_owned(), value)])
    }

    #[test]
    fn values_are_found_by_their_paths() {
        for (path, value, other) in [
            ("$.id", json!("o-1"), json!("o-2")),
            ("id", json!("o-1"), json!("")),
            ("$.state", json!("PAID"), json!("OPEN")),
            ("$.state", json!(1), json!(0)),
            ("$.lines[0].count", json!(2), json!(3)),
            ("$.labels.region", json!("eu"), json!("us")),
            ("$.total", json!(0.1), json!(0.2)),
            ("$.note", json!(""), json!("x")),
        ] {
            assert!(fields(path, value).unwrap().hold(&order()), "{path}");
            assert!(!fields(path, other).unwrap().hold(&order()), "{path}");
        }
        assert!(!fields("$.lines[1].count", json!(2)).unwrap().hold(&order()), "there is one line");
        assert!(!fields("$.id", json!("o-1")).unwrap().hold(b"\xff"), "no message at all");
    }

    #[test]
    fn a_path_that_leads_nowhere_is_told_before_any_call() {
        for (path, value, expected) in [
            ("$.ids", json!("x"), "did you mean `id`?"),
            ("$.lines.sku", json!("x"), "add `[0]`"),
            ("$.id[0]", json!("x"), "is no list"),
            ("$.id.name", json!("x"), "has no fields"),
            ("$.lines[0]", json!("x"), "name a field of it"),
            ("$.lines[x].sku", json!("x"), "expected a path"),
            ("", json!("x"), "expected a path"),
            ("$.id", json!(3), "never 3"),
            ("$.state", json!("PAYED"), "never \"PAYED\""),
        ] {
            let error = fields(path, value).unwrap_err();
            assert!(error.contains(expected), "{path}: {error}");
        }
    }
}
