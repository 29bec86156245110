//! What searches for the highest rate found, side by side.

use measure::{
    figure::Figure,
    record::{SearchLimit, SearchRecord},
    statistics::interval::ratio_of_runs,
    summary::{Saturation, saturation},
};

use super::{
    LEAST_SEARCHES, Row,
    rows::{Asked, How, judge},
};
use crate::verdict::Verdict;

/// What the searches of two runs found for a peer, side by side.
pub(super) fn row_of_search(
    peer: &str,
    (before, after): (&SearchRecord, &SearchRecord),
    asked: Asked,
) -> Option<Row> {
    let repeats = [before, after].map(|search| {
        search.results.iter().filter(|one| one.peer == peer).map(|one| one.held).collect::<Vec<_>>()
    });
    let enough = repeats.iter().all(|held| held.len() >= LEAST_SEARCHES);
    let nowhere = repeats.each_ref().map(|held| held.iter().all(Option::is_none));
    let found = [before, after].map(|search| saturation(search, peer));
    let (interval, verdict) = match (&found, nowhere) {
        ([None, None], _) => return None,
        ([Some(before), Some(after)], _) => {
            let interval = enough.then(|| ratio_of_rates(before, after, asked));
            (interval, judge(interval, asked.tolerance, false))
        }
        // No rate that was tried holds any more, or the first one does.
        ([Some(before), None], [_, true]) if enough && before.low > 0.0 => (None, Verdict::Worse),
        ([None, Some(after)], [true, _]) if enough && after.low > 0.0 => (None, Verdict::Better),
        _ => (None, Verdict::Inconclusive),
    };
    let rate = |found: &Option<Saturation>| found.as_ref().map_or(0.0, |found| found.rate);
    let [before, after] = found.each_ref().map(rate);
    Some(Row {
        peer: peer.to_owned(),
        figure: "rate that holds".to_owned(),
        before,
        after,
        ratio: after / before,
        interval,
        verdict,
        in_doubt: false,
        would_see: None,
        shown: Figure::SaturationRate,
    })
}

/// The ends of what the rates that held may be to each other: those that were seen, and
/// beyond them what runs move by. Where calls wait for a CPU a rate moves as the cost of
/// calls does; where they wait for the service it moves less, which is not known here.
fn ratio_of_rates(before: &Saturation, after: &Saturation, asked: Asked) -> (f64, f64) {
    let still = [1.0, 1.0];
    let moves = match asked.how {
        How::Apart(moves) => moves.cpu,
        How::Interleaved => 0.0,
    };
    let moved = ratio_of_runs(&still, &still, moves, asked.level);
    let widening = moved.and_then(|one| one.interval).map_or(f64::INFINITY, |one| one.high);
    // Where the generator or the list of rates came to its end, the peer's is not known.
    let highest = |found: &Saturation| {
        let ended_early =
            |limit: &SearchLimit| matches!(limit, SearchLimit::Generator | SearchLimit::Ceiling);
        let known = !found.limits.iter().any(ended_early);
        found.high.filter(|_| known).unwrap_or(f64::INFINITY)
    };
    (after.low / highest(before) / widening, highest(after) / before.low * widening)
}

#[cfg(test)]
mod tests {
    use super::{super::Moves, *};

    /// The row of a search that held up to each rate and not 5 % above.
    fn searched(before: &[f64], after: &[f64], limit: SearchLimit) -> Option<Row> {
        let search = |rates: &[f64]| SearchRecord {
            slo: vec!["p99 < 5ms".to_owned()],
            resolution: 0.05,
            results: (0..)
                .zip(rates)
                .map(|(repeat, &rate)| measure::record::SearchResult {
                    peer: "l7".to_owned(),
                    repeat,
                    held: (rate > 0.0).then_some(rate),
                    failed: Some(1.05 * rate.max(10.0)),
                    limit,
                })
                .collect(),
        };
        let asked = Asked { tolerance: 0.05, how: How::Apart(Moves::default()), level: 0.99 };
        let row = |searches| row_of_search("l7", searches, asked);
        row((&search(before), &search(after)))
    }

    #[test]
    fn the_rates_that_searches_found_are_compared() {
        let verdict = |before: &[f64], after: &[f64]| {
            searched(before, after, SearchLimit::Peer).map(|row| row.verdict)
        };
        let row = searched(&[807.0, 807.0, 769.0], &[210.0, 200.0, 210.0], SearchLimit::Peer);
        let row = row.unwrap();
        assert_eq!((row.before, row.after, row.verdict), (807.0, 210.0, Verdict::Worse));
        let (low, high) = row.interval.unwrap();
        assert!(low < 210.0 / 807.0 && high > 210.0 / 807.0 && high < 0.6, "{low} to {high}");
        assert_eq!(row.shown.show(row.before), "807/s");
        assert_eq!(verdict(&[210.0, 210.0], &[807.0, 807.0]), Some(Verdict::Better));
        assert_eq!(verdict(&[210.0, 210.0], &[200.0, 210.0]), Some(Verdict::Inconclusive));
        assert_eq!(verdict(&[807.0], &[210.0, 210.0]), Some(Verdict::Inconclusive), "too few");
        assert_eq!(verdict(&[807.0, 807.0], &[0.0, 0.0]), Some(Verdict::Worse), "nowhere now");
        assert_eq!(verdict(&[0.0, 0.0], &[807.0, 807.0]), Some(Verdict::Better));
        assert_eq!(verdict(&[807.0, 807.0], &[0.0, 0.0, 800.0]), Some(Verdict::Inconclusive));
        assert_eq!(verdict(&[0.0, 0.0], &[0.0, 0.0]), None, "nothing to compare");
        assert_eq!(verdict(&[807.0, 807.0], &[]), Some(Verdict::Inconclusive));
        // The generator gave up: what the peer does is not known.
        let row = searched(&[807.0; 3], &[210.0; 3], SearchLimit::Generator).unwrap();
        assert_eq!(row.verdict, Verdict::Inconclusive);
        assert_eq!(row.interval.map(|(_, high)| high), Some(f64::INFINITY));
    }
}
