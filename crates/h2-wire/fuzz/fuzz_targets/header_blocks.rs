//! Any bytes as a series of header blocks for one decoder: no panic, the bounds hold, and what was
//! decoded comes back when it is encoded and decoded again.
#![no_main]

use h2_wire::hpack::{Decoder, Encoder, EncoderOptions, ListLimits, Outcome};
use libfuzzer_sys::fuzz_target;

const LIMITS: ListLimits = ListLimits { max_fields: 100, max_bytes: 16 * 1024 };

fuzz_target!(|input: &[u8]| {
    let mut decoder = Decoder::new(LIMITS);
    let mut encoder = Encoder::new(EncoderOptions::default());
    let mut second = Decoder::new(LIMITS);
    // A byte of length before each block.
    let mut rest = input;
    while let Some((&length, tail)) = rest.split_first() {
        let (block, tail) = tail.split_at(tail.len().min(usize::from(length)));
        rest = tail;
        let Ok(outcome) = decoder.decode(block) else { return };
        assert!(decoder.table_bytes() <= 4_096);
        let list = decoder.list();
        assert!(list.len() <= LIMITS.max_fields && list.size() <= LIMITS.max_bytes);
        if outcome == Outcome::OverLimit {
            continue;
        }
        let mut encoded = Vec::new();
        match list.key() {
            Some(key) => encoder.encode_keyed(key, || list.iter(), &mut encoded),
            None => encoder.encode(list.iter(), &mut encoded),
        }
        assert_eq!(second.decode(&encoded), Ok(Outcome::Complete));
        assert!(
            second
                .list()
                .iter()
                .map(|f| (f.name, f.value))
                .eq(list.iter().map(|f| (f.name, f.value)))
        );
    }
});
