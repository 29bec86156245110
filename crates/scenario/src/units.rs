//! Numbers with units, as people write them in files: `"250us"`, `"16KiB"`,
//! `"3000/s"`.
//!
//! Reading is exact: what can't be held to the nanosecond or the byte is
//! refused rather than rounded, and writing gives back a text that reads as
//! the same value. A duration without a unit is refused, because nobody agrees
//! on its unit; a size without one is bytes, and a rate without one is calls
//! per second.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Units of time, largest first, with their length in nanoseconds.
const TIME_UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size, largest first. Only powers of two: `KB` means two things.
const SIZE_UNITS: [(&str, u32); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a duration: a plain decimal number and one of ns, us, ms, s, m, h.
///
/// # Errors
/// A sentence that quotes the text and says what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    refuse_misspelled(text)?;
    let (number, unit) = split_unit(text);
    if unit.is_empty() {
        return Err(without_unit(text));
    }
    // The micro sign and the Greek letter look alike, and both are typed.
    let unit = if matches!(unit, "µs" | "μs") { "us" } else { unit };
    let Some(&(_, unit_ns)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "`{text}` has an unknown unit `{unit}`; known are ns, us, ms, s, m, h"
        ));
    };
    let Some((digits, decimals)) = decimal(number) else {
        return Err(format!(
            "`{text}` is no duration; write a number and a unit, as in `250us`, `1.5s` or `2m`"
        ));
    };
    let scale = 10_u128.pow(decimals);
    let scaled = digits.checked_mul(u128::from(unit_ns));
    match scaled {
        Some(scaled) if scaled % scale != 0 => Err(format!("`{text}` is finer than a nanosecond")),
        Some(scaled) => u64::try_from(scaled / scale)
            .map(Duration::from_nanos)
            .map_err(|_| format!("`{text}` is too long")),
        None => Err(format!("`{text}` is too long")),
    }
}

/// Writes a duration in its largest handy unit, so that [`parse_duration`]
/// reads the same one back.
pub fn format_duration(duration: Duration) -> String {
    let total_ns = duration.as_nanos();
    if total_ns == 0 {
        return "0s".to_owned();
    }
    for (unit, unit_ns) in TIME_UNITS {
        let unit_ns = u128::from(unit_ns);
        // Minutes and hours have no short decimals, so they stand for whole
        // numbers only.
        let takes_decimals = unit_ns <= 1_000_000_000;
        if total_ns < unit_ns || (!takes_decimals && !total_ns.is_multiple_of(unit_ns)) {
            continue;
        }
        let (whole, rest) = (total_ns / unit_ns, total_ns % unit_ns);
        if rest == 0 {
            return format!("{whole}{unit}");
        }
        let width = unit_ns.ilog10() as usize;
        let decimals = format!("{rest:0width$}");
        return format!("{whole}.{}{unit}", decimals.trim_end_matches('0'));
    }
    format!("{total_ns}ns")
}

/// Reads a size in bytes: a number, and B, KiB or MiB unless it is bytes.
///
/// # Errors
/// A sentence that quotes the text and says what is wrong with it.
pub fn parse_size(text: &str) -> Result<u32, String> {
    refuse_misspelled(text)?;
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" => 1,
        unit => match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
            Some(&(_, factor)) => factor,
            None => {
                return Err(format!(
                    "`{text}` has an unknown unit `{unit}`; known are B, KiB, MiB"
                ));
            }
        },
    };
    let Some((digits, decimals)) = decimal(number) else {
        return Err(format!("`{text}` is no size; write bytes, or a text such as `16KiB`"));
    };
    let scale = 10_u128.pow(decimals);
    match digits.checked_mul(u128::from(factor)) {
        Some(scaled) if scaled % scale != 0 => Err(format!("`{text}` is no whole number of bytes")),
        Some(scaled) => u32::try_from(scaled / scale).map_err(|_| format!("`{text}` is too large")),
        None => Err(format!("`{text}` is too large")),
    }
}

/// Writes a size so that [`parse_size`] reads the same one back.
pub fn format_size(bytes: u32) -> String {
    let (unit, factor) = SIZE_UNITS
        .into_iter()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Reads a rate in calls per second: a number, with or without `/s`.
///
/// # Errors
/// A sentence that quotes the text and says what is wrong with it.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    refuse_misspelled(text)?;
    let (number, unit) = split_unit(text);
    if !matches!(unit, "" | "/s") {
        return Err(format!(
            "`{text}` has an unknown unit `{unit}`; rates are calls per second, `/s`"
        ));
    }
    match (decimal(number), number.parse::<f64>()) {
        (Some(_), Ok(rate)) => Ok(rate),
        _ => Err(format!("`{text}` is no rate; write calls per second, as in `3000/s`")),
    }
}

/// A bare number where a duration is expected.
fn without_unit(number: impl fmt::Display) -> String {
    format!("`{number}` has no unit; write \"5s\" for five seconds (units are ns, us, ms, s, m, h)")
}

