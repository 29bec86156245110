//! In which order trials are run: a decision without a clock.

/// One trial to run: a point of the sweep and a peer by their indices, and a
/// repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) point: usize,
    pub(crate) peer: usize,
    pub(crate) repeat: u32,
}

/// Interleaves repeats, there and back (A B C, C B A, ...), so that a machine
/// that slowly warms up, or gets busier, is kind to no peer and no point.
pub(crate) fn interleave(points: usize, peers: usize, repeats: u32) -> Vec<Turn> {
    let points: Vec<usize> = (0..points).collect();
    (0..repeats).flat_map(|repeat| round(&points, peers, repeat)).collect()
}

/// One repeat of every peer at these points, forward or back. Peers stand beside
/// each other at every point, since they are what is compared.
pub(crate) fn round(points: &[usize], peers: usize, repeat: u32) -> Vec<Turn> {
    let at = |&point| (0..peers).map(move |peer| Turn { point, peer, repeat });
    let mut turns: Vec<Turn> = points.iter().flat_map(at).collect();
    if !repeat.is_multiple_of(2) {
        turns.reverse();
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_every_repeat_and_every_second_round_goes_back() {
        let turns = interleave(1, 3, 3);
        let peers: Vec<usize> = turns.iter().map(|turn| turn.peer).collect();
        assert_eq!(peers, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
        let repeats: Vec<u32> = turns.iter().map(|turn| turn.repeat).collect();
        assert_eq!(repeats, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn peers_are_neighbours_at_every_point() {
        let turns = interleave(2, 2, 2);
        let shown: Vec<(usize, usize)> = turns.iter().map(|turn| (turn.point, turn.peer)).collect();
        assert_eq!(shown, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 1), (1, 0), (0, 1), (0, 0)]);
    }
}
