//! Calls without a socket: time and chance are passed in.

use std::rc::Rc;
use std::sync::Arc;

use balance::{PolicyKind, Tuning};
use h2_wire::hpack::Field;

use super::super::keys::PoolKey;
use super::super::targets::{Moment, Target, Targets};
use super::*;
use crate::config::BackendConfig;
use crate::failure::Progress;
use crate::retry::GrpcStatus;
use crate::upstreams::{Upstream, Upstreams};
use h2_wire::grpc::Status;

const MS: u64 = 1_000_000;

/// Two backends, and the calls of a thread.
struct Lab {
    calls: Calls,
    targets: Targets,
    now_ns: u64,
    kept_bytes: usize,
}

impl Lab {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(Vec::new(), PolicyKind::RoundRobin);
        change(&mut config);
        let backend = |port| BackendConfig::new(([127, 0, 0, 1], port).into());
        let all = [1, 2].map(|port| Upstream::new(&backend(port), &Arc::default()));
        let upstreams =
            Upstreams::new((PolicyKind::RoundRobin, Tuning::default(), None), &all, 0).unwrap();
        let set = Arc::clone(&upstreams.current());
        let target = |(upstream, token): (&Arc<Upstream>, u64)| Target {
            pool: PoolKey::from_token(token << 1),
            counters: Rc::new(upstream.counters(&config.metrics)),
        };
        let targets = Targets { set, list: all.iter().zip(0..).map(target).collect() };
        Self { calls: Calls::new(&config), targets, now_ns: 0, kept_bytes: 0 }
    }

    fn moment(&self) -> Moment {
        Moment { now_ns: self.now_ns, random: u64::MAX }
    }

    /// A call whose request is whole.
    fn call(&mut self, deadline_ns: Option<u64>) -> CallKey {
        let new = NewCall { is_grpc: true, is_ended: true, deadline_ns, ..NewCall::default() };
        self.calls.begin(new, &HeaderList::new(), &mut self.kept_bytes, self.now_ns)
    }

    /// Makes an attempt, on a connection of the backend that is picked.
    fn attempt(&mut self, key: CallKey) -> LinkKey {
        self.calls.next_attempt(key, &self.targets, self.moment()).unwrap();
        self.put(key)
    }

    fn put(&mut self, key: CallKey) -> LinkKey {
        let attempt = self.calls.all.live_mut(key).attempt.as_mut().unwrap();
        let link = link(attempt.index);
        attempt.place = Place::Stream(link, StreamKey::default());
        link
    }

    fn breaks(&mut self, link: LinkKey, key: CallKey, broken: Broken) -> Vec<String> {
        self.calls.focus(link, key);
        let failure = Failure::BackendBroke { backend: "b".to_owned() };
        self.calls.on_broken(key, failure, Outcome::Broken, broken, self.moment());
        self.effects()
    }

    /// Lets time pass up to the next moment that something is due at.
    fn wait(&mut self) -> Vec<String> {
        self.now_ns = self.calls.timers.next_at().unwrap();
        let due = self.calls.timers.pop(self.now_ns).unwrap();
        self.calls.on_due(due, &self.targets, self.moment());
        self.effects()
    }

    fn effects(&mut self) -> Vec<String> {
        let effects = std::iter::from_fn(|| self.calls.next_effect());
        let text = |effect| match effect {
            Effect::Attempt(_) => "attempt".to_owned(),
            Effect::Hedge(_) => "hedge".to_owned(),
            Effect::Reset { link, reason, .. } => format!("reset {link:?} {}", reason.0),
            Effect::Unqueue { .. } => "unqueue".to_owned(),
            Effect::Answer { answer: Answer::TrailersOnly { status, .. }, .. } => {
                format!("answer {}", status.as_str())
            }
            Effect::Answer { answer: Answer::Trailers { status, .. }, .. } => {
                format!("trailers {}", status.as_str())
            }
            Effect::Answer { answer, .. } => format!("{answer:?}"),
            Effect::End { outcome, .. } => format!("end {}", outcome.name()),
        };
        effects.map(text).collect()
    }

    fn in_flight(&self) -> u32 {
        self.targets.set.upstreams().iter().map(|one| one.backend().in_flight()).sum()
    }
}

fn link(index: usize) -> LinkKey {
    LinkKey::from_token((index as u64) << 1)
}

fn list(fields: &[(&str, &str)]) -> HeaderList {
    fields.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes())).collect()
}

fn status(status: Status) -> HeaderList {
    list(&[("grpc-status", status.as_str())])
}

fn retries_unavailable(config: &mut Config) {
    config.retry.retry_on = vec![GrpcStatus::UNAVAILABLE];
}

