//! A base and a Sparse delta in [candle](https://docs.rs/candle-core).
//!
//! [`var_builder`] makes the `VarBuilder` from which candle's models load, of any
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
//!   Unchanged tensors come from the base's mapping, if the base was opened with
//!   `OpenOptions::mapped()`.
//! * [`sharded_var_builder`] gives each rank of a tensor-parallel group its part, and reads little
//!   else.
//! * [`load_tensors`] loads many tensors at once, on all threads of the source.
//!
//! The bits are the same as from a safetensors file, because the conversions are candle's own.

mod backend;
mod buffer;
mod sharded;

pub use backend::{SourceBackend, load_tensors, var_builder};
pub use sharded::{ShardedBackend, ShardedVarBuilder, sharded_var_builder};

#[cfg(target_endian = "big")]
compile_error!("candle takes weights in the machine's byte order, but they are little-endian");
