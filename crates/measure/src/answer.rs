//! What decides a scenario's question, and the sentence that answers it in each outcome.
//!
//! A sentence is written as it will be read, with holes in braces:
//! `L7 kept its p99 at {l7.latency_p99}, {change} than L4.` A hole is
//!
//! ```text
//! hole = peer [ "[" point "]" ] "." quantity | "change" | "turn"
//! point = a value of the sweep, or two as in "none..both": what the second adds
//! peer = the name of one, "all" (a ranking, the lowest first) or "best" (the lowest)
//! quantity = a figure | "load" | "growth" | "lost" | "lost_over" | "balance"
//! ```

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figure::Figure;

/// What answers a question: the decisive figure of one peer beside another's, and the
/// sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The decisive figure.
    pub figure: Figure,
    /// The peer asked about, and the one that it is compared with.
    pub peers: [String; 2],
    /// The value of a sweep at which the two are compared; without one, a sweep is answered
    /// by `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "16000/s")]
    pub at: Option<String>,
    /// Where the first has less of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "Behind L7 the p99 was {l7.latency_p99}, {change} than behind L4.")]
    pub less: Option<Template>,
    /// Where the first has more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "Behind L7 the p99 was {change} than behind L4.")]
    pub greater: Option<Template>,
    /// Where there is no significant difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        example = "There is no significant difference in p99: {l7.latency_p99} and {l4.latency_p99}."
    )]
    pub alike: Option<Template>,
    /// Where the second is overloaded and the first is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "L4 was offered {l4.load} what it served.")]
    pub overloaded: Option<Template>,
    /// Whatever came out, where none of the others is given for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<Template>,
}

impl Answer {
    /// Whether it rests on a figure, or states it in any outcome.
    pub fn shows(&self, figure: Figure) -> bool {
        self.figure == figure || self.quantities().any(|own| own == Quantity::Figure(figure))
    }

    /// Whether it is about a peer, in any outcome.
    pub fn is_about(&self, name: &str) -> bool {
        let names = |part: &Part| match part {
            Part::Hole { peer: Whose::Peer(own), .. } => own == name,
            Part::Hole { peer: Whose::All | Whose::Best, .. } => true,
            Part::Text(_) | Part::Change | Part::Turn => false,
        };
        self.peers.iter().any(|own| own == name)
            || self.templates().any(|(_, template)| template.parts().iter().any(names))
    }

    /// What stands in the holes of its sentences.
    pub fn quantities(&self) -> impl Iterator<Item = Quantity> {
        let parts = self.templates().flat_map(|(_, template)| template.parts());
        parts.filter_map(|part| match part {
            Part::Hole { quantity, .. } => Some(*quantity),
            Part::Text(_) | Part::Change | Part::Turn => None,
        })
    }

    /// Every sentence that is given, with its key.
    pub fn templates(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        let all = [
            ("less", &self.less),
            ("greater", &self.greater),
            ("alike", &self.alike),
            ("overloaded", &self.overloaded),
            ("always", &self.always),
        ];
        all.into_iter().filter_map(|(key, template)| Some((key, template.as_ref()?)))
    }
}

/// A sentence with holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

/// A part of a sentence with holes.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Words as they are.
    Text(String),
    /// How the decisive figure of the first peer stands to the second's: `2.4 times lower`.
    Change,
    /// From which point of a sweep on the decisive figure of the first peer is near the
    /// second's, in a sentence of its own.
    Turn,
    /// A quantity of a peer.
    Hole {
        /// Whose.
        peer: Whose,
        /// At which point of a sweep; two of them, as in `none..both`, for what the second
        /// adds to the first.
        point: Option<String>,
        /// What.
        quantity: Quantity,
    },
}

/// Whose quantity stands in a hole.
#[derive(Clone, Debug, PartialEq)]
pub enum Whose {
    /// That of one peer.
    Peer(String),
    /// Those of all, the lowest first.
    All,
    /// That of the peer that has the least, and who can't be told from it.
    Best,
}

/// What stands in a hole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// A figure.
    Figure(Figure),
    /// What an overloaded peer is offered, over what it serves.
    Load,
    /// Seconds that its delay grows by in a second of the load.
    Growth,
    /// Calls that failed or had no answer, with their part of all.
    Lost,
    /// The same, and how long after the first change of the backends the last call failed.
    LostOver,
    /// Time until calls were balanced after the last change of the backends.
    Balance,
}

/// A sentence whose holes are not what they have to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its other.
    #[error("a brace is open or closed without its other in `{0}`")]
    Brace(String),
    /// A hole that is none.
    #[error(
        "`{{{0}}}` is no hole; write `{{change}}`, `{{turn}}`, or a peer and what of it, as in \
         `{{l7.latency_p99}}`: a figure, `load`, `growth`, `lost`, \
         `lost_over` or `balance`"
    )]
    Hole(String),
}

impl Template {
    /// Its parts in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The peers it names.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole { peer: Whose::Peer(name), .. } => Some(name.as_str()),
            _ => None,
        })
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let source = text.trim().to_owned();
        let mut parts = Vec::new();
        let mut rest = source.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (hole, behind) =
                after.split_once('}').ok_or_else(|| TemplateError::Brace(source.clone()))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(hole.parse()?);
            rest = behind;
        }
        if rest.contains('}') {
            return Err(TemplateError::Brace(source));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { source, parts })
    }
}

impl FromStr for Part {
    type Err = TemplateError;

    /// What stands between braces.
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text {
            "change" => return Ok(Self::Change),
            "turn" => return Ok(Self::Turn),
            _ => {}
        }
        let no_hole = || TemplateError::Hole(text.to_owned());
        let (owner, quantity) = text.rsplit_once('.').ok_or_else(no_hole)?;
        let (name, point) = match owner.split_once('[') {
            Some((name, point)) => {
                (name, Some(point.strip_suffix(']').ok_or_else(no_hole)?.to_owned()))
            }
            None => (owner, None),
        };
        if name.is_empty() {
            return Err(no_hole());
        }
        let peer = match name {
            "all" => Whose::All,
            "best" => Whose::Best,
            name => Whose::Peer(name.to_owned()),
        };
        let quantity = match quantity {
            "load" => Quantity::Load,
            "growth" => Quantity::Growth,
            "lost" => Quantity::Lost,
            "lost_over" => Quantity::LostOver,
            "balance" => Quantity::Balance,
            name => Quantity::Figure(name.parse().map_err(|_| no_hole())?),
        };
        Ok(Self::Hole { peer, point, quantity })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.source
    }
}

impl JsonSchema for Template {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_read_with_its_holes() {
        let template: Template =
            "L4 took {l4[tls=both].latency_p99}, {change}; {best.max_share}.".parse().unwrap();
        let hole = |peer, point: Option<&str>, figure| Part::Hole {
            peer,
            point: point.map(str::to_owned),
            quantity: Quantity::Figure(figure),
        };
        assert_eq!(
            template.parts(),
            [
                Part::Text("L4 took ".into()),
                hole(Whose::Peer("l4".into()), Some("tls=both"), Figure::LatencyP99),
                Part::Text(", ".into()),
                Part::Change,
                Part::Text("; ".into()),
                hole(Whose::Best, None, Figure::MaxShare),
                Part::Text(".".into()),
            ]
        );
        assert_eq!(template.peers().collect::<Vec<_>>(), ["l4"]);
        let json = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
        for wrong in ["{l4.latency_p9}", "{p99}", "{.lost}", "{l4[a.lost}", "{l4.lost", "l4.lost}"]
        {
            assert!(wrong.parse::<Template>().is_err(), "{wrong}");
        }
    }
}
