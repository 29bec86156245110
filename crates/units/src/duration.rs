//! Durations: one number and one unit, exact to the nanosecond both ways.

use std::time::Duration;

use crate::{Error, decimal, refuse_misspelled, split_unit};

/// The units, largest first, with their length in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a duration: a plain decimal number and one of ns, us, ms, s, m, h. Also a value
/// parser for clap: `value_parser = duration::parse`.
///
/// # Errors
/// When the text is none.
pub fn parse(text: &str) -> Result<Duration, Error> {
    refuse_misspelled(text)?;
    let owned = || text.to_owned();
    let (number, unit) = split_unit(text);
    if unit.is_empty() {
        return Err(Error::NoUnit(owned()));
    }
    // The micro sign and the Greek letter look alike, and both are typed.
    let unit = if matches!(unit, "µs" | "μs") { "us" } else { unit };
    let Some(&(_, unit_ns)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let (unit, known) = (unit.to_owned(), "ns, us, ms, s, m, h");
        return Err(Error::UnknownUnit { text: owned(), unit, known });
    };
    let (digits, decimals) = decimal(number).ok_or_else(|| Error::NoDuration(owned()))?;
    let scale = 10_u128.pow(decimals);
    match digits.checked_mul(u128::from(unit_ns)) {
        Some(scaled) if scaled % scale != 0 => Err(Error::TooFine(owned())),
        Some(scaled) => u64::try_from(scaled / scale)
            .map(Duration::from_nanos)
            .map_err(|_| Error::TooLong(owned())),
        None => Err(Error::TooLong(owned())),
    }
}

/// The same for durations that make no sense when they are zero.
///
/// # Errors
/// As [`parse`], and for zero.
pub fn parse_positive(text: &str) -> Result<Duration, Error> {
    parse(text).and_then(|value| if value.is_zero() { Err(Error::Zero) } else { Ok(value) })
}

/// Writes a duration in its largest handy unit, so that [`parse`] reads the same one back.
pub fn format(duration: Duration) -> String {
    let total_ns = duration.as_nanos();
    if total_ns == 0 {
        return "0s".to_owned();
    }
    for (unit, unit_ns) in UNITS {
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

/// A duration in nanoseconds, of which 64 bits hold some centuries.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ns) in [
            ("250us", 250_000),
            ("250µs", 250_000),
            ("5ms", 5_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("0.5h", 1_800_000_000_000),
            ("0s", 0),
            (" 10 ms ", 10_000_000),
            ("1.50s", 1_500_000_000),
            ("1.000000001s", 1_000_000_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        assert_eq!(parse_positive("0ms"), Err(Error::Zero));
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, expected) in [
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
            ("0.33333333333333333m", "finer than a nanosecond"),
            ("9999999999999999h", "too long"),
            ("1e3s", "has an exponent"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn writes_the_usual_form() {
        for (ns, text) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (61_000_000_000, "61s"),
            (999, "999ns"),
            (7_200_000_000_000, "2h"),
            (1_250_000, "1.25ms"),
        ] {
            assert_eq!(format(Duration::from_nanos(ns)), text);
        }
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
