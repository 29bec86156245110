//! [`HeaderList`]: a decoded header block in one flat piece of memory.
//!
//! All names and values of a list lie in one buffer, and a list is cleared and filled again for
//! the next block, so that decoding allocates nothing once the buffers have grown. While it is
//! filled a list also notes what the rules for messages ask about (RFC 9113, section 8): which
//! names were seen, which twice, what was malformed. Checking a message is then a matter of a few
//! bit sets, see [`crate::message`].

use std::{
    fmt,
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use super::name::{Name, is_valid_name, is_valid_value};

/// What RFC 9113, section 10.5.1 (and RFC 7541, section 4.1) adds to the text of each field when
/// the size of a list is counted, in bytes.
const FIELD_OVERHEAD: usize = 32;

/// Names a list of fields whose content never changes, so that work done for it can be kept.
///
/// Keys are unique in the process. A decoder gives one to every block it remembers, and a sender
/// that repeats itself can make its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey(NonZeroU64);

impl BlockKey {
    /// A key that was never used before. Two lists of fields must never share one.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // At a billion keys a second the counter lasts for centuries.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }

    #[inline]
    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }
}

/// One field, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, in lower case.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The class of the name; must be that of `name`.
    pub class: Name,
    /// The value must never enter a compression table, here or further on (RFC 7541,
    /// section 7.1.3).
    pub never_indexed: bool,
}

impl<'a> Field<'a> {
    /// A field that may be indexed.
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        Self { name, value, class: Name::classify(name), never_indexed: false }
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.never_indexed { b"(never indexed)".as_slice() } else { self.value };
        write!(f, "{}: {}", self.name.escape_ascii(), value.escape_ascii())
    }
}

/// Where a field lies in its list.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    name_len: u32,
    value_len: u32,
    class: Name,
    never_indexed: bool,
}

/// What a list noted while it was filled.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Summary {
    /// Bits of the names seen.
    pub(crate) seen: u32,
    /// Bits of the names seen more than once.
    pub(crate) repeated: u32,
    /// The first rule that a field broke on its own.
    pub(crate) fault: Option<&'static str>,
    /// The value of `content-length`.
    pub(crate) content_length: Option<u64>,
}

/// The fields of one header block, in order, in reusable memory.
#[derive(Default, Clone)]
pub struct HeaderList {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    summary: Summary,
    key: Option<BlockKey>,
}

impl HeaderList {
    /// An empty list that holds no memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.summary = Summary::default();
        self.key = None;
    }

    /// Gives the memory back that is above `bytes` of text, for connections that go idle.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.bytes.shrink_to(bytes);
        self.spans.shrink_to(bytes / FIELD_OVERHEAD);
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The size as SETTINGS_MAX_HEADER_LIST_SIZE counts it: text plus 32 bytes a field.
    pub fn size(&self) -> usize {
        self.bytes.len() + FIELD_OVERHEAD * self.spans.len()
    }

    /// The fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Field<'_>> + Clone {
        self.spans.iter().map(|span| self.field(span))
    }

    /// The field at `index`.
    pub fn get(&self, index: usize) -> Option<Field<'_>> {
        self.spans.get(index).map(|span| self.field(span))
    }

    /// The value of the first field whose name is of the class `class`.
    pub fn value_of(&self, class: Name) -> Option<&[u8]> {
        if !self.contains(class) {
            return None;
        }
        let span = self.spans.iter().find(|span| span.class == class)?;
        Some(self.field(span).value)
    }

    /// The value of the first field with this name, for names without a class of their own.
    pub fn value_of_name(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|field| field.name == name).map(|field| field.value)
    }

    /// Whether a name of the class `class` occurs.
    #[inline]
    pub fn contains(&self, class: Name) -> bool {
        self.summary.seen & class.bit() != 0
    }

    /// The number in `content-length`, if the field is there and well-formed.
    pub fn content_length(&self) -> Option<u64> {
        self.summary.content_length
    }

    /// The key under which work done for exactly this list may be kept, if the decoder remembers
    /// the block.
    #[inline]
    pub fn key(&self) -> Option<BlockKey> {
        self.key
    }

    /// Appends a field, and checks it.
    pub fn push(&mut self, field: Field<'_>) {
        let valid = is_valid_name(field.name) && is_valid_value(field.class, field.value);
        self.bytes.reserve(field.name.len() + field.value.len());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(field.name);
        self.bytes.extend_from_slice(field.value);
        self.note_from(start, field.name.len(), field.class, valid, field.never_indexed);
    }

    /// What was noted while the list was filled.
    #[inline]
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Makes this list equal to `other`, in the memory it has.
    pub fn assign(&mut self, other: &Self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&other.bytes);
        self.spans.clear();
        self.spans.extend_from_slice(&other.spans);
        self.summary = other.summary;
        self.key = other.key;
    }

    pub(crate) fn set_key(&mut self, key: BlockKey) {
        self.key = Some(key);
    }

    /// The buffer that text is appended to before [`HeaderList::note_from`].
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The text appended from `start` on.
    #[inline]
    pub(crate) fn tail(&self, start: usize) -> &[u8] {
        &self.bytes[start..]
    }

    /// Appends a field whose text is known to be made of name and value.
    #[inline]
    pub(crate) fn push_text(&mut self, text: &[u8], name_len: usize, class: Name, valid: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.note_from(start, name_len, class, valid, false);
    }

    /// Makes a field of the text that was appended to the buffer from `start` on.
    #[inline]
    pub(crate) fn note_from(
        &mut self,
        start: usize,
        name_len: usize,
        class: Name,
        valid: bool,
        never_indexed: bool,
    ) {
        let value_start = start + name_len;
        let value = &self.bytes[value_start..];
        let summary = &mut self.summary;
        let bit = class.bit();
        if class.is_pseudo() && summary.seen & !PSEUDO_BITS != 0 {
            summary.fault.get_or_insert("pseudo-header field after a regular field");
        }
        summary.repeated |= summary.seen & bit;
        summary.seen |= bit;
        if !valid {
            summary.fault.get_or_insert("invalid character in a field");
        }
        match class {
            Name::Te if value != b"trailers" => {
                summary.fault.get_or_insert("te with a value other than trailers");
            }
            Name::ConnectionSpecific => {
                summary.fault.get_or_insert("connection-specific field");
            }
            Name::ContentLength => summarize_content_length(summary, value),
            _ => {}
        }
        self.spans.push(Span {
            start: start as u32,
            name_len: name_len as u32,
            value_len: value.len() as u32,
            class,
            never_indexed,
        });
    }

    #[inline]
    fn field(&self, span: &Span) -> Field<'_> {
        let start = span.start as usize;
        let text = &self.bytes[start..start + (span.name_len + span.value_len) as usize];
        let (name, value) = text.split_at(span.name_len as usize);
        Field { name, value, class: span.class, never_indexed: span.never_indexed }
    }
}

