//! Parts of tensors, for the ranks of a tensor-parallel group.

use crate::backend::{SourceBackend, check_shape};
use crate::buffer::{self, Buffer};
use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::{Backend, Shard, VarBuilderArgs};
use sparse_core::{TensorEntry, TensorSource};
use std::sync::Arc;

/// Backend of parts of tensors, like candle's `ShardedSafeTensors` of files.
///
/// A [`Shard`] selects the part; any dimension can be split. Along the first dimension, only the
/// rank's rows are read, and only the chunks that hold them are decoded. Along others, all rows are
/// decoded, a few megabytes at a time.
///
/// # Examples
///
/// ```no_run
/// use candle_core::{DType, Device};
/// use candle_nn::var_builder::{Backend, Shard};
/// use sparse::DeltaModel;
/// use sparse_candle::ShardedBackend;
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = ShardedBackend::new(Arc::new(DeltaModel::open("base/", "my.sparse")?));
/// let second_half = Shard { dim: 0, rank: 1, world_size: 2 };
/// let name = "encoder.layer.0.attention.self.query.weight";
/// let rows = backend.get((192, 384).into(), name, second_half, DType::F32, &Device::Cpu)?;
/// assert_eq!(rows.dims(), [192, 384]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ShardedBackend(SourceBackend);

/// A `VarBuilder` with [`Shard`]s as hints; see [`sharded_var_builder`].
///
/// # Examples
///
/// ```no_run
/// use candle_core::{DType, Device};
/// use candle_nn::var_builder::Shard;
/// use sparse::DeltaModel;
/// use sparse_candle::{ShardedVarBuilder, sharded_var_builder};
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Arc::new(DeltaModel::open("base/", "my.sparse")?);
/// let vb: ShardedVarBuilder = sharded_var_builder(model, DType::F32, &Device::Cpu);
/// let vb = vb.pp("encoder.layer.0.attention.self.query");
/// let first_half = Shard { dim: 0, rank: 0, world_size: 2 };
/// let rows = vb.get_with_hints((192, 384), "weight", first_half)?;
/// assert_eq!(rows.dims(), [192, 384]);
/// # Ok(())
/// # }
/// ```
pub type ShardedVarBuilder = VarBuilderArgs<'static, ShardedBackend>;

impl ShardedBackend {
    /// Creates a backend of parts of these tensors.
    pub fn new(source: Arc<dyn TensorSource>) -> Self {
        ShardedBackend(SourceBackend::new(source))
    }
}

/// Returns a `VarBuilder` whose tensors are parts of those of `source`.
///
/// They are cast to `dtype`. A model reads a part by `get_with_hints(shape, name, shard)`.
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
            candle_core::bail!("there is no dimension {dim}: {name} has shape {whole:?}");
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
            candle_core::bail!("there is no rank {rank} among {world_size}");
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
