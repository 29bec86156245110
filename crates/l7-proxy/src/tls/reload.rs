//! Looking whether the files have changed.
//!
//! Their content is compared, and not their times: what is renamed into place
//! (as certificate tools and Kubernetes do it) may be older than what it
//! replaces. The files are small, and looked at every few seconds. A pair that
//! is read between the writing of its two files does not fit and is left alone;
//! the next look finds both.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::counters::TlsCounters;
use super::{Tls, TlsArgs, files};

/// Watches the files until it is dropped. Ends at once where there are none.
pub async fn watch(args: TlsArgs, tls: Arc<Tls>, counters: TlsCounters) {
    if !tls.is_on() {
        return;
    }
    let mut seen = fingerprint(&args);
    let mut ticks = tokio::time::interval(args.tls_reload_interval);
    loop {
        ticks.tick().await;
        let now = fingerprint(&args);
        if now == seen {
            continue;
        }
        seen = now;
        match files::load(&args) {
            Ok(loaded) => {
                tls.replace(loaded);
                counters.reloads_ok.inc();
            }
            Err(error) => {
                counters.reloads_failed.inc();
                // Nobody may be reading, and that is no reason to stop.
                let _ = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    format_args!("TLS files were not taken over: {error}\n"),
                );
            }
        }
    }
}

/// A number that differs when the content of any file does.
fn fingerprint(args: &TlsArgs) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files::paths(args) {
        // A file that is gone for a moment is a change as well.
        std::fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}
