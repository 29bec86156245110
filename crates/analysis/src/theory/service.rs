//! Service times as a record writes them (`exponential:4ms`), for the models.
//!
//! The record also holds the mean, in nanoseconds; a text that does not come to it
//! was misread, or written by a later layerlab, and is refused.

use queueing::Service;

/// Units of time as records write them, in seconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("min", 60.0),
    ("m", 60.0),
    ("h", 3_600.0),
];

/// The distribution at speed 1; `None` for a backend that answers at once.
///
/// # Errors
/// A sentence, when the text is not understood.
pub(super) fn parse(text: &str, mean_ns: f64) -> Result<Option<Service>, String> {
    let unknown = || "the distribution of its service times is unknown".to_owned();
    if text == "none" {
        return Ok(None);
    }
    let (name, parameters) = text.split_once(':').ok_or_else(unknown)?;
    let parameters: Vec<&str> = parameters.split(',').map(str::trim).collect();
    let service = match (name, parameters.as_slice()) {
        ("constant", [value]) => Service::Constant { value_s: seconds(value).ok_or_else(unknown)? },
        ("exponential", [mean]) => {
            Service::Exponential { mean_s: seconds(mean).ok_or_else(unknown)? }
        }
        ("lognormal", [mean, sigma]) => Service::Lognormal {
            mean_s: seconds(mean).ok_or_else(unknown)?,
            sigma: number(sigma.strip_prefix("sigma=").unwrap_or("")).ok_or_else(unknown)?,
        },
        ("bimodal", [common, rare, percent]) => Service::Bimodal {
            common_s: seconds(common).ok_or_else(unknown)?,
            rare_s: seconds(rare).ok_or_else(unknown)?,
            rare_share: number(percent.strip_suffix('%').unwrap_or("")).ok_or_else(unknown)?
                / 100.0,
        },
        _ => return Err(unknown()),
    };
    let agrees = (service.mean_s() * 1e9 / mean_ns - 1.0).abs() < 1e-3;
    if agrees { Ok(Some(service)) } else { Err(unknown()) }
}

fn seconds(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (value, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(number(value)? * factor)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        let read = |text, mean_ns| parse(text, mean_ns).unwrap();
        assert_eq!(read("none", 0.0), None);
        assert_eq!(read("constant:250us", 250e3), Some(Service::Constant { value_s: 250e-6 }));
        assert_eq!(read("exponential:1.5ms", 1.5e6), Some(Service::Exponential { mean_s: 1.5e-3 }));
        let lognormal = Service::Lognormal { mean_s: 4e-3, sigma: 0.5 };
        assert_eq!(read("lognormal:4ms,sigma=0.5", 4e6), Some(lognormal));
        let mixed = Service::Bimodal { common_s: 1e-3, rare_s: 0.101, rare_share: 0.1 };
        assert_eq!(read("bimodal:1ms,101ms,10%", 11e6), Some(mixed));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, mean_ns) in [
            ("", 0.0),
            ("exponential:4", 4e6),
            ("exponential:4ms", 5e6),
            ("exponential:4ms", 0.0),
            ("exponential:xms", 4e6),
            ("pareto:4ms", 4e6),
            ("lognormal:4ms,0.5", 4e6),
            ("bimodal:1ms,2ms,half", 1e6),
        ] {
            assert!(parse(text, mean_ns).is_err(), "{text}");
        }
    }
}
