//! HPACK against an independent implementation, and its rules for limits and size updates.

use h2_wire::hpack::{
    BlockKey, DecodeError, Decoder, Encoder, EncoderOptions, Field, HeaderList, ListLimits, Outcome,
};
use proptest::prelude::*;

type Pair = (Vec<u8>, Vec<u8>);

/// Names and values that repeat often, some of them in the static table, some under a policy of
/// their own, some too big for the table.
fn field() -> impl Strategy<Value = Pair> {
    let name = prop_oneof![
        Just(":path".to_owned()),
        Just(":method".to_owned()),
        Just("content-type".to_owned()),
        Just("accept-encoding".to_owned()),
        Just("authorization".to_owned()),
        Just("traceparent".to_owned()),
        Just("grpc-timeout".to_owned()),
        "x-[a-c]{1,3}",
    ];
    let value = prop_oneof![
        Just("POST".to_owned()),
        Just("gzip, deflate".to_owned()),
        Just("application/grpc".to_owned()),
        "[a-z0-9/ ]{0,60}",
        "[\\x00-\\xff]{0,8}",
        Just("x".repeat(4100)),
    ];
    (name, value).prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()))
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Pair>>> {
    // No empty block: the oracle refuses one that is made of a size update only.
    prop::collection::vec(prop::collection::vec(field(), 1..12), 1..30)
}

/// Decodes without bounds that matter.
fn decoder() -> Decoder {
    Decoder::new(ListLimits { max_fields: 1000, max_bytes: 1 << 20 })
}

fn pairs(list: &HeaderList) -> Vec<Pair> {
    list.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

fn fields(block: &[Pair]) -> impl Iterator<Item = Field<'_>> {
    block.iter().map(|(name, value)| Field::new(name, value))
}

