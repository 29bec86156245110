//! Durations as people write them on command lines and in files: `250us`,
//! `5ms`, `1.5s`, `2m`.
//!
//! One number and one unit, exact to the nanosecond both ways; a bare number
//! is refused, because nobody agrees on its unit.

use std::time::Duration;

/// The units, largest first, with their length in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Why a text is no duration. The message quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is a number, but nothing says of what.
    #[error("`{0}` has no unit; write a number and one of ns, us, ms, s, m, h, as in `5ms`")]
    NoUnit(String),
    /// The unit is none that is known.
    #[error("`{text}` has an unknown unit `{unit}`; known are ns, us, ms, s, m, h")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// What stood after the number.
        unit: String,
    },
    /// The part before the unit is no plain decimal number.
    #[error("`{0}` is no duration; write a number and a unit, as in `250us`, `1.5s` or `2m`")]
    NotANumber(String),
    /// Finer than a nanosecond.
    #[error("`{0}` is finer than a nanosecond")]
    TooFine(String),
    /// More than can be held: beyond 584 years.
    #[error("`{0}` is too long")]
    TooLong(String),
}

/// Reads a duration. Also a value parser for clap: `value_parser = duration::parse`.
///
/// # Errors
/// [`DurationError`] when `text` is not a non-negative decimal number followed
/// by a unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let trimmed = text.trim();
    let owned = || text.to_owned();
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = (&trimmed[..split], trimmed[split..].trim_start());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(DurationError::NotANumber(owned()));
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit(owned()));
    }
    // The micro sign and the Greek letter look the same and are both in use.
    let unit = if unit == "µs" || unit == "μs" { "us" } else { unit };
    let unit_ns = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, unit_ns)| u128::from(*unit_ns))
        .ok_or_else(|| DurationError::UnknownUnit { text: owned(), unit: unit.to_owned() })?;
    let whole: u128 = whole.parse().map_err(|_| DurationError::TooLong(owned()))?;
    let fraction = fraction.trim_end_matches('0');
    let fraction_ns = fraction_of(fraction, unit_ns).ok_or(DurationError::TooFine(owned()))?;
    let total = whole.checked_mul(unit_ns).and_then(|ns| ns.checked_add(fraction_ns));
    total
        .and_then(|ns| u64::try_from(ns).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| DurationError::TooLong(owned()))
}

/// The same for durations that make no sense when they are zero.
///
/// # Errors
/// As [`parse`], and for zero.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    let value = parse(text).map_err(|error| error.to_string())?;
    if value.is_zero() {
        return Err("it must be longer than zero".to_owned());
    }
    Ok(value)
}

/// `0.<digits>` of a unit in nanoseconds, if that is a whole number of them.
fn fraction_of(digits: &str, unit_ns: u128) -> Option<u128> {
    if digits.is_empty() {
        return Some(0);
    }
    // An hour has 13 decimal digits of nanoseconds; more can't come out whole.
    if digits.len() > 13 {
        return None;
    }
    let scaled = digits.parse::<u128>().ok()?.checked_mul(unit_ns)?;
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    (scaled % scale == 0).then_some(scaled / scale)
}

/// Writes a duration so that [`parse`] reads the same one back. Durations
/// beyond 584 years are written as that.
pub fn format(duration: Duration) -> String {
    let total_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if total_ns == 0 {
        return "0s".to_owned();
    }
    for (unit, unit_ns) in UNITS {
        // Minutes and hours have no short decimals (1 s is 0.01666.. m), so
        // they are used for whole numbers only.
        let coarse = unit_ns > 1_000_000_000;
        if total_ns < unit_ns || (coarse && total_ns % unit_ns != 0) {
            continue;
        }
        let (whole, rest) = (total_ns / unit_ns, total_ns % unit_ns);
        if rest == 0 {
            return format!("{whole}{unit}");
        }
        let width = unit_ns.ilog10() as usize;
        let fraction = format!("{rest:0width$}");
        return format!("{whole}.{}{unit}", fraction.trim_end_matches('0'));
    }
    format!("{total_ns}ns")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("250us", 250_000),
            ("250µs", 250_000),
            ("5ms", 5_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("0.5h", 1_800_000_000_000),
            ("0s", 0),
            (" 10 ms ", 10_000_000),
            ("1.000000001s", 1_000_000_001),
        ];
        for (text, ns) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let cases = [
            ("5", "no unit"),
            ("5 parsecs", "unknown unit `parsecs`"),
            ("", "is no duration"),
            ("ms", "is no duration"),
            ("-5ms", "is no duration"),
            ("1.2.3s", "is no duration"),
            (".5s", "is no duration"),
            ("5.s", "is no duration"),
            ("0.5ns", "finer than a nanosecond"),
            ("0.33333333333333333m", "finer than a nanosecond"),
            ("9999999999999999h", "too long"),
            ("99999999999999999999999999999999999999999999s", "too long"),
            ("1e3s", "unknown unit"),
        ];
        for (text, expected) in cases {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn writes_the_shortest_usual_form() {
        let cases = [(0, "0s"), (1_500_000_000, "1.5s"), (61_000_000_000, "61s"), (999, "999ns")];
        for (ns, text) in cases {
            assert_eq!(format(Duration::from_nanos(ns)), text);
        }
        assert_eq!(format(Duration::from_secs(7200)), "2h");
        assert_eq!(format(Duration::from_micros(1250)), "1.25ms");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ns: u64) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = parse(&text);
        }
    }
}
