//! A server whose connections are raw ones.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use super::Peer;
use crate::within;

/// A backend that does what the test says.
pub struct RawServer {
    listener: TcpListener,
    addr: SocketAddr,
}

impl RawServer {
    /// A server on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next connection, on which these settings were sent.
    ///
    /// # Panics
    /// When none comes, or it does not begin with the preface.
    pub async fn accept(&self, settings: &[(u16, u32)]) -> Peer {
        let mut peer = self.accept_silent().await;
        peer.greet(settings).await.unwrap();
        peer
    }

    /// The socket itself.
    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// The next connection, on which nothing was sent or read.
    ///
    /// # Panics
    /// When none comes.
    pub async fn accept_silent(&self) -> Peer {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        Peer::new(stream)
    }
}
