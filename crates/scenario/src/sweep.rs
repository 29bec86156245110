//! A sweep: the same question asked at several values of one setting.
//!
//! A sweep names a key as `--set` does and puts each of its values there in turn,
//! so that whatever can be set can be swept, and a wrong value is refused by the
//! same checks. What comes of it is a scenario a point. Left out: which point is
//! run when; that is the lab's work.

use toml::Value;
use units::{duration, format_size, parse_percent, parse_rate, parse_size, split_unit};

use crate::{
    bounds,
    error::Problem,
    wire::{SweepWire, ValueWire},
};

/// Tables whose keys may be swept: what is measured, and not how often or by whom.
const TABLES: [&str; 6] = ["load.", "backends.", "balance.", "channel.", "zones.", "link["];
/// Keys outside of those tables that may be swept too.
const KEYS: [&str; 1] = ["tls"];
/// Keys of those tables that may not: open and closed loops answer different
/// questions, and a search chooses its rates itself.
const NOT: [&str; 2] = ["load.loop", "load.search"];

/// The last part of a key.
pub fn short_key(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Whether two texts say the same value: `1KiB` and `1024` do.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || number(one).is_some_and(|value| number(other) == Some(value))
}

/// A value as a number, in the smallest unit of its kind.
pub fn number(value: &str) -> Option<f64> {
    let (_, unit) = split_unit(value);
    match unit {
        "" => value.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        "B" | "KiB" | "MiB" => parse_size(value).ok().map(f64::from),
        "/s" => parse_rate(value).ok(),
        "%" => parse_percent(value).ok(),
        _ => duration::parse(value).ok().map(|duration| duration.as_nanos() as f64),
    }
}

/// A value to put at the key, where it stands in the file, and how it is shown.
pub(crate) struct Candidate {
    pub(crate) value: Value,
    pub(crate) text: String,
    /// Key of the sweep that a wrong value is blamed on.
    pub(crate) blame: String,
}

/// The values of a sweep, before they are tried.
pub(crate) fn candidates(wire: &SweepWire) -> Result<Vec<Candidate>, Problem> {
    check_key(&wire.key)?;
    let candidates = match (&wire.values, &wire.from, &wire.to) {
        (Some(values), None, None) if wire.points.is_none() => {
            let candidate = |(index, value)| Candidate {
                value: to_toml(value),
                text: show(value),
                blame: format!("sweep.values[{index}]"),
            };
            values.iter().enumerate().map(candidate).collect()
        }
        (None, Some(from), Some(to)) => geometric(from, to, wire.points)?,
        (Some(_), ..) => {
            let message = "a list of values and a range exclude each other; keep `values`, or \
                           `from`, `to` and `points`";
            return Err(Problem::new("sweep.values", message));
        }
        _ => {
            let message = "there are no values; write `values = [1, 4, 16]`, or `from = 1`, \
                           `to = 256` and `points = 9`";
            return Err(Problem::new("sweep", message));
        }
    };
    check_candidates(&candidates)?;
    Ok(candidates)
}

fn check_key(key: &str) -> Result<(), Problem> {
    let refused = NOT.iter().any(|not| key == *not || key.starts_with(&format!("{not}.")));
    let is_in = |table: &str| key.starts_with(table) && key.len() > table.len();
    if KEYS.contains(&key) || (!refused && TABLES.iter().any(|table| is_in(table))) {
        return Ok(());
    }
    let message = format!(
        "`{key}` can't be swept; name a key of [load], [backends], [balance], [channel] or [zones] that --set \
         takes, such as `load.connections`, `load.payload`, `load.rate` or `balance.policy`, of a link, as in \
         `link[0].delay`, or `tls`"
    );
    Err(Problem::new("sweep.key", message))
}

fn check_candidates(candidates: &[Candidate]) -> Result<(), Problem> {
    let bounds::Bounds { min, max } = bounds::SWEEP_POINTS;
    let count = candidates.len();
    if count < min as usize || count > max as usize {
        let message = format!("found {count} values, expected {min} to {max}");
        return Err(Problem::new("sweep.values", message));
    }
    for (index, candidate) in candidates.iter().enumerate() {
        let same = |earlier: &Candidate| is_same(&earlier.text, &candidate.text);
        if candidates[..index].iter().any(same) {
            let message = format!("`{}` is listed twice", candidate.text);
            return Err(Problem::new(&candidate.blame, message));
        }
    }
    Ok(())
}

