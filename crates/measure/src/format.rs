//! Numbers for people: three digits, a unit, and no false exactness.
//!
//! The terminal, the page and the charts all write numbers here, so that the
//! same figure reads the same everywhere.

/// A count with thousands apart: `9,600`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 run`, `12 runs`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A fraction as a percentage: `25.0 %`. What is not all of it never reads as
/// 100 %, and what is not nothing never reads as 0 %.
pub fn share(fraction: f64) -> String {
    let percent = fraction * 100.0;
    if !percent.is_finite() {
        return UNKNOWN.to_owned();
    }
    match percent {
        0.0 => "0 %".to_owned(),
        100.0 => "100 %".to_owned(),
        p if p > 0.0 && p < 0.05 => "<0.1 %".to_owned(),
        p if p > 99.95 && p < 100.0 => ">99.9 %".to_owned(),
        p => format!("{} %", decimals(p, 1)),
    }
}

/// A time in the unit that suits it: `950 ns`, `14.1 µs`, `21.3 ms`, `1.40 s`.
pub fn duration(ns: f64) -> String {
    if !ns.is_finite() {
        return UNKNOWN.to_owned();
    }
    let (scaled, unit) = duration_scaled(ns);
    let digits = match unit {
        "s" if scaled >= 999.5 => grouped(scaled),
        // A nanosecond is the clock's resolution: no digits below it.
        "ns" => decimals(scaled, 0),
        _ => three_digits(scaled),
    };
    format!("{digits} {unit}")
}

/// A time of which less than a microsecond is as good as none: `<1 µs`. A histogram's
/// lowest value is one nanosecond, be it one or nothing at all.
pub fn coarse(ns: f64) -> String {
    if ns < 1e3 { "<1 µs".to_owned() } else { duration(ns) }
}

/// Two values around a dash, with the unit once where both have the same, and one value where
/// both read the same: `13.8–14.5 µs`, `900 µs – 1.10 ms`, `200 ms`. All ranges are made here.
pub fn range(low: impl AsRef<str>, high: impl AsRef<str>) -> String {
    let (low, high) = (low.as_ref(), high.as_ref());
    let ((from, unit), (to, other)) = (split_unit(low), split_unit(high));
    let is_plain = !from.is_empty() && !to.is_empty() && !unit.contains(char::is_numeric);
    match unit == other && is_plain {
        _ if low == high => low.to_owned(),
        true => format!("{from}–{to}{unit}"),
        false => format!("{low} – {high}"),
    }
}

/// A number and what follows it; nothing before what begins with a sign.
fn split_unit(text: &str) -> (&str, &str) {
    let is_of_unit = |c: char| !matches!(c, '0'..='9' | '.' | ',');
    text.split_at(text.find(is_of_unit).unwrap_or(text.len()))
}

/// A range of times.
pub fn duration_range(low_ns: f64, high_ns: f64) -> String {
    range(duration(low_ns), duration(high_ns))
}

/// A time on an axis, without zeros that carry nothing: `5 ms`, `2 s`.
pub fn duration_tick(ns: f64) -> String {
    let (scaled, unit) = duration_scaled(ns);
    format!("{} {unit}", trim_zeros(&decimals(scaled, 3)))
}

/// A number per second: `3,200/s`, `12.5/s`.
pub fn rate(per_second: f64) -> String {
    format!("{}/s", number(per_second))
}

/// A plain number: three digits below 1,000, whole and with thousands apart
/// above.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    if value.abs() < 999.5 { three_digits(value) } else { grouped(value) }
}

/// A number on an axis, without zeros that carry nothing: `20`, `2.5`.
pub fn tick(value: f64) -> String {
    if value.abs() < 999.5 { trim_zeros(&decimals(value, 3)).to_owned() } else { grouped(value) }
}

/// How a value stands to another: `88 times lower`, `2.4 times higher`, `23 %
/// lower`.
pub fn change(from: f64, to: f64) -> String {
    let word = if to < from { "lower" } else { "higher" };
    let ratio = from.max(to) / from.min(to);
    if !ratio.is_finite() {
        return word.to_owned();
    }
    match ratio {
        r if r >= 9.95 => format!("{} times {word}", grouped(r)),
        r if r >= 1.995 => format!("{r:.1} times {word}"),
        _ => format!("{:.0} % {word}", (to / from - 1.0).abs() * 100.0),
    }
}

