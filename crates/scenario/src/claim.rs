//! Claims: what a scenario expects, as sentences that can be checked.
//!
//! ```text
//! claim  = subject op term
//! op     = "==" | "!=" | "<" | "<=" | ">" | ">="
//! term   = number unit | [number "*"] subject [("+" | "-") number unit]
//! subject = peer [ "[" key "=" value "]" ] "." figure
//! ```
//!
//! `l4.max_share == 100%`, `l7.latency_p99 < 0.2 * l4.latency_p99`,
//! `l7.latency_p50 <= direct.latency_p50 + 500us`. Both sides have to be of one
//! kind, and numbers carry the unit of that kind. A claim says *where* it has
//! to hold by its subject's [`Scope`]; judging it over trials is the lab's work.
//!
//! In a sweep, `l4[connections=64].max_share < 30%` speaks of one point, by the
//! last part of the swept key or the whole of it. Without a point a claim speaks
//! of each; the right side of one then, and of a claim whose left side alone names
//! a point, is that of the same point.

use std::{fmt, str::FromStr};

use measure::figure::{Figure, Scope, Unit, UnknownFigure};
use serde::{Serialize, Serializer};
use units::{refuse_misspelled, split_unit};

use crate::error::{did_you_mean, list_of};

/// A claim that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    source: String,
    subject: Subject,
    op: Op,
    term: Term,
}

/// A quantity of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The peer's name.
    pub peer: String,
    /// The point of a sweep, where one is named.
    pub point: Option<PointName>,
    /// The quantity.
    pub figure: Figure,
}

/// A point of a sweep as a claim names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointName {
    /// The swept key, or its last part.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Equal.
    Eq,
    /// Different.
    Ne,
    /// Smaller.
    Lt,
    /// Smaller or equal.
    Le,
    /// Larger.
    Gt,
    /// Larger or equal.
    Ge,
}

/// What a subject is compared with, in the measure of the subject's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A number.
    Number(f64),
    /// Another peer's quantity: `factor * subject + offset`.
    Relative {
        /// What it is multiplied with.
        factor: f64,
        /// The other quantity.
        subject: Subject,
        /// What is added.
        offset: f64,
    },
}

/// A claim, judged on one set of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClaimOutcome {
    /// Whether it holds.
    pub holds: bool,
    /// The value of the subject: fractions, calls, nanoseconds, calls per
    /// second or plain numbers, as the figure's unit says.
    pub left: f64,
    /// The value it was compared with.
    pub right: f64,
}

/// A value that a claim needs is missing, so it can't be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no value of `{subject}`")]
pub struct MissingValue {
    /// What is missing.
    pub subject: Subject,
}

/// Why a text is no claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in `{claim}`, {reason}")]
pub struct ClaimError {
    /// The text.
    pub claim: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Claim {
    /// What it is about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What the subject is compared with.
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Where it has to hold.
    pub fn scope(&self) -> Scope {
        self.subject.figure.scope()
    }

    /// The peers it speaks of: one or two.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        let other = match &self.term {
            Term::Relative { subject, .. } => Some(subject.peer.as_str()),
            Term::Number(_) => None,
        };
        std::iter::once(self.subject.peer.as_str()).chain(other)
    }

    /// The points it names: none, one or two.
    pub fn points(&self) -> impl Iterator<Item = &PointName> {
        let other = match &self.term {
            Term::Relative { subject, .. } => subject.point.as_ref(),
            Term::Number(_) => None,
        };
        self.subject.point.iter().chain(other)
    }

    /// Judges the claim on the values that `value` gives for subjects.
    ///
    /// # Errors
    /// [`MissingValue`] when `value` has none: such a claim neither holds nor
    /// fails.
    pub fn check(
        &self,
        value: &dyn Fn(&Subject) -> Option<f64>,
    ) -> Result<ClaimOutcome, MissingValue> {
        let value_of = |subject: &Subject| {
            value(subject)
                .filter(|value| !value.is_nan())
                .ok_or_else(|| MissingValue { subject: subject.clone() })
        };
        let left = value_of(&self.subject)?;
        let right = match &self.term {
            Term::Number(number) => *number,
            Term::Relative { factor, subject, offset } => factor * value_of(subject)? + offset,
        };
        Ok(ClaimOutcome { holds: self.op.compare(left, right), left, right })
    }
}

impl Op {
    /// Its sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }

