//! A look at a page that a proxy serves about itself, over plain HTTP.
//!
//! Asked in the middle of a trial, so it is short: a proxy that does not answer soon
//! is asked again at the next look.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

/// The most that is read of a page.
const BYTES_MAX: u64 = 4 << 20;

/// The text of `http://ADDRESS/PATH`. Each step may take `timeout`.
pub(super) fn get(url: &str, timeout: Duration) -> io::Result<String> {
    let wrong = |what: &str| io::Error::other(format!("{url}: {what}"));
    let rest = url.strip_prefix("http://").ok_or_else(|| wrong("no http:// address"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut addresses = authority.to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| wrong("no address"))?;
    let mut socket = TcpStream::connect_timeout(&address, timeout)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    let read = socket.take(BYTES_MAX).read_to_end(&mut text);
    // Who answers and then drops what was asked resets the connection.
    if text.is_empty() {
        read?;
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.lines().next().and_then(|line| line.split(' ').nth(1));
    if status != Some("200") {
        return Err(wrong(&format!("answered `{}`", text.lines().next().unwrap_or_default())));
    }
    Ok(text)
}

/// Whether a text names this address, and not only a longer one that holds it.
pub(super) fn names(text: &str, address: SocketAddr) -> bool {
    let address = address.to_string();
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    text.match_indices(&address).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + address.len()..].chars().next();
        !is_digit(before) && !is_digit(after)
    })
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead as _, net::TcpListener, thread};

    use super::*;

    #[test]
    fn a_page_is_read_and_a_refusal_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let answers = ["HTTP/1.0 200 OK\r\n\r\n10.0.0.1:80 ", "HTTP/1.1 404 Not Found\r\n\r\n"];
            for answer in answers {
                let (mut socket, _) = listener.accept().unwrap();
                let mut lines = io::BufReader::new(socket.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                socket.write_all(answer.as_bytes()).unwrap();
            }
        });
        let url = format!("http://{address}/backends");
        let get = |url: &str| get(url, Duration::from_secs(30));
        assert!(get(&url).unwrap().ends_with("10.0.0.1:80 "));
        assert!(get(&url).unwrap_err().to_string().contains("404"));
        server.join().unwrap();
        assert!(get(&url).is_err() && get("ftp://x").is_err());
    }

    #[test]
    fn an_address_is_named_as_a_whole() {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        assert!(names("{\"address\":\"10.0.0.1:80\"}", address));
        assert!(names("10.0.0.1:8080 10.0.0.1:80", address));
        assert!(!names("10.0.0.1:8080 110.0.0.1:80", address));
        assert!(!names("", address));
    }
}
