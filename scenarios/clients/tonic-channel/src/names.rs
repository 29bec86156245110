//! Names asked of a given server: addresses (A) over UDP, RFC 1035. tonic asks the system
//! otherwise, which knows no server of the lab's.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::{net::UdpSocket, time::timeout};

const TIMEOUT: Duration = Duration::from_secs(5);
const ADDRESS: u16 = 1;
const INTERNET: u16 = 1;

/// The server that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names(pub(crate) SocketAddr);

impl tower_service::Service<Name> for Names {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let server = self.0;
        Box::pin(async move {
            let asked = ask(server, name.as_str());
            let addresses = timeout(TIMEOUT, asked).await.map_err(io::Error::other)??;
            // The port is that of the URI.
            Ok(addresses
                .into_iter()
                .map(|ip| SocketAddr::from((ip, 0)))
                .collect::<Vec<_>>()
                .into_iter())
        })
    }
}

async fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    socket.send(&question(name)).await?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).await?;
    addresses(&answer[..length])
        .ok_or_else(|| io::Error::other(format!("no answer that can be read for {name}")))
}

/// Which addresses a name has.
fn question(name: &str) -> Vec<u8> {
    // An id, recursion desired, one question.
    let mut out = vec![0x17, 0x71, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(ADDRESS.to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    out
}

/// The addresses in an answer; `None` where it is none, or is cut off.
fn addresses(message: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let number = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = after_name(message, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if let (ADDRESS, &[a, b, c, d]) = (kind, data) {
            found.push(Ipv4Addr::new(a, b, c, d));
        }
        at += 10 + length;
    }
    Some(found)
}

/// Where a name ends: after its labels, or after the place where it goes on.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            label if label >= 0xc0 => return Some(at + 2),
            label => at += label + 1,
        }
    }
}
