//! Certificates of a run: an authority of its own, and what it has signed.
//!
//! Nothing outlives the run and nothing else is trusted. All certificates are for one
//! name, which clients and proxies ask for whatever address they connect to: a
//! backend is met at its own address or at that of a balancer that passes TLS
//! through. Left out: certificates of clients, and revocation.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::Resumption;
use scenario::TlsFiles;
use serve::tls::{self, Named, TlsError};

use crate::drive::client::Trust;

/// The name that all certificates are for.
pub(crate) const NAME: &str = "layerlab.test";

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

/// What a run's processes speak TLS with. The files are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: tempfile::TempDir,
    ca: PathBuf,
    balancer: Pair,
    backends: Pair,
    trust: Arc<Trust>,
}

impl Certificates {
    /// Makes them, in a folder that only this user can read.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(crate) fn make() -> Result<Self, CertificateError> {
        let folder = tempfile::tempdir().map_err(CertificateError::Folder)?;
        let authority = Authority::new()?;
        let ca = folder.path().join("ca.pem");
        write(&ca, &authority.pem)?;
        let balancer = authority.sign(folder.path(), "balancer")?;
        let backends = authority.sign(folder.path(), "backend")?;
        let trust = Arc::new(trust(&ca)?);
        Ok(Self { folder, ca, balancer, backends, trust })
    }

    /// Where the files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a proxy speaks TLS with.
    pub(crate) fn of_balancer(&self) -> TlsFiles<'_> {
        self.files(&self.balancer)
    }

    /// What backends speak TLS with.
    pub(crate) fn of_backends(&self) -> TlsFiles<'_> {
        self.files(&self.backends)
    }

    fn files<'a>(&'a self, Pair { cert, key }: &'a Pair) -> TlsFiles<'a> {
        TlsFiles { ca: &self.ca, cert, key, name: NAME }
    }

    /// Whom clients trust.
    pub(crate) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }
}

/// Why a run has nothing to speak TLS with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot make certificates for TLS: no temporary folder: {0}; name another in TMPDIR")]
    Folder(io::Error),
    #[error("cannot make certificates for TLS: {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot make certificates for TLS: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("cannot make certificates for TLS: {0}")]
    Tls(#[from] TlsError),
}

/// Whoever signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Who is called as its issuer has signed itself, in the eyes of OpenSSL.
        params.distinguished_name.push(DnType::CommonName, "layerlab, a run's authority");
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    fn sign(&self, folder: &Path, name: &str) -> Result<Pair, CertificateError> {
        let own_key = KeyPair::generate()?;
        let mut params = CertificateParams::new([NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, NAME);
        let signed = params.signed_by(&own_key, &self.issuer)?;
        let cert = folder.join(format!("{name}.pem"));
        // Some proxies are told of the certificate alone, and look for its key there.
        let key = folder.join(format!("{name}.pem.key"));
        write(&cert, &signed.pem())?;
        write(&key, &own_key.serialize_pem())?;
        Ok(Pair { cert, key })
    }
}

fn trust(ca: &Path) -> Result<Trust, TlsError> {
    let named = Named { flag: "the authority", path: ca };
    let mut config = tls::client_config(named, None)?;
    // Every connection is made as by a client that is new: whether one that has been
    // there may resume is the server's to say, and would differ between peers.
    config.resumption = Resumption::disabled();
    let name = tls::server_name("the name", NAME)?;
    Ok(Trust { wire: (Arc::new(config), name) })
}

fn write(path: &Path, text: &str) -> Result<(), CertificateError> {
    fs::write(path, text).map_err(|error| CertificateError::Write { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_show_is_for_the_name_that_clients_ask_for() {
        let certificates = Certificates::make().unwrap();
        let balancer = certificates.of_balancer();
        let beside = format!("{}.key", balancer.cert.display());
        assert_eq!(balancer.key, Path::new(&beside));
        for (cert, key) in [
            (balancer.cert, balancer.key),
            (certificates.of_backends().cert, certificates.of_backends().key),
        ] {
            let [cert, key] = [cert, key].map(|path| Named { flag: "it", path });
            tls::server_config(cert, key, None).unwrap();
        }
        let folder = certificates.folder().to_owned();
        drop(certificates);
        assert!(!folder.exists(), "nothing is left behind");
    }
}
