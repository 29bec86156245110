//! A client that plays a recording: bytes that were laid down before, played to
//! any server, and what comes back.
//!
//! The bytes are sent as they are. Only their pace is not recorded: DATA waits
//! for the server's credit, and a step may wait for something to arrive.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
};

use crate::{
    peer::{End, Message, Peer, Seen},
    wire::{self, kind, setting},
    within,
};

/// One step of a recording.
#[derive(Clone, Debug)]
pub enum Step {
    /// Whole frames to be sent.
    Send(Vec<u8>),
    /// Waits for the first header block on a stream.
    AwaitHead(u32),
    /// Waits until so many bytes of body have come on a stream.
    AwaitBytes(u32, usize),
    /// Waits for the end of a stream.
    AwaitEnd(u32),
    /// Waits until all that was sent has been read by the server.
    RoundTrip,
}

/// What a client sends, and how it takes what comes.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Its SETTINGS.
    pub settings: Vec<(u16, u32)>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Credit for response bytes is left to the recorded bytes.
    pub gives_no_credit: bool,
    /// Bytes written at once at most; 0 for no bound.
    pub cut_bytes: usize,
}

/// What came back, by stream.
pub type Played = BTreeMap<u32, Message>;

/// Plays a recording, and gives what has come by its last step. What has begun
/// and not ended then has no end.
///
/// # Panics
/// When a step waits in vain, or the recording does not consist of frames.
pub async fn play(addr: SocketAddr, recording: &Recording) -> Played {
    let mut player = Player {
        peer: Peer::client(addr, &recording.settings).await,
        played: Played::new(),
        window: FIRST_WINDOW,
        windows: HashMap::new(),
        first_window: FIRST_WINDOW,
        gives_credit: !recording.gives_no_credit,
        is_closed: false,
    };
    // A server's own SETTINGS come first; its windows count from the start.
    player.take_until("the server's SETTINGS", |player| player.first_window_known()).await;
    for step in &recording.steps {
        player.step(step, recording.cut_bytes).await;
    }
    player.played
}

const FIRST_WINDOW: i64 = 65_535;

struct Player {
    peer: Peer,
    played: Played,
    window: i64,
    /// What was taken of, and added to, each stream's first window.
    windows: HashMap<u32, i64>,
    first_window: i64,
    gives_credit: bool,
    is_closed: bool,
}

impl Player {
    fn first_window_known(&self) -> bool {
        self.windows.contains_key(&0)
    }

    async fn step(&mut self, step: &Step, cut_bytes: usize) {
        match step {
            Step::Send(bytes) => self.send(bytes, cut_bytes).await,
            Step::AwaitHead(stream) => {
                let what = format!("a response on stream {stream}");
                self.take_until(&what, |player| {
                    player.played.get(stream).is_some_and(|message| !message.heads.is_empty())
                })
                .await;
            }
            Step::AwaitBytes(stream, bytes) => {
                let what = format!("{bytes} bytes on stream {stream}");
                self.take_until(&what, |player| {
                    player.played.get(stream).is_some_and(|message| message.body.len() >= *bytes)
                })
                .await;
            }
            Step::AwaitEnd(stream) => {
                let what = format!("the end of stream {stream}");
                self.take_until(&what, |player| {
                    player.played.get(stream).is_some_and(|message| message.end.is_some())
                })
                .await;
                if self.is_closed {
                    self.played.entry(*stream).or_default().end.get_or_insert(End::Closed);
                }
            }
            Step::RoundTrip => self.round_trip().await,
        }
    }

    /// Sends frames in their order; DATA when there is credit for it.
    async fn send(&mut self, mut bytes: &[u8], cut_bytes: usize) {
        let mut frames = VecDeque::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            frames.push_back((head[3], stream_of(head), &bytes[..9 + length]));
            bytes = &rest[length..];
        }
        assert!(bytes.is_empty(), "a recording consists of whole frames");
        let mut gathered = Vec::new();
        while let Some((kind, stream, frame)) = frames.pop_front() {
            if kind == kind::DATA {
                let length = frame.len() as i64 - 9;
                if !self.has_room(stream, length) {
                    self.write(&std::mem::take(&mut gathered), cut_bytes).await;
                    self.take_until("credit", |player| player.has_room(stream, length)).await;
                }
                self.window -= length;
                *self.windows.entry(stream).or_default() -= length;
            }
            gathered.extend_from_slice(frame);
        }
        self.write(&gathered, cut_bytes).await;
    }

    async fn write(&mut self, bytes: &[u8], cut_bytes: usize) {
        let cut = if cut_bytes == 0 { bytes.len().max(1) } else { cut_bytes };
        for part in bytes.chunks(cut) {
            // It fails only when the server has gone, which reading shows.
            let _ = self.peer.send(part).await;
            if cut_bytes > 0 {
                // Lets the server read a part before the next comes.
                tokio::task::yield_now().await;
            }
        }
    }

    /// A stream that is over takes everything: the server drops it.
    fn has_room(&self, stream: u32, length: i64) -> bool {
        let is_over = self.played.get(&stream).is_some_and(|message| message.end.is_some());
        let spent = self.windows.get(&stream).copied().unwrap_or_default();
        is_over || self.window >= length && self.first_window + spent >= length
    }

    async fn take_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) && !self.is_closed {
                let seen = self.peer.read().await;
                self.take(seen).await;
            }
        };
        within(what, wait).await;
    }

    async fn take(&mut self, seen: Seen) {
        let credit = match &seen {
            Seen::Data { stream, payload, ends: false } if !payload.is_empty() => {
                Some((*stream, payload.len() as u32))
            }
            _ => None,
        };
        match seen {
            Seen::Headers { stream, fields, ends } => {
                let message = self.played.entry(stream).or_default();
                message.heads.push(fields);
                message.end = message.end.or(ends.then_some(End::Whole));
            }
            Seen::Data { stream, payload, ends } => {
                let message = self.played.entry(stream).or_default();
                message.body.extend(payload);
                message.end = message.end.or(ends.then_some(End::Whole));
            }
            Seen::Reset { stream, code } => {
                let message = self.played.entry(stream).or_default();
                // A reset behind a whole response is about the request.
                message.end.get_or_insert(End::Reset(code));
            }
            Seen::Settings(values) => {
                let first = values.iter().find(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE);
                self.first_window = first.map_or(self.first_window, |(_, value)| i64::from(*value));
                self.windows.insert(0, 0);
            }
            Seen::WindowUpdate { stream: 0, increment } => self.window += i64::from(increment),
            Seen::WindowUpdate { stream, increment } => {
                *self.windows.entry(stream).or_default() += i64::from(increment);
            }
            Seen::Closed => self.is_closed = true,
            _ => {}
        }
        if self.gives_credit
            && let Some((stream, bytes)) = credit
        {
            self.write(&wire::window_update(stream, bytes), 0).await;
        }
    }

    async fn round_trip(&mut self) {
        let payload = *b"replayed";
        self.write(&wire::ping(payload), 0).await;
        let wait = async {
            loop {
                let seen = self.peer.read().await;
                if seen == Seen::PingAck(payload) || seen == Seen::Closed {
                    return self.is_closed = seen == Seen::Closed;
                }
                self.take(seen).await;
            }
        };
        within("an answer to PING", wait).await;
    }
}

fn stream_of(head: &[u8; 9]) -> u32 {
    u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]])
}
