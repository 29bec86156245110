//! Two peers in one situation: which is better, by what, and what there is to say of it.

use measure::{figure::Figure, format};

use super::{
    super::{
        change,
        run_view::{Pair, RunView},
    },
    By, Choice,
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
    pub(super) says: Sentence,
    pub(super) anchors: Vec<&'static str>,
}

/// How a peer serves beside another in a scenario, in each respect that counts.
fn respects(seen: &RunView<'_>, own: &PeerView<'_>, other: &PeerView<'_>, by: By) -> Vec<Verdict> {
    let lost = Verdict::of_lost_calls(own, other);
    let tail = || Verdict::between(own, other, Figure::LatencyP99);
    match by {
        By::Shares => {
            let spread = Verdict::of(&own.beside(other, Figure::MaxShare));
            // Streams that are spread better and take longer for it are no better off;
            // otherwise how long they take is the service's doing.
            let against = tail() != Verdict::CannotTell && tail() == spread.reversed();
            [spread, lost].into_iter().chain(against.then(tail)).collect()
        }
        By::Change => {
            let balance =
                change::balance(&change::settled(seen, own), &change::settled(seen, other));
            match (lost, balance) {
                // Where the one tells nothing, the other decides by itself.
                (Verdict::CannotTell, Verdict::Better | Verdict::Worse) => vec![balance],
                (Verdict::Better | Verdict::Worse, Verdict::CannotTell) => vec![lost],
                _ => vec![lost, balance],
            }
        }
        By::Tail | By::Policy(_) | By::Sweep(..) | By::Fleet(..) | By::Search => {
            vec![tail(), lost]
        }
    }
}

/// How a peer serves beside another in all respects together.
fn compare(seen: &RunView<'_>, own: &PeerView<'_>, other: &PeerView<'_>, by: By) -> Verdict {
    respects(seen, own, other, by).into_iter().fold(Verdict::Same, Verdict::and)
}

/// Whether a peer is better than another in one respect and worse in another: no repeats
/// will decide between them.
fn is_trade(seen: &RunView<'_>, own: &PeerView<'_>, other: &PeerView<'_>, by: By) -> bool {
    let all = respects(seen, own, other, by);
    all.contains(&Verdict::Better) && all.contains(&Verdict::Worse)
}

/// What the better one of a pair makes the right choice, with what it costs.
fn choose(
    seen: &RunView<'_>,
    pair: Pair<'_, '_>,
    by: By,
    (headline, says): (Sentence, Sentence),
) -> Judged {
    let verdict = compare(seen, pair.calls, pair.connections, by);
    let beside = pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall);
    let choices = match (verdict, beside.significant) {
        (Verdict::Better, _) | (Verdict::Same, Difference::Less) => vec![Choice::L7],
        (Verdict::Worse, _) | (Verdict::Same, Difference::Greater) => vec![Choice::L4],
        (Verdict::Same, _) => vec![Choice::L4, Choice::L7],
        (Verdict::CannotTell, _) => Vec::new(),
    };
    let says = match (beside.significant, beside.difference) {
        (Difference::Greater, Some(difference)) => says
            .start()
            .peer(pair.calls)
            .text("'s proxy used ")
            .durations(&difference)
            .text(" more CPU per call."),
        (Difference::Less, Some(difference)) => says
            .start()
            .peer(pair.calls)
            .text("'s proxy used ")
            .durations(&difference.magnitude())
            .text(" less CPU per call."),
        (Difference::CannotTell, _) => {
            says.start().text("There is no significant difference in their proxies' CPU per call.")
        }
        _ => says,
    };
    let is_trade = is_trade(seen, pair.calls, pair.connections, by);
    Judged { verdict, is_trade, choices, headline, says, anchors: vec!["comparison"] }
}

