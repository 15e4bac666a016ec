//! The Sparse delta file, format version 1.0: `docs/FORMAT.md` is its specification.
//!
//! A delta file is a header, the payload (parameter blocks, chunks, blobs, in any order), the
//! [`Index`] that says what all of it is, and a fixed-size trailer. It is written as a pure stream
//! ([`Writer`]) and read by position ([`Reader`]). This crate knows no codec: to it, payload is
//! bytes with a checksum.
//!
//! Nothing in a file is trusted. [`Reader::open`] checks the whole index before it hands it out, so
//! that code above may follow its references without checking them again, and a [`Writer`] refuses
//! to write an index that a reader would refuse. Checksums find accidents; they do not prove who
//! wrote a file.

#![forbid(unsafe_code)]

mod base;
mod content;
mod decode;
mod encode;
mod frame;
mod hash;
mod index;
mod path;
mod reader;
mod validate;
mod wire;
mod writer;

pub use base::{BaseEntry, BaseKind};
pub use content::ContentHash;
#[cfg(feature = "sha256")]
pub use content::FileHasher;
pub use frame::{FORMAT_VERSION, Version};
pub use hash::{Digester, checksum, chunk_checksum, digest};
pub use index::{
    Attributes, BaseRange, BaseStart, BlobRef, ChunkRecord, Entry, EntryKind, FileRecord, Index,
    Piece, PieceSource, Provenance, SegmentRecord, UnitRecord,
};
pub use path::check_distinct;
pub use reader::Reader;
pub use sparse_core::{check_output_path, check_path};
pub use writer::Writer;
