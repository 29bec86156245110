//! Header blocks to [`HeaderList`]s (RFC 7541, sections 3, 5 and 6).

use super::{
    DEFAULT_TABLE_SIZE, DecodeError,
    cache::DecodedBlocks,
    huffman, integer,
    list::HeaderList,
    name::{Name, is_valid_name, is_valid_value},
    static_table::{STATIC, STATIC_LEN},
    table::Table,
};

/// Bounds on one decoded list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListLimits {
    /// Most fields in a list. Bounds what many one-byte indexed fields cost (the "header bomb",
    /// CVE-2026-49975).
    pub max_fields: usize,
    /// Largest list in bytes: text plus 32 for each field, as SETTINGS_MAX_HEADER_LIST_SIZE
    /// counts it.
    pub max_bytes: usize,
}

impl Default for ListLimits {
    /// 100 fields, 16 KiB.
    fn default() -> Self {
        Self { max_fields: 100, max_bytes: 16 * 1024 }
    }
}

/// How a block was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The list is complete.
    Complete,
    /// The list broke a [`ListLimits`] bound: it is empty, but the table is in step with the
    /// peer's, and the connection can go on.
    OverLimit,
}

/// What the table keeps with an entry.
#[derive(Clone, Copy)]
struct Meta {
    class: Name,
    /// Name and value are made of allowed characters; checked once, when the entry came in.
    valid: bool,
    name_valid: bool,
}

/// Where the list of the last block is.
#[derive(Clone, Copy)]
enum Last {
    Scratch,
    Kept(usize),
}

/// The receiving side of HPACK for one connection.
pub struct Decoder {
    table: Table<Meta>,
    limits: ListLimits,
    /// What the table may be set to by the peer: our SETTINGS_HEADER_TABLE_SIZE.
    allowed_size: usize,
    /// The setting was lowered below the table's size, so the next block has to begin with an
    /// update (RFC 7541, section 4.2).
    update_due: bool,
    scratch: HeaderList,
    kept: DecodedBlocks,
    last: Last,
    /// See [`Decoder::overrun_bytes`].
    overrun_bytes: usize,
}

