//! What a delta file holds, for people.

use crate::restore::certificate_in;
#[cfg(feature = "serde")]
use crate::serialise;
use crate::{Certificate, Codecs, ContentHash, Delta};
use sparse_codecs::zstd;
use sparse_container::{
    Entry, EntryKind, FileRecord, Index, Piece, PieceSource, UnitRecord, Version,
};
use sparse_core::{CodecId, Digest, Dtype, UnitSpec};

/// Contents of a delta file. Sizes in bytes.
///
/// # Examples
/// ```
/// use sparse::{Delta, inspect};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let summary = inspect(&Delta::open(path)?);
/// assert_eq!((summary.base_id.as_str(), summary.needs_base), ("base", true));
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Summary {
    /// Version of the file format, as `major.minor`.
    #[cfg_attr(feature = "serde", serde(rename = "format_version"))]
    pub version: String,
    /// Program and version that wrote the file.
    pub tool: String,
    /// What the base is called.
    pub base_id: String,
    /// What the target is called.
    pub target_id: String,
    /// In a chain, the id of the delta that restores the base.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialise::text"))]
    pub parent: Option<Digest>,
    /// The id of this delta, as the parent of another.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialise::text"))]
    pub id: Option<Digest>,
    /// Whether the target was a single safetensors file rather than a folder.
    #[cfg_attr(feature = "serde", serde(rename = "single_file"))]
    pub is_single_file: bool,
    /// Whether restoring needs a base.
    pub needs_base: bool,
    /// The delta file.
    pub delta_bytes: u64,
    /// What of it is neither chunks nor parameters nor blobs: header, index, trailer.
    pub index_bytes: u64,
    /// All files of the target.
    pub target_bytes: u64,
    /// The target's files.
    pub files: Vec<FileSummary>,
    /// Empty folders of the target.
    #[cfg_attr(feature = "serde", serde(rename = "empty_folders"))]
    pub folders: Vec<String>,
    /// Tensors that can be restored.
    pub tensors: Vec<EntrySummary>,
    /// Runs of bytes that can be restored: heads of safetensors files, and other files.
    pub others: Vec<EntrySummary>,
    /// The coded units.
    pub units: Vec<UnitSummary>,
    /// What the adapter is, if it is one.
    pub adapter: Option<AdapterSummary>,
    /// The SHA-256 of what is restored, if the delta carries it; as the delta says, not computed.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "sha256",
            serialize_with = "serialise::text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub content: Option<ContentHash>,
    /// How near the restored model comes to the original, if something may be lost; as the delta
    /// says, not measured.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "serialise::certificate", skip_serializing_if = "Option::is_none")
    )]
    pub certificate: Option<Certificate>,
}

/// File that is restored.
///
/// # Examples
/// ```
/// use sparse::{Delta, inspect};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let summary = inspect(&Delta::open(path)?);
/// let total: u64 = summary.files.iter().map(|f| f.bytes).sum();
/// assert_eq!(total, summary.target_bytes);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FileSummary {
    /// Its path below the root, with `/` on every system.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Adapter in a delta.
///
/// # Examples
/// ```
/// use sparse::{Delta, inspect};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let summary = inspect(&Delta::open(path)?);
/// assert!(summary.adapter.is_none(), "it restores a model");
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AdapterSummary {
    /// Weights that it changes.
    pub modules: u64,
    /// Their least and largest rank.
    pub ranks: (u64, u64),
}

/// Summarises an adapter by the names and shapes of its tensors.
fn adapter(delta: &Delta) -> Option<AdapterSummary> {
    let entries = delta.index().entries.iter();
    let ranks = entries
        .filter(|e| e.name.ends_with(".lora_A.weight") || e.name.ends_with(".lora_embedding_A"))
        .filter_map(|e| e.spec.shape().first().copied());
    let ranks: Vec<u64> = ranks.collect();
    delta.is_adapter().then(|| AdapterSummary {
        modules: ranks.len() as u64,
        ranks: (ranks.iter().min().copied().unwrap_or(0), ranks.iter().max().copied().unwrap_or(0)),
    })
}