/// Refuses numbers in forms that people write and this format has not, before what
/// follows the digits is taken for a unit.
///
/// # Errors
/// A sentence that quotes the text and says how to write it.
pub(crate) fn refuse_misspelled(text: &str) -> Result<(), String> {
    let text = text.trim();
    let begins_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if text.strip_prefix(['-', '−']).map(str::trim_start).is_some_and(begins_number) {
        return Err(format!("`{text}` is negative; expected zero or more"));
    }
    if text.strip_prefix('+').map(str::trim_start).is_some_and(begins_number) {
        return Err(format!("`{text}` begins with a sign; write it without"));
    }
    let (number, rest) = split_unit(text);
    let mut after = rest.chars();
    match after.next() {
        _ if number.is_empty() => Ok(()),
        Some(',') => Err(format!(
            "`{text}` has a comma in its number; write decimals with a point, as in `1.5`, and \
             thousands without a separator"
        )),
        Some('_') => Err(format!("`{text}` has an underscore in its number; write digits only")),
        Some('e' | 'E') if after.next().is_some_and(|c| c.is_ascii_digit() || "+-".contains(c)) => {
            Err(format!("`{text}` has an exponent; write the number out"))
        }
        _ => Ok(()),
    }
}

/// The number at the head of a text, and the unit after it.
pub(crate) fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A plain decimal number as its digits and how many of them are decimals.
/// `None` for anything else, and for more digits than 18 before or after the
/// point: they would not fit anywhere.
fn decimal(number: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let fraction = fraction.trim_end_matches('0');
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || fraction.len() > 18 {
        return None;
    }
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}").parse().ok()?;
    Some((digits, u32::try_from(fraction.len()).ok()?))
}

/// A duration in a file: a text with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

/// A rate in a file: calls per second, or a text that ends in `/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateText(pub f64);

/// A part of a whole in a file: a text that ends in `%`; held as a fraction from
/// 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PercentText(pub f64);

/// Reads a part of a whole: a percentage from 0 to 100.
///
/// # Errors
/// A sentence that quotes the text and says what is wrong with it.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    refuse_misspelled(text)?;
    let (number, unit) = split_unit(text);
    let percent = decimal(number).and_then(|_| number.parse::<f64>().ok());
    match percent {
        Some(percent) if unit == "%" && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(format!("`{text}` is no part of a whole; write 0% to 100%, as in `40%`")),
    }
}

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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
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
                Err(E::custom(without_unit(number)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
                Err(E::custom(without_unit(number)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                parse_duration(text).map(DurationText).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
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

/// For `serialize_with`: a duration as a text.
pub(crate) fn duration_as_text<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    DurationText(*duration).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        let durations = [
            ("250us", 250_000),
            ("250µs", 250_000),
            ("5ms", 5_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("0.5h", 1_800_000_000_000),
            ("0s", 0),
            (" 10 ms ", 10_000_000),
            ("1.50s", 1_500_000_000),
        ];
        for (text, ns) in durations {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        for (text, bytes) in [("32", 32), ("32B", 32), ("16KiB", 16_384), ("1.5 KiB", 1_536)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, rate) in [("3000", 3_000.0), ("3000/s", 3_000.0), ("0.5 /s", 0.5)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        let durations = [
            ("5", "no unit"),
            ("5 parsecs", "unknown unit `parsecs`"),
            ("", "no unit"),
            ("ms", "is no duration"),
            ("-5ms", "`-5ms` is negative"),
            ("−1s", "is negative"),
            ("- 1s", "is negative"),
            ("+1s", "begins with a sign"),
            ("1,5s", "has a comma in its number; write decimals with a point"),
            ("1_000ms", "has an underscore"),
            ("-", "unknown unit `-`"),
            ("1.2.3s", "is no duration"),
            (".5s", "is no duration"),
            ("5.s", "is no duration"),
            ("0.5ns", "finer than a nanosecond"),
            ("9999999999999999h", "too long"),
            ("1e3s", "has an exponent"),
        ];
        for (text, expected) in durations {
            let message = parse_duration(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        for (text, expected) in [
            ("16KB", "unknown unit `KB`"),
            ("0.3B", "whole number"),
            ("9999MiB", "too large"),
            ("-1KiB", "is negative"),
            ("1,5KiB", "a comma"),
        ] {
            let message = parse_size(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        for (text, expected) in [
            ("3000/m", "unknown unit `/m`"),
            ("fast", "unknown unit"),
            ("", "is no rate"),
            ("-5/s", "is negative"),
            ("3,000/s", "a comma"),
        ] {
            let message = parse_rate(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn writes_the_usual_form() {
        for (ns, text) in
            [(0, "0s"), (1_500_000_000, "1.5s"), (61_000_000_000, "61s"), (999, "999ns")]
        {
            assert_eq!(format_duration(Duration::from_nanos(ns)), text);
        }
        for (bytes, text) in [(0, "0B"), (32, "32B"), (16_384, "16KiB"), (8 << 20, "8MiB")] {
            assert_eq!(format_size(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ns: u64, bytes: u32) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_rate(&text);
            let _ = parse_percent(&text);
        }
    }
}
