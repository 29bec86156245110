//! A run in which a setting differs between trials: a sweep, or the rates of a
//! search.
//!
//! Trials at different points answer different questions and are never pooled: each
//! point is a run of its own ([`Model`]), and what a sweep adds is how figures go from
//! point to point. Left out: a fit through the points. Where two curves cross is told
//! between neighbours, repeat by repeat, with an interval over the repeats.

use std::borrow::Cow;

use measure::{
    figure::Figure,
    format,
    record::{RunRecord, SearchLimit, SearchRecord, TrialRecord},
};

use super::{Beside, Difference, Estimate, Model, PeerView};
use crate::estimate::FEWEST_REPEATS;

/// The points of a run.
#[derive(Clone, Debug)]
pub struct Sweep<'a> {
    /// The key of the setting that differs.
    pub key: &'a str,
    /// What was searched for and found, where the points are those of a search.
    pub search: Option<&'a SearchRecord>,
    /// The points in their order, those without a measured trial left out.
    pub points: Vec<Point<'a>>,
}

/// One point.
#[derive(Clone, Debug)]
pub struct Point<'a> {
    /// The value as written.
    pub value: &'a str,
    /// The value as a number where it is one.
    pub number: Option<f64>,
    /// The run at this point alone.
    pub model: Model<'a>,
}

/// What comes before the zone in a key of its clients' part.
const CONNECTIONS_IN: &str = "zones.connections.";

impl<'a> Sweep<'a> {
    /// The points of a run; `None` where no setting differs.
    pub fn of(run: &'a RunRecord, trials: &'a [TrialRecord]) -> Option<Self> {
        let sweep = run.sweep.as_ref()?;
        let points = sweep
            .points
            .iter()
            .map(|point| {
                let own = trials.iter().filter(|trial| trial.point.as_ref() == Some(&point.value));
                let record = Cow::Owned(run.at_point(&point.value));
                Point {
                    value: &point.value,
                    number: point.number,
                    model: Model::of(record, &run.peers, own),
                }
            })
            .filter(|point| point.model.measured().next().is_some())
            .collect();
        Some(Self { key: &sweep.key, search: run.search.as_ref(), points })
    }

    /// The key's last part.
    pub fn short_key(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }

    /// Whether it goes over sizes of messages.
    pub fn is_of_payload(&self) -> bool {
        matches!(self.key, "load.payload" | "load.request_bytes" | "load.response_bytes")
    }

    /// Whether it goes over numbers of balancers.
    pub fn is_of_balancers(&self) -> bool {
        self.key == "balance.balancers"
    }

    /// Whether it goes over rates.
    pub fn is_of_rate(&self) -> bool {
        self.key == "load.rate"
    }

    /// Whether it goes over numbers of connections.
    pub(crate) fn is_of_connections(&self) -> bool {
        self.key == "load.connections"
    }

    /// Whether it goes over a setting of the clients' channels, which decides how many
    /// connections there are.
    pub fn is_of_channels(&self) -> bool {
        self.key.starts_with("channel.")
    }

    /// What differs, for the axis of a chart.
    pub fn axis(&self) -> String {
        match self.key {
            "load.connections" => "client connections".to_owned(),
            "load.payload" => "payload of a message, in both directions".to_owned(),
            "load.request_bytes" => "payload of a request message".to_owned(),
            "load.response_bytes" => "payload of a response message".to_owned(),
            "load.rate" => "calls per second offered".to_owned(),
            "load.streams" => "maximum calls in flight per connection".to_owned(),
            "balance.balancers" => "balancers that share the connections".to_owned(),
            "balance.threads" => "threads of the balancer".to_owned(),
            "balance.subset" => "backends that each balancer uses".to_owned(),
            "balance.subsetting" => "how each balancer's backends are chosen".to_owned(),
            "tls" => "sides that use TLS".to_owned(),
            key => match key.strip_prefix(CONNECTIONS_IN) {
                Some(zone) => format!("weight of zone {zone} among the clients"),
                None => key.to_owned(),
            },
        }
    }

    /// What differs, in a word or two.
    pub fn in_short(&self) -> &str {
        match self.key {
            "load.connections" => "connections",
            "load.payload" | "load.request_bytes" | "load.response_bytes" => "message size",
            "load.rate" => "the offered rate",
            "balance.balancers" => "balancers",
            "balance.threads" => "threads",
            "balance.subset" => "the size of subsets",
            "balance.subsetting" => "ways to choose subsets",
            "tls" => "TLS",
            key if key.starts_with(CONNECTIONS_IN) => "where clients are",
            key => key,
        }
    }

    /// A value with what it is a value of: `64 connections`, `16 KiB`, `4,000/s`.
    pub fn shown(&self, point: &Point<'_>) -> String {
        let label = label(point);
        match (self.key, point.value) {
            ("load.connections", "1") => "1 connection".to_owned(),
            ("tls", "none") => "no TLS".to_owned(),
            ("tls", "both") => "TLS on both sides".to_owned(),
            ("tls", side) => format!("TLS on the {side} side"),
            ("load.connections", _) => format!("{label} connections"),
            ("balance.balancers", "1") => "1 balancer".to_owned(),
            ("balance.balancers", _) => format!("{label} balancers"),
            ("balance.threads", "1") => "1 thread".to_owned(),
            ("balance.threads", _) => format!("{label} threads"),
            (key, part) if let Some(zone) = key.strip_prefix(CONNECTIONS_IN) => {
                format!("client weight {part} in zone {zone}")
            }
            _ if point.number.is_some() && label != point.value => label,
            ("load.payload" | "load.request_bytes" | "load.response_bytes", _) => label,
            _ => format!("{} {label}", self.short_key()),
        }
    }

