//! Model input and output.
//!
//! * [`Model`] opens what people have on disk, a file of tensors, a Hugging Face folder with or
//!   without shards, or an id in the local Hugging Face cache, as one
//!   [`TensorSource`](sparse_core::TensorSource) plus the list of its files. It never writes, and
//!   never downloads.
//! * [`Checkpoint`] is what such a model has beside its tensors: files. [`TensorFile`] makes one of
//!   any [`TensorSource`](sparse_core::TensorSource), without a disk.
//! * [`match_tensors`] finds, for each tensor of a fine-tune, the tensor of the base to code it
//!   against.
//! * [`Adapter`] opens a LoRA in the folder layout of PEFT: what merging it adds to which weight.
//! * `SafeTensorsSource` (feature `safetensors`) borrows the tensors of the `safetensors` crate's
//!   `SafeTensors` as a [`TensorSource`](sparse_core::TensorSource).
//!
//! Files are read by position. With feature `mmap` (on by default) a caller may have them mapped
//! into memory instead; [`OpenOptions::mmap`] says what that asks of the caller. A file that
//! changes while its model is open is an error as soon as that is noticed, see
//! [`TensorSource::check_unchanged`](sparse_core::TensorSource::check_unchanged).
//!
//! The safetensors header is read with `serde_json`, and not by the `safetensors` crate, because
//! that crate wants the whole file in one slice, takes the last of two equal names without a word,
//! and reports neither the tensor nor the place of most errors. The tests hold the two readers
//! against each other.

#![cfg_attr(not(feature = "mmap"), forbid(unsafe_code))]

#[cfg(feature = "adapter")]
pub mod adapter;
#[cfg(feature = "adapter")]
mod architecture;
#[cfg(feature = "safetensors")]
mod borrowed;
mod cache;
mod checkpoint;
mod container;
mod fields;
mod file;
mod header;
pub mod matching;
#[cfg(feature = "mmap")]
mod mmap;
mod model;
mod scan;
mod shards;
mod tensor_file;
#[cfg(test)]
mod testing;

#[cfg(feature = "adapter")]
#[doc(no_inline)]
pub use adapter::{
    Adapter, AdapterConfig, AdapterFactors, AdapterKind, AdapterModule, AdapterRows,
};
#[cfg(feature = "adapter")]
pub use architecture::Architecture;
#[cfg(feature = "safetensors")]
pub use borrowed::{SafeTensorsSource, dtype_from_safetensors, dtype_to_safetensors};
pub use cache::HubCache;
pub use checkpoint::{Checkpoint, Extent, FileKind, ModelFile, TensorLocation, Warning};
pub use container::ContainerFormat;
pub use header::{Header, HeaderTensor, MAX_HEADER_BYTES};
#[doc(no_inline)]
pub use matching::{Counterpart, RenameEvidence, TensorMatch, match_tensors};
pub use model::{Model, OpenOptions};
pub use tensor_file::{TensorFile, head_of};
