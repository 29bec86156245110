//! In which order trials are run: a decision without a clock.

/// One trial to run: a peer by its index, and a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) peer: usize,
    pub(crate) repeat: u32,
}

/// Interleaves repeats, there and back (A B C, C B A, ...), so that a machine
/// that slowly warms up, or gets busier, is kind to no peer.
pub(crate) fn interleave(peers: usize, repeats: u32) -> Vec<Turn> {
    (0..repeats).flat_map(|repeat| round(peers, repeat)).collect()
}

/// One repeat of every peer, forward or back.
pub(crate) fn round(peers: usize, repeat: u32) -> Vec<Turn> {
    let forward = (0..peers).map(|peer| Turn { peer, repeat });
    if repeat.is_multiple_of(2) { forward.collect() } else { forward.rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_every_repeat_and_every_second_round_goes_back() {
        let turns = interleave(3, 3);
        let peers: Vec<usize> = turns.iter().map(|turn| turn.peer).collect();
        assert_eq!(peers, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
        let repeats: Vec<u32> = turns.iter().map(|turn| turn.repeat).collect();
        assert_eq!(repeats, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }
}
