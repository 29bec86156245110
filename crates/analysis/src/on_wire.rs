//! Whether peers are compared by their latency on the wire.
//!
//! A latency counts from when a call was due to when the generator saw its end, so it
//! has in it how late the generator sent and how late it looked. To a call of
//! milliseconds that is nothing. To one of a tenth of that it is as much as what the
//! peers differ in, and more for a peer whose answers come while the generator is busy.
//! There the time on the wire says more, as long as the generator is all that it leaves
//! out: where calls wait for a free stream, that is the load's doing and belongs to
//! their latency.

use measure::figure::{Figure, Figures};

use crate::peer::PeerView;

/// Calls are short where they take less than this many times what the generator adds.
const SHORT: f64 = 10.0;
/// How much more than the wire and the generator together a tail latency may be for there
/// to be nothing else in it; their percentiles are of different calls.
const NOTHING_ELSE: f64 = 1.25;

/// What the generator adds to half of the calls of the peer with the shortest ones, in
/// nanoseconds; `None` unless peers are compared by their latency on the wire.
pub(crate) fn own_part_ns(peers: &[PeerView<'_>]) -> Option<f64> {
    let measured = || peers.iter().filter(|peer| peer.figures().next().is_some());
    let known = |peer: &PeerView<'_>| peer.figures().all(|one| is_all_there_is(one) == Some(true));
    if !measured().all(known) {
        return None;
    }
    let parts = measured().filter_map(|peer| {
        let value = |figure| Some(peer.estimate(figure)?.value);
        let lateness = value(Figure::GeneratorLatenessP50).unwrap_or(0.0);
        let added = lateness + value(Figure::GeneratorReceiptP50)?;
        let is_short = value(Figure::LatencyWireP50)? < SHORT * added;
        Some((is_short, added))
    });
    parts.filter(|(is_short, _)| *is_short).map(|(_, added)| added).reduce(f64::max)
}

/// Whether the generator and the wire together make up a trial's latency; `None` where
/// the wire is not known.
fn is_all_there_is(figures: &Figures) -> Option<bool> {
    let wire = figures.get(Figure::LatencyWireP99)?;
    let lateness = figures.get(Figure::GeneratorLatenessP99).unwrap_or(0.0);
    let together = wire + lateness + figures.get(Figure::GeneratorReceiptP99)?;
    Some(figures.get(Figure::LatencyP99)? <= NOTHING_ELSE * together)
}
