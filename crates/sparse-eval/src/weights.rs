//! Tensors of a source as tensors of candle.

use crate::error::{from_candle, unsupported};
use candle_core::{Device, Tensor, WithDType};
use half::{bf16, f16};
use sparse_core::{Dtype, Error, ErrorKind, Result, TensorEntry, TensorSource};

#[cfg(target_endian = "big")]
compile_error!("weights are little-endian, and are read into memory as they are");

/// Reads tensor `index` in the type in which it is stored, straight into the memory that candle
/// keeps.
///
/// # Errors
/// `InvalidInput` for a type that is no floating point of 16 bits or more; what the source reports.
pub(crate) fn read(source: &dyn TensorSource, index: usize) -> Result<Tensor> {
    let Some(entry) = source.tensors().get(index) else {
        return Err(Error::new(ErrorKind::Internal, format!("there is no tensor {index}")));
    };
    let read = || match entry.spec.dtype() {
        Dtype::Bf16 => read_as::<bf16>(source, index, entry),
        Dtype::F16 => read_as::<f16>(source, index, entry),
        Dtype::F32 => read_as::<f32>(source, index, entry),
        Dtype::F64 => read_as::<f64>(source, index, entry),
        other => Err(unsupported(format!(
            "its type is {other}: only weights in F64, F32, F16 and BF16 can be evaluated"
        ))),
    };
    read().map_err(|e| e.in_tensor(&*entry.name))
}

fn read_as<T: WithDType + bytemuck::Pod + Default>(
    source: &dyn TensorSource,
    index: usize,
    entry: &TensorEntry,
) -> Result<Tensor> {
    let too_large = |_| Error::new(ErrorKind::LimitExceeded, "it does not fit in memory");
    let shape = entry.spec.shape().iter().map(|&d| usize::try_from(d).map_err(too_large));
    let shape: Vec<usize> = shape.collect::<Result<_>>()?;
    let bytes = usize::try_from(entry.spec.byte_len()).map_err(too_large)?;
    let mut values: Vec<T> = sparse_core::zeros(bytes / size_of::<T>())?;
    source.read_range_into(index, 0, bytemuck::cast_slice_mut(&mut values))?;
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(from_candle)
}
