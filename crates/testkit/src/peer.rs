//! One side of an HTTP/2 connection that does what the test says: a raw client,
//! or a connection that a raw server has accepted.

mod seen;
mod server;

use std::{collections::VecDeque, io, net::SocketAddr};

pub use seen::{End, Fields, Message, Seen, field};
pub use server::RawServer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{
    wire::{self, flag, kind},
    within,
};

/// A header block that has begun.
struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
}

/// One side of a connection.
pub struct Peer {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    unparsed: Vec<u8>,
    is_closed: bool,
    decoder: fluke_hpack::Decoder<'static>,
    block: Option<Block>,
    /// What was read while something else was waited for.
    passed_over: VecDeque<Seen>,
    /// Whether SETTINGS and PINGs that are read are answered.
    pub is_polite: bool,
}

impl Peer {
    /// A client that has sent its preface, these settings, and an increment of
    /// the connection's window so large that only the streams' windows matter.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn client(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::silent_client(addr).await;
        let hello = [
            wire::PREFACE.to_vec(),
            wire::settings(settings),
            wire::window_update(0, (1 << 30) - 1),
        ];
        peer.send(&hello.concat()).await.unwrap();
        peer
    }

    /// A client that is connected and has said nothing.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn silent_client(addr: SocketAddr) -> Self {
        Self::new(within("a connection", TcpStream::connect(addr)).await.unwrap())
    }

    /// A side of this connection.
    ///
    /// # Panics
    /// When the socket is broken.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer,
            unparsed: Vec::new(),
            is_closed: false,
            decoder: fluke_hpack::Decoder::new(),
            block: None,
            passed_over: VecDeque::new(),
            is_polite: true,
        }
    }

    /// Writes bytes. What the other side writes meanwhile is read, so that two
    /// sides that both write don't wait for each other.
    ///
    /// # Errors
    /// When the other side has gone away.
    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let is_open = !self.is_closed;
            let step = async {
                tokio::select! {
                    written = self.writer.write(bytes) => written.map(|count| (count, None)),
                    read = self.reader.read_buf(&mut self.unparsed), if is_open => {
                        Ok((0, Some(read)))
                    }
                }
            };
            let (written, read) = within("room to write", step).await?;
            bytes = &bytes[written..];
            if let Some(read) = read {
                self.is_closed = !matches!(read, Ok(1..));
            }
        }
        Ok(())
    }

    /// Writes bytes and reads nothing, not even from the kernel's buffer. Gives
    /// `false` when the other side takes no more for a while.
    ///
    /// # Errors
    /// When the other side has gone away.
    pub async fn push(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let patience = std::time::Duration::from_millis(500);
        match tokio::time::timeout(patience, self.writer.write_all(bytes)).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Whether the connection is open, as far as what has arrived tells.
    pub fn is_open(&mut self) -> bool {
        let read = self.reader.try_read_buf(&mut self.unparsed);
        if !matches!(read, Ok(1..))
            && !matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            self.is_closed = true;
        }
        !self.is_closed
    }

    /// Takes note of what has arrived, without waiting for more.
    pub async fn catch_up(&mut self) {
        while self.is_open() && self.unparsed.len() >= 9 {
            let Some((head, payload)) = self.take_frame() else { return };
            if let Some(seen) = self.interpret(head, payload).await {
                self.passed_over.push_back(seen);
            }
        }
    }

    /// Closes the sending side.
    pub async fn finish(&mut self) {
        // It fails only when the other side has gone, which reading shows.
        let _ = self.writer.shutdown().await;
    }

    /// The next thing the other side does.
    ///
    /// # Panics
    /// When it does nothing.
    pub async fn next(&mut self) -> Seen {
        match self.passed_over.pop_front() {
            Some(seen) => seen,
            None => within("the other side", self.read()).await,
        }
    }

    /// The next thing that satisfies a condition, or [`Seen::Closed`]. What
    /// comes before it is kept for later calls.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn next_that(&mut self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        if let Some(index) = self.passed_over.iter().position(&wanted) {
            return self.passed_over.remove(index).unwrap();
        }
        within(what, async {
            loop {
                let seen = self.read().await;
                if wanted(&seen) || seen == Seen::Closed {
                    return seen;
                }
                self.passed_over.push_back(seen);
            }
        })
        .await
    }

    /// The next thing about a stream, window updates left out.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn next_on(&mut self, stream: u32) -> Seen {
        self.next_that(&format!("stream {stream}"), |seen| {
            seen.stream() == Some(stream) && !matches!(seen, Seen::WindowUpdate { .. })
        })
        .await
    }

    /// The next request or response head that nobody has asked for yet.
    ///
    /// # Panics
    /// When there is none, or the connection ends.
    pub async fn next_headers(&mut self) -> (u32, Fields, bool) {
        match self.next_that("headers", |seen| matches!(seen, Seen::Headers { .. })).await {
            Seen::Headers { stream, fields, ends } => (stream, fields, ends),
            other => panic!("headers were expected, and not {other:?}"),
        }
    }

    /// Everything on a stream up to its end.
    pub async fn message(&mut self, stream: u32) -> Message {
        let mut message = Message::default();
        while message.end.is_none() {
            match self.next_on(stream).await {
                Seen::Headers { fields, ends, .. } => {
                    message.heads.push(fields);
                    message.end = ends.then_some(End::Whole);
                }
                Seen::Data { payload, ends, .. } => {
                    message.body.extend(payload);
                    message.end = ends.then_some(End::Whole);
                }
                Seen::Reset { code, .. } => message.end = Some(End::Reset(code)),
                _ => message.end = Some(End::Closed),
            }
        }
        message
    }

    /// Waits for the end of the connection. Gives the code of the last GOAWAY,
    /// if there was one.
    ///
    /// # Panics
    /// When the connection does not end.
    pub async fn closed(&mut self) -> Option<u32> {
        self.next_that("the end of the connection", |_| false).await;
        let go_away = |seen: &Seen| match seen {
            Seen::GoAway { code, .. } => Some(*code),
            _ => None,
        };
        self.passed_over.iter().rev().find_map(go_away)
    }

    /// What was read and not asked for so far.
    pub fn passed_over(&self) -> impl Iterator<Item = &Seen> {
        self.passed_over.iter()
    }

    /// Takes what was read, not asked for, and satisfies a condition.
    pub fn take_passed_over(&mut self, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let (taken, kept) = self.passed_over.drain(..).partition::<Vec<_>, _>(wanted);
        self.passed_over = kept.into();
        taken
    }

    /// Sends a PING and waits for its answer: what was sent before it has then
    /// been read by the other side.
    ///
    /// # Panics
    /// When the connection ends instead.
    pub async fn round_trip(&mut self) {
        let payload = *b"testkit!";
        self.send(&wire::ping(payload)).await.unwrap();
        let seen =
            self.next_that("an answer to PING", |seen| *seen == Seen::PingAck(payload)).await;
        assert_ne!(seen, Seen::Closed, "the connection ended instead of answering a PING");
    }

    /// The server's side of the start: sends these settings, opens the
    /// connection's window wide, so that only the streams' windows matter, and
    /// takes the client's preface.
    ///
    /// # Errors
    /// When the client went away or sent something else.
    pub async fn greet(&mut self, settings: &[(u16, u32)]) -> io::Result<()> {
        let hello = [wire::settings(settings), wire::window_update(0, (1 << 30) - 1)];
        self.send(&hello.concat()).await?;
        while self.unparsed.len() < wire::PREFACE.len() {
            let read = within("a preface", self.reader.read_buf(&mut self.unparsed)).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !self.unparsed.starts_with(wire::PREFACE) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.unparsed.drain(..wire::PREFACE.len());
        Ok(())
    }

    /// Reads the next frame, or the rest of a header block. Without a bound;
    /// for servers, which a test ends.
    pub(crate) async fn read(&mut self) -> Seen {
        loop {
            if let Some((head, payload)) = self.take_frame() {
                if let Some(seen) = self.interpret(head, payload).await {
                    return seen;
                }
                continue;
            }
            if self.is_closed {
                return Seen::Closed;
            }
            let read = self.reader.read_buf(&mut self.unparsed).await;
            self.is_closed = !matches!(read, Ok(1..));
        }
    }

    /// A whole frame from what was read: kind, flags, stream, and its payload.
    fn take_frame(&mut self) -> Option<((u8, u8, u32), Vec<u8>)> {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.unparsed.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if self.unparsed.len() < 9 + length {
            return None;
        }
        let payload = self.unparsed[9..9 + length].to_vec();
        self.unparsed.drain(..9 + length);
        Some(((kind, flags, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3])), payload))
    }

    async fn interpret(&mut self, head: (u8, u8, u32), payload: Vec<u8>) -> Option<Seen> {
        let (kind, flags, stream) = head;
        let ends = flags & flag::END_STREAM != 0;
        let word = |at: usize| payload.get(at..at + 4).map_or(0, be);
        Some(match kind {
            kind::DATA => Seen::Data { stream, payload: unpadded(flags, payload), ends },
            kind::HEADERS => {
                let mut bytes = unpadded(flags, payload);
                if flags & flag::PRIORITY != 0 {
                    bytes.drain(..5);
                }
                self.block = Some(Block { stream, ends, bytes });
                return self.finish_block(flags);
            }
            kind::CONTINUATION => {
                self.block.as_mut().expect("a block to continue").bytes.extend(payload);
                return self.finish_block(flags);
            }
            kind::RST_STREAM => Seen::Reset { stream, code: word(0) },
            kind::SETTINGS if flags & flag::ACK != 0 => Seen::SettingsAck,
            kind::SETTINGS => {
                self.answer(wire::settings_ack()).await;
                let setting = |chunk: &[u8]| (be(&chunk[..2]) as u16, be(&chunk[2..]));
                Seen::Settings(payload.chunks_exact(6).map(setting).collect())
            }
            kind::PING => {
                let bytes: [u8; 8] = payload.try_into().expect("eight bytes of PING");
                if flags & flag::ACK != 0 {
                    return Some(Seen::PingAck(bytes));
                }
                self.answer(wire::ping_ack(bytes)).await;
                Seen::Ping(bytes)
            }
            kind::GOAWAY => Seen::GoAway { last_stream: word(0), code: word(4) },
            kind::WINDOW_UPDATE => Seen::WindowUpdate { stream, increment: word(0) },
            kind => Seen::Other { kind },
        })
    }

    fn finish_block(&mut self, flags: u8) -> Option<Seen> {
        if flags & flag::END_HEADERS == 0 {
            return None;
        }
        let Block { stream, ends, bytes } = self.block.take()?;
        let fields = self.decoder.decode(&bytes).expect("a well-formed header block");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        Some(Seen::Headers { stream, fields, ends })
    }

    async fn answer(&mut self, bytes: Vec<u8>) {
        if self.is_polite {
            // It fails only when the other side has gone, which reading shows.
            let _ = self.writer.write_all(&bytes).await;
        }
    }
}

fn be(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// The payload without its padding.
fn unpadded(flags: u8, mut payload: Vec<u8>) -> Vec<u8> {
    if flags & flag::PADDED != 0 {
        let padding = usize::from(payload.remove(0));
        payload.truncate(payload.len() - padding);
    }
    payload
}
