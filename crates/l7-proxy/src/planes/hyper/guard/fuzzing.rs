//! What must hold of any bytes of a client; see [`crate::fuzzing`].

use std::time::Duration;

use tokio::time::Instant;

use super::rules::Rules;
use super::walk::{Event, Head, Walk, wire};
use crate::config::DownstreamLimits;

const PREFACE: [u8; 24] = [b'P'; 24];

/// Frames of a client, in pieces of `cut` bytes: the walk comes by what lies there
/// when all is looked at at once, and the rules keep their bounds whatever comes.
pub(crate) fn client_frames(bytes: &[u8], cut: usize) {
    let mut seen = Vec::new();
    let mut walk = Walk::with_preface();
    for piece in [&PREFACE, bytes].concat().chunks(cut) {
        walk.feed(piece, |event| seen.push(event));
    }
    let (expected, is_whole) = read(bytes);
    assert_eq!(seen, expected);
    assert!(is_whole || !walk.is_on_boundary());

    let limits = DownstreamLimits {
        max_concurrent_streams: 4,
        max_resets_per_second: 10,
        max_control_frames_per_second: 20,
        ..DownstreamLimits::default()
    };
    let mut now = Instant::now();
    let mut rules = Rules::new(limits, now);
    let mut highest = 0;
    for event in seen {
        now += Duration::from_millis(cut as u64);
        if rules.received(event, now).is_err() || rules.sent(event, now).is_err() {
            return;
        }
        assert!(rules.highest_stream() >= highest);
        highest = rules.highest_stream();
        assert!(rules.streams_watched() <= 4 * 2 + 64);
        match rules.expire(now) {
            Err(_) => return,
            Ok(stalled) => assert!(stalled.iter().all(|stream| *stream <= highest)),
        }
    }
}

/// What is in these frames, and whether the last of them is whole.
fn read(bytes: &[u8]) -> (Vec<Event>, bool) {
    let mut events = Vec::new();
    let mut rest = bytes;
    while let Some((&[l0, l1, l2, kind, flags, s0, s1, s2, s3], tail)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        let head = Head { length, kind, flags, stream };
        events.push(Event::Head(head));
        let payload = &tail[..tail.len().min(length as usize)];
        match kind {
            wire::SETTINGS => events.extend(payload.chunks_exact(6).map(|setting| {
                let [i0, i1, v0, v1, v2, v3] = setting.try_into().expect("six bytes");
                Event::Setting(u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))
            })),
            wire::WINDOW_UPDATE | wire::RST_STREAM => {
                events.extend(payload.chunks_exact(4).map(|word| {
                    let word = word.try_into().expect("four bytes");
                    Event::Word(head, u32::from_be_bytes(word))
                }));
            }
            _ => {}
        }
        if payload.len() < length as usize {
            return (events, false);
        }
        rest = &tail[length as usize..];
    }
    (events, rest.is_empty())
}
