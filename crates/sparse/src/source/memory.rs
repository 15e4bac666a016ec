//! How much memory a model holds.

use crate::Delta;
use sparse_container::{Entry, Index, UnitRecord};
use sparse_core::{ByteSource, TensorEntry, TensorSpec};

/// Bytes of memory that a [`DeltaModel`](crate::DeltaModel) holds beside its base.
///
/// Scratch memory of threads at work is not counted.
///
/// # Examples
/// ```
/// use sparse::{DeltaModel, TensorSource};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// let model = DeltaModel::open(base, delta)?;
/// let before = model.memory().total();
/// model.read_part_into(0, 0, 0..1, &mut [0; 2])?;
/// assert!(model.memory().total() > before, "a chunk was decoded, and is kept");
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelMemory {
    /// The delta's index and the list of tensors, estimated from their contents.
    pub index: u64,
    /// The delta itself, where it lies in memory or is mapped; 0 where it is read by position.
    pub delta: u64,
    /// What the cache keeps for this model.
    pub cache: u64,
}

impl ModelMemory {
    /// Returns the sum.
    pub fn total(&self) -> u64 {
        self.index + self.delta + self.cache
    }
}

/// Returns what index and delta take.
pub(super) fn of_delta(delta: &Delta, tensors: &[TensorEntry]) -> ModelMemory {
    let source = delta.reader().source();
    let len = source.byte_len();
    let in_memory = usize::try_from(len).is_ok_and(|n| source.slice(0, n).is_some());
    let named = tensors.iter().map(|t| t.name.len() + spec(&t.spec)).sum::<usize>();
    // Each tensor has the number of its entry, too.
    let list = named + tensors.len() * (size_of::<TensorEntry>() + size_of::<u32>());
    let units = delta.index().units.len();
    let specs = (0..units).filter_map(|u| delta.reader().unit(u)).map(|u| u.memory_bytes());
    let total = of_index(delta.index()) + list + specs.sum::<usize>();
    ModelMemory { index: total as u64, delta: if in_memory { len } else { 0 }, cache: 0 }
}

/// Returns what the records of an index take.
fn of_index(index: &Index) -> usize {
    let bases = index.bases.iter().map(|b| b.file.len() + spec(&b.spec));
    let files = index.files.iter().map(|f| f.path.len() + size_of_val(&*f.parts));
    size_of_val(&*index.bases)
        + size_of_val(&*index.entries)
        + size_of_val(&*index.files)
        + size_of_val(&*index.units)
        + bases.sum::<usize>()
        + files.sum::<usize>()
        + index.entries.iter().map(of_entry).sum::<usize>()
        + index.units.iter().map(of_unit).sum::<usize>()
}

fn of_entry(entry: &Entry) -> usize {
    entry.name.len() + spec(&entry.spec) + size_of_val(&*entry.pieces)
}

/// Counts the record's lists; the reader also knows where each chunk begins.
fn of_unit(unit: &UnitRecord) -> usize {
    size_of_val(&*unit.segments) + size_of_val(&*unit.chunks) + unit.chunks.len() * size_of::<u64>()
}

fn spec(spec: &TensorSpec) -> usize {
    size_of_val(spec.shape())
}