    /// The points at which a peer was measured.
    pub fn of_peer(&self, name: &str) -> Vec<(&Point<'a>, &PeerView<'a>)> {
        let at = |point| Some((point, peer_at(point, name)?));
        self.points.iter().filter_map(at).collect()
    }

    /// A figure of a peer beside another's, at each point that has both.
    pub fn beside(&self, one: &str, other: &str, figure: Figure) -> Vec<(&Point<'a>, Beside)> {
        let at = |point| {
            let (one, other) = (peer_at(point, one)?, peer_at(point, other)?);
            let beside = one.beside(other, figure);
            (beside.difference.is_some()).then_some((point, beside))
        };
        self.points.iter().filter_map(at).collect()
    }

    /// Where two peers' figures cross, with its interval over the repeats; `None` where
    /// they don't in every repeat, or more than once.
    ///
    /// Between neighbouring points the logarithm of the ratio is taken to be straight
    /// over the logarithm of the setting, which is what it is where each figure is a
    /// power of the setting.
    pub(crate) fn crossing(&self, one: &str, other: &str, figure: Figure) -> Option<Estimate> {
        let repeats = self.points.iter().map(|point| point.model.repeats()).max()?;
        let mut crossings = Vec::new();
        for repeat in 0..u32::try_from(repeats).ok()? {
            let line: Vec<(f64, f64)> = self
                .points
                .iter()
                .filter_map(|point| {
                    let number = point.number.filter(|number| *number > 0.0)?;
                    let value = |name| {
                        let mut trials = peer_at(point, name)?.measured();
                        let (_, figures) = trials.find(|(record, _)| record.repeat == repeat)?;
                        figures.get(figure).filter(|value| *value > 0.0)
                    };
                    Some((number.ln(), (value(one)? / value(other)?).ln()))
                })
                .collect();
            crossings.push(only_zero(&line)?.exp());
        }
        (crossings.len() >= FEWEST_REPEATS).then(|| Estimate::over(&crossings)).flatten()
    }
}

/// The one place where a line through points is zero; `None` where there is none or
/// more.
fn only_zero(line: &[(f64, f64)]) -> Option<f64> {
    let zeros: Vec<f64> = line
        .windows(2)
        .filter(|pair| (pair[0].1 < 0.0) != (pair[1].1 < 0.0))
        .map(|pair| {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
            x0 + (x1 - x0) * y0 / (y0 - y1)
        })
        .collect();
    if let [zero] = zeros[..] { Some(zero) } else { None }
}

/// A peer at a point, where it was measured.
pub fn peer_at<'m, 'a>(point: &'m Point<'a>, name: &str) -> Option<&'m PeerView<'a>> {
    point.model.measured().find(|peer| peer.name == name)
}

/// A value for people: `64`, `16 KiB`, `4,000/s`.
pub fn label(point: &Point<'_>) -> String {
    let unit = point.value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
    match (point.number, unit) {
        (Some(number), "B" | "KiB" | "MiB") => format::bytes(number as u64),
        (Some(number), "/s") => format::rate(number),
        (Some(number), "") => format::tick(number),
        _ => point.value.to_owned(),
    }
}

/// A stretch of points at which the same difference is significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// What.
    pub significant: Difference,
    /// Index of its first point.
    pub first: usize,
    /// Index of its last point.
    pub last: usize,
}

/// The differences from point to point, in stretches.
pub fn stretches(differences: impl Iterator<Item = Difference>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for (index, significant) in differences.enumerate() {
        match stretches.last_mut() {
            Some(last) if last.significant == significant => last.last = index,
            _ => stretches.push(Stretch { significant, first: index, last: index }),
        }
    }
    stretches
}

/// What ended a search, in words.
pub fn limit_words(limit: SearchLimit) -> &'static str {
    match limit {
        SearchLimit::Peer => "the objective was missed",
        SearchLimit::Generator => "the generator was late: the peer may do better",
        SearchLimit::Machine => "all CPUs were busy: the peer may do better",
        SearchLimit::Ceiling => "the highest rate of the search met the objective",
        SearchLimit::Floor => "the lowest rate of the search missed the objective",
        SearchLimit::Unfinished => "time ran out before the limit was found",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_is_where_the_sign_turns_and_only_there() {
        assert_eq!(only_zero(&[(0.0, -1.0), (2.0, 1.0), (3.0, 4.0)]), Some(1.0));
        assert_eq!(only_zero(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(only_zero(&[(0.0, -1.0), (1.0, 1.0), (2.0, -1.0)]), None, "twice");
        assert_eq!(only_zero(&[]), None);
    }

    #[test]
    fn points_at_which_the_same_is_told_stand_together() {
        let differences =
            [Difference::Less, Difference::Less, Difference::NotSignificant, Difference::Greater];
        let found = stretches(differences.into_iter());
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Stretch { significant: Difference::Less, first: 0, last: 1 });
        assert_eq!(found[2], Stretch { significant: Difference::Greater, first: 3, last: 3 });
    }
}
