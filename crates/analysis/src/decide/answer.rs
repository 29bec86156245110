//! What is said first: the situations that everything turns on, the cost, and where
//! both are even. Only what was measured; what was not stands with its command in the
//! list of situations.

use super::{BreakEven, Costs, Finding, Situation, Status};
use crate::findings::Sentence;

/// Situations the answer begins with.
const FIRST: [&str; 5] =
    ["single-conn-flood", "many-conns", "connection-sweep", "backend-crash", "saturation"];

pub(super) fn of(
    situations: &[Situation],
    costs: Option<&Costs>,
    break_even: &[BreakEven],
) -> Vec<Finding> {
    let mut answer = Vec::new();
    let measured = |finding: &Finding| finding.status != Status::NotMeasured;
    for id in FIRST {
        let found = situations.iter().find(|one| one.finding.id == id);
        if let Some(one) = found.filter(|one| measured(&one.finding)) {
            answer.push(opened(one));
        }
    }
    // A results folder may have none of these, and still an answer.
    if answer.is_empty() {
        answer.extend(situations.iter().filter(|one| measured(&one.finding)).take(2).map(opened));
    }
    let costs = costs.map(|costs| costs.findings.as_slice()).unwrap_or_default();
    answer.extend(costs.iter().filter(|finding| measured(finding)).cloned());
    // One a load: the first is of the pair that sentences are about.
    let mut named: Vec<&str> = Vec::new();
    for one in
        break_even.iter().filter(|one| one.finding.status == Status::Conclusive && !one.is_point)
    {
        if !named.contains(&one.finding.id.as_str()) {
            named.push(&one.finding.id);
            answer.push(one.finding.clone());
        }
    }
    answer
}

/// A situation's finding with the situation and the choices in front.
fn opened(situation: &Situation) -> Finding {
    let choices: Vec<&str> = situation.choices.iter().map(|choice| choice.words()).collect();
    let sentence = Sentence::default().text(&situation.opening(":"));
    let sentence = match situation.finding.status {
        // It asks for no choice, but where something turns, or how much.
        Status::Conclusive if choices.is_empty() => sentence,
        Status::Conclusive => sentence.figure(choices.join(" or ")).text(". "),
        _ => sentence.figure("the data can't tell").text(". "),
    };
    let sentence = sentence.followed_by(situation.finding.sentence.clone());
    Finding { sentence, ..situation.finding.clone() }
}
