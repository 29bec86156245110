//! A trial's series, second by second: CSV and HdrHistogram logs.

use std::fmt::Write as _;

use super::QUANTILES;
use crate::{
    histogram::{HistogramRecord, quantile},
    record::SecondRecord,
};

/// What an HdrHistogram log counts its largest value in: milliseconds, as the
/// tools' default is.
const NS_PER_HLOG_UNIT: f64 = 1e6;

/// A trial's series, one row a second: the second since the start of the measured
/// window, calls that succeeded, calls that failed, calls per backend, and
/// latency in nanoseconds (mean, quantiles, maximum), empty in a second without
/// calls. Rows end in CR LF, as RFC 4180 has it.
pub fn series_csv(series: &[SecondRecord], backend_ids: &[String]) -> String {
    let mut text = String::from("second,ok,failed");
    for id in backend_ids {
        text.push(',');
        text.push_str(&csv_field(&format!("calls_{id}")));
    }
    text.push_str(",latency_mean_ns");
    for (name, _) in QUANTILES {
        let _ = write!(text, ",latency_{name}_ns");
    }
    text.push_str(",latency_max_ns\r\n");
    for second in series {
        let _ = write!(text, "{},{},{}", second.second, second.ok, second.failed);
        for index in 0..backend_ids.len() {
            let _ = write!(text, ",{}", second.per_backend.get(index).copied().unwrap_or(0));
        }
        text.push_str(&latency_fields(&second.latency));
        text.push_str("\r\n");
    }
    text
}

fn latency_fields(latency: &HistogramRecord) -> String {
    match latency.to_histogram() {
        Ok(histogram) if !histogram.is_empty() => {
            let mut fields = format!(",{:.0}", histogram.mean());
            for (_, part) in QUANTILES {
                let value = quantile(&histogram, part).unwrap_or(0);
                let _ = write!(fields, ",{value}");
            }
            let _ = write!(fields, ",{}", histogram.max());
            fields
        }
        // A histogram that can't be read has no figures either.
        _ => ",".repeat(QUANTILES.len() + 2),
    }
}

/// A field, in quotes if it has to be.
fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A trial's latency, second by second, as an HdrHistogram log: the histograms of
/// the record, in nanoseconds, each with its start and length in seconds and its
/// largest value in milliseconds. `start_unix_s` is what the starts count from; a last
/// second that the window, of `measured_s` seconds, ends in is as long as its part of it.
pub fn series_hlog(series: &[SecondRecord], start_unix_s: f64, measured_s: f64) -> String {
    let mut text = String::from("#[Histogram log format version 1.3]\n");
    let _ = writeln!(text, "#[StartTime: {start_unix_s:.3} (seconds since epoch)]");
    text.push_str(
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    );
    for (index, second) in series.iter().enumerate() {
        let max = second.latency.max as f64 / NS_PER_HLOG_UNIT;
        let start = f64::from(second.second);
        let is_cut = index + 1 == series.len() && second.ok_after + second.failed_after == 0;
        let length = if is_cut { (measured_s - start).clamp(0.001, 1.0) } else { 1.0 };
        let _ = writeln!(text, "{start:.3},{length:.3},{max:.3},{}", second.latency.v2);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        exchange::histogram,
        histogram::{new_histogram, to_hgrm},
    };

    fn second(second: u32, per_backend: &[u64], latencies: &[u64]) -> SecondRecord {
        SecondRecord {
            second,
            ok: latencies.len() as u64,
            failed: 1,
            ok_after: 0,
            failed_after: 0,
            per_backend: per_backend.to_vec(),
            latency: histogram(latencies),
        }
    }

    #[test]
    fn csv_is_as_a_spreadsheet_expects_it() {
        let series = [second(0, &[1, 1], &[1_000, 2_000]), second(1, &[0, 0], &[])];
        let text = series_csv(&series, &["b0".into(), "b,1".into()]);
        let lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(
            lines[0],
            "second,ok,failed,calls_b0,\"calls_b,1\",latency_mean_ns,latency_p50_ns,\
             latency_p90_ns,latency_p99_ns,latency_p999_ns,latency_max_ns"
        );
        assert_eq!(lines[1], "0,2,1,1,1,1500,1000,2000,2000,2000,2000");
        assert_eq!(lines[2], "1,0,1,0,0,,,,,,");
        assert_eq!(lines[3..], [""]);
    }

    #[test]
    fn the_log_holds_the_histograms_whole() {
        let series = [second(0, &[2], &[1_000_000, 2_000_000]), second(1, &[1], &[30_000_000])];
        let text = series_hlog(&series, 1_767_225_600.25, 1.25);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "#[StartTime: 1767225600.250 (seconds since epoch)]");
        assert!(lines[3].starts_with("0.000,1.000,"), "{}", lines[3]);
        assert!(lines[4].starts_with("1.000,0.250,30.015,HISTF"), "{}", lines[4]);
        let mut whole = new_histogram();
        for line in &lines[3..] {
            let v2 = line.rsplit(',').next().unwrap().to_owned();
            let stored = HistogramRecord { v2, ..HistogramRecord::default() };
            whole += stored.to_histogram().unwrap();
        }
        assert_eq!(whole.len(), 3);
    }

    /// Splits a line of CSV as RFC 4180 says.
    fn csv_fields(line: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut quoted = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' if quoted && characters.peek() == Some(&'"') => {
                    characters.next();
                    fields.last_mut().unwrap().push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                other => fields.last_mut().unwrap().push(other),
            }
        }
        fields
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_name_of_a_backend_is_read_back_from_csv(
            ids in prop::collection::vec("[a-z\",; ]{0,8}", 0..5),
            latencies in prop::collection::vec(1_u64..1_000_000_000, 0..20),
        ) {
            let text = series_csv(&[second(3, &vec![7; ids.len()], &latencies)], &ids);
            let mut lines = text.split("\r\n");
            let header = csv_fields(lines.next().unwrap());
            let row = csv_fields(lines.next().unwrap());
            prop_assert_eq!(header.len(), row.len());
            for (index, id) in ids.iter().enumerate() {
                prop_assert_eq!(&header[3 + index], &format!("calls_{id}"));
                prop_assert_eq!(&row[3 + index], "7");
            }
        }

        #[test]
        fn hgrm_lines_rise_and_end_with_all_values(latencies in prop::collection::vec(1_u64..100_000_000_000, 1..200)) {
            let stored = histogram(&latencies).to_histogram().unwrap();
            let text = to_hgrm(&stored);
            let rows: Vec<Vec<f64>> = text
                .lines()
                .skip(2)
                .filter(|line| !line.starts_with('#'))
                .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
                .collect();
            for column in 0..3 {
                prop_assert!(rows.is_sorted_by(|a, b| a[column] <= b[column]));
            }
            prop_assert_eq!(rows.last().unwrap()[2], latencies.len() as f64);
        }
    }
}
