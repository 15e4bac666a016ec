//! The number types of tensors.

use half::{bf16, f16};
use sparse_core::{Dtype, Result, zeros};
use std::borrow::Cow;

/// Number type of tensors: [`half::bf16`], [`half::f16`], `f32`, `f64`, and integers of 8 to 64
/// bits.
///
/// # Examples
///
/// ```
/// use sparse_codecs::Element;
///
/// assert_eq!(&*u16::bytes(&[1, 0x203]), [1, 0, 3, 2]);
/// let weights = f32::filled(2, |bytes| Ok(bytes.copy_from_slice(&[0, 0, 0x80, 0x3f].repeat(2))))?;
/// assert_eq!(weights, [1.0, 1.0]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait Element: sealed::Sealed {
    /// The type's name in files.
    const DTYPE: Dtype;

    /// Returns the little-endian bytes of `weights`: borrowed, but on big-endian machines.
    fn bytes(weights: &[Self]) -> Cow<'_, [u8]> {
        let bytes: &[u8] = bytemuck::cast_slice(weights);
        if cfg!(target_endian = "little") {
            return Cow::Borrowed(bytes);
        }
        let mut bytes = bytes.to_vec();
        swap::<Self>(&mut bytes);
        Cow::Owned(bytes)
    }

    /// Creates `len` weights from the little-endian bytes that `fill` writes.
    ///
    /// # Errors
    /// `LimitExceeded` when the memory cannot be allocated; those of `fill`.
    fn filled(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Vec<Self>> {
        let mut out: Vec<Self> = zeros(len)?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
        fill(bytes)?;
        swap::<Self>(bytes);
        Ok(out)
    }
}

mod sealed {
    /// Marker of types for which any bytes are a valid element.
    pub trait Sealed: bytemuck::Pod + Default {}
}

/// Turns native numbers into little-endian bytes or back, in place.
fn swap<T>(bytes: &mut [u8]) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    }
}

macro_rules! elements {
    ($($element:ty => $dtype:ident,)*) => {$(
        impl sealed::Sealed for $element {}
        impl Element for $element {
            const DTYPE: Dtype = Dtype::$dtype;
        }
    )*};
}

elements! {
    bf16 => Bf16,
    f16 => F16,
    f32 => F32,
    f64 => F64,
    i8 => I8,
    i16 => I16,
    i32 => I32,
    i64 => I64,
    u8 => U8,
    u16 => U16,
    u32 => U32,
    u64 => U64,
}
