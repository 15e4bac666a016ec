//! A part of a tensor: some indices of one dimension, all of the others. What a rank of a
//! tensor-parallel group holds.

use crate::{Error, Result, TensorSpec};
use std::ops::Range;

/// Bytes that are read at a time where the part is not contiguous.
const BAND_BYTES: u64 = 4 << 20;

/// How a part lies in its tensor: stripes of `len` bytes, each `stride` after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stripes {
    count: u64,
    first: u64,
    len: u64,
    stride: u64,
}

impl TensorSpec {
    /// Returns the spec of the part with `indices` of dimension `dim`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such dimension or index, or the part of a type that packs
    /// several elements into a byte does not begin and end at whole bytes.
    pub fn part(&self, dim: usize, indices: Range<u64>) -> Result<TensorSpec> {
        self.stripes(dim, &indices)?;
        let mut shape = self.shape().to_vec();
        if let Some(d) = shape.get_mut(dim) {
            *d = indices.end - indices.start;
        }
        TensorSpec::new(self.dtype(), shape)
    }

    fn stripes(&self, dim: usize, indices: &Range<u64>) -> Result<Stripes> {
        let shape = self.shape();
        let Some((outer, [extent, inner @ ..])) = shape.split_at_checked(dim) else {
            return Err(Error::invalid_argument(format!(
                "there is no dimension {dim}: the tensor has shape {shape:?}"
            )));
        };
        if indices.start > indices.end || indices.end > *extent {
            return Err(Error::invalid_argument(format!(
                "indices {}..{} of dimension {dim} are out of range: the tensor has shape \
                    {shape:?}",
                indices.start, indices.end
            )));
        }
        if self.byte_len() == 0 {
            return Ok(Stripes { count: 0, first: 0, len: 0, stride: 0 });
        }
        // No product exceeds the number of elements, whose bits are checked to fit.
        let count: u64 = outer.iter().product();
        let bits = inner.iter().product::<u64>() * u64::from(self.dtype().bits());
        let bytes = |n: u64| {
            let bits = n * bits;
            bits.is_multiple_of(8).then_some(bits / 8).ok_or_else(|| {
                Error::invalid_argument(format!(
                    "indices {}..{} of dimension {dim} do not begin and end at whole bytes of a \
                        tensor of {} {shape:?}",
                    indices.start,
                    indices.end,
                    self.dtype()
                ))
            })
        };
        let (first, end) = (bytes(indices.start)?, bytes(indices.end)?);
        // Where there is one stripe, its tensor need not end at a whole byte after it.
        let stride = if count > 1 { bytes(*extent)? } else { end };
        Ok(Stripes { count, first, len: end - first, stride })
    }
}

impl TensorSpec {
    /// Returns the stripes of a part, for a buffer of `len` bytes.
    pub(crate) fn stripes_for(
        &self,
        dim: usize,
        indices: &Range<u64>,
        len: usize,
    ) -> Result<Stripes> {
        let stripes = self.stripes(dim, indices)?;
        if len as u64 != stripes.count * stripes.len {
            return Err(Error::invalid_argument(format!(
                "the buffer has {len} bytes, but the part has {}",
                stripes.count * stripes.len
            )));
        }
        Ok(stripes)
    }
}