#[test]
fn what_no_backend_has_looked_at_is_tried_on_the_others_and_so_often() {
    let mut lab = Lab::new(|config| config.calls.max_attempts = 3);
    let call = lab.call(None);
    let mut links = Vec::new();
    for _ in 0..3 {
        let link = lab.attempt(call);
        assert_eq!(lab.breaks(link, call, Broken::Unprocessed), ["attempt"]);
        links.push(link);
    }
    assert_ne!(links[0], links[1], "the other backend comes first");
    assert!(lab.calls.next_attempt(call, &lab.targets, lab.moment()).is_none());
    assert!(lab.calls.give_up(call, lab.now_ns).is_none());
    assert_eq!(lab.effects(), ["answer 14", "end unsent"]);
    assert_eq!(lab.in_flight(), 0);
}

#[test]
fn what_a_backend_may_have_worked_on_fails_unless_a_policy_says_otherwise() {
    let mut lab = Lab::new(|_| {});
    let call = lab.call(None);
    let link = lab.attempt(call);
    assert_eq!(lab.breaks(link, call, Broken::Final), ["answer 14", "end broken"]);
    let mut lab = Lab::new(retries_unavailable);
    let call = lab.call(None);
    let first = lab.attempt(call);
    assert_eq!(lab.breaks(first, call, Broken::Final), [format!("reset {first:?} 0")]);
    assert_eq!(lab.wait(), ["attempt"]);
    assert_ne!(lab.attempt(call), first);
}

#[test]
fn a_client_is_told_in_the_way_that_what_it_has_got_allows() {
    for (bytes, told) in [(&b""[..], "trailers 14"), (b"\0\0\0\0\x05ab", "Reset { code: 2 }")] {
        let mut lab = Lab::new(retries_unavailable);
        let call = lab.call(None);
        let link = lab.attempt(call);
        let response = &mut lab.calls.all.live_mut(call).response;
        response.has_head = true;
        response.messages.advance(bytes);
        assert_ne!(response.progress(), Progress::BeforeHeaders);
        assert_eq!(lab.breaks(link, call, Broken::Final), [told, "end broken"]);
    }
}

#[test]
fn a_deadline_takes_the_attempt_back_and_leaves_nothing() {
    let mut lab = Lab::new(|_| {});
    let call = lab.call(Some(100));
    let link = lab.attempt(call);
    let reset = format!("reset {link:?} 8");
    assert_eq!(lab.wait(), [reset.as_str(), "answer 4", "end deadline"]);
    assert_eq!((lab.now_ns, lab.calls.timers.next_at(), lab.in_flight()), (100, None, 0));
    assert!(lab.calls.all.is_empty());
}

#[test]
fn a_call_that_waits_leaves_its_queue_when_its_client_goes() {
    let mut lab = Lab::new(|_| {});
    let call = lab.call(Some(100));
    let pool = lab.calls.next_attempt(call, &lab.targets, lab.moment()).unwrap();
    lab.calls.all.live_mut(call).attempt.as_mut().unwrap().place = Place::Waiting(pool);
    lab.calls.cancel(call, Reason::CANCEL, 0);
    assert_eq!(lab.effects(), ["unqueue", "end cancelled"]);
    lab.calls.cancel(call, Reason::CANCEL, 0);
    assert_eq!(lab.effects(), [""; 0], "it was over");
    assert_eq!(lab.calls.timers.next_at(), None);
}

#[test]
fn a_full_backend_is_remembered_when_no_other_is_left() {
    let mut lab = Lab::new(|_| {});
    let call = lab.call(None);
    let mut last = None;
    while let Some(pool) = lab.calls.next_attempt(call, &lab.targets, lab.moment()) {
        lab.calls.on_unsent(call, Failure::Overload { backend: "b".to_owned() }, 0);
        assert_eq!(lab.effects(), ["attempt"]);
        last = Some(pool);
    }
    assert_eq!(lab.calls.give_up(call, 0), last);
    assert_eq!(lab.effects(), [""; 0]);
    let limit = crate::circuit::Limit::Requests;
    lab.calls.reject(call, &Failure::CircuitOpen { backend: "b".to_owned(), limit }, 0);
    assert_eq!(lab.effects(), ["answer 14", "end unsent"]);
}

#[test]
fn an_answer_of_retry_on_is_kept_back_for_a_pause() {
    let mut lab = Lab::new(retries_unavailable);
    let call = lab.call(None);
    let link = lab.attempt(call);
    assert!(lab.calls.watches_head(call, true) && !lab.calls.watches_head(call, false));
    let answer = status(Status::Unavailable);
    assert!(lab.calls.on_head(link, call, &answer, true, lab.moment()));
    assert_eq!(lab.effects(), [format!("reset {link:?} 0")]);
    assert_eq!(lab.calls.timers.next_at(), Some(25 * MS), "the whole of the longest pause");
    assert_eq!(lab.wait(), ["attempt"]);
    let link = lab.attempt(call);
    let pushback = list(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "70")]);
    assert!(lab.calls.on_head(link, call, &pushback, true, lab.moment()));
    assert_eq!(lab.calls.timers.next_at(), Some(lab.now_ns + 70 * MS));
    lab.wait();
    let link = lab.attempt(call);
    assert!(!lab.calls.on_head(link, call, &status(Status::Internal), true, lab.moment()));
}

