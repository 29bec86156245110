//! A small HTTP/1.1 server for the metrics and admin endpoints: one request a
//! connection, everything bounded.
//!
//! Left out on purpose: keep-alive, chunked bodies, TLS, and streaming. An
//! operator's endpoint sees a request a second; what it must not do is cost
//! memory or descriptors when a stranger leans on it. hyper would do as well,
//! but its HTTP/1 half would then be compiled into every server for this.
//!
//! Nobody who is silent or slow keeps an operator out: there is room for a number
//! of connections, and when it is used up the oldest makes place for a new one. A
//! request takes milliseconds, so the oldest is one that does not come to its end.
//! Whose requests are taken at all is in [`host`].
//!
//! Source: RFC 9112.

pub mod host;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

use self::host::{AllowedHosts, Site, Source};
use crate::{
    accept::{AcceptCounters, AcceptOptions, Accepted, Acceptor, ConnectionLimit},
    shutdown::Shutdown,
};

/// Most fields in the head of a request; browsers send some twenty.
const FIELDS_MAX: usize = 64;

/// The bounds of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of request line and headers together.
    pub head_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Connections open at once; a further one takes the place of the oldest.
    pub connections: usize,
    /// Time for a connection from its first byte to its last.
    pub time: Duration,
}

impl Default for HttpLimits {
    /// 8 KiB of head, 64 KiB of body, 64 connections, 5 s.
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            body_bytes: 64 * 1024,
            connections: 64,
            time: Duration::from_secs(5),
        }
    }
}

/// A request, read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

impl Request {
    /// The method, as it was sent (methods are case-sensitive).
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path, without the query and not percent-decoded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    content_type: &'static str,
    allow: Option<&'static str>,
    body: Vec<u8>,
}

impl Response {
    /// A response with a body of the given type.
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, allow: None, body }
    }

    /// A response in plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into().into_bytes())
    }

    /// A response in JSON. A value that can't be written as JSON gives status
    /// 500 and the reason.
    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self::new(status, "application/json", body)
            }
            Err(error) => Self::text(500, format!("{error}\n")),
        }
    }

    /// Status 405 with the methods that are allowed (`GET, POST`).
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let text = format!("This path takes {allow}.\n");
        Self { allow: Some(allow), ..Self::text(405, text) }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Serves requests with `handler` until `shutdown` is terminated, by the address
/// of `listener` and by the names that are `allowed`. The handler runs on the
/// server's thread and must not block.
pub async fn serve<H>(
    listener: TcpListener,
    limits: HttpLimits,
    allowed: AllowedHosts,
    handler: H,
    mut shutdown: Shutdown,
) where
    H: Fn(&Request) -> Response + Send + Sync + 'static,
{
    // A listener that can't say where it listens is broken.
    let Ok(address) = listener.local_addr() else { return };
    let handler = Arc::new(handler);
    // The bound is kept below.
    let options = AcceptOptions { limit: ConnectionLimit::new(usize::MAX), nodelay: true };
    let mut acceptor = Acceptor::new(listener, options, AcceptCounters::unregistered());
    // Dropping the set aborts what is left in it.
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            () = shutdown.terminated() => return,
            Some(_) = connections.join_next() => {}
            accepted = acceptor.accept() => {
                // A broken listener ends the endpoint, not the server.
                let Ok(accepted) = accepted else { return };
                oldest_first.retain(|connection| !connection.is_finished());
                if oldest_first.len() >= limits.connections
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                let (handler, allowed) = (Arc::clone(&handler), allowed.clone());
                oldest_first.push_back(connections.spawn(async move {
                    let Accepted { stream, place, .. } = accepted;
                    let reached = stream.local_addr().unwrap_or(address);
                    let site = Site { addresses: [address, reached], allowed };
                    let exchange = exchange(stream, limits, &site, &*handler);
                    let _ = tokio::time::timeout(limits.time, exchange).await;
                    drop(place);
                }));
            }
        }
    }
}

