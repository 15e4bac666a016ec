//! Slices of numbers instead of bytes.

use super::pack::{Packed, Packer, address, default_context, open};
use crate::Element;
use sparse_core::{DeltaDecoder, Error, Result, TensorSpec, TensorView};
use std::borrow::Cow;

/// A slice as a tensor of one dimension.
struct Vector<'a> {
    spec: TensorSpec,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Vector<'a> {
    fn of<T: Element>(weights: &'a [T]) -> Result<Vector<'a>> {
        let spec = TensorSpec::new(T::DTYPE, [weights.len() as u64])?;
        Ok(Vector { spec, bytes: T::bytes(weights) })
    }

    fn view(&self) -> Result<TensorView<'_>> {
        TensorView::new(&self.spec, &self.bytes)
    }
}

impl Packer<'_> {
    /// Sets the shape of the weights, outermost dimension first.
    ///
    /// This is the shape of the slice that [`compress_slice`](Self::compress_slice) takes, by
    /// default a vector.
    ///
    /// Codecs use the shape: rows of a matrix have tables or steps of their own, and `svd` and
    /// `low-rank` code only matrices.
    #[must_use]
    pub fn shape(mut self, shape: impl Into<Vec<u64>>) -> Self {
        self.shape = Some(shape.into());
        self
    }

    /// Encodes `target` given `base`, of the same length.
    ///
    /// # Errors
    /// As [`compress`](Self::compress), and `InvalidArgument` when the shape has another number of
    /// elements.
    pub fn compress_slice<T: Element>(
        mut self,
        target: &[T],
        base: Option<&[T]>,
    ) -> Result<Vec<u8>> {
        let mut target = Vector::of(target)?;
        if let Some(shape) = self.shape.take() {
            target.spec = TensorSpec::new(T::DTYPE, shape)?;
        }
        let base = base.map(Vector::of).transpose()?;
        self.compress(target.view()?, base.as_ref().map(Vector::view).transpose()?)
    }
}

/// Decodes a packed tensor with the one codec that made it, in one call.
///
/// # Errors
/// As [`decompress_bytes_with`](super::decompress_bytes_with), and `InvalidArgument` when the
/// tensor has elements of another type.
pub fn decompress_with<T: Element>(
    decoder: &dyn DeltaDecoder,
    bytes: &[u8],
    base: Option<&[T]>,
) -> Result<Vec<T>> {
    unpack(&open(bytes)?, decoder, base)
}

/// Decodes an opened tensor to numbers.
///
/// # Errors
/// As [`decompress_with`], but for those of opening.
pub(crate) fn unpack<T: Element>(
    packed: &Packed<'_>,
    decoder: &dyn DeltaDecoder,
    base: Option<&[T]>,
) -> Result<Vec<T>> {
    let found = packed.spec().dtype();
    if found != T::DTYPE {
        let message =
            format!("the type of the packed tensor is {found}, but {} was asked for", T::DTYPE);
        return Err(Error::invalid_argument(message));
    }
    let base = base.map(Vector::of).transpose()?;
    let base = base.as_ref().map(Vector::view).transpose()?;
    let len = address(packed.spec().storage_len())?;
    T::filled(len, |bytes| packed.decode_into(decoder, base, bytes, &mut default_context()))
}
