//! The edge to the `safetensors` crate: its tensors as a [`TensorSource`], its element types as
//! ours and back.

use safetensors::SafeTensors;
use serde_core::de::{Deserialize, IntoDeserializer, value};
use sparse_core::check_range;
use sparse_core::{Dtype, Error, ErrorKind, Result, TensorEntry, TensorSource, TensorSpec};

/// [`TensorSource`] that borrows the tensors of a [`SafeTensors`].
///
/// Only the bytes stay borrowed; the `SafeTensors` itself may go.
///
/// ```
/// use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
/// use sparse_core::TensorSource;
/// use sparse_model::SafeTensorsSource;
///
/// let weights = [1, 2, 3, 4, 5, 6];
/// let view = TensorView::new(Dtype::U8, vec![2, 3], &weights).unwrap();
/// let file = serialize([("w", view)], None).unwrap();
///
/// let source = SafeTensorsSource::new(&SafeTensors::deserialize(&file).unwrap())?;
/// assert_eq!(source.tensors()[0].spec.shape(), [2, 3]);
/// assert_eq!(*source.range(0, 3, 3)?, [4, 5, 6]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SafeTensorsSource<'data> {
    tensors: Vec<TensorEntry>,
    /// Of each tensor, in the same order.
    bytes: Vec<&'data [u8]>,
}

impl<'data> SafeTensorsSource<'data> {
    /// Lists the tensors of `file`, sorted by name.
    ///
    /// # Errors
    /// `InvalidInput`, with the tensor, when it has a type that is not known here.
    pub fn new(file: &SafeTensors<'data>) -> Result<Self> {
        let mut views: Vec<_> = file.iter().collect();
        views.sort_unstable_by_key(|(name, _)| *name);
        let mut source = SafeTensorsSource { tensors: Vec::new(), bytes: Vec::new() };
        for (name, view) in views {
            let shape: Vec<u64> = view.shape().iter().map(|&n| n as u64).collect();
            let spec = dtype_from_safetensors(view.dtype())
                .and_then(|dtype| TensorSpec::new(dtype, shape))
                .map_err(|e| e.in_tensor(name))?;
            source.tensors.push(TensorEntry { name: name.to_owned(), spec });
            source.bytes.push(view.data());
        }
        Ok(source)
    }
}

impl<'data> TryFrom<&SafeTensors<'data>> for SafeTensorsSource<'data> {
    type Error = Error;

    fn try_from(file: &SafeTensors<'data>) -> Result<Self> {
        SafeTensorsSource::new(file)
    }
}

impl TensorSource for SafeTensorsSource<'_> {
    fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(&self.tensors, index, offset, out.len())?;
        let bytes = self.slice(index, offset, out.len());
        // Checked: there is such a range.
        out.copy_from_slice(bytes.ok_or_else(|| {
            Error::truncated(
                "the tensor has fewer bytes \
            than its type and shape need",
            )
        })?);
        Ok(())
    }

    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset).ok()?;
        self.bytes.get(index)?.get(from..from.checked_add(len)?)
    }
}

/// Translates an element type of the `safetensors` crate.
///
/// # Errors
/// `InvalidInput` for a type that is not known here, as a later version of that crate may have.
pub fn dtype_from_safetensors(dtype: safetensors::Dtype) -> Result<Dtype> {
    // Both crates print the name that headers use.
    let name = dtype.to_string();
    Dtype::from_name(&name)
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("unknown element type {name}")))
}

/// Translates an element type into that of the `safetensors` crate.
///
/// # Errors
/// `InvalidArgument` for a type that the crate does not have.
pub fn dtype_to_safetensors(dtype: Dtype) -> Result<safetensors::Dtype> {
    let name: value::StrDeserializer<'_, value::Error> = dtype.name().into_deserializer();
    safetensors::Dtype::deserialize(name).map_err(|e| {
        Error::invalid_argument(format!("safetensors has no element type {dtype}")).with_source(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file_bytes, t, u8s};

    #[test]
    fn types_go_both_ways() {
        for &dtype in Dtype::ALL {
            let theirs = dtype_to_safetensors(dtype).unwrap();
            assert_eq!(theirs.bitsize() as u32, dtype.bits());
            assert_eq!(dtype_from_safetensors(theirs).unwrap(), dtype);
        }
    }

    #[test]
    fn tensors_are_those_of_the_file() {
        let file = file_bytes(&[
            u8s("z", b"xyz"),
            t("scalar", Dtype::F32, &[], [7; 4]),
            u8s("empty", b""),
            t("fours", Dtype::F4, &[2, 3], [1, 2, 3]),
        ]);
        let source = {
            let theirs = SafeTensors::deserialize(&file).unwrap();
            SafeTensorsSource::try_from(&theirs).unwrap()
        };
        let names: Vec<_> = source.tensors().iter().map(|t| &*t.name).collect();
        assert_eq!(names, ["empty", "fours", "scalar", "z"]);
        assert_eq!(*source.bytes(1).unwrap(), [1, 2, 3]);
        assert_eq!(source.slice(3, 1, 2), Some(&b"yz"[..]));
        let mut out = [0; 2];
        source.read_range_into(3, 0, &mut out).unwrap();
        assert_eq!(&out, b"xy");
        for (index, offset) in [(3, 2), (3, u64::MAX), (4, 0)] {
            let e = source.read_range_into(index, offset, &mut out).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        }
    }
}