/// A ratio with its unit of thought and its interval: `88 times lower` and
/// `71–110 times`, `23 % lower` and `20–26 %`. `None` in place of the interval
/// where it holds 1.
pub fn change_by(ratio: f64, interval: Option<(f64, f64)>) -> (String, Option<String>) {
    let said = change(1.0, ratio);
    let ends = interval.and_then(|(low, high)| {
        if low <= 1.0 && high >= 1.0 {
            return None;
        }
        // How far from 1, nearer end first.
        let away = |end: f64| if ratio < 1.0 { 1.0 / end } else { end };
        let (near, far) = if ratio < 1.0 { (high, low) } else { (low, high) };
        Some(if ratio.max(1.0 / ratio) >= 1.995 {
            let digits = |value: f64| {
                if value >= 9.95 { grouped(value) } else { format!("{value:.1}") }
            };
            range(digits(away(near)) + " times", digits(away(far)) + " times")
        } else {
            // An end that is not 0 never reads as 0.
            let percent = |end: f64| match (end - 1.0).abs() * 100.0 {
                p if p < 0.95 => format!("{} %", decimals(p.max(0.1), 1)),
                p => format!("{p:.0} %"),
            };
            range(percent(near), percent(far))
        })
    });
    // One that reads as the figure itself says nothing.
    let ends = ends.filter(|ends| !said.starts_with(ends.as_str()));
    (said, ends)
}

/// A ratio as a factor: `0.0113`, `1.04`, `88.2`.
pub fn factor(value: f64) -> String {
    match value {
        v if !v.is_finite() => UNKNOWN.to_owned(),
        0.0 => "0".to_owned(),
        v if v.abs() < 0.009_95 => decimals(v, 5),
        v if v.abs() < 0.0995 => decimals(v, 4),
        v if v.abs() < 0.995 => decimals(v, 3),
        v => number(v),
    }
}

/// How far a value is off another one: `+2.3 %`, `−0.4 %`.
pub fn off_by(part: f64) -> String {
    let percent = part * 100.0;
    match percent {
        p if !p.is_finite() => UNKNOWN.to_owned(),
        p if p.abs() < 0.05 => "0.0 %".to_owned(),
        p if p.abs() >= 999.5 => format!("{}{} %", sign(p), grouped(p.abs())),
        p if p.abs() >= 99.5 => format!("{}{:.0} %", sign(p), p.abs()),
        p => format!("{}{:.1} %", sign(p), p.abs()),
    }
}

fn sign(value: f64) -> &'static str {
    if value < 0.0 { "−" } else { "+" }
}

/// A p-value: `0.31`, `<0.001`.
pub fn chance(p: f64) -> String {
    match p {
        p if !p.is_finite() => UNKNOWN.to_owned(),
        p if p < 0.001 => "<0.001".to_owned(),
        p if p > 0.999 => ">0.999".to_owned(),
        p => trim_zeros(&format!("{p:.3}")).to_owned(),
    }
}

/// Names in a row: `a`, `a and b`, `a, b and c`.
pub fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match &names[..] {
        [others @ .., before, last] => {
            let others: String = others.iter().map(|name| format!("{name}, ")).collect();
            format!("{others}{before} and {last}")
        }
        few => few.concat(),
    }
}

/// An amount of memory: `512 B`, `3.2 MiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{} {}", trim_zeros(&three_digits(scaled)), UNITS[unit])
}

/// A span in seconds for people: `0.5 s`, `48 s`, `2 min 5 s`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    if value < 59.95 {
        return format!("{} s", trim_zeros(&decimals(value, 1)));
    }
    let whole = value.round() as u64;
    match whole % 60 {
        0 => format!("{} min", count(whole / 60)),
        rest => format!("{} min {rest} s", count(whole / 60)),
    }
}

/// What stands where there is no number.
pub const UNKNOWN: &str = "–";

fn duration_scaled(ns: f64) -> (f64, &'static str) {
    // 999.5 rather than 1,000, because three digits round up to it.
    match ns.abs() {
        v if v < 999.5 => (ns, "ns"),
        v if v < 999.5e3 => (ns / 1e3, "µs"),
        v if v < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v < 9.995 => decimals(value, 2),
        v if v < 99.95 => decimals(value, 1),
        _ => decimals(value, 0),
    }
}

