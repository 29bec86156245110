//! Whom clients trust under TLS, and tonic's connections there.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use serve::tls::{self, ClientSide};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tonic::{
    codegen::{Service, http::Uri},
    transport::{Channel, Endpoint, Error},
};

use super::CONNECT_TIMEOUT;

/// The authorities that servers' certificates are checked against, and the name that
/// they have to be for.
#[derive(Clone, Debug)]
pub struct Trust {
    /// For connections that the generator makes itself.
    pub wire: ClientSide,
}

/// Where tonic connects to, and what its calls name the service by.
pub fn endpoint(address: &str, authority: &str, trust: Option<&Trust>) -> Result<Endpoint, Error> {
    let scheme = if trust.is_some() { "https" } else { "http" };
    let origin = Endpoint::from_shared(format!("{scheme}://{authority}"))?.uri().clone();
    // TLS is the connector's to speak.
    Ok(Endpoint::from_shared(format!("http://{address}"))?.origin(origin))
}

/// Connects to an endpoint, under TLS where there is somebody to trust.
pub async fn connect(endpoint: &Endpoint, trust: Option<&Trust>) -> Result<Channel, Error> {
    match trust {
        None => endpoint.connect().await,
        Some(trust) => endpoint.connect_with_connector(Connector(trust.wire.clone())).await,
    }
}

/// The same, with the first call that needs it.
pub(super) fn connect_lazy(endpoint: &Endpoint, trust: Option<&Trust>) -> Channel {
    match trust {
        None => endpoint.connect_lazy(),
        Some(trust) => endpoint.connect_with_connector_lazy(Connector(trust.wire.clone())),
    }
}

/// TLS by the same configuration as the lab's own client, which tonic's own has no word
/// for in all cases.
#[derive(Clone)]
struct Connector(ClientSide);

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let side = self.0.clone();
        Box::pin(async move {
            let address = uri.authority().map(|authority| authority.as_str().to_owned());
            let address = address.ok_or(io::ErrorKind::InvalidInput)?;
            let connected = async {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                tls::connect(socket, side).await
            };
            Ok(TokioIo::new(timeout(CONNECT_TIMEOUT, connected).await??))
        })
    }
}
