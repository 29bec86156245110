//! Fields to header blocks (RFC 7541, section 6), with a dynamic table.
//!
//! What repeats is indexed, what does not is sent without indexing, so that a trace id neither
//! pushes useful entries out of the peer's table nor changes the table's generation and with it
//! every remembered block. What is secret never enters a table: a proxy sends the fields of many
//! clients through one table, and the length of a block must not tell one about another.

use super::{
    DEFAULT_TABLE_SIZE,
    cache::EncodedBlocks,
    hash::hash,
    huffman, integer,
    list::{BlockKey, Field},
    name::Name,
    static_table::{self, STATIC_LEN},
    table::Table,
};

/// Buckets of the two hash indices. A table of 4 KiB has at most 128 entries.
const BUCKETS: usize = 128;

/// How an encoder trades bytes for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    /// Most bytes of dynamic table to use, whatever more the peer offers.
    pub max_table_bytes: usize,
    /// Use Huffman code where it is shorter. Saves about a quarter of the literals' bytes and
    /// costs about a nanosecond for each byte on either side.
    pub huffman: bool,
}

impl Default for EncoderOptions {
    /// 4 KiB of table, with Huffman code.
    fn default() -> Self {
        Self { max_table_bytes: DEFAULT_TABLE_SIZE, huffman: true }
    }
}

/// How a field that is in no table is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Index,
    WithoutIndexing,
    NeverIndex,
}

impl Policy {
    fn of(field: &Field<'_>) -> Self {
        match field.class {
            _ if field.never_indexed => Self::NeverIndex,
            Name::Authorization | Name::ProxyAuthorization => Self::NeverIndex,
            Name::Cookie
            | Name::SetCookie
            | Name::ContentLength
            | Name::GrpcTimeout
            | Name::GrpcMessage
            | Name::Traceparent
            | Name::Tracestate
            | Name::HighCardinality => Self::WithoutIndexing,
            _ => Self::Index,
        }
    }
}

/// Links of the hash chains. A chain runs from newer to older entries, and entries are evicted
/// oldest first; so a chain ends where a link points to an entry that is gone, and eviction has
/// nothing to take out.
#[derive(Clone, Copy)]
struct Links {
    pair_hash: u64,
    name_hash: u64,
    older_pair: u64,
    older_name: u64,
}

/// The newest entry of a chain, as sequence number plus one; 0 is none.
struct Buckets {
    pairs: [u64; BUCKETS],
    names: [u64; BUCKETS],
}

/// The sending side of HPACK for one connection.
pub struct Encoder {
    table: Table<Links>,
    /// `None` until the first entry, so that an idle connection pays nothing.
    buckets: Option<Box<Buckets>>,
    options: EncoderOptions,
    /// Sizes to announce at the start of the next block: the lowest since the last block, and the
    /// current one.
    pending_update: Option<(usize, usize)>,
    kept: EncodedBlocks,
}

impl Encoder {
    /// An encoder for a peer with the default settings. Holds no heap memory until it is used.
    pub fn new(options: EncoderOptions) -> Self {
        let size = options.max_table_bytes.min(DEFAULT_TABLE_SIZE);
        Self {
            table: Table::new(size),
            buckets: None,
            options,
            pending_update: (size != DEFAULT_TABLE_SIZE).then_some((size, size)),
            kept: EncodedBlocks::default(),
        }
    }

    /// Follows the peer's SETTINGS_HEADER_TABLE_SIZE, in bytes.
    pub fn set_peer_table_size(&mut self, bytes: usize) {
        let size = bytes.min(self.options.max_table_bytes);
        if size == self.table.max_size() {
            return;
        }
        let lowest = self.pending_update.map_or(size, |(lowest, _)| lowest.min(size));
        self.pending_update = Some((lowest, size));
        self.table.set_max_size(size);
    }

    /// The size of the dynamic table in bytes, as RFC 7541, section 4.1 counts it.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    /// Gives memory back that is only needed while blocks go out; the table stays.
    pub fn shrink(&mut self) {
        self.kept.clear();
    }

