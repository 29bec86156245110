//! Which backend an answer comes from, by the id in it.

use std::sync::{Arc, Mutex, PoisonError};

/// The longest id that is taken from a backend the lab does not know.
const ID_BYTES_MAX: usize = 128;

/// The backends whose answers are taken.
#[derive(Clone, Debug)]
pub enum Backends {
    /// These, which the lab started. Any other id is a wrong answer.
    Known(Vec<String>),
    /// Whoever answers: they were not started by the lab.
    Seen(Seen),
}

/// Ids in the order in which they first came, over all threads and trials of a run.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Backends {
    /// Index of the backend with this id.
    pub fn index(&self, id: &[u8]) -> Option<u16> {
        let index = match self {
            Self::Known(ids) => ids.iter().position(|known| known.as_bytes() == id)?,
            Self::Seen(seen) => seen.index(id)?,
        };
        u16::try_from(index).ok()
    }
}

impl Seen {
    /// With these from the start.
    pub fn of(ids: Vec<String>) -> Self {
        Self(Arc::new(Mutex::new(ids)))
    }

    /// The ids so far.
    pub fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None` for what is no id, and for ids beyond the most that are told apart.
    pub fn index(&self, id: &[u8]) -> Option<usize> {
        // Held for a comparison or two; the generator has few threads.
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = ids.iter().position(|known| known.as_bytes() == id) {
            return Some(index);
        }
        let is_id = !id.is_empty() && id.len() <= ID_BYTES_MAX;
        if !is_id || ids.len() >= scenario::bounds::BACKENDS.max as usize {
            return None;
        }
        ids.push(std::str::from_utf8(id).ok()?.to_owned());
        Some(ids.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_of_the_lab_are_known_by_their_ids() {
        let known = Backends::Known(vec!["b0".into(), "b1".into()]);
        assert_eq!((known.index(b"b1"), known.index(b"b9")), (Some(1), None));
    }

    #[test]
    fn other_backends_are_told_apart_as_they_answer() {
        let seen = Seen::default();
        let backends = Backends::Seen(seen.clone());
        assert_eq!((backends.index(b"pod-7"), backends.index(b"pod-3")), (Some(0), Some(1)));
        assert_eq!(backends.index(b"pod-7"), Some(0));
        assert_eq!((backends.index(b""), backends.index(&[0xff])), (None, None));
        assert_eq!(backends.index(&[b'x'; ID_BYTES_MAX + 1]), None);
        assert_eq!(seen.ids(), ["pod-7", "pod-3"]);
        for index in 2..2 * scenario::bounds::BACKENDS.max {
            backends.index(index.to_string().as_bytes());
        }
        assert_eq!(seen.ids().len(), scenario::bounds::BACKENDS.max as usize);
    }
}
