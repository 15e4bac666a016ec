//! Units: what a codec works on.

use crate::{Dtype, Error, Result, TensorSpec};
use std::ops::Range;

/// Default number of storage elements per chunk.
pub const DEFAULT_CHUNK_LEN: u32 = 1 << 18;

/// Tensor, or run of its rows, inside a [`UnitSpec`].
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Segment, TensorSpec};
///
/// let segment = Segment::of(&TensorSpec::new(Dtype::Bf16, [1536, 384])?);
/// assert_eq!((segment.rows, segment.row_len, segment.len()), (1536, 384, 589_824));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Number of rows; a vector is one row.
    pub rows: u64,
    /// Storage elements per row.
    pub row_len: u64,
}

impl Segment {
    /// Returns the segment that holds a whole tensor.
    pub fn of(spec: &TensorSpec) -> Self {
        let row_len = spec.row_len();
        Segment { rows: spec.storage_len().checked_div(row_len).unwrap_or(0), row_len }
    }

    /// Returns the number of storage elements.
    ///
    /// It saturates; [`UnitSpec::new`] refuses what does not fit.
    pub fn len(&self) -> u64 {
        self.rows.saturating_mul(self.row_len)
    }

    /// Returns true if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// *Unit*: tensors of one type laid end to end.
///
/// A codec analyses them together and codes them in independent chunks of equal length.
///
/// Large tensors are units of their own; small ones (norms, biases) share one, and with it the code
/// tables. A unit counts in *storage elements* ([`Dtype::storage_bytes`]).
///
/// # Examples
///
/// ```
/// use sparse_core::{DEFAULT_CHUNK_LEN, Dtype, Segment, UnitSpec};
///
/// let segments = [Segment { rows: 640, row_len: 384 }, Segment { rows: 1, row_len: 384 }];
/// let unit = UnitSpec::new(Dtype::Bf16, Some(Dtype::F32), DEFAULT_CHUNK_LEN, segments)?;
/// assert_eq!((unit.len(), unit.chunk_count()), (246_144, 1));
/// assert_eq!(unit.segment_starts(), [0, 245_760]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    dtype: Dtype,
    base_dtype: Option<Dtype>,
    chunk_len: u32,
    segments: Vec<Segment>,
    starts: Vec<u64>,
    len: u64,
}

impl UnitSpec {
    /// Creates a unit of `segments`.
    ///
    /// The base, if any, has as many elements, of type `base_dtype`.
    ///
    /// # Errors
    /// `InvalidArgument` when the chunk length is zero, the size overflows, or the base's type
    /// counts its elements differently (whole elements against packed ones).
    pub fn new(
        dtype: Dtype,
        base_dtype: Option<Dtype>,
        chunk_len: u32,
        segments: impl Into<Vec<Segment>>,
    ) -> Result<Self> {
        let segments = segments.into();
        if chunk_len == 0 {
            return Err(Error::invalid_argument("the chunk length is zero"));
        }
        let width = |d: Dtype| d.bits() as usize == 8 * d.storage_bytes();
        if base_dtype.is_some_and(|b| b != dtype && !(width(b) && width(dtype))) {
            return Err(Error::invalid_argument(format!(
                "{dtype} cannot be coded against {}",
                base_dtype.map_or("nothing", Dtype::name)
            )));
        }
        let mut starts = Vec::with_capacity(segments.len());
        let mut len = 0u64;
        for s in &segments {
            starts.push(len);
            len = s
                .rows
                .checked_mul(s.row_len)
                .and_then(|n| len.checked_add(n))
                .filter(|n| n.checked_mul(8).is_some())
                .ok_or_else(|| Error::invalid_argument("the size of the unit overflows 64 bits"))?;
        }
        Ok(UnitSpec { dtype, base_dtype, chunk_len, segments, starts, len })
    }

