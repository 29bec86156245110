//! What the generator is told of backends that come and go: one list for all
//! workers, and who has taken note of it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The list. Workers look at its version often and at the list rarely.
#[derive(Debug)]
pub struct Members {
    version: AtomicU64,
    list: Mutex<Vec<usize>>,
    /// The version that each worker has taken note of.
    acknowledged: Vec<AtomicU64>,
}

impl Members {
    pub fn new(workers: usize) -> Self {
        Self {
            version: AtomicU64::new(0),
            list: Mutex::default(),
            acknowledged: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// These are the backends from now on, by index.
    pub fn set(&self, members: &[usize]) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        *list = members.to_vec();
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The list, if it is another than the one of version `seen`, and its version.
    pub fn news(&self, seen: u64) -> Option<(u64, Vec<usize>)> {
        if self.version.load(Ordering::Acquire) == seen {
            return None;
        }
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        // Only changed under the lock.
        Some((self.version.load(Ordering::Acquire), list.clone()))
    }

    /// A worker has told its connections of a version.
    pub fn acknowledge(&self, worker: usize, version: u64) {
        self.acknowledged[worker].store(version, Ordering::Release);
    }

    /// Whether all workers go by the latest list.
    pub fn are_acknowledged(&self) -> bool {
        let version = self.version.load(Ordering::Acquire);
        self.acknowledged.iter().all(|acknowledged| acknowledged.load(Ordering::Acquire) == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_heeded_when_every_worker_has_it() {
        let members = Members::new(2);
        assert!(members.are_acknowledged() && members.news(0).is_none());
        members.set(&[0]);
        members.set(&[0, 2]);
        let (version, list) = members.news(0).unwrap();
        assert_eq!(list, [0, 2]);
        members.acknowledge(0, version);
        assert!(!members.are_acknowledged());
        members.acknowledge(1, version);
        assert!(members.are_acknowledged() && members.news(version).is_none());
    }
}