impl Decoder {
    /// A decoder with the default table of 4 KiB. Holds no heap memory until it is used.
    pub fn new(limits: ListLimits) -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE_SIZE),
            limits,
            allowed_size: DEFAULT_TABLE_SIZE,
            update_due: false,
            scratch: HeaderList::new(),
            kept: DecodedBlocks::default(),
            last: Last::Scratch,
            overrun_bytes: 0,
        }
    }

    /// Puts a new SETTINGS_HEADER_TABLE_SIZE in force, in bytes; to be called when the peer has
    /// acknowledged it.
    pub fn set_allowed_table_size(&mut self, bytes: usize) {
        self.allowed_size = bytes;
        self.update_due = self.table.max_size() > bytes;
    }

    /// The list the last call of [`Decoder::decode`] made.
    #[inline]
    pub fn list(&self) -> &HeaderList {
        match self.last {
            Last::Scratch => &self.scratch,
            Last::Kept(slot) => self.kept.list(slot).unwrap_or(&self.scratch),
        }
    }

    /// Bytes of text that the last block made us move after it had broken a bound of
    /// [`ListLimits`]: only what goes into the table, which has to be in step with the peer's. An
    /// entry whose name is that of another is a few bytes on the wire and can be thousands here.
    pub fn overrun_bytes(&self) -> usize {
        self.overrun_bytes
    }

    /// The size of the dynamic table in bytes, as RFC 7541, section 4.1 counts it.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    /// Gives memory back that is only needed while blocks come in; the table stays.
    pub fn shrink(&mut self) {
        self.scratch = HeaderList::new();
        self.kept.clear();
        self.last = Last::Scratch;
    }

    /// Decodes one whole header block; [`Decoder::list`] then has its fields.
    ///
    /// # Errors
    /// Whatever makes the block undecodable. The decoder is of no more use then.
    pub fn decode(&mut self, block: &[u8]) -> Result<Outcome, DecodeError> {
        let generation = self.table.generation();
        let place = self.kept.place(block);
        if let Some(place) = place
            && self.kept.holds(place, block, generation)
            && !self.update_due
        {
            self.last = Last::Kept(place.slot());
            return Ok(Outcome::Complete);
        }
        self.last = Last::Scratch;
        let mut list = std::mem::take(&mut self.scratch);
        let result = self.decode_into(block, &mut list);
        self.scratch = list;
        if result == Ok((Outcome::Complete, Purity::Pure))
            && let Some(place) = place
            && let Some(slot) = self.kept.offer(place, block, generation, &self.scratch)
        {
            self.last = Last::Kept(slot);
        }
        result.map(|(outcome, _)| outcome)
    }

    fn decode_into(
        &mut self,
        block: &[u8],
        list: &mut HeaderList,
    ) -> Result<(Outcome, Purity), DecodeError> {
        list.clear();
        self.overrun_bytes = 0;
        let mut rest = block;
        let mut purity = self.size_updates(&mut rest)?;
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first & 0x80 != 0 {
                let index = integer::decode(first, 7, &mut rest)?;
                self.indexed(index, list)?;
            } else if first & 0x40 != 0 {
                purity = Purity::ChangesTable;
                self.literal(first, 6, &mut rest, list)?;
            } else if first & 0x20 != 0 {
                return Err(DecodeError::SizeUpdate);
            } else {
                self.literal(first, 4, &mut rest, list)?;
            }
            if list.len() > self.limits.max_fields || list.size() > self.limits.max_bytes {
                self.overrun(rest, list)?;
                return Ok((Outcome::OverLimit, purity));
            }
        }
        Ok((Outcome::Complete, purity))
    }

    /// Goes through the rest of a block whose list has broken a bound, for what it does to the
    /// table. Nothing is copied for a field that only refers to an entry: a byte on the wire
    /// must not cost what the entry does.
    #[cold]
    fn overrun(&mut self, mut rest: &[u8], list: &mut HeaderList) -> Result<(), DecodeError> {
        list.clear();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first & 0x80 != 0 {
                let index = integer::decode(first, 7, &mut rest)?;
                self.check_index(index)?;
            } else if first & 0x40 != 0 {
                self.literal(first, 6, &mut rest, list)?;
                self.overrun_bytes += list.bytes_mut().len();
            } else if first & 0x20 != 0 {
                return Err(DecodeError::SizeUpdate);
            } else {
                match integer::decode(first, 4, &mut rest)? {
                    0 => string(&mut rest, list.bytes_mut())?,
                    index => self.check_index(index)?,
                }
                string(&mut rest, list.bytes_mut())?;
            }
            list.clear();
        }
        Ok(())
    }

    fn check_index(&self, index: usize) -> Result<(), DecodeError> {
        let is_known = match index.checked_sub(STATIC_LEN + 1) {
            Some(age) => self.table.get(age).is_some(),
            None => index > 0,
        };
        if is_known { Ok(()) } else { Err(DecodeError::Index) }
    }

    /// The updates a block may begin with: two at most (RFC 7541, section 4.2), so that flipping
    /// the size back and forth can't be made into work.
    fn size_updates(&mut self, rest: &mut &[u8]) -> Result<Purity, DecodeError> {
        let mut updates = 0;
        while let Some((&first, tail)) = rest.split_first()
            && first & 0xe0 == 0x20
        {
            *rest = tail;
            let size = integer::decode(first, 5, rest)?;
            updates += 1;
            if size > self.allowed_size || updates > 2 {
                return Err(DecodeError::SizeUpdate);
            }
            self.table.set_max_size(size);
            self.update_due = false;
        }
        if self.update_due {
            return Err(DecodeError::SizeUpdate);
        }
        Ok(if updates == 0 { Purity::Pure } else { Purity::ChangesTable })
    }

    /// An indexed field (section 6.1).
    #[inline]
    fn indexed(&self, index: usize, list: &mut HeaderList) -> Result<(), DecodeError> {
        if index > STATIC_LEN {
            let entry = self.table.get(index - STATIC_LEN - 1).ok_or(DecodeError::Index)?;
            let (text, name_len) = self.table.text(entry);
            list.push_text(text, name_len, entry.meta.class, entry.meta.valid);
        } else {
            let entry = STATIC.get(index.wrapping_sub(1)).ok_or(DecodeError::Index)?;
            let start = list.bytes_mut().len();
            list.bytes_mut().extend_from_slice(entry.name);
            list.bytes_mut().extend_from_slice(entry.value);
            list.note_from(start, entry.name.len(), entry.class, true, false);
        }
        Ok(())
    }

    /// A literal field (section 6.2) whose name index has `prefix_bits`: six stand for
    /// incremental indexing, four for none, with the bit above saying "never".
    fn literal(
        &mut self,
        first: u8,
        prefix_bits: u32,
        rest: &mut &[u8],
        list: &mut HeaderList,
    ) -> Result<(), DecodeError> {
        let start = list.bytes_mut().len();
        let index = integer::decode(first, prefix_bits, rest)?;
        let (class, name_valid) = match index {
            0 => {
                string(rest, list.bytes_mut())?;
                let name = list.tail(start);
                (Name::classify(name), is_valid_name(name))
            }
            index => self.copy_name(index, list)?,
        };
        let name_len = list.bytes_mut().len() - start;
        string(rest, list.bytes_mut())?;
        let text = list.tail(start);
        let valid = name_valid && is_valid_value(class, &text[name_len..]);
        if prefix_bits == 6 {
            self.table.insert(text, name_len, Meta { class, valid, name_valid });
        }
        let never_indexed = prefix_bits == 4 && first & 0x10 != 0;
        list.note_from(start, name_len, class, valid, never_indexed);
        Ok(())
    }

    fn copy_name(&self, index: usize, list: &mut HeaderList) -> Result<(Name, bool), DecodeError> {
        if let Some(entry) = STATIC.get(index - 1) {
            list.bytes_mut().extend_from_slice(entry.name);
            return Ok((entry.class, true));
        }
        let entry = self.table.get(index - STATIC_LEN - 1).ok_or(DecodeError::Index)?;
        let (text, name_len) = self.table.text(entry);
        list.bytes_mut().extend_from_slice(&text[..name_len]);
        Ok((entry.meta.class, entry.meta.name_valid))
    }
}

/// Whether a block left the table as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purity {
    Pure,
    ChangesTable,
}

/// Appends a string literal (section 5.2) to `out`.
#[inline]
fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (&first, tail) = rest.split_first().ok_or(DecodeError::Truncated)?;
    *rest = tail;
    let length = integer::decode(first, 7, rest)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *rest = tail;
    if first & 0x80 != 0 {
        return huffman::decode(text, out);
    }
    out.extend_from_slice(text);
    Ok(())
}
