//! Choosing how to code each tensor: samples, estimates, policies.
//!
//! Knows no codec: candidates come in through the traits of `sparse-core`, and a policy compares what they cost.

#![forbid(unsafe_code)]

mod estimate;
mod policy;
mod sample;

pub use estimate::estimate;
pub use policy::{Candidate, Policy};
pub use sample::Sampler;