    /// Creates the unit that holds one whole tensor.
    ///
    /// It is coded against a base of type `base` (with the same number of storage elements) if one
    /// is given.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(spec: &TensorSpec, base: Option<Dtype>) -> Result<Self> {
        UnitSpec::new(spec.dtype(), base, DEFAULT_CHUNK_LEN, [Segment::of(spec)])
    }

    /// Returns the type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the type of the base's elements; `None` for a stand-alone unit.
    pub fn base_dtype(&self) -> Option<Dtype> {
        self.base_dtype
    }

    /// Returns the storage elements per chunk; the last chunk may be shorter.
    pub fn chunk_len(&self) -> u32 {
        self.chunk_len
    }

    /// Returns the segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the first element of each segment.
    pub fn segment_starts(&self) -> &[u64] {
        &self.starts
    }

    /// Returns the number of storage elements of all segments.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the size in bytes.
    pub fn byte_len(&self) -> u64 {
        self.len * self.dtype.storage_bytes() as u64
    }

    /// Returns the memory of the spec, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.segments) + size_of_val(&*self.starts)
    }

    /// Returns the number of chunks.
    pub fn chunk_count(&self) -> u64 {
        self.len.div_ceil(u64::from(self.chunk_len))
    }

    /// Returns the elements of chunk `chunk` (empty past the end).
    pub fn chunk_range(&self, chunk: u64) -> Range<u64> {
        let start = chunk.saturating_mul(u64::from(self.chunk_len)).min(self.len);
        start..(start + u64::from(self.chunk_len)).min(self.len)
    }

    /// Returns the bytes of decoded chunk `chunk`.
    pub fn chunk_bytes(&self, chunk: u64) -> usize {
        let range = self.chunk_range(chunk);
        (range.end - range.start) as usize * self.dtype.storage_bytes()
    }

    /// Returns the runs of elements of one row within `range`, in order.
    ///
    /// Codecs with row or column scales walk them.
    pub fn row_runs(&self, range: Range<u64>) -> RowRuns<'_> {
        let segment = self.starts.partition_point(|&s| s <= range.start).saturating_sub(1);
        RowRuns { unit: self, segment, position: range.start, end: range.end.min(self.len) }
    }
}

/// Consecutive elements of one row.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, RowRun, Segment, UnitSpec};
///
/// let unit = UnitSpec::new(Dtype::U8, None, 16, [Segment { rows: 3, row_len: 6 }])?;
/// // The second chunk has the end of the last row.
/// let run = unit.row_runs(unit.chunk_range(1)).next();
/// assert_eq!(run, Some(RowRun { segment: 0, row: 2, column: 4, len: 2 }));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRun {
    /// Index of the segment.
    pub segment: usize,
    /// Row within the segment.
    pub row: u64,
    /// First column of the run.
    pub column: u64,
    /// Number of elements.
    pub len: usize,
}

/// Iterator over the [`RowRun`]s of a range, see [`UnitSpec::row_runs`].
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Segment, UnitSpec};
///
/// let unit = UnitSpec::new(Dtype::U8, None, 16, [Segment { rows: 2, row_len: 10 }])?;
/// let runs: Vec<_> = unit.row_runs(8..16).map(|run| (run.row, run.column, run.len)).collect();
/// assert_eq!(runs, [(0, 8, 2), (1, 0, 6)]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RowRuns<'a> {
    unit: &'a UnitSpec,
    segment: usize,
    position: u64,
    end: u64,
}

impl Iterator for RowRuns<'_> {
    type Item = RowRun;

    fn next(&mut self) -> Option<RowRun> {
        if self.position >= self.end {
            return None;
        }
        let (mut start, mut s) =
            (*self.unit.starts.get(self.segment)?, *self.unit.segments.get(self.segment)?);
        while self.position >= start + s.len() {
            self.segment += 1;
            (start, s) =
                (*self.unit.starts.get(self.segment)?, *self.unit.segments.get(self.segment)?);
        }
        let offset = self.position - start;
        let (row, column) = (offset / s.row_len, offset % s.row_len);
        let len = (s.row_len - column).min(self.end - self.position);
        self.position += len;
        Some(RowRun { segment: self.segment, row, column, len: len as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_runs_tile_the_range() {
        let seg = |rows, row_len| Segment { rows, row_len };
        let unit = UnitSpec::new(
            Dtype::Bf16,
            None,
            7,
            [seg(2, 3), seg(0, 5), seg(3, 0), seg(1, 4), seg(2, 5)],
        )
        .unwrap();
        assert_eq!(unit.len(), 20);
        assert_eq!(unit.chunk_count(), 3);
        let mut runs = Vec::new();
        for chunk in 0..3 {
            runs.extend(unit.row_runs(unit.chunk_range(chunk)));
        }
        assert_eq!(runs.iter().map(|r| r.len).sum::<usize>(), 20);
        assert_eq!(runs[0], RowRun { segment: 0, row: 0, column: 0, len: 3 });
        assert_eq!(runs[2], RowRun { segment: 3, row: 0, column: 0, len: 1 });
        assert_eq!(runs[3], RowRun { segment: 3, row: 0, column: 1, len: 3 });
        assert_eq!(runs[4], RowRun { segment: 4, row: 0, column: 0, len: 4 });
        assert_eq!(runs[5], RowRun { segment: 4, row: 0, column: 4, len: 1 });
    }

    #[test]
    fn overflow_is_refused() {
        assert!(
            UnitSpec::new(Dtype::U8, None, 7, [Segment { rows: u64::MAX, row_len: 2 }]).is_err()
        );
        assert!(UnitSpec::new(Dtype::U8, None, 0, []).is_err());
        assert!(UnitSpec::new(Dtype::U8, Some(Dtype::F4), 8, []).is_err());
        assert_eq!(UnitSpec::new(Dtype::U8, None, 1, []).unwrap().chunk_count(), 0);
    }
}
