//! Parts of tensors, for the ranks of a tensor-parallel group.

use crate::backend::{SourceBackend, check_shape};
use crate::buffer::{self, Buffer};
use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::{Backend, Shard, VarBuilderArgs};
use sparse_core::{TensorEntry, TensorSource};
use std::sync::Arc;

/// What candle's `ShardedSafeTensors` is for files: `Shard` says which part of a tensor is wanted.
/// Any dimension can be split.
///
/// Along the first dimension, only the rank's rows are read, and only the chunks that hold them are
/// decoded. Along others, all rows are decoded, a few megabytes at a time.
#[derive(Clone, Debug)]
pub struct ShardedBackend(SourceBackend);

/// A `VarBuilder` with [`Shard`]s as hints.
pub type ShardedVarBuilder = VarBuilderArgs<'static, ShardedBackend>;

impl ShardedBackend {
    /// Creates a backend of parts of these tensors.
    pub fn new(source: Arc<dyn TensorSource>) -> Self {
        ShardedBackend(SourceBackend::new(source))
    }
}

/// Returns a `VarBuilder` whose tensors are parts of those of `source`.
///
/// Cast to `dtype`: `get_with_hints(shape, name, shard)`.
pub fn sharded_var_builder(
    source: Arc<dyn TensorSource>,
    dtype: DType,
    device: &Device,
) -> ShardedVarBuilder {
    VarBuilderArgs::new_with_args(ShardedBackend::new(source), dtype, device)
}

impl Backend for ShardedBackend {
    type Hints = Shard;

    /// Returns the part `h` of the tensor called `name`. As in candle's own backend, `s` is checked
    /// only when the tensor is not split.
    fn get(&self, s: Shape, name: &str, h: Shard, dtype: DType, dev: &Device) -> Result<Tensor> {
        let Shard { dim, rank, world_size } = h;
        if world_size == 1 {
            return check_shape(self.0.load(name, dev)?.to_dtype(dtype)?, s, name);
        }
        let (index, TensorEntry { spec, .. }) = self.0.find(name)?;
        let whole = buffer::shape(spec)?;
        let Some(&extent) = whole.get(dim) else {
            candle_core::bail!("dimension {dim} of {name}, whose shape is {whole:?}");
        };
        if world_size == 0 || extent % world_size != 0 {
            return Err(Error::ShapeMismatchSplit {
                shape: whole.into(),
                dim,
                n_parts: world_size,
            }
            .bt());
        }
        if rank >= world_size {
            candle_core::bail!("rank {rank} of {world_size}");
        }
        let block = (extent / world_size) as u64;
        let start = rank as u64 * block;
        let part = spec.part(dim, start..start + block).map_err(Error::wrap)?;
        let mut buffer = Buffer::new(&part)?;
        let read =
            self.0.source().read_part_into(index, dim, start..start + block, buffer.bytes_mut());
        read.map_err(Error::wrap)?;
        buffer.into_tensor(&buffer::shape(&part)?, dev)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> Result<Tensor> {
        self.0.load(name, dev)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.source().find(name).is_some()
    }
}
