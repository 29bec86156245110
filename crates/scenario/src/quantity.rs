//! Numbers with units in files, as [`units`] reads and writes them, with their schemas.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use units::{duration, format_bit_rate, parse_bit_rate, parse_percent, parse_rate};

/// A duration in a file: a text with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurationText(pub(crate) Duration);

/// A rate in a file: calls per second, or a text that ends in `/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RateText(pub(crate) f64);

/// A part of a whole in a file: a text that ends in `%`; held as a fraction from
/// 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PercentText(pub(crate) f64);

impl<'de> Deserialize<'de> for PercentText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PercentText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage in quotes, such as \"40%\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Err(E::custom(format!("`{number}` has no `%`; write it in quotes, as in \"40%\"")))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                Err(E::custom(format!("`{number}` has no `%`; write it in quotes, as in \"40%\"")))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                parse_percent(text).map(PercentText).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for PercentText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}%", self.0 * 100.0))
    }
}

impl JsonSchema for PercentText {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A part of a whole: a number from 0 to 100 and %.",
            "pattern": r"^[0-9]+(\.[0-9]+)?%$",
            "examples": ["40%"],
        })
    }
}

impl FromStr for DurationText {
    type Err = units::Error;

    fn from_str(text: &str) -> Result<Self, units::Error> {
        duration::parse(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, such as \"250us\", \"1.5s\" or \"2m\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Err(E::custom(units::Error::NoUnit(number.to_string())))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                Err(E::custom(units::Error::NoUnit(number.to_string())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                duration::parse(text).map(DurationText).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration::format(self.0))
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration: a number and one of ns, us, ms, s, m, h.",
            "pattern": r"^[0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h)$",
            "examples": ["250us", "5ms", "1.5s", "2m"],
        })
    }
}

impl<'de> Deserialize<'de> for RateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RateText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate: calls per second, as in 3000 or \"3000/s\"")
            }

            fn visit_i64<E: de::Error>(self, rate: i64) -> Result<Self::Value, E> {
                Ok(RateText(rate as f64))
            }

            fn visit_f64<E: de::Error>(self, rate: f64) -> Result<Self::Value, E> {
                Ok(RateText(rate))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                parse_rate(text).map(RateText).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for RateText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl JsonSchema for RateText {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A rate in calls per second: a number, or a text that ends in /s.",
            "anyOf": [
                { "type": "number", "exclusiveMinimum": 0 },
                { "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(/s)?$" },
            ],
            "examples": [3000, "3000/s"],
        })
    }
}

/// Bits per second in a file: a text with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BitRateText(pub(crate) u64);

impl<'de> Deserialize<'de> for BitRateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = BitRateText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a bit rate in quotes, such as \"100mbit\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                parse_bit_rate(text).map(BitRateText).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for BitRateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_bit_rate(self.0))
    }
}

impl JsonSchema for BitRateText {
    fn schema_name() -> Cow<'static, str> {
        "BitRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A rate in bits per second: a number and one of bit, kbit, mbit, gbit.",
            "pattern": r"^[0-9]+(\.[0-9]+)?(bit|kbit|mbit|gbit)$",
            "examples": ["100mbit"],
        })
    }
}

/// For `serialize_with`: a duration as a text.
pub(crate) fn duration_as_text<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    DurationText(*duration).serialize(serializer)
}

/// Likewise; nothing where there is none.
pub(crate) fn optional_duration_as_text<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => duration_as_text(duration, serializer),
        None => serializer.serialize_none(),
    }
}
