//! What reads others' bytes here, opened for `fuzz/`. What must hold for any input is
//! checked here, so that a target is one line.

use prost::Message as _;
use tokio::sync::mpsc;

use crate::{
    MESSAGE_BYTES,
    coordinator::node::Node,
    offset,
    token::Token,
    wire::{FromAgent, Hello},
};

/// Calls that the agent has said it has.
const EXPECTED: u64 = 1_000;

/// Messages of somebody who has joined, each behind its length: whatever they hold, the
/// coordinator keeps no more calls than were announced, takes no answer that it has not
/// asked for, and compares clocks without overflow.
pub fn agent_messages(mut bytes: &[u8]) {
    let (to_agent, _messages) = mpsc::channel(1);
    let (node, inbox) = Node::new(Hello::default(), to_agent);
    node.expect(&[EXPECTED, 0]);
    while let Ok(message) = FromAgent::decode_length_delimited(&mut bytes) {
        assert!(message.encoded_len() <= MESSAGE_BYTES);
        if inbox.take(message, 1 << 40).is_err() {
            break;
        }
    }
    assert!(inbox.kept_calls() <= EXPECTED);
    assert_eq!(node.try_reply(), None, "an answer that nobody asked for");
    let _ = offset::best(&inbox.exchanges());
}

/// A token, or the value of `authorization`: what is one reads the same when it is written
/// out, and nothing but its own secret is taken for it.
pub fn run_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(token) = text.parse::<Token>() else { return };
    let again: Token = token.to_string().parse().expect("it was written out");
    assert_eq!(again, token);
    assert!(token.is_shown_by(again.credentials().as_bytes()));
    assert!(!token.is_shown_by(bytes));
}
