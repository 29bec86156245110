//! The flags' files to configurations: [`serve::tls`] with our flags.

use std::path::PathBuf;

use rustls::{ClientConfig, ServerConfig};
use serve::tls::{Named, TlsError, client_config, server_config};

use super::TlsArgs;

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
    let cert = named("--tls-cert", &args.tls_cert);
    let key = named("--tls-key", &args.tls_key);
    let Some((cert, key)) = cert.zip(key) else { return Ok(None) };
    server_config(cert, key, named("--tls-client-ca", &args.tls_client_ca)).map(Some)
}

fn client(args: &TlsArgs) -> Result<Option<ClientConfig>, TlsError> {
    let Some(ca) = named("--backend-tls-ca", &args.backend_tls_ca) else { return Ok(None) };
    let cert = named("--backend-tls-cert", &args.backend_tls_cert);
    let key = named("--backend-tls-key", &args.backend_tls_key);
    client_config(ca, cert.zip(key)).map(Some)
}

fn named<'a>(flag: &'static str, path: &'a Option<PathBuf>) -> Option<Named<'a>> {
    path.as_deref().map(|path| Named { flag, path })
}
