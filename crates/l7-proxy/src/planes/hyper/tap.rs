//! Reads along on a connection to a backend and reports what hyper's client
//! keeps to itself: that SETTINGS have arrived and what they allow, that the
//! backend has begun to go away, and which streams either side resets. Without
//! the first a call could queue unseen behind a full connection; without the
//! second new calls would still be put on a connection that is going to refuse
//! them; without the third nobody would know how much of a burden the
//! connection has become.
//!
//! It also asks the backend, for [`super::held`], whether it reads: with an
//! empty SETTINGS frame between two frames of hyper's. The answer is taken out
//! of what hyper reads, as h2 ends a connection on which an acknowledgement
//! comes that it waits for none of. A PING's would be let through, but servers
//! of gRPC count PINGs that come while they send nothing, and end the
//! connection at the third.
//!
//! It follows frame headers only, skips every other payload, and judges
//! nothing: h2 reads the same bytes and is the one to find faults.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_walk::{FrameWalk, Observer};
use super::wire::Wire;

/// An empty SETTINGS frame: it changes nothing, and has to be acknowledged.
const QUESTION: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Whether the backend is to be asked if it reads.
#[derive(Debug, Default)]
pub(super) struct Question(Mutex<Wish>);

#[derive(Debug, Default)]
struct Wish {
    is_open: bool,
    /// Wakes the connection's task, which is to ask.
    waker: Option<Waker>,
}

impl Question {
    /// Has the backend asked, soon.
    pub(super) fn ask(&self) {
        let mut wish = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wish.is_open = true;
        let waker = wish.waker.take();
        drop(wish);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether to ask now. If not, the task is woken when it is time.
    fn take(&self, cx: &Context<'_>) -> bool {
        let mut wish = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wish.is_open {
            wish.is_open = false;
            return true;
        }
        if !wish.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            wish.waker = Some(cx.waker().clone());
        }
        false
    }
}

/// A connection that is read along.
pub(super) struct Tap<O> {
    stream: Wire,
    read: FrameWalk,
    written: FrameWalk,
    observer: Arc<O>,
    question: Arc<Question>,
    /// What of the question is yet to be written.
    unasked: &'static [u8],
    /// What was read while an answer was waited for, without the answer.
    sifted: Vec<u8>,
}

impl<O: Observer> Tap<O> {
    pub(super) fn new(stream: Wire, observer: Arc<O>, question: Arc<Question>) -> Self {
        Self {
            stream,
            read: FrameWalk::default(),
            written: FrameWalk::after_preface(),
            observer,
            question,
            unasked: &[],
            sifted: Vec::new(),
        }
    }

    /// Begins to ask, if that is wanted and can be done between two frames.
    fn ask_if_wanted(&mut self, cx: &Context<'_>) {
        let can_ask = self.unasked.is_empty() && self.written.is_between_frames();
        if can_ask && !self.read.is_asked() && self.question.take(cx) {
            self.unasked = &QUESTION;
            self.read.expect_answer();
            self.observer.asked(self.written.opened());
        }
    }

    /// Writes what is left of the question: nothing else may come in between.
    fn poll_unasked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unasked.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, self.unasked))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unasked = &self.unasked[count..];
        }
        Poll::Ready(Ok(()))
    }

    /// Reads while an answer is waited for. It may lie anywhere, and be cut
    /// anywhere, so that what is read goes through a buffer of our own.
    #[cold]
    fn poll_sifted(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.sifted.is_empty() {
            let mut space = [0; 4_096];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
            let sifted = &mut self.sifted;
            self.read.sift(space.filled(), &*self.observer, sifted);
            if space.filled().is_empty() {
                self.read.give_up_answer(sifted);
                break;
            }
        }
        let count = self.sifted.len().min(buf.remaining());
        buf.put_slice(&self.sifted[..count]);
        self.sifted.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<O: Observer> AsyncRead for Tap<O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_asked() || !this.sifted.is_empty() {
            return this.poll_sifted(cx, buf);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            this.read.feed(&buf.filled()[before..], &*this.observer);
        }
        polled
    }
}

