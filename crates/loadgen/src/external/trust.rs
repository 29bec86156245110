//! Whom to trust at a target that speaks TLS.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use generator::client::Trust;
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serve::tls::{self, Named, TlsError};

/// What the user says of TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// The authorities that certificates have to come from; the system's where `None`.
    pub(crate) ca: Option<PathBuf>,
    /// The name that they have to be for; the target's host where `None`.
    pub(crate) server_name: Option<String>,
    /// The certificate that the lab shows, and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate will do.
    pub(crate) insecure: bool,
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the system has no certificates of authorities{0}; name a file of them with --ca")]
    NoRoots(String),
}

impl TlsOptions {
    /// How a client connects to `host`.
    ///
    /// # Errors
    /// The first thing that is wrong with a file or a name.
    pub(super) fn trust(&self, host: &str) -> Result<Trust, TrustError> {
        let identity = self.identity.as_ref().map(|(cert, key)| {
            (Named { flag: "--cert", path: cert }, Named { flag: "--key", path: key })
        });
        let mut config = match &self.ca {
            Some(path) => tls::client_config(Named { flag: "--ca", path }, identity)?,
            None if self.insecure => tls::trusting(RootCertStore::empty(), identity)?,
            None => tls::trusting(system_roots()?, identity)?,
        };
        if self.insecure {
            let provider = Arc::clone(config.crypto_provider());
            config.dangerous().set_certificate_verifier(Arc::new(Unchecked(provider)));
        }
        // Every connection is made as by a client that is new, as with the lab's own peers.
        config.resumption = Resumption::disabled();
        let name = match &self.server_name {
            Some(name) => tls::server_name("--server-name", name)?,
            None => tls::server_name("--target", unbracketed(host))?,
        };
        Ok(Trust { wire: (Arc::new(config), name) })
    }
}

/// An IPv6 address stands in brackets beside a port, and nowhere else.
fn unbracketed(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.parse::<IpAddr>().is_ok()).unwrap_or(host)
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(" ({error})"));
        return Err(TrustError::NoRoots(reason.unwrap_or_default()));
    }
    Ok(roots)
}

/// Takes any certificate (`--insecure`), and still has the server prove that it is its own.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
