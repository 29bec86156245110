//! What a backend says of its own load: gRPC's backend metrics (ORCA, gRFC A51), the message
//! `xds.data.orca.v3.OrcaLoadReport` in base64, in the trailers of a call.
//!
//! Of the message only what a policy goes by is read and written, each field by its number;
//! all others are passed over. So the proxies need no code generator, and none of them
//! decodes what a call carries.

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::Probe;

/// The trailer that carries a report (gRFC A51).
pub const LOAD_REPORT_TRAILER: &str = "endpoint-load-metrics-bin";

/// How much the part of the calls that fail adds to a utilization
/// (`error_utilization_penalty`, at its default of gRFC A58).
const ERROR_PENALTY: f64 = 1.0;

/// With padding and without, and written without, as gRPC does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Numbers of fields, all of them doubles, and the types of fields on the wire.
mod field {
    pub(super) const CPU_UTILIZATION: u64 = 1;
    pub(super) const CALLS_PER_SECOND: u64 = 6;
    pub(super) const ERRORS_PER_SECOND: u64 = 7;
    /// A map: an entry for each name, with the name and a double.
    pub(super) const NAMED_METRICS: u64 = 8;
    pub(super) const APPLICATION_UTILIZATION: u64 = 9;
    pub(super) const VARINT: u64 = 0;
    pub(super) const FIXED64: u64 = 1;
    pub(super) const BYTES: u64 = 2;
    pub(super) const FIXED32: u64 = 5;
}

/// Named metrics, for probes.
const IN_FLIGHT: &str = "in_flight";
const LATENCY_S: &str = "latency_s";

/// A report of a backend on its load. What it doesn't say is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Part of its CPUs in use; more than 1 where it uses more than it was given.
    pub cpu_utilization: f64,
    /// Part of its capacity in use, as the application sees it; where it says so, that
    /// counts in place of the CPUs.
    pub application_utilization: f64,
    /// Calls a second.
    pub calls_per_second: f64,
    /// Of these, calls that failed.
    pub errors_per_second: f64,
    /// Calls that it holds, and what one takes that finds as many; the named metrics
    /// `in_flight` and `latency_s`. Only an answer to a probe has them.
    pub probe: Option<Probe>,
}

impl LoadReport {
    /// Reads a trailer's value. `None` where it is no report.
    pub fn from_trailer(value: &[u8]) -> Option<Self> {
        Self::decode(&BASE64.decode(value).ok()?)
    }

    /// The trailer's value.
    pub fn to_trailer(&self) -> String {
        BASE64.encode(self.encode())
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (mut report, mut named) = (Self::default(), Named::default());
        while !bytes.is_empty() {
            let (tag, rest) = varint(bytes)?;
            bytes = match tag & 7 {
                field::VARINT => varint(rest)?.1,
                field::FIXED64 => {
                    let (value, rest) = rest.split_first_chunk()?;
                    report.set(tag >> 3, f64::from_le_bytes(*value));
                    rest
                }
                field::BYTES => {
                    let (length, rest) = varint(rest)?;
                    let length = usize::try_from(length).ok()?;
                    let (content, rest) = rest.split_at_checked(length)?;
                    if tag >> 3 == field::NAMED_METRICS {
                        named.set(content);
                    }
                    rest
                }
                field::FIXED32 => rest.get(4..)?,
                _ => return None,
            };
        }
        report.probe = named.probe();
        Some(report)
    }

    fn set(&mut self, number: u64, value: f64) {
        match number {
            field::CPU_UTILIZATION => self.cpu_utilization = value,
            field::CALLS_PER_SECOND => self.calls_per_second = value,
            field::ERRORS_PER_SECOND => self.errors_per_second = value,
            field::APPLICATION_UTILIZATION => self.application_utilization = value,
            _ => {}
        }
    }

    fn encode(&self) -> Vec<u8> {
        let fields = [
            (field::CPU_UTILIZATION, self.cpu_utilization),
            (field::CALLS_PER_SECOND, self.calls_per_second),
            (field::ERRORS_PER_SECOND, self.errors_per_second),
            (field::APPLICATION_UTILIZATION, self.application_utilization),
        ];
        let mut bytes = Vec::with_capacity(9 * fields.len());
        for (number, value) in fields.into_iter().filter(|(_, value)| *value != 0.0) {
            // Numbers are below 16, so that a tag is one byte.
            bytes.push((number << 3 | field::FIXED64) as u8);
            bytes.extend(value.to_le_bytes());
        }
        if let Some(Probe { in_flight, latency_ns }) = self.probe {
            bytes.extend(named_metric(IN_FLIGHT, f64::from(in_flight)));
            bytes.extend(named_metric(LATENCY_S, latency_ns as f64 / 1e9));
        }
        bytes
    }

    /// Calls a second that it would serve at full utilization, which is its weight in
    /// `weighted_round_robin`: `qps / (utilization + eps / qps * penalty)` of gRFC A58.
    /// `None` where it says too little for that.
    pub(crate) fn weight(&self) -> Option<f64> {
        let utilization = match self.application_utilization {
            own if own > 0.0 => own,
            _ => self.cpu_utilization,
        };
        let calls = self.calls_per_second;
        let failed = self.errors_per_second.max(0.0) / calls;
        let weight = calls / (utilization + failed * ERROR_PENALTY);
        let says_enough = utilization > 0.0 && calls > 0.0 && weight > 0.0;
        (says_enough && weight.is_finite()).then_some(weight)
    }
}

/// What the named metrics say.
#[derive(Default)]
struct Named {
    in_flight: Option<f64>,
    latency_s: Option<f64>,
}