    /// Compares. Values that differ by no more than rounding are equal: a third
    /// of all calls is `33.333333333%` to no one.
    pub(crate) fn compare(self, left: f64, right: f64) -> bool {
        let equal = (left - right).abs() <= 1e-9 * left.abs().max(right.abs());
        match self {
            Self::Eq => equal,
            Self::Ne => !equal,
            Self::Lt => left < right && !equal,
            Self::Le => left < right || equal,
            Self::Gt => left > right && !equal,
            Self::Ge => left > right || equal,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.point {
            Some(point) => write!(f, "{}[{point}].{}", self.peer, self.figure),
            None => write!(f, "{}.{}", self.peer, self.figure),
        }
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The claim as it was written.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Serialize for Claim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl FromStr for Claim {
    type Err = ClaimError;

    fn from_str(text: &str) -> Result<Self, ClaimError> {
        let source = text.trim().to_owned();
        parse(&source)
            .map_err(|reason| ClaimError { claim: source.clone(), reason })
            .map(|(subject, op, term)| Self { source: source.clone(), subject, op, term })
    }
}

fn parse(text: &str) -> Result<(Subject, Op, Term), String> {
    // What stands in brackets names a point, and compares nothing.
    let mut inside = false;
    let comparison = |c: char| {
        inside = (inside || c == '[') && c != ']';
        !inside && matches!(c, '=' | '!' | '<' | '>')
    };
    let Some(at) = text.find(comparison) else {
        return Err("there is no comparison; write one of ==, !=, <, <=, >, >=".to_owned());
    };
    let subject = parse_subject(text[..at].trim())?;
    // Two-character signs first, so that `<=` is not read as `<`.
    let signs = [Op::Eq, Op::Ne, Op::Le, Op::Ge, Op::Lt, Op::Gt];
    let Some(op) = signs.into_iter().find(|op| text[at..].starts_with(op.sign())) else {
        return Err("the comparison is none of ==, !=, <, <=, >, >=".to_owned());
    };
    let rest = text[at + op.sign().len()..].trim();
    let term = parse_term(rest, subject.figure)?;
    Ok((subject, op, term))
}

fn parse_subject(text: &str) -> Result<Subject, String> {
    let no_subject =
        || format!("expected a peer's quantity such as `l4.max_share`, found `{text}`");
    let (peer, point, figure) = match text.split_once('[') {
        Some((peer, rest)) => {
            let (point, figure) = rest.split_once("].").ok_or_else(no_subject)?;
            (peer, Some(parse_point(point)?), figure)
        }
        None => {
            let (peer, figure) = text.split_once('.').ok_or_else(no_subject)?;
            (peer, None, figure)
        }
    };
    if peer.is_empty() || peer.contains(char::is_whitespace) {
        return Err(format!("`{peer}` is no name of a peer"));
    }
    let figure = parse_figure(figure)?;
    if let (Some(point), Scope::WholeRun) = (&point, figure.scope()) {
        return Err(format!("`{figure}` is one for the whole run, and has none at `{point}`"));
    }
    Ok(Subject { peer: peer.to_owned(), point, figure })
}

fn parse_point(text: &str) -> Result<PointName, String> {
    match text.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok(PointName { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!(
            "expected a point of the sweep such as `[connections=64]`, found `[{text}]`"
        )),
    }
}

fn parse_term(text: &str, figure: Figure) -> Result<Term, String> {
    // Names of peers begin with a letter.
    let starts_with_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-−".contains(c));
    if starts_with_number && !text.contains('*') {
        return Ok(Term::Number(parse_number(text, figure)?));
    }
    let (factor, rest) = match text.split_once('*') {
        Some((factor, rest)) => {
            let factor = factor.trim();
            let number = factor.parse::<f64>().ok().filter(|factor| factor.is_finite());
            let number = number.ok_or(format!("`{factor}` is no number to multiply with"))?;
            (number, rest.trim())
        }
        None => (1.0, text),
    };
    // Peer names hold dashes, so a sign stands between spaces.
    let (subject, offset) = match (rest.split_once(" + "), rest.split_once(" - ")) {
        (Some((subject, offset)), _) => (subject, parse_number(offset, figure)?),
        (None, Some((subject, offset))) => (subject, -parse_number(offset, figure)?),
        (None, None) => (rest, 0.0),
    };
    let subject = parse_subject(subject.trim())?;
    if (subject.figure.scope() == Scope::WholeRun) != (figure.scope() == Scope::WholeRun) {
        return Err(format!(
            "`{figure}` and `{}` can't be compared: only one is a figure of the whole run",
            subject.figure
        ));
    }
    if subject.figure.unit() != figure.unit() {
        let (left, right) = (how_to_write(figure.unit()), how_to_write(subject.figure.unit()));
        return Err(format!(
            "`{figure}` and `{}` can't be compared: one is {left}, the other {right}",
            subject.figure
        ));
    }
    Ok(Term::Relative { factor, subject, offset })
}

/// A figure by its name.
pub(crate) fn parse_figure(name: &str) -> Result<Figure, String> {
    name.parse().map_err(|UnknownFigure(name)| {
        let names: Vec<&str> = Figure::ALL.iter().map(|figure| figure.name()).collect();
        let (hint, list) = (did_you_mean(&name, &names), list_of(&names));
        format!("unknown figure `{name}`{hint}; known are {list}")
    })
}

/// How numbers of a unit are written, for error messages.
fn how_to_write(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "a percentage such as `25%`",
        Unit::Calls => "a number of calls such as `2` or `2 calls`",
        Unit::Time => "a time with its unit (ns, us, ms, s) such as `5ms`",
        Unit::Rate => "a rate such as `3000/s`",
        Unit::Number => "a plain number such as `0.98`",
    }
}

/// What one of a written unit is worth in that of the figure; `None` where it is of
/// another kind. Shares need their `%`: a bare `2` could mean 200 % or 2 %.
fn worth(unit: Unit, written: &str) -> Option<f64> {
    match (unit, written) {
        (Unit::Share, "%") => Some(0.01),
        (Unit::Calls, "" | "call" | "calls") => Some(1.0),
        (Unit::Time, "ns") => Some(1.0),
        (Unit::Time, "us" | "µs" | "μs") => Some(1e3),
        (Unit::Time, "ms") => Some(1e6),
        (Unit::Time, "s") => Some(1e9),
        (Unit::Rate, "" | "/s") => Some(1.0),
        (Unit::Number, "") => Some(1.0),
        _ => None,
    }
}

pub(crate) fn parse_number(text: &str, figure: Figure) -> Result<f64, String> {
    refuse_misspelled(text)?;
    let (number, unit) = split_unit(text);
    let number: f64 = match number.parse() {
        Ok(number) => number,
        Err(_) => {
            return Err(format!("expected {}, found `{text}`", how_to_write(figure.unit())));
        }
    };
    // Zero is zero in any unit.
    match worth(figure.unit(), unit) {
        Some(worth) => Ok(number * worth),
        None if number == 0.0 && unit.is_empty() => Ok(0.0),
        None => Err(format!("`{figure}` is {}, found `{text}`", how_to_write(figure.unit()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        text.parse().unwrap()
    }

    fn holds(text: &str, values: &[(&str, Figure, f64)]) -> bool {
        let value = |subject: &Subject| {
            let is =
                |(peer, figure): (&str, Figure)| peer == subject.peer && figure == subject.figure;
            values.iter().find(|(p, m, _)| is((p, *m))).map(|(_, _, value)| *value)
        };
        claim(text).check(&value).unwrap().holds
    }

    #[test]
    fn reads_every_form() {
        let number = claim("l4.max_share == 100%");
        assert_eq!(number.subject().to_string(), "l4.max_share");
        assert_eq!((number.op, number.term()), (Op::Eq, &Term::Number(1.0)));
        assert_eq!(number.scope(), Scope::EveryTrial);
        assert_eq!(claim("haproxy-l4.spread_calls<=2 calls").term(), &Term::Number(2.0));
        assert_eq!(claim("l7.latency_p99 < 1.5ms").term(), &Term::Number(1_500_000.0));
        assert_eq!(claim("l7.throughput >= 3000/s").term(), &Term::Number(3_000.0));
        assert_eq!(claim("direct.error_rate == 0").term(), &Term::Number(0.0));

        let relative = claim("l7.latency_p99 < 0.2 * envoy-l4.latency_p99 + 5ms");
        let other =
            Subject { peer: "envoy-l4".to_owned(), point: None, figure: Figure::LatencyP99 };
        let expected = Term::Relative { factor: 0.2, subject: other, offset: 5_000_000.0 };
        assert_eq!(relative.term(), &expected);
        assert_eq!(relative.scope(), Scope::MedianOverTrials);
        assert_eq!(relative.peers().collect::<Vec<_>>(), ["l7", "envoy-l4"]);
    }

    #[test]
    fn a_point_of_a_sweep_is_named_in_brackets() {
        let one =
            claim("l4[connections=64].max_share <= 1.1 * l7[load.connections = 64].max_share");
        assert_eq!(one.subject().to_string(), "l4[connections=64].max_share");
        let points: Vec<String> = one.points().map(ToString::to_string).collect();
        assert_eq!(points, ["connections=64", "load.connections=64"]);
        let decimals = claim("l4[payload=1.5KiB].max_share < 30%");
        assert_eq!(decimals.subject().point.as_ref().unwrap().value, "1.5KiB");
        assert_eq!(claim("l4.saturation_rate > 100/s").scope(), Scope::WholeRun);
    }

    #[test]
    fn shows_as_it_was_written() {
        for text in ["l4.max_share == 100%", "l7.latency_p50 <= direct.latency_p50 - 1us"] {
            assert_eq!(claim(text).to_string(), text);
        }
    }

    #[test]
    fn judges_values() {
        let p99 = Figure::LatencyP99;
        let values = [("l4", p99, 100.0), ("l7", p99, 19.0), ("l4", Figure::MaxShare, 1.0)];
        assert!(holds("l7.latency_p99 < 0.2 * l4.latency_p99", &values));
        assert!(!holds("l7.latency_p99 < 0.19 * l4.latency_p99", &values));
        assert!(holds("l7.latency_p99 <= 0.19 * l4.latency_p99", &values));
        assert!(!holds("l7.latency_p99 >= l4.latency_p99", &values));
        assert!(holds("l7.latency_p99 > l4.latency_p99 - 82ns", &values));
        assert!(holds("l4.max_share == 100%", &values));
        assert!(!holds("l4.max_share != 100%", &values));
    }

    #[test]
    fn a_missing_value_never_passes() {
        let nothing = |_: &Subject| None;
        let nan = |_: &Subject| Some(f64::NAN);
        for text in ["l4.max_share < 200%", "l4.max_share != 3%"] {
            assert!(claim(text).check(&nothing).is_err());
            assert!(claim(text).check(&nan).is_err());
        }
        let only_left = |subject: &Subject| (subject.peer == "l7").then_some(1.0);
        let error = claim("l7.latency_p99 < l4.latency_p99").check(&only_left).unwrap_err();
        assert_eq!(error.to_string(), "there is no value of `l4.latency_p99`");
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, expected) in [
            ("", "there is no comparison"),
            ("l4.max_share", "there is no comparison"),
            ("l4.max_share = 100%", "none of ==, !="),
            ("max_share == 100%", "expected a peer's quantity"),
            (".max_share == 100%", "no name of a peer"),
            ("l4.max_shar == 100%", "did you mean `max_share`?"),
            ("l4.max_share == 1", "a percentage such as `25%`, found `1`"),
            ("l4.max_share == 5ms", "a percentage such as `25%`"),
            ("l4.latency_p99 < 5", "a time with its unit"),
            ("l4.latency_p99 < 5%", "a time with its unit"),
            ("l4.latency_p99 <", "expected a peer's quantity"),
            ("l4.latency_p99 < fast * l7.latency_p99", "`fast` is no number"),
            ("l4.latency_p99 < inf * l7.latency_p99", "`inf` is no number"),
            ("l4.latency_p99 < l7.max_share", "can't be compared"),
            ("l4[64].max_share < 30%", "expected a point of the sweep"),
            ("l4[connections=].max_share < 30%", "expected a point of the sweep"),
            ("l4[connections=64] < 30%", "expected a peer's quantity"),
            ("l4[rate=64/s].saturation_rate < 30/s", "one for the whole run"),
            ("l4.saturation_rate < l7.throughput", "only one is a figure of the whole run"),
            ("l4.latency_p99 < l7.latency_p99 + 5", "a time with its unit"),
            ("l4.latency_p99 < l7.latency_p99 + 5ms + 5ms", "a time with its unit"),
        ] {
            let message = text.parse::<Claim>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}", tail in "[a-z0-9.<>=*+% -]{0,30}") {
            let _ = text.parse::<Claim>();
            let _ = format!("l4.latency_p99{tail}").parse::<Claim>();
        }
    }
}