    /// Appends the block for `fields`.
    pub fn encode<'a>(&mut self, fields: impl IntoIterator<Item = Field<'a>>, out: &mut Vec<u8>) {
        self.announce_size(out);
        for field in fields {
            self.field(&field, out);
        }
    }

    /// Appends the block for the list of fields that `key` stands for, from memory when possible;
    /// `fields` is called when it is not.
    #[inline]
    pub fn encode_keyed<'a, I>(
        &mut self,
        key: BlockKey,
        fields: impl FnOnce() -> I,
        out: &mut Vec<u8>,
    ) where
        I: IntoIterator<Item = Field<'a>>,
    {
        let generation = self.table.generation();
        if let Some(block) = self.kept.get(key, generation)
            && self.pending_update.is_none()
        {
            return out.extend_from_slice(block);
        }
        self.announce_size(out);
        let start = out.len();
        for field in fields() {
            self.field(&field, out);
        }
        if self.table.generation() == generation {
            self.kept.put(key, generation, &out[start..]);
        }
    }

    fn announce_size(&mut self, out: &mut Vec<u8>) {
        if let Some((lowest, current)) = self.pending_update.take() {
            if lowest < current {
                integer::encode(lowest, 5, 0x20, out);
            }
            integer::encode(current, 5, 0x20, out);
        }
    }

    fn field(&mut self, field: &Field<'_>, out: &mut Vec<u8>) {
        let policy = Policy::of(field);
        if policy != Policy::Index {
            return self.literal_without_indexing(field, policy, out);
        }
        if let Some(index) = static_table::find_pair(field.class, field.name, field.value) {
            return integer::encode(index, 7, 0x80, out);
        }
        let name_hash = hash(0, field.name);
        let pair_hash = hash(name_hash, field.value);
        if let Some(index) = self.find_pair(field, pair_hash) {
            return integer::encode(index, 7, 0x80, out);
        }
        let name_index = static_table::find_name(field.class, field.name)
            .or_else(|| self.find_name(field.name, name_hash));
        self.literal(name_index, 6, 0x40, field, out);
        self.insert(field, name_hash, pair_hash);
    }

    fn literal_without_indexing(&self, field: &Field<'_>, policy: Policy, out: &mut Vec<u8>) {
        let pattern = if policy == Policy::NeverIndex { 0x10 } else { 0 };
        // The dynamic table is not asked: these names get into it only by a change of policy.
        let name_index = static_table::find_name(field.class, field.name);
        self.literal(name_index, 4, pattern, field, out);
    }

    fn literal(
        &self,
        name_index: Option<usize>,
        prefix_bits: u32,
        pattern: u8,
        field: &Field<'_>,
        out: &mut Vec<u8>,
    ) {
        integer::encode(name_index.unwrap_or(0), prefix_bits, pattern, out);
        if name_index.is_none() {
            self.string(field.name, out);
        }
        self.string(field.value, out);
    }

    fn string(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.options.huffman {
            let length = huffman::encoded_len(text);
            if length < text.len() {
                integer::encode(length, 7, 0x80, out);
                return huffman::encode(text, out);
            }
        }
        integer::encode(text.len(), 7, 0, out);
        out.extend_from_slice(text);
    }

    /// The index of the dynamic entry with this name and value.
    fn find_pair(&self, field: &Field<'_>, pair_hash: u64) -> Option<usize> {
        let buckets = self.buckets.as_ref()?;
        let mut link = buckets.pairs[pair_hash as usize % BUCKETS];
        while let Some((age, links)) = self.linked(link) {
            if links.pair_hash == pair_hash {
                let (text, name_len) = self.table.text(self.table.get(age)?);
                if &text[..name_len] == field.name && &text[name_len..] == field.value {
                    return Some(STATIC_LEN + 1 + age);
                }
            }
            link = links.older_pair;
        }
        None
    }

    /// The index of the newest dynamic entry with this name.
    fn find_name(&self, name: &[u8], name_hash: u64) -> Option<usize> {
        let buckets = self.buckets.as_ref()?;
        let mut link = buckets.names[name_hash as usize % BUCKETS];
        while let Some((age, links)) = self.linked(link) {
            if links.name_hash == name_hash {
                let (text, name_len) = self.table.text(self.table.get(age)?);
                if &text[..name_len] == name {
                    return Some(STATIC_LEN + 1 + age);
                }
            }
            link = links.older_name;
        }
        None
    }

    /// Age and links of the entry behind a link, `None` when it is gone or there never was one.
    #[inline]
    fn linked(&self, link: u64) -> Option<(usize, Links)> {
        let age = self.table.next_sequence().checked_sub(link)?;
        if link == 0 {
            return None;
        }
        let entry = self.table.get(age as usize)?;
        Some((age as usize, entry.meta))
    }

    fn insert(&mut self, field: &Field<'_>, name_hash: u64, pair_hash: u64) {
        let buckets = self
            .buckets
            .get_or_insert_with(|| Box::new(Buckets { pairs: [0; BUCKETS], names: [0; BUCKETS] }));
        let pair = &mut buckets.pairs[pair_hash as usize % BUCKETS];
        let name = &mut buckets.names[name_hash as usize % BUCKETS];
        let links = Links { pair_hash, name_hash, older_pair: *pair, older_name: *name };
        if self.table.insert_parts(field.name, field.value, links) {
            *pair = self.table.next_sequence();
            *name = self.table.next_sequence();
        }
    }
}