impl Named {
    /// An entry of the map, whose name comes first wherever it was written by a library.
    fn set(&mut self, entry: &[u8]) {
        for (name, place) in [(IN_FLIGHT, &mut self.in_flight), (LATENCY_S, &mut self.latency_s)] {
            let written = named_metric(name, 0.0);
            let value_at = written.len() - 8;
            // Without the map's own tag and length.
            if let Some(value) = entry.strip_prefix(&written[2..value_at])
                && let Ok(value) = value.try_into()
            {
                *place = Some(f64::from_le_bytes(value));
            }
        }
    }

    fn probe(&self) -> Option<Probe> {
        let (in_flight, latency_s) = (self.in_flight?, self.latency_s?);
        // A cast takes what is below zero, or no number, for zero.
        Some(Probe { in_flight: in_flight as u32, latency_ns: (latency_s * 1e9).round() as u64 })
    }
}

/// An entry of the map of named metrics. Names are shorter than 100 bytes, so that each
/// length is one.
fn named_metric(name: &str, value: f64) -> Vec<u8> {
    let name_tag = (1 << 3 | field::BYTES) as u8;
    let value_tag = (2 << 3 | field::FIXED64) as u8;
    let head = [name_tag, name.len() as u8];
    let entry = [&head[..], name.as_bytes(), &[value_tag], &value.to_le_bytes()].concat();
    let tag = (field::NAMED_METRICS << 3 | field::BYTES) as u8;
    [&[tag, entry.len() as u8][..], &entry].concat()
}

/// A varint of protobuf, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (own, rest) = bytes.split_at(length);
    let value = own.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_report_of_another_library_is_read() {
        // {cpu_utilization: 0.5, mem_utilization: 0.25, rps: 300, utilization: {"a": 1.0},
        // rps_fractional: 300.5, eps: 3.0}, as protoc writes it.
        let bytes = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 0x11, 0, 0, 0, 0, 0, 0, 0xd0, 0x3f][..],
            &[0x18, 0xac, 0x02],
            &[0x2a, 0x0c, 0x0a, 0x01, b'a', 0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
            &[0x31, 0, 0, 0, 0, 0, 0xc8, 0x72, 0x40, 0x39, 0, 0, 0, 0, 0, 0, 0x08, 0x40],
        ]
        .concat();
        let report = LoadReport {
            cpu_utilization: 0.5,
            calls_per_second: 300.5,
            errors_per_second: 3.0,
            ..LoadReport::default()
        };
        assert_eq!(LoadReport::decode(&bytes), Some(report));
    }

    #[test]
    fn named_metrics_are_those_of_a_probe() {
        // {named_metrics: {"in_flight": 3.0, "latency_s": 0.5, "other": 1.0}}
        let double = |high| [0, 0, 0, 0, 0, 0, high, 0x40];
        let bytes = [
            &[0x42, 0x14, 0x0a, 9][..],
            b"in_flight",
            &[0x11],
            &double(0x08),
            &[0x42, 0x14, 0x0a, 9],
            b"latency_s",
            &[0x11, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f],
            &[0x42, 0x10, 0x0a, 5],
            b"other",
            &[0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
        ]
        .concat();
        let report = LoadReport::decode(&bytes).unwrap();
        assert_eq!(report.probe, Some(Probe { in_flight: 3, latency_ns: 500_000_000 }));
        assert_eq!(LoadReport::decode(&bytes[..22]).unwrap().probe, None, "one of two");
    }

    #[test]
    fn the_weight_is_that_of_a58() {
        let report = |cpu_utilization, application_utilization, calls_per_second, eps| LoadReport {
            cpu_utilization,
            application_utilization,
            calls_per_second,
            errors_per_second: eps,
            probe: None,
        };
        assert_eq!(report(0.5, 0.0, 100.0, 0.0).weight(), Some(200.0));
        assert_eq!(report(0.5, 0.25, 100.0, 0.0).weight(), Some(400.0));
        assert_eq!(report(0.5, 0.0, 100.0, 50.0).weight(), Some(100.0));
        for says_too_little in [
            report(0.0, 0.0, 100.0, 0.0),
            report(0.5, 0.0, 0.0, 0.0),
            report(-1.0, 0.0, 100.0, 0.0),
            report(0.5, 0.0, f64::NAN, 0.0),
            report(0.5, 0.0, f64::INFINITY, 0.0),
        ] {
            assert_eq!(says_too_little.weight(), None, "{says_too_little:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_of_an_unknown_type_is_no_report() {
        for bytes in [&[0x09, 0, 0][..], &[0x2a, 9, 0], &[0x0b], &[0x80; 11], &[0x0d, 0]] {
            assert_eq!(LoadReport::decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(LoadReport::from_trailer(b"!"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            values in prop::array::uniform4(0.0_f64..1e9),
            probe in prop::option::of((any::<u32>(), 0..1_u64 << 40)),
        ) {
            let [cpu_utilization, application_utilization, calls_per_second, errors_per_second] =
                values;
            let report = LoadReport {
                cpu_utilization,
                application_utilization,
                calls_per_second,
                errors_per_second,
                probe: probe.map(|(in_flight, latency_ns)| Probe { in_flight, latency_ns }),
            };
            prop_assert_eq!(LoadReport::from_trailer(report.to_trailer().as_bytes()), Some(report));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = LoadReport::from_trailer(&bytes);
            if let Some(weight) = LoadReport::decode(&bytes).and_then(|report| report.weight()) {
                prop_assert!(weight.is_finite() && weight > 0.0);
            }
        }
    }
}