/// A number with so many decimals: `0.250`. What rounds to zero has no sign.
pub fn decimals(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|byte| matches!(byte, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

fn grouped(value: f64) -> String {
    let whole = count(value.abs().round() as u64);
    if value < 0.0 { format!("-{whole}") } else { whole }
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1_000, 9_600, 1_234_567].map(count),
            ["0", "999", "1,000", "9,600", "1,234,567"]
        );
    }

    #[test]
    fn a_share_that_is_not_all_never_reads_as_all() {
        assert_eq!(share(1.0), "100 %");
        assert_eq!(share(0.999_99), ">99.9 %");
        assert_eq!(share(0.25), "25.0 %");
        assert_eq!(share(0.000_01), "<0.1 %");
        assert_eq!(share(0.0), "0 %");
        assert_eq!(share(f64::NAN), "–");
    }

    #[test]
    fn names_stand_in_a_row() {
        assert_eq!(list(&[""; 0]), "");
        assert_eq!([list(&["a"]), list(&["a", "b"])], ["a", "a and b"]);
        assert_eq!(list(&["a", "b", "c", "d"]), "a, b, c and d");
    }

    #[test]
    fn times_have_three_digits_and_the_unit_that_suits() {
        let read = [0.0, 950.0, 999.7, 14_120.0, 999_700.0, 21_340_000.0, 1.4e9, 3.6e12];
        assert_eq!(
            read.map(duration),
            ["0 ns", "950 ns", "1.00 µs", "14.1 µs", "1.00 ms", "21.3 ms", "1.40 s", "3,600 s"]
        );
        assert_eq!([500.0, 2e3, 5e6, 1e9].map(duration_tick), ["500 ns", "2 µs", "5 ms", "1 s"]);
    }

    #[test]
    fn a_range_has_one_unit_and_no_end_twice() {
        assert_eq!(duration_range(13_800.0, 14_500.0), "13.8–14.5 µs");
        assert_eq!(duration_range(900_000.0, 1_100_000.0), "900 µs – 1.10 ms");
        assert_eq!(duration_range(199.8e6, 200.3e6), "200 ms");
        let shown = [("25.0 %", "33.0 %"), ("3,180/s", "3,220/s"), ("2.80", "3.40"), ("4", "4")];
        let ranges = ["25.0–33.0 %", "3,180–3,220/s", "2.80–3.40", "4"];
        assert_eq!(shown.map(|(low, high)| range(low, high)), ranges);
        // A sign is no dash, and what stands before a number holds for that number only.
        let apart = [("-3", "5"), ("<0.1 %", "3.0 %"), ("–", "7"), ("1 min 5 s", "2 min 5 s")];
        for (low, high) in apart {
            assert_eq!(range(low, high), format!("{low} – {high}"));
        }
    }

    #[test]
    fn zero_has_no_sign() {
        let tiny = -1e-7;
        assert_eq!(decimals(tiny, 3), "0.000");
        assert_eq!(decimals(-0.25, 2), "-0.25");
        assert_eq!([number(tiny), rate(tiny), tick(tiny)], ["0.00", "0.00/s", "0"]);
        assert_eq!([factor(tiny), share(tiny), seconds(tiny)], ["0.00000", "0.0 %", "0 s"]);
        assert_eq!([duration(-0.2), duration_tick(-0.2)], ["0 ns", "-0.2 ns"]);
        assert_eq!([1.0, 999.0, 1_500.0].map(coarse), ["<1 µs", "<1 µs", "1.50 µs"]);
    }

    #[test]
    fn other_numbers_read_well() {
        assert_eq!([3_200.0, 12.5, 999.7].map(rate), ["3,200/s", "12.5/s", "1,000/s"]);
        assert_eq!([0.0, 2.5, 20.0, 4_000.0].map(tick), ["0", "2.5", "20", "4,000"]);
        assert_eq!(change(1_650.0, 18.7), "88 times lower");
        assert_eq!(change(1.0, 2.44), "2.4 times higher");
        assert_eq!(change(100.0, 77.0), "23 % lower");
        assert_eq!(change(0.0, 0.0), "higher");
        let by = |ratio, low, high| change_by(ratio, Some((low, high)));
        assert_eq!(
            by(0.0113, 0.01, 0.0125),
            ("88 times lower".into(), Some("80–100 times".into()))
        );
        assert_eq!(by(1.23, 1.2, 1.26), ("23 % higher".into(), Some("20–26 %".into())));
        assert_eq!(by(0.9, 0.8, 1.1), ("10 % lower".into(), None));
        assert_eq!(by(1.3, 1.004, 1.8), ("30 % higher".into(), Some("0.4–80 %".into())));
        assert_eq!([0.011_34, 0.5, 1.04, 88.2].map(factor), ["0.0113", "0.500", "1.04", "88.2"]);
        assert_eq!(
            [0.023, -0.004, 41.0, -1e-5].map(off_by),
            ["+2.3 %", "−0.4 %", "+4,100 %", "0.0 %"]
        );
        assert_eq!([0.31, 0.0, 1.0].map(chance), ["0.31", "<0.001", ">0.999"]);
        assert_eq!([512, 2_048, 3_400_000].map(bytes), ["512 B", "2 KiB", "3.24 MiB"]);
        assert_eq!([0.5, 48.0, 125.0, 120.0].map(seconds), ["0.5 s", "48 s", "2 min 5 s", "2 min"]);
    }
}
