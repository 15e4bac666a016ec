//! What a delta file holds, as plain data.

use crate::base::BaseEntry;
use sparse_core::{CodecId, Digest, Dtype, Error, Result, Segment, TensorSpec, UnitSpec};
use std::collections::BTreeMap;

/// Additions to a record, by number.
///
/// Unknown ones are kept and ignored, so that files can grow (certificates, layers) and older
/// readers still restore them.
///
/// # Examples
///
/// ```
/// use sparse_container::{Attributes, Index};
///
/// let mut index = Index::default();
/// index.attributes = Attributes::from([(0x8000, b"a note".to_vec())]);
/// assert_eq!(index.attributes.get(&0x8000).map(|note| note.len()), Some(6));
/// ```
pub type Attributes = BTreeMap<u16, Vec<u8>>;

/// Index of a delta file: everything but the payload.
///
/// References between records are indices into these lists.
///
/// # Examples
///
/// ```
/// use sparse_container::{Entry, FileRecord, Index, digest};
///
/// let mut index = Index::default();
/// index.entries.push(Entry::bytes("empty.txt", 0, digest(b""), Vec::new()));
/// index.files.push(FileRecord::new("empty.txt", digest(b""), vec![0]));
/// assert_eq!(index.file_len(&index.files[0]), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Index {
    /// Origin of the delta.
    pub provenance: Provenance,
    /// Tensors and files of the base that the delta depends on.
    pub bases: Vec<BaseEntry>,
    /// Tensors and runs of bytes that can be restored.
    pub entries: Vec<Entry>,
    /// Files that the entries make up.
    pub files: Vec<FileRecord>,
    /// Paths of folders that have nothing in them.
    pub folders: Vec<String>,
    /// Coded units.
    pub units: Vec<UnitRecord>,
    /// Additions to the whole.
    pub attributes: Attributes,
}

/// Origin of a delta: for people, except for `parent`.
///
/// # Examples
///
/// ```
/// use sparse_container::Provenance;
///
/// let origin = Provenance::new("my-tool 1.0", "org/base", "org/tuned");
/// assert_eq!((&*origin.base_id, origin.parent), ("org/base", None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// Program and version that wrote it.
    pub tool: String,
    /// Name of the base.
    pub base_id: String,
    /// Name of the target.
    pub target_id: String,
    /// In a chain, the [`Reader::id`](crate::Reader::id) of the delta that restores this one's
    /// base.
    pub parent: Option<Digest>,
}

impl Provenance {
    /// Creates a provenance without a parent.
    pub fn new(
        tool: impl Into<String>,
        base_id: impl Into<String>,
        target_id: impl Into<String>,
    ) -> Self {
        Provenance {
            tool: tool.into(),
            base_id: base_id.into(),
            target_id: target_id.into(),
            parent: None,
        }
    }
}

/// Kind of content that an [`Entry`] restores.
///
/// # Examples
///
/// ```
/// use sparse_container::{Entry, EntryKind, Index, digest};
///
/// /// Counts the tensors of a delta.
/// fn tensors(index: &Index) -> usize {
///     index.entries.iter().filter(|entry| entry.kind == EntryKind::Tensor).count()
/// }
///
/// let mut index = Index::default();
/// index.entries.push(Entry::bytes("config.json", 0, digest(b""), Vec::new()));
/// assert_eq!(tensors(&index), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// A tensor.
    Tensor,
    /// A run of bytes of a file.
    Bytes,
}

/// Tensor, or run of bytes, that can be restored.
///
/// # Examples
///
/// ```
/// use sparse_container::{Entry, Piece, PieceSource, digest};
/// use sparse_core::{Dtype, TensorSpec};
///
/// // A tensor that is the base's, unchanged.
/// let source = PieceSource::Base { base: 0, offset: 0 };
/// let spec = TensorSpec::new(Dtype::U8, [3])?;
/// let entry = Entry::tensor("w", spec, digest(&[1, 2, 3]), vec![Piece { len: 3, source }]);
/// assert_eq!(entry.pieces.len(), 1);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Tensor or bytes.
    pub kind: EntryKind,
    /// The tensor's name; free for bytes. Need not be unique: two files may hold tensors of one
    /// name.
    pub name: String,
    /// Type and shape; [`TensorSpec::bytes`] for bytes.
    pub spec: TensorSpec,
    /// Digest of the restored bytes.
    pub digest: Digest,
    /// Pieces that tile the content, in order. None for an empty entry.
    pub pieces: Vec<Piece>,
    /// Additions.
    pub attributes: Attributes,
}