#[test]
fn retries_come_out_of_the_budget_and_give_back_what_they_took() {
    let mut lab = Lab::new(|config| {
        retries_unavailable(config);
        (config.retry.retry_budget, config.retry.retry_min_concurrency) = (0.0, 1);
    });
    let answer = status(Status::Unavailable);
    let calls = [lab.call(None), lab.call(None)];
    let links = calls.map(|call| lab.attempt(call));
    assert!(lab.calls.on_head(links[0], calls[0], &answer, true, lab.moment()));
    assert!(!lab.calls.on_head(links[1], calls[1], &answer, true, lab.moment()));
    lab.calls.cancel(calls[0], Reason::CANCEL, 0);
    assert!(lab.calls.on_head(links[1], calls[1], &answer, true, lab.moment()));
    lab.wait();
    lab.attempt(calls[1]);
    assert_eq!(lab.calls.budgeted, 1, "in flight");
    lab.calls.end(calls[1], Outcome::Ok, 0);
    assert_eq!(lab.calls.budgeted, 0);
}

#[test]
fn no_retry_is_planned_beyond_the_deadline() {
    let mut lab = Lab::new(retries_unavailable);
    let call = lab.call(Some(25 * MS));
    let link = lab.attempt(call);
    assert!(!lab.calls.on_head(link, call, &status(Status::Unavailable), true, lab.moment()));
}

/// A call whose hedge is on its way, and the connections of the two attempts.
fn hedged(lab: &mut Lab) -> (CallKey, [LinkKey; 2]) {
    let call = lab.call(None);
    let first = lab.attempt(call);
    assert_eq!(lab.wait(), ["hedge"]);
    let second = lab.put(call);
    assert_ne!(first, second);
    assert_eq!((lab.now_ns, lab.in_flight(), lab.calls.budgeted), (10 * MS, 2, 1));
    (call, [first, second])
}

fn hedges(config: &mut Config) {
    config.retry.hedge_delay = Some(Duration::from_millis(10));
}

#[test]
fn the_first_answer_settles_a_hedged_call_and_the_other_attempt_is_reset() {
    for winner in [0, 1] {
        let mut lab = Lab::new(hedges);
        let (call, links) = hedged(&mut lab);
        assert!(lab.calls.watches_head(call, false));
        let head = list(&[(":status", "200")]);
        assert!(!lab.calls.on_head(links[winner], call, &head, false, lab.moment()));
        assert_eq!(lab.effects(), [format!("reset {:?} 8", links[1 - winner])]);
        assert_eq!(lab.in_flight(), 1);
        let call = lab.calls.end(call, Outcome::Ok, lab.now_ns);
        assert_eq!((call.attempts, lab.in_flight(), lab.calls.budgeted), (2, 0, 0));
    }
}

#[test]
fn a_hedged_call_outlives_the_failure_of_either_attempt_but_not_of_both() {
    for first in [0, 1] {
        let mut lab = Lab::new(hedges);
        let (call, links) = hedged(&mut lab);
        let reset = format!("reset {:?} 0", links[first]);
        assert_eq!(lab.breaks(links[first], call, Broken::Final), [reset]);
        assert_eq!(lab.breaks(links[1 - first], call, Broken::Final), ["answer 14", "end broken"]);
        assert_eq!((lab.in_flight(), lab.calls.budgeted), (0, 0));
    }
}

#[test]
fn nothing_is_hedged_beyond_the_budget_or_before_the_request_is_whole() {
    let mut lab = Lab::new(|config| {
        hedges(config);
        (config.retry.retry_budget, config.retry.retry_min_concurrency) = (0.0, 0);
    });
    let call = lab.call(None);
    lab.attempt(call);
    assert_eq!(lab.wait(), [""; 0]);
    assert_eq!(lab.in_flight(), 1, "the first goes on");
    let mut lab = Lab::new(hedges);
    let call = lab.call(None);
    lab.attempt(call);
    lab.calls.all.live_mut(call).request.is_ended = false;
    assert_eq!(lab.wait(), [""; 0]);
}

#[test]
fn the_memory_of_a_call_is_used_again_and_its_key_is_not() {
    let mut lab = Lab::new(|_| {});
    let first = lab.call(None);
    let over = lab.calls.end(first, Outcome::Ok, 0);
    let memory = std::ptr::from_ref(&*over);
    lab.calls.recycle(over);
    let second = lab.call(None);
    assert_eq!(std::ptr::from_ref(&**lab.calls.all.live(second)), memory);
    assert!(lab.calls.all.get(first).is_none());
}