pub(super) fn tail(seen: &RunView<'_>, pair: Pair<'_, '_>) -> Judged {
    let Pair { calls, connections } = pair;
    let beside = calls.beside(connections, Figure::LatencyP99);
    let (own, other) =
        (calls.estimate(Figure::LatencyP99), connections.estimate(Figure::LatencyP99));
    let mut says = Sentence::default();
    for peer in [connections, calls] {
        says = crate::findings::overloaded(peer, says);
    }
    if let (Some(own), Some(other)) = (own, other) {
        let loop_word = seen.model.loop_word();
        says = says
            .peer(calls)
            .text(&format!("'s {loop_word}p99 was "))
            .durations(&own)
            .text(" and ")
            .peer(connections)
            .text("'s ")
            .durations(&other);
        says = match (Verdict::of(&beside), beside.ratio) {
            (Verdict::Better | Verdict::Worse, Some(ratio)) => says.text(": ").ratio(&ratio),
            (Verdict::Same, Some(ratio)) => {
                says.text(", within 10 % of each other").ends(&ratio, "ratio")
            }
            (_, None) => says.text("; their ratio is meaningless"),
            (Verdict::CannotTell, _) if beside.significant == Difference::TooFew => {
                says.text("; too few repeats for a verdict")
            }
            (Verdict::CannotTell, Some(ratio)) => {
                says.text("; whether they differ by more than 10 % is open").ends(&ratio, "ratio")
            }
        };
        says = says.text(".");
    }
    let more = lost(pair, spread(pair, Sentence::default()));
    let mut judged = choose(seen, pair, By::Tail, (says, more));
    judged.anchors = vec!["latency-percentiles", "shares"];
    judged
}

