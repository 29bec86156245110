//! Two peers in one situation: which is better, by what, and what there is to say of it.

use measure::{figure::Figure, format};

use super::{
    super::{
        change,
        run_view::{Pair, RunView},
    },
    Choice,
    list::By,
};
use crate::{estimate::Difference, findings::Sentence, model::PeerView, verdict::Verdict};

/// What came out, under construction.
pub(super) struct Judged {
    /// How the one that balances calls serves beside the other.
    pub(super) verdict: Verdict,
    /// Whether it is better in one respect and worse in another.
    pub(super) is_trade: bool,
    pub(super) choices: Vec<Choice>,
    /// What decides.
    pub(super) headline: Sentence,
    /// What else there is to say.
    pub(super) sentence: Sentence,
    pub(super) anchors: Vec<&'static str>,
}

/// What came out between two peers, as far as the pair itself tells.
pub(super) fn of(view: &RunView<'_>, pair: Pair<'_, '_>, by: By) -> Judged {
    match by {
        By::Shares => shares(view, pair),
        By::Change => under_change(view, pair),
        By::Tail | By::Policy(_) | By::Sweep(..) | By::Fleet(..) | By::Search => tail(view, pair),
    }
}

/// How a peer serves beside another in a scenario, in each respect that counts.
fn respects(view: &RunView<'_>, own: &PeerView<'_>, other: &PeerView<'_>, by: By) -> Vec<Verdict> {
    let lost = Verdict::of_lost_calls(own, other);
    let tail = || Verdict::between(own, other, Figure::LatencyP99);
    match by {
        By::Shares => {
            let spread = Verdict::of(&own.beside(other, Figure::MaxShare));
            // Streams that are spread better and take longer for it are no better off;
            // otherwise how long they take is the service's doing.
            let against = tail() != Verdict::Inconclusive && tail() == spread.reversed();
            [spread, lost].into_iter().chain(against.then(tail)).collect()
        }
        By::Change => {
            let balance =
                change::balance(&change::settled(view, own), &change::settled(view, other));
            match (lost, balance) {
                // Where the one tells nothing, the other decides by itself.
                (Verdict::Inconclusive, Verdict::Better | Verdict::Worse) => vec![balance],
                (Verdict::Better | Verdict::Worse, Verdict::Inconclusive) => vec![lost],
                _ => vec![lost, balance],
            }
        }
        By::Tail | By::Policy(_) | By::Sweep(..) | By::Fleet(..) | By::Search => {
            vec![tail(), lost]
        }
    }
}

/// How a peer serves beside another in all respects together.
fn compare(view: &RunView<'_>, own: &PeerView<'_>, other: &PeerView<'_>, by: By) -> Verdict {
    respects(view, own, other, by).into_iter().fold(Verdict::Same, Verdict::and)
}

/// Whether a peer is better than another in one respect and worse in another: no repeats
/// will decide between them.
fn is_trade(view: &RunView<'_>, own: &PeerView<'_>, other: &PeerView<'_>, by: By) -> bool {
    let all = respects(view, own, other, by);
    all.contains(&Verdict::Better) && all.contains(&Verdict::Worse)
}

/// What the better one of a pair makes the right choice, with what it costs.
fn choose(
    view: &RunView<'_>,
    pair: Pair<'_, '_>,
    by: By,
    (headline, sentence): (Sentence, Sentence),
) -> Judged {
    let verdict = compare(view, pair.calls, pair.connections, by);
    let beside = pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall);
    let choices = match (verdict, beside.significant) {
        (Verdict::Better, _) | (Verdict::Same, Difference::Less) => vec![Choice::L7],
        (Verdict::Worse, _) | (Verdict::Same, Difference::Greater) => vec![Choice::L4],
        (Verdict::Same, _) => vec![Choice::L4, Choice::L7],
        (Verdict::Inconclusive, _) => Vec::new(),
    };
    let cost = match (beside.significant, beside.difference) {
        (Difference::Greater | Difference::Less, Some(difference)) => Sentence::default()
            .peer(pair.calls)
            .text("'s proxy used ")
            .durations(&difference.magnitude())
            .text(match beside.significant {
                Difference::Greater => " more CPU per call.",
                _ => " less CPU per call.",
            }),
        (Difference::NotSignificant, _) => Sentence::default()
            .text("There is no significant difference in their proxies' CPU per call."),
        _ => Sentence::default(),
    };
    // Where both serve alike, the cost decides.
    let decides = verdict == Verdict::Same && choices.len() == 1;
    let (mut headline, mut sentence) = (headline, sentence);
    let of_cost = if decides { &mut headline } else { &mut sentence };
    if !cost.0.is_empty() {
        *of_cost = std::mem::take(of_cost).start().followed_by(cost);
    }
    let is_trade = is_trade(view, pair.calls, pair.connections, by);
    Judged { verdict, is_trade, choices, headline, sentence, anchors: vec!["comparison"] }
}

