//! Benchmarks of Sparse and its peers.
//!
//! Every figure comes from a round trip whose result was compared with the original, byte for byte.
//! The peers are the schemes of published systems, rebuilt here on the same data in memory, so that
//! the coding is compared and not file handling. This folder's `README.md` says what each command
//! measures.

#![forbid(unsafe_code)]
#![allow(missing_debug_implementations, reason = "a program, whose library is for its tests")]

pub mod ablate;
pub mod adapters;
pub mod alone;
pub mod args;
pub mod compare;
pub mod cut;
#[cfg(feature = "dataset")]
pub mod datasets;
pub mod decompose;
pub mod disk;
pub mod estimates;
#[cfg(feature = "dataset")]
pub mod faults;
mod files;
pub mod first_tensor;
pub mod ladder;
pub mod measure;
pub mod ours;
pub mod pair;
pub mod peers;
pub mod proof;
#[cfg(feature = "remote")]
pub mod remote;
pub mod roundtrip;
#[cfg(feature = "dataset")]
pub mod rows;
pub mod sweep;
pub mod synth;
pub mod tables;
pub mod tensors;