/// How evenly both spread the calls, where that can be told apart.
fn spread(pair: Pair<'_, '_>, says: Sentence) -> Sentence {
    let Pair { calls, connections } = pair;
    let told = calls.beside(connections, Figure::MaxShare).significant;
    match (calls.estimate(Figure::MaxShare), connections.estimate(Figure::MaxShare)) {
        (Some(own), Some(other))
            if told != Difference::CannotTell && (own.value - other.value).abs() >= 0.01 =>
        {
            says.start()
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
        _ => says,
    }
}

/// How many calls both lost, if any.
fn lost(pair: Pair<'_, '_>, says: Sentence) -> Sentence {
    match pair.calls.lost().0 + pair.connections.lost().0 {
        0 => says,
        _ => lost_by_each(pair, says.start()),
    }
}

fn lost_by_each(Pair { calls, connections }: Pair<'_, '_>, says: Sentence) -> Sentence {
    if calls.lost().0 + connections.lost().0 == 0 {
        let says = says.text("Neither ").peer(calls).text(" nor ").peer(connections);
        return says.text(" lost a call.");
    }
    let says = says.peer(calls).text(" lost ").lost(calls).text(" and ").peer(connections);
    let says = says.text(" ").lost(connections);
    says.text(match Verdict::of_lost_calls(calls, connections) {
        Verdict::CannotTell => "; no significant difference.",
        Verdict::Same | Verdict::Better | Verdict::Worse => ".",
    })
}

pub(super) fn shares(seen: &RunView<'_>, pair: Pair<'_, '_>) -> Judged {
    let Pair { calls, connections } = pair;
    let (mut says, mut more) = (Sentence::default(), Sentence::default());
    if let (Some(own), Some(other)) =
        (calls.estimate(Figure::MaxShare), connections.estimate(Figure::MaxShare))
    {
        says = says
            .text("The busiest backend got ")
            .shares(&own)
            .text(" of the streams with ")
            .peer(calls)
            .text(" and ")
            .shares(&other)
            .text(" with ")
            .peer(connections);
        let beside = calls.beside(connections, Figure::MaxShare);
        says = match (Verdict::of(&beside), beside.ratio) {
            (Verdict::Better | Verdict::Worse, Some(ratio)) => says.text(": ").ratio(&ratio),
            (Verdict::Same, _) => says.text(", within 10 % of each other"),
            (_, Some(_)) if beside.significant == Difference::TooFew => {
                says.text("; too few repeats for a verdict")
            }
            _ => says.text("; whether they differ by more than 10 % is open"),
        };
        says = tail_of_streams(seen, pair, says.text("."));
        let even = seen.model.even_share();
        let uneven = even.zip(own.interval).filter(|(even, (low, _))| *low > even * 1.1);
        if let Some((even, _)) = uneven {
            more = more.text("Even would be ").figure(format::share(even)).text(
                ": an L7 balancer picks a backend when a stream begins, and does not move it \
                       after that.",
            );
        }
    }
    let more = lost(pair, more);
    let mut judged = choose(seen, pair, By::Shares, (says, more));
    judged.anchors = vec!["shares", "balance"];
    judged
}

/// How long streams took: what spreading them better may cost.
fn tail_of_streams(seen: &RunView<'_>, pair: Pair<'_, '_>, says: Sentence) -> Sentence {
    let Pair { calls, connections } = pair;
    let beside = calls.beside(connections, Figure::LatencyP99);
    let both = (calls.estimate(Figure::LatencyP99), connections.estimate(Figure::LatencyP99));
    let ((Some(own), Some(other)), Some(ratio)) = (both, beside.ratio) else { return says };
    let says = says
        .text(&format!(" The {}p99 of a stream was ", seen.model.loop_word()))
        .durations(&own)
        .text(" with ")
        .peer(calls)
        .text(" and ")
        .durations(&other)
        .text(" with ")
        .peer(connections);
    match Verdict::of(&beside) {
        Verdict::Better | Verdict::Worse => says.text(": ").ratio(&ratio).text("."),
        _ => says.text("."),
    }
}

pub(super) fn under_change(seen: &RunView<'_>, pair: Pair<'_, '_>) -> Judged {
    let Pair { calls, connections } = pair;
    let lost = lost_by_each(pair, Sentence::default());
    let first = change::balance_after_first(seen, calls, connections);
    let mut says = lost.clone().start();
    says.0.extend(first.0);
    let more = change::balance_after_others(seen, calls, connections);
    let mut judged = choose(seen, pair, By::Change, (says, more));
    judged.anchors = vec!["share-over-time", "throughput", "balance"];
    judged
}

impl Judged {
    /// Whether a client alone would do as well, of each kind that was measured.
    pub(super) fn extend_to_clients(&mut self, seen: &RunView<'_>, pair: Pair<'_, '_>, by: By) {
        let clients = seen.clients();
        if clients.is_empty() {
            let says = std::mem::take(&mut self.says);
            self.says = says.start().text("Client-side balancing was not measured here.");
        }
        for client in clients {
            self.extend_to_client(seen, pair, by, client);
        }
    }

    fn extend_to_client(
        &mut self,
        seen: &RunView<'_>,
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
        let says = std::mem::take(&mut self.says).start().peer(client);
        let says = match (by, choice) {
            (By::Change, Choice::ClientDns) => says.text(", which resolves a name,"),
            (By::Change, _) => says.text(", which a control plane updates,"),
            _ => says,
        };
        let verdict = compare(seen, client, measure, by);
        let says = match verdict {
            Verdict::Better => says.text(" did better still, without a proxy"),
            Verdict::Same => says.text(" did as well without a proxy"),
            Verdict::Worse => says.text(" did worse"),
            Verdict::CannotTell if is_trade(seen, client, measure, by) => {
                says.text(" did better in one respect and worse in another, without a proxy")
            }
            Verdict::CannotTell => says.text(" needs no proxy, and whether it did as well is open"),
        };
        let does_as_well = matches!(verdict, Verdict::Better | Verdict::Same);
        if does_as_well && self.verdict != Verdict::CannotTell {
            self.choices.push(choice);
        }
        self.says = seal(seen, by, [client, measure], says);
    }

    /// Whether the other programs that were measured in both layers agree.
    pub(super) fn extend_to_makes(&mut self, seen: &RunView<'_>, by: By) {
        if self.verdict == Verdict::CannotTell {
            return;
        }
        let makes = seen.other_makes();
        let mut groups: [Vec<&PeerView<'_>>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        for make in &makes {
            let group = match compare(seen, make.calls, make.connections, by) {
                verdict if verdict == self.verdict => 0,
                Verdict::CannotTell => 2,
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
                let says = std::mem::take(&mut self.says);
                self.says = says.start().text(before).peers(peers).text(after);
            }
        }
    }
}

/// The figure of the client that it was judged by.
fn seal(
    seen: &RunView<'_>,
    by: By,
    [client, other]: [&PeerView<'_>; 2],
    says: Sentence,
) -> Sentence {
    let says = match by {
        By::Shares => match client.estimate(Figure::MaxShare) {
            Some(share) => says.text(": busiest backend ").shares(&share),
            None => says,
        },
        By::Change => {
            change::balance_beside(seen, [client, other], says.text(": it lost ").lost(client))
        }
        By::Tail | By::Policy(_) | By::Sweep(..) | By::Fleet(..) | By::Search => {
            match client.estimate(Figure::LatencyP99) {
                Some(p99) => says.text(": p99 ").durations(&p99),
                None => says,
            }
        }
    };
    says.text(".")
}
