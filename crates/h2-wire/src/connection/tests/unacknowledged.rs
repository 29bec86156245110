//! Resets that are held back until the peer has looked at those before.

use super::*;

const OK: [(&str, &str); 1] = [(":status", "200")];

fn bounded(most: u32) -> Conn {
    let options =
        Options { max_unacknowledged_resets: most, max_streams: 8, ..Options::new(Role::Client) };
    let mut client = raw_client(options);
    let mut hello = Vec::new();
    frame::settings_ack(&mut hello);
    assert_eq!(read(&mut client, &hello), Ok(vec![Seen::Acknowledged]));
    client.wrote(client.output().len());
    client
}

/// Takes the output: the streams that it resets, and how often it asks.
fn sent(client: &mut Conn) -> (Vec<u32>, usize) {
    let is_question = |frame: &&Frame<'_>| matches!(frame, Frame::Settings { ack: false, .. });
    let found = frames(client);
    let resets = found.iter().filter_map(|frame| match frame {
        Frame::RstStream { stream, .. } => Some(*stream),
        _ => None,
    });
    let found = (resets.collect(), found.iter().filter(is_question).count());
    client.wrote(client.output().len());
    found
}

fn answer(client: &mut Conn) {
    let mut bytes = Vec::new();
    frame::settings_ack(&mut bytes);
    assert_eq!(read(client, &bytes), Ok(vec![]));
}

#[test]
fn only_so_many_resets_go_out_before_the_peer_has_taken_a_stream_up() {
    let mut client = bounded(2);
    let keys: Vec<_> = (0..6).map(|user| open(&mut client, user, true)).collect();
    let held: Vec<_> = keys.iter().map(|key| client.reset(*key, Reason::CANCEL)).collect();
    assert_eq!(held, [false, false, true, true, true, true]);
    assert_eq!(sent(&mut client), (vec![1, 3], 1));
    assert_eq!((client.open_streams(), client.held_resets()), (4, 4));
    assert_eq!(client.streams().count(), 0, "the owner is done with all");
    // Each answer stands for one stream that was taken up.
    for next in [5, 7, 9] {
        answer(&mut client);
        assert_eq!(sent(&mut client), (vec![next], 1));
    }
    answer(&mut client);
    assert_eq!(sent(&mut client), (vec![11], 0), "nothing is left to ask for");
    answer(&mut client);
    assert_eq!(sent(&mut client), (vec![], 0));
    assert_eq!((client.open_streams(), client.held_resets()), (0, 0));
}

#[test]
fn held_streams_count_as_open() {
    let mut client = bounded(1);
    let keys: Vec<_> = (0..8).map(|user| open(&mut client, user, true)).collect();
    assert!(!client.can_open());
    for key in keys {
        client.reset(key, Reason::CANCEL);
    }
    let places = std::iter::from_fn(|| client.open(9)).count();
    assert_eq!(places, 1, "the place of the one that was reset");
}

#[test]
fn a_response_shows_that_all_streams_before_it_were_taken_up() {
    let mut client = bounded(1);
    let keys: Vec<_> = (0..4).map(|user| open(&mut client, user, true)).collect();
    for key in &keys[..3] {
        client.reset(*key, Reason::CANCEL);
    }
    assert_eq!(sent(&mut client), (vec![1], 1));
    let found = read(&mut client, &raw_headers(7, false, &OK));
    assert_eq!(found, Ok(vec![Seen::Response(3, false)]));
    assert_eq!(sent(&mut client), (vec![3, 5], 0));
    assert!(!client.reset(keys[3], Reason::CANCEL), "it was taken up itself");
    assert_eq!(sent(&mut client), (vec![7], 0));
}

#[test]
fn what_comes_on_a_held_stream_is_dropped() {
    let mut client = bounded(1);
    let keys: Vec<_> = (0..5).map(|user| open(&mut client, user, user != 2)).collect();
    assert_eq!(client.send_data(keys[2], &vec![1; 70_000], true), 65_535);
    for key in &keys {
        client.reset(*key, Reason::CANCEL);
    }
    assert_eq!(client.all_waiting_bytes(), 0);
    assert_eq!(sent(&mut client), (vec![1], 1));
    // A whole response ends its stream, and no reset is needed.
    assert_eq!(read(&mut client, &raw_headers(3, true, &OK)), Ok(vec![]));
    assert_eq!(sent(&mut client), (vec![5], 0), "there is room again for one");
    // One that goes on is cut off, and so is one whose request was.
    let mut bytes = raw_headers(7, false, &OK);
    frame::data(&mut bytes, 7, b"late", true);
    assert_eq!(read(&mut client, &bytes), Ok(vec![]));
    assert_eq!(sent(&mut client).0, [7, 9]);
    assert_eq!((client.open_streams(), client.held_resets()), (0, 0));
}

#[test]
fn a_held_stream_that_the_peer_ends_or_breaks_is_over_without_a_word() {
    let mut client = bounded(1);
    for user in 0..4 {
        let key = open(&mut client, user, true);
        client.reset(key, Reason::CANCEL);
    }
    let mut bytes = Vec::new();
    frame::rst_stream(&mut bytes, 3, Reason::REFUSED_STREAM);
    frame::data(&mut bytes, 5, b"before the head", false);
    assert_eq!(read(&mut client, &bytes), Ok(vec![]));
    assert_eq!((client.open_streams(), client.held_resets()), (1, 1));
    client.forget(StreamKey::default());
    answer(&mut client);
    assert_eq!(sent(&mut client).0, [1, 5, 7], "5 was broken by the peer itself");
}

#[test]
fn a_stream_is_held_once_only() {
    let mut client = bounded(1);
    let keys: Vec<_> = (0..2).map(|user| open(&mut client, user, true)).collect();
    client.reset(keys[0], Reason::CANCEL);
    for _ in 0..3 {
        assert!(client.reset(keys[1], Reason::CANCEL));
        assert!(!client.reset(keys[0], Reason::CANCEL), "it is over");
    }
    answer(&mut client);
    assert_eq!(sent(&mut client), (vec![1, 3], 1));
}
