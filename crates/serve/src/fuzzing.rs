//! What reads strangers' bytes here, opened for `fuzz/`. What must hold for any
//! input is checked here, so that a target is one line.

use std::{
    io,
    net::SocketAddr,
    num::NonZeroU32,
    path::Path,
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    admin::{
        self, BACKENDS_MAX, BackendSpec, BackendState, BackendStatus, Backends, ChangeError,
        Replaced,
    },
    grpc_health::{self, ANSWER_BYTES_MAX, FRAME_BYTES_MAX},
    http1::{
        self, HttpLimits, Refusal, Request,
        host::{AllowedHosts, Site},
    },
    metrics::Metrics,
    watch,
};

const LIMITS: fn() -> HttpLimits =
    || HttpLimits { head_bytes: 256, body_bytes: 64, ..HttpLimits::default() };

fn site() -> Site {
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    Site { addresses: [address; 2], allowed: AllowedHosts::default() }
}

/// A request, in pieces as long as the first byte says: how it is cut makes no
/// difference, more bytes never change a verdict, and a request that is taken reads
/// the same when it is written out again.
pub fn http_request(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let read = |bytes: &[u8], piece| {
        now(http1::read_request(&mut Stream::new(bytes, piece), LIMITS(), &site()))
    };
    let whole = read(bytes, usize::MAX).expect("memory can be read");
    assert_eq!(read(bytes, usize::from(piece)).expect("memory can be read"), whole);
    let half = read(&bytes[..bytes.len() / 2], usize::MAX).expect("memory can be read");
    assert!(half == Err(Refusal::Closed) || half == whole);
    let Ok(request) = whole else { return };
    let (method, path, body) = (request.method(), request.path(), request.body());
    assert!(path.starts_with('/') && !path.contains(['?', '#', ' ']));
    assert!(!path.contains(char::is_control), "{path:?}");
    assert!(body.len() <= LIMITS().body_bytes);
    let head = format!("{method} {path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
    let written = [head.as_bytes(), body].concat();
    if head.len() <= LIMITS().head_bytes {
        assert_eq!(read(&written, usize::MAX).expect("memory can be read"), Ok(request));
    }
}

/// Requests for the admin API, each behind a line feed: every one is answered in
/// full, what is refused has changed nothing, and the list stays one.
pub fn admin_requests(bytes: &[u8]) {
    let (backends, metrics) = (ListOnly::default(), Metrics::new());
    for text in ["127.0.0.1:1", "[::1]:2"] {
        let address = text.parse().expect("it is an address");
        backends.add(BackendSpec::new(address)).expect("it is new");
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, path, body) = (word(), word(), word());
        let head = format!(" HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
        let request = [method, b" ", path, head.as_bytes(), body].concat();
        let before = backends.list();
        let mut stream = Stream::new(&request, usize::MAX);
        let handler = |request: &Request| admin::respond(&backends, &metrics, request);
        now(http1::exchange(&mut stream, HttpLimits::default(), &site(), &handler))
            .expect("memory takes it");
        let answer = String::from_utf8(stream.written).expect("answers are text");
        let (head, content) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status: u16 = head[9..12].parse().expect("an answer has a status");
        assert!(head.contains(&format!("content-length: {}\r\n", content.len())));
        if head.contains("application/json") {
            serde_json::from_str::<serde_json::Value>(content).expect("it is JSON");
        }
        let after = backends.list();
        assert!(status < 400 || after == before, "{answer}");
        assert!(!after.is_empty() && after.len() <= BACKENDS_MAX);
        assert_listed_once(after.iter().map(|status| &status.spec));
    }
}

/// A file with backends, as TOML or JSON: a list that is taken is one, and reads the
/// same when it is written out again.
pub fn backends_file(bytes: &[u8]) {
    for path in ["backends.toml", "backends.json"] {
        let Ok(specs) = watch::parse(Path::new(path), bytes) else { continue };
        assert!(!specs.is_empty() && specs.len() <= BACKENDS_MAX);
        assert_listed_once(specs.iter());
        let value = serde_json::json!({ "backend": specs });
        let toml = toml::to_string(&value).expect("a list can be written");
        for (path, text) in [("b.json", value.to_string()), ("b.toml", toml)] {
            let again = watch::parse(Path::new(path), text.as_bytes());
            assert_eq!(again.expect("what was written can be read"), specs);
        }
    }
}

fn assert_listed_once<'a>(specs: impl Iterator<Item = &'a BackendSpec>) {
    let mut seen = std::collections::HashSet::new();
    for spec in specs {
        assert!(seen.insert(spec.address), "{} is there twice", spec.address);
    }
}