fn tail(view: &RunView<'_>, pair: Pair<'_, '_>) -> Judged {
    let Pair { calls, connections } = pair;
    let beside = calls.beside(connections, Figure::LatencyP99);
    let mut sentence = Sentence::default();
    for peer in [connections, calls] {
        sentence = crate::findings::overloaded(peer, sentence);
    }
    if let Some((own, other)) = pair.both(Figure::LatencyP99) {
        let loop_word = view.model.loop_word();
        sentence = sentence
            .peer(calls)
            .text(&format!("'s {loop_word}p99 was "))
            .durations(&own)
            .text(" and ")
            .peer(connections)
            .text("'s ")
            .durations(&other);
        sentence = match (Verdict::of(&beside), beside.ratio) {
            (Verdict::Better | Verdict::Worse, Some(ratio)) => sentence.text(": ").ratio(&ratio),
            (Verdict::Same, Some(ratio)) => {
                sentence.text(", within 10 % of each other").ends(&ratio, "ratio")
            }
            (_, None) => sentence.text("; their ratio is meaningless"),
            (Verdict::Inconclusive, _) if beside.significant == Difference::TooFew => {
                sentence.text("; too few repeats for a verdict")
            }
            (Verdict::Inconclusive, Some(ratio)) => sentence
                .text("; whether they differ by more than 10 % is open")
                .ends(&ratio, "ratio"),
        };
        sentence = sentence.text(".");
    }
    let more = lost(pair, spread(pair, Sentence::default()));
    let mut judged = choose(view, pair, By::Tail, (sentence, more));
    judged.anchors = vec!["latency-percentiles", "shares"];
    judged
}

/// How evenly both spread the calls, where that can be told apart.
fn spread(pair: Pair<'_, '_>, sentence: Sentence) -> Sentence {
    let Pair { calls, connections } = pair;
    let significant = calls.beside(connections, Figure::MaxShare).significant;
    match pair.both(Figure::MaxShare) {
        Some((own, other))
            if significant != Difference::NotSignificant
                && (own.value - other.value).abs() >= 0.01 =>
        {
            sentence
                .start()
                .text("The busiest backend got ")
                .shares(&own)
                .text(" of the calls behind ")
                .peer(calls)
                .text(" and ")
                .shares(&other)
                .text(" behind ")
                .peer(connections)
                .text(".")
        }
        _ => sentence,
    }
}

/// How many calls both lost, if any.
fn lost(pair: Pair<'_, '_>, sentence: Sentence) -> Sentence {
    match pair.calls.lost().0 + pair.connections.lost().0 {
        0 => sentence,
        _ => lost_by_each(pair, sentence.start()),
    }
}

fn lost_by_each(Pair { calls, connections }: Pair<'_, '_>, sentence: Sentence) -> Sentence {
    if calls.lost().0 + connections.lost().0 == 0 {
        let sentence = sentence.text("Neither ").peer(calls).text(" nor ").peer(connections);
        return sentence.text(" lost a call.");
    }
    let sentence = sentence.peer(calls).text(" lost ").lost(calls).text(" and ").peer(connections);
    let sentence = sentence.text(" ").lost(connections);
    sentence.text(match Verdict::of_lost_calls(calls, connections) {
        Verdict::Inconclusive => "; no significant difference.",
        Verdict::Same | Verdict::Better | Verdict::Worse => ".",
    })
}

fn shares(view: &RunView<'_>, pair: Pair<'_, '_>) -> Judged {
    let Pair { calls, connections } = pair;
    let (mut sentence, mut more) = (Sentence::default(), Sentence::default());
    if let Some((own, other)) = pair.both(Figure::MaxShare) {
        sentence = sentence
            .text("The busiest backend got ")
            .shares(&own)
            .text(" of the streams with ")
            .peer(calls)
            .text(" and ")
            .shares(&other)
            .text(" with ")
            .peer(connections);
        let beside = calls.beside(connections, Figure::MaxShare);
        sentence = match (Verdict::of(&beside), beside.ratio) {
            (Verdict::Better | Verdict::Worse, Some(ratio)) => sentence.text(": ").ratio(&ratio),
            (Verdict::Same, _) => sentence.text(", within 10 % of each other"),
            (_, Some(_)) if beside.significant == Difference::TooFew => {
                sentence.text("; too few repeats for a verdict")
            }
            _ => sentence.text("; whether they differ by more than 10 % is open"),
        };
        sentence = tail_of_streams(view, pair, sentence.text("."));
        let even = view.model.even_share();
        let uneven = even.zip(own.interval).filter(|(even, (low, _))| *low > even * 1.1);
        if let Some((even, _)) = uneven {
            more = more.text("Even would be ").figure(format::share(even)).text(
                ": an L7 balancer picks a backend when a stream begins, and does not move it \
                       after that.",
            );
        }
    }
    let more = lost(pair, more);
    let mut judged = choose(view, pair, By::Shares, (sentence, more));
    judged.anchors = vec!["shares", "balance"];
    judged
}