/// Tensor, or run of bytes, of a delta. Sizes in bytes.
///
/// # Examples
/// ```
/// use sparse::{Delta, inspect};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let summary = inspect(&Delta::open(path)?);
/// let coded = summary.tensors.iter().filter(|t| t.codec == "lossless");
/// assert!(coded.clone().count() > 0 && coded.clone().all(|t| t.stored_bytes < t.bytes));
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EntrySummary {
    /// The tensor's name, or what the run of bytes is called.
    pub name: String,
    /// Type of its elements.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialise::dtype"))]
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its size.
    pub bytes: u64,
    /// How it is stored: `identical` (in the base), the name of a codec, or several, as
    /// `identical+lossless`; `empty`. A codec that is not known here is called by its number.
    pub codec: String,
    /// Its share of the payload: of the chunks, blobs and parameters that it is decoded from, by
    /// elements. What several entries share in full (tied tensors) counts for each.
    pub stored_bytes: u64,
    /// `bytes / stored_bytes`; `None` when nothing is stored.
    pub ratio: Option<f64>,
}

/// Coded unit. Sizes in bytes.
///
/// # Examples
/// ```
/// use sparse::{Delta, inspect};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let summary = inspect(&Delta::open(path)?);
/// for unit in &summary.units {
///     assert!(unit.chunk_bytes + unit.params_bytes < unit.bytes, "{}", unit.codec);
/// }
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct UnitSummary {
    /// Name of the codec, or its number.
    pub codec: String,
    /// Type of the elements.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialise::dtype"))]
    pub dtype: Dtype,
    /// Type of the base's elements, if it has a base.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialise::text"))]
    pub base_dtype: Option<Dtype>,
    /// Tensors, or runs of rows.
    pub segments: u64,
    /// Storage elements.
    pub elements: u64,
    /// Decoded size.
    pub bytes: u64,
    /// Number of chunks.
    pub chunks: u64,
    /// Parameter block.
    pub params_bytes: u64,
    /// Encoded chunks.
    pub chunk_bytes: u64,
}

/// Summarises what `delta` holds.
///
/// Reads nothing but the index, and needs no codec.
pub fn inspect(delta: &Delta) -> Summary {
    let (index, reader) = (delta.index(), delta.reader());
    let payload = reader.payload();
    let units: Vec<Unit<'_>> = (0..)
        .zip(&index.units)
        .filter_map(|(i, record)| Some(Unit { record, spec: reader.unit(i)? }))
        .collect();
    let file = |f: &FileRecord| FileSummary { path: f.path.clone(), bytes: index.file_len(f) };
    let files: Vec<_> = index.files.iter().map(file).collect();
    let entries = |kind| {
        let of_kind = index.entries.iter().filter(move |e| e.kind == kind);
        of_kind.map(|e| entry(e, &units, delta.codecs())).collect()
    };
    let Version { major, minor } = reader.version();
    Summary {
        version: format!("{major}.{minor}"),
        tool: index.provenance.tool.clone(),
        base_id: index.provenance.base_id.clone(),
        target_id: index.provenance.target_id.clone(),
        parent: index.provenance.parent,
        id: Some(reader.id()),
        is_single_file: delta.is_single_file(),
        needs_base: needs_base(index),
        delta_bytes: reader.byte_len(),
        index_bytes: reader.byte_len() - (payload.end - payload.start),
        target_bytes: files.iter().map(|f| f.bytes).fold(0, u64::saturating_add),
        files,
        folders: index.folders.clone(),
        tensors: entries(EntryKind::Tensor),
        others: entries(EntryKind::Bytes),
        units: units.iter().map(|u| u.summary(delta.codecs())).collect(),
        adapter: adapter(delta),
        content: delta.content_hash().ok().flatten(),
        // What cannot be read is shown by whoever measures again.
        certificate: certificate_in(&index.attributes).ok().flatten(),
    }
}

fn needs_base(index: &Index) -> bool {
    let parts = index.files.iter().flat_map(|f| f.parts.iter().copied());
    crate::restore::needed(index, parts).contains(&true)
}

