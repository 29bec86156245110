//! What must hold of any frames of either side; see [`crate::fuzzing`].

use std::sync::Mutex;

use super::guard;
use super::tap::{FrameWalk, Observer};

/// Both walks over the same frames, in pieces of `cut` bytes.
pub(crate) fn frame_walks(bytes: &[u8], cut: usize) {
    guard::fuzzing::client_frames(bytes, cut);
    assert_eq!(observed(bytes, cut), observed(bytes, usize::MAX));
}

#[derive(Debug, PartialEq, Eq)]
enum Observed {
    Settings(Option<u32>),
    GoAway,
}

#[derive(Default)]
struct Record(Mutex<Vec<Observed>>);

impl Record {
    fn push(&self, observed: Observed) {
        self.0.lock().expect("nothing panics while it holds it").push(observed);
    }
}

impl Observer for Record {
    fn settings(&self, max_concurrent_streams: Option<u32>) {
        self.push(Observed::Settings(max_concurrent_streams));
    }

    fn go_away(&self) {
        self.push(Observed::GoAway);
    }
}

/// What is seen of a backend's frames.
fn observed(bytes: &[u8], cut: usize) -> Vec<Observed> {
    let (mut walk, record) = (FrameWalk::default(), Record::default());
    for piece in bytes.chunks(cut) {
        walk.feed(piece, &record);
    }
    record.0.into_inner().expect("nothing panics while it holds it")
}