impl Stripes {
    /// Fills `out` from `slice` where bytes are in memory, else by `read`.
    ///
    /// `out` is as long as all stripes. Both closures take the place of the first byte in the
    /// tensor.
    pub(crate) fn read_into<'a>(
        self,
        out: &mut [u8],
        slice: impl Fn(u64, usize) -> Option<&'a [u8]>,
        read: impl Fn(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let Stripes { count, first, len, stride } = self;
        if out.is_empty() {
            return Ok(());
        }
        if count == 1 {
            return read(first, out);
        }
        // Neighbouring stripes share chunks, so what lies between them is read, too, a band of
        // stripes at a time.
        let band = (BAND_BYTES / stride).max(1);
        let (len, stride) = (len as usize, stride as usize);
        let mut scratch = Vec::new();
        for (i, out) in (0..).zip(out.chunks_mut((band as usize).saturating_mul(len))) {
            let stripes = out.len() / len;
            let (start, span) = (i * band * stride as u64 + first, (stripes - 1) * stride + len);
            let bytes = match slice(start, span) {
                Some(slice) => slice,
                None => {
                    scratch.resize(span, 0);
                    read(start, &mut scratch)?;
                    &scratch
                }
            };
            for (to, from) in out.chunks_exact_mut(len).zip(bytes.chunks(stride)) {
                if let Some(from) = from.get(..len) {
                    to.copy_from_slice(from);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, ErrorKind, TensorEntry, TensorSource, check_range};

    struct One(Vec<TensorEntry>, Vec<u8>);

    impl TensorSource for One {
        fn tensors(&self) -> &[TensorEntry] {
            &self.0
        }

        fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
            check_range(&self.0, index, offset, out.len())?;
            out.copy_from_slice(&self.1[offset as usize..][..out.len()]);
            Ok(())
        }
    }

    fn one(dtype: Dtype, shape: &[u64]) -> One {
        let spec = TensorSpec::new(dtype, shape).unwrap();
        let bytes = (0..spec.byte_len()).map(|i| (i * 31 % 251) as u8).collect();
        One(vec![TensorEntry { name: "t".into(), spec }], bytes)
    }

    /// Reads a part element by element.
    fn naive(one: &One, dim: usize, indices: &Range<u64>) -> Vec<u8> {
        let (shape, width) = (one.0[0].spec.shape(), one.0[0].spec.dtype().storage_bytes());
        let inner: u64 = shape[dim + 1..].iter().product();
        let elements = one.1.chunks(width).enumerate();
        elements
            .filter(|(i, _)| indices.contains(&(*i as u64 / inner % shape[dim])))
            .flat_map(|(_, bytes)| bytes.to_vec())
            .collect()
    }

    #[test]
    fn parts_of_every_dimension() {
        // The last has several bands.
        for shape in [&[7][..], &[5, 6], &[3, 4, 5], &[2, 3, 2, 4], &[3000, 2, 1000]] {
            let one = one(Dtype::Bf16, shape);
            for dim in 0..shape.len() {
                let n = shape[dim];
                for indices in [0..n, 0..1, n - 1..n, n / 3..n / 2 + 1, 1..1] {
                    let part = one.0[0].spec.part(dim, indices.clone()).unwrap();
                    let mut out = vec![0; part.byte_len() as usize];
                    one.read_part_into(0, dim, indices.clone(), &mut out).unwrap();
                    assert!(out == naive(&one, dim, &indices), "{shape:?} {dim} {indices:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let kind = |one: &One, dim, indices, len| {
            let e = one.read_part_into(0, dim, indices, &mut vec![0; len]).unwrap_err();
            assert_eq!(e.tensor(), Some("t"), "{e}");
            e.kind()
        };
        let matrix = one(Dtype::F32, &[4, 3]);
        assert_eq!(kind(&matrix, 2, 0..1, 4), ErrorKind::InvalidArgument);
        assert_eq!(kind(&matrix, 0, 3..5, 24), ErrorKind::InvalidArgument);
        assert_eq!(kind(&matrix, 0, 0..2, 23), ErrorKind::InvalidArgument);
        #[allow(clippy::reversed_empty_ranges, reason = "what is tested")]
        let backwards = 2..1;
        assert_eq!(kind(&matrix, 0, backwards, 0), ErrorKind::InvalidArgument);
        assert!(matrix.read_part_into(1, 0, 0..1, &mut [0; 12]).is_err());
        assert!(one(Dtype::F32, &[]).0[0].spec.part(0, 0..1).is_err());

        let packed = one(Dtype::F4, &[4, 3]);
        assert_eq!(kind(&packed, 0, 0..1, 2), ErrorKind::InvalidArgument);
        packed.read_part_into(0, 0, 2..4, &mut [0; 3]).unwrap();
        let empty = one(Dtype::F32, &[4, 0]);
        empty.read_part_into(0, 0, 1..2, &mut []).unwrap();
        assert_eq!(empty.0[0].spec.part(0, 1..3).unwrap().shape(), [2, 0]);
    }
}
