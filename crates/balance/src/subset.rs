//! A part of the backends for each proxy, so that hundreds of proxies don't each
//! hold connections to hundreds of backends.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1998): each proxy ranks all backends
//! by a hash of both names and takes the first ones. The same names give the same
//! subset anywhere and at any time, no proxy has to know of the others, and when
//! a backend comes or goes at most one place of a subset changes. Shares are even
//! by chance only; rank-based schemes are evener, and move many at a change.

use crate::chance::{hash_bytes, next_word};

/// The indices of the `size` backends that the proxy named `proxy` uses, in
/// order; all of them when there are no more.
pub fn subset<'a>(
    names: impl IntoIterator<Item = &'a str>,
    size: usize,
    proxy: &str,
) -> Vec<usize> {
    let own = hash_bytes(proxy.as_bytes());
    let rank = |name: &str| next_word(own ^ hash_bytes(name.as_bytes()));
    let mut ranked: Vec<_> =
        names.into_iter().enumerate().map(|(index, name)| (rank(name), index)).collect();
    ranked.sort_unstable();
    ranked.truncate(size);
    let mut chosen: Vec<_> = ranked.into_iter().map(|(_, index)| index).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("10.0.0.{index}:80")).collect()
    }

    fn of(names: &[String], size: usize, proxy: &str) -> Vec<usize> {
        subset(names.iter().map(String::as_str), size, proxy)
    }

    #[test]
    fn a_subset_has_its_size_and_is_the_same_each_time() {
        let names = names(20);
        let chosen = of(&names, 5, "proxy-1");
        assert_eq!(chosen.len(), 5);
        assert!(chosen.is_sorted() && chosen.iter().all(|index| *index < 20));
        assert_eq!(of(&names, 5, "proxy-1"), chosen);
        assert_ne!(of(&names, 5, "proxy-2"), chosen);
        assert_eq!(of(&names, 99, "proxy-1").len(), 20);
    }

    #[test]
    fn one_backend_fewer_changes_one_place_at_most() {
        let all = names(30);
        for proxy in 0..50 {
            let proxy = proxy.to_string();
            let before: Vec<_> = of(&all, 6, &proxy).into_iter().map(|i| &all[i]).collect();
            for gone in 0..all.len() {
                let mut fewer = all.clone();
                fewer.remove(gone);
                let after: Vec<_> = of(&fewer, 6, &proxy).into_iter().map(|i| &fewer[i]).collect();
                let kept = before.iter().filter(|name| after.contains(name)).count();
                let had_it = before.contains(&&all[gone]);
                assert_eq!(kept, if had_it { 5 } else { 6 });
            }
        }
    }

    #[test]
    fn proxies_together_use_all_backends_about_evenly() {
        let names = names(20);
        let mut uses = [0; 20];
        for proxy in 0..1_000 {
            for index in of(&names, 5, &format!("proxy-{proxy}")) {
                uses[index] += 1;
            }
        }
        // 250 each; five standard deviations of a fair draw are 70.
        assert!(uses.iter().all(|uses| (180..320).contains(uses)), "{uses:?}");
    }
}
