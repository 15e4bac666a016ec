//! Delta files taken apart, changed anywhere, and put together with checksums that fit.
//!
//! A reader refuses most damage at the first checksum. These modules get past it: [`parse`] reads
//! the fields of an index, believing whatever they say; [`dump`] writes them back with the
//! checksums of what is there; [`mutate`] changes a few fields in between, as a mutator of
//! libFuzzer. The layout is that of docs/FORMAT.md, written down here once more, independent of the
//! reader that is tested.

mod dump;
mod mutate;
mod parse;

pub use dump::dump;
pub use mutate::{Bytes, mutate, mutate_in_place};
pub use parse::parse;

/// Bytes of the header, in front of the payload.
pub(crate) const HEADER_LEN: usize = 12;
/// Bytes of the trailer.
pub(crate) const TRAILER_LEN: usize = 40;
/// The end of the trailer.
pub(crate) const END_MAGIC: &[u8] = b"\xd3END";

/// Where the content of a piece comes from: its tag in the file.
pub(crate) mod source {
    pub(crate) const BASE: u8 = 0;
    pub(crate) const UNIT: u8 = 1;
    pub(crate) const BLOB: u8 = 2;
    pub(crate) const BLOB_AFTER_BASE: u8 = 3;
}

/// The tag of a base that is a tensor, and has a name.
pub(crate) const TENSOR: u8 = 0;
/// Stands for "no base" among the types of bases of units.
pub(crate) const NO_DTYPE: u8 = 255;

/// Attributes: key and value.
pub type Attributes = Vec<(u64, Vec<u8>)>;

/// An element type and a shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    pub(crate) dtype: u8,
    pub(crate) shape: Vec<u64>,
}

/// A tensor or file of the base.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    pub(crate) kind: u8,
    pub(crate) file: Vec<u8>,
    pub(crate) name: Vec<u8>,
    pub(crate) spec: Spec,
    pub(crate) digest: [u8; 16],
}

/// A tensor, or a run of bytes, of the target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub(crate) kind: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) spec: Spec,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) attributes: Attributes,
    pub(crate) digest: [u8; 16],
}

/// A part of an entry. Which numbers are written depends on the source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    pub(crate) source: u8,
    pub(crate) len: u64,
    pub(crate) base: u64,
    pub(crate) unit: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) codec: u64,
    pub(crate) blob: u64,
    pub(crate) blob_len: u64,
    pub(crate) base_offset: u64,
    pub(crate) base_len: u64,
}

/// A file of the target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    pub(crate) path: Vec<u8>,
    pub(crate) parts: Vec<u64>,
    pub(crate) digest: [u8; 16],
}

/// A run of a unit that is coded together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    pub(crate) rows: u64,
    pub(crate) row_len: u64,
    pub(crate) base: u64,
    pub(crate) offset: u64,
}

/// A unit of coding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unit {
    pub(crate) codec: u64,
    pub(crate) dtype: u8,
    pub(crate) base_dtype: u8,
    pub(crate) chunk_len: u64,
    pub(crate) params: u64,
    pub(crate) params_len: u64,
    pub(crate) first: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) attributes: Attributes,
    /// Bytes of each chunk.
    pub(crate) chunks: Vec<u64>,
}

/// A delta file in parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// The header and what follows it up to the index.
    pub(crate) payload: Vec<u8>,
    pub(crate) provenance: [Vec<u8>; 3],
    pub(crate) parent: u8,
    pub(crate) parent_digest: [u8; 16],
    pub(crate) bases: Vec<Base>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) files: Vec<File>,
    pub(crate) folders: Vec<Vec<u8>>,
    pub(crate) units: Vec<Unit>,
    pub(crate) attributes: Attributes,
}

impl Delta {
    /// The value of an attribute of the index.
    pub fn attribute(&self, key: u64) -> Option<Vec<u8>> {
        self.attributes.iter().find(|a| a.0 == key).map(|a| a.1.clone())
    }

    /// Pieces of these sources, in order.
    fn pieces(&self, sources: &'static [u8]) -> impl Iterator<Item = &Piece> + Clone {
        let all = self.entries.iter().flat_map(|e| &e.pieces);
        all.filter(move |p| sources.contains(&p.source))
    }

    /// Whether an entry's digest follows from the rest, and is not written.
    fn digest_follows(&self, entry: &Entry) -> bool {
        let of_base = |p: &Piece| {
            let base = usize::try_from(p.base).ok().and_then(|b| self.bases.get(b));
            p.source == source::BASE
                && p.offset == 0
                && base.is_some_and(|b| byte_len(&b.spec) == byte_len(&entry.spec))
        };
        byte_len(&entry.spec) == Some(0) || matches!(&*entry.pieces, [p] if of_base(p))
    }
}

/// Bits of an element of each type, by number.
const BITS: [u64; 22] =
    [8, 8, 8, 16, 16, 32, 32, 64, 64, 16, 16, 32, 64, 8, 8, 8, 8, 8, 6, 6, 4, 64];
/// Bytes of a storage element of each type, by number.
const STORAGE: [u64; 22] = [1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1, 1, 1, 1, 1, 1, 1, 4];

/// Bytes of a tensor; `None` where there is no such type or too many elements.
fn byte_len(spec: &Spec) -> Option<u64> {
    let elements = spec.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    Some(elements.checked_mul(*BITS.get(usize::from(spec.dtype))?)? / 8)
}

/// Storage elements of a tensor.
fn storage_len(spec: &Spec) -> Option<u64> {
    Some(byte_len(spec)? / STORAGE.get(usize::from(spec.dtype))?)
}

/// Chunks of a unit.
fn chunk_count(unit: &Unit) -> Option<u64> {
    let len = |s: &Segment| s.rows.checked_mul(s.row_len);
    let len = unit.segments.iter().try_fold(0u64, |n, s| n.checked_add(len(s)?))?;
    Some(len.div_ceil(unit.chunk_len.max(1)))
}
