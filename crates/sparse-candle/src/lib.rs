//! A base and a Sparse delta in [candle](https://docs.rs/candle-core).
//!
//! [`var_builder`] makes the `VarBuilder` from which candle's models load, out of any
//! [`TensorSource`](sparse_core::TensorSource): a base joined with a delta, or a model on disk. The
//! model's code does not change.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use sparse::DeltaModel;
//! use std::{path::Path, sync::Arc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = DeltaModel::open("base/", "my.sparse")?;
//! let vb = sparse_candle::var_builder(Arc::new(model), DType::F32, &Device::Cpu);
//! let linear = candle_nn::linear(384, 384, vb.pp("encoder.layer.0.attention.self.query"))?;
//! # Ok(())
//! # }
//! ```
//!
//! * Each tensor is decoded when the model asks for it, straight into the memory that candle keeps.
//!   What the delta leaves as it is in the base is taken from the base's mapping, if that was
//!   opened with `OpenOptions::mapped()`.
//! * [`sharded_var_builder`] gives each rank of a tensor-parallel group its part, and reads little
//!   else.
//! * [`load_tensors`] loads many tensors at once, on all threads that the source was given.
//!
//! The bits are the same as from a safetensors file, for the conversions are candle's own.

mod backend;
mod buffer;
mod sharded;

pub use backend::{SourceBackend, load_tensors, var_builder};
pub use sharded::{ShardedBackend, ShardedVarBuilder, sharded_var_builder};

#[cfg(target_endian = "big")]
compile_error!("weights are little-endian, and candle takes them as the machine has them");
