//! What becomes of calls when backends come and go: how many are lost, and how long
//! it takes until the others, or the one that came, have what they are due.

use measure::{format, record::Layer, statistics::median};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Evidence, Value,
    run_view::{RunView, lost_rate},
};
use crate::{
    estimate::FEWEST_REPEATS,
    findings::Sentence,
    model::{Mark, PeerView},
    settling,
    verdict::Verdict,
};

/// One peer in a scenario in which something happens to backends.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Change {
    /// The run.
    pub evidence: Evidence,
    /// The peer.
    pub peer: String,
    /// Its layer.
    pub layer: Option<Layer>,
    /// Its mark.
    #[serde(skip)]
    pub mark: Mark,
    /// Calls that failed or had no answer.
    pub lost_calls: u64,
    /// Their part of all.
    pub lost_rate: Option<Value>,
    /// Each thing that happened.
    pub faults: Vec<FaultSettled>,
}

/// Something that happened, and how long until calls were in balance again.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FaultSettled {
    /// What: `kill`, `start`, `drain`, ...
    pub action: String,
    /// To which backend.
    pub backend: String,
    /// When, in seconds from the start of the measured window.
    pub at_s: f64,
    /// Seconds until balance in each repeat in which it can be told; none for never.
    pub until_balance_s: Vec<Option<f64>>,
    /// What these are read to, in seconds: less is no difference.
    pub resolution_s: f64,
    /// All repeats, with those too short to tell.
    pub repeats: usize,
}

impl FaultSettled {
    /// The middle repeat; infinite for never, none where it can't be told.
    pub fn middle(&self) -> Option<f64> {
        let times: Vec<f64> =
            self.until_balance_s.iter().map(|time| time.unwrap_or(f64::INFINITY)).collect();
        median(&times)
    }

    /// Whether any repeat went on for long enough to tell.
    pub fn is_known(&self) -> bool {
        !self.until_balance_s.is_empty()
    }

    /// In every repeat, and by more than can be seen.
    fn is_sooner(&self, other: &Self) -> bool {
        let resolution_s = self.resolution_s.max(other.resolution_s);
        let ends = self.ends().zip(other.ends());
        ends.is_some_and(|((_, latest), (soonest, _))| latest + resolution_s < soonest)
    }

    fn ends(&self) -> Option<(f64, f64)> {
        let times = || self.until_balance_s.iter().map(|time| time.unwrap_or(f64::INFINITY));
        Some((times().reduce(f64::min)?, times().reduce(f64::max)?))
    }
}

