//! Sizes of messages: all alike, drawn from a distribution, or taken from a file.
//!
//! The forms are those of service times, so that one reads like the other.

use std::{borrow::Cow, fmt, fs, path::Path, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use units::{format_size, parse_size};

use crate::bounds;

/// The forms, for error messages and the schema.
const FORMS: &str = "a size such as 16KiB, uniform:S1,S2, lognormal:S,sigma=N, bimodal:S1,S2,P% or \
                     file:NAME";
/// Sizes that are taken from a file at most.
const MOST_IN_FILE: usize = 1 << 20;

/// The payloads of messages, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Constant(u32),
    /// Any size between two, both included, as likely as the others.
    Uniform {
        /// The smallest.
        low: u32,
        /// The largest.
        high: u32,
    },
    /// Many small and few large ones. What is drawn beyond the largest payload is cut.
    Lognormal {
        /// The mean (not the median).
        mean: u32,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Mice and elephants.
    Bimodal {
        /// What most messages have.
        common: u32,
        /// What the rest has.
        rare: u32,
        /// Share of the rest, in percent; between 0 and 100, both excluded.
        rare_percent: f64,
    },
    /// One after the other, from a file or a trace, and then again.
    Listed {
        /// The file.
        file: String,
        /// What it lists; empty until it is read.
        bytes: Arc<[u32]>,
    },
}

impl Sizes {
    /// The mean, in whole bytes.
    pub fn mean_bytes(&self) -> u32 {
        match self {
            Self::Constant(bytes) | Self::Lognormal { mean: bytes, .. } => *bytes,
            Self::Uniform { low, high } => u32::midpoint(*low, *high),
            Self::Bimodal { common, rare, rare_percent } => {
                let share = rare_percent / 100.0;
                (f64::from(*common) * (1.0 - share) + f64::from(*rare) * share).round() as u32
            }
            Self::Listed { bytes, .. } => {
                let sum: u64 = bytes.iter().map(|&bytes| u64::from(bytes)).sum();
                // The mean of 32 bits has 32 bits.
                sum.checked_div(bytes.len() as u64).unwrap_or(0) as u32
            }
        }
    }

    /// The file that it names, if it names one.
    pub(crate) fn file(&self) -> Option<&str> {
        match self {
            Self::Listed { file, .. } => Some(file),
            Self::Constant(_)
            | Self::Uniform { .. }
            | Self::Bimodal { .. }
            | Self::Lognormal { .. } => None,
        }
    }

    /// Reads the file that it names, if it names one.
    ///
    /// # Errors
    /// In a sentence, with the line that is wrong.
    pub(crate) fn read(self, folder: &Path) -> Result<Self, String> {
        let Self::Listed { file, .. } = self else { return Ok(self) };
        let text = fs::read_to_string(folder.join(&file))
            .map_err(|error| format!("cannot read {file}: {error}"))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let size = |(index, line): (usize, &str)| {
            size_of(line.trim()).map_err(|reason| format!("{file}:{}: {reason}", index + 1))
        };
        let bytes = lines.map(size).collect::<Result<Arc<[u32]>, String>>()?;
        if bytes.is_empty() || bytes.len() > MOST_IN_FILE {
            let count = bytes.len();
            return Err(format!("{file} has {count} sizes; from 1 to {MOST_IN_FILE} are taken"));
        }
        Ok(Self::Listed { file, bytes })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: &u32| format_size(*bytes);
        match self {
            Self::Constant(bytes) => f.write_str(&size(bytes)),
            Self::Uniform { low, high } => write!(f, "uniform:{},{}", size(low), size(high)),
            Self::Lognormal { mean, sigma } => write!(f, "lognormal:{},sigma={sigma}", size(mean)),
            Self::Bimodal { common, rare, rare_percent } => {
                write!(f, "bimodal:{},{},{rare_percent}%", size(common), size(rare))
            }
            Self::Listed { file, .. } => write!(f, "file:{file}"),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, parameters)) = text.trim().split_once(':') else {
            return size_of(text.trim()).map(Self::Constant);
        };
        if name.trim() == "file" && !parameters.trim().is_empty() {
            return Ok(Self::Listed { file: parameters.trim().to_owned(), bytes: Arc::default() });
        }
        let size = |part: &str| size_of(part).map_err(|reason| format!("in `{text}`, {reason}"));
        let parameters: Vec<&str> = parameters.split(',').map(str::trim).collect();
        match (name.trim(), parameters.as_slice()) {
            ("uniform", [low, high]) => {
                let (low, high) = (size(low)?, size(high)?);
                if low > high {
                    return Err(format!("`{text}` goes from the larger to the smaller"));
                }
                Ok(Self::Uniform { low, high })
            }
            ("lognormal", [mean, sigma]) => {
                let bounds::Bounds { min, max } = bounds::SIGMA;
                let sigma = sigma.strip_prefix("sigma=").and_then(|sigma| sigma.parse().ok());
                let sigma = sigma.filter(|sigma| (min..=max).contains(sigma));
                let sigma = sigma.ok_or_else(|| {
                    format!("in `{text}`, expected `sigma=` and a number from {min} to {max}")
                })?;
                Ok(Self::Lognormal { mean: size(mean)?, sigma })
            }
            ("bimodal", [common, rare, percent]) => {
                let percent = percent.strip_suffix('%').and_then(|percent| percent.parse().ok());
                let percent = percent.filter(|percent| *percent > 0.0 && *percent < 100.0);
                let rare_percent =
                    percent.ok_or_else(|| format!("in `{text}`, expected a share as in `5%`"))?;
                Ok(Self::Bimodal { common: size(common)?, rare: size(rare)?, rare_percent })
            }
            _ => Err(format!("`{text}` are no sizes; write {FORMS}")),
        }
    }
}

