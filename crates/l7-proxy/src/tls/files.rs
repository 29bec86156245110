//! Files to checked configurations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::{H2, TlsArgs};

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
    /// The name is none.
    #[error("--backend-tls-name `{0}` is neither a DNS name nor an address")]
    Name(String),
}

/// What the files came to.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) server: Option<ServerConfig>,
    pub(super) client: Option<ClientConfig>,
}

/// Reads all files.
pub(super) fn load(args: &TlsArgs) -> Result<Loaded, TlsError> {
    Ok(Loaded { server: server(args)?, client: client(args)? })
}

/// The name that a backend's certificate has to be for.
pub(super) fn server_name(name: String) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name))
}

/// All files that the flags name.
pub(super) fn paths(args: &TlsArgs) -> Vec<PathBuf> {
    let named = [
        &args.tls_cert,
        &args.tls_key,
        &args.tls_client_ca,
        &args.backend_tls_ca,
        &args.backend_tls_cert,
        &args.backend_tls_key,
    ];
    named.into_iter().flatten().cloned().collect()
}

fn server(args: &TlsArgs) -> Result<Option<ServerConfig>, TlsError> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let unusable =
        |reason: String| TlsError::Unusable { flag: "--tls-cert", path: cert.clone(), reason };
    let chain = certificates("--tls-cert", cert)?;
    let key = private_key("--tls-key", key)?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match &args.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots("--tls-client-ca", path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|error| TlsError::Unusable {
                flag: "--tls-client-ca",
                path: path.clone(),
                reason: error.to_string(),
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(Some(config))
}

fn client(args: &TlsArgs) -> Result<Option<ClientConfig>, TlsError> {
    let Some(ca) = &args.backend_tls_ca else { return Ok(None) };
    let roots = roots("--backend-tls-ca", ca)?;
    let unusable = |flag, path: &Path, error: rustls::Error| TlsError::Unusable {
        flag,
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("--backend-tls-ca", ca, error))?
        .with_root_certificates(roots);
    let mut config = match (&args.backend_tls_cert, &args.backend_tls_key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("--backend-tls-cert", cert)?;
            let key = private_key("--backend-tls-key", key)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("--backend-tls-cert", cert, error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(Some(config))
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |error: rustls::pki_types::pem::Error| TlsError::Read {
        flag,
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let found = CertificateDer::pem_file_iter(path).map_err(read)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if found.is_empty() {
        return Err(TlsError::Empty { flag, path: path.to_owned(), what: "CERTIFICATE" });
    }
    Ok(found)
}

fn private_key(flag: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    use rustls::pki_types::pem::Error;
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        Error::NoItemsFound => TlsError::Empty { flag, path: path.to_owned(), what: "PRIVATE KEY" },
        error => TlsError::Read { flag, path: path.to_owned(), reason: error.to_string() },
    })
}

fn roots(flag: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(flag, path)? {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            flag,
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}
