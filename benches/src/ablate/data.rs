//! The elements that the codec codes against the base.

use crate::compare::PairPath;
use crate::ours::open_weights;
use crate::pair::resolve;
use sparse_core::{CancelToken, Dtype, DtypeClass, Error, Result, Segment, TensorSource, UnitSpec};
use sparse_model::{Counterpart, match_tensors};
use std::collections::BTreeMap;

/// From this many elements on a tensor is a unit of its own, as in the facade.
const OWN_UNIT: u64 = 4 << 20;

/// The elements of one unit: tensors of one type end to end, and their counterparts.
#[derive(Clone, Debug)]
pub struct Elements {
    /// Type of both sides.
    pub dtype: Dtype,
    /// By tensor.
    pub segments: Vec<Segment>,
    /// Bytes of the fine-tune.
    pub target: Vec<u8>,
    /// Bytes of the base.
    pub base: Vec<u8>,
}

impl Elements {
    fn new(dtype: Dtype) -> Elements {
        Elements { dtype, segments: Vec::new(), target: Vec::new(), base: Vec::new() }
    }

    /// Raw bytes of one side.
    pub fn byte_len(&self) -> u64 {
        self.target.len() as u64
    }

    /// Bits of a word.
    pub fn bits(&self) -> u32 {
        8 * self.dtype.storage_bytes() as u32
    }

    /// Mantissa bits, if it is a float.
    pub fn mantissa(&self) -> Option<u32> {
        match self.dtype.storage_class() {
            DtypeClass::Float { mantissa, .. } => Some(mantissa),
            _ => None,
        }
    }

    /// As the codec sees it.
    ///
    /// # Errors
    /// None: the sizes are those of memory.
    pub fn spec(&self, chunk_len: u32) -> Result<UnitSpec> {
        UnitSpec::new(self.dtype, Some(self.dtype), chunk_len, self.segments.clone())
    }

    /// Call `visit(segment, target, base)` with the words of each element, in order.
    pub fn words(&self, mut visit: impl FnMut(usize, u64, u64)) {
        let width = self.dtype.storage_bytes();
        let mut words = self.target.chunks_exact(width).zip(self.base.chunks_exact(width));
        for (i, segment) in self.segments.iter().enumerate() {
            for (t, b) in words.by_ref().take(segment.len() as usize) {
                visit(i, word(t), word(b));
            }
        }
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b))
}

/// Read both models; keep the tensors (or their common rows) that have a counterpart of the same
/// type and shape and differ from it, in units as the facade makes them. A base that does not help
/// is kept all the same.
///
/// # Errors
/// What reading reports; `InvalidArgument` when there is nothing.
pub fn load(path: &PairPath) -> Result<Vec<Elements>> {
    let base = open_weights(&resolve(&path.base)?)?;
    let target = open_weights(&resolve(&path.target)?)?;
    let matches = match_tensors(&base, &target, &CancelToken::new())?;
    let mut shared: BTreeMap<Dtype, Elements> = BTreeMap::new();
    let mut units = Vec::new();
    for (index, (entry, found)) in target.tensors().iter().zip(&matches).enumerate() {
        let Some(counterpart) = found.counterpart.base().filter(|_| found.tied.is_none()) else {
            continue;
        };
        let dtype = entry.spec.dtype();
        if base.tensors().get(counterpart).is_none_or(|b| b.spec.dtype() != dtype) {
            continue;
        }
        let whole = Segment::of(&entry.spec);
        let rows = match found.counterpart {
            Counterpart::Rows { rows, .. } => {
                let all = entry.spec.shape().first().copied().unwrap_or(1).max(1);
                whole.rows * rows / all
            }
            _ => whole.rows,
        };
        let segment = Segment { rows, ..whole };
        let len = segment.len() as usize * dtype.storage_bytes();
        let (new, old) = (target.range(index, 0, len)?, base.range(counterpart, 0, len)?);
        if new == old {
            continue;
        }
        let unit = if segment.len() >= OWN_UNIT {
            units.push(Elements::new(dtype));
            units.last_mut()
        } else {
            Some(shared.entry(dtype).or_insert_with(|| Elements::new(dtype)))
        };
        if let Some(unit) = unit {
            unit.segments.push(segment);
            unit.target.extend_from_slice(&new);
            unit.base.extend_from_slice(&old);
        }
    }
    units.extend(shared.into_values());
    if units.is_empty() {
        return Err(Error::invalid_argument("no tensor differs from a counterpart"));
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_little_endian() {
        let mut e = Elements::new(Dtype::Bf16);
        e.segments = vec![Segment { rows: 1, row_len: 1 }, Segment { rows: 1, row_len: 1 }];
        (e.target, e.base) = (vec![1, 2, 3, 4], vec![5, 6, 7, 8]);
        let mut seen = Vec::new();
        e.words(|s, t, b| seen.push((s, t, b)));
        assert_eq!(seen, [(0, 0x201, 0x605), (1, 0x403, 0x807)]);
    }
}
