//! What a server speaks that can't be called.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long a server may take to show what it speaks.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// What a server that can't be called speaks in place of what it is called by, under TLS or
/// not, and what to do then, as far as a look at its first bytes tells.
pub(crate) fn what_it_speaks_instead(
    addresses: &[SocketAddr],
    authority: &str,
    is_under_tls: bool,
) -> Option<String> {
    let found = addresses.iter().find_map(|address| what_it_speaks(*address));
    match (found?, is_under_tls) {
        (Spoken::Http2, false) => None,
        (other, false) => Some(format!(
            "{}; it has to speak HTTP/2 without TLS, or be given as https://{authority}",
            other.in_words()
        )),
        // A look without TLS says nothing of a server that speaks it.
        (Spoken::Tls | Spoken::Unclear, true) => None,
        (other, true) => Some(format!(
            "{} without TLS; a target that speaks HTTP/2 without it is given as {authority}",
            other.in_words()
        )),
    }
}

/// What comes back to the first bytes of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http2,
    Http1,
    Tls,
    /// Nothing, or the end.
    Unclear,
    Other,
}

impl Spoken {
    fn in_words(self) -> &'static str {
        match self {
            Self::Http2 => "it speaks HTTP/2",
            Self::Http1 => "it speaks HTTP/1",
            Self::Tls => "it speaks TLS",
            Self::Unclear => {
                "it closes the connection, or says nothing: it may speak TLS, or no HTTP/2"
            }
            Self::Other => "it speaks no HTTP/2",
        }
    }
}

/// `None` where nobody listens.
fn what_it_speaks(address: SocketAddr) -> Option<Spoken> {
    let mut first = [0; 8];
    let exchange = |first: &mut [u8]| -> io::Result<usize> {
        let mut socket = TcpStream::connect_timeout(&address, CHECK_TIMEOUT)?;
        socket.set_read_timeout(Some(CHECK_TIMEOUT))?;
        // The preface and SETTINGS: what every client of HTTP/2 begins with.
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        socket.read(first)
    };
    match (exchange(&mut first), &first) {
        (Err(error), _) if error.kind() == io::ErrorKind::ConnectionRefused => None,
        (Ok(_), b"HTTP/1.0" | b"HTTP/1.1") => Some(Spoken::Http1),
        // An alert.
        (Ok(_), [0x15, 0x03, ..]) => Some(Spoken::Tls),
        (Ok(0) | Err(_), _) => Some(Spoken::Unclear),
        // The head of a SETTINGS frame.
        (Ok(_), [_, _, _, 0x04, ..]) => Some(Spoken::Http2),
        (Ok(_), _) => Some(Spoken::Other),
    }
}