/// What is heard of the frames that hyper writes.
struct Ours<'a, O>(&'a O);

impl<O: Observer> Observer for Ours<'_, O> {
    fn reset(&self) {
        self.0.reset();
    }
}

impl<O: Observer> AsyncWrite for Tap<O> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_unasked(cx))?;
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.written.feed(&buf[..count], &Ours(&*this.observer));
        Poll::Ready(Ok(count))
    }

    /// h2 flushes whenever it has nothing else to do, which is when the backend
    /// is asked.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.ask_if_wanted(cx);
        ready!(this.poll_unasked(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_unasked(cx))?;
        let count = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        let mut left = count;
        for buf in bufs {
            let taken = left.min(buf.len());
            this.written.feed(&buf[..taken], &Ours(&*this.observer));
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    /// A whole PING.
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    /// The head of a request on stream 1, without fields.
    const HEADERS: [u8; 9] = [0, 0, 0, 1, 5, 0, 0, 0, 1];

    #[derive(Default)]
    struct Count {
        asked_behind: AtomicU64,
        answers: AtomicU64,
    }

    impl Observer for Count {
        fn asked(&self, opened: u64) {
            self.asked_behind.fetch_add(100 + opened, Ordering::Relaxed);
        }
        fn answered(&self) {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A tap, and the backend's end.
    async fn connection() -> (Tap<Count>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (Tap::new(Wire::Plain(near), Arc::default(), Arc::default()), far)
    }

    async fn read(from: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_question_stands_between_two_frames() {
        let (mut tap, mut backend) = connection().await;
        tap.question.ask();
        tap.flush().await.unwrap();
        tap.write_all(PREFACE).await.unwrap();
        tap.write_all(&HEADERS).await.unwrap();
        tap.write_all(&PING[..12]).await.unwrap();
        tap.flush().await.unwrap();
        assert_eq!(tap.observer.asked_behind.load(Ordering::Relaxed), 0);
        tap.write_all(&PING[12..]).await.unwrap();
        tap.flush().await.unwrap();
        assert_eq!(tap.observer.asked_behind.load(Ordering::Relaxed), 101, "once, behind one");
        // While it is not answered no other is put.
        tap.question.ask();
        tap.flush().await.unwrap();
        tap.write_all(&PING).await.unwrap();
        let expected = [PREFACE, &HEADERS, &PING, &QUESTION, &PING].concat();
        assert_eq!(read(&mut backend, expected.len()).await, expected);
    }

    #[tokio::test]
    async fn hyper_reads_all_but_the_answer() {
        let (mut tap, mut backend) = connection().await;
        tap.write_all(PREFACE).await.unwrap();
        // The first answer is that to hyper's own SETTINGS, and is cut in two by
        // the question.
        backend.write_all(&[&PING[..], &ACK[..5]].concat()).await.unwrap();
        assert_eq!(read(&mut tap, PING.len() + 5).await, [&PING[..], &ACK[..5]].concat());
        tap.question.ask();
        tap.flush().await.unwrap();
        backend.write_all(&[&ACK[5..], &PING, &ACK, &PING, &PING[..7]].concat()).await.unwrap();
        let expected = [&ACK[5..], &PING, &PING, &PING[..7]].concat();
        let mut seen = Vec::new();
        // By little buffers.
        while seen.len() < expected.len() {
            let count = (expected.len() - seen.len()).min(3);
            seen.extend(read(&mut tap, count).await);
        }
        assert_eq!(seen, expected);
        assert_eq!(tap.observer.answers.load(Ordering::Relaxed), 1);
        backend.shutdown().await.unwrap();
        assert_eq!(tap.read(&mut [0; 9]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_connection_that_ends_instead_of_answering_ends() {
        let (mut tap, mut backend) = connection().await;
        tap.write_all(PREFACE).await.unwrap();
        tap.question.ask();
        tap.flush().await.unwrap();
        backend.write_all(&[&PING[..], &ACK[..4]].concat()).await.unwrap();
        backend.shutdown().await.unwrap();
        let mut seen = Vec::new();
        tap.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, [&PING[..], &ACK[..4]].concat());
    }
}