fn codec_name(codecs: &Codecs, codec: CodecId) -> String {
    match codecs.decoder(codec) {
        Ok(decoder) => decoder.info().name.to_owned(),
        Err(_) if codec == zstd::ID => "zstd".to_owned(),
        Err(_) => format!("codec {codec}"),
    }
}

/// Returns the size of each coded piece of a delta's tensor, in order.
///
/// Nothing for a name that is not there.
#[cfg(feature = "encode")]
pub(crate) fn coded_pieces(delta: &Delta, tensor: &str) -> Vec<u64> {
    let (index, reader) = (delta.index(), delta.reader());
    let entry = index.entries.iter().find(|e| e.kind == EntryKind::Tensor && e.name == tensor);
    let share = |piece: &Piece| match piece.source {
        PieceSource::Unit { unit, segment, offset } => {
            let unit =
                Unit { record: index.units.get(unit as usize)?, spec: reader.unit(unit as usize)? };
            Some(unit.share(segment, offset, piece).ceil() as u64)
        }
        _ => None,
    };
    entry.into_iter().flat_map(|e| e.pieces.iter().filter_map(share)).collect()
}

fn entry(entry: &Entry, units: &[Unit<'_>], codecs: &Codecs) -> EntrySummary {
    let mut names: Vec<String> = Vec::new();
    let mut stored = 0.0;
    for piece in &entry.pieces {
        let name = match piece.source {
            PieceSource::Base { .. } => "identical".to_owned(),
            PieceSource::Blob { codec, blob, .. } => {
                stored += blob.len as f64;
                codec_name(codecs, codec)
            }
            PieceSource::Unit { unit, segment, offset } => match units.get(unit as usize) {
                Some(unit) => {
                    stored += unit.share(segment, offset, piece);
                    codec_name(codecs, unit.record.codec)
                }
                None => continue,
            },
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let bytes = entry.spec.byte_len();
    // Rounded up, so that nothing that is stored looks free.
    let stored_bytes = stored.ceil() as u64;
    EntrySummary {
        name: entry.name.clone(),
        dtype: entry.spec.dtype(),
        shape: entry.spec.shape().to_vec(),
        bytes,
        codec: if names.is_empty() { "empty".to_owned() } else { names.join("+") },
        stored_bytes,
        ratio: (stored_bytes > 0).then(|| bytes as f64 / stored_bytes as f64),
    }
}

struct Unit<'a> {
    record: &'a UnitRecord,
    spec: &'a UnitSpec,
}

impl Unit<'_> {
    /// Computes a piece's share of chunks and parameters.
    ///
    /// The piece begins at element `offset` of segment `segment`.
    fn share(&self, segment: u32, offset: u64, piece: &Piece) -> f64 {
        let start = self.spec.segment_starts().get(segment as usize).map_or(0, |s| s + offset);
        let end = start + piece.len;
        let chunk_len = u64::from(self.spec.chunk_len());
        let mut stored =
            self.record.params.len as f64 * piece.len as f64 / self.spec.len().max(1) as f64;
        for chunk in start / chunk_len..end.div_ceil(chunk_len) {
            let range = self.spec.chunk_range(chunk);
            let Some(record) = usize::try_from(chunk).ok().and_then(|c| self.record.chunks.get(c))
            else {
                break;
            };
            let overlap = end.min(range.end).saturating_sub(start.max(range.start));
            stored +=
                f64::from(record.len) * overlap as f64 / (range.end - range.start).max(1) as f64;
        }
        stored
    }

    fn summary(&self, codecs: &Codecs) -> UnitSummary {
        UnitSummary {
            codec: codec_name(codecs, self.record.codec),
            dtype: self.record.dtype,
            base_dtype: self.record.base_dtype,
            segments: self.record.segments.len() as u64,
            elements: self.spec.len(),
            bytes: self.spec.byte_len(),
            chunks: self.record.chunks.len() as u64,
            params_bytes: self.record.params.len,
            chunk_bytes: self.record.chunk_bytes(),
        }
    }
}
