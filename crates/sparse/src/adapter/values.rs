//! Types of an adapter's weights.

use sparse_codecs::values::put;
use sparse_core::{Dtype, Error, ErrorKind, Result, TensorSource};
use sparse_model::Adapter;

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message.into())
}

pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32)
}

/// Returns a tensor of the adapter in another type.
pub(super) fn cast(adapter: &Adapter, tensor: usize, dtype: Dtype) -> Result<Vec<u8>> {
    let model = adapter.model();
    let spec = &model.tensors()[tensor].spec;
    if spec.dtype() == dtype {
        return Ok(model.bytes(tensor)?.into_owned());
    }
    let mut out = Vec::new();
    for x in adapter.values(tensor)? {
        put(dtype, f64::from(x), &mut out);
    }
    Ok(out)
}
