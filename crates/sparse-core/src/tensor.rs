//! Shapes and borrowed tensors.

use crate::{Dtype, Error, ErrorKind, Result};

/// Element type and shape of a tensor.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, TensorSpec};
///
/// let spec = TensorSpec::new(Dtype::Bf16, [30522, 384])?;
/// assert_eq!((spec.byte_len(), spec.row_len()), (23_440_896, 384));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    dtype: Dtype,
    shape: Vec<u64>,
    byte_len: u64,
}

impl TensorSpec {
    /// Creates a spec whose size in bytes fits 64 bits and is whole.
    ///
    /// An empty shape is a scalar; a zero anywhere is an empty tensor.
    ///
    /// # Errors
    /// `InvalidArgument` when the size overflows or is not a whole number of bytes.
    pub fn new(dtype: Dtype, shape: impl Into<Vec<u64>>) -> Result<Self> {
        let shape = shape.into();
        let elements = if shape.contains(&0) {
            0
        } else {
            shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument, format!("shape {shape:?} overflows 64 bits"))
            })?
        };
        let byte_len = dtype.byte_len(elements)?;
        Ok(TensorSpec { dtype, shape, byte_len })
    }

    /// Returns the spec of a run of `len` plain bytes.
    pub fn bytes(len: u64) -> Self {
        TensorSpec { dtype: Dtype::U8, shape: vec![len], byte_len: len }
    }

    /// Returns the element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the dimensions, outermost first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Returns the size in bytes.
    pub fn byte_len(&self) -> u64 {
        self.byte_len
    }

    /// Returns the number of storage elements (see [`Dtype::storage_bytes`]).
    pub fn storage_len(&self) -> u64 {
        self.byte_len / self.dtype.storage_bytes() as u64
    }

    /// Returns the storage elements per row, the unit of row-wise scales.
    ///
    /// A row is the shortest run of trailing dimensions with at least 32 elements, though never the
    /// outermost dimension of a matrix: `[out, in]` has rows of `in`, a convolution `[out, in, 3,
    /// 3]` rows of `9 in`, stacked experts `[e, out, in]` rows of `in`. A vector is one row.
    pub fn row_len(&self) -> u64 {
        if self.byte_len == 0 {
            return 0;
        }
        let mut row = 1u64;
        for (i, &d) in self.shape.iter().enumerate().rev() {
            if (i == 0 || row >= 32) && i + 1 < self.shape.len() {
                break;
            }
            row *= d;
        }
        // Packed and complex types have other than one storage element per element.
        let row_bits = row * u64::from(self.dtype.bits());
        let storage_bits = 8 * self.dtype.storage_bytes() as u64;
        if row_bits.is_multiple_of(storage_bits) {
            row_bits / storage_bits
        } else {
            self.storage_len()
        }
    }
}

/// Borrowed tensor: its spec and its bytes, little-endian, row-major, of any alignment.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, TensorSpec, TensorView};
///
/// let spec = TensorSpec::new(Dtype::F32, [2])?;
/// assert!(TensorView::new(&spec, &[0; 8]).is_ok());
/// assert!(TensorView::new(&spec, &[0; 7]).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    spec: &'a TensorSpec,
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Pairs a spec with its bytes.
    ///
    /// # Errors
    /// `InvalidArgument` when the lengths differ.
    pub fn new(spec: &'a TensorSpec, bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() as u64 != spec.byte_len {
            return Err(Error::invalid_argument(format!(
                "{} bytes were given for a tensor of {} bytes",
                bytes.len(),
                spec.byte_len
            )));
        }
        Ok(TensorView { spec, bytes })
    }

    /// Returns element type and shape.
    pub fn spec(&self) -> &'a TensorSpec {
        self.spec
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// 128-bit digest: XXH3-128 of the bytes, little-endian.
///
/// It tells contents apart that differ by accident. It is *not* cryptographic: whoever can forge
/// the contents can forge the hash.
///
/// # Examples
///
/// ```
/// use sparse_core::Digest;
///
/// assert_eq!(Digest([0xab; 16]).to_string(), "ab".repeat(16));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 16]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(TensorSpec::new(Dtype::Bf16, [3, 5]).unwrap().byte_len(), 30);
        assert_eq!(TensorSpec::new(Dtype::F32, []).unwrap().byte_len(), 4);
        assert_eq!(TensorSpec::new(Dtype::F32, [u64::MAX, 0]).unwrap().byte_len(), 0);
        assert!(TensorSpec::new(Dtype::F32, [u64::MAX, 2]).is_err());
        assert!(TensorSpec::new(Dtype::F4, [3]).is_err());
    }

    #[test]
    fn rows() {
        let row_len = |dtype, shape: &[u64]| TensorSpec::new(dtype, shape).unwrap().row_len();
        assert_eq!(row_len(Dtype::Bf16, &[300, 50]), 50);
        assert_eq!(row_len(Dtype::Bf16, &[300, 5]), 5);
        assert_eq!(row_len(Dtype::Bf16, &[64, 32, 3, 3]), 288);
        assert_eq!(row_len(Dtype::Bf16, &[8, 64, 48]), 48);
        assert_eq!(row_len(Dtype::Bf16, &[7]), 7);
        assert_eq!(row_len(Dtype::Bf16, &[]), 1);
        assert_eq!(row_len(Dtype::Bf16, &[0, 7]), 0);
        assert_eq!(row_len(Dtype::F4, &[2, 6]), 3);
        assert_eq!(row_len(Dtype::F4, &[2, 3]), 3);
        assert_eq!(row_len(Dtype::C64, &[2, 6]), 12);
    }

    #[test]
    fn view_length_is_checked() {
        let spec = TensorSpec::new(Dtype::Bf16, [2]).unwrap();
        assert!(TensorView::new(&spec, &[0; 3]).is_err());
        assert_eq!(TensorView::new(&spec, &[0; 4]).unwrap().bytes().len(), 4);
    }
}
