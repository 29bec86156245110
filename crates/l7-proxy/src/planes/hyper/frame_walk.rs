//! A walk over the frames of one side of a connection to a backend, by their
//! headers, however the bytes are cut. What it comes by it tells an
//! [`Observer`]; every payload but that of SETTINGS is skipped.

use super::frames::{
    ACK, CONTINUATION, END_HEADERS, GOAWAY, HEAD_BYTES, HEADERS, MAX_CONCURRENT_STREAMS,
    PREFACE_BYTES, PUSH_PROMISE, Part, RST_STREAM, SETTING_BYTES, SETTINGS,
};

/// Who is told of the frames that are walked over.
pub(super) trait Observer: Send + Sync {
    /// A SETTINGS frame (no acknowledgement); the value is its
    /// SETTINGS_MAX_CONCURRENT_STREAMS, if it has one.
    fn settings(&self, _max_concurrent_streams: Option<u32>) {}
    /// A GOAWAY.
    fn go_away(&self) {}
    /// A RST_STREAM.
    fn reset(&self) {}
    /// The backend is being asked whether it reads, behind so many streams.
    fn asked(&self, _opened: u64) {}
    /// It has answered.
    fn answered(&self) {}
}

/// A walk over frames.
#[derive(Debug, Default)]
pub(super) struct FrameWalk {
    /// The frame header, or the setting, that is being put together.
    part: Part,
    /// Bytes left of the payload; zero between frames.
    payload_left: usize,
    in_settings: bool,
    max_concurrent_streams: Option<u32>,
    /// A header block goes on in the next frame, before which no other may come.
    in_block: bool,
    /// The highest stream with a HEADERS frame, and how many rose to be it.
    highest: u32,
    opened: u64,
    /// A first acknowledgement has come: that of hyper's own SETTINGS, of which
    /// it sends no others.
    is_settled: bool,
    /// A question of ours waits for its acknowledgement.
    is_asked: bool,
    /// Bytes of a frame header that were passed on before it was whole.
    passed: usize,
}

impl FrameWalk {
    /// A walk over what a client writes.
    pub(super) fn after_preface() -> Self {
        Self { payload_left: PREFACE_BYTES, ..Self::default() }
    }