pub(crate) async fn exchange<H>(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    limits: HttpLimits,
    site: &Site,
    handler: &H,
) -> std::io::Result<()>
where
    H: Fn(&Request) -> Response,
{
    let response = match read_request(&mut stream, limits, site).await? {
        Ok(request) => handler(&request),
        Err(Refusal::Closed) => return Ok(()),
        Err(Refusal::Status(status, reason)) => Response::text(status, format!("{reason}\n")),
    };
    stream.write_all(&encode(&response)).await?;
    stream.shutdown().await?;
    // Closing with bytes unread would reset the connection, and the reset can
    // overtake the response; so what still comes is read and thrown away, as
    // long as the connection's time allows.
    let mut scratch = [0_u8; 1024];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

/// Why a request is not answered by the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client went away in the middle; nobody is there to be told.
    Closed,
    Status(u16, &'static str),
}

pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    limits: HttpLimits,
    site: &Site,
) -> std::io::Result<Result<Request, Refusal>> {
    let mut bytes = Vec::with_capacity(1024);
    let head_end = loop {
        if let Some(end) = find_head_end(&bytes) {
            break end;
        }
        if bytes.len() >= limits.head_bytes {
            return Ok(Err(Refusal::Status(431, "The request's head is too large.")));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(Err(Refusal::Closed));
        }
    };
    if head_end > limits.head_bytes {
        return Ok(Err(Refusal::Status(431, "The request's head is too large.")));
    }
    let checked = |head: Head| site.check(&head.source).map(|()| head);
    let head = match parse_head(&bytes[..head_end]).and_then(checked) {
        Ok(head) => head,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if head.content_length > limits.body_bytes {
        return Ok(Err(Refusal::Status(413, "The request's body is too large.")));
    }
    let mut body = bytes.split_off(head_end);
    while body.len() < head.content_length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(Err(Refusal::Closed));
        }
    }
    body.truncate(head.content_length);
    Ok(Ok(Request { method: head.method, path: head.path, body }))
}

/// Where the body begins.
fn find_head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    method: String,
    path: String,
    content_length: usize,
    source: Source,
}

/// Reads request line and headers, up to and with the empty line.
fn parse_head(head: &[u8]) -> Result<Head, Refusal> {
    const MALFORMED: Refusal = Refusal::Status(400, "The request is malformed.");
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        // A lone line feed ends a line for some readers and not for others.
        Ok(httparse::Status::Complete(_)) if !has_lone_line_feed(head) => {}
        Err(httparse::Error::Version) => {
            return Err(Refusal::Status(505, "This endpoint speaks HTTP/1.1."));
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::Status(431, "The request has too many headers."));
        }
        Ok(_) | Err(_) => return Err(MALFORMED),
    }
    let target = request.path.unwrap_or_default();
    // What is not visible ASCII has to be percent-encoded in a target (RFC 3986).
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(MALFORMED);
    }
    let mut content_length = None;
    let mut source = Source::default();
    for field in request.headers {
        let (name, value) = (field.name, std::str::from_utf8(field.value).map_err(|_| MALFORMED)?);
        if name.eq_ignore_ascii_case("content-length") {
            let length = parse_length(value).ok_or(MALFORMED)?;
            if content_length.replace(length).is_some_and(|earlier| earlier != length) {
                return Err(MALFORMED);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refusal::Status(501, "Send the body with a content-length."));
        } else if let Some(field) = source.field(name)
            && field.replace(value.to_owned()).is_some()
        {
            return Err(MALFORMED);
        }
    }
    if request.version == Some(1) && source.host.is_none() {
        return Err(Refusal::Status(400, "HTTP/1.1 wants a Host in every request."));
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Ok(Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        content_length: content_length.unwrap_or(0),
        source,
    })
}

/// Digits only: `parse` alone would take a leading plus sign.
fn parse_length(value: &str) -> Option<usize> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

fn has_lone_line_feed(head: &[u8]) -> bool {
    head.starts_with(b"\n") || head.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
}

fn encode(response: &Response) -> Vec<u8> {
    let reason = match response.status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "",
    };
    let allow = response.allow.map(|allow| format!("allow: {allow}\r\n")).unwrap_or_default();
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{allow}\
         cache-control: no-store\r\nconnection: close\r\n\r\n",
        response.status,
        response.content_type,
        response.body.len(),
    )
    .into_bytes();
    bytes.extend_from_slice(&response.body);
    bytes
}

#[cfg(test)]
mod tests;