pub(super) fn of(views: &[RunView<'_>]) -> Vec<Change> {
    views
        .iter()
        .filter(|one| happens(one))
        .flat_map(|one| one.model.measured().map(move |peer| row(one, peer)))
        .collect()
}

/// Whether something happens to backends in a run.
pub(super) fn happens(view: &RunView<'_>) -> bool {
    view.chosen.run.trials.iter().any(|trial| !trial.faults.is_empty())
}

fn row(view: &RunView<'_>, peer: &PeerView<'_>) -> Change {
    Change {
        evidence: view.cite("share-over-time"),
        peer: peer.name.clone(),
        layer: peer.setup.map(|setup| setup.layer),
        mark: peer.mark,
        lost_calls: peer.lost().0,
        lost_rate: lost_rate(peer).map(Value::from),
        faults: settled(view, peer),
    }
}

pub(super) fn settled(view: &RunView<'_>, peer: &PeerView<'_>) -> Vec<FaultSettled> {
    settling::of(&view.model, peer)
        .into_iter()
        .map(|one| FaultSettled {
            action: one.fault.action.clone(),
            backend: one.fault.backend.clone(),
            at_s: one.fault.done_s,
            repeats: one.after.len(),
            resolution_s: one.bin_s,
            until_balance_s: one
                .times()
                .into_iter()
                .map(|time| Some(time).filter(|time| time.is_finite()))
                .collect(),
        })
        .collect()
}

/// How soon calls of one peer are in balance again, beside another's: better is sooner
/// after some fault in every repeat and later after none, the same is within the second
/// that can be seen after each.
pub(super) fn balance(own: &[FaultSettled], other: &[FaultSettled]) -> Verdict {
    let (mut sooner, mut later, mut alike) = (false, false, !own.is_empty());
    for (own, other) in own.iter().zip(other) {
        let repeats = own.until_balance_s.len().min(other.until_balance_s.len());
        let (Some(a), Some(b)) = (own.ends(), other.ends()) else {
            alike = false;
            continue;
        };
        if repeats < FEWEST_REPEATS {
            alike = false;
            continue;
        }
        let resolution_s = own.resolution_s.max(other.resolution_s);
        sooner |= own.is_sooner(other);
        later |= other.is_sooner(own);
        let both_never = a.0.is_infinite() && b.0.is_infinite();
        alike &= both_never || (a.1.max(b.1) - a.0.min(b.0)) <= resolution_s;
    }
    match (sooner, later) {
        (true, false) => Verdict::Better,
        (false, true) => Verdict::Worse,
        (false, false) if alike => Verdict::Same,
        _ => Verdict::Inconclusive,
    }
}

/// What two peers did after the same fault.
type Pair<'a> = (&'a FaultSettled, &'a FaultSettled);

/// The faults after which it is told how long one of two peers took to be in balance, the
/// one that decides first: the first that tells them apart, or else the first; and those after
/// which it is not told.
fn by_weight<'a>(
    own: &'a [FaultSettled],
    others: &'a [FaultSettled],
) -> (Vec<Pair<'a>>, Vec<Pair<'a>>) {
    let (mut known, unknown): (Vec<_>, Vec<_>) =
        own.iter().zip(others).partition(|(own, other)| own.is_known() || other.is_known());
    let apart = |(own, other): &Pair<'_>| own.is_sooner(other) || other.is_sooner(own);
    if let Some(decisive) = known.iter().position(apart) {
        known[..=decisive].rotate_right(1);
    }
    (known, unknown)
}

/// How long each of two peers took to be in balance after the fault that decides.
pub(super) fn balance_after_first(
    view: &RunView<'_>,
    one: &PeerView<'_>,
    other: &PeerView<'_>,
) -> Sentence {
    let (own, others) = (settled(view, one), settled(view, other));
    let (known, _) = by_weight(&own, &others);
    known.first().map_or(Sentence::default(), |(own, others)| {
        balance_after(Sentence::default(), (own, one), (others, other))
    })
}

