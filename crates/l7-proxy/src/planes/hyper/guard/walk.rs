//! A walk over the frames of one direction, however the bytes are cut. It keeps
//! what the rules need and skips every other payload.

pub(super) use super::super::frames as wire;
use wire::{HEAD_BYTES, PREFACE_BYTES, Part, SETTING_BYTES};

/// The payload of WINDOW_UPDATE and of RST_STREAM.
const WORD_BYTES: usize = 4;

/// A frame's first nine bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What the walk comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A frame's head.
    Head(Head),
    /// One setting of a SETTINGS frame.
    Setting(u16, u32),
    /// The payload of a WINDOW_UPDATE or RST_STREAM frame, behind its head.
    Word(Head, u32),
}

/// Where a walk stands.
#[derive(Debug)]
pub(super) struct Walk {
    head: Head,
    /// The head, or the part of a payload, that is being put together.
    part: Part,
    /// Bytes left of the payload; zero between frames.
    payload_left: usize,
    preface_left: usize,
    /// A header block has begun and not ended.
    in_block: bool,
}

impl Walk {
    /// A walk over what a client sends.
    pub(super) fn with_preface() -> Self {
        Self { preface_left: PREFACE_BYTES, ..Self::without_preface() }
    }

    /// A walk over what a server sends.
    pub(super) fn without_preface() -> Self {
        Self {
            head: Head::default(),
            part: Part::default(),
            payload_left: 0,
            preface_left: 0,
            in_block: false,
        }
    }

    /// Whether a frame may be put in between here: no frame and no header block
    /// has begun that has not ended.
    pub(super) fn is_on_boundary(&self) -> bool {
        self.preface_left == 0 && self.part.len() == 0 && self.payload_left == 0 && !self.in_block
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut see: impl FnMut(Event)) {
        while !bytes.is_empty() {
            bytes = if self.preface_left > 0 {
                let taken = self.preface_left.min(bytes.len());
                self.preface_left -= taken;
                &bytes[taken..]
            } else if self.payload_left == 0 {
                self.take_head(bytes, &mut see)
            } else {
                self.take_payload(bytes, &mut see)
            };
        }
    }

    fn take_head<'a>(&mut self, bytes: &'a [u8], see: &mut impl FnMut(Event)) -> &'a [u8] {
        let rest = self.part.fill(bytes, HEAD_BYTES);
        if let Some(head) = self.part.take(HEAD_BYTES) {
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
            let length = u32::from_be_bytes([0, l0, l1, l2]);
            let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
            self.head = Head { length, kind, flags, stream };
            self.payload_left = length as usize;
            if matches!(kind, wire::HEADERS | wire::CONTINUATION) {
                self.in_block = !self.head.has(wire::END_HEADERS);
            }
            see(Event::Head(self.head));
        }
        rest
    }

    fn take_payload<'a>(&mut self, bytes: &'a [u8], see: &mut impl FnMut(Event)) -> &'a [u8] {
        let whole = match self.head.kind {
            wire::SETTINGS => SETTING_BYTES,
            wire::WINDOW_UPDATE | wire::RST_STREAM => WORD_BYTES,
            _ => 0,
        };
        // A length that doesn't fit the type is h2's to refuse; the walk stays
        // on frame boundaries.
        if self.payload_left + self.part.len() < whole || whole == 0 {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            return &bytes[skipped..];
        }
        let rest = self.part.fill(bytes, whole);
        self.payload_left -= bytes.len() - rest.len();
        if let Some([b0, b1, b2, b3, b4, b5, ..]) = self.part.take(whole) {
            see(if whole == SETTING_BYTES {
                Event::Setting(u16::from_be_bytes([b0, b1]), u32::from_be_bytes([b2, b3, b4, b5]))
            } else {
                Event::Word(self.head, u32::from_be_bytes([b0, b1, b2, b3]))
            });
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, stream]);
        bytes.extend(payload);
        bytes
    }

    fn session() -> Vec<u8> {
        [
            vec![b'P'; PREFACE_BYTES],
            frame(wire::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 9]),
            frame(wire::HEADERS, wire::END_HEADERS, 1, &[8; 40]),
            frame(wire::DATA, wire::END_STREAM, 1, &[8; 300]),
            frame(wire::WINDOW_UPDATE, 0, 1, &[0, 0, 1, 0]),
            frame(wire::SETTINGS, wire::ACK, 0, &[]),
            frame(wire::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            // Wrong lengths.
            frame(wire::WINDOW_UPDATE, 0, 1, &[1, 2]),
            frame(wire::SETTINGS, 0, 0, &[1; 7]),
        ]
        .concat()
    }

    fn walk(bytes: &[u8], cut: usize) -> (Vec<Event>, Walk) {
        let mut walk = Walk::with_preface();
        let mut seen = Vec::new();
        for chunk in bytes.chunks(cut) {
            walk.feed(chunk, |event| seen.push(event));
        }
        (seen, walk)
    }

    #[test]
    fn heads_and_words_are_seen() {
        let (seen, walk) = walk(&session(), usize::MAX);
        let words: Vec<_> = seen
            .iter()
            .filter_map(|event| match event {
                Event::Word(head, word) => Some((head.kind, *word)),
                Event::Setting(id, value) => Some((*id as u8, *value)),
                Event::Head(_) => None,
            })
            .collect();
        // The malformed SETTINGS begins with a whole setting.
        let expected = [(4, 65_536), (3, 9), (8, 256), (3, 8), (1, 0x0101_0101)];
        assert_eq!(words, expected);
        assert_eq!(seen.iter().filter(|event| matches!(event, Event::Head(_))).count(), 8);
        assert!(walk.is_on_boundary());
    }

    #[test]
    fn a_header_block_is_no_boundary_until_it_ends() {
        let mut walk = Walk::without_preface();
        walk.feed(&frame(wire::HEADERS, 0, 1, &[1]), |_| {});
        assert!(!walk.is_on_boundary());
        walk.feed(&frame(wire::CONTINUATION, wire::END_HEADERS, 1, &[1]), |_| {});
        assert!(walk.is_on_boundary());
    }

    proptest! {
        #[test]
        fn the_cut_makes_no_difference(cut in 1_usize..200) {
            prop_assert_eq!(walk(&session(), cut).0, walk(&session(), usize::MAX).0);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 1_usize..20) {
            walk(&bytes, cut);
        }
    }
}
