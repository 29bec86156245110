//! TLS, to clients and to backends: certificates from files, read again when
//! they change, with HTTP/2 agreed on by ALPN (RFC 7301).
//!
//! | module | job |
//! |---|---|
//! | here | flags, and what both sides share |
//! | [`files`] | the flags' files to checked configurations, by [`serve::tls`] |
//! | [`reload`] | looking whether the files have changed |
//! | [`counters`] | handshakes and reloads, counted |
//!
//! The library is rustls with the cryptography of `ring`: no OpenSSL, nothing
//! of the system. A peer that has not agreed on HTTP/2 is turned away, as the
//! gRPC spec has it. Left out: revocation, session tickets over restarts, and
//! choosing among several certificates.

pub mod counters;
pub mod files;
pub mod reload;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
pub use serve::tls::{H2, TlsError};
use serve::{
    duration,
    tls::{ClientSide, server_name},
};

/// Whether and how TLS is spoken. All files are PEM.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Speak TLS to clients, with the chain of certificates in this file.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Take only clients with a certificate that one of these has signed.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Speak TLS to backends, whose certificates one of these has signed.
    #[arg(long, value_name = "FILE")]
    pub backend_tls_ca: Option<PathBuf>,

    /// The name that backends' certificates have to be for. Unless given, it is
    /// the address of each.
    #[arg(long, value_name = "NAME", requires = "backend_tls_ca")]
    pub backend_tls_name: Option<String>,

    /// The certificate to show to backends that ask for one.
    #[arg(long, value_name = "FILE", requires = "backend_tls_ca", requires = "backend_tls_key")]
    pub backend_tls_cert: Option<PathBuf>,

    /// The private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "backend_tls_cert")]
    pub backend_tls_key: Option<PathBuf>,

    /// How often the files are looked at for a change. New connections use what
    /// they hold then; files that can't be used are counted and left alone.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub tls_reload_interval: Duration,
}

/// What new connections are made with.
#[derive(Debug, Default)]
pub struct Tls {
    server: Option<ArcSwap<ServerConfig>>,
    client: Option<ArcSwap<ClientConfig>>,
    backend_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads the files that the flags name.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn load(args: &TlsArgs) -> Result<Self, TlsError> {
        let loaded = files::load(args)?;
        let backend_name = args.backend_tls_name.as_deref();
        let backend_name =
            backend_name.map(|name| server_name("--backend-tls-name", name)).transpose()?;
        Ok(Self {
            server: loaded.server.map(|config| ArcSwap::new(Arc::new(config))),
            client: loaded.client.map(|config| ArcSwap::new(Arc::new(config))),
            backend_name,
        })
    }

    /// What a client's connection is served with; `None` for plain text.
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.server.as_ref().map(ArcSwap::load_full)
    }

    /// What a connection to this backend is made with; `None` for plain text.
    pub fn client(&self, backend: IpAddr) -> Option<ClientSide> {
        let config = self.client.as_ref()?.load_full();
        let name = self.backend_name.clone().unwrap_or(ServerName::IpAddress(backend.into()));
        Some((config, name))
    }

    /// Uses these from now on.
    fn replace(&self, loaded: files::Loaded) {
        if let (Some(current), Some(new)) = (&self.server, loaded.server) {
            current.store(Arc::new(new));
        }
        if let (Some(current), Some(new)) = (&self.client, loaded.client) {
            current.store(Arc::new(new));
        }
    }

    /// Whether there is anything to be read again.
    fn is_on(&self) -> bool {
        self.server.is_some() || self.client.is_some()
    }
}