/// How long the first of two peers took to be in balance after the fault that decides
/// between them.
pub(super) fn balance_beside(
    view: &RunView<'_>,
    peers: [&PeerView<'_>; 2],
    sentence: Sentence,
) -> Sentence {
    let [own, others] = peers.map(|peer| settled(view, peer));
    let (known, _) = by_weight(&own, &others);
    let Some((first, _)) = known.first().filter(|(own, _)| own.is_known()) else { return sentence };
    let sentence = sentence.text(&format!("; {}, calls were ", after(first)));
    match &*until(first) {
        "never" => sentence.figure("never").text(" balanced"),
        until => sentence.text("balanced ").figure(until),
    }
}

/// How long each of two peers took to be in balance after the other faults.
pub(super) fn balance_after_others(
    view: &RunView<'_>,
    one: &PeerView<'_>,
    other: &PeerView<'_>,
) -> Sentence {
    let (own, others) = (settled(view, one), settled(view, other));
    let (known, unknown) = by_weight(&own, &others);
    let mut sentence = Sentence::default();
    for (own, others) in known.iter().skip(1) {
        sentence = balance_after(sentence.start(), (own, one), (others, other));
    }
    let after = match &unknown[..] {
        [] => return sentence,
        [(fault, _)] => after(fault),
        _ if known.is_empty() => "after each of the changes".to_owned(),
        _ => format!("after the {} other changes", unknown.len()),
    };
    sentence.start().text(&format!(
        "How long it took until calls were balanced {after} is unknown: the next change came too soon."
    ))
}

/// How long two peers took to be in balance after the same fault, of which one at
/// least can be told.
fn balance_after(
    sentence: Sentence,
    one: (&FaultSettled, &PeerView<'_>),
    other: (&FaultSettled, &PeerView<'_>),
) -> Sentence {
    let mut known = [one, other].into_iter().filter(|(fault, _)| fault.is_known());
    let Some((first, peer)) = known.next() else { return sentence };
    let after = format!("A{}, calls were balanced ", &after(one.0)[1..]);
    let sentence = sentence.text(&after).figure(until(first)).text(" with ").peer(peer);
    match known.next() {
        Some((second, peer)) => {
            sentence.text(" and ").figure(until(second)).text(" with ").peer(peer).text(".")
        }
        None => {
            sentence.text("; for the other it is unknown, since the next change came too soon.")
        }
    }
}

/// `after the death of b1`
fn after(fault: &FaultSettled) -> String {
    format!("after {} of {}", deed(&fault.action), fault.backend)
}

fn deed(action: &str) -> String {
    match action {
        "kill" => "the death",
        "start" => "the return",
        "stop" => "the freeze",
        "continue" => "the end of the freeze",
        "drain" => "the drain",
        "add" => "the arrival",
        "remove" => "the removal",
        other => return format!("`{other}`"),
    }
    .to_owned()
}

/// A time until balance in words: `within 100 ms`, `never`, `in 2 of 3 repeats never`.
pub fn until(fault: &FaultSettled) -> String {
    let never = fault.until_balance_s.iter().filter(|time| time.is_none()).count();
    let all = fault.until_balance_s.len();
    let said = match (fault.middle(), never) {
        (None, _) => "over too soon to measure".to_owned(),
        (Some(_), never) if never == all => "never".to_owned(),
        (Some(middle), 0) => format!("within {}", format::duration(middle * 1e9)),
        (Some(_), never) => format!("never in {never} of {all} repeats"),
    };
    if all > 0 && all < fault.repeats {
        return format!("{said} (measured in {all} of {} repeats)", fault.repeats);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(times: &[Option<f64>]) -> FaultSettled {
        FaultSettled {
            action: "kill".into(),
            backend: "b1".into(),
            at_s: 1.0,
            repeats: times.len(),
            resolution_s: 1.0,
            until_balance_s: times.to_vec(),
        }
    }

    #[test]
    fn the_fault_that_decides_comes_first() {
        let soon = fault(&[Some(0.1), Some(0.1), Some(0.1)]);
        let never = fault(&[None; 3]);
        let own = [soon.clone(), soon.clone(), soon.clone()];
        let (first, last) = (soon.clone(), FaultSettled { backend: "b3".into(), ..soon.clone() });
        let others = [first, never.clone(), last];
        let (known, unknown) = by_weight(&own, &others);
        assert!(unknown.is_empty());
        let others: Vec<_> = known.iter().map(|(_, other)| (*other).clone()).collect();
        assert_eq!((&others[0], &*others[2].backend), (&never, "b3"));
    }

    #[test]
    fn sooner_takes_every_repeat_and_more_than_can_be_seen() {
        let soon = [fault(&[Some(0.9), Some(1.0), Some(0.8)])];
        let late = [fault(&[Some(2.9), None, Some(3.0)])];
        let never = [fault(&[None; 3])];
        assert_eq!(balance(&soon, &late), Verdict::Better);
        assert_eq!(balance(&never, &soon), Verdict::Worse);
        assert_eq!(balance(&never, &never), Verdict::Same);
        assert_eq!(balance(&soon, &[fault(&[Some(1.5), Some(0.5), Some(1.0)])]), Verdict::Same);
        assert_eq!(balance(&soon, &[fault(&[None, Some(0.9), None])]), Verdict::Inconclusive);
        assert_eq!(balance(&[fault(&[Some(0.9); 2])], &[fault(&[None; 2])]), Verdict::Inconclusive);
        assert_eq!(balance(&[], &[]), Verdict::Inconclusive);
        assert_eq!(late[0].middle(), Some(3.0));
        assert_eq!(never[0].middle(), Some(f64::INFINITY));
    }
}
