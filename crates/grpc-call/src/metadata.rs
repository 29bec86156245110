//! Metadata: what HTTP/2 and gRPC let a call carry besides its messages
//! (`PROTOCOL-HTTP2.md`, "Custom-Metadata"; RFC 9113, section 8.2).

use std::time::Duration;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Takes base64 with padding and without, and writes it without, as gRPC does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Names that HTTP/2 forbids, and those that the client writes itself.
const RESERVED: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "host",
    "content-length",
    "content-type",
    "user-agent",
];
/// The largest list that servers take unless told otherwise is 8 KiB.
const MOST_BYTES: usize = 8 << 10;

/// Says what is wrong with a name.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let wrong = |found: char| !matches!(found, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    if name.is_empty() {
        return Err("a name is never empty".to_owned());
    }
    if name.starts_with(':') {
        return Err("names with a colon belong to HTTP/2 itself".to_owned());
    }
    let lower = name.to_ascii_lowercase();
    if let Some(found) = lower.chars().find(|&found| wrong(found)) {
        return Err(format!(
            "{found:?} is not allowed in a name; expected a-z, 0-9, `-`, `_`, `.`"
        ));
    }
    if name != lower {
        return Err(format!("names are in lower case in HTTP/2; write `{lower}`"));
    }
    if RESERVED.contains(&name) {
        return Err("the client writes it itself, or HTTP/2 forbids it; take it out".to_owned());
    }
    if name.starts_with("grpc-") {
        return Err("names with `grpc-` belong to gRPC; a deadline is set by `deadline`".to_owned());
    }
    Ok(())
}

/// The value as it travels: text as it is, and of a name in `-bin` the base64 of its
/// bytes, which is how it is written too.
pub(crate) fn wire_value(name: &str, value: &str) -> Result<String, String> {
    if value.len() > MOST_BYTES {
        return Err(format!("the value has {} bytes; at most {MOST_BYTES} are taken", value.len()));
    }
    if name.ends_with("-bin") {
        let bytes = BASE64.decode(value.trim());
        let bytes = bytes.map_err(|error| format!("a name in `-bin` takes base64: {error}"))?;
        return Ok(BASE64.encode(bytes));
    }
    if let Some(found) = value.chars().find(|found| !matches!(found, ' '..='~')) {
        return Err(format!(
            "{found:?} is not allowed in a value; use a name in `-bin` and base64 for it"
        ));
    }
    if value != value.trim() {
        return Err("a value neither begins nor ends with a space".to_owned());
    }
    Ok(value.to_owned())
}

/// A deadline as `grpc-timeout` says it: at most eight digits and a unit.
pub fn grpc_timeout(deadline: Duration) -> String {
    let units = [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000)];
    let ns = deadline.as_nanos();
    for (unit, size) in units {
        let count = ns.div_ceil(size);
        if count < 100_000_000 {
            return format!("{count}{unit}");
        }
    }
    // Three years and more.
    "99999999S".to_owned()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_is_right_in_http(name in ".{0,12}", value in ".{0,24}") {
            if check_name(&name).is_ok() {
                prop_assert!(HeaderName::from_lowercase(name.as_bytes()).is_ok());
            }
            if let Ok(value) = wire_value("a", &value) {
                prop_assert!(HeaderValue::from_str(&value).is_ok());
            }
        }

        #[test]
        fn binary_values_come_back(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let sent = wire_value("a-bin", &BASE64.encode(&bytes)).unwrap();
            prop_assert_eq!(BASE64.decode(sent).unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_forbidden_is_told() {
        for name in ["", ":path", "te", "connection", "X-Token", "grpc-timeout", "a b", "host"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("X-Token").unwrap_err().contains("`x-token`"));
        assert!(check_name("X Token").unwrap_err().contains("' ' is not allowed"));
        for name in ["authorization", "x-token", "trace.id", "a_b-bin", "0"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        assert!(wire_value("a", "line\nbreak").unwrap_err().contains("'\\n'"));
        assert!(wire_value("a", "größe").is_err());
        assert!(wire_value("a", " b").is_err());
        assert!(wire_value("a-bin", "%").unwrap_err().contains("base64"));
        assert_eq!(wire_value("a-bin", "AQI=").as_deref(), Ok("AQI"));
        assert!(wire_value("a", &"x".repeat(MOST_BYTES + 1)).is_err());
    }

    #[test]
    fn a_deadline_has_at_most_eight_digits_and_is_never_shorter() {
        let text = |ns| grpc_timeout(Duration::from_nanos(ns));
        assert_eq!(text(99_999_999), "99999999n");
        assert_eq!(text(100_000_001), "100001u");
        assert_eq!(grpc_timeout(Duration::from_millis(250)), "250000u");
        assert_eq!(grpc_timeout(Duration::from_secs(3_600)), "3600000m");
        assert_eq!(grpc_timeout(Duration::MAX), "99999999S");
    }
}