impl Entry {
    /// Creates the entry of a tensor.
    pub fn tensor(
        name: impl Into<String>,
        spec: TensorSpec,
        digest: Digest,
        pieces: Vec<Piece>,
    ) -> Entry {
        Entry {
            kind: EntryKind::Tensor,
            name: name.into(),
            spec,
            digest,
            pieces,
            attributes: Attributes::new(),
        }
    }

    /// Creates the entry of a run of `len` bytes.
    pub fn bytes(name: impl Into<String>, len: u64, digest: Digest, pieces: Vec<Piece>) -> Entry {
        Entry {
            kind: EntryKind::Bytes,
            name: name.into(),
            spec: TensorSpec::bytes(len),
            digest,
            pieces,
            attributes: Attributes::new(),
        }
    }
}

/// Part of an [`Entry`].
///
/// # Examples
///
/// ```
/// use sparse_container::{Entry, Piece, PieceSource, digest};
///
/// // Two runs of the base that lie elsewhere in the target.
/// let piece = |offset, len| Piece { len, source: PieceSource::Base { base: 0, offset } };
/// let entry = Entry::bytes("notes.txt", 7, digest(b"two one"), vec![piece(4, 4), piece(0, 3)]);
/// assert_eq!(entry.pieces.iter().map(|p| p.len).sum::<u64>(), entry.spec.storage_len());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Storage elements; never zero.
    pub len: u64,
    /// Source of the elements.
    pub source: PieceSource,
}

/// Source of a [`Piece`].
///
/// # Examples
///
/// ```
/// use sparse_container::{Entry, PieceSource};
///
/// /// Counts the elements that an entry takes from the base as they are.
/// fn unchanged(entry: &Entry) -> u64 {
///     let of_base = entry.pieces.iter().filter(|p| matches!(p.source, PieceSource::Base { .. }));
///     of_base.map(|p| p.len).sum()
/// }
/// # use sparse_container::{Piece, digest};
/// # let piece = |len, source| Piece { len, source };
/// # let of_unit = PieceSource::Unit { unit: 0, segment: 0, offset: 0 };
/// # let pieces = vec![piece(3, PieceSource::Base { base: 0, offset: 0 }), piece(1, of_unit)];
/// # let entry = Entry::bytes("a", 4, digest(b"abcd"), pieces);
/// assert_eq!(unchanged(&entry), 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PieceSource {
    /// The base, unchanged. Its storage elements are as wide as the entry's.
    Base {
        /// Index in [`Index::bases`].
        base: u32,
        /// First storage element.
        offset: u64,
    },
    /// A segment of a unit, whose storage elements are as wide as the entry's. Several entries may
    /// refer to one segment (tied tensors).
    Unit {
        /// Index in [`Index::units`].
        unit: u32,
        /// Index of the segment in the unit.
        segment: u32,
        /// First storage element within the segment.
        offset: u64,
    },
    /// A blob that a codec decodes to exactly this piece.
    Blob {
        /// The codec.
        codec: CodecId,
        /// Bytes that the codec decodes.
        blob: BlobRef,
        /// Run of the base that the codec is given as prefix (as context).
        base: Option<BaseRange>,
    },
}

/// Run of storage elements of a [`BaseEntry`].
///
/// # Examples
///
/// ```
/// use sparse_container::{BaseEntry, BaseRange, digest};
///
/// let text = BaseEntry::file("vocab.txt", 1000, digest(&[b' '; 1000]));
/// let all_of_it = BaseRange { base: 0, offset: 0, len: text.spec.storage_len() };
/// assert_eq!(all_of_it.len, 1000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BaseRange {
    /// Index in [`Index::bases`].
    pub base: u32,
    /// First storage element (of the base's type).
    pub offset: u64,
    /// Storage elements.
    pub len: u64,
}