fn size_of(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text)?;
    let bounds::Bounds { min, max } = bounds::PAYLOAD_BYTES;
    if (min..=max).contains(&bytes) {
        return Ok(bytes);
    }
    let (found, min, max) = (format_size(bytes), format_size(min), format_size(max));
    Err(format!("found {found}, expected a payload from {min} to {max}"))
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Sizes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("sizes: a whole number of bytes, or a text such as \"16KiB\"")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Self::Value, E> {
                if bytes < 0 {
                    return Err(E::custom(format!("`{bytes}` is no size of a message in bytes")));
                }
                bytes.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Constant(bytes) => serializer.serialize_u32(*bytes),
            other => serializer.collect_str(other),
        }
    }
}

impl JsonSchema for Sizes {
    fn schema_name() -> Cow<'static, str> {
        "Sizes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("Sizes of messages: {FORMS}."),
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }],
            "examples": [32, "16KiB", "lognormal:2KiB,sigma=1", "file:sizes.txt"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for (text, mean) in [
            ("16KiB", 16_384),
            ("uniform:10B,30B", 20),
            ("lognormal:2KiB,sigma=1.5", 2_048),
            ("bimodal:100B,1100B,10%", 200),
            ("file:sizes.txt", 0),
        ] {
            let sizes: Sizes = text.parse().unwrap();
            assert_eq!((sizes.to_string().as_str(), sizes.mean_bytes()), (text, mean));
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, reason) in [
            ("9MiB", "found 9MiB, expected a payload from 0B to 8MiB"),
            ("uniform:2KiB,1KiB", "from the larger to the smaller"),
            ("uniform:1KiB", "are no sizes; write a size such as 16KiB, uniform:S1,S2"),
            ("lognormal:1KiB,1", "expected `sigma=` and a number"),
            ("bimodal:1B,2B,100%", "expected a share as in `5%`"),
            ("file:", "are no sizes"),
            ("-1", "`-1` is negative"),
        ] {
            let error = text.parse::<Sizes>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_lists_sizes_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(folder.path().join("s.txt"), text).unwrap();
            "file:s.txt".parse::<Sizes>().unwrap().read(folder.path())
        };
        let listed = read("100\n2KiB\n\n52\n").unwrap();
        assert!(matches!(&listed, Sizes::Listed { bytes, .. } if **bytes == [100, 2_048, 52]));
        assert_eq!(listed.mean_bytes(), 733);
        assert!(read("100\nmuch\n").unwrap_err().starts_with("s.txt:2: "));
        assert!(read("").unwrap_err().contains("has 0 sizes"));
    }
}
