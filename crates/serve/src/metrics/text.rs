//! The text format: names, escaping, order.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use super::{Family, Kind, Labels, Series, value::Histogram};

/// Writes all families, sorted by name and labels, so that two expositions
/// can be compared line by line.
pub(super) fn expose(families: &BTreeMap<String, Family>) -> String {
    let mut out = String::new();
    for (name, family) in families {
        // Writing to a String can't fail.
        let _ = write_family(&mut out, name, family);
    }
    out
}

fn write_family(out: &mut String, name: &str, family: &Family) -> fmt::Result {
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
    for (labels, series) in &family.series {
        match series {
            Series::Counter(shards) => {
                let sum: u64 = shards.iter().map(super::Counter::get).sum();
                write_sample(out, name, labels, None, &sum.to_string())?;
            }
            Series::Gauge(gauge) => {
                write_sample(out, name, labels, None, &gauge.get().to_string())?;
            }
            Series::Computed(value) => {
                write_sample(out, name, labels, None, &number(value()))?;
            }
            Series::Histogram(histogram) => write_histogram(out, name, labels, histogram)?,
        }
    }
    Ok(())
}

fn write_histogram(out: &mut String, name: &str, labels: &Labels, h: &Histogram) -> fmt::Result {
    let mut cumulative = 0;
    for (bound, count) in h.buckets() {
        cumulative += count;
        let bound = number(bound);
        let bucket = format!("{name}_bucket");
        write_sample(out, &bucket, labels, Some(("le", &bound)), &cumulative.to_string())?;
    }
    write_sample(out, &format!("{name}_sum"), labels, None, &number(h.sum()))?;
    // The same sum as the last bucket, also when a value came in meanwhile.
    write_sample(out, &format!("{name}_count"), labels, None, &cumulative.to_string())
}

fn write_sample(
    out: &mut String,
    name: &str,
    labels: &Labels,
    extra: Option<(&str, &str)>,
    value: &str,
) -> fmt::Result {
    out.push_str(name);
    let pairs = labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).chain(extra);
    let mut separator = '{';
    for (label, value) in pairs {
        write!(out, "{separator}{label}=\"{}\"", escape_label(value))?;
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    writeln!(out, " {value}")
}

fn escape_label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub(super) fn is_metric_name(name: &str) -> bool {
    is_name(name, |c| c == ':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, and not one of those Prometheus keeps for itself.
pub(super) fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false) && !name.starts_with("__") && name != "le"
}

fn is_name(name: &str, also: impl Fn(char) -> bool) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || also(c))
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[test]
    fn the_exposition_is_what_prometheus_reads() {
        let metrics = Metrics::new();
        metrics.counter("b_total", "Second\nline \\ here.", &[("path", "a\"b\\c\nd")]).add(7);
        metrics.gauge("a", "A gauge.", &[]).set(-3);
        metrics.gauge_fn("c", "Computed.", &[], || 1.5);
        let histogram = metrics.histogram("h", "Sizes.", &[("kind", "x")], &[1.0, 2.5]);
        for value in [0.5, 2.0, 9.0] {
            histogram.observe(value);
        }
        let expected = "\
# HELP a A gauge.
# TYPE a gauge
a -3
# HELP b_total Second\\nline \\\\ here.
# TYPE b_total counter
b_total{path=\"a\\\"b\\\\c\\nd\"} 7
# HELP c Computed.
# TYPE c gauge
c 1.5
# HELP h Sizes.
# TYPE h histogram
h_bucket{kind=\"x\",le=\"1\"} 1
h_bucket{kind=\"x\",le=\"2.5\"} 2
h_bucket{kind=\"x\",le=\"+Inf\"} 3
h_sum{kind=\"x\"} 11.5
h_count{kind=\"x\"} 3
";
        assert_eq!(metrics.expose(), expected);
    }

    #[test]
    fn names_follow_the_format() {
        assert!(super::is_metric_name("echo_calls_total"));
        for bad in ["", "1st", "with-dash", "späte"] {
            assert!(!super::is_metric_name(bad), "{bad}");
        }
        assert!(!super::is_label_name("a:b") && !super::is_label_name("le"));
    }
}
