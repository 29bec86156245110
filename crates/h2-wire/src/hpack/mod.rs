//! HPACK (RFC 7541): [`Decoder`], [`Encoder`] and the flat [`HeaderList`] between them.
//!
//! Both directions are built for a peer that says nearly the same thing thousands of times a
//! second. Fields that come from a table are copied in one piece and never looked at again; a
//! whole block that changes no table is remembered together with its result, and is a lookup the
//! next time. Both rest on one rule: a result is kept together with the generation of the table
//! it was made under.

mod cache;
mod decoder;
mod encoder;
mod hash;
pub mod huffman;
mod integer;
mod list;
mod name;
#[cfg(test)]
mod rfc_vectors;
mod static_table;
mod table;

pub use decoder::{Decoder, ListLimits, Outcome};
pub use encoder::{Encoder, EncoderOptions};
pub use list::{BlockKey, Field, HeaderList};
pub use name::Name;

/// The dynamic table both sides start with, in bytes (RFC 9113, section 6.5.2).
pub const DEFAULT_TABLE_SIZE: usize = 4096;

/// Why a header block can't be decoded. Always a connection error of type COMPRESSION_ERROR, as
/// the tables of the two sides may differ from here on (RFC 9113, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The block ends inside a field.
    #[error("header block ends inside a field")]
    Truncated,
    /// An integer is too large or too long.
    #[error("integer in a header block is out of bounds")]
    Integer,
    /// An index of 0 or beyond the tables.
    #[error("index in a header block is beyond the tables")]
    Index,
    /// Huffman code with EOS in it or with wrong padding.
    #[error("malformed Huffman code")]
    Huffman,
    /// A table size update above the limit, or behind a field, or one too many, or a missing one.
    #[error("dynamic table size update against the rules")]
    SizeUpdate,
}

impl DecodeError {
    /// The same text as `Display`, without a formatter.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Truncated => "header block ends inside a field",
            Self::Integer => "integer in a header block is out of bounds",
            Self::Index => "index in a header block is beyond the tables",
            Self::Huffman => "malformed Huffman code",
            Self::SizeUpdate => "dynamic table size update against the rules",
        }
    }
}