/// What a backend answers when it is asked for its health, in pieces as long as the
/// first byte says: how it is cut makes no difference, more bytes never change a
/// verdict, and what is read and said is bounded.
pub fn health_answer(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let ask = |bytes: &[u8], piece| {
        let mut stream = Stream::new(bytes, piece);
        let answer = now(grpc_health::ask(&mut stream, b"request"));
        assert!(stream.at <= ANSWER_BYTES_MAX + FRAME_BYTES_MAX + 18);
        assert!(stream.written.len() <= b"request".len() + stream.at);
        answer.map_err(|error| error.to_string())
    };
    let whole = ask(bytes, usize::MAX);
    assert_eq!(ask(bytes, usize::from(piece)), whole);
    let half = ask(&bytes[..bytes.len() / 2], usize::MAX);
    assert!(half == whole || half == ask(&[], usize::MAX), "{half:?} became {whole:?}");
}

/// The outcome of a future that waits for nothing but memory.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits for something, and there is nothing to wait for"),
    }
}

/// A connection whose other side has said all it has to say.
struct Stream<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Most bytes that one read gives.
    piece: usize,
    written: Vec<u8>,
}

impl<'a> Stream<'a> {
    fn new(bytes: &'a [u8], piece: usize) -> Self {
        Self { bytes, at: 0, piece: piece.max(1), written: Vec::new() }
    }
}

impl AsyncRead for Stream<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.bytes[this.at..];
        let taken = rest.len().min(this.piece).min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        this.at += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Backends that are only a list; weights above 100 are "invalid".
#[derive(Default)]
pub(crate) struct ListOnly(Mutex<Vec<BackendStatus>>);

impl ListOnly {
    fn all(&self) -> MutexGuard<'_, Vec<BackendStatus>> {
        self.0.lock().expect("nothing panics while it holds it")
    }

    fn change(
        &self,
        address: SocketAddr,
        change: impl FnOnce(&mut BackendStatus),
    ) -> Result<(), ChangeError> {
        let mut all = self.all();
        let mut found = all.iter_mut().filter(|one| one.spec.address == address);
        change(found.next().ok_or(ChangeError::Unknown(address))?);
        Ok(())
    }
}

impl Backends for ListOnly {
    fn list(&self) -> Vec<BackendStatus> {
        self.all().clone()
    }

    fn add(&self, spec: BackendSpec) -> Result<(), ChangeError> {
        let mut all = self.all();
        if all.iter().any(|one| one.spec.address == spec.address) {
            return Err(ChangeError::Exists(spec.address));
        }
        let state = BackendState::Active;
        all.push(BackendStatus::new(spec, state));
        Ok(())
    }

    fn remove(&self, address: SocketAddr) -> Result<(), ChangeError> {
        let mut all = self.all();
        let index = all.iter().position(|one| one.spec.address == address);
        let index = index.ok_or(ChangeError::Unknown(address))?;
        if all.len() == 1 {
            return Err(ChangeError::Last);
        }
        all.remove(index);
        Ok(())
    }

    fn set_draining(&self, address: SocketAddr, draining: bool) -> Result<(), ChangeError> {
        let state = if draining { BackendState::Draining } else { BackendState::Active };
        self.change(address, |one| one.state = state)
    }

    fn set_weight(&self, address: SocketAddr, weight: NonZeroU32) -> Result<(), ChangeError> {
        if weight.get() > 100 {
            return Err(ChangeError::Invalid("too heavy".to_owned()));
        }
        self.change(address, |one| one.spec.weight = weight)
    }

    fn replace(&self, specs: &[BackendSpec]) -> Result<Replaced, ChangeError> {
        self.all().clear();
        specs.iter().try_for_each(|spec| self.add(spec.clone()))?;
        Ok(Replaced::default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_must_hold_does(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            begun in prop::sample::select(vec![
                &b""[..], b"\x07POST / HTTP/1.1\r\n", b"\x05\0\0\x06\x04\0\0\0\0\0",
                b"\x01\0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08",
            ]),
        ) {
            let bytes = [begun, &bytes].concat();
            super::http_request(&bytes);
            super::admin_requests(&bytes);
            super::backends_file(&bytes);
            super::health_answer(&bytes);
        }

        #[test]
        fn requests_that_change_something_leave_a_list(
            lines in prop::collection::vec(
                "(GET|POST|PATCH|DELETE) /backends(/127.0.0.1:[1-3])? \\{(\"address\":\"127.0.0.1:[1-3]\"|\"weight\":1?[0-9]{1,2}(,\"state\":\"(active|draining)\")?)\\}",
                0..8,
            ),
        ) {
            super::admin_requests(lines.join("\n").as_bytes());
        }
    }
}
