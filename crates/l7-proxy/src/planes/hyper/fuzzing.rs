//! What must hold of any frames of either side; see [`crate::fuzzing`].

use std::sync::Mutex;

use super::frame_walk::{FrameWalk, Observer};
use super::guard;

/// Both walks over the same frames, in pieces of `cut` bytes.
pub(crate) fn frame_walks(bytes: &[u8], cut: usize) {
    guard::fuzzing::client_frames(bytes, cut);
    assert_eq!(observed(bytes, cut), observed(bytes, usize::MAX));
    let (seen, passed) = sifted(bytes, cut);
    assert_eq!((seen.clone(), passed.clone()), sifted(bytes, usize::MAX));
    // One answer at most is taken out, and nothing else.
    let answers = seen.iter().filter(|seen| **seen == Observed::Answered).count();
    assert!(answers <= 1 && passed.len() + answers * 9 == bytes.len());
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Observed {
    Settings(Option<u32>),
    GoAway,
    Reset,
    Answered,
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

    fn reset(&self) {
        self.push(Observed::Reset);
    }

    fn answered(&self) {
        self.push(Observed::Answered);
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

/// The same while an answer is waited for, and what hyper gets to read.
fn sifted(bytes: &[u8], cut: usize) -> (Vec<Observed>, Vec<u8>) {
    let (mut walk, record, mut passed) = (FrameWalk::default(), Record::default(), Vec::new());
    walk.expect_answer();
    for piece in bytes.chunks(cut) {
        walk.sift(piece, &record, &mut passed);
    }
    walk.give_up_answer(&mut passed);
    (record.0.into_inner().expect("nothing panics while it holds it"), passed)
}
