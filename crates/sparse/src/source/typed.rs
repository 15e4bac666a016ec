//! Weights of a source as numbers.

use sparse_codecs::Element;
use sparse_core::{Error, ErrorKind, Result, TensorSource};

/// Reads tensors as numbers: implemented for every [`TensorSource`].
///
/// # Examples
///
/// ```
/// use sparse::{Model, ReadAs, TensorSource};
///
/// let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-f32/base");
/// let model = Model::open(model)?;
/// let weights: Vec<f32> = model.read_as(0)?;
/// assert_eq!(4 * weights.len() as u64, model.tensors()[0].spec.byte_len());
/// # Ok::<(), sparse::Error>(())
/// ```
pub trait ReadAs: TensorSource {
    /// Reads all of tensor `index`, whose type must be `T`'s: [`half::bf16`] for `BF16`, and so on.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the tensor, when it has another type; what reading reports.
    ///
    /// [`half::bf16`]: https://docs.rs/half
    fn read_as<T: Element>(&self, index: usize) -> Result<Vec<T>> {
        let missing = || Error::invalid_argument(format!("there is no tensor with index {index}"));
        let tensor = self.tensors().get(index).ok_or_else(missing)?;
        let found = tensor.spec.dtype();
        if found != T::DTYPE {
            let message = format!("its type is {found}, but {} was asked for", T::DTYPE);
            return Err(Error::invalid_argument(message).in_tensor(&*tensor.name));
        }
        let len = usize::try_from(tensor.spec.storage_len()).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "the tensor is larger than the address space")
        })?;
        T::filled(len, |bytes| self.read_range_into(index, 0, bytes))
    }
}

impl<S: TensorSource + ?Sized> ReadAs for S {}
