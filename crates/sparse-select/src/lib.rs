//! Choosing how to code each tensor: samples, estimates, policies.
//!
//! Knows no codec: candidates come in through the traits of `sparse-core`, and a policy compares
//! what they cost.

#![forbid(unsafe_code)]

mod estimate;
mod glob;
mod policy;
mod sample;
mod spread;

pub use estimate::estimate;
pub use glob::matches;
pub use policy::{Bound, Candidate, Policy, Rule, Setting};
pub use sample::Sampler;
pub use spread::{Offer, spread};