/// Values at equal ratios. Whole numbers stay whole, so neighbours that round to
/// the same one are one.
fn geometric(
    from: &ValueWire,
    to: &ValueWire,
    points: Option<u32>,
) -> Result<Vec<Candidate>, Problem> {
    let Some(points) = points else {
        return Err(Problem::new("sweep.points", "this key is missing: how many values to try"));
    };
    let bounds::Bounds { max, .. } = bounds::SWEEP_POINTS;
    if !(2..=max).contains(&points) {
        let message = format!("found {points}, expected values from 2 to {max}");
        return Err(Problem::new("sweep.points", message));
    }
    let (low_text, high_text) = (show(from), show(to));
    let positive = |key: &str, text: &str| {
        number(text).filter(|value| *value > 0.0).ok_or_else(|| {
            let message = format!("found `{text}`, expected a number above zero, with its unit");
            Problem::new(key, message)
        })
    };
    let low = positive("sweep.from", &low_text)?;
    let high = positive("sweep.to", &high_text)?;
    if low >= high {
        let message = format!("found `{high_text}`, expected more than `{low_text}`");
        return Err(Problem::new("sweep.to", message));
    }
    let unit = split_unit(&low_text).1.to_owned();
    let ratio = (high / low).powf(1.0 / f64::from(points - 1));
    let mut candidates: Vec<Candidate> = Vec::new();
    for index in 0..points {
        let last = index + 1 == points;
        let value = if last { high } else { low * ratio.powi(index.cast_signed()) };
        let (value, text) = written(value, &unit);
        let blame = if index == 0 { "sweep.from" } else { "sweep.to" };
        if candidates.last().is_none_or(|before| before.text != text) {
            candidates.push(Candidate { value, text, blame: blame.to_owned() });
        }
    }
    Ok(candidates)
}

/// A number of a range as a file would have it.
fn written(value: f64, unit: &str) -> (Value, String) {
    let whole = value.round() as i64;
    match unit {
        "" => (Value::Integer(whole), whole.to_string()),
        "B" | "KiB" | "MiB" => {
            let text = format_size(u32::try_from(whole).unwrap_or(u32::MAX));
            (Value::String(text.clone()), text)
        }
        "/s" | "%" => {
            let value = if unit == "%" { value * 100.0 } else { value };
            let text = format!("{}{unit}", (value * 10.0).round() / 10.0);
            (Value::String(text.clone()), text)
        }
        _ => {
            let nanos = u64::try_from(whole).unwrap_or(0);
            // To three digits: nobody asks for 1.414213562ms.
            let scale = 10_u64.pow(nanos.max(1).ilog10().saturating_sub(2));
            let nanos = (nanos + scale / 2) / scale * scale;
            let text = duration::format(std::time::Duration::from_nanos(nanos));
            (Value::String(text.clone()), text)
        }
    }
}

fn to_toml(value: &ValueWire) -> Value {
    match value {
        ValueWire::Whole(value) => Value::Integer(*value),
        ValueWire::Number(value) => Value::Float(*value),
        ValueWire::Text(text) => Value::String(text.clone()),
    }
}

fn show(value: &ValueWire) -> String {
    match value {
        ValueWire::Whole(value) => value.to_string(),
        ValueWire::Number(value) => value.to_string(),
        ValueWire::Text(text) => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, to: &str, points: u32) -> Vec<String> {
        let text = |text: &str| ValueWire::Text(text.to_owned());
        let candidates = geometric(&text(from), &text(to), Some(points)).unwrap();
        candidates.into_iter().map(|candidate| candidate.text).collect()
    }

    #[test]
    fn a_range_has_equal_ratios_and_whole_numbers() {
        assert_eq!(range("1", "256", 9), ["1", "2", "4", "8", "16", "32", "64", "128", "256"]);
        assert_eq!(range("1", "3", 9), ["1", "2", "3"], "what rounds to the same is one");
        assert_eq!(range("32B", "1MiB", 4), ["32B", "1KiB", "32KiB", "1MiB"]);
        assert_eq!(range("1000/s", "4000/s", 3), ["1000/s", "2000/s", "4000/s"]);
        assert_eq!(range("1ms", "2ms", 3), ["1ms", "1.41ms", "2ms"]);
    }

    #[test]
    fn values_are_the_same_however_they_are_written() {
        assert!(is_same("1KiB", "1024") && is_same("3000/s", "3000") && is_same("p2c", "p2c"));
        assert!(!is_same("1KiB", "1000") && !is_same("p2c", "maglev"));
        assert_eq!(number("round_robin"), None);
        assert_eq!(number("1.5ms"), Some(1_500_000.0));
    }
}
