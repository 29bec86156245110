//! Numbers with units, as people write them on command lines and in files: `250us`, `16KiB`,
//! `3000/s`, `40%`.
//!
//! Reading is exact: what can't be held to the nanosecond or the byte is refused rather than
//! rounded, and writing gives back a text that reads as the same value. A duration without a
//! unit is refused, because nobody agrees on its unit; a size without one is bytes, and a rate
//! without one is calls per second. And the names of gRPC's status codes.
#![forbid(unsafe_code)]

pub mod duration;
mod error;
pub mod grpc;

pub use error::Error;

/// Units of size, largest first. Only powers of two: `KB` means two things.
const SIZE_UNITS: [(&str, u32); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a size in bytes: a number, and B, KiB or MiB unless it is bytes.
///
/// # Errors
/// When the text is none.
pub fn parse_size(text: &str) -> Result<u32, Error> {
    refuse_misspelled(text)?;
    let owned = || text.to_owned();
    let (number, unit) = split_unit(text);
    let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let factor = match (unit, known) {
        ("", _) => 1,
        (_, Some(factor)) => factor,
        (unit, None) => {
            let unit = unit.to_owned();
            return Err(Error::UnknownUnit { text: owned(), unit, known: "B, KiB, MiB" });
        }
    };
    let (digits, decimals) = decimal(number).ok_or_else(|| Error::NoSize(owned()))?;
    let scale = 10_u128.pow(decimals);
    match digits.checked_mul(u128::from(factor)) {
        Some(scaled) if scaled % scale != 0 => Err(Error::PartOfByte(owned())),
        Some(scaled) => u32::try_from(scaled / scale).map_err(|_| Error::TooLarge(owned())),
        None => Err(Error::TooLarge(owned())),
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
/// When the text is none.
pub fn parse_rate(text: &str) -> Result<f64, Error> {
    refuse_misspelled(text)?;
    let (number, unit) = split_unit(text);
    if !matches!(unit, "" | "/s") {
        return Err(Error::NotPerSecond { text: text.to_owned(), unit: unit.to_owned() });
    }
    match (decimal(number), number.parse::<f64>()) {
        (Some(_), Ok(rate)) => Ok(rate),
        _ => Err(Error::NoRate(text.to_owned())),
    }
}

/// Reads a part of a whole: a percentage from 0 to 100, as a fraction from 0 to 1.
///
/// # Errors
/// When the text is none.
pub fn parse_percent(text: &str) -> Result<f64, Error> {
    refuse_misspelled(text)?;
    let (number, unit) = split_unit(text);
    let percent = decimal(number).and_then(|_| number.parse::<f64>().ok());
    match percent {
        Some(percent) if unit == "%" && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(Error::NoPercentage(text.to_owned())),
    }
}

/// Units of bit rates as tc(8) writes them, largest first. Powers of ten.
const BIT_RATE_UNITS: [(&str, u64); 4] =
    [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

/// Reads a rate in bits per second: a number and one of bit, kbit, mbit, gbit, as tc(8) does.
///
/// # Errors
/// When the text is none.
pub fn parse_bit_rate(text: &str) -> Result<u64, Error> {
    refuse_misspelled(text)?;
    let owned = || text.to_owned();
    let (number, unit) = split_unit(text);
    let (digits, decimals) = decimal(number).ok_or_else(|| Error::NoBitRate(owned()))?;
    let Some(&(_, factor)) = BIT_RATE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let (unit, known) = (unit.to_owned(), "bit, kbit, mbit, gbit");
        return Err(Error::UnknownUnit { text: owned(), unit, known });
    };
    let scale = 10_u128.pow(decimals);
    match digits.checked_mul(u128::from(factor)) {
        Some(scaled) if scaled % scale != 0 => Err(Error::PartOfBit(owned())),
        Some(scaled) => u64::try_from(scaled / scale).map_err(|_| Error::TooLarge(owned())),
        None => Err(Error::TooLarge(owned())),
    }
}

/// Writes a bit rate so that [`parse_bit_rate`] reads the same one back.
pub fn format_bit_rate(bits: u64) -> String {
    let (unit, factor) = BIT_RATE_UNITS
        .into_iter()
        .find(|(_, factor)| bits > 0 && bits.is_multiple_of(*factor))
        .unwrap_or(("bit", 1));
    format!("{}{unit}", bits / factor)
}

/// Refuses numbers in forms that people write and this format has not, before what
/// follows the digits is taken for a unit.
///
/// # Errors
/// With how to write it.
pub fn refuse_misspelled(text: &str) -> Result<(), Error> {
    let text = text.trim();
    let owned = || text.to_owned();
    let begins_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if text.strip_prefix(['-', '−']).map(str::trim_start).is_some_and(begins_number) {
        return Err(Error::Negative(owned()));
    }
    if text.strip_prefix('+').map(str::trim_start).is_some_and(begins_number) {
        return Err(Error::Sign(owned()));
    }
    let (number, rest) = split_unit(text);
    let mut after = rest.chars();
    match after.next() {
        _ if number.is_empty() => Ok(()),
        Some(',') => Err(Error::Comma(owned())),
        Some('_') => Err(Error::Underscore(owned())),
        Some('e' | 'E') if after.next().is_some_and(|c| c.is_ascii_digit() || "+-".contains(c)) => {
            Err(Error::Exponent(owned()))
        }
        _ => Ok(()),
    }
}

/// The number at the head of a text, and the unit after it.
pub fn split_unit(text: &str) -> (&str, &str) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_rates_and_percentages_are_read() {
        for (text, bytes) in [("32", 32), ("32B", 32), ("16KiB", 16_384), ("1.5 KiB", 1_536)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, rate) in [("3000", 3_000.0), ("3000/s", 3_000.0), ("0.5 /s", 0.5)] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        assert_eq!(parse_percent("40%"), Ok(0.4));
        for (text, bits) in [("1gbit", 1_000_000_000), ("2.5 mbit", 2_500_000), ("64kbit", 64_000)]
        {
            assert_eq!(parse_bit_rate(text), Ok(bits), "{text}");
        }
        assert_eq!(format_bit_rate(2_500_000), "2500kbit");
        for (bytes, text) in [(0, "0B"), (32, "32B"), (16_384, "16KiB"), (8 << 20, "8MiB")] {
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, expected) in [
            ("16KB", "unknown unit `KB`"),
            ("0.3B", "whole number"),
            ("9999MiB", "too large"),
            ("-1KiB", "is negative"),
            ("1,5KiB", "a comma"),
        ] {
            let message = parse_size(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        for (text, expected) in [
            ("3000/m", "unknown unit `/m`"),
            ("fast", "unknown unit"),
            ("", "is no rate"),
            ("-5/s", "is negative"),
            ("3,000/s", "a comma"),
        ] {
            let message = parse_rate(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        for (text, expected) in [
            ("100", "unknown unit ``; known are bit, kbit, mbit, gbit"),
            ("100Mbps", "unknown unit `Mbps`"),
            ("mbit", "is no bit rate"),
            ("0.5bit", "no whole number of bits"),
            ("-1mbit", "is negative"),
            ("99999999999gbit", "too large"),
        ] {
            let message = parse_bit_rate(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert!(parse_percent("140%").is_err() && parse_percent("40").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: u32) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn bit_rates_that_are_written_are_read_back(bits in 0..100_000_000_000_000_u64) {
            prop_assert_eq!(parse_bit_rate(&format_bit_rate(bits)), Ok(bits));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = parse_size(&text);
            let _ = parse_rate(&text);
            let _ = parse_bit_rate(&text);
            let _ = parse_percent(&text);
        }
    }
}
