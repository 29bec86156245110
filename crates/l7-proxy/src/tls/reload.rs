//! Looking whether the files have changed.
//!
//! Their content is compared, and not their times: what is renamed into place
//! (as certificate tools and Kubernetes do it) may be older than what it
//! replaces. The files are small, and looked at every few seconds. A pair that
//! is read between the writing of its two files does not fit and is left alone;
//! the next look finds both. They are read on a thread of their own: a mount that
//! has stopped answering holds nothing else up.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use serve::{
    exit::note,
    files::{READ_TIMEOUT, Reader, read_regular},
    tls::PEM_BYTES_MAX,
};

use super::{Tls, TlsArgs, counters::TlsCounters, files};

/// Watches the files until it is dropped. Ends at once where there are none.
pub async fn watch(args: TlsArgs, tls: Arc<Tls>, counters: TlsCounters) {
    if !tls.is_on() {
        return;
    }
    let mut ticks = tokio::time::interval(args.tls_reload_interval);
    let reader = Reader::default();
    // What they held when the proxy began, which is loaded.
    let mut seen = fingerprint(&args);
    let mut said = String::new();
    loop {
        ticks.tick().await;
        let args = args.clone();
        let read = reader.run(READ_TIMEOUT, move || {
            let now = fingerprint(&args);
            Ok((now, (now != seen).then(|| files::load(&args))))
        });
        let error = match read.await {
            Ok((now, loaded)) => {
                seen = now;
                match loaded {
                    None => continue,
                    Some(Ok(loaded)) => {
                        tls.replace(loaded);
                        counters.reloads_ok.inc();
                        said.clear();
                        continue;
                    }
                    Some(Err(error)) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        counters.reloads_failed.inc();
        if error != said {
            note(format_args!("TLS files were not taken over: {error}"));
            said = error;
        }
    }
}

/// A number that differs when the content of any file does.
fn fingerprint(args: &TlsArgs) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files::paths(args) {
        // A file that is gone for a moment is a change as well.
        read_regular(&path, PEM_BYTES_MAX).ok().hash(&mut hasher);
    }
    hasher.finish()
}