const PSEUDO_BITS: u32 = Name::Authority.bit()
    | Name::Method.bit()
    | Name::Path.bit()
    | Name::Scheme.bit()
    | Name::Status.bit()
    | Name::UnknownPseudo.bit();

/// Only digits, and every repetition the same (RFC 9110, section 8.6).
fn summarize_content_length(summary: &mut Summary, value: &[u8]) {
    let digits = value.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    });
    match digits {
        Some(length)
            if !value.is_empty() && summary.content_length.is_none_or(|seen| seen == length) =>
        {
            summary.content_length = Some(length);
        }
        _ => {
            summary.fault.get_or_insert("malformed or contradictory content-length");
        }
    }
}

impl<'a> Extend<Field<'a>> for HeaderList {
    fn extend<T: IntoIterator<Item = Field<'a>>>(&mut self, fields: T) {
        for field in fields {
            self.push(field);
        }
    }
}

impl<'a> FromIterator<Field<'a>> for HeaderList {
    fn from_iter<T: IntoIterator<Item = Field<'a>>>(fields: T) -> Self {
        let mut list = Self::new();
        list.extend(fields);
        list
    }
}

impl fmt::Debug for HeaderList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fields: &[(&str, &str)]) -> HeaderList {
        fields.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes())).collect()
    }

    #[test]
    fn fields_come_back_in_order_and_are_counted_as_the_rfc_does() {
        let list = list(&[(":method", "POST"), ("a", ""), ("a", "b")]);
        let pairs: Vec<_> = list.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(pairs, [(&b":method"[..], &b"POST"[..]), (b"a", b""), (b"a", b"b")]);
        assert_eq!(list.size(), 7 + 4 + 1 + 2 + 3 * 32);
        assert_eq!(list.value_of(Name::Method), Some(&b"POST"[..]));
        assert_eq!(list.value_of(Name::Path), None);
        assert_eq!(list.value_of_name(b"a"), Some(&b""[..]));
    }

    #[test]
    fn faults_of_single_fields_are_noted() {
        for fields in [
            &[("a", "b"), (":path", "/")][..],
            &[("Upper", "b")],
            &[("a", "line\nbreak")],
            &[("te", "gzip")],
            &[("connection", "close")],
            &[("content-length", "")],
            &[("content-length", "1x")],
            &[("content-length", "99999999999999999999999")],
            &[("content-length", "1"), ("content-length", "2")],
        ] {
            assert!(list(fields).summary.fault.is_some(), "{fields:?}");
        }
        let fine = list(&[(":path", "/"), ("te", "trailers"), ("content-length", "7"), ("a", "b")]);
        assert_eq!(fine.summary.fault, None);
        assert_eq!(fine.content_length(), Some(7));
    }

    #[test]
    fn repetition_is_noted_by_class() {
        let list = list(&[(":path", "/"), (":path", "/"), ("cookie", "a")]);
        assert_eq!(list.summary.repeated, Name::Path.bit());
        assert!(list.contains(Name::Cookie));
    }

    #[test]
    fn an_assigned_list_is_equal_in_all_it_tells() {
        let mut source = list(&[(":path", "/"), ("content-length", "7"), ("te", "gzip")]);
        source.set_key(BlockKey::unique());
        let mut target = list(&[("a", "b")]);
        target.assign(&source);
        assert!(target.iter().eq(source.iter()));
        assert_eq!((target.key(), target.content_length()), (source.key(), Some(7)));
        assert_eq!(target.summary.fault, source.summary.fault);
    }

    #[test]
    fn a_cleared_list_forgets_everything() {
        let mut list = list(&[("te", "gzip")]);
        list.set_key(BlockKey::unique());
        list.clear();
        assert!(list.is_empty() && list.summary.fault.is_none() && list.key().is_none());
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let mut secret = Field::new(b"authorization", b"hunter2");
        secret.never_indexed = true;
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