proptest! {
    #[test]
    fn the_oracle_reads_what_we_write(
        blocks in blocks(),
        huffman: bool,
        sizes in prop::collection::vec(prop::option::of(0_usize..6000), 30),
    ) {
        let options = EncoderOptions { huffman, ..Default::default() };
        let mut encoder = Encoder::new(options);
        let mut ours = decoder();
        let mut oracle = fluke_hpack::Decoder::new();
        for (block, size) in blocks.iter().zip(sizes) {
            if let Some(size) = size {
                // Down and up again between two blocks: both sizes have to be said.
                encoder.set_peer_table_size(size / 2);
                encoder.set_peer_table_size(size);
            }
            let mut out = Vec::new();
            encoder.encode(fields(block), &mut out);
            prop_assert_eq!(&oracle.decode(&out).expect("decodes"), block);
            prop_assert_eq!(ours.decode(&out), Ok(Outcome::Complete));
            prop_assert_eq!(&pairs(ours.list()), block);
            prop_assert_eq!(ours.table_bytes(), encoder.table_bytes());
        }
    }

    #[test]
    fn we_read_what_the_oracle_writes(blocks in blocks()) {
        let mut oracle = fluke_hpack::Encoder::new();
        let mut ours = decoder();
        for block in &blocks {
            let pairs_of = block.iter().map(|(name, value)| (&name[..], &value[..]));
            let out = oracle.encode(pairs_of);
            prop_assert_eq!(ours.decode(&out), Ok(Outcome::Complete));
            prop_assert_eq!(&pairs(ours.list()), block);
        }
    }

    #[test]
    fn repeated_blocks_come_out_of_memory_unchanged(
        blocks in prop::collection::vec(prop::collection::vec(field(), 1..6), 1..6),
        order in prop::collection::vec((0_usize..6, any::<bool>()), 0..120),
    ) {
        let keys: Vec<_> = blocks.iter().map(|_| BlockKey::unique()).collect();
        let mut encoder = Encoder::new(EncoderOptions::default());
        let mut ours = decoder();
        let mut oracle = fluke_hpack::Decoder::new();
        for (index, keyed) in order {
            let index = index % blocks.len();
            let block = &blocks[index];
            let mut out = Vec::new();
            if keyed {
                encoder.encode_keyed(keys[index], || fields(block), &mut out);
            } else {
                encoder.encode(fields(block), &mut out);
            }
            prop_assert_eq!(&oracle.decode(&out).expect("decodes"), block);
            prop_assert_eq!(ours.decode(&out), Ok(Outcome::Complete));
            prop_assert_eq!(&pairs(ours.list()), block);
        }
    }

    #[test]
    fn arbitrary_blocks_never_panic_and_agree_with_the_oracle(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let mut ours = decoder();
        let mut oracle = fluke_hpack::Decoder::new();
        oracle.set_max_allowed_table_size(4096);
        for block in &blocks {
            // The oracle is laxer: size updates anywhere, wrong padding. So it judges what
            // we accept, and nothing can be compared after the first refusal.
            if ours.decode(block).is_err() {
                break;
            }
            match oracle.decode(block) {
                Ok(expected) => prop_assert_eq!(pairs(ours.list()), expected),
                // Where it is stricter: a block without a field.
                Err(fluke_hpack::decoder::DecoderError::SizeUpdateAtEnd) => {
                    prop_assert!(ours.list().is_empty());
                    break;
                }
                Err(error) => prop_assert!(false, "we accepted {block:x?}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_list_over_the_limits_leaves_the_table_in_step() {
    let limits = ListLimits { max_fields: 3, max_bytes: 200 };
    let mut encoder = Encoder::new(EncoderOptions::default());
    let mut decoder = Decoder::new(limits);
    let small = [(b"x-a".to_vec(), b"1".to_vec()), (b"x-d".to_vec(), b"4".to_vec())];
    let many: Vec<Pair> = [b"x-a", b"x-b", b"x-c", b"x-d"]
        .iter()
        .map(|name| (name.to_vec(), b"1".to_vec()))
        .collect();
    let large = [(b"x-e".to_vec(), vec![b'y'; 180]), (b"x-f".to_vec(), b"5".to_vec())];
    for (block, expected) in [
        (&many[..], Outcome::OverLimit),
        (&small, Outcome::Complete),
        (&large, Outcome::OverLimit),
        (&large[1..], Outcome::Complete),
        (&many[..3], Outcome::Complete),
    ] {
        let mut out = Vec::new();
        encoder.encode(fields(block), &mut out);
        assert_eq!(decoder.decode(&out), Ok(expected));
        match expected {
            Outcome::Complete => assert_eq!(pairs(decoder.list()), block),
            Outcome::OverLimit => assert!(decoder.list().is_empty()),
        }
    }
}

#[test]
fn a_header_bomb_of_one_byte_fields_stops_at_the_field_limit() {
    let mut decoder = Decoder::new(ListLimits::default());
    assert_eq!(decoder.decode(&[0x82; 100]), Ok(Outcome::Complete));
    assert_eq!(decoder.decode(&[0x82; 101]), Ok(Outcome::OverLimit));
    assert!(decoder.list().is_empty());
}

/// Thousands of references to one large entry, of which each is a byte.
#[test]
fn beyond_the_limits_only_what_the_table_needs_is_moved() {
    let mut decoder = Decoder::new(ListLimits::default());
    let mut block = vec![0x40, 3, b'x', b'-', b'a', 0x7f, 0x80 | 125, 29];
    block.extend([b'v'; 3_964]);
    let first = block.clone();
    block.extend([0x80 | 62; 10]);
    assert_eq!(decoder.decode(&block), Ok(Outcome::OverLimit));
    assert_eq!(decoder.overrun_bytes(), 0, "references are not followed");
    // A literal that is not indexed, with the name of the entry; one that is.
    let index = 62;
    let literals = [&[0x0f, index - 15, 1, b'b'][..], &[0x40 | index, 1, b'c'], &[0x80 | index]];
    let more = [&[0x80 | index; 12_000][..], &literals.concat()].concat();
    assert_eq!(decoder.decode(&more), Ok(Outcome::OverLimit));
    assert_eq!(decoder.overrun_bytes(), 4, "the one that goes into the table");
    assert_eq!(decoder.decode(&[0x80 | index]), Ok(Outcome::Complete));
    assert_eq!(pairs(decoder.list()), [(b"x-a".to_vec(), b"c".to_vec())]);
    assert_eq!(decoder.overrun_bytes(), 0);
    // What is malformed is found beyond the limits as well.
    let mut decoder = Decoder::new(ListLimits::default());
    assert_eq!(decoder.decode(&first), Ok(Outcome::Complete));
    for bad in [&[0x80][..], &[0x80 | 63], &[0x20], &[0x00, 5, b'a'], &[0x0f, 100, 0]] {
        let mut decoder = Decoder::new(ListLimits::default());
        assert_eq!(decoder.decode(&first), Ok(Outcome::Complete));
        let block = [&[0x80 | 62; 100][..], bad].concat();
        assert!(decoder.decode(&block).is_err(), "{bad:?}");
    }
}

#[test]
fn a_decoded_block_is_remembered_when_it_comes_again() {
    let mut decoder = Decoder::new(ListLimits::default());
    let block = [0x82, 0x86, 0x84];
    let keys: Vec<_> = (0..3)
        .map(|_| {
            decoder.decode(&block).expect("valid");
            decoder.list().key()
        })
        .collect();
    assert_eq!(keys[0], None);
    assert!(keys[1].is_some(), "kept at its second coming");
    assert_eq!(keys[1], keys[2]);
    // 62 is nothing yet; once there is an entry the same bytes must be decoded anew.
    assert_eq!(decoder.decode(b"\x40\x01a\x01b"), Ok(Outcome::Complete));
    assert_eq!(decoder.decode(&block), Ok(Outcome::Complete));
    assert_eq!(decoder.list().len(), 3);
}

#[test]
fn a_remembered_block_is_forgotten_when_an_index_changes_its_meaning() {
    let mut decoder = Decoder::new(ListLimits::default());
    assert_eq!(decoder.decode(b"\x40\x01a\x01b"), Ok(Outcome::Complete));
    for _ in 0..3 {
        assert_eq!(decoder.decode(b"\xbe"), Ok(Outcome::Complete));
        assert_eq!(decoder.list().get(0).expect("one").value, b"b");
    }
    assert_eq!(decoder.decode(b"\x40\x01a\x01c"), Ok(Outcome::Complete));
    assert_eq!(decoder.decode(b"\xbe"), Ok(Outcome::Complete));
    assert_eq!(decoder.list().get(0).expect("one").value, b"c");
}

#[test]
fn size_updates_stand_first_are_few_and_within_the_setting() {
    let decode = |block: &[u8]| Decoder::new(ListLimits::default()).decode(block);
    assert_eq!(decode(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), Ok(Outcome::Complete));
    assert_eq!(decode(&[0x20, 0x20, 0x20]), Err(DecodeError::SizeUpdate), "three");
    assert_eq!(decode(&[0x82, 0x20]), Err(DecodeError::SizeUpdate), "behind a field");
    assert_eq!(decode(&[0x3f, 0xe2, 0x1f]), Err(DecodeError::SizeUpdate), "4097 bytes");
}

#[test]
fn a_lowered_setting_demands_an_update() {
    let mut decoder = Decoder::new(ListLimits::default());
    decoder.set_allowed_table_size(100);
    assert_eq!(decoder.decode(&[0x3f, 0x45, 0x82]), Ok(Outcome::Complete));
    assert_eq!(decoder.decode(&[0x82]), Ok(Outcome::Complete));
    decoder.set_allowed_table_size(50);
    assert_eq!(decoder.decode(&[0x82]), Err(DecodeError::SizeUpdate));
}

#[test]
fn malformed_blocks_name_their_fault() {
    for (block, fault) in [
        (&[0x80][..], DecodeError::Index),
        (&[0xbe], DecodeError::Index),
        (&[0x7f, 0x00], DecodeError::Index),
        (&[0x40], DecodeError::Truncated),
        (&[0x40, 0x03, b'a'], DecodeError::Truncated),
        (&[0x40, 0x01, b'a'], DecodeError::Truncated),
        (&[0x40, 0x01, b'a', 0x81, 0xff], DecodeError::Huffman),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], DecodeError::Integer),
    ] {
        assert_eq!(decoder().decode(block), Err(fault), "{block:x?}");
    }
}

#[test]
fn secrets_and_what_never_repeats_stay_out_of_the_tables() {
    let mut encoder = Encoder::new(EncoderOptions::default());
    let mut decoder = decoder();
    let mut secret = Field::new(b"x-token", b"hunter2");
    secret.never_indexed = true;
    let sent = [
        Field::new(b"authorization", b"Bearer abc"),
        secret,
        Field::new(b"traceparent", b"00-1-2-01"),
        Field::new(b"grpc-timeout", b"99m"),
    ];
    let mut out = Vec::new();
    encoder.encode(sent, &mut out);
    assert_eq!(decoder.decode(&out), Ok(Outcome::Complete));
    assert_eq!((encoder.table_bytes(), decoder.table_bytes()), (0, 0));
    let never: Vec<_> = decoder.list().iter().map(|field| field.never_indexed).collect();
    assert_eq!(never, [true, true, false, false]);
}
