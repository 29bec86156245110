//! Keeps watch over a client's connection for what hyper and h2 don't bound:
//! resets of streams that were accepted, floods of cheap frames, silence where
//! a frame is due, and streams whose client asks for a response and never takes
//! it.
//!
//! It sits between hyper and the socket and reads along in both directions. It
//! ends a connection by failing its next read or write, after a GOAWAY where
//! one fits in between. It resets a single stream by telling both sides: the
//! client gets RST_STREAM(CANCEL), and hyper is given one as if the client had
//! sent it, since hyper has no way to reset a stream that waits for a window.
//!
//! What h2 bounds itself (open streams, header blocks and their continuations,
//! resets of streams nobody has accepted, small DATA that nobody has read) is
//! not watched twice.

pub(super) mod fuzzing;
mod rules;
mod walk;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use self::rules::Rules;
use self::walk::{Walk, wire};
use super::wire::Wire;
use crate::config::DownstreamLimits;
use crate::failure::code;
use crate::metrics::{Ending, GuardCounters};

/// A client's connection under watch.
pub(super) struct Guarded {
    stream: Wire,
    rules: Rules,
    incoming: Walk,
    outgoing: Walk,
    /// Frames that hyper shall read next, at a boundary.
    to_hyper: Vec<u8>,
    /// Frames that the client shall get next, at a boundary.
    to_client: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    /// Set once the connection has been ended.
    ended: Option<Ending>,
    counters: GuardCounters,
}

impl Guarded {
    pub(super) fn new(stream: Wire, limits: DownstreamLimits, counters: GuardCounters) -> Self {
        let now = Instant::now();
        let rules = Rules::new(limits, now);
        let timer = Box::pin(sleep_until(rules.deadline().unwrap_or(now)));
        Self {
            stream,
            rules,
            incoming: Walk::with_preface(),
            outgoing: Walk::without_preface(),
            to_hyper: Vec::new(),
            to_client: Vec::new(),
            timer,
            ended: None,
            counters,
        }
    }

    /// Lets time pass: applies what is due, and sees that the task is woken for
    /// what is due next.
    fn watch_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(ending) = self.ended {
            return Err(error(ending));
        }
        loop {
            let Some(deadline) = self.rules.deadline() else { return Ok(()) };
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            // The timer may have been set for something that came to nothing.
            let now = Instant::now();
            let stalled = self.rules.expire(now).map_err(|ending| self.end(ending))?;
            for stream in stalled {
                self.counters.stalled_streams.inc();
                self.to_hyper.extend(reset_frame(stream));
                self.to_client.extend(reset_frame(stream));
                // This may not be a read, and a read is to come.
                cx.waker().wake_by_ref();
            }
            let next = self.rules.deadline().unwrap_or(now + FAR);
            self.timer.as_mut().reset(next);
        }
    }

    /// Ends the connection: the client is told why where that is possible, and
    /// the error ends hyper.
    fn end(&mut self, ending: Ending) -> io::Error {
        if self.ended.is_none() {
            self.ended = Some(ending);
            self.counters.count(ending);
            if self.outgoing.is_on_boundary() {
                // What the socket doesn't take at once isn't worth waiting for.
                self.stream.try_write(&go_away(self.rules.highest_stream(), ending));
            }
        }
        error(ending)
    }

    /// Sends the frames that are put in between, if this is a place for them.
    fn poll_insert(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.to_client.is_empty() && self.outgoing.is_on_boundary() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.to_client))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            // A frame that was cut is finished before anything else is sent.
            self.to_client.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// What a write came to.
    fn wrote(
        &mut self,
        polled: Poll<io::Result<usize>>,
        wanted: usize,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        match &polled {
            Poll::Pending => self.rules.socket(None, now),
            Poll::Ready(Ok(written)) => {
                self.rules.socket(Some((*written, *written == wanted)), now);
                let mut left = *written;
                let mut result = Ok(());
                for buf in bufs {
                    let taken = left.min(buf.len());
                    left -= taken;
                    self.outgoing.feed(&buf[..taken], |event| {
                        let seen = self.rules.sent(event, now);
                        result = result.and(seen);
                    });
                }
                if let Err(ending) = result {
                    return Poll::Ready(Err(self.end(ending)));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        polled
    }

    fn poll_write_bufs(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch_time(cx)?;
        ready!(self.poll_insert(cx))?;
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        let polled = self.wrote(polled, wanted, bufs);
        if polled.is_pending() {
            // The wait that has begun has an end.
            self.watch_time(cx)?;
        }
        polled
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.watch_time(cx)?;
        if let Poll::Ready(Err(error)) = this.poll_insert(cx) {
            return Poll::Ready(Err(error));
        }
        if !this.to_hyper.is_empty() && this.incoming.is_on_boundary() {
            // Whole frames only, so that this stays a boundary.
            let whole = buf.remaining() / RESET_BYTES * RESET_BYTES;
            let given = this.to_hyper.len().min(whole);
            if given > 0 {
                buf.put_slice(&this.to_hyper[..given]);
                this.to_hyper.drain(..given);
                return Poll::Ready(Ok(()));
            }
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            let now = Instant::now();
            let mut result = Ok(());
            this.incoming.feed(&buf.filled()[before..], |event| {
                let seen = this.rules.received(event, now);
                result = result.and(seen);
            });
            this.rules.boundary(this.incoming.is_on_boundary(), now);
            if let Err(ending) = result {
                return Poll::Ready(Err(this.end(ending)));
            }
        } else {
            this.watch_time(cx)?;
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_bufs(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_bufs(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A wait that is as good as none, where there is no deadline.
const FAR: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Bytes of a RST_STREAM frame.
const RESET_BYTES: usize = 13;

fn reset_frame(stream: u32) -> [u8; RESET_BYTES] {
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    let [c0, c1, c2, c3] = code::CANCEL.to_be_bytes();
    [0, 0, 4, wire::RST_STREAM, 0, s0, s1, s2, s3, c0, c1, c2, c3]
}

fn go_away(last_stream: u32, ending: Ending) -> [u8; 17] {
    let code = if ending == Ending::Idle { code::NO_ERROR } else { code::ENHANCE_YOUR_CALM };
    let [s0, s1, s2, s3] = last_stream.to_be_bytes();
    let [c0, c1, c2, c3] = code.to_be_bytes();
    [0, 0, 8, wire::GOAWAY, 0, 0, 0, 0, 0, s0, s1, s2, s3, c0, c1, c2, c3]
}

fn error(ending: Ending) -> io::Error {
    io::Error::other(ending.name())
}
