//! Certificates of a run: an authority of its own, and what it has signed.
//!
//! Nothing outlives the run and nothing else is trusted. All certificates are for one
//! name, which clients and proxies ask for whatever address they connect to: a
//! backend is met at its own address or at that of a balancer that passes TLS
//! through. Left out: certificates of clients, and revocation.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use generator::client::Trust;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::Resumption;
use scenario::TlsFiles;
use serve::tls::{self, Named, TlsError};

/// The name that all certificates are for.
pub(crate) const NAME: &str = "layerlab.test";

const CA: &str = "ca.pem";
const BALANCER: &str = "balancer";
const BACKEND: &str = "backend";

/// A temporary folder that only this user can read; the usual ones are open to all.
pub(crate) fn private_folder() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Pair {
    /// Those of a name. Some proxies are told of the certificate alone, and look for its key
    /// there.
    fn of(folder: &tempfile::TempDir, name: &str) -> Self {
        let file = |end: &str| folder.path().join(format!("{name}.pem{end}"));
        Self { cert: file(""), key: file(".key") }
    }
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
        let folder = private_folder().map_err(CertificateError::Folder)?;
        let authority = Authority::new()?;
        write(&folder.path().join(CA), &authority.pem)?;
        authority.sign(&Pair::of(&folder, BALANCER))?;
        authority.sign(&Pair::of(&folder, BACKEND))?;
        Self::in_folder(folder)
    }

    fn in_folder(folder: tempfile::TempDir) -> Result<Self, CertificateError> {
        let ca = folder.path().join(CA);
        let (balancer, backends) = (Pair::of(&folder, BALANCER), Pair::of(&folder, BACKEND));
        let trust = Arc::new(trust(&ca)?);
        Ok(Self { folder, ca, balancer, backends, trust })
    }

    /// The files, for the nodes of a run.
    ///
    /// # Errors
    /// When one can't be read.
    pub(crate) fn all_files(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let pairs = [&self.balancer, &self.backends];
        let paths = pairs.into_iter().flat_map(|pair| [&pair.cert, &pair.key]);
        let file = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, fs::read(path)?))
        };
        [&self.ca].into_iter().chain(paths).map(file).collect()
    }

    /// Those that another machine has made for the run. Files of other names are not
    /// kept.
    ///
    /// # Errors
    /// When there is no room for them, or they are none.
    pub(crate) fn of_files(files: &[(&str, &[u8])]) -> Result<Self, CertificateError> {
        let folder = private_folder().map_err(CertificateError::Folder)?;
        let pairs = [BALANCER, BACKEND].map(|name| Pair::of(&folder, name));
        let known = pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        let known = known.cloned().chain([folder.path().join(CA)]);
        for path in known {
            let is_it = |(name, _): &&(&str, &[u8])| path.file_name() == Some(name.as_ref());
            let content = files.iter().find(is_it).map_or(&[][..], |(_, content)| content);
            fs::write(&path, content)
                .map_err(|error| CertificateError::Write { path: path.clone(), error })?;
        }
        Self::in_folder(folder)
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

    fn sign(&self, pair: &Pair) -> Result<(), CertificateError> {
        let own_key = KeyPair::generate()?;
        let mut params = CertificateParams::new([NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, NAME);
        let signed = params.signed_by(&own_key, &self.issuer)?;
        write(&pair.cert, &signed.pem())?;
        write(&pair.key, &own_key.serialize_pem())
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
        let files = certificates.all_files().unwrap();
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, content)| (&**name, &**content)).collect();
        assert_eq!(files.len(), 5);
        Certificates::of_files(&files).unwrap();
        assert!(Certificates::of_files(&files[1..]).is_err(), "the authority is missing");
        let folder = certificates.folder().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o077, 0);
        drop(certificates);
        assert!(!folder.exists(), "nothing is left behind");
    }
}
