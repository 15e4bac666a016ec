//! Memory that becomes a candle tensor without being copied again.

use candle_core::safetensors::Load;
use candle_core::{Device, Error, Result, Tensor, WithDType};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use sparse_core::{Dtype, TensorSpec};

/// The weights of one tensor.
pub(crate) enum Buffer {
    U8(Vec<u8>),
    U32(Vec<u32>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Of a type that candle converts when it loads.
    Other(safetensors::Dtype, Vec<u8>),
}

/// Zeros.
fn zeros<T: WithDType>(bytes: usize) -> Vec<T> {
    vec![T::zero(); bytes / size_of::<T>()]
}

impl Buffer {
    /// Creates a buffer for a tensor of this kind.
    pub(crate) fn new(spec: &TensorSpec) -> Result<Self> {
        let len = usize::try_from(spec.byte_len()).map_err(Error::wrap)?;
        Ok(match spec.dtype() {
            Dtype::U8 => Buffer::U8(zeros(len)),
            Dtype::U32 => Buffer::U32(zeros(len)),
            Dtype::I16 => Buffer::I16(zeros(len)),
            Dtype::I32 => Buffer::I32(zeros(len)),
            Dtype::I64 => Buffer::I64(zeros(len)),
            Dtype::Bf16 => Buffer::Bf16(zeros(len)),
            Dtype::F16 => Buffer::F16(zeros(len)),
            Dtype::F32 => Buffer::F32(zeros(len)),
            Dtype::F64 => Buffer::F64(zeros(len)),
            other => Buffer::Other(dtype(other)?, vec![0; len]),
        })
    }

    /// Returns its bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::U8(v) | Buffer::Other(_, v) => v,
            Buffer::U32(v) => bytemuck::cast_slice_mut(v),
            Buffer::I16(v) => bytemuck::cast_slice_mut(v),
            Buffer::I32(v) => bytemuck::cast_slice_mut(v),
            Buffer::I64(v) => bytemuck::cast_slice_mut(v),
            Buffer::Bf16(v) => bytemuck::cast_slice_mut(v),
            Buffer::F16(v) => bytemuck::cast_slice_mut(v),
            Buffer::F32(v) => bytemuck::cast_slice_mut(v),
            Buffer::F64(v) => bytemuck::cast_slice_mut(v),
        }
    }

    /// Returns the tensor.
    pub(crate) fn into_tensor(self, shape: &[usize], device: &Device) -> Result<Tensor> {
        match self {
            Buffer::U8(v) => Tensor::from_vec(v, shape, device),
            Buffer::U32(v) => Tensor::from_vec(v, shape, device),
            Buffer::I16(v) => Tensor::from_vec(v, shape, device),
            Buffer::I32(v) => Tensor::from_vec(v, shape, device),
            Buffer::I64(v) => Tensor::from_vec(v, shape, device),
            Buffer::Bf16(v) => Tensor::from_vec(v, shape, device),
            Buffer::F16(v) => Tensor::from_vec(v, shape, device),
            Buffer::F32(v) => Tensor::from_vec(v, shape, device),
            Buffer::F64(v) => Tensor::from_vec(v, shape, device),
            Buffer::Other(dtype, bytes) => view(dtype, shape, &bytes)?.load(device),
        }
    }
}

/// Returns the tensor that these bytes are.
pub(crate) fn load(
    spec: &TensorSpec,
    shape: &[usize],
    bytes: &[u8],
    device: &Device,
) -> Result<Tensor> {
    view(dtype(spec.dtype())?, shape, bytes)?.load(device)
}

fn view<'a>(dtype: safetensors::Dtype, shape: &[usize], bytes: &'a [u8]) -> Result<TensorView<'a>> {
    TensorView::new(dtype, shape.to_vec(), bytes).map_err(Error::wrap)
}

/// Returns the shape, in candle's terms.
pub(crate) fn shape(spec: &TensorSpec) -> Result<Vec<usize>> {
    spec.shape().iter().map(|&d| usize::try_from(d).map_err(Error::wrap)).collect()
}

/// Returns the element type, in candle's terms. Which of them candle can load is for candle to say.
fn dtype(dtype: Dtype) -> Result<safetensors::Dtype> {
    Ok(match dtype {
        Dtype::Bool => safetensors::Dtype::BOOL,
        Dtype::U8 => safetensors::Dtype::U8,
        Dtype::I8 => safetensors::Dtype::I8,
        Dtype::U16 => safetensors::Dtype::U16,
        Dtype::I16 => safetensors::Dtype::I16,
        Dtype::U32 => safetensors::Dtype::U32,
        Dtype::I32 => safetensors::Dtype::I32,
        Dtype::U64 => safetensors::Dtype::U64,
        Dtype::I64 => safetensors::Dtype::I64,
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::Bf16 => safetensors::Dtype::BF16,
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F64 => safetensors::Dtype::F64,
        Dtype::F8E4M3 => safetensors::Dtype::F8_E4M3,
        Dtype::F8E5M2 => safetensors::Dtype::F8_E5M2,
        Dtype::F8E8M0 => safetensors::Dtype::F8_E8M0,
        Dtype::F6E2M3 => safetensors::Dtype::F6_E2M3,
        Dtype::F6E3M2 => safetensors::Dtype::F6_E3M2,
        Dtype::F4 => safetensors::Dtype::F4,
        Dtype::C64 => safetensors::Dtype::C64,
        other => candle_core::bail!(
            "candle has no element type {other}: convert the tensor \
            first"
        ),
    })
}
