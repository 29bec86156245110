//! Where scenarios are read from and results go to.
//!
//! The lab is at home in a checkout: the nearest folder upwards that has
//! `scenarios/peers`. A binary that is run elsewhere falls back on the checkout
//! it was built from, so that `cargo run --manifest-path` works from anywhere.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder that holds `scenarios/`, `peers/` and `results/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// Finds it from the current folder.
    pub(crate) fn find() -> Self {
        let current = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Self::above(&current).unwrap_or_else(Self::built_from)
    }

    fn above(start: &Path) -> Option<Self> {
        let is_root = |folder: &&Path| folder.join("scenarios").join("peers").is_dir();
        start.ancestors().find(is_root).map(|folder| Self(folder.to_owned()))
    }

    fn built_from() -> Self {
        Self(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
    }

    /// Scenarios and peers.
    pub(crate) fn scenarios(&self) -> PathBuf {
        self.0.join("scenarios")
    }

    /// Where `scripts/install-peers.sh` puts real proxies.
    pub(crate) fn installed_peers(&self) -> PathBuf {
        self.0.join("peers")
    }

    /// Where runs are kept.
    pub(crate) fn results(&self) -> PathBuf {
        self.0.join("results")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_checkout_upwards_is_home() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(Root::above(&deep), None);
        std::fs::create_dir_all(folder.path().join("scenarios/peers")).unwrap();
        assert_eq!(Root::above(&deep), Some(Root(folder.path().to_owned())));
    }

    #[test]
    fn this_binary_knows_its_checkout() {
        assert!(Root::built_from().scenarios().join("single-conn-flood.toml").is_file());
    }
}