/// Place in a [`BaseEntry`].
///
/// # Examples
///
/// ```
/// use sparse_container::BaseStart;
///
/// // Two parts of one tensor of the base, of 512 elements each.
/// let starts = [0, 1].map(|part| BaseStart { base: 3, offset: 512 * part });
/// assert_eq!(starts[1], BaseStart { base: 3, offset: 512 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BaseStart {
    /// Index in [`Index::bases`].
    pub base: u32,
    /// First storage element (of the base's type).
    pub offset: u64,
}

/// File to restore: its entries' bytes, one after the other. An empty file has none.
///
/// For safetensors the first entry is the header and the tensors follow in file order; any other
/// file is one or more entries of bytes.
///
/// # Examples
///
/// ```
/// use sparse_container::{Entry, FileRecord, Index, digest};
///
/// let mut index = Index::default();
/// index.entries.push(Entry::bytes("first half", 2, digest(b"ab"), Vec::new()));
/// index.entries.push(Entry::bytes("second half", 3, digest(b"cde"), Vec::new()));
/// let file = FileRecord::new("data/letters.txt", digest(b"abcde"), vec![0, 1]);
/// assert_eq!(index.file_len(&file), 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileRecord {
    /// Path in the target folder, see [`check_output_path`](crate::check_output_path).
    pub path: String,
    /// Digest of the whole file.
    pub digest: Digest,
    /// Indices in [`Index::entries`].
    pub parts: Vec<u32>,
}

impl FileRecord {
    /// Creates the record of a file.
    pub fn new(path: impl Into<String>, digest: Digest, parts: Vec<u32>) -> FileRecord {
        FileRecord { path: path.into(), digest, parts }
    }
}

/// Coded unit, see [`UnitSpec`].
///
/// # Examples
///
/// ```
/// use sparse_container::{BaseStart, UnitRecord, Writer};
/// use sparse_core::{CodecId, Dtype, TensorSpec, UnitSpec};
///
/// let spec = UnitSpec::of(&TensorSpec::new(Dtype::Bf16, [64, 64])?, Some(Dtype::Bf16))?;
/// let mut writer = Writer::new(Vec::new())?;
/// let params = writer.append(b"tables")?;
/// let (at, chunk) = writer.append_chunk(b"coded weights")?;
/// let start = BaseStart { base: 0, offset: 0 };
/// let unit = UnitRecord::new(CodecId(1), &spec, &[start], params, at, vec![chunk])?;
/// assert_eq!((unit.chunk_bytes(), unit.spec()?), (13, spec));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitRecord {
    /// The codec.
    pub codec: CodecId,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Type of the base's elements; `None` for a unit that stands alone.
    pub base_dtype: Option<Dtype>,
    /// Storage elements per chunk.
    pub chunk_len: u32,
    /// The tensors, or runs of rows, in order.
    pub segments: Vec<SegmentRecord>,
    /// The parameter block.
    pub params: BlobRef,
    /// Where the first chunk begins in the file, in bytes; the chunks lie back to back.
    pub chunks_offset: u64,
    /// One record per chunk.
    pub chunks: Vec<ChunkRecord>,
    /// Additions.
    pub attributes: Attributes,
}

