//! Whom clients trust under TLS, in the words of each client.

use serve::tls::ClientSide;
use tonic::transport::{ClientTlsConfig, Endpoint, Error};

/// The authority that servers' certificates are checked against, and the name that
/// they have to be for.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// For what drives rustls itself.
    pub(crate) wire: ClientSide,
    pub(crate) tonic: ClientTlsConfig,
}

/// Where tonic connects to, under TLS where there is somebody to trust.
pub(crate) fn endpoint(authority: &str, trust: Option<&Trust>) -> Result<Endpoint, Error> {
    match trust {
        None => Endpoint::from_shared(format!("http://{authority}")),
        Some(trust) => {
            Endpoint::from_shared(format!("https://{authority}"))?.tls_config(trust.tonic.clone())
        }
    }
}