    /// Whether a frame could stand here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.part.len() == 0 && self.payload_left == 0 && !self.in_block
    }

    /// How many streams were opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether an answer is waited for.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// An acknowledgement of SETTINGS that are not hyper's will come.
    pub(super) fn expect_answer(&mut self) {
        self.is_asked = true;
        // What there is of a header has been passed on, and is no answer.
        self.passed = if self.payload_left == 0 { self.part.len() } else { 0 };
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], observer: &impl Observer) {
        while !bytes.is_empty() {
            bytes = self.step(bytes, observer, &mut |_| {});
        }
    }

    /// The same, while an answer is expected. The bytes go to `sifted` without
    /// it, those of a frame header once it is whole.
    pub(super) fn sift(
        &mut self,
        mut bytes: &[u8],
        observer: &impl Observer,
        sifted: &mut Vec<u8>,
    ) {
        while !bytes.is_empty() && self.is_asked {
            bytes = self.step(bytes, observer, &mut |passed| sifted.extend_from_slice(passed));
        }
        sifted.extend_from_slice(bytes);
        self.feed(bytes, observer);
    }

    /// The bytes are at their end: no answer will come.
    pub(super) fn give_up_answer(&mut self, sifted: &mut Vec<u8>) {
        if self.is_asked && self.payload_left == 0 {
            sifted.extend_from_slice(&self.part.bytes()[self.passed..]);
        }
        self.is_asked = false;
    }

    /// Takes bytes of one frame, passes on what is not of an answer, and gives
    /// the rest.
    fn step<'a>(
        &mut self,
        bytes: &'a [u8],
        observer: &impl Observer,
        pass: &mut impl FnMut(&[u8]),
    ) -> &'a [u8] {
        if self.payload_left == 0 {
            let rest = self.part.fill(bytes, HEAD_BYTES);
            if let Some(head) = self.part.take(HEAD_BYTES) {
                let passed = std::mem::take(&mut self.passed);
                if !self.header(head, observer) {
                    pass(&head[passed..]);
                }
            }
            return rest;
        }
        let rest = if self.in_settings {
            self.setting(bytes, observer)
        } else {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            &bytes[skipped..]
        };
        pass(&bytes[..bytes.len() - rest.len()]);
        rest
    }

    /// Reads the frame header that has been put together. Whether it is an
    /// answer.
    fn header(&mut self, head: [u8; HEAD_BYTES], observer: &impl Observer) -> bool {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        self.payload_left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        self.in_settings = kind == SETTINGS && flags & ACK == 0;
        self.max_concurrent_streams = None;
        self.in_block =
            matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) && flags & END_HEADERS == 0;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        match kind {
            HEADERS if stream > self.highest => {
                self.highest = stream;
                self.opened += 1;
            }
            RST_STREAM => observer.reset(),
            SETTINGS if self.in_settings && self.payload_left == 0 => observer.settings(None),
            SETTINGS if !self.in_settings && self.payload_left == 0 => {
                return self.acknowledgement(observer);
            }
            GOAWAY => observer.go_away(),
            _ => {}
        }
        false
    }

    fn acknowledgement(&mut self, observer: &impl Observer) -> bool {
        let is_answer = self.is_settled && self.is_asked;
        if is_answer {
            self.is_asked = false;
            observer.answered();
        }
        self.is_settled = true;
        is_answer
    }

    /// Takes bytes of a SETTINGS payload.
    fn setting<'a>(&mut self, bytes: &'a [u8], observer: &impl Observer) -> &'a [u8] {
        // A length that is no multiple of six is h2's to refuse; the last
        // part is then shorter, and the walk stays on frame boundaries.
        let wanted = SETTING_BYTES.min(self.part.len() + self.payload_left);
        let rest = self.part.fill(bytes, wanted);
        self.payload_left -= bytes.len() - rest.len();
        if let Some([i0, i1, v0, v1, v2, v3, ..]) = self.part.take(wanted) {
            if wanted == SETTING_BYTES && u16::from_be_bytes([i0, i1]) == MAX_CONCURRENT_STREAMS {
                self.max_concurrent_streams = Some(u32::from_be_bytes([v0, v1, v2, v3]));
            }
            if self.payload_left == 0 {
                observer.settings(self.max_concurrent_streams);
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Settings(Option<u32>),
        GoAway,
        Reset,
        Answered,
    }

    #[derive(Default)]
    struct Record(Mutex<Vec<Seen>>);

    impl Record {
        fn push(&self, seen: Seen) {
            self.0.lock().unwrap().push(seen);
        }
    }

    impl Observer for Record {
        fn settings(&self, max_concurrent_streams: Option<u32>) {
            self.push(Seen::Settings(max_concurrent_streams));
        }
        fn go_away(&self) {
            self.push(Seen::GoAway);
        }
        fn reset(&self) {
            self.push(Seen::Reset);
        }
        fn answered(&self) {
            self.push(Seen::Answered);
        }
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        frame_on(1, kind, flags, payload)
    }

    fn frame_on(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn ack() -> Vec<u8> {
        frame_on(0, SETTINGS, ACK, &[])
    }

    fn session() -> (Vec<u8>, Vec<Seen>) {
        let mut settings = vec![0, 4, 0, 1, 0, 0];
        settings.extend([0, 3, 0, 0, 1, 44]);
        let bytes = [
            frame(SETTINGS, 0, &settings),
            frame(SETTINGS, ACK, &[]),
            frame(0, 1, &[SETTINGS; 300]),
            frame(SETTINGS, 0, &[]),
            frame(RST_STREAM, 0, &[0; 4]),
            frame(SETTINGS, 0, &[0, 3, 0, 0, 0]),
            frame(GOAWAY, 0, &[0; 20]),
            frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 7]),
        ];
        let seen = vec![
            Seen::Settings(Some(300)),
            Seen::Settings(None),
            Seen::Reset,
            Seen::Settings(None),
            Seen::GoAway,
            Seen::Settings(Some(7)),
        ];
        (bytes.concat(), seen)
    }

    /// What the walk sees, and what it passes on, of bytes that come in chunks
    /// while it waits for an answer.
    fn sifted(walk: &mut FrameWalk, bytes: &[u8], cut: usize) -> (Vec<Seen>, Vec<u8>) {
        let (record, mut passed) = (Record::default(), Vec::new());
        for chunk in bytes.chunks(cut) {
            walk.sift(chunk, &record, &mut passed);
        }
        (record.0.into_inner().unwrap(), passed)
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_are_cut(cut in 1_usize..400) {
            let (bytes, expected) = session();
            let record = Record::default();
            let mut walk = FrameWalk::default();
            for chunk in bytes.chunks(cut) {
                walk.feed(chunk, &record);
            }
            prop_assert_eq!(record.0.into_inner().unwrap(), expected);
        }

        /// A question is asked at any moment, and only its answer is taken out:
        /// the acknowledgement behind that of hyper's own SETTINGS.
        #[test]
        fn an_answer_is_taken_out_however_the_bytes_are_cut(
            cut in 1_usize..400,
            asked_at in 0_usize..400,
        ) {
            let (before, _) = session();
            let asked_at = asked_at.min(before.len());
            let mut walk = FrameWalk::default();
            let record = Record::default();
            walk.feed(&before[..asked_at], &record);
            walk.expect_answer();
            let (more, _) = session();
            let rest = [&before[asked_at..], &ack(), &more].concat();
            let (seen, passed) = sifted(&mut walk, &rest, cut);
            // The bytes before the session's own acknowledgement are not all in
            // `rest` if it was asked later; either way the second is the answer.
            prop_assert_eq!(passed.len(), rest.len() - HEAD_BYTES);
            prop_assert_eq!(passed, [&before[asked_at..], &more].concat());
            prop_assert_eq!(seen.iter().filter(|seen| **seen == Seen::Answered).count(), 1);
            prop_assert!(!walk.is_asked());
        }

        #[test]
        fn no_bytes_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 1_usize..200,
        ) {
            FrameWalk::default().feed(&bytes, &Record::default());
            let mut walk = FrameWalk::default();
            walk.expect_answer();
            let (_, mut passed) = sifted(&mut walk, &bytes, cut);
            walk.give_up_answer(&mut passed);
            let is_answer = |seen: usize| passed.len() + seen * HEAD_BYTES == bytes.len();
            prop_assert!(is_answer(0) || is_answer(1));
        }
    }

    #[test]
    fn what_was_cut_off_with_the_connection_is_passed_on() {
        let mut walk = FrameWalk::default();
        walk.expect_answer();
        let (_, mut passed) = sifted(&mut walk, &ack()[..5], 2);
        assert!(passed.is_empty());
        walk.give_up_answer(&mut passed);
        assert_eq!(passed, ack()[..5]);
    }

    #[test]
    fn nothing_may_come_inside_a_frame_or_a_header_block() {
        let mut walk = FrameWalk::after_preface();
        let mut feed = |bytes: &[u8]| {
            walk.feed(bytes, &Record::default());
            (walk.is_between_frames(), walk.opened())
        };
        assert_eq!(feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), (false, 0));
        assert_eq!(feed(b"\n"), (true, 0));
        assert_eq!(feed(&frame_on(1, HEADERS, 0, &[0; 9])), (false, 1));
        assert_eq!(feed(&frame_on(1, CONTINUATION, 0, &[0; 9])), (false, 1));
        assert_eq!(feed(&frame_on(1, CONTINUATION, END_HEADERS, &[])), (true, 1));
        let opening = frame_on(5, HEADERS, END_HEADERS, &[0; 9]);
        assert_eq!(feed(&opening[..8]), (false, 1));
        assert_eq!(feed(&opening[8..17]), (false, 2));
        assert_eq!(feed(&opening[17..]), (true, 2));
        // Trailers open nothing.
        assert_eq!(feed(&frame_on(1, HEADERS, END_HEADERS, &[0; 9])), (true, 2));
    }
}