impl UnitRecord {
    /// Creates the record of a unit of shape `spec`.
    ///
    /// Its segments have their bases at `bases`: one each, or none if the unit has no base.
    ///
    /// # Errors
    /// `InvalidArgument` when the number of bases is wrong.
    pub fn new(
        codec: CodecId,
        spec: &UnitSpec,
        bases: &[BaseStart],
        params: BlobRef,
        chunks_offset: u64,
        chunks: Vec<ChunkRecord>,
    ) -> Result<UnitRecord> {
        let want = if spec.base_dtype().is_some() { spec.segments().len() } else { 0 };
        if bases.len() != want {
            return Err(Error::invalid_argument(format!(
                "{} bases were given for a unit that has {want}",
                bases.len()
            )));
        }
        let mut bases = bases.iter();
        let segments = spec
            .segments()
            .iter()
            .map(|s| SegmentRecord {
                rows: s.rows,
                row_len: s.row_len,
                base: bases.next().copied(),
            })
            .collect();
        Ok(UnitRecord {
            codec,
            dtype: spec.dtype(),
            base_dtype: spec.base_dtype(),
            chunk_len: spec.chunk_len(),
            segments,
            params,
            chunks_offset,
            chunks,
            attributes: Attributes::new(),
        })
    }

    /// Returns the unit as codecs see it.
    ///
    /// # Errors
    /// As [`UnitSpec::new`].
    pub fn spec(&self) -> Result<UnitSpec> {
        let segments: Vec<Segment> =
            self.segments.iter().map(|s| Segment { rows: s.rows, row_len: s.row_len }).collect();
        UnitSpec::new(self.dtype, self.base_dtype, self.chunk_len, segments)
    }

    /// Returns the encoded bytes of all chunks.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunks.iter().map(|c| u64::from(c.len)).sum()
    }
}

/// Segment of a [`UnitRecord`].
///
/// # Examples
///
/// ```
/// use sparse_container::SegmentRecord;
///
/// let segment = |rows, row_len| SegmentRecord { rows, row_len, base: None };
/// let segments = [segment(64, 64), segment(1, 64)];
/// assert_eq!(segments.iter().map(|s| s.rows * s.row_len).sum::<u64>(), 4160);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentRecord {
    /// Number of rows.
    pub rows: u64,
    /// Storage elements per row.
    pub row_len: u64,
    /// Place where its base begins; `Some` exactly if the unit has a base. The base is as long as
    /// the segment.
    pub base: Option<BaseStart>,
}

/// Chunk of a [`UnitRecord`].
///
/// # Examples
///
/// ```
/// use sparse_container::{Writer, chunk_checksum};
///
/// let (_, chunk) = Writer::new(Vec::new())?.append_chunk(b"coded")?;
/// assert_eq!((chunk.len, chunk.checksum), (5, chunk_checksum(b"coded")));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRecord {
    /// Encoded bytes; zero is allowed and costs no read.
    pub len: u32,
    /// [`chunk_checksum`](crate::chunk_checksum) of the encoded bytes.
    pub checksum: u32,
}

/// Run of bytes of the payload.
///
/// # Examples
///
/// ```
/// use sparse_container::{Writer, checksum};
///
/// let mut writer = Writer::new(Vec::new())?;
/// let blobs = [writer.append(b"first")?, writer.append(b"second")?];
/// assert_eq!(blobs[1].offset, blobs[0].offset + blobs[0].len);
/// assert_eq!(blobs[1].checksum, checksum(b"second"));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlobRef {
    /// Where they begin in the file, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// [`checksum`](crate::checksum) of the bytes.
    pub checksum: u64,
}

impl Index {
    /// Returns the base that `entry` is equal to as a whole.
    ///
    /// Such an entry has a single piece, and that is all of the base.
    ///
    /// Its digest is the base's then.
    pub fn identical_base(&self, entry: &Entry) -> Option<u32> {
        let [Piece { len, source: PieceSource::Base { base, offset: 0 } }] = *entry.pieces else {
            return None;
        };
        let spec = &self.bases.get(base as usize)?.spec;
        (spec.storage_len() == len && spec.byte_len() == entry.spec.byte_len()).then_some(base)
    }

    /// Returns the length of a file in bytes.
    ///
    /// It saturates for indices that never passed validation.
    pub fn file_len(&self, file: &FileRecord) -> u64 {
        let len = |&i: &u32| self.entries.get(i as usize).map_or(0, |e| e.spec.byte_len());
        file.parts.iter().map(len).fold(0, u64::saturating_add)
    }
}
