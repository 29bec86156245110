//! TLS as every server here speaks it: certificates from PEM files, HTTP/2 agreed
//! on by ALPN (RFC 7301), rustls with the cryptography of `ring`, nothing of the
//! system.
//!
//! What goes wrong is said with the flag and the file. A peer that has not agreed
//! on HTTP/2 is turned away, as the gRPC spec has it. Left out: when files are
//! read again, which is the owner's to know.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::files::read_regular;

/// Bytes of the largest file that is read: many times a system's whole bundle of
/// authorities.
pub const PEM_BYTES_MAX: u64 = 16 << 20;

/// The protocol that both sides have to agree on.
pub const H2: &[u8] = b"h2";

/// What a connection to a server is secured with: whom to trust, and the name that
/// the server's certificate has to be for.
pub type ClientSide = (Arc<ClientConfig>, ServerName<'static>);

/// A file, and the flag that names it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The flag, as in `--tls-cert`.
    pub flag: &'static str,
    /// The file.
    pub path: &'a Path,
}

impl Named<'_> {
    fn read(self) -> Result<Vec<u8>, TlsError> {
        read_regular(self.path, PEM_BYTES_MAX).map_err(|error| self.unreadable(error))
    }

    fn unreadable(self, error: impl ToString) -> TlsError {
        TlsError::Read { flag: self.flag, path: self.path.to_owned(), reason: error.to_string() }
    }
}

/// What is wrong with the TLS files, or with what the flags say of them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{flag} {path}: {reason}; name a PEM file that can be read", path = path.display())]
    Read {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A file holds nothing of what it should.
    #[error("{flag} {path}: it holds no {what}; expected PEM with a block of that kind", path = path.display())]
    Empty {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// What the files hold does not do.
    #[error("{flag} {path}: {reason}", path = path.display())]
    Unusable {
        /// The flag that names the first of the files.
        flag: &'static str,
        /// That file.
        path: PathBuf,
        /// Why it can't be used.
        reason: String,
    },
    /// This build has no version of TLS to speak.
    #[error("TLS can't be spoken: {0}")]
    Protocol(String),
    /// The name is none.
    #[error("{flag} `{name}` is neither a DNS name nor an address")]
    Name {
        /// The flag that gives it.
        flag: &'static str,
        /// The name.
        name: String,
    },
}

impl TlsError {
    fn unusable(file: Named<'_>, reason: impl ToString) -> Self {
        Self::Unusable { flag: file.flag, path: file.path.to_owned(), reason: reason.to_string() }
    }
}

/// A server's side: its chain of certificates with its key, and the authority of
/// the clients that it takes, where not all are.
///
/// # Errors
/// The first thing that is wrong with the files.
pub fn server_config(
    cert: Named<'_>,
    key: Named<'_>,
    client_ca: Option<Named<'_>>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(cert)?;
    let key = private_key(key)?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::unusable(cert, error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(roots(ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|error| TlsError::unusable(ca, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| TlsError::unusable(cert, error))?;
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}

/// A client's side: the authority of the servers that it trusts, and the
/// certificate with its key that it shows to those who ask.
///
/// # Errors
/// The first thing that is wrong with the files.
pub fn client_config(
    ca: Named<'_>,
    identity: Option<(Named<'_>, Named<'_>)>,
) -> Result<ClientConfig, TlsError> {
    trusting(roots(ca)?, identity)
}

/// The same, for a client that trusts these authorities.
///
/// # Errors
/// The first thing that is wrong with the files.
pub fn trusting(
    roots: RootCertStore,
    identity: Option<(Named<'_>, Named<'_>)>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Protocol(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((cert, key)) => {
            let (chain, key) = (certificates(cert)?, private_key(key)?);
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| TlsError::unusable(cert, error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}

/// The name that a server's certificate has to be for.
///
/// # Errors
/// When it is neither a DNS name nor an address.
pub fn server_name(flag: &'static str, name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| TlsError::Name { flag, name: name.to_owned() })
}

/// Shakes hands with a client. The caller bounds the time; what a client can send
/// before the end of its handshake, rustls bounds (a message of 64 KiB).
///
/// # Errors
/// When it speaks no TLS, or does not agree on HTTP/2.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Arc<ServerConfig>,
) -> io::Result<server::TlsStream<S>> {
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    agreed(stream.get_ref().1.alpn_protocol())?;
    Ok(stream)
}

/// Shakes hands with a server. The caller bounds the time.
///
/// # Errors
/// When it can't be trusted, speaks no TLS, or does not agree on HTTP/2.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    (config, name): ClientSide,
) -> io::Result<client::TlsStream<S>> {
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    agreed(stream.get_ref().1.alpn_protocol())?;
    Ok(stream)
}

fn agreed(protocol: Option<&[u8]>) -> io::Result<()> {
    if protocol == Some(H2) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it did not agree on HTTP/2 (ALPN)"))
}

fn certificates(file: Named<'_>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = file.read()?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| file.unreadable(error))?;
    if found.is_empty() {
        let what = "CERTIFICATE";
        return Err(TlsError::Empty { flag: file.flag, path: file.path.to_owned(), what });
    }
    Ok(found)
}

fn private_key(file: Named<'_>) -> Result<PrivateKeyDer<'static>, TlsError> {
    use rustls::pki_types::pem::Error;
    let (flag, path) = (file.flag, file.path.to_owned());
    PrivateKeyDer::from_pem_slice(&file.read()?).map_err(|error| match error {
        Error::NoItemsFound => TlsError::Empty { flag, path, what: "PRIVATE KEY" },
        error => file.unreadable(error),
    })
}

fn roots(file: Named<'_>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| TlsError::unusable(file, error))?;
    }
    Ok(roots)
}
