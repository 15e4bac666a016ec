//! Whole tensors.

use crate::buffer::{self, Buffer};
use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use sparse_core::{TensorEntry, TensorRead, TensorSource};
use std::collections::HashMap;
use std::sync::Arc;

/// Backend of a `VarBuilder` whose tensors come from any [`TensorSource`].
///
/// # Examples
///
/// ```no_run
/// use candle_core::{DType, Device};
/// use candle_nn::var_builder::SimpleBackend;
/// use sparse::DeltaModel;
/// use sparse_candle::SourceBackend;
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = SourceBackend::new(Arc::new(DeltaModel::open("base/", "my.sparse")?));
/// assert!(backend.contains_tensor("pooler.dense.bias"));
/// let bias = backend.get_unchecked("pooler.dense.bias", DType::F32, &Device::Cpu)?;
/// assert_eq!(bias.dims(), [384]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SourceBackend {
    source: Arc<dyn TensorSource>,
}

impl std::fmt::Debug for SourceBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceBackend")
            .field("tensors", &self.source.tensors().len())
            .finish_non_exhaustive()
    }
}

impl SourceBackend {
    /// Creates a backend of these tensors.
    pub fn new(source: Arc<dyn TensorSource>) -> Self {
        SourceBackend { source }
    }

    pub(crate) fn source(&self) -> &dyn TensorSource {
        &*self.source
    }

    /// Returns index and entry of the tensor called `name`.
    pub(crate) fn find(&self, name: &str) -> Result<(usize, &TensorEntry)> {
        let found = self.source.find(name).and_then(|i| Some((i, self.source.tensors().get(i)?)));
        found.ok_or_else(|| Error::CannotFindTensor { path: name.to_owned() }.bt())
    }

    /// Returns the tensor called `name`, in the type in which it is stored.
    pub(crate) fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let (index, TensorEntry { spec, .. }) = self.find(name)?;
        let shape = buffer::shape(spec)?;
        let len = usize::try_from(spec.byte_len()).map_err(Error::wrap)?;
        if let Some(bytes) = self.source.slice(index, 0, len) {
            return buffer::load(spec, &shape, bytes, device);
        }
        let mut buffer = Buffer::new(spec)?;
        self.source.read_range_into(index, 0, buffer.bytes_mut()).map_err(Error::wrap)?;
        buffer.into_tensor(&shape, device)
    }
}

/// Checks that `tensor`, called `name`, has the shape that the model wants.
pub(crate) fn check_shape(tensor: Tensor, expected: Shape, name: &str) -> Result<Tensor> {
    if *tensor.shape() == expected {
        return Ok(tensor);
    }
    let msg = format!("shape mismatch for {name}");
    Err(Error::UnexpectedShape { msg, expected, got: tensor.shape().clone() }.bt())
}

impl SimpleBackend for SourceBackend {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        check_shape(self.load(name, dev)?.to_dtype(dtype)?, s, name)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.load(name, dev)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.source.find(name).is_some()
    }
}

/// Returns a `VarBuilder` whose tensors come from `source`, cast to `dtype`.
///
/// Each tensor is read when the model asks for it.
pub fn var_builder(
    source: Arc<dyn TensorSource>,
    dtype: DType,
    device: &Device,
) -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(SourceBackend::new(source)), dtype, device.clone())
}

/// Returns the tensors called `names`, in the types in which they are stored.
///
/// They are read in one batch, in parallel if the source has threads. The result is itself a
/// backend, see `VarBuilder::from_tensors`.
///
/// # Errors
/// `CannotFindTensor`, an element type that candle does not know, and what the source reports.
pub fn load_tensors<'n>(
    source: &dyn TensorSource,
    names: impl IntoIterator<Item = &'n str>,
    device: &Device,
) -> Result<HashMap<String, Tensor>> {
    let mut loading = Vec::new();
    for name in names {
        let found = source.find(name).and_then(|i| Some((i, source.tensors().get(i)?)));
        let (index, entry) =
            found.ok_or_else(|| Error::CannotFindTensor { path: name.to_owned() }.bt())?;
        loading.push((index, entry, Buffer::new(&entry.spec)?));
    }
    let reads = loading
        .iter_mut()
        .map(|(tensor, _, buffer)| TensorRead::new(*tensor, 0, buffer.bytes_mut()));
    source.read_many(&mut reads.collect::<Vec<_>>()).map_err(Error::wrap)?;
    loading
        .into_iter()
        .map(|(_, entry, buffer)| {
            Ok((entry.name.clone(), buffer.into_tensor(&buffer::shape(&entry.spec)?, device)?))
        })
        .collect()
}