/// How long streams took: what spreading them better may cost.
fn tail_of_streams(view: &RunView<'_>, pair: Pair<'_, '_>, sentence: Sentence) -> Sentence {
    let Pair { calls, connections } = pair;
    let beside = calls.beside(connections, Figure::LatencyP99);
    let both = pair.both(Figure::LatencyP99);
    let (Some((own, other)), Some(ratio)) = (both, beside.ratio) else { return sentence };
    let sentence = sentence
        .text(&format!(" The {}p99 of a stream was ", view.model.loop_word()))
        .durations(&own)
        .text(" with ")
        .peer(calls)
        .text(" and ")
        .durations(&other)
        .text(" with ")
        .peer(connections);
    match Verdict::of(&beside) {
        Verdict::Better | Verdict::Worse => sentence.text(": ").ratio(&ratio).text("."),
        _ => sentence.text("."),
    }
}

fn under_change(view: &RunView<'_>, pair: Pair<'_, '_>) -> Judged {
    let Pair { calls, connections } = pair;
    let lost = lost_by_each(pair, Sentence::default());
    let first = change::balance_after_first(view, calls, connections);
    let sentence = lost.start().followed_by(first);
    let more = change::balance_after_others(view, calls, connections);
    let mut judged = choose(view, pair, By::Change, (sentence, more));
    judged.anchors = vec!["share-over-time", "throughput", "balance"];
    judged
}

impl Judged {
    /// Whether a client alone would do as well, of each kind that was measured.
    pub(super) fn extend_to_clients(&mut self, view: &RunView<'_>, pair: Pair<'_, '_>, by: By) {
        let clients = view.clients();
        if clients.is_empty() {
            let sentence = std::mem::take(&mut self.sentence);
            self.sentence = sentence.start().text("Client-side balancing was not measured here.");
        }
        for client in clients {
            self.extend_to_client(view, pair, by, client);
        }
    }

    fn extend_to_client(
        &mut self,
        view: &RunView<'_>,
        pair: Pair<'_, '_>,
        by: By,
        client: &PeerView<'_>,
    ) {
        let choice = Choice::of_client(client);
        // Beside the better of the two; where neither is, beside the one of L7.
        let measure = match self.verdict {
            Verdict::Worse => pair.connections,
            _ => pair.calls,
        };
        let sentence = std::mem::take(&mut self.sentence).start().peer(client);
        let sentence = match (by, choice) {
            (By::Change, Choice::ClientDns) => sentence.text(", which resolves a name,"),
            (By::Change, _) => sentence.text(", which a control plane updates,"),
            _ => sentence,
        };
        let verdict = compare(view, client, measure, by);
        let sentence = match verdict {
            Verdict::Better => sentence.text(" did better still, without a proxy"),
            Verdict::Same => sentence.text(" did as well without a proxy"),
            Verdict::Worse => sentence.text(" did worse"),
            Verdict::Inconclusive if is_trade(view, client, measure, by) => {
                sentence.text(" did better in one respect and worse in another, without a proxy")
            }
            Verdict::Inconclusive => {
                sentence.text(" needs no proxy, and whether it did as well is open")
            }
        };
        let does_as_well = matches!(verdict, Verdict::Better | Verdict::Same);
        if does_as_well && self.verdict != Verdict::Inconclusive {
            self.choices.push(choice);
        }
        self.sentence = seal(view, by, [client, measure], sentence);
    }

    /// Whether the other programs that were measured in both layers agree.
    pub(super) fn extend_to_makes(&mut self, view: &RunView<'_>, by: By) {
        if self.verdict == Verdict::Inconclusive {
            return;
        }
        let makes = view.other_makes();
        let mut groups: [Vec<&PeerView<'_>>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        for make in &makes {
            let group = match compare(view, make.calls, make.connections, by) {
                verdict if verdict == self.verdict => 0,
                Verdict::Inconclusive => 2,
                _ => 1,
            };
            groups[group].push(make.calls);
        }
        let words = [
            ("The same holds for ", " compared with their own L4."),
            ("The result differs for ", " compared with their own L4."),
            ("It is open for ", " compared with their own L4."),
        ];
        for (peers, (before, after)) in groups.iter().zip(words) {
            if !peers.is_empty() {
                let sentence = std::mem::take(&mut self.sentence);
                self.sentence = sentence.start().text(before).peers(peers).text(after);
            }
        }
    }
}

/// The figure of the client that it was judged by.
fn seal(
    view: &RunView<'_>,
    by: By,
    [client, other]: [&PeerView<'_>; 2],
    sentence: Sentence,
) -> Sentence {
    let sentence = match by {
        By::Shares => match client.estimate(Figure::MaxShare) {
            Some(share) => sentence.text(": busiest backend ").shares(&share),
            None => sentence,
        },
        By::Change => {
            change::balance_beside(view, [client, other], sentence.text(": it lost ").lost(client))
        }
        By::Tail | By::Policy(_) | By::Sweep(..) | By::Fleet(..) | By::Search => {
            match client.estimate(Figure::LatencyP99) {
                Some(p99) => sentence.text(": p99 ").durations(&p99),
                None => sentence,
            }
        }
    };
    sentence.text(".")
}
